//! What an account may do, and how often: the quotas of EC2 snapshots and of the EBS direct APIs, and the buckets that
//! count calls.

use std::collections::HashMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The quotas; the defaults are those of a new account.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Quotas {
    /// `GetSnapshotBlock` calls a second, per account.
    pub gets_per_second: f64,
    /// The same per snapshot, which nobody can have raised.
    pub gets_per_snapshot_second: f64,
    /// `ListSnapshotBlocks` calls a second, per account; the same for `ListChangedBlocks`.
    pub lists_per_second: f64,
    /// How many seconds' worth of EBS calls may come at once.
    pub burst_seconds: f64,
    /// Between two snapshots of one volume.
    pub volume_interval_ms: u64,
    /// Pending snapshots per account and region.
    pub pending_snapshots: usize,
    /// Pending snapshots of one volume; one for `st1` and `sc1`.
    pub concurrent_per_volume: usize,
    /// Snapshots per account and region.
    pub snapshots: usize,
    /// The bucket of each EC2 action that changes something: capacity, and tokens a second.
    pub ec2_changes: (f64, f64),
    /// The bucket of each EC2 action that describes.
    pub ec2_describes: (f64, f64),
    /// The bucket of descriptions that neither filter nor page.
    pub ec2_unfiltered: (f64, f64),
}

impl Default for Quotas {
    fn default() -> Self {
        Self {
            gets_per_second: 1_000.0,
            gets_per_snapshot_second: 1_000.0,
            lists_per_second: 50.0,
            burst_seconds: 1.0,
            volume_interval_ms: 15_000,
            pending_snapshots: 100,
            concurrent_per_volume: 5,
            snapshots: 100_000,
            ec2_changes: (100.0, 5.0),
            ec2_describes: (100.0, 20.0),
            ec2_unfiltered: (50.0, 10.0),
        }
    }
}

/// Token buckets by name. Each begins full.
#[derive(Debug, Default)]
pub(crate) struct Buckets(HashMap<String, Bucket>);

#[derive(Debug)]
struct Bucket {
    tokens: f64,
    at: Duration,
}

impl Buckets {
    /// Takes one token from each of the buckets, or none where one of them is empty: the error is its place.
    pub(crate) fn take(&mut self, now: Duration, wanted: &[(String, f64, f64)]) -> Result<(), usize> {
        let mut empty = None;
        for (place, (name, capacity, per_second)) in wanted.iter().enumerate() {
            let bucket = self.0.entry(name.clone()).or_insert(Bucket { tokens: *capacity, at: now });
            let passed = now.saturating_sub(bucket.at).as_secs_f64();
            bucket.tokens = (bucket.tokens + passed * per_second).min(*capacity);
            bucket.at = now;
            if bucket.tokens < 1.0 {
                empty = empty.or(Some(place));
            }
        }
        if let Some(place) = empty {
            return Err(place);
        }
        for (name, ..) in wanted {
            if let Some(bucket) = self.0.get_mut(name) {
                bucket.tokens -= 1.0;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_empties_and_fills_again() {
        let mut buckets = Buckets::default();
        let wanted = [("account".to_owned(), 50.0, 50.0)];
        let taken = |buckets: &mut Buckets, at_ms: u64| {
            (0..1_000).filter(|_| buckets.take(Duration::from_millis(at_ms), &wanted).is_ok()).count()
        };
        assert_eq!(taken(&mut buckets, 0), 50);
        assert_eq!(taken(&mut buckets, 10), 0);
        assert_eq!(taken(&mut buckets, 500), 25);
        assert_eq!(taken(&mut buckets, 60_000), 50, "it never holds more than its capacity");
    }

    #[test]
    fn a_refused_call_costs_nothing_elsewhere() {
        let mut buckets = Buckets::default();
        let both = [("account".to_owned(), 10.0, 0.0), ("snapshot".to_owned(), 1.0, 0.0)];
        assert_eq!(buckets.take(Duration::ZERO, &both), Ok(()));
        assert_eq!(buckets.take(Duration::ZERO, &both), Err(1), "the snapshot's is the empty one");
        let account = [("account".to_owned(), 10.0, 0.0)];
        assert_eq!((0..100).filter(|_| buckets.take(Duration::ZERO, &account).is_ok()).count(), 9);
    }
}

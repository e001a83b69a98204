//! Fakes of the seam, in memory and on tokio's clock, with the faults of the real one.

mod blocks;
mod compute;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

pub(crate) use blocks::{BlockFaults, FakeBlocks, block_content};
pub(crate) use compute::{FakeCompute, Mishap, When, World, instance_of};

use crate::api::{ApiError, ErrorKind, Place};
use crate::audit::AuditLog;
use crate::client::{CallCounts, Caller, Client};
use crate::clock::Clock;
use crate::lifecycle::{Lifecycle, LifecycleSettings, SnapshotOrder};
use crate::limiter::{Limiter, Rates};
use crate::purge::{PurgeSettings, Purger};
use crate::retry::RetryPolicy;
use crate::scan_lock::{LockFolder, ScanLock};
use crate::state::StateStore;
use crate::tags::ScanId;

/// The calendar on tokio's clock.
pub(crate) struct TokioClock(Instant);

impl TokioClock {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self(Instant::now()))
    }
}

impl Clock for TokioClock {
    fn now(&self) -> Timestamp {
        let passed = SignedDuration::try_from(self.0.elapsed()).unwrap();
        Timestamp::from_second(1_790_000_000).unwrap() + passed
    }
}

pub(crate) fn place() -> Place {
    Place { account: "111122223333".to_owned(), region: "eu-west-3".to_owned() }
}

pub(crate) fn api_error(operation: &'static str, kind: ErrorKind) -> ApiError {
    ApiError { operation, resource: None, kind, code: format!("{kind:?}"), request_id: None }
}

/// A process: its folder outlives it.
pub(crate) struct Process {
    pub(crate) lifecycle: Lifecycle,
    pub(crate) purger: Purger,
    pub(crate) locks: LockFolder,
}

impl Process {
    /// One that finds what others left in `folder`.
    pub(crate) fn start(folder: &std::path::Path, cloud: &Arc<FakeCompute>) -> Self {
        Self::start_in(place(), crate::tags::DEFAULT_CREATED_BY, folder, cloud)
    }

    /// One of this account and region that was told this value of `CreatedBy`.
    pub(crate) fn start_in(
        place: Place,
        created_by: &str,
        folder: &std::path::Path,
        cloud: &Arc<FakeCompute>,
    ) -> Self {
        let clock: Arc<dyn Clock> = cloud.clock.clone();
        let state = Arc::new(StateStore::open(&folder.join("state.db")).unwrap());
        let locks = LockFolder::beside(&folder.join("state.db")).unwrap();
        let caller = caller(&folder.join("audit.jsonl"), Rates::default(), clock.clone());
        let caller = Caller { place, ..caller };
        let created_by = created_by.to_owned();
        let client = Client { compute: cloud.clone(), caller };
        let lifecycle = Lifecycle {
            client: client.clone(),
            state: state.clone(),
            clock: clock.clone(),
            settings: LifecycleSettings { created_by: created_by.clone(), ..LifecycleSettings::default() },
        };
        let settings = PurgeSettings { created_by, ..PurgeSettings::default() };
        let purger = Purger { client, state, locks: locks.clone(), clock, settings };
        Self { lifecycle, purger, locks }
    }

    pub(crate) fn begin(&self, scan: &ScanId) -> ScanLock {
        let lock = self.locks.take(scan).unwrap();
        let Lifecycle { client, state, clock, settings } = &self.lifecycle;
        state.begin_scan(scan, &client.caller.place, &settings.created_by, clock.now()).unwrap();
        lock
    }

    pub(crate) fn order(&self, scan: &ScanId, instance_id: &str, volumes: &[&str]) -> SnapshotOrder {
        SnapshotOrder {
            scan: scan.clone(),
            instance_id: instance_id.to_owned(),
            volume_ids: volumes.iter().map(|volume| (*volume).to_owned()).collect(),
            leave_out_root: false,
            leave_out_data: Vec::new(),
            expires_at: self.lifecycle.clock.now() + SignedDuration::from_hours(2),
            user_tags: crate::api::Tags::new(),
        }
    }
}

pub(crate) fn caller(audit: &std::path::Path, rates: Rates, clock: Arc<dyn Clock>) -> Caller {
    Caller {
        place: place(),
        limiter: Limiter::new(rates),
        retry: RetryPolicy::default(),
        time_limit: Duration::from_secs(60),
        audit: Arc::new(AuditLog::open(audit, clock).unwrap()),
        counts: Arc::new(CallCounts::default()),
    }
}

pub(crate) fn count(counter: &std::sync::atomic::AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

/// A number that is the same in each run.
pub(crate) fn mix(seed: u64) -> u64 {
    let mut mixed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

//! What it costs: an estimate before, the sum after. Counted in billionths of a dollar, so that no call is lost to rounding.
//!
//! Prices are those of the provider's documentation for its reference region; others differ by some percent. Transfer within
//! a region is free; a NAT gateway or an interface endpoint on the way is not, and is not counted here.

use std::fmt;
use std::time::Duration;

/// Billionths of a dollar.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Hash)]
pub struct NanoDollars(pub u64);

impl NanoDollars {
    /// Of a price in dollars; nothing where it is negative or no number.
    #[must_use]
    pub fn from_dollars(dollars: f64) -> Self {
        // Through Duration, which counts in billionths too and whose conversion is checked.
        let nanos = Duration::try_from_secs_f64(dollars).unwrap_or_default().as_nanos();
        Self(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// The sum.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// So many of it.
    #[must_use]
    pub fn times(self, count: u64) -> Self {
        Self(self.0.saturating_mul(count))
    }
}

impl fmt::Display for NanoDollars {
    /// `$1.23`; below a dollar as many places as the first two digits need.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let dollars = Duration::from_nanos(self.0).as_secs_f64();
        let places = match self.0 {
            0 | 100_000_000.. => 2,
            10_000_000.. => 3,
            1_000_000.. => 4,
            100_000.. => 5,
            10_000.. => 6,
            1_000.. => 7,
            100.. => 8,
            _ => 9,
        };
        write!(out, "${dollars:.places$}")
    }
}

/// What one of each costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prices {
    /// A `GetSnapshotBlock`.
    pub get: NanoDollars,
    /// A `ListSnapshotBlocks`.
    pub list: NanoDollars,
    /// A gibibyte of snapshot for a month of 30 days.
    pub snapshot_gib_month: NanoDollars,
}

impl Default for Prices {
    fn default() -> Self {
        Self { get: NanoDollars(3_000), list: NanoDollars(600), snapshot_gib_month: NanoDollars(50_000_000) }
    }
}

/// What was or will be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Blocks got.
    pub gets: u64,
    /// Pages listed.
    pub lists: u64,
    /// Bytes that the snapshots hold.
    pub snapshot_bytes: u64,
    /// How long they are kept.
    pub lifetime: Duration,
}

/// What it costs, part by part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cost {
    /// Reading blocks.
    pub gets: NanoDollars,
    /// Listing blocks.
    pub lists: NanoDollars,
    /// Keeping the snapshots; at most, since blocks that an older snapshot of the volume has are not billed again.
    pub storage: NanoDollars,
}

impl Cost {
    /// All of it.
    #[must_use]
    pub fn total(&self) -> NanoDollars {
        self.gets.plus(self.lists).plus(self.storage)
    }
}

impl Prices {
    /// What `usage` costs.
    #[must_use]
    pub fn cost(&self, usage: &Usage) -> Cost {
        const GIB: u128 = 1 << 30;
        const MONTH_MILLIS: u128 = 30 * 24 * 3600 * 1000;
        let byte_millis = u128::from(usage.snapshot_bytes).saturating_mul(usage.lifetime.as_millis());
        let storage = byte_millis
            .saturating_mul(u128::from(self.snapshot_gib_month.0))
            .div_ceil(GIB.saturating_mul(MONTH_MILLIS));
        Cost {
            gets: self.get.times(usage.gets),
            lists: self.list.times(usage.lists),
            storage: NanoDollars(u64::try_from(storage).unwrap_or(u64::MAX)),
        }
    }
}

/// What a dry run foresees for one volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VolumeForecast {
    /// The volume's size in bytes.
    pub size_bytes: u64,
    /// Its written bytes, where a snapshot tells; else all of it counts as written.
    pub written_bytes: Option<u64>,
}

/// How much of a volume is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadPlan {
    /// What the metadata of a system takes: this many blocks of a volume, or all that are written where that is fewer.
    Lazy {
        /// Blocks.
        blocks_per_volume: u64,
    },
    /// All that is written.
    Full,
}

/// Foresees the use of a scan of these volumes whose snapshots are kept for `lifetime`.
#[must_use]
pub fn forecast(volumes: &[VolumeForecast], plan: ReadPlan, lifetime: Duration) -> Usage {
    const BLOCK_BYTES: u64 = 512 * 1024;
    const PAGE_BLOCKS: u64 = 10_000;
    let mut usage = Usage { lifetime, ..Usage::default() };
    for volume in volumes {
        let written = volume.written_bytes.unwrap_or(volume.size_bytes).min(volume.size_bytes);
        let blocks = written.div_ceil(BLOCK_BYTES);
        let (gets, lists) = match plan {
            ReadPlan::Full => (blocks, blocks.div_ceil(PAGE_BLOCKS).max(1)),
            ReadPlan::Lazy { blocks_per_volume } => {
                let gets = blocks.min(blocks_per_volume);
                // Each block may lie in another page's part of the volume.
                (gets, blocks.div_ceil(PAGE_BLOCKS).max(1).min(gets.max(1)))
            }
        };
        usage.gets = usage.gets.saturating_add(gets);
        usage.lists = usage.lists.saturating_add(lists);
        usage.snapshot_bytes = usage.snapshot_bytes.saturating_add(written);
    }
    usage
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prices_are_those_of_the_tables() {
        // 20,000 volumes of 2 GiB lazily read: $246 of gets; 100 GiB for 2 h: 2 × 100 × 0.05 / 720.
        let usage = Usage {
            gets: 81_920_000,
            lists: 220_000,
            snapshot_bytes: 100 << 30,
            lifetime: Duration::from_secs(7200),
        };
        let cost = Prices::default().cost(&usage);
        assert_eq!(cost.gets.to_string(), "$245.76");
        assert_eq!(cost.lists.to_string(), "$0.13");
        assert_eq!(cost.storage.to_string(), "$0.014");
        assert_eq!(cost.total().to_string(), "$245.91");
    }

    #[test]
    fn small_sums_are_not_nothing() {
        let shown = |nano| NanoDollars(nano).to_string();
        assert_eq!(shown(0), "$0.00");
        assert_eq!(shown(600), "$0.00000060");
        assert_eq!(shown(597_000), "$0.00060");
        assert_eq!(shown(1_500_000_000), "$1.50");
        assert_eq!(NanoDollars::from_dollars(0.003), NanoDollars(3_000_000));
        assert_eq!(NanoDollars::from_dollars(-1.0), NanoDollars(0));
    }

    #[test]
    fn a_forecast_never_reads_what_is_not_written() {
        let volumes = [
            VolumeForecast { size_bytes: 100 << 30, written_bytes: Some(50 << 20) },
            VolumeForecast { size_bytes: 100 << 30, written_bytes: None },
        ];
        let month = Duration::from_secs(3600);
        let lazy = forecast(&volumes, ReadPlan::Lazy { blocks_per_volume: 400 }, month);
        assert_eq!((lazy.gets, lazy.lists), (100 + 400, 1 + 21));
        let full = forecast(&volumes, ReadPlan::Full, month);
        assert_eq!((full.gets, full.lists), (100 + 204_800, 1 + 21));
    }
}

//! Machines in a cloud: from an instance or a snapshot to a report, and nothing left behind.
//!
//! [`Session`] is one account and region with all that a scan there needs. [`machine`] takes snapshots of an instance's
//! disks, reads them and purges them; [`existing`] reads snapshots that were there before. Both hand the disks to
//! [`reading`], and that to [`crate::scan()`], which knows of no cloud. What is said of it in the report is made in
//! [`receipt`] and [`ledger`].
//!
//! Everything here is asynchronous and waits on tokio; the reading of disks blocks, and has threads of its own.

pub mod error;
pub mod existing;
pub mod forecast;
mod ledger;
pub mod machine;
mod reading;
mod receipt;
mod session;
mod stop;

pub use error::CloudError;
pub use receipt::{left, receipts};
pub use session::{Session, SessionOptions};
pub use stop::Stop;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use stillframe_cloud::cost::{NanoDollars, Prices};
use stillframe_cloud::snapshot_source::ReadLimit;
use stillframe_model::Report;

use crate::isolation::{Sandbox, Worker};
use crate::progress::{Measured, Progress};
use crate::scan::ScanOptions;

/// Threads that read: they wait for the network, and as many blocks are under way as there are threads that want one.
pub const READERS: usize = 64;

/// What a machine of a cloud came to.
#[derive(Debug)]
pub struct Outcome {
    /// The report. `None` where no disk could be read and no snapshot was made, or where the operator stopped the scan.
    pub report: Option<Report>,
    /// The snapshots, where there is no report to bear their receipts.
    pub receipts: Vec<stillframe_model::SnapshotReceipt>,
    /// What failed. Each is also in the ledger, where there is a report.
    pub errors: Vec<CloudError>,
}

/// How the disks of a machine are read.
pub struct ReadOptions {
    /// How the scan itself is done.
    pub scan: ScanOptions,
    /// Blocks that may be read at most.
    pub max_blocks: Option<u64>,
    /// What reading may cost at most.
    pub max_cost: Option<NanoDollars>,
    /// What things cost.
    pub prices: Prices,
    /// Memory for blocks that were read, in bytes.
    pub cache_bytes: u64,
    /// By what the process that parses is confined.
    pub sandbox: Sandbox,
    /// How that is started.
    pub worker: Worker,
    /// Threads that read; they wait for the network most of their time.
    pub threads: usize,
    /// Moved as the scan goes on.
    pub progress: Arc<Progress>,
}

impl ReadOptions {
    fn limit(&self) -> Arc<ReadLimit> {
        ReadLimit::new(self.max_blocks, self.max_cost, self.prices)
    }

    /// The limit that ended reading, where one is used up and something was not read.
    fn reached(&self, limit: &ReadLimit, report: &Report, has_dry_run: bool) -> Option<CloudError> {
        let next = limit.spent().plus(self.prices.get);
        let blocks = self.max_blocks.filter(|max| limit.blocks() >= *max).map(error::Limit::Blocks);
        let cost = self.max_cost.filter(|max| next > *max).map(error::Limit::Cost);
        let time = limit.time_is_over().map(error::Limit::Time);
        let reached = blocks.or(cost).or(time).filter(|_| !report.is_complete());
        reached.map(|limit| CloudError::LimitReached { limit, has_dry_run })
    }
}

/// Rounded up to a hundredth of a cent: what is watched while it grows needs no more digits.
fn in_brief(spent: NanoDollars) -> String {
    let parts = spent.0.div_ceil(100_000);
    format!("${}.{:04}", parts / 10_000, parts % 10_000)
}

/// Lets whoever watches see what is read and spent.
pub fn measure(progress: &Progress, session: &Session, limit: &Arc<ReadLimit>) {
    let (counts, limit) = (session.counts().clone(), limit.clone());
    progress.measure(move || Measured {
        bytes: counts.bytes.load(Ordering::Relaxed),
        note: Some(format!("{} blocks, {}", limit.blocks(), in_brief(limit.spent()))),
    });
}

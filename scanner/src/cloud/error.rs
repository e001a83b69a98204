//! What can go wrong between a machine in a cloud and its report. How each is said to people is the command line's part.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use stillframe_aws::OpenError;
use stillframe_cloud::api::{ApiError, Place};
use stillframe_cloud::cost::NanoDollars;
use stillframe_cloud::discover::{DiskSkip, InstanceSkip};
use stillframe_cloud::lifecycle::SnapshotFault;
use stillframe_cloud::snapshot_source::SourceError;
use stillframe_cloud::state::StateError;
use stillframe_cloud::sweep::SweepError;
use stillframe_cloud::tags::TagError;
use stillframe_model::SnapshotReceipt;

use crate::isolation::IsolationError;

/// What went wrong.
#[derive(Debug, thiserror::Error)]
pub enum CloudError {
    /// No connection.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// A call failed.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// The state store failed.
    #[error(transparent)]
    State(#[from] StateError),
    /// The state directory cannot be used.
    #[error("the state directory {} cannot be used", path.display())]
    StateDirectory {
        /// The folder.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// The audit log cannot be written.
    #[error("the audit log {} cannot be written", path.display())]
    Audit {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// The process that reads disks could not be started or confined.
    #[error(transparent)]
    Isolation(IsolationError),
    /// The operator's tags cannot be used.
    #[error(transparent)]
    Tags(#[from] TagError),
    /// A named instance does not exist there.
    #[error("there is no instance {id} in {} of account {}", place.region, place.account)]
    NoSuchInstance {
        /// The id.
        id: String,
        /// Where it was looked for.
        place: Place,
    },
    /// A named instance is not to be scanned.
    #[error("{id} is {}", skip_words(skip))]
    Skipped {
        /// The id.
        id: String,
        /// Why.
        skip: InstanceSkip,
    },
    /// A disk of an instance is in no state to be scanned.
    #[error("{volume} of {instance} was not read: {skip}")]
    Disk {
        /// The instance.
        instance: String,
        /// The volume.
        volume: String,
        /// Why.
        skip: DiskSkip,
    },
    /// Nobody could tell whether an instance has disks of its host.
    #[error("whether {instance} has an instance store is not known: {error}")]
    UnknownStore {
        /// The instance.
        instance: String,
        /// Why.
        error: ApiError,
    },
    /// There is no snapshot of a disk.
    #[error("{volume} of {instance} was not read: {fault}")]
    Snapshot {
        /// The instance.
        instance: String,
        /// The volume.
        volume: String,
        /// The volume's key, where it is encrypted.
        key: Option<String>,
        /// Why.
        fault: Box<SnapshotFault>,
    },
    /// A named snapshot cannot be read.
    #[error("{snapshot} cannot be read: {why}")]
    Unreadable {
        /// The snapshot.
        snapshot: String,
        /// Why.
        why: Unreadable,
    },
    /// Reading a snapshot ended before its end.
    #[error("{snapshot} of {volume} was not read to its end: {error}")]
    Source {
        /// The snapshot.
        snapshot: String,
        /// The volume.
        volume: String,
        /// The volume's key, where it is encrypted.
        key: Option<String>,
        /// Whether another account owns it.
        is_foreign: bool,
        /// Why.
        error: Box<SourceError>,
    },
    /// A limit of the operator's ended reading.
    #[error("reading ended at the limit of {limit}")]
    LimitReached {
        /// Which.
        limit: Limit,
        /// Whether a dry run could have said so before.
        has_dry_run: bool,
    },
    /// A snapshot of ours is, or may be, still there.
    #[error("{} of {} is not confirmed to be gone", receipt.snapshot_id.as_str(), receipt.volume_id.as_str())]
    Left {
        /// What is known of it.
        receipt: Box<SnapshotReceipt>,
    },
    /// Creating calls of unknown outcome.
    #[error("{count} call{} not confirmed, and may still have made some", if *count == 1 { " to create snapshots was" } else { "s to create snapshots were" })]
    UnknownCreations {
        /// How many.
        count: usize,
    },
    /// Snapshots could not be listed, so nobody knows what is left.
    #[error("it cannot be told whether snapshots are left: {0}")]
    Unlisted(ApiError),
    /// The Recycle Bin could not be looked into.
    #[error("whether the Recycle Bin keeps the deleted snapshots is not known: {0}")]
    UnknownRecycleBin(ApiError),
    /// A sweep ended early.
    #[error(transparent)]
    Sweep(#[from] SweepError),
    /// The operator stopped the scan.
    #[error("the scan was stopped")]
    Stopped,
    /// The program itself failed.
    #[error("the program itself failed while it scanned")]
    Panicked,
    /// No random numbers, no threads.
    #[error("the operating system gives no {0}")]
    System(&'static str),
}

/// A limit of a scan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Limit {
    /// So many blocks.
    #[error("{0} blocks (--max-blocks)")]
    Blocks(u64),
    /// So much for calls.
    #[error("{0} (--max-cost)")]
    Cost(NanoDollars),
    /// So long, since the snapshots will expire.
    #[error("{} h, before its snapshots expire", .0.as_secs() / 3600)]
    Time(Duration),
}

/// Why a snapshot that was named cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// Not completed yet.
    #[error("it is still pending")]
    Pending,
    /// It failed.
    #[error("it failed when it was made")]
    Failed,
    /// In the archive tier.
    #[error("it is archived")]
    Archived,
    /// In the Recycle Bin, or coming back from it.
    #[error("it is in the Recycle Bin")]
    InRecycleBin,
    /// There is none.
    #[error("there is no such snapshot in {} that account {} may see", .0.region, .0.account)]
    Missing(Place),
}

/// What stands behind the instance and `is`.
pub(crate) fn skip_words(skip: &InstanceSkip) -> String {
    match skip {
        InstanceSkip::NoDisks => "not scanned: none of its disks is taken".to_owned(),
        skip => skip.to_string(),
    }
}

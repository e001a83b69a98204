//! Rows of the ledger for disks that were not read.

use super::CloudError;
use super::error::Unreadable;
use stillframe_cloud::api::{ApiError, ErrorKind};
use stillframe_cloud::discover::{DiskSkip, PlannedDisk};
use stillframe_cloud::lifecycle::SnapshotFault;
use stillframe_cloud::snapshot_source::SourceError;
use stillframe_model::{Coverage, CoverageKind, DiskText, Reason, Status, VolumeFacts};

/// What a disk of an instance is called in the ledger besides its number.
pub(super) fn label(disk: &PlannedDisk) -> String {
    match &disk.volume_id {
        Some(volume) => format!("{} {volume}", disk.device),
        None => disk.device.clone(),
    }
}

/// A disk that was left out.
pub(super) fn skipped(name: &str, label: &str, len_bytes: Option<u64>, skip: &DiskSkip) -> Coverage {
    let (status, reason) = match skip {
        DiskSkip::InstanceStore => {
            (Status::Unsupported, Reason::words("an instance store has no snapshots: it was not read"))
        }
        DiskSkip::Excluded { key } => (Status::Skipped, Reason::of_cloud("excluded by the tag", key)),
        DiskSkip::RootLeftOut => (Status::Skipped, Reason::words("root volumes are left out")),
        DiskSkip::DataLeftOut => (Status::Skipped, Reason::words("data volumes are left out")),
        DiskSkip::Outpost => {
            (Status::Unsupported, Reason::words("on an Outpost: its snapshots cannot be read directly"))
        }
        DiskSkip::LocalZone { zone } => (
            Status::Unsupported,
            Reason::of_cloud("in a Local Zone, whose snapshots cannot be read directly", zone),
        ),
        DiskSkip::TakenWith { instance_id } => {
            (Status::Skipped, Reason::of_cloud("shared: it is read with", instance_id))
        }
        DiskSkip::State { state } => (Status::Failed, Reason::of_cloud("the volume is in state", state)),
        DiskSkip::NotListed => (Status::Failed, Reason::words("the volume is not listed")),
    };
    row(name, label, len_bytes, status, reason)
}

/// Nobody could tell whether the machine has disks of its host, which have no snapshots.
pub(super) fn unknown_store(name: &str, error: &ApiError) -> Coverage {
    let call = format!("{} {}", error.operation, error.code);
    let reason = Reason::of_cloud("whether the machine has an instance store is not known", &call);
    row(name, "instance store", None, Status::Failed, reason)
}

/// A disk of which there is no snapshot.
pub(super) fn no_snapshot(
    name: &str,
    label: &str,
    len_bytes: Option<u64>,
    fault: &SnapshotFault,
) -> Coverage {
    let reason = match fault {
        SnapshotFault::Api(error) => {
            Reason::of_cloud("a call failed", &format!("{} {}", error.operation, error.code))
        }
        SnapshotFault::LeftOut => Reason::words("no snapshot of it was made"),
        SnapshotFault::Failed { .. } => Reason::words("its snapshot failed"),
        SnapshotFault::InRecycleBin => Reason::words("its snapshot was moved to the Recycle Bin meanwhile"),
        SnapshotFault::Vanished => Reason::words("its snapshot was deleted meanwhile, and not by this scan"),
        SnapshotFault::NotListed => Reason::words("its snapshot was made but is not listed"),
        SnapshotFault::Archived => Reason::words("its snapshot is archived"),
        SnapshotFault::StillPending { .. } => Reason::words("its snapshot was not completed in time"),
    };
    row(name, label, len_bytes, Status::Failed, reason)
}

/// A snapshot that was named and cannot be read.
pub(super) fn undescribed(name: &str, id: &str, error: &CloudError) -> Coverage {
    let reason = match error {
        CloudError::Unreadable { why, .. } => match why {
            Unreadable::Pending => Reason::words("it is still pending"),
            Unreadable::Failed => Reason::words("it failed when it was made"),
            Unreadable::Archived => Reason::words("it is archived"),
            Unreadable::InRecycleBin => Reason::words("it is in the Recycle Bin"),
            Unreadable::Missing(_) => Reason::words("there is no such snapshot there"),
        },
        CloudError::Api(api) => Reason::of_cloud("a call failed", &format!("{} {}", api.operation, api.code)),
        _ => Reason::words("it could not be looked at"),
    };
    row(name, id, None, Status::Failed, reason)
}

/// A disk whose snapshot cannot be opened.
pub(super) fn unopened(name: &str, label: &str, len_bytes: Option<u64>, error: &SourceError) -> Coverage {
    let (status, reason) = match error {
        SourceError::BlockLimit { .. } => {
            (Status::Partial, Reason::words("the limit of blocks for this scan is used up"))
        }
        SourceError::CostLimit { .. } => {
            (Status::Partial, Reason::words("the limit of cost for this scan is used up"))
        }
        SourceError::TimeLimit { .. } => {
            (Status::Partial, Reason::words("the limit of time for this scan is used up"))
        }
        error => (Status::Failed, reason(error)),
    };
    row(name, label, len_bytes, status, reason)
}

/// Why a snapshot's bytes did not come.
pub(super) fn reason(error: &SourceError) -> Reason {
    match error {
        SourceError::Api(api) if api.kind == ErrorKind::KmsDenied => {
            Reason::of_cloud("its key may not be used", &format!("{} {}", api.operation, api.code))
        }
        SourceError::Api(api) => {
            Reason::of_cloud("a call failed", &format!("{} {}", api.operation, api.code))
        }
        SourceError::BlockSize { .. } | SourceError::VolumeSize { .. } | SourceError::List { .. } => {
            Reason::words("the service says what cannot be of its snapshot")
        }
        SourceError::Length { .. } | SourceError::Checksum { .. } | SourceError::NoChecksum { .. } => {
            Reason::words("its blocks are not what their checksums say")
        }
        SourceError::BlockLimit { .. } | SourceError::CostLimit { .. } | SourceError::TimeLimit { .. } => {
            Reason::words("a limit of this scan is used up")
        }
        SourceError::Stopped | SourceError::Ended => Reason::words("the scan was stopped"),
    }
}

fn row(name: &str, label: &str, len_bytes: Option<u64>, status: Status, reason: Reason) -> Coverage {
    Coverage::unread(CoverageKind::Disk, name, status, reason).with_facts(VolumeFacts {
        label: Some(DiskText::new(label)),
        len_bytes,
        ..VolumeFacts::default()
    })
}

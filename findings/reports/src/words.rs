//! The names of the model's enumerations, as people read them.

use stillframe_model::{CoverageKind, DiskText, Report, Severity, SnapshotFate, Status};

/// A machine that nothing on its disks and nobody else names.
pub(crate) const UNNAMED_MACHINE: &str = "unnamed machine";

/// What the cloud calls the machine: its instance; the first of the snapshots where those were named, which nothing else
/// tells apart where no name was read.
pub(crate) fn id_in_cloud(report: &Report) -> Option<&str> {
    let cloud = report.cloud.as_ref()?;
    let snapshot = || report.snapshots.first().filter(|_| report.machine.hostname.is_none());
    cloud.instance_id.as_ref().or_else(|| Some(&snapshot()?.snapshot_id)).map(DiskText::as_str)
}

pub(crate) const fn status(status: Status) -> &'static str {
    match status {
        Status::Scanned => "scanned",
        Status::Partial => "partial",
        Status::Skipped => "skipped",
        Status::Encrypted => "encrypted",
        Status::Unsupported => "unsupported",
        Status::Corrupt => "corrupt",
        Status::Failed => "failed",
    }
}

pub(crate) const fn severity(severity: Severity) -> &'static str {
    match severity {
        Severity::Info => "info",
        Severity::Low => "low",
        Severity::Medium => "medium",
        Severity::High => "high",
        Severity::Critical => "critical",
    }
}

pub(crate) const fn coverage_kind(kind: CoverageKind) -> &'static str {
    match kind {
        CoverageKind::Disk => "disk",
        CoverageKind::Partition => "partition",
        CoverageKind::Unallocated => "unallocated",
        CoverageKind::Filesystem => "filesystem",
        CoverageKind::OperatingSystem => "operating system",
        CoverageKind::PackageDatabase => "package database",
        CoverageKind::ContainerStorage => "container storage",
        CoverageKind::Scanner => "scanner",
    }
}

/// As the JSON report has it: it stands where programs read it.
pub(crate) const fn snapshot_fate(fate: SnapshotFate) -> &'static str {
    match fate {
        SnapshotFate::Gone => "gone",
        SnapshotFate::InRecycleBin => "in_recycle_bin",
        SnapshotFate::Requested => "requested",
        SnapshotFate::Kept => "kept",
        SnapshotFate::NotRequested => "not_requested",
        SnapshotFate::ReadOnly => "read_only",
    }
}

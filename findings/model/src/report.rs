use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Coverage, DiskText, Finding, KeyId, Label, Machine, Package, Severity};

/// The value of [`Report::schema`].
pub const REPORT_SCHEMA: &str = "stillframe/report/1";

/// Everything that one scan of one machine says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Report {
    /// `stillframe/report/1`.
    pub schema: Label,
    /// The scan.
    pub scan: Scan,
    /// The machine.
    pub machine: Machine,
    /// What was met, and how far it was read.
    pub coverage: Vec<Coverage>,
    /// What is installed.
    pub packages: Vec<Package>,
    /// What is wrong.
    pub findings: Vec<Finding>,
    /// What reading cost.
    pub io: Io,
    /// The snapshots that were read, and what became of them. Empty where images were scanned.
    pub snapshots: Vec<SnapshotReceipt>,
    /// The cloud that the disks are in. None where images were scanned.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub cloud: Option<CloudUse>,
}

impl Report {
    /// Whether everything that was met was read or had nothing to read.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.coverage.iter().all(Coverage::is_complete)
    }

    /// Whether a finding is at or above `threshold`.
    #[must_use]
    pub fn has_findings_from(&self, threshold: Severity) -> bool {
        self.findings.iter().any(|finding| finding.severity >= threshold)
    }
}

/// The scan itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Scan {
    /// A random UUID.
    pub id: DiskText,
    /// What scanned.
    pub tool: Tool,
    /// When it began.
    pub started: Timestamp,
    /// When it ended.
    pub finished: Timestamp,
    /// The scanners that ran.
    pub scanners: Vec<Scanner>,
    /// Which key the fingerprints were made with; reports with the same id can be compared.
    pub fingerprint_key_id: KeyId,
    /// Whether people's names in paths are masked.
    pub user_paths_masked: bool,
    /// Whether everything that was met was read or had nothing to read.
    pub complete: bool,
    /// What the process that read the disks could do to the machine that scanned. None where it was no process of its own.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub isolation: Option<Isolation>,
}

/// How the process that parsed the disks was confined, before it read the first byte.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Isolation {
    /// The kernel's release, as `uname -r` prints it.
    pub kernel: DiskText,
    /// The version of Landlock's interface that kept it from every path; None where the kernel has none.
    pub landlock_abi: Option<u32>,
    /// Whether system calls were filtered by an allow-list.
    pub seccomp: bool,
    /// Whether its memory was kept from swap.
    pub memory_locked: bool,
    /// How many processes died on a disk; each has a row of the ledger.
    pub deaths: u64,
}

/// The program that scanned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Tool {
    /// `stillframe`.
    pub name: Label,
    /// Its version.
    pub version: Label,
}

/// A set of collectors and detectors that can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Scanner {
    /// What is installed.
    Inventory,
}

impl Scanner {
    /// All that there are.
    pub const ALL: &'static [Self] = &[Self::Inventory];

    /// Its name on the command line and in the ledger.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Inventory => "inventory",
        }
    }
}

/// What reading cost, over all disks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Io {
    /// Distinct blocks of 512 KiB that were read, of a file too.
    pub blocks_fetched: u64,
    /// Bytes read from the sources.
    pub bytes_read: u64,
    /// Reads made.
    pub requests: u64,
    /// Directory entries walked.
    pub entries: u64,
}

/// A snapshot that a scan read, and what became of it: the purge receipt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SnapshotReceipt {
    /// Its id.
    pub snapshot_id: DiskText,
    /// The volume that it was made of.
    pub volume_id: DiskText,
    /// The device that the machine knows the volume by: `/dev/xvda`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub device: Option<DiskText>,
    /// When it was asked for.
    pub created: Timestamp,
    /// When it could be read.
    pub completed: Option<Timestamp>,
    /// When its deletion was asked for.
    pub deleted: Option<Timestamp>,
    /// When it was seen to be gone.
    pub confirmed_gone: Option<Timestamp>,
    /// From its creation to its end, or to the end of the scan.
    pub lifetime_seconds: u64,
    /// What became of it.
    pub fate: SnapshotFate,
    /// The cloud's code for why it was not deleted, where it was not.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub code: Option<DiskText>,
    /// The tag by which its cost can be found in the bill: `CreatedBy=Microsoft Defender for Cloud`. None where it is not
    /// ours.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub cost_allocation_tag: Option<DiskText>,
}

/// What became of a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SnapshotFate {
    /// It was deleted and seen to be gone.
    Gone,
    /// It was deleted, and a rule of the Recycle Bin keeps it, at a cost.
    InRecycleBin,
    /// Its deletion was asked for, and it was not seen to be gone in time.
    Requested,
    /// The cloud refuses to delete it: it is locked, in use, or we may not.
    Kept,
    /// Its deletion could not be asked for.
    NotRequested,
    /// It was there before the scan, was only read, and stays.
    ReadOnly,
}

impl SnapshotFate {
    /// Whether something that the scan made may still be there.
    #[must_use]
    pub const fn is_left(self) -> bool {
        !matches!(self, Self::Gone | Self::ReadOnly)
    }
}

/// Where in a cloud the disks were, what was asked of it, and what that costs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CloudUse {
    /// `aws`.
    pub provider: Label,
    /// The account that the disks belong to.
    pub account: DiskText,
    /// The region that they are in.
    pub region: DiskText,
    /// The machine. None where snapshots were named.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub instance_id: Option<DiskText>,
    /// Whether data stayed in its region.
    pub locality: DataLocality,
    /// What was asked.
    pub calls: CloudCalls,
    /// What it costs, in billionths of a dollar.
    pub cost: CloudCost,
    /// What the scan might have read and spent at most.
    pub limits: CloudLimits,
    /// Creating calls of which nobody knows yet whether they made a snapshot; `stillframe snapshots purge` looks again.
    pub unknown_creations: u64,
}

/// Whether data stayed in its region.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DataLocality {
    /// The scanner runs in the region of the disks.
    SameRegion,
    /// The cloud is on this machine's loopback.
    Loopback,
    /// The operator allowed that data leaves the region.
    CrossRegionAllowed,
}

/// Calls to the cloud, answered or not.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CloudCalls {
    /// Reads of one block.
    pub gets: u64,
    /// Lists of written blocks.
    pub lists: u64,
    /// Descriptions of instances, volumes and snapshots.
    pub describes: u64,
    /// Calls that create or delete.
    pub changes: u64,
    /// Answers that said that it was too much.
    pub throttles: u64,
    /// Answers that failed otherwise in a way that another try may mend.
    pub failures: u64,
    /// Blocks that came with bytes other than announced, and were read again.
    pub bad_blocks: u64,
    /// Bytes of blocks that came.
    pub block_bytes: u64,
}

/// What a scan costs, in billionths of a dollar, by the provider's list prices of its reference region.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CloudCost {
    /// Reading blocks.
    pub gets_nano_usd: u64,
    /// Listing blocks.
    pub lists_nano_usd: u64,
    /// Keeping the snapshots for as long as they were kept; at most, since what an older snapshot has is not billed again.
    pub storage_nano_usd: u64,
    /// All of it.
    pub total_nano_usd: u64,
}

/// Limits that the operator, or a default, set.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CloudLimits {
    /// Blocks.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub max_blocks: Option<u64>,
    /// Dollars for reading, in billionths.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub max_cost_nano_usd: Option<u64>,
}

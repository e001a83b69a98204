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
    /// The snapshots that were made, and how they went. Empty where images were scanned.
    pub snapshots: Vec<SnapshotReceipt>,
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

/// A snapshot that was made for a scan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SnapshotReceipt {
    /// Its id.
    pub snapshot_id: DiskText,
    /// The volume that it was made of.
    pub volume_id: DiskText,
    /// When it was asked for.
    pub created: Timestamp,
    /// When it could be read.
    pub completed: Option<Timestamp>,
    /// When its deletion was asked for.
    pub deleted: Option<Timestamp>,
    /// When it was seen to be gone.
    pub confirmed_gone: Option<Timestamp>,
}

//! What the two processes say to each other. Plain data, as JSON.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use stillframe_block::Budget;
use stillframe_detectors::{Fact, Sourced};
use stillframe_model::{Coverage, FingerprintKey, Report, Scanner};

use crate::files::FilesOptions;
use crate::journal::{Findings, Step};
use crate::mount::Mounts;
use crate::scan::ScanOptions;
use crate::walk::Limits;

/// What the parent wants, said once. Descriptors follow: one for each disk that is a file, then one for each lane.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Order {
    pub(super) job: Job,
    pub(super) disks: Vec<DiskOrder>,
    pub(super) lanes: usize,
    pub(super) threads: usize,
    pub(super) cache_bytes: u64,
    pub(super) address_space_bytes: u64,
    pub(super) cpu_seconds: u64,
    /// The most detailed log lines that are wanted: as `tracing` numbers them, 1 for errors to 5.
    pub(super) log_level: u8,
    pub(super) before: Findings,
}

/// A disk. Lanes know it by its place in the list.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct DiskOrder {
    /// Which of the machine's disks it is.
    pub(super) number: u32,
    /// The name under which it was attached, by which an `fstab` may call it.
    pub(super) attached_as: Option<String>,
    pub(super) read_by: ReadBy,
}

/// Who reads its bytes, and from where.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum ReadBy {
    File,
    Lane { len_bytes: u64, wants_hints: bool },
}

/// What is to be done with the disks.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) enum Job {
    Scan {
        id: String,
        scanners: Vec<Scanner>,
        budget: BudgetOrder,
        limits: Limits,
        excluded: Vec<String>,
        key: String,
        show_user_paths: bool,
    },
    Survey {
        budget: BudgetOrder,
    },
    Files {
        sha256: bool,
        budget: BudgetOrder,
    },
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct BudgetOrder {
    reads: u64,
    bytes: u64,
    milliseconds: u64,
}

impl From<Budget> for BudgetOrder {
    fn from(budget: Budget) -> Self {
        let milliseconds = u64::try_from(budget.time.as_millis()).unwrap_or(u64::MAX);
        Self { reads: budget.reads, bytes: budget.bytes, milliseconds }
    }
}

impl From<BudgetOrder> for Budget {
    fn from(order: BudgetOrder) -> Self {
        Self { reads: order.reads, bytes: order.bytes, time: Duration::from_millis(order.milliseconds) }
    }
}

impl Job {
    pub(super) fn scan(options: &ScanOptions) -> Self {
        Self::Scan {
            id: options.id.clone(),
            scanners: options.scanners.clone(),
            budget: options.budget.into(),
            limits: options.limits,
            excluded: options.excluded.clone(),
            key: options.key.to_hex().to_string(),
            show_user_paths: options.show_user_paths,
        }
    }

    pub(super) fn survey(budget: Budget) -> Self {
        Self::Survey { budget: budget.into() }
    }

    pub(super) fn files(options: FilesOptions) -> Self {
        Self::Files { sha256: options.sha256, budget: options.budget.into() }
    }
}

/// The options of a scan as they were ordered; `None` where the key is none.
pub(super) fn scan_options(
    (id, scanners, key): (String, Vec<Scanner>, &str),
    (budget, limits): (BudgetOrder, Limits),
    excluded: Vec<String>,
    show_user_paths: bool,
) -> Option<ScanOptions> {
    let key = FingerprintKey::from_hex(key).ok()?;
    Some(ScanOptions { id, scanners, budget: budget.into(), limits, excluded, key, show_user_paths })
}

/// What a worker says.
#[derive(Debug, Serialize, Deserialize)]
pub enum Message {
    /// It is confined, by this, and begins to read.
    Confined {
        /// The version of Landlock's interface.
        landlock_abi: Option<u32>,
        /// Whether system calls are filtered.
        seccomp: bool,
        /// Whether its memory is kept from swap.
        memory_locked: bool,
    },
    /// It could not be confined, for this reason.
    NotConfined(String),
    /// What it is about to do.
    Step(StepTold),
    /// The volumes that there are, and the rows of everything else on the disks.
    Met {
        /// A row for each volume, with what is known before it is opened.
        volumes: Vec<Coverage>,
        /// Disks, partitions and what lies between them.
        coverage: Vec<Coverage>,
    },
    /// Images in files of the volumes: a row for each.
    Images(Vec<Coverage>),
    /// Where the volumes are mounted.
    Mounted(BTreeMap<String, Mounts>),
    /// A volume is open.
    Opened(Coverage),
    /// Facts of the volume that is being read.
    Facts(Vec<Sourced<Fact>>),
    /// A volume was read.
    Read {
        /// Its row.
        row: Coverage,
        /// Directory entries walked.
        entries: u64,
    },
    /// How far it is. Said several times a second, also when nothing moves: whoever says nothing hangs.
    Progress {
        /// Directory entries walked.
        entries: u64,
        /// Wanted files that were read.
        files_read: u64,
        /// Wanted files in all.
        files_wanted: u64,
        /// Bytes read of all disks.
        bytes: u64,
    },
    /// A piece of a listing.
    Listing(String),
    /// A line for the log.
    Log {
        /// 1 for errors to 5.
        level: u8,
        /// The line.
        line: String,
    },
    /// It panicked outside every boundary.
    Panicked,
    /// The result, and the last message.
    Done(Done),
}

/// What came of it.
#[derive(Debug, Serialize, Deserialize)]
pub enum Done {
    /// The report of a scan.
    Report(Box<Report>),
    /// The ledger of a survey or listing.
    Rows(Vec<Coverage>),
}

/// A step, as told.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum StepTold {
    /// Looks at the partitions of a disk.
    Look(String),
    /// Opens a volume.
    Open(String),
    /// Looks at a volume for a system's root.
    Mount(String),
    /// Reads a volume.
    Read(String),
    /// Puts the facts together.
    Conclude,
}

impl From<Step<'_>> for StepTold {
    fn from(step: Step<'_>) -> Self {
        match step {
            Step::Look(disk) => Self::Look(disk.to_owned()),
            Step::Open(volume) => Self::Open(volume.to_owned()),
            Step::Mount(volume) => Self::Mount(volume.to_owned()),
            Step::Read(volume) => Self::Read(volume.to_owned()),
            Step::Conclude => Self::Conclude,
        }
    }
}

impl fmt::Display for StepTold {
    /// `reading disk0/p1`. The name is known by then to be one of this machine's.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Look(disk) => write!(f, "looking at {disk}"),
            Self::Open(volume) => write!(f, "opening {volume}"),
            Self::Mount(volume) => write!(f, "looking for a system on {volume}"),
            Self::Read(volume) => write!(f, "reading {volume}"),
            Self::Conclude => f.write_str("drawing conclusions"),
        }
    }
}

//! What a scan tells of itself while it runs, so that another can go on where it died.
//!
//! A reader may die on a volume in a way that no boundary in its own process catches. Whoever watches a scan from outside
//! keeps its [`Event`]s; the next scan of the same disks is given what came of them ([`Findings`]), and does not go
//! where the first one died.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use stillframe_detectors::{Fact, Sourced};
use stillframe_model::Coverage;

use crate::layout::Volume;
use crate::mount::Mounts;

/// Told of each [`Event`] as it happens, from any thread of the scan.
pub type Journal<'j> = dyn Fn(Event<'_>) + Sync + 'j;

/// Something that happened.
pub enum Event<'e> {
    /// What is about to be done.
    Step(Step<'e>),
    /// What lies on the disks.
    Met {
        /// The volumes that are to be read.
        volumes: &'e [Volume],
        /// The rows of everything else.
        coverage: &'e [Coverage],
    },
    /// Images in files of the volumes that are to be read too: a row for each.
    Images(&'e [Coverage]),
    /// Where the volumes are mounted, by their names.
    Mounted(&'e BTreeMap<String, Mounts>),
    /// A volume is open; its row before anything was walked.
    Opened(&'e Coverage),
    /// Facts of the volume that is being read.
    Facts(&'e [Sourced<Fact>]),
    /// A volume was read, or could not be opened.
    Read {
        /// Its row.
        row: &'e Coverage,
        /// Directory entries walked.
        entries: u64,
    },
}

/// A step of a scan: what it does when it dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step<'e> {
    /// Looks at the partitions of a disk.
    Look(&'e str),
    /// Opens a volume.
    Open(&'e str),
    /// Looks at a volume for a system's root and its `fstab`.
    Mount(&'e str),
    /// Walks a volume and reads what is wanted of it.
    Read(&'e str),
    /// Puts the facts together.
    Conclude,
}

/// What earlier scans of the same disks found out.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Findings {
    /// Disks that are not looked at again. Whoever keeps the findings has their rows.
    pub dead_disks: Vec<String>,
    /// Volumes that are not touched again. Whoever keeps the findings has their rows.
    pub dead_volumes: Vec<String>,
    /// Rows of volumes that were read.
    pub coverage: Vec<Coverage>,
    /// Where the volumes are mounted, once that is known.
    pub mounts: Option<BTreeMap<String, Mounts>>,
    /// Facts of all volumes, of the dead ones too.
    pub facts: Vec<Sourced<Fact>>,
    /// Directory entries walked.
    pub entries: u64,
}

impl Findings {
    /// Whether the volume was read, or is not touched again.
    #[must_use]
    pub fn is_ended(&self, volume: &str) -> bool {
        self.dead_volumes.iter().any(|name| name == volume)
            || self.coverage.iter().any(|row| row.name.as_str() == volume)
    }
}

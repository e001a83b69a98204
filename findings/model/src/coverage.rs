use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{DiskText, Label, ShownPath};

/// What a row of the ledger is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CoverageKind {
    /// A disk.
    Disk,
    /// A partition of a disk.
    Partition,
    /// Space of a disk that no partition claims.
    Unallocated,
    /// A filesystem.
    Filesystem,
    /// The machine's operating system.
    OperatingSystem,
    /// A package database.
    PackageDatabase,
    /// Storage of a container runtime.
    ContainerStorage,
    /// A scanner that was asked for.
    Scanner,
}

/// How far something was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Read to its end.
    Scanned,
    /// Some of it could not be read.
    Partial,
    /// There is nothing to read, or the operator excluded it. Does not make a scan incomplete.
    Skipped,
    /// Encrypted, and we have no key.
    Encrypted,
    /// Known or unknown, and not readable by this version.
    Unsupported,
    /// Damaged, or made to mislead.
    Corrupt,
    /// Nothing of it was read: a device or a call failed.
    Failed,
}

impl Status {
    /// Whether a row with this status leaves the scan complete.
    #[must_use]
    pub const fn is_complete(self) -> bool {
        matches!(self, Self::Scanned | Self::Skipped)
    }
}

/// Why something is not `scanned`: words of the program and numbers.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Reason(Label);

impl Reason {
    /// These words.
    #[must_use]
    pub const fn words(words: &'static str) -> Self {
        Self(Label::new(words))
    }

    /// A number of things: `1 fault`, `3 faults; what was whole was read`.
    #[must_use]
    pub fn counted(count: u64, one: &'static str, many: &'static str, rest: &'static str) -> Self {
        Self(Label::composed(format!("{count} {}{rest}", if count == 1 { one } else { many })))
    }

    /// Words, and more words behind a colon.
    #[must_use]
    pub fn because(words: &'static str, cause: &'static str) -> Self {
        Self(Label::composed(format!("{words}: {cause}")))
    }

    /// Words, and the name of a thing of the cloud or a code of its API behind a colon: `in state error`,
    /// `ec2:CreateSnapshot: UnauthorizedOperation`. At most 128 characters of what such names are made of are shown.
    #[must_use]
    pub fn of_cloud(words: &'static str, name: &str) -> Self {
        let allowed = |letter: &char| letter.is_ascii_alphanumeric() || " -_.:/()".contains(*letter);
        let name: String = name.chars().filter(allowed).take(128).collect();
        Self(Label::composed(format!("{words}: {name}")))
    }

    /// The words.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One side of a [`RowFault`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Value {
    /// A number.
    Number(u64),
    /// Words of the program, or a number in hexadecimal.
    Words(Label),
}

impl Value {
    /// A checksum, magic or address, shown in hexadecimal.
    #[must_use]
    pub fn hex(number: u64) -> Self {
        Self::Words(Label::composed(format!("{number:#x}")))
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => write!(f, "{number}"),
            Self::Words(words) => words.fmt(f),
        }
    }
}

/// One thing that could not be read: where, what was claimed, what was found.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct RowFault {
    /// The structure, or what was tried.
    pub what: Label,
    /// The file, where one is concerned.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub path: Option<ShownPath>,
    /// Byte offset in the volume or file.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub at: Option<u64>,
    /// What the disk, or the format's rules, say.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub claimed: Option<Value>,
    /// What is there.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub found: Option<Value>,
}

impl RowFault {
    /// The fault in one line, without its path: `extent header at 0x4000: claimed 0xf30a, found 0x0`.
    #[must_use]
    pub fn line(&self) -> String {
        let mut line = self.what.to_string();
        if let Some(at) = self.at {
            line.push_str(&format!(" at {at:#x}"));
        }
        match (&self.claimed, &self.found) {
            (Some(claimed), Some(found)) => line.push_str(&format!(": claimed {claimed}, found {found}")),
            (Some(claimed), None) => line.push_str(&format!(": claimed {claimed}")),
            (None, Some(found)) => line.push_str(&format!(": found {found}")),
            (None, None) => {}
        }
        line
    }
}

/// What is known of a volume besides how far it was read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct VolumeFacts {
    /// `ext4`, `luks2`, `gpt`, …: what it is, by its content.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub format: Option<Label>,
    /// Its label or partition name.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub label: Option<DiskText>,
    /// Its UUID or serial number.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub uuid: Option<DiskText>,
    /// Where it begins on its disk, in bytes.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub start_bytes: Option<u64>,
    /// How long it is, in bytes.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub len_bytes: Option<u64>,
    /// Whether its journal held changes.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub dirty: Option<bool>,
    /// Where the machine mounts it, if its `fstab` says so.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub mounted_at: Option<ShownPath>,
    /// Which reader served it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reader: Option<Label>,
    /// How many entries were walked.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub entries: Option<u64>,
    /// How many packages came from it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub packages: Option<u64>,
}

/// A row of the coverage ledger: what was met, and how far it was read. Whatever is met has a row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Coverage {
    /// What this row is about.
    pub kind: CoverageKind,
    /// Which one: `disk0`, `disk0/p1`, `dpkg /var/lib/dpkg/status`.
    pub name: DiskText,
    /// How far it was read.
    pub status: Status,
    /// Why it is not `scanned`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<Reason>,
    /// What is known of it.
    #[serde(flatten)]
    pub facts: VolumeFacts,
    /// What was done to read it: a journal replayed, a backup table used.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub notes: Vec<Label>,
    /// What its reader cannot tell of a file: the owner, the modification time.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub not_told: Vec<Label>,
    /// What could not be read, at most 100 of them.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub faults: Vec<RowFault>,
    /// How many faults there were.
    #[serde(skip_serializing_if = "is_zero", default)]
    pub fault_count: u64,
}

// serde calls it with a reference.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature is serde's")]
const fn is_zero(count: &u64) -> bool {
    *count == 0
}

impl Coverage {
    /// The most faults that a row lists; it counts them all.
    pub const MAX_FAULTS: usize = 100;

    /// Something that was read to its end.
    #[must_use]
    pub fn scanned(kind: CoverageKind, name: impl Into<DiskText>) -> Self {
        Self {
            kind,
            name: name.into(),
            status: Status::Scanned,
            reason: None,
            facts: VolumeFacts::default(),
            notes: Vec::new(),
            not_told: Vec::new(),
            faults: Vec::new(),
            fault_count: 0,
        }
    }

    /// Something that was not.
    #[must_use]
    pub fn unread(kind: CoverageKind, name: impl Into<DiskText>, status: Status, reason: Reason) -> Self {
        Self { status, reason: Some(reason), ..Self::scanned(kind, name) }
    }

    /// With what is known of it.
    #[must_use]
    pub fn with_facts(mut self, facts: VolumeFacts) -> Self {
        self.facts = facts;
        self
    }

    /// Adds a fault to those listed, or to their count where the list is full.
    pub fn push_fault(&mut self, fault: RowFault) {
        self.fault_count = self.fault_count.saturating_add(1);
        if self.faults.len() < Self::MAX_FAULTS {
            self.faults.push(fault);
        }
    }

    /// Whether this row leaves the scan complete.
    #[must_use]
    pub const fn is_complete(&self) -> bool {
        self.status.is_complete()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_but_two_makes_a_scan_incomplete() {
        use Status::{Corrupt, Encrypted, Partial, Scanned, Skipped, Unsupported};
        assert!([Scanned, Skipped].iter().all(|status| status.is_complete()));
        assert!(![Partial, Encrypted, Unsupported, Corrupt].iter().any(|status| status.is_complete()));
    }

    #[test]
    fn faults_are_listed_up_to_a_cap_and_counted_beyond() {
        let mut row = Coverage::scanned(CoverageKind::Filesystem, "disk0/p1");
        for at in 0..1000 {
            row.push_fault(RowFault {
                what: Label::new("inode"),
                path: None,
                at: Some(at),
                claimed: Some(Value::Number(1)),
                found: Some(Value::Number(2)),
            });
        }
        assert_eq!((row.faults.len(), row.fault_count), (Coverage::MAX_FAULTS, 1000));
        assert_eq!(row.faults[1].line(), "inode at 0x1: claimed 1, found 2");
    }

    #[test]
    fn a_row_says_why_in_its_json() {
        let row = Coverage::unread(
            CoverageKind::Partition,
            "disk0/p14",
            Status::Skipped,
            Reason::words("boot code"),
        );
        let json = serde_json::to_value(&row).unwrap();
        assert_eq!(
            json,
            serde_json::json!({"kind": "partition", "name": "disk0/p14", "status": "skipped", "reason": "boot code"})
        );
    }
}

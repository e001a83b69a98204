use serde::{Deserialize, Serialize};
use stillframe_bytes::Fault;
use stillframe_fs::FsError;
use stillframe_model::{DiskText, Label, Location, RowFault};
use stillframe_packages::{OsPackage, Parsed};

use crate::ledger::{error_fault, row_fault};

/// Something that a file told of the machine. Plain data: facts go from one process to another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fact {
    /// A release file.
    Release(Release),
    /// The host's name.
    Hostname(DiskText),
    /// The architecture of a program that every system has.
    Architecture(Label),
    /// A package database.
    Packages(PackageDatabase),
    /// A layer of a container's storage, one fact for each.
    Layer(ContainerLayers),
    /// The registry of a Windows system.
    WindowsRegistry,
}

/// A fact, and the file that it comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sourced<T> {
    /// The file's path on the machine.
    pub path: Vec<u8>,
    /// The file, as a report shows it.
    #[serde(with = "whole_location")]
    pub location: Location,
    /// Which of the systems on the disks it belongs to; 0 is the machine's own.
    pub system: usize,
    /// What it told.
    pub what: T,
}

/// Which file a [`Release`] is from; the first in this order is believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ReleaseSource {
    /// `/etc/os-release`.
    EtcOsRelease,
    /// `/usr/lib/os-release`.
    UsrOsRelease,
    /// `/etc/lsb-release`.
    LsbRelease,
    /// `/etc/redhat-release` and its like: one line of text.
    OldRelease,
    /// `/etc/debian_version` or `/etc/alpine-release`: a version alone.
    VersionOnly,
}

/// What a release file says. Everything is a name or number of a release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    /// Which file it is.
    pub source: ReleaseSource,
    /// `ID`, lower case.
    pub id: String,
    /// `VERSION_ID`.
    pub version_id: Option<String>,
    /// `VERSION_CODENAME`.
    pub codename: Option<String>,
    /// `PRETTY_NAME`.
    pub pretty_name: Option<String>,
    /// `ID_LIKE`, split.
    pub id_like: Vec<String>,
}

/// Who keeps a package database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum DatabaseKind {
    /// dpkg.
    Dpkg,
    /// rpm.
    Rpm,
    /// apk.
    Apk,
}

impl DatabaseKind {
    /// Its name in the ledger.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Dpkg => "dpkg",
            Self::Rpm => "rpm",
            Self::Apk => "apk",
        }
    }
}

/// A package database, as far as it could be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackageDatabase {
    /// Who keeps it.
    pub kind: DatabaseKind,
    /// What it lists; `None` where nothing of it could be read.
    pub packages: Option<Vec<OsPackage>>,
    /// What is wrong with it, as far as it is listed.
    pub faults: Vec<RowFault>,
    /// How many faults there were in all.
    pub fault_count: u64,
    /// Whether reading ended before its end.
    pub is_cut: bool,
    /// A fault of a file beside it: of the write-ahead log, for one.
    pub beside: Option<RowFault>,
}

impl PackageDatabase {
    /// What a reader made of the database.
    #[must_use]
    pub fn new(kind: DatabaseKind, content: Result<Parsed, FsError>) -> Self {
        let empty =
            Self { kind, packages: None, faults: Vec::new(), fault_count: 0, is_cut: false, beside: None };
        match content {
            Err(error) => Self { faults: vec![error_fault(&error, None)], fault_count: 1, ..empty },
            Ok(parsed) => {
                let mut faults: Vec<_> = parsed.faults.iter().map(|fault| row_fault(fault, None)).collect();
                faults.extend(parsed.stopped_by.as_ref().map(|error| error_fault(error, None)));
                Self {
                    packages: Some(parsed.packages),
                    faults,
                    fault_count: parsed.fault_count,
                    is_cut: parsed.stopped_by.is_some(),
                    ..empty
                }
            }
        }
    }

    /// With a file beside it that could not be read.
    #[must_use]
    pub fn with_fault_beside(self, fault: &Fault) -> Self {
        Self { beside: Some(row_fault(fault, None)), ..self }
    }

    /// Whether the whole database was read and nothing in it was wrong.
    #[must_use]
    pub const fn is_complete(&self) -> bool {
        self.packages.is_some() && self.fault_count == 0 && !self.is_cut
    }
}

/// A folder that holds one layer of a container's files.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ContainerLayers {
    /// The runtime whose storage it is: `docker`, `containerd`, `containers-storage`.
    pub runtime: Label,
}

/// A [`Location`] with its identity, which a report leaves out and a finding's id is made of.
mod whole_location {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use stillframe_model::Location;

    pub(super) fn serialize<S: Serializer>(location: &Location, serializer: S) -> Result<S::Ok, S::Error> {
        (location, location.identity()).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Location, D::Error> {
        let (location, identity) = <(Location, String)>::deserialize(deserializer)?;
        Ok(location.with_identity(identity))
    }
}

#[cfg(test)]
mod tests {
    use stillframe_model::{FingerprintKey, PathView};

    use super::*;

    #[test]
    fn a_fact_that_went_to_another_process_is_the_same() {
        let key = FingerprintKey::new([1; 32]);
        let location =
            Location::in_volume("disk0/p1", "ext4").at(b"/home/alice/x", Some(1000), PathView::Masked(&key));
        let limit = FsError::Limit { what: "packages", cap: 7 };
        let parsed = Parsed {
            packages: vec![OsPackage { name: "curl".into(), version: "8".into(), ..OsPackage::default() }],
            faults: vec![Fault::new("paragraph", 9, "a name", "none")],
            fault_count: 3,
            stopped_by: Some(limit),
            ..Parsed::default()
        };
        let database = PackageDatabase::new(DatabaseKind::Dpkg, Ok(parsed)).with_fault_beside(&Fault::new(
            "write-ahead log",
            0,
            "applied",
            "not readable",
        ));
        assert!(!database.is_complete() && database.faults.len() == 2);
        let fact = Sourced { path: b"/x/\xff".to_vec(), location, system: 1, what: Fact::Packages(database) };
        let json = serde_json::to_vec(&fact).unwrap();
        let back: Sourced<Fact> = serde_json::from_slice(&json).unwrap();
        assert_eq!(back, fact);
        assert_eq!(back.location.identity(), fact.location.identity());
    }
}

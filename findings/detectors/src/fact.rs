use stillframe_bytes::Fault;
use stillframe_fs::FsError;
use stillframe_model::{DiskText, Label, Location};
use stillframe_packages::Parsed;

/// Something that a file told of the machine.
#[derive(Debug, Clone)]
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
#[derive(Debug, Clone)]
pub struct Sourced<T> {
    /// The file's path on the machine.
    pub path: Vec<u8>,
    /// The file, as a report shows it.
    pub location: Location,
    /// Which of the systems on the disks it belongs to; 0 is the machine's own.
    pub system: usize,
    /// What it told.
    pub what: T,
}

/// Which file a [`Release`] is from; the first in this order is believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
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
#[derive(Debug, Clone, PartialEq, Eq)]
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
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
#[derive(Debug, Clone)]
pub struct PackageDatabase {
    /// Who keeps it.
    pub kind: DatabaseKind,
    /// What it lists.
    pub content: Result<Parsed, FsError>,
    /// A fault of a file beside it: of the write-ahead log, for one.
    pub beside: Option<Fault>,
}

/// A folder that holds one layer of a container's files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContainerLayers {
    /// The runtime whose storage it is: `docker`, `containerd`, `containers-storage`.
    pub runtime: &'static str,
}

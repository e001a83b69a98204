//! What operating system package managers say is installed: the databases of dpkg, apk and rpm.
//!
//! Each reader takes the open file ([`FileContent`](stillframe_fs::FileContent)) and gives a [`Parsed`]: the packages
//! that were whole, and the faults that were met. Files are read in pieces, never as a whole, and every count, length
//! and size is capped; a file of any size costs a few megabytes besides the packages it names.
//!
//! Only what identifies a package is kept. Maintainers, descriptions and file lists are passed over.
//!
//! Not supported: pacman, portage, snap, flatpak; rollback journals of SQLite (rpm keeps its database in WAL mode);
//! encrypted or checksummed Berkeley databases (rpm makes none); dpkg's `updates` folder, where it keeps the changes of
//! a run that has not ended.

mod collector;
mod lines;
mod paragraphs;
mod text;

pub mod apk;
pub mod dpkg;
pub mod rpm;

use serde::{Deserialize, Serialize};
use stillframe_bytes::Fault;
use stillframe_fs::FsError;

/// The longest name, version or other text of a package, in bytes.
pub const MAX_TEXT_BYTES: usize = 255;

/// How many packages one database may name; the largest distributions have about 70,000.
pub const MAX_PACKAGES: usize = 100_000;

/// How much text all packages of one database may have, in bytes.
pub const MAX_TOTAL_TEXT_BYTES: usize = 32 << 20;

/// How many faults are kept with their place; more are only counted.
pub const MAX_FAULTS_KEPT: usize = 64;

/// How many faults end the reading of a database.
pub const MAX_FAULTS: u64 = 100_000;

/// The longest text database (dpkg, apk) that is read, in bytes; a machine with every package of Debian has 70 MB.
pub const MAX_TEXT_DATABASE_BYTES: u64 = 128 << 20;

/// A package that is installed. Texts are UTF-8, not empty, at most [`MAX_TEXT_BYTES`] long, and free of control
/// characters and of those that change the direction of text.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct OsPackage {
    /// The name of the binary package.
    pub name: String,
    /// The version: dpkg and apk as written, with a dpkg epoch in it; rpm `version-release`, without the epoch.
    pub version: String,
    /// rpm's epoch, where it has one. dpkg's is in the version.
    pub epoch: Option<u32>,
    /// The architecture as the package manager calls it.
    pub architecture: Option<String>,
    /// The source package: dpkg's `Source`, apk's origin. `None` where it has the binary package's name (dpkg) or is
    /// not told. rpm has [`OsPackage::source_rpm`].
    pub source_name: Option<String>,
    /// The version of the source package where dpkg tells one that differs.
    pub source_version: Option<String>,
    /// The file name of the source rpm.
    pub source_rpm: Option<String>,
    /// rpm's module label, `name:stream:version:context`.
    pub module: Option<String>,
    /// The organisation that rpm names as vendor.
    pub vendor: Option<String>,
    /// Set on `gpg-pubkey` entries: rpm lists them, and they are keys, not software.
    pub public_key: bool,
}

/// What a database says, as far as it could be read.
#[derive(Debug, Clone, Default)]
pub struct Parsed {
    /// The installed packages in the order of the database. Nothing is sorted and nothing merged.
    pub packages: Vec<OsPackage>,
    /// What is wrong with the database; the first [`MAX_FAULTS_KEPT`]. A package whose name,
    /// version or other kept field has one is left out (but for rpm's vendor: then that is).
    pub faults: Vec<Fault>,
    /// How many faults there were in all.
    pub fault_count: u64,
    /// How many packages the database names that are not installed (dpkg: any state but `installed`).
    pub not_installed: u64,
    /// Which states those have. dpkg only.
    pub states: dpkg::StateCounts,
    /// Which of rpm's databases it is.
    pub backend: Option<rpm::Backend>,
    /// Why reading ended before the end of the database: a cap of ours, or the file could not be read further.
    pub stopped_by: Option<FsError>,
}

impl Parsed {
    /// Whether the whole database was read and nothing in it was wrong.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.fault_count == 0 && self.stopped_by.is_none()
    }
}

/// A length as a file offset.
pub(crate) fn offset_of(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}

/// A number of the disk as a length in memory. What does not fit becomes a length that nothing has.
pub(crate) fn length_of(number: impl TryInto<usize>) -> usize {
    number.try_into().unwrap_or(usize::MAX)
}

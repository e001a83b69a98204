//! rpm's databases: `Packages` (Berkeley DB hash, to about 2020), `Packages.db` (NDB, SUSE), `rpmdb.sqlite` (SQLite).
//! They lie in `var/lib/rpm` or `usr/lib/sysimage/rpm`.
//!
//! All three hold the same thing: one header for each installed package, under a number. Which one a file is, its first
//! bytes say. The secondary indexes beside them are not needed, and not read.

mod berkeley;
mod blob;
mod cached;
mod header;
mod ndb;
mod sqlite;

use stillframe_bytes::Fault;
use stillframe_fs::{FileContent, FsError, read_full};

use crate::collector::Collector;
use crate::{Parsed, length_of, offset_of};

/// Which of rpm's databases a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Backend {
    /// `Packages`: a Berkeley DB hash of either byte order.
    BerkeleyDb,
    /// `Packages.db`: rpm's own.
    Ndb,
    /// `rpmdb.sqlite`.
    Sqlite,
}

impl Backend {
    /// What `rpm --eval %{_db_backend}` calls it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::BerkeleyDb => "bdb",
            Self::Ndb => "ndb",
            Self::Sqlite => "sqlite",
        }
    }

    /// Which database begins with these bytes; the first 20 are enough.
    #[must_use]
    pub fn recognise(beginning: &[u8]) -> Option<Self> {
        if beginning.starts_with(sqlite::MAGIC) {
            return Some(Self::Sqlite);
        }
        if beginning.starts_with(ndb::MAGIC) {
            return Some(Self::Ndb);
        }
        berkeley::is_hash(beginning).then_some(Self::BerkeleyDb)
    }
}

/// Reads an rpm database. `wal` is the file beside an SQLite database with `-wal` behind its name, where there is one:
/// on a machine that runs, the newest packages may be in it alone.
///
/// # Errors
/// [`FsError::Corrupt`] where `database` begins as none of the three or its own description is damaged,
/// [`FsError::Unsupported`] where it uses what rpm does not, else what `database` fails with before a package can be
/// read; what the files fail with later is in [`Parsed::stopped_by`].
pub fn read(database: &mut dyn FileContent, wal: Option<&mut dyn FileContent>) -> Result<Parsed, FsError> {
    let mut beginning = [0; 32];
    let read = read_full(database, 0, &mut beginning)?;
    let beginning = beginning.get(..read).unwrap_or_default();
    let mut collector = Collector::default();
    collector.parsed.backend = Backend::recognise(beginning);
    match collector.parsed.backend {
        Some(Backend::BerkeleyDb) => berkeley::read(database, &mut collector)?,
        Some(Backend::Ndb) => ndb::read(database, &mut collector)?,
        Some(Backend::Sqlite) => sqlite::read(database, wal, &mut collector)?,
        None => return Err(Fault::new("rpm database", 0, "a known magic number", "another").into()),
    }
    Ok(collector.parsed)
}

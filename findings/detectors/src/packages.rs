//! Package databases of the operating system.

use stillframe_bytes::Fault;
use stillframe_fs::{FileContent, FsError};
use stillframe_model::Scanner;
use stillframe_packages::{Parsed, apk, dpkg, rpm};

use crate::{
    DatabaseKind, Delivered, Detector, Fact, FileSet, Found, Interest, PackageDatabase, Pattern, Sourced,
};

fn push(found: &Found<'_>, database: PackageDatabase, facts: &mut Vec<Sourced<Fact>>) {
    facts.push(found.fact(Fact::Packages(database)));
}

/// dpkg: `status`, and `status.d` of images that were put together without dpkg.
pub(crate) struct Dpkg;

const STATUS_D: &str = "/var/lib/dpkg/status.d";

impl Detector for Dpkg {
    fn name(&self) -> &'static str {
        "dpkg"
    }

    fn scanner(&self) -> Scanner {
        Scanner::Inventory
    }

    fn interests(&self) -> Vec<Interest> {
        vec![Interest::open(Pattern::Path("/var/lib/dpkg/status")), Interest::open(Pattern::In(STATUS_D))]
    }

    fn inspect(
        &self,
        found: &Found<'_>,
        content: Delivered<'_>,
        facts: &mut Vec<Sourced<Fact>>,
    ) -> Result<(), FsError> {
        let Delivered::Open(file, _) = content else { return Ok(()) };
        let content = if found.folder() == STATUS_D.as_bytes() {
            // Beside each package lie its checksums.
            if found.name.ends_with(b".md5sums") {
                return Ok(());
            }
            dpkg::read_status_d(file).map(cut_status_d)
        } else {
            dpkg::read(file)
        };
        push(found, PackageDatabase::new(DatabaseKind::Dpkg, content), facts);
        Ok(())
    }
}

/// A file there is of one package. Many names of one long list would otherwise multiply in memory.
const MAX_STATUS_D_PACKAGES: usize = 16;

fn cut_status_d(mut parsed: Parsed) -> Parsed {
    if parsed.packages.len() > MAX_STATUS_D_PACKAGES {
        parsed.packages.truncate(MAX_STATUS_D_PACKAGES);
        parsed.packages.shrink_to_fit();
        let cap = u64::try_from(MAX_STATUS_D_PACKAGES).unwrap_or(u64::MAX);
        parsed.stopped_by.get_or_insert(FsError::Limit { what: "packages in a file of status.d", cap });
    }
    parsed
}

/// apk: `installed`.
pub(crate) struct Apk;

impl Detector for Apk {
    fn name(&self) -> &'static str {
        "apk"
    }

    fn scanner(&self) -> Scanner {
        Scanner::Inventory
    }

    fn interests(&self) -> Vec<Interest> {
        ["/lib/apk/db/installed", "/usr/lib/apk/db/installed"]
            .map(|path| Interest::open(Pattern::Path(path)))
            .to_vec()
    }

    fn inspect(
        &self,
        found: &Found<'_>,
        content: Delivered<'_>,
        facts: &mut Vec<Sourced<Fact>>,
    ) -> Result<(), FsError> {
        let Delivered::Open(file, _) = content else { return Ok(()) };
        push(found, PackageDatabase::new(DatabaseKind::Apk, apk::read(file)), facts);
        Ok(())
    }
}

/// rpm, in whichever database its version keeps.
pub(crate) struct Rpm;

impl Detector for Rpm {
    fn name(&self) -> &'static str {
        "rpm"
    }

    fn scanner(&self) -> Scanner {
        Scanner::Inventory
    }

    fn interests(&self) -> Vec<Interest> {
        [
            "/var/lib/rpm/Packages",
            "/var/lib/rpm/Packages.db",
            "/var/lib/rpm/rpmdb.sqlite",
            "/usr/lib/sysimage/rpm/Packages",
            "/usr/lib/sysimage/rpm/Packages.db",
            "/usr/lib/sysimage/rpm/rpmdb.sqlite",
            "/usr/share/rpm/Packages",
            "/usr/share/rpm/rpmdb.sqlite",
        ]
        .map(|path| Interest::open(Pattern::Path(path)))
        .to_vec()
    }

    fn inspect(
        &self,
        found: &Found<'_>,
        content: Delivered<'_>,
        facts: &mut Vec<Sourced<Fact>>,
    ) -> Result<(), FsError> {
        let Delivered::Open(file, beside) = content else { return Ok(()) };
        push(found, read_rpm(found, file, beside), facts);
        Ok(())
    }
}

fn read_rpm(found: &Found<'_>, file: &mut dyn FileContent, beside: &dyn FileSet) -> PackageDatabase {
    if found.name != b"rpmdb.sqlite" {
        return PackageDatabase::new(DatabaseKind::Rpm, rpm::read(file, None));
    }
    match beside.open_beside(b"rpmdb.sqlite-wal") {
        Ok(mut log) => {
            let content = rpm::read(file, log.as_mut().map(|log| &mut **log as &mut dyn FileContent));
            PackageDatabase::new(DatabaseKind::Rpm, content)
        }
        // The log is there and cannot be read: what the database says may be old.
        Err(error) => {
            let fault = match error {
                FsError::Corrupt(fault) => fault,
                _ => Fault::new("write-ahead log", 0, "applied", "not readable"),
            };
            PackageDatabase::new(DatabaseKind::Rpm, rpm::read(file, None)).with_fault_beside(&fault)
        }
    }
}

#[cfg(test)]
mod tests {
    use stillframe_packages::OsPackage;

    use super::*;

    #[test]
    fn a_file_of_status_d_is_of_few_packages() {
        let parsed = |count| Parsed { packages: vec![OsPackage::default(); count], ..Parsed::default() };
        assert!(cut_status_d(parsed(MAX_STATUS_D_PACKAGES)).is_complete());
        let cut = cut_status_d(parsed(1000));
        assert_eq!(cut.packages.len(), MAX_STATUS_D_PACKAGES);
        assert!(!cut.is_complete());
    }
}

//! Package databases that others made, inside a filesystem of their machine: what a scan lists is what their own tool
//! lists.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::disks::tool;
use crate::harness::{Place, corpora, ext_image, rows_of};
use crate::purl::Purl;

const MARINER: &str = "ID=mariner\nVERSION_ID=\"2.0\"\n";
const SUSE: &str = "ID=\"sles\"\nVERSION_ID=\"15.3\"\n";
const RHEL: &str = "ID=\"rhel\"\nVERSION_ID=\"8.8\"\n";
const DEBIAN: &str = "ID=debian\nVERSION_ID=\"12\"\n";
const ALPINE: &str = "ID=alpine\nVERSION_ID=3.18.4\n";

/// Name, version with its epoch, architecture.
type Listed = [String; 3];

fn listed<const COLUMNS: usize>(columns: [&str; COLUMNS]) -> Listed {
    let [name, version, architecture] = columns.get(..3).unwrap() else { panic!("three columns") };
    [(*name).to_owned(), (*version).to_owned(), (*architecture).to_owned()]
}

/// Builds a machine of `os_release` and files, and scans it: the packages, the rows, the exit code.
struct Scan {
    report: Value,
    code: i32,
}

impl Scan {
    fn of(os_release: &str, files: &[(&str, &Path)]) -> Self {
        let place = Place::new();
        let tree = place.path("tree");
        write(&tree.join("etc/os-release"), os_release.as_bytes());
        for (path, source) in files {
            write(&tree.join(path), &unpacked(source));
        }
        let (report, code) = place.scan(&ext_image(&place, &tree, "ext4"));
        Self { report, code }
    }

    /// The packages, each with a purl that says what it is.
    fn packages(&self, kind: &str, namespace: &str, distro: &str) -> Vec<Listed> {
        let packages = self.report["packages"].as_array().unwrap();
        let mut found: Vec<_> = packages
            .iter()
            .map(|package| {
                let text = |field: &str| package[field].as_str().unwrap_or_default();
                let purl = Purl::parse(text("purl"));
                assert_eq!([&*purl.kind, &*purl.namespace], [kind, namespace], "{package}");
                assert_eq!(purl.qualifier("distro"), Some(distro), "{package}");
                assert_eq!(purl.qualifier("arch").unwrap_or_default(), text("architecture"), "{package}");
                assert_eq!(
                    (&*purl.name, &*purl.full_version()),
                    (text("name"), text("version")),
                    "{package}"
                );
                listed([text("name"), text("version"), text("architecture")])
            })
            .collect();
        found.sort();
        found
    }

    fn database_rows(&self) -> Vec<String> {
        rows_of(&self.report).into_iter().filter(|row| row.starts_with("package_database")).collect()
    }

    fn assert_complete(&self, what: &str) {
        assert_eq!(self.code, 0, "{what}: {:#?}", rows_of(&self.report));
    }
}

fn write(path: &Path, content: &[u8]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

/// A file of the corpora, or what its `.xz` holds.
fn unpacked(path: &Path) -> Vec<u8> {
    let packed = PathBuf::from(format!("{}.xz", path.display()));
    if !packed.exists() {
        return fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }
    let output = Command::new("xz").arg("-dc").arg(&packed).output().unwrap();
    assert!(output.status.success(), "{}", packed.display());
    output.stdout
}

/// The packages of a list of rpm's: name, epoch, version, release, architecture.
fn rpm_list(text: &str) -> Vec<Listed> {
    let mut packages: Vec<_> = text
        .lines()
        .filter(|line| !line.starts_with("name\tepoch"))
        .map(|line| line.split('\t').collect::<Vec<_>>())
        .map(|fields| {
            let [name, epoch, version, release, architecture] = fields[..5] else { panic!("{fields:?}") };
            // An epoch of 0 says the same as none.
            let epoch = if matches!(epoch, "(none)" | "0") { String::new() } else { format!("{epoch}:") };
            listed([name, &format!("{epoch}{version}-{release}"), architecture])
        })
        // Keys are kept among the packages.
        .filter(|package| package[0] != "gpg-pubkey")
        .collect();
    packages.sort();
    packages
}

#[test]
fn rpm_in_each_of_its_databases() {
    let Some(corpora) = corpora() else { return };
    let rpmdb = corpora.join("rpmdb");
    let list = |path: &str| rpm_list(&fs::read_to_string(rpmdb.join(path)).unwrap());
    let mariner = list("derived/cbl-mariner-2.0.expected.tsv");
    let sle = list("go-rpmdb-expected/SLE15WithNDB.tsv");
    assert_eq!((mariner.len(), sle.len()), (129, 35));
    // What rpm itself lists (`rpm -qa --dbpath`).
    let libuuid = vec![listed(["libuuid", "2.32.1-42.el8_8", "x86_64"])];
    let epoch = vec![listed(["hello", "1:0.0.1-rls", "x86_64"])];
    for (database, path, os, vendor, expected) in [
        ("derived/cbl-bdb-le.Packages", "var/lib/rpm/Packages", MARINER, MARINER_2, &mariner),
        ("derived/cbl-bdb-be.Packages", "var/lib/rpm/Packages", MARINER, MARINER_2, &mariner),
        ("go-rpmdb/cbl-mariner-2.0/rpmdb.sqlite", "var/lib/rpm/rpmdb.sqlite", MARINER, MARINER_2, &mariner),
        (
            "go-rpmdb/cbl-mariner-2.0/rpmdb.sqlite",
            "usr/lib/sysimage/rpm/rpmdb.sqlite",
            MARINER,
            MARINER_2,
            &mariner,
        ),
        ("go-rpmdb/sle15-bci/Packages.db", "usr/lib/sysimage/rpm/Packages.db", SUSE, SLES_15, &sle),
        ("go-rpmdb/sle15-bci/Packages.db", "var/lib/rpm/Packages.db", SUSE, SLES_15, &sle),
        ("go-rpmdb/libuuid/Packages", "var/lib/rpm/Packages", RHEL, RHEL_8, &libuuid),
        ("scalibr/Packages_epoch", "var/lib/rpm/Packages", RHEL, RHEL_8, &epoch),
    ] {
        let scan = Scan::of(os, &[(path, &rpmdb.join(database))]);
        assert_eq!(scan.packages("rpm", vendor[0], vendor[1]), *expected, "{database}");
        assert_eq!(scan.database_rows(), [format!("package_database rpm /{path} in disk0 scanned")]);
        scan.assert_complete(database);
    }
}

const MARINER_2: [&str; 2] = ["mariner", "mariner-2.0"];
const SLES_15: [&str; 2] = ["suse", "sles-15.3"];
const RHEL_8: [&str; 2] = ["redhat", "rhel-8.8"];

/// A machine that ran: its last transaction is in the write-ahead log. sqlite3 removes packages, and a copy is taken
/// before the log is applied; rpm says what is left.
#[test]
fn rpm_with_a_write_ahead_log() {
    let Some(corpora) = corpora() else { return };
    let place = Place::new();
    let database = place.path("rpmdb.sqlite");
    fs::write(&database, unpacked(&corpora.join("rpmdb/go-rpmdb/cbl-mariner-2.0/rpmdb.sqlite"))).unwrap();
    let copy = place.path("copy");
    fs::create_dir(&copy).unwrap();
    let shell = format!(".shell cp {0} {0}-wal {1}", database.display(), copy.display());
    tool(
        "sqlite3",
        &[
            database.to_str().unwrap(),
            "PRAGMA journal_mode=wal",
            "PRAGMA wal_autocheckpoint=0",
            "DELETE FROM Packages WHERE hnum % 5 = 0",
            &shell,
        ],
    );
    let [file, log] = ["rpmdb.sqlite", "rpmdb.sqlite-wal"].map(|name| copy.join(name));
    let with_log =
        Scan::of(MARINER, &[("var/lib/rpm/rpmdb.sqlite", &file), ("var/lib/rpm/rpmdb.sqlite-wal", &log)]);
    with_log.assert_complete("with its log");
    let without = Scan::of(MARINER, &[("var/lib/rpm/rpmdb.sqlite", &file)]);

    // rpm applies the log to the copy, so it comes last.
    let format = "%{NAME}\\t%{EPOCH}\\t%{VERSION}\\t%{RELEASE}\\t%{ARCH}\\n";
    let define = "_db_backend sqlite";
    let query = tool("rpm", &["--define", define, "--dbpath", copy.to_str().unwrap(), "-qa", "--qf", format]);
    let expected = rpm_list(&query);
    assert_eq!(expected.len(), 104);
    assert_eq!(with_log.packages("rpm", "mariner", "mariner-2.0"), expected);
    assert_eq!(without.packages("rpm", "mariner", "mariner-2.0").len(), 129);
}

#[test]
fn rpm_databases_that_say_nothing_are_named() {
    let Some(corpora) = corpora() else { return };
    let rpmdb = corpora.join("rpmdb");
    for (database, path, reason) in [
        ("scalibr/invalid", "var/lib/rpm/Packages", "corrupt: it could not be read"),
        ("scalibr/empty.sqlite", "var/lib/rpm/rpmdb.sqlite", "corrupt: it could not be read"),
        (
            "expected-only-snyk/fixtures/rpm4_empty",
            "var/lib/rpm/Packages",
            "partial: lists no installed package",
        ),
    ] {
        let scan = Scan::of(RHEL, &[(path, &rpmdb.join(database))]);
        assert_eq!(scan.database_rows(), [format!("package_database rpm /{path} in disk0 {reason}")]);
        assert_eq!(scan.code, 2, "{database}");
    }
}

/// What dpkg-query says of a `status` file.
fn dpkg_list(status: &[u8]) -> Vec<Listed> {
    let place = Place::new();
    write(&place.path("dpkg/status"), status);
    fs::create_dir_all(place.path("dpkg/info")).unwrap();
    fs::create_dir_all(place.path("dpkg/updates")).unwrap();
    let folder = format!("--admindir={}", place.path("dpkg").display());
    let format = "-f=${db:Status-Status}\\t${Package}\\t${Version}\\t${Architecture}\\n";
    let text = tool("dpkg-query", &[&folder, "-W", format]);
    let installed = text.lines().filter_map(|line| line.strip_prefix("installed\t"));
    let mut packages: Vec<_> = installed
        .map(|line| {
            let [name, version, architecture] = line.split('\t').collect::<Vec<_>>()[..] else {
                panic!("{line}")
            };
            listed([name, version, architecture])
        })
        .collect();
    packages.sort();
    packages
}

#[test]
fn dpkg_as_dpkg_query_lists_it() {
    let Some(corpora) = corpora() else { return };
    for (status, installed) in [
        ("debian12-minbase/var/lib/dpkg/status", 96),
        ("ospkg/claircore/dpkg/testdata/texlive.status", 357),
        ("ospkg/claircore/dpkg/testdata/postgresql.status", 3),
        ("ospkg/claircore/dpkg/testdata/debian-only.status", 1),
        ("ospkg/scalibr/dpkg/testdata/dpkg/valid", 7),
        ("ospkg/scalibr/dpkg/testdata/dpkg/single", 1),
        ("ospkg/scalibr/dpkg/testdata/dpkg/transitional", 1),
        ("ospkg/scalibr/dpkg/testdata/dpkg/trailingnewlines", 1),
    ] {
        let expected = dpkg_list(&unpacked(&corpora.join(status)));
        let scan = Scan::of(DEBIAN, &[("var/lib/dpkg/status", &corpora.join(status))]);
        assert_eq!(scan.packages("deb", "debian", "debian-12"), expected, "{status}");
        assert_eq!(expected.len(), installed, "{status}");
        scan.assert_complete(status);
    }
}

/// The source packages, which advisories go by.
#[test]
fn dpkg_with_its_source_packages() {
    let Some(corpora) = corpora() else { return };
    let folder = corpora.join("debian12-minbase");
    let os_release = fs::read_to_string(folder.join("usr/lib/os-release")).unwrap();
    let scan = Scan::of(&os_release, &[("var/lib/dpkg/status", &folder.join("var/lib/dpkg/status"))]);
    let mut found: Vec<_> = scan.report["packages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|package| {
            let text = |field: &str| package[field].as_str();
            let [name, version] = ["name", "version"].map(|field| text(field).unwrap());
            let source = text("source_name").unwrap_or(name);
            let source_version = text("source_version").unwrap_or(version);
            format!("{name}\t{version}\t{}\t{source}\t{source_version}", text("architecture").unwrap())
        })
        .collect();
    found.sort();
    let text = fs::read_to_string(folder.join("expected-dpkg-query.tsv")).unwrap();
    let mut expected: Vec<_> = text.lines().map(str::to_owned).collect();
    expected.sort();
    assert_eq!(found, expected);
    scan.assert_complete("minbase");
}

/// Images that were put together without dpkg keep a file for each package.
#[test]
fn dpkg_status_d() {
    let Some(corpora) = corpora() else { return };
    let ospkg = corpora.join("ospkg");
    let distroless = ospkg.join("syft/debian/testdata/image-distroless-deb/var/lib/dpkg/status.d");
    let scan = Scan::of(
        DEBIAN,
        &[
            ("var/lib/dpkg/status.d/libsqlite3-0", &distroless.join("libsqlite3-0")),
            ("var/lib/dpkg/status.d/libsqlite3-0.md5sums", &distroless.join("libsqlite3-0.md5sums")),
            ("var/lib/dpkg/status.d/foo", &ospkg.join("scalibr/dpkg/testdata/dpkg/status.d/foo")),
        ],
    );
    let expected = [listed(["foo", "1.2.3", "amd64"]), listed(["libsqlite3-0", "3.34.1-3", "arm64"])];
    assert_eq!(scan.packages("deb", "debian", "debian-12"), expected);
    assert_eq!(scan.database_rows(), ["package_database dpkg /var/lib/dpkg/status.d in disk0 scanned"]);
    scan.assert_complete("status.d");
}

#[test]
fn apk_as_its_own_lines_list_it() {
    let Some(corpora) = corpora() else { return };
    for (installed, count) in [
        ("scalibr/apk/testdata/installed", 15),
        ("scalibr/apk/testdata/single", 1),
        ("scalibr/apk/testdata/different-arch", 1),
        ("syft/alpine/testdata/multiple-1/lib/apk/db/installed", 4),
        ("syft/alpine/testdata/multiple-2/lib/apk/db/installed", 14),
    ] {
        let source = corpora.join("ospkg").join(installed);
        let text = String::from_utf8(unpacked(&source)).unwrap();
        let expected = apk_list(&text);
        for path in ["lib/apk/db/installed", "usr/lib/apk/db/installed"] {
            let scan = Scan::of(ALPINE, &[(path, &source)]);
            assert_eq!(scan.packages("apk", "alpine", "alpine-3.18.4"), expected, "{installed}");
            scan.assert_complete(installed);
        }
        assert_eq!(expected.len(), count, "{installed}");
    }
}

/// Each paragraph's lines `P:`, `V:` and `A:`.
fn apk_list(text: &str) -> Vec<Listed> {
    let mut packages: Vec<_> = text
        .split("\n\n")
        .filter(|paragraph| !paragraph.trim().is_empty())
        .map(|paragraph| {
            let field = |letter: &str| paragraph.lines().find_map(|line| line.strip_prefix(letter));
            listed(["P:", "V:", "A:"].map(|letter| field(letter).unwrap()))
        })
        .collect();
    packages.sort();
    packages
}

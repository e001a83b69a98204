//! Databases that rpm, SQLite and Berkeley DB make here, against `rpm -qa`.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

use stillframe_packages::rpm;

use crate::support::{
    cut, have, is_installed, output, parse_rpm, rpm_line, rpm_lines, rpm_query, run_with_input, sorted,
    testdata,
};

/// Headers of some twenty packages, one with thousands of files, as rpm's SQLite backend stored them, with the database
/// and what rpm lists.
pub(crate) struct Made {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) headers: Vec<Vec<u8>>,
    pub(crate) expected: Vec<String>,
}

/// Made once for all tests; `None` where the tools are not installed.
pub(crate) fn made() -> Option<&'static Made> {
    static MADE: OnceLock<Option<Made>> = OnceLock::new();
    MADE.get_or_init(|| have(&["rpm", "rpmbuild", "sqlite3"]).then(make)).as_ref()
}

fn make() -> Made {
    let folder = tempfile::tempdir().unwrap();
    let mut spec =
        "Name: first\nVersion: 1.0\nRelease: 1.el9\nEpoch: 7\nSummary: x\nLicense: x\nVendor: Tests GmbH\n\
                    ModularityLabel: first:rhel9:1:abc\n%description\nx\n%files\n"
            .to_owned();
    for file in 0..4000 {
        writeln!(spec, "%ghost /opt/first/a-long-folder-name/file-{file}").unwrap();
    }
    for number in 0..20 {
        let epoch = if number % 3 == 0 { format!("Epoch: {number}\n") } else { String::new() };
        let arch = if number % 2 == 0 { "BuildArch: noarch\n" } else { "" };
        let description = "words ".repeat(number * number * 4);
        write!(
            spec,
            "%package -n p{number}\nSummary: x\nVersion: 0.{number}^git1\nRelease: {number}%{{?dist}}\n{epoch}{arch}\
             %description -n p{number}\n{description}\n%files -n p{number}\n"
        )
        .unwrap();
    }
    std::fs::write(folder.path().join("first.spec"), spec).unwrap();
    let topdir = format!("_topdir {}/build", folder.path().display());
    let mut rpmbuild = Command::new("rpmbuild");
    rpmbuild.args(["--quiet", "-bb", "--define", &topdir, "first.spec"]).current_dir(&folder);
    output(&mut rpmbuild);

    let database = folder.path().join("sqlite");
    std::fs::create_dir(&database).unwrap();
    let rpm = || {
        let mut command = Command::new("rpm");
        command.args(["--define", "_db_backend sqlite", "--dbpath"]).arg(&database);
        command
    };
    output(rpm().arg("--initdb"));
    let packages: Vec<_> =
        output(Command::new("find").arg(folder.path().join("build/RPMS")).args(["-name", "*.rpm"]))
            .lines()
            .map(str::to_owned)
            .collect();
    assert_eq!(packages.len(), 21);
    output(
        rpm()
            .args(["-i", "--justdb", "--nodeps", "--noscripts", "--nosignature", "--ignorearch"])
            .args(packages),
    );
    import_key(folder.path(), &database);
    let expected = rpm_query(&database, "sqlite");
    let query = "SELECT hex(blob) FROM Packages ORDER BY hnum";
    let headers = output(Command::new("sqlite3").arg(database.join("rpmdb.sqlite")).arg(query));
    let headers = headers.lines().map(unhex).collect();
    Made { folder, headers, expected }
}

/// Imports a key that is made for this, where gpg is installed.
fn import_key(folder: &Path, database: &Path) {
    if !is_installed("gpg") {
        return;
    }
    let home = folder.join("gnupg");
    std::fs::create_dir(&home).unwrap();
    let gpg = || {
        let mut command = Command::new("gpg");
        command.args(["--batch", "--quiet", "--no-permission-warning", "--homedir"]).arg(&home);
        command
    };
    output(gpg().args([
        "--passphrase",
        "",
        "--quick-gen-key",
        "tests@example.org",
        "rsa2048",
        "sign",
        "never",
    ]));
    let key = output(gpg().args(["--armor", "--export", "tests@example.org"]));
    std::fs::write(folder.join("key.asc"), key).unwrap();
    let mut import = Command::new("rpm");
    import.args(["--define", "_db_backend sqlite", "--dbpath"]).arg(database).arg("--import");
    output(import.arg(folder.join("key.asc")));
    let _ = Command::new("gpgconf").arg("--homedir").arg(&home).args(["--kill", "all"]).status();
}

fn unhex(line: &str) -> Vec<u8> {
    line.as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

#[test]
fn sqlite_as_rpm_makes_it() {
    let Some(made) = made() else { return };
    let database = std::fs::read(made.folder.path().join("sqlite/rpmdb.sqlite")).unwrap();
    assert_eq!(rpm_lines(&database, None), made.expected);
    assert!(made.expected.len() >= 21);
    let parsed = parse_rpm(&database, None).unwrap();
    assert_eq!(parsed.backend, Some(rpm::Backend::Sqlite));
    for package in &parsed.packages {
        assert_eq!(package.public_key, package.name == "gpg-pubkey");
    }
    if is_installed("gpg") {
        assert_eq!(parsed.packages.iter().filter(|package| package.public_key).count(), 1);
    }
}

/// The same rows with other page sizes and reserved bytes, by SQLite itself.
#[test]
fn sqlite_page_sizes_and_reserved_bytes() {
    let Some(made) = made() else { return };
    for (page_bytes, reserved) in [
        (512, 0),
        (512, 32),
        (1024, 8),
        (2048, 0),
        (4096, 255),
        (8192, 0),
        (16384, 12),
        (32768, 0),
        (65536, 0),
        (65536, 255),
    ] {
        let path = made.folder.path().join(format!("pages-{page_bytes}-{reserved}.sqlite"));
        std::fs::copy(made.folder.path().join("sqlite/rpmdb.sqlite"), &path).unwrap();
        let script = format!(
            "PRAGMA journal_mode = DELETE;\nPRAGMA page_size = {page_bytes};\nVACUUM;\n\
             .filectrl reserve_bytes {reserved}\nVACUUM;\n"
        );
        run_with_input(Command::new("sqlite3").arg(&path), script.as_bytes());
        let database = std::fs::read(&path).unwrap();
        let found = u32::from(u16::from_be_bytes([database[16], database[17]]));
        assert_eq!(if found == 1 { 65536 } else { found }, page_bytes);
        assert_eq!(database[20], reserved);
        assert_eq!(rpm_lines(&database, None), made.expected, "{page_bytes} {reserved}");
    }
}

/// Thousands of rows, deleted ones among them, so that the b-tree has interior pages of more than one level.
#[test]
fn sqlite_deep_tree() {
    let Some(made) = made() else { return };
    let path = made.folder.path().join("deep.sqlite");
    let source = made.folder.path().join("sqlite/rpmdb.sqlite");
    let script = format!(
        "PRAGMA page_size = 512;\nATTACH '{}' AS source;\n\
         CREATE TABLE other (a TEXT);\nCREATE TABLE Packages (hnum INTEGER PRIMARY KEY AUTOINCREMENT, blob BLOB NOT NULL);\n\
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 9000)\n\
         INSERT INTO Packages SELECT i * 1000, (SELECT blob FROM source.Packages WHERE hnum = i % 8 + 3) FROM n;\n\
         DELETE FROM Packages WHERE hnum % 7000 = 0;\nSELECT count(*) FROM Packages;\n",
        source.display()
    );
    let count = run_with_input(Command::new("sqlite3").arg(&path), script.as_bytes());
    let lines = rpm_lines(&std::fs::read(&path).unwrap(), None);
    assert_eq!(lines.len(), count.trim().parse::<usize>().unwrap());
    assert_eq!(lines.len(), 9000 - 9000 / 7);
}

/// A Berkeley DB hash of `pairs`, made by `db5.3_load`.
fn berkeley_db(folder: &Path, name: &str, options: &str, pairs: &[(u32, &[u8])]) -> Vec<u8> {
    let hex = |bytes: &[u8]| bytes.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"));
    let mut text = format!("VERSION=3\nformat=bytevalue\ntype=hash\n{options}HEADER=END\n");
    for (number, header) in pairs {
        writeln!(text, " {}\n {}", hex(&number.to_le_bytes()), hex(header)).unwrap();
    }
    text += "DATA=END\n";
    let path = folder.join(name);
    run_with_input(Command::new("db5.3_load").arg(&path), text.as_bytes());
    std::fs::read(&path).unwrap()
}

/// All headers under numbers from 1 on, and rpm's highest number under 0.
fn numbered(headers: &[Vec<u8>]) -> Vec<(u32, &[u8])> {
    let zero = (0, &[21, 0, 0, 0][..]);
    std::iter::once(zero).chain((1..).zip(headers.iter().map(Vec::as_slice))).collect()
}

#[test]
fn berkeley_db_page_sizes_and_byte_orders() {
    let Some(made) = made() else { return };
    if !have(&["db5.3_load"]) {
        return;
    }
    for order in [1234, 4321] {
        for page_bytes in [512, 1024, 4096, 16384, 65536] {
            let options = format!("db_lorder={order}\ndb_pagesize={page_bytes}\n");
            let name = format!("bdb-{order}-{page_bytes}");
            let database = berkeley_db(made.folder.path(), &name, &options, &numbered(&made.headers));
            assert_eq!(rpm_lines(&database, None), made.expected, "{name}");
            if order == 1234 {
                // rpm's read-only reader of these files says the same.
                let folder = made.folder.path().join(format!("{name}.d"));
                std::fs::create_dir(&folder).unwrap();
                std::fs::write(folder.join("Packages"), &database).unwrap();
                assert_eq!(rpm_query(&folder, "bdb_ro"), made.expected, "{name}");
            }
        }
    }
}

#[test]
fn berkeley_db_with_many_buckets() {
    let Some(made) = made() else { return };
    if !have(&["db5.3_load"]) {
        return;
    }
    let small: Vec<_> = made.headers.iter().filter(|header| header.len() < 2500).collect();
    let pairs: Vec<_> =
        (1..=5000).map(|number| (number, small[number as usize % small.len()].as_slice())).collect();
    for page_bytes in [512, 16384] {
        let options = format!("db_pagesize={page_bytes}\n");
        let database = berkeley_db(made.folder.path(), &format!("many-{page_bytes}"), &options, &pairs);
        assert_eq!(rpm_lines(&database, None).len(), 5000);
    }
}

/// rpm does not make these: data of one key on the page (`H_DUPLICATE`) and in a tree (`H_OFFDUP`).
#[test]
fn berkeley_db_duplicates() {
    let Some(made) = made() else { return };
    if !have(&["db5.3_load"]) {
        return;
    }
    for sorted in ["", "dupsort=1\n"] {
        for order in [1234, 4321] {
            for (page_bytes, duplicates) in [(65536, 3), (65536, 21), (4096, 21), (512, 21)] {
                let pairs: Vec<_> =
                    made.headers[..duplicates].iter().map(|header| (5, header.as_slice())).collect();
                let options = format!("db_lorder={order}\ndb_pagesize={page_bytes}\nduplicates=1\n{sorted}");
                let name = format!("dup-{order}-{page_bytes}-{duplicates}-{}", sorted.len());
                let database = berkeley_db(made.folder.path(), &name, &options, &pairs);
                let lines = rpm_lines(&database, None);
                assert_eq!(lines.len(), duplicates, "{name}");
                assert!(lines.iter().all(|line| made.expected.contains(line)));
            }
        }
    }
}

#[test]
fn ndb_with_the_same_headers() {
    let Some(made) = made() else { return };
    // Debian's rpm has no NDB. The container is written here, as the corpus's file of SUSE has it.
    let database = crate::hostile::ndb_database(&made.headers);
    assert_eq!(rpm_lines(&database, None), made.expected);
}

#[test]
fn testdata_lists_are_as_rpm_said() {
    let expected = sorted(String::from_utf8(testdata("expected.tsv")).unwrap().lines().map(str::to_owned));
    assert_eq!(expected.len(), 8);
    for name in ["Packages.db", "Packages.little", "Packages.big"] {
        assert_eq!(rpm_lines(&testdata(name), None), expected, "{name}");
    }
    let (database, wal) = (testdata("rpmdb.sqlite"), testdata("rpmdb.sqlite-wal"));
    assert_eq!(rpm_lines(&database, Some(&wal)), expected);
    // Without the log, the two that only it has are missing, and nothing tells.
    assert_eq!(parse_rpm(&database, None).unwrap().packages.len(), 6);
    assert_eq!(cut(&expected, 1)[0], "alpha");
    assert_eq!(rpm_line(&parse_rpm(&database, Some(&wal)).unwrap().packages[0]).split('\t').count(), 8);
}

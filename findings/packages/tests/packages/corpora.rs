//! Databases that others made, and what others say is in them.

use std::path::Path;

use stillframe_fs::MemoryContent;
use stillframe_packages::{OsPackage, Parsed, apk, dpkg, rpm};

use crate::support::{corpora, cut, parse_rpm, read_corpus, rpm_line, rpm_lines, sorted};

/// Lines of an expected-values file, with the header line that some have left out.
fn expected(path: &Path) -> Vec<String> {
    let text = String::from_utf8(read_corpus(path)).unwrap();
    sorted(text.lines().filter(|line| !line.starts_with("name\tepoch")).map(str::to_owned))
}

#[test]
fn rpm_sle15_ndb() {
    let Some(corpora) = corpora() else { return };
    let database = read_corpus(&corpora.join("rpmdb/go-rpmdb/sle15-bci/Packages.db"));
    let parsed = parse_rpm(&database, None).unwrap();
    assert_eq!(parsed.backend, Some(rpm::Backend::Ndb));
    let lines = rpm_lines(&database, None);
    assert_eq!(lines.len(), 35);
    let expected = expected(&corpora.join("rpmdb/go-rpmdb-expected/SLE15WithNDB.tsv"));
    assert_eq!(cut(&lines, 6), cut(&expected, 6));
    let vendors = |lines: &[String], column: usize| {
        sorted(lines.iter().map(|line| line.split('\t').nth(column).unwrap().to_owned()))
    };
    assert_eq!(vendors(&lines, 6), vendors(&expected, 8));
}

#[test]
fn rpm_mariner_sqlite() {
    let Some(corpora) = corpora() else { return };
    let database = read_corpus(&corpora.join("rpmdb/go-rpmdb/cbl-mariner-2.0/rpmdb.sqlite"));
    let lines = rpm_lines(&database, None);
    assert_eq!(lines.len(), 129);
    assert_eq!(cut(&lines, 7), expected(&corpora.join("rpmdb/derived/cbl-mariner-2.0.expected.tsv")));
}

#[test]
fn rpm_mariner_headers_in_berkeley_db() {
    let Some(corpora) = corpora() else { return };
    let expected = expected(&corpora.join("rpmdb/derived/cbl-mariner-2.0.expected.tsv"));
    assert_eq!(expected.len(), 129);
    for name in ["cbl-bdb-le.Packages", "cbl-bdb-be.Packages"] {
        let database = read_corpus(&corpora.join("rpmdb/derived").join(name));
        assert_eq!(parse_rpm(&database, None).unwrap().backend, Some(rpm::Backend::BerkeleyDb));
        assert_eq!(cut(&rpm_lines(&database, None), 7), expected, "{name}");
    }
}

#[test]
fn rpm_small_berkeley_db() {
    let Some(corpora) = corpora() else { return };
    // What rpm 4.18 lists (`rpm -qa --dbpath`, backend bdb_ro).
    for (path, expected) in [
        (
            "rpmdb/go-rpmdb/libuuid/Packages",
            &["libuuid\t(none)\t2.32.1\t42.el8_8\tx86_64\tutil-linux-2.32.1-42.el8_8.src.rpm"][..],
        ),
        ("rpmdb/syft/Packages", &["dive\t(none)\t0.9.2\t1\tx86_64\tdive-0.9.2-1.src.rpm"]),
        ("rpmdb/scalibr/Packages_epoch", &["hello\t1\t0.0.1\trls\tx86_64\thello-0.0.1-rls.src.rpm"]),
        ("rpmdb/expected-only-snyk/fixtures/rpm4_empty", &[]),
    ] {
        assert_eq!(cut(&rpm_lines(&read_corpus(&corpora.join(path)), None), 6), expected, "{path}");
    }
}

#[test]
fn what_is_no_rpm_database_is_an_error() {
    let Some(corpora) = corpora() else { return };
    for path in [
        "rpmdb/scalibr/empty.sqlite",
        "rpmdb/scalibr/invalid",
        "rpmdb/syft/bad/bad.rpm",
        "rpmdb/claircore/internal/rpm/sqlite/testdata/no_packages.sqlite",
    ] {
        assert!(parse_rpm(&read_corpus(&corpora.join(path)), None).is_err(), "{path}");
    }
}

#[test]
fn rpm_header_of_a_large_package() {
    let Some(corpora) = corpora() else { return };
    let header = read_corpus(&corpora.join("rpmdb/claircore/internal/rpm/rpmdb/testdata/package.header"));
    let database = crate::hostile::ndb_database(std::slice::from_ref(&header));
    let parsed = parse_rpm(&database, None).unwrap();
    assert!(parsed.is_complete(), "{:?}", parsed.faults);
    // The names are the first texts of the store, which `strings` shows in this order.
    let store = 8 + 16 * 78;
    let texts: Vec<_> = header[store + 2..].split(|byte| *byte == 0).take(3).collect();
    let line = rpm_line(&parsed.packages[0]);
    let found: Vec<_> = line.split('\t').collect();
    assert_eq!([found[0], found[2], found[3]].map(str::as_bytes), texts[..], "{line}");
}

fn parse_dpkg(content: Vec<u8>) -> Parsed {
    dpkg::read(&mut MemoryContent(content)).unwrap()
}

#[test]
fn dpkg_debian12() {
    let Some(corpora) = corpora() else { return };
    let parsed = parse_dpkg(read_corpus(&corpora.join("debian12-minbase/var/lib/dpkg/status")));
    assert!(parsed.is_complete());
    assert_eq!((parsed.packages.len(), parsed.not_installed), (96, 0));
    let lines = sorted(parsed.packages.iter().map(|package| {
        let OsPackage { name, version, architecture, source_name, .. } = package;
        let architecture = architecture.as_deref().unwrap();
        let source_name = source_name.as_deref().unwrap_or(name);
        let source_version = package.source_version.as_deref().unwrap_or(version);
        format!("{name}\t{version}\t{architecture}\t{source_name}\t{source_version}")
    }));
    assert_eq!(lines, expected(&corpora.join("debian12-minbase/expected-dpkg-query.tsv")));
}

#[test]
fn dpkg_stanza_counts() {
    let Some(corpora) = corpora() else { return };
    // Stanzas in all: what is installed, what is not, and what has no version (features of vcpkg's packages).
    for (path, stanzas, faults) in [
        ("scalibr/dpkg/testdata/dpkg/valid", 7, 0),
        ("claircore/dpkg/testdata/texlive.status", 357, 0),
        ("claircore/dpkg/testdata/vcpkg.status", 24, 9),
        ("claircore/dpkg/testdata/postgresql.status", 3, 0),
        ("claircore/dpkg/testdata/debian-only.status", 1, 0),
        ("scalibr/dpkg/testdata/dpkg/empty", 0, 0),
        ("scalibr/dpkg/testdata/dpkg/invalid", 2, 2),
        ("scalibr/dpkg/testdata/dpkg/nopackage", 3, 1),
        ("scalibr/dpkg/testdata/dpkg/noversion", 3, 1),
        ("scalibr/dpkg/testdata/dpkg/statusfield", 7, 0),
        ("scalibr/dpkg/testdata/dpkg/trailingnewlines", 1, 0),
    ] {
        let parsed = parse_dpkg(read_corpus(&corpora.join("ospkg").join(path)));
        let sum = parsed.packages.len() as u64 + parsed.not_installed + parsed.fault_count;
        assert_eq!((sum, parsed.fault_count), (stanzas, faults), "{path}: {:?}", parsed.faults);
    }
}

#[test]
fn dpkg_states() {
    let Some(corpora) = corpora() else { return };
    let parsed = parse_dpkg(read_corpus(&corpora.join("ospkg/scalibr/dpkg/testdata/dpkg/statusfield")));
    let names: Vec<_> = parsed.packages.iter().map(|package| package.name.as_str()).collect();
    assert_eq!(names, ["wantinstall_installed", "wantdeinstall_installed", "wantpurge_installed"]);
    let states = parsed.states;
    assert_eq!(
        (states.config_files, states.unpacked, states.half_installed, states.not_installed),
        (1, 1, 1, 1)
    );
}

#[test]
fn dpkg_status_d() {
    let Some(corpora) = corpora() else { return };
    let folder = corpora.join("ospkg/syft/debian/testdata");
    for (path, packages, not_installed, faults) in [
        ("image-distroless-deb/var/lib/dpkg/status.d/libsqlite3-0", 1, 0, 0),
        ("var/lib/dpkg/status.d/single", 1, 0, 0),
        // One of its names is empty, and one package has no version.
        ("var/lib/dpkg/status.d/multiple", 2, 0, 2),
        ("var/lib/dpkg/status.d/deinstall", 1, 1, 0),
        ("var/lib/dpkg/status.d/corrupt", 0, 0, 1),
        ("var/lib/dpkg/status.d/installed-size-4KB", 1, 0, 0),
    ] {
        let parsed = dpkg::read_status_d(&mut MemoryContent(read_corpus(&folder.join(path)))).unwrap();
        let found = (parsed.packages.len(), parsed.not_installed, parsed.fault_count);
        assert_eq!(found, (packages, not_installed, faults), "{path}: {:?}", parsed.faults);
    }
}

#[test]
fn apk_counts() {
    let Some(corpora) = corpora() else { return };
    // trivy's has a package more that has no version.
    for (path, packages, faults) in [
        ("scalibr/apk/testdata/installed", 15, 0),
        ("scalibr/apk/testdata/single", 1, 0),
        ("scalibr/apk/testdata/empty", 0, 0),
        ("scalibr/apk/testdata/no-origin", 1, 0),
        ("syft/alpine/testdata/multiple-1/lib/apk/db/installed", 4, 0),
        ("syft/alpine/testdata/multiple-2/lib/apk/db/installed", 14, 0),
        ("trivy/apk/testdata/apk", 15, 1),
    ] {
        let content = read_corpus(&corpora.join("ospkg").join(path));
        let parsed = apk::read(&mut MemoryContent(content)).unwrap();
        assert_eq!(
            (parsed.packages.len(), parsed.fault_count),
            (packages, faults),
            "{path}: {:?}",
            parsed.faults
        );
    }
}

//! dpkg's own query on the same `status` file.

use std::fmt::Write as _;
use std::process::{Command, Stdio};
use std::time::Instant;

use stillframe_fs::MemoryContent;
use stillframe_packages::{Parsed, dpkg};

use crate::support::{corpora, have, output, read_corpus, sorted};

/// What `dpkg-query` says is installed by this `status` file, and how many packages it knows that are not.
fn query(status: &[u8]) -> (Vec<String>, u64) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("status"), status).unwrap();
    let format = "${db:Status-Status}\t${Package}\t${Version}\t${Architecture}\t${source:Package}\t${source:Version}\n";
    let mut command = Command::new("dpkg-query");
    command.arg("--admindir").arg(folder.path()).args(["-W", "-f", format]).stderr(Stdio::null());
    let text = output(&mut command);
    let installed =
        sorted(text.lines().filter_map(|line| line.strip_prefix("installed\t")).map(str::to_owned));
    let others = text.lines().filter(|line| !line.starts_with("installed\t")).count();
    (installed, others as u64)
}

fn lines(parsed: &Parsed) -> Vec<String> {
    sorted(parsed.packages.iter().map(|package| {
        let source_name = package.source_name.as_deref().unwrap_or(&package.name);
        let source_version = package.source_version.as_deref().unwrap_or(&package.version);
        let architecture = package.architecture.as_deref().unwrap_or_default();
        format!("{}\t{}\t{architecture}\t{source_name}\t{source_version}", package.name, package.version)
    }))
}

fn assert_same(what: &str, status: Vec<u8>) {
    let (installed, others) = query(&status);
    let parsed = dpkg::read(&mut MemoryContent(status)).unwrap();
    assert!(parsed.is_complete(), "{what}: {:?}", parsed.faults);
    assert_eq!(lines(&parsed), installed, "{what}");
    // dpkg lists no package in the state `not-installed`.
    assert_eq!(parsed.not_installed - parsed.states.not_installed, others, "{what}");
}

/// A `status` file of `count` packages in all states, from `seed`.
fn generated(seed: u64, count: usize) -> Vec<u8> {
    const STATES: [&str; 8] = [
        "installed",
        "config-files",
        "half-installed",
        "unpacked",
        "half-configured",
        "triggers-pending",
        "installed",
        "installed",
    ];
    let mut random = crate::mutation::Random::new(seed);
    let mut text = String::new();
    for number in 0..count {
        // An epoch of 0 is left out: dpkg would not write it.
        let epoch = ["", "1:", "22:"][random.below(3)];
        let version = format!("{epoch}{}.{number}~rc{}-1+b1", random.below(40), random.below(9));
        let state = STATES[random.below(STATES.len())];
        writeln!(text, "Package: package-{number}.x+y").unwrap();
        writeln!(text, "Status: install ok {state}").unwrap();
        writeln!(text, "Maintainer: Nobody <nobody@example.org>").unwrap();
        writeln!(text, "Architecture: {}", ["amd64", "all", "arm64"][random.below(3)]).unwrap();
        match random.below(3) {
            0 => writeln!(text, "Source: source-{number}").unwrap(),
            1 => writeln!(text, "Source: source-{number} ({}.1-1)", random.below(9)).unwrap(),
            _ => {}
        }
        writeln!(text, "Version: {version}").unwrap();
        if state == "config-files" {
            writeln!(text, "Config-Version: {version}").unwrap();
        }
        if state == "triggers-pending" {
            writeln!(text, "Triggers-Pending: ldconfig").unwrap();
        }
        writeln!(text, "Depends: {}libc6", "a-package (>= 1.0), ".repeat(random.below(200))).unwrap();
        writeln!(text, "Conffiles:\n /etc/a 0123456789abcdef0123456789abcdef").unwrap();
        writeln!(text, "Description: words\n Package: not this\n .\n Version: 9\n").unwrap();
    }
    text.into_bytes()
}

#[test]
fn generated_status_files() {
    if !have(&["dpkg-query"]) {
        return;
    }
    for seed in 0..8 {
        assert_same(&format!("seed {seed}"), generated(seed, 50 + 100 * seed as usize));
    }
}

#[test]
fn corpus_status_files() {
    let Some(corpora) = corpora() else { return };
    assert!(have(&["dpkg-query"]));
    for path in [
        "debian12-minbase/var/lib/dpkg/status",
        "ospkg/claircore/dpkg/testdata/texlive.status",
        "ospkg/claircore/dpkg/testdata/postgresql.status",
        "ospkg/claircore/dpkg/testdata/debian-only.status",
        "ospkg/scalibr/dpkg/testdata/dpkg/valid",
        "ospkg/scalibr/dpkg/testdata/dpkg/transitional",
        "ospkg/scalibr/dpkg/testdata/opkg/valid",
    ] {
        assert_same(path, read_corpus(&corpora.join(path)));
    }
    for name in ["valid", "only-apt", "third-party", "digest", "md5sums"] {
        let path = format!("ospkg/trivy/dpkg/testdata/{name}.txtar");
        let archive = String::from_utf8(read_corpus(&corpora.join(&path))).unwrap();
        let status = archive.split_once("-- var/lib/dpkg/status --\n").unwrap().1;
        let status = status.split_once("\n-- ").map_or(status, |(status, _)| status);
        assert_same(&path, format!("{status}\n").into_bytes());
    }
}

#[test]
fn a_large_status_file_is_read_fast() {
    let status = generated(99, 20_000);
    let begin = Instant::now();
    let parsed = dpkg::read(&mut MemoryContent(status)).unwrap();
    assert_eq!(parsed.packages.len() as u64 + parsed.not_installed, 20_000);
    // A debug build on a busy machine; a release build reads 600 packages in a millisecond or two.
    assert!(begin.elapsed().as_secs() < 10, "{:?}", begin.elapsed());
}

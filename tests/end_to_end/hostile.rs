//! Damaged images that other projects keep to test their checkers: each ends soon, in bounded memory, with a row that
//! says what is wrong.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(clippy::arithmetic_side_effects, reason = "small counts")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use stillframe_block::{BlockSource, SparseMemorySource};
use stillframe_model::{Coverage, CoverageKind, Report, Status};

use crate::disks::{decompressed, filesystems, read_all, scanned, tight_budget, write};
use crate::harness::{Place, corpora};

const LONGEST: Duration = Duration::from_secs(10);
const MEMORY_KIB: u32 = 512 << 10;

fn e2fsprogs_images(corpora: &Path) -> Vec<PathBuf> {
    let mut images = Vec::new();
    for test in std::fs::read_dir(corpora.join("fs/e2fsprogs")).unwrap() {
        for file in std::fs::read_dir(test.unwrap().path()).unwrap() {
            let path = file.unwrap().path();
            images.extend((path.file_stem().unwrap() == "image").then_some(path));
        }
    }
    images.sort();
    assert_eq!(images.len(), 111);
    images
}

fn btrfs_images(corpora: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(corpora.join("fs/btrfs-progs-fuzz")).unwrap();
    let mut images: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    images.retain(|path| path.extension().unwrap() == "xz");
    images.sort();
    assert_eq!(images.len(), 17);
    images
}

/// `f_baddir` of `…/f_baddir/image.gz`, and the file's name elsewhere.
fn name_of(path: &Path) -> String {
    let own = path.file_name().unwrap().to_str().unwrap();
    let folder = path.parent().unwrap().file_name().unwrap().to_str().unwrap();
    if own.starts_with("image.") { folder.to_owned() } else { own.to_owned() }
}

/// Every row that was not read says why, and each of its faults where, what was claimed and what was found.
fn assert_told(name: &str, rows: &[Coverage]) {
    let on_disk = rows.iter().filter(|row| {
        matches!(row.kind, CoverageKind::Disk | CoverageKind::Partition | CoverageKind::Filesystem)
    });
    for row in on_disk.filter(|row| !row.is_complete()) {
        assert!(row.reason.is_some() && row.fault_count > 0 && !row.faults.is_empty(), "{name}: {row:?}");
        for fault in &row.faults {
            assert!(fault.at.is_some() || fault.path.is_some(), "{name}: {fault:?} is nowhere");
            // A lock has no two sides.
            let is_locked = fault.what.as_str() == "encrypted";
            assert!(fault.claimed.is_some() || is_locked, "{name}: {fault:?} claims nothing");
            assert!(fault.found.is_some(), "{name}: {fault:?} found nothing");
        }
    }
}

/// `scanned`, `partial`, … of the filesystem on a whole disk; `no filesystem` where none was recognised.
fn outcome(rows: &[Coverage]) -> String {
    let row = rows.iter().find(|row| row.kind == CoverageKind::Filesystem);
    let Some(row) = row else {
        assert!(rows.iter().any(|row| row.kind == CoverageKind::Disk && !row.is_complete()), "{rows:?}");
        return "no filesystem".to_owned();
    };
    serde_json::to_value(row.status).unwrap().as_str().unwrap().to_owned()
}

/// How many images came out how.
type Outcomes = BTreeMap<String, usize>;

/// Scans and reads all of `images`; gives the reports, and how many came out how: of a scan, and of reading all files.
fn scan_all(images: &[PathBuf]) -> (Vec<(PathBuf, Report)>, [Outcomes; 2]) {
    let mut reports = Vec::new();
    let mut outcomes = [Outcomes::new(), Outcomes::new()];
    for path in images {
        let (name, disk) = (name_of(path), decompressed(path));
        let started = Instant::now();
        let report = scanned(disk.clone(), tight_budget());
        let rows = read_all(disk, tight_budget());
        assert!(started.elapsed() < LONGEST, "{name}: {:?}", started.elapsed());
        assert_told(&name, &report.coverage);
        assert_told(&name, &rows);
        for (counts, rows) in outcomes.iter_mut().zip([&report.coverage, &rows]) {
            *counts.entry(outcome(rows)).or_default() += 1;
        }
        reports.push((path.clone(), report));
    }
    (reports, outcomes)
}

fn counts<const N: usize>(expected: [(&str, usize); N]) -> Outcomes {
    expected.map(|(outcome, count)| (outcome.to_owned(), count)).into()
}

#[test]
fn e2fsprogs_images_end_and_are_told() {
    let Some(corpora) = corpora() else { return };
    let place = Place::new();
    let (reports, [scan, content]) = scan_all(&e2fsprogs_images(&corpora));
    // Most of these tests damage what a reader does not need: bitmaps, counts, quota, orphans, backup superblocks.
    // `no filesystem` is f_zero_super, whose first superblock is zeros, and whose copies are of the revision that does not say
    // which group they begin. What a scan does not open, reading every file
    // finds: bad extents and indirect blocks.
    assert_eq!(scan, counts([("scanned", 80), ("partial", 25), ("corrupt", 5), ("no filesystem", 1)]));
    assert_eq!(content, counts([("scanned", 72), ("partial", 33), ("corrupt", 5), ("no filesystem", 1)]));
    for (path, report) in reports {
        let rows = filesystems(&report);
        if rows.iter().all(|row| row.is_complete()) || rows.iter().any(|row| is_excused(row)) {
            continue;
        }
        let image = place.path("image");
        write(&decompressed(&path), &image);
        // It does not end on two of them, which tells as much as an exit code.
        let check =
            std::process::Command::new("timeout").args(["5", "e2fsck", "-fn"]).arg(&image).output().unwrap();
        assert_ne!(check.status.code(), Some(0), "{}: e2fsck finds nothing wrong: {rows:?}", name_of(&path));
    }
}

/// What e2fsck does not call damage: encryption, and the journal, which it leaves alone when it may not write.
fn is_excused(row: &Coverage) -> bool {
    row.status == Status::Partial
        && (row.facts.dirty == Some(true)
            || row.faults.iter().all(|fault| fault.what.as_str() == "encrypted"))
}

#[test]
fn btrfs_fuzz_images_end_and_are_told() {
    let Some(corpora) = corpora() else { return };
    let (_, [scan, content]) = scan_all(&btrfs_images(&corpora));
    // Scanned: their damage lies where no file is: a device's size, a chunk in the wrong tree, a stripe length.
    assert_eq!(scan, counts([("scanned", 3), ("partial", 2), ("corrupt", 11), ("no filesystem", 1)]));
    assert_eq!(content, scan);
}

#[test]
fn the_program_reads_them_in_bounded_time_and_memory() {
    let Some(corpora) = corpora() else { return };
    let place = Place::new();
    let image = place.path("image");
    let script = format!("ulimit -d {MEMORY_KIB} && exec \"$0\" \"$@\"");
    for path in e2fsprogs_images(&corpora).into_iter().chain(btrfs_images(&corpora)) {
        let name = name_of(&path);
        write(&decompressed(&path), &image);
        for arguments in [&["scan", "image", "--format", "json"][..], &["files", "--hash", "sha256"]] {
            let started = Instant::now();
            // A limit on the process's own memory: passing it would end it by a signal.
            let output = place
                .limited(&script)
                .args(arguments)
                .args(["--volume-deadline", "5"])
                .arg(&image)
                .output()
                .unwrap();
            assert!(started.elapsed() < LONGEST, "{name}: {:?}", started.elapsed());
            let code = output.status.code();
            assert!(
                matches!(code, Some(0 | 2)),
                "{name}: {code:?} {}",
                String::from_utf8_lossy(&output.stderr)
            );
            if arguments[0] == "scan" {
                let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
                assert_eq!(report["scan"]["complete"], code == Some(0), "{name}");
            }
        }
    }
}

#[test]
fn a_disk_that_claims_more_than_memory_holds_costs_what_is_written() {
    let mut disk = SparseMemorySource::default();
    disk.set_len(1 << 50);
    let report = scanned(disk.clone(), tight_budget());
    assert_eq!(disk.len_bytes(), 1 << 50);
    assert!(report.io.bytes_read < 64 << 20, "{} bytes", report.io.bytes_read);
    assert_eq!(report.coverage[0].reason.as_ref().unwrap().as_str(), "empty");
}

//! Disks that are cut short, go in circles or claim what cannot be, made here from good ones.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "the offsets are those of our own images"
)]

use std::time::{Duration, Instant};

use stillframe_block::{BlockSource, Budget, SparseMemorySource};
use stillframe_fixtures::{golden, golden_names};
use stillframe_model::{Coverage, CoverageKind, Report, Status};
use stillframe_mutations::{Depth, Golden};

use crate::disks::{bytes_at, filesystems, patch, read, scanned, tight_budget, tool};
use crate::harness::Place;

const MIB: u64 = 1 << 20;

fn is_on_disk(row: &Coverage) -> bool {
    matches!(row.kind, CoverageKind::Disk | CoverageKind::Partition | CoverageKind::Filesystem)
}

fn faults(report: &Report) -> Vec<String> {
    let lines = |row: &Coverage| row.faults.iter().map(|fault| fault.line()).collect::<Vec<_>>();
    report.coverage.iter().flat_map(lines).collect()
}

/// Makes an ext4 filesystem of `megabytes` from the tree in `folder`.
fn ext4(place: &Place, folder: &str, options: &[&str], megabytes: u64) -> String {
    let image = place.path("ext4.img").to_str().unwrap().to_owned();
    let (folder, size) = (place.path(folder), format!("{megabytes}M"));
    let mut arguments = vec!["-q", "-F", "-t", "ext4", "-d", folder.to_str().unwrap()];
    arguments.extend(options);
    arguments.extend([image.as_str(), size.as_str()]);
    tool("mke2fs", &arguments);
    image
}

/// Runs commands of `debugfs` that write.
fn debugfs(place: &Place, image: &str, commands: &str) {
    let script = place.path("commands");
    std::fs::write(&script, commands).unwrap();
    tool("debugfs", &["-w", "-f", script.to_str().unwrap(), image]);
}

/// Whether a partition, or a filesystem on the whole disk, has something written at or after `len`.
fn loses_content(whole: &SparseMemorySource, report: &Report, len: u64) -> bool {
    let places = report.coverage.iter().filter(|row| is_on_disk(row) && row.kind != CoverageKind::Disk);
    places.filter_map(|row| Some((row.facts.start_bytes.unwrap_or(0), row.facts.len_bytes?))).any(
        |(start, len_bytes)| {
            whole.written_pages().any(|page| page >= len.max(start) && page < start.saturating_add(len_bytes))
        },
    )
}

#[test]
fn what_lay_past_a_cut_is_said_with_both_lengths() {
    for name in golden_names() {
        let whole = golden(&name);
        let before = scanned(whole.clone(), tight_budget());
        for eighths in 1..8 {
            // Not at a multiple of anything.
            let len = whole.len_bytes() / 8 * eighths - 77;
            let mut cut = whole.clone();
            cut.set_len(len);
            let report = scanned(cut, tight_budget());
            if whole.written_pages().all(|page| page < len) {
                continue;
            }
            let rows: Vec<_> = report.coverage.iter().filter(|row| is_on_disk(row)).collect();
            let mut unread = rows.iter().filter(|row| !row.is_complete());
            assert!(
                unread.clone().next().is_some() || !loses_content(&whole, &before, len),
                "{name} cut to {len} of {}: {rows:?}",
                whole.len_bytes()
            );
            // What is unsupported or encrypted, whole or not, says so and no more.
            let says_no_more =
                |row: &&&Coverage| matches!(row.status, Status::Unsupported | Status::Encrypted);
            let mut faults = rows.iter().flat_map(|row| &row.faults);
            assert!(
                faults.any(|fault| fault.claimed.is_some() && fault.found.is_some())
                    || unread.any(|row| says_no_more(&row)),
                "{name} cut to {len}: {rows:?}"
            );
        }
    }
}

#[test]
fn a_directory_cycle_and_a_directory_with_two_names_end() {
    let place = Place::new();
    std::fs::create_dir_all(place.path("tree/a/b/c")).unwrap();
    std::fs::create_dir_all(place.path("tree/d")).unwrap();
    std::fs::write(place.path("tree/a/b/file"), "x").unwrap();
    let image = ext4(&place, "tree", &[], 8);
    debugfs(&place, &image, "link /a /a/b/c/up\nlink / /d/root\nlink /a/b /second\n");
    let report = scanned(read(image.as_ref()), tight_budget());
    let row = filesystems(&report)[0].clone();
    assert_eq!((row.status, row.fault_count), (Status::Partial, 3));
    // lost+found, a, a/b, a/b/file, a/b/c, d, and three names more.
    assert_eq!(row.facts.entries, Some(9));
    for fault in &row.faults {
        assert_eq!(fault.line(), "folder at 0x0: claimed one name, found a second name, or a cycle");
    }
}

#[test]
fn a_chain_of_folders_deeper_than_any_path_ends() {
    let place = Place::new();
    std::fs::create_dir(place.path("tree")).unwrap();
    let image = ext4(&place, "tree", &["-N", "4096"], 32);
    debugfs(&place, &image, &"mkdir d\ncd d\n".repeat(2100));
    let report = scanned(read(image.as_ref()), tight_budget());
    let row = filesystems(&report)[0].clone();
    assert_eq!((row.status, row.fault_count), (Status::Partial, 1));
    assert_eq!(row.faults[0].line(), "folders inside folders: claimed 2048, found more");
    // Down to one past the limit, and lost+found.
    assert_eq!(row.facts.entries, Some(2050));
}

#[test]
fn an_htree_that_counts_wrong_is_listed_all_the_same() {
    let place = Place::new();
    std::fs::create_dir_all(place.path("tree/big")).unwrap();
    for number in 0..600 {
        std::fs::write(place.path(&format!("tree/big/{number:060}")), "").unwrap();
    }
    let options = ["-O", "dir_index,^metadata_csum", "-b", "1024", "-N", "1024"];
    let image = ext4(&place, "tree", &options, 8);
    tool("sh", &["-c", "e2fsck -fyD \"$0\" >&2; test $? -le 1", &image]);
    let block: u64 = tool("debugfs", &["-R", "bmap /big 0", &image]).trim().parse().unwrap();
    let disk = read(image.as_ref());
    let (limit_at, root) = (block * 1024 + 0x20, block * 1024);
    let limit = u16::from_le_bytes(bytes_at(&disk, limit_at));
    let count = u16::from_le_bytes(bytes_at(&disk, limit_at + 2));
    assert!(limit > 100 && (2..=limit).contains(&count), "no htree: limit {limit}, count {count}");
    let crafted: [(u64, &[u8]); 6] = [
        (limit_at, &[0, 0, 0, 0]),
        (limit_at, &[0xff, 0xff, 0xff, 0xff]),
        (limit_at + 2, &[0, 0]),
        (limit_at + 2, &[0xff, 0xff]),
        // Levels of the tree, and the length of its header.
        (root + 0x1e, &[0xff]),
        (root + 0x1d, &[0xff]),
    ];
    for (at, bytes) in crafted {
        let mut crafted = disk.clone();
        patch(&mut crafted, at, bytes);
        let report = scanned(crafted, tight_budget());
        let row = filesystems(&report)[0].clone();
        assert_eq!(row.facts.entries, Some(602), "{bytes:x?} at {at:#x}: {row:?}");
    }
}

#[test]
fn an_extended_chain_that_turns_back_ends() {
    let disk = golden("mbr-logical");
    let entry = |at: u64, index: u64| at + 446 + 16 * index;
    let start_of = |at: u64| u64::from(u32::from_le_bytes(bytes_at(&disk, at + 8)));
    let extended = (0..4)
        .map(|index| entry(0, index))
        .find(|at| matches!(bytes_at::<1>(&disk, at + 4), [5 | 0xf]))
        .map(start_of)
        .unwrap();
    // The first link, and the one behind it, each made to lead to the first and to itself.
    let second = start_of(entry(extended * 512, 1));
    assert!(second > 0, "a chain of one");
    for link in [0, second] {
        for target in [0, second, u64::from(u32::MAX)] {
            let mut turned = disk.clone();
            let at = entry((extended + link) * 512, 1);
            patch(&mut turned, at + 4, &[5]);
            patch(&mut turned, at + 8, &u32::try_from(target).unwrap().to_le_bytes());
            patch(&mut turned, at + 12, &1_u32.to_le_bytes());
            let report = scanned(turned, tight_budget());
            assert!(report.coverage.len() < 40, "{} rows", report.coverage.len());
            if (link, target) == (0, second) {
                continue; // As it was, but for its length.
            }
            let faults = faults(&report);
            assert!(faults.iter().any(|fault| fault.contains("xtended")), "{link} to {target}: {faults:?}");
        }
    }
}

/// A golden disk with these changes, the checksums over them made right.
fn recrafted(name: &'static str, changes: &[(u64, &[u8])]) -> (&'static str, SparseMemorySource) {
    let covers = Golden::open(name).covers;
    let mut disk = golden(name);
    for (at, bytes) in changes {
        covers.write(&mut disk, *at, bytes, Depth::Metadata);
    }
    (name, disk)
}

/// A superblock's claim of its size made absurd: where it lies, and in which unit.
fn giants() -> Vec<(&'static str, SparseMemorySource)> {
    let xfs_blocks = (1_u64 << 50).to_be_bytes();
    let btrfs_bytes = (1_u64 << 60).to_le_bytes();
    let superblock = 64 << 10;
    vec![
        recrafted("whole-disk-ext4", &[(1024 + 0x04, &u32::MAX.to_le_bytes())]),
        recrafted("xfs-v4", &[(8, &xfs_blocks)]),
        recrafted("xfs-forms", &[(8, &xfs_blocks)]),
        // `total_bytes`, and the same in the device item.
        recrafted("btrfs-fsync", &[(superblock + 0x70, &btrfs_bytes), (superblock + 0xc9 + 8, &btrfs_bytes)]),
    ]
}

#[test]
fn a_superblock_that_claims_petabytes_costs_nothing_and_is_told() {
    for (name, giant) in giants() {
        let (len, started) = (giant.len_bytes(), Instant::now());
        let report = scanned(giant, tight_budget());
        assert!(started.elapsed() < Duration::from_secs(10), "{name}");
        assert!(report.io.bytes_read < 64 * MIB, "{name}: {} bytes", report.io.bytes_read);
        let row = filesystems(&report)[0].clone();
        assert!(!row.is_complete(), "{name}: {row:?}");
        let lengths: Vec<_> = row.faults.iter().filter_map(|fault| fault.found.clone()).collect();
        assert!(!lengths.is_empty(), "{name} of {len} bytes: {row:?}");
    }
}

#[test]
fn a_budget_that_runs_out_is_the_reason_in_the_ledger() {
    for name in ["debian-gpt-ext4", "xfs-1k", "btrfs-zstd", "ntfs-streams", "windows-shape", "ext3-dirty"] {
        let full = scanned(golden(name), tight_budget());
        let mut has_run_out = false;
        for reads in [0, 1, 2, 3, 5, 8, 13, 21, 34, 55, 89] {
            let budget = Budget { reads, ..tight_budget() };
            let report = scanned(golden(name), budget);
            let short = filesystems(&report).into_iter().filter(|row| !row.is_complete());
            for row in short {
                let is_whole_otherwise =
                    filesystems(&full).iter().any(|other| other.name == row.name && other.is_complete());
                assert_eq!(row.status, Status::Partial, "{name}, {reads} reads: {row:?}");
                let reason = row.reason.as_ref().unwrap().as_str();
                assert!(
                    reason == "the limit for this volume is used up" || !is_whole_otherwise,
                    "{name}, {reads} reads: {row:?}"
                );
                has_run_out |= row.faults.iter().any(|fault| {
                    fault.line() == format!("the limit for this volume is used up: found {reads}")
                });
            }
        }
        assert!(has_run_out, "{name}");
    }
}

#[test]
fn bytes_and_time_run_out_too() {
    let name = "debian-gpt-ext4";
    for budget in
        [Budget { bytes: 100_000, ..tight_budget() }, Budget { time: Duration::ZERO, ..tight_budget() }]
    {
        let report = scanned(golden(name), budget);
        let reasons: Vec<_> = filesystems(&report).iter().filter_map(|row| row.reason.clone()).collect();
        assert!(
            reasons.iter().any(|reason| reason.as_str() == "the limit for this volume is used up"),
            "{budget:?}: {reasons:?}"
        );
        assert!(!report.scan.complete);
    }
}

//! A log whose end is damaged, told by what is newer than it: as the kernel refuses such disks, and as `xfs_logprint` finds
//! the end.
#![allow(missing_docs, dead_code, reason = "a test; its helpers serve other tests too")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "test data is ours")]

mod tree;

use std::process::Command;
use std::sync::Arc;

use stillframe_block::{BlockSource, SparseMemorySource};
use stillframe_bytes::{Fault, Quantity};
use stillframe_fixtures::golden;
use stillframe_fs::{FsError, ReadOnlyFs};
use tree::{Listing, read_all};

const RECORD_MAGIC: [u8; 4] = [0xfe, 0xed, 0xba, 0xbe];
/// Later than any log here.
const LATER: [u8; 8] = [0, 0, 0, 9, 0, 0, 0, 9];

fn read(disk: &SparseMemorySource, at: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    disk.read_exact_at(at, &mut bytes).unwrap();
    bytes
}

fn number(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |all, byte| all << 8 | u64::from(*byte))
}

fn put(disk: &mut SparseMemorySource, at: u64, bytes: &[u8]) {
    (at..).zip(bytes).for_each(|(at, byte)| disk.set(at, *byte));
}

/// Puts `bytes` into the block at `at`, and makes its checksum right.
fn put_sealed(disk: &mut SparseMemorySource, at: u64, len: usize, crc: usize, place: u64, bytes: &[u8]) {
    put(disk, at + place, bytes);
    let mut block = read(disk, at, len);
    block[crc..crc + 4].fill(0);
    let sum = crc32c::crc32c(&block);
    put(disk, at + u64::try_from(crc).unwrap(), &sum.to_le_bytes());
}

/// Where the log begins, and its length.
fn log(disk: &SparseMemorySource) -> (u64, u64) {
    let superblock = read(disk, 0, 512);
    let block = number(&superblock[4..8]);
    let start = number(&superblock[48..56]);
    let group_log = u32::from(superblock[124]);
    let start = (start >> group_log) * number(&superblock[84..88]) + (start & ((1 << group_log) - 1));
    (start * block, number(&superblock[96..100]) * block)
}

/// The records of the log's first turn, by sector, in their order; without those that hold nothing, which the kernel puts
/// before the head.
fn records(disk: &SparseMemorySource) -> Vec<u64> {
    let (start, len) = log(disk);
    let is_record = |sector: &u64| {
        let header = read(disk, start + sector * 512, 16);
        header.starts_with(&RECORD_MAGIC) && number(&header[4..8]) == 1 && number(&header[12..16]) > 0
    };
    (0..len / 512).filter(is_record).collect()
}

/// Makes the checksum of a record of less than 32 KiB right.
fn seal_record(disk: &mut SparseMemorySource, at: u64) {
    let header = read(disk, at, 512);
    let (content, buffer) = (number(&header[12..16]), number(&header[320..324]));
    assert!(content <= 32 << 10);
    let mut sum = crc32c::crc32c(&header[..32]);
    sum = crc32c::crc32c_append(sum, &[0; 4]);
    sum = crc32c::crc32c_append(sum, &header[36..328]);
    let content_at = at + buffer.div_ceil(32 << 10).max(1) * 512;
    let content = read(disk, content_at, usize::try_from(content).unwrap());
    put(disk, at + 32, &crc32c::crc32c_append(sum, &content).to_le_bytes());
}

fn open(disk: &SparseMemorySource) -> Result<Box<dyn ReadOnlyFs>, FsError> {
    stillframe_xfs::open(Arc::new(disk.clone()))
}

fn refused(disk: &SparseMemorySource) -> Fault {
    match open(disk) {
        Err(FsError::Corrupt(fault)) => fault,
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("it was opened"),
    }
}

fn listing(name: &str) -> Listing {
    let (listing, errors) = read_all(&*open(&golden(name)).unwrap());
    assert!(errors.is_empty());
    listing
}

fn errors(fs: &dyn ReadOnlyFs) -> Vec<&'static str> {
    let corrupt = |(_, error)| if let FsError::Corrupt(Fault { what, .. }) = error { what } else { "other" };
    read_all(fs).1.into_iter().map(corrupt).collect()
}

/// The head that `xfs_logprint` finds.
fn head_by_logprint(disk: &SparseMemorySource) -> u64 {
    assert!(tree::has_program("xfs_logprint"), "xfs_logprint is not installed: `tests/setup.sh` installs it");
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("disk");
    let file = std::fs::File::create(&path).unwrap();
    file.set_len(disk.len_bytes()).unwrap();
    for page in disk.written_pages() {
        std::os::unix::fs::FileExt::write_all_at(&file, &read(disk, page, 4096), page).unwrap();
    }
    let output = Command::new("xfs_logprint").arg("-t").arg(&path).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let word = text.split("head:").nth(1).and_then(|rest| rest.split_whitespace().next());
    word.unwrap_or_else(|| panic!("{text}")).parse().unwrap()
}

#[test]
fn a_superblock_newer_than_the_head_is_refused() {
    for name in ["xfs-1k", "xfs-forms", "xfs-xattrs"] {
        let disk = golden(name);
        let (start, _) = log(&disk);
        let newest = number(&read(&disk, 240, 8));
        let records = records(&disk);
        let mut refusals = 0;
        // Of each record the first word of a sector is lost, so that the log seems to end there.
        for sector in records.iter().skip(1).rev().take(6) {
            let mut damaged = disk.clone();
            put(&mut damaged, start + sector * 512, &[0; 512]);
            put(&mut damaged, start + (sector + 1) * 512, &[0; 4]);
            let head = head_by_logprint(&damaged);
            if (1 << 32 | head) >= newest {
                let (found, errors) = read_all(&*open(&damaged).unwrap());
                assert!(errors.is_empty() && found == listing(name), "{name}: {head}");
                continue;
            }
            let fault = refused(&damaged);
            assert_eq!((fault.what, fault.at), ("log sequence number", 240), "{name}: {fault}");
            assert_eq!(fault.claimed, Quantity::Hex(1 << 32 | head), "{name}: {fault}");
            assert_eq!(fault.found, Quantity::Hex(newest), "{name}: {fault}");
            refusals += 1;
        }
        assert!(refusals > 0, "{name}: {refusals} of {} records", records.len());
    }
}

/// Wherever sectors of the log of a clean disk are lost, it is refused or read as it was.
#[test]
fn no_damage_of_a_clean_log_makes_files_old() {
    for (name, step) in [("xfs-1k", 23), ("xfs-forms", 29), ("xfs-xattrs", 5)] {
        let disk = golden(name);
        let truth = listing(name);
        let (start, _) = log(&disk);
        let last = *records(&disk).last().unwrap();
        let (mut refusals, mut read) = (0, 0);
        for (turn, sector) in (0..last + 2).rev().step_by(step).enumerate() {
            let mut damaged = disk.clone();
            let fill = [0, 0xff, 1][turn % 3];
            put(&mut damaged, start + sector * 512, &vec![fill; 512 << (turn % 4)]);
            let Ok(fs) = open(&damaged) else {
                refusals += 1;
                continue;
            };
            let (rows, errors) = read_all(&*fs);
            assert!(rows == truth && errors.is_empty(), "{name}: from {sector}, {fill}: {errors:?}");
            read += 1;
        }
        assert!(refusals > 5 && read > 5, "{name}: {refusals} refused, {read} read");
    }
}

#[test]
fn a_group_newer_than_the_head_is_refused() {
    for (sector, crc, place) in [(1, 216, 208), (2, 312, 320)] {
        for name in ["xfs-1k", "xfs-dirty"] {
            let mut disk = golden(name);
            let group = number(&read(&disk, 84, 4)) * number(&read(&disk, 4, 4));
            for at in [sector * 512, group + sector * 512] {
                let mut newer = disk.clone();
                put_sealed(&mut newer, at, 512, crc, place, &LATER);
                let fault = refused(&newer);
                assert_eq!((fault.what, fault.at), ("log sequence number", at + place), "{name}");
            }
            // One whose checksum does not match says nothing, and none is what there is in place of a number.
            put(&mut disk, sector * 512 + place, &LATER);
            assert!(open(&disk).is_ok());
            put_sealed(&mut disk, sector * 512, 512, crc, place, &[0xff; 8]);
            assert!(open(&disk).is_ok());
        }
    }
}

/// Blocks with this magic, by where it lies in them.
fn blocks(disk: &SparseMemorySource, magic: &[u8], within: u64) -> Vec<u64> {
    let block = number(&read(disk, 4, 4));
    let pages = disk.written_pages().flat_map(|page| (page..page + 4096).step_by(1024));
    let starts = pages.filter(|at| at % block == 0);
    starts.filter(|at| read(disk, at + within, magic.len()) == magic).collect()
}

#[test]
fn a_block_newer_than_the_head_is_an_error_of_its_own() {
    let cases: [(&str, &[u8], u64, usize, u64); 4] = [
        ("xfs-1k", b"XDD3", 0, 4, 16),
        ("xfs-forms", b"BMA3", 0, 64, 32),
        ("xfs-forms", b"XSLM", 0, 12, 48),
        ("xfs-xattrs", &[0x3b, 0xee], 8, 12, 24),
    ];
    for (name, magic, within, crc, place) in cases {
        let mut disk = golden(name);
        let directory_log = if place == 16 { read(&disk, 192, 1)[0] } else { 0 };
        let block = usize::try_from(number(&read(&disk, 4, 4)) << directory_log).unwrap();
        let truth = listing(name);
        let found = blocks(&disk, magic, within);
        assert!(!found.is_empty(), "{name}: {}", magic.escape_ascii());
        let newer: Vec<u64> = found.iter().map(|at| at + place).collect();
        for at in found {
            put_sealed(&mut disk, at, block, crc, place, &LATER);
        }
        let fs = open(&disk).unwrap();
        let (rows, failed) = read_all(&*fs);
        let mut faults: Vec<FsError> = failed.into_iter().map(|(_, error)| error).collect();
        if place == 24 {
            faults.extend(rows_ids(&*fs).into_iter().filter_map(|id| fs.xattrs(id).err()));
        }
        assert!(!faults.is_empty(), "{name}: {}", magic.escape_ascii());
        for error in faults {
            let FsError::Corrupt(fault) = error else { panic!("{error}") };
            assert!(fault.what == "log sequence number" && newer.contains(&fault.at), "{name}: {fault}");
        }
        assert!(rows.iter().all(|(path, facts)| truth.get(path) == Some(facts)), "{name}");
    }
}

/// All files below the root.
fn rows_ids(fs: &dyn ReadOnlyFs) -> Vec<stillframe_fs::FileId> {
    let (mut ids, mut folders) = (Vec::new(), vec![fs.root()]);
    while let Some(folder) = folders.pop() {
        fs.read_dir(folder, &mut |entry| {
            ids.push(entry.id);
            if entry.kind == Some(stillframe_fs::FileKind::Directory) {
                folders.push(entry.id);
            }
            std::ops::ControlFlow::Continue(())
        })
        .unwrap();
    }
    ids
}

#[test]
fn an_inode_newer_than_the_head_is_shown_and_told() {
    let mut disk = golden("xfs-1k");
    let pages = disk.written_pages().flat_map(|page| (page..page + 4096).step_by(512));
    let is_file = |at: &u64| {
        let inode = read(&disk, *at, 512);
        inode.starts_with(b"IN") && number(&inode[2..4]) >> 12 == 8 && inode[4] == 3
    };
    let inode = pages.filter(is_file).nth(40).unwrap();
    put_sealed(&mut disk, inode, 512, 100, 112, &LATER);
    let fs = open(&disk).unwrap();
    let (rows, errors) = read_all(&*fs);
    assert!(errors.is_empty() && rows == listing("xfs-1k"));
    let faults = fs.faults();
    assert_eq!(faults.len(), 1);
    assert_eq!((faults[0].what, faults[0].at), ("log sequence number", inode + 112));
}

#[test]
fn records_that_do_not_belong_there_are_refused() {
    let disk = golden("xfs-dirty");
    let (start, _) = log(&disk);
    let small = |sector: &&u64| number(&read(&disk, start + **sector * 512 + 12, 4)) <= 32 << 10;
    let records = records(&disk);
    let last = start + records.last().unwrap() * 512;
    assert!(small(&records.last().unwrap()));
    let cases: [(u64, &[u8], &str); 4] = [
        (304, &[7; 16], "log record UUID"),
        // A tail of the turn to come, of two turns ago, and outside of the log.
        (24, &[0, 0, 0, 2, 0, 0, 0, 95], "log tail"),
        (24, &[0, 0, 0, 0, 0, 0, 0, 95], "log tail"),
        (24, &[0, 0, 0, 1, 0, 9, 0, 95], "log tail"),
    ];
    for (place, bytes, what) in cases {
        let mut damaged = disk.clone();
        put(&mut damaged, last + place, bytes);
        seal_record(&mut damaged, last);
        assert_eq!(refused(&damaged).what, what);
    }
    // A record of the turn before, whole, between the tail and the head: a write that was lost.
    let tail = number(&read(&disk, last + 28, 4));
    let between = start + 512 * records.iter().find(|sector| **sector > tail).unwrap();
    assert!(between < last);
    let mut damaged = disk.clone();
    put(&mut damaged, between + 16, &[0; 4]);
    seal_record(&mut damaged, between);
    let fault = refused(&damaged);
    assert_eq!((fault.what, fault.at), ("log record sequence number", between));
}

#[test]
fn a_log_that_seems_to_hold_nothing_is_doubted() {
    for name in ["xfs-1k", "xfs-v4"] {
        let disk = golden(name);
        let (start, _) = log(&disk);
        assert!(open(&disk).unwrap().faults().is_empty());
        // The record that says that it was unmounted.
        let mut damaged = disk.clone();
        let last = start + records(&disk).last().unwrap() * 512;
        put(&mut damaged, last + 512 + 40, &[1]);
        if number(&read(&disk, last + 32, 4)) != 0 {
            let faults = open(&damaged).unwrap().faults();
            assert_eq!((faults[0].what, faults[0].at), ("log record checksum", last), "{name}");
        }
        // The first of all records. Version 5 metadata is newer than a log without any.
        let mut damaged = disk.clone();
        put(&mut damaged, start, &[0; 512]);
        if name == "xfs-1k" {
            assert_eq!(refused(&damaged).what, "log sequence number");
        } else {
            let fs = open(&damaged).unwrap();
            assert_eq!((fs.faults()[0].what, fs.faults()[0].at), ("log head", start));
            assert!(errors(&*fs).is_empty());
        }
    }
}

/// A machine that stops loses the last writes, of which there are eight at most.
#[test]
fn more_lost_records_than_can_be_under_way_are_told() {
    let (mut told, mut silent) = (0, 0);
    for name in ["xfs-log-4k", "xfs-dirty", "xfs-log-v4", "xfs-log-intents"] {
        let disk = golden(name);
        let (start, _) = log(&disk);
        let head = head_by_logprint(&disk);
        let in_log = records(&disk);
        for (index, sector) in in_log.iter().enumerate().filter(|(_, sector)| **sector < head) {
            let mut damaged = disk.clone();
            // A cycle of none, in the middle of a record.
            put(&mut damaged, start + (sector + 1) * 512, &[0; 4]);
            let Ok(fs) = open(&damaged) else { continue };
            let lost = in_log.iter().skip(index + 1).filter(|sector| **sector < head).count();
            let faults = fs.faults();
            if let Some(fault) = faults.iter().find(|fault| fault.what == "log head") {
                assert_eq!(fault.found, Quantity::Number(u64::try_from(lost).unwrap()), "{name}: {sector}");
                told += 1;
            } else {
                silent += usize::from(lost <= 8);
            }
        }
    }
    assert!(told > 0 && silent > 0, "{told} told, {silent} could be under way");
}

//! Damaged logs and attributes end in errors or in a listing, soon, whether or not their checksums match again.
#![allow(missing_docs, dead_code, reason = "a test; its helpers serve other tests too")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "test data is ours")]

mod tree;

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use stillframe_block::{BlockSource, Budget, BudgetSource, SparseMemorySource};
use stillframe_fixtures::golden;
use stillframe_fs::ReadOnlyFs;

const RECORD_MAGIC: [u8; 4] = [0xfe, 0xed, 0xba, 0xbe];

fn read(disk: &SparseMemorySource, at: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    disk.read_exact_at(at, &mut bytes).unwrap();
    bytes
}

fn number(bytes: &[u8], at: usize, len: usize) -> u64 {
    bytes[at..at + len].iter().fold(0, |all, byte| all << 8 | u64::from(*byte))
}

/// A log record: where it begins, and its bytes with all headers.
struct Record {
    at: u64,
    header_bytes: usize,
    content_bytes: usize,
}

/// The records of the log that do not go around its end.
fn records(disk: &SparseMemorySource) -> Vec<Record> {
    let superblock = read(disk, 0, 512);
    let (block, group_blocks, log) =
        (number(&superblock, 4, 4), number(&superblock, 84, 4), number(&superblock, 48, 8));
    let group_log = u32::from(superblock[124]);
    let start = ((log >> group_log) * group_blocks + (log & ((1 << group_log) - 1))) * block;
    let end = start + number(&superblock, 96, 4) * block;
    let mut records = Vec::new();
    for at in (start..end).step_by(512) {
        let header = read(disk, at, 512);
        let content_bytes = usize::try_from(number(&header, 12, 4)).unwrap();
        let buffer_bytes = if header[11] & 2 == 0 { 1 } else { number(&header, 320, 4) };
        let header_bytes = usize::try_from(buffer_bytes.div_ceil(32 << 10)).unwrap() * 512;
        let is_whole = at + u64::try_from(header_bytes + content_bytes).unwrap() <= end;
        if header[..4] == RECORD_MAGIC && content_bytes > 0 && is_whole {
            records.push(Record { at, header_bytes, content_bytes });
        }
    }
    records
}

fn seal(disk: &mut SparseMemorySource, record: &Record) {
    let bytes = read(disk, record.at, record.header_bytes + record.content_bytes);
    let mut sum = crc32c::crc32c(&bytes[..32]);
    sum = crc32c::crc32c_append(sum, &[0; 4]);
    sum = crc32c::crc32c_append(sum, &bytes[36..328]);
    for extended in 1..record.content_bytes.div_ceil(32 << 10) {
        sum = crc32c::crc32c_append(sum, &bytes[extended * 512..extended * 512 + 260]);
    }
    sum = crc32c::crc32c_append(sum, &bytes[record.header_bytes..]);
    for (at, byte) in (record.at + 32..).zip(sum.to_le_bytes()) {
        disk.set(at, byte);
    }
}

/// A place of a record that says much: in its headers, in those of operations and items, or anywhere.
fn place(disk: &SparseMemorySource, record: &Record, state: &mut u64) -> u64 {
    let random = |state: &mut u64, most: usize| usize::try_from(tree::next(state)).unwrap() % most;
    let within = match random(state, 4) {
        0 => random(state, 340),
        1 => record.header_bytes + random(state, record.content_bytes),
        _ => {
            // Operations follow each other; items of two bytes of kind begin their regions.
            let content =
                read(disk, record.at + u64::try_from(record.header_bytes).unwrap(), record.content_bytes);
            let mut at = 0;
            for _ in 0..random(state, 200) {
                let Some(len) = content.get(at + 4..at + 8) else { break };
                at += 12 + usize::try_from(number(len, 0, 4)).unwrap();
            }
            record.header_bytes + (at + random(state, 60)).min(record.content_bytes - 1)
        }
    };
    record.at + u64::try_from(within).unwrap()
}

fn limited(disk: SparseMemorySource) -> Arc<dyn BlockSource> {
    let budget = Budget { reads: 300_000, bytes: 4 << 30, time: Duration::from_secs(5) };
    Arc::new(BudgetSource::new(Arc::new(disk), budget))
}

/// Reads the attributes of everything; says how many could not be read.
fn read_attributes(fs: &dyn ReadOnlyFs) -> usize {
    let (mut failed, mut folders, mut met) = (0, vec![fs.root()], 0);
    while let Some(folder) = folders.pop() {
        let mut ids = Vec::new();
        let _ = fs.read_dir(folder, &mut |entry| {
            ids.push(entry.id);
            ControlFlow::Continue(())
        });
        met += ids.len();
        for id in ids {
            failed += usize::from(fs.xattrs(id).is_err());
            let is_folder = fs.metadata(id).is_ok_and(|file| file.kind.letter() == 'd');
            if is_folder && met < 20_000 {
                folders.push(id);
            }
        }
    }
    failed
}

/// The most memory that this process had, in KiB.
fn peak_kibibytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn damaged_logs_end() {
    let mut state = 0x5eed_0002_u64;
    let (mut opened, mut refused, mut failed) = (0, 0, 0);
    for name in ["xfs-log-4k", "xfs-log-wrapped", "xfs-log-v4", "xfs-log-v1", "xfs-log-intents", "xfs-dirty"]
    {
        let disk = golden(name);
        let records = records(&disk);
        assert!(records.len() > 1, "{name}: {} records", records.len());
        for mutation in 0..60 {
            let mut damaged = disk.clone();
            for _ in 0..=mutation % 5 * 2 {
                let record = &records[usize::try_from(tree::next(&mut state)).unwrap() % records.len()];
                let at = place(&damaged, record, &mut state);
                let byte = match tree::next(&mut state) % 3 {
                    0 => 0xff,
                    1 => read(&damaged, at, 1)[0] ^ 1 << (tree::next(&mut state) % 8),
                    _ => u8::try_from(tree::next(&mut state) % 256).unwrap(),
                };
                damaged.set(at, byte);
                if mutation % 4 != 0 {
                    seal(&mut damaged, record);
                }
            }
            let started = Instant::now();
            match stillframe_xfs::open(limited(damaged)) {
                Ok(fs) => {
                    opened += 1;
                    failed += tree::read_all(&*fs).1.len() + read_attributes(&*fs);
                }
                Err(_) => refused += 1,
            }
            let took = started.elapsed();
            assert!(took < Duration::from_secs(30), "{name}, mutation {mutation}: {took:?}");
        }
    }
    assert!(
        opened > 20 && refused > 20 && failed > 20,
        "{opened} opened, {refused} refused, {failed} errors"
    );
    assert!(peak_kibibytes() < 1 << 20, "{} KiB", peak_kibibytes());
}

/// Pages that hold attributes: leaves, nodes, values, and inodes with an attribute fork.
fn attribute_pages(disk: &SparseMemorySource, page_bytes: usize) -> Vec<(u64, usize)> {
    let mut pages = Vec::new();
    for at in disk.written_pages().flat_map(|page| (page..page + 4096).step_by(page_bytes.min(512))) {
        let bytes = read(disk, at, 512);
        let is_block = at.is_multiple_of(u64::try_from(page_bytes).unwrap())
            && (matches!(bytes[8..10], [0x3b, 0xee] | [0x3e, 0xbe]) || bytes.starts_with(b"XARM"));
        if is_block {
            pages.push((at, 12));
        } else if bytes.starts_with(b"IN") && bytes[82] != 0 {
            pages.push((at, 100));
        }
    }
    pages
}

#[test]
fn damaged_attributes_end() {
    let mut state = 0x5eed_0003_u64;
    let disk = golden("xfs-xattrs");
    let pages = attribute_pages(&disk, 1024);
    assert!(pages.len() > 100, "{} pages", pages.len());
    let mut failed = 0;
    for mutation in 0..80 {
        let mut damaged = disk.clone();
        for _ in 0..12 {
            let (at, crc) = pages[usize::try_from(tree::next(&mut state)).unwrap() % pages.len()];
            let len = if crc == 12 { 1024 } else { 512 };
            let mut block = read(&damaged, at, len);
            // Of an inode only what tells of the attribute fork.
            let forks = 176 + usize::from(block[82]) * 8;
            let places = if crc == 12 { 0..300 } else { [76..84, forks.min(500)..512][mutation % 2].clone() };
            for _ in 0..3 {
                let within = places.start + usize::try_from(tree::next(&mut state)).unwrap() % places.len();
                block[within] = u8::try_from(tree::next(&mut state) % 256).unwrap();
            }
            block[crc..crc + 4].fill(0);
            let sum = crc32c::crc32c(&block);
            block[crc..crc + 4].copy_from_slice(&sum.to_le_bytes());
            for (at, byte) in (at..).zip(block) {
                damaged.set(at, byte);
            }
        }
        let started = Instant::now();
        if let Ok(fs) = stillframe_xfs::open(limited(damaged)) {
            failed += read_attributes(&*fs);
        }
        let took = started.elapsed();
        assert!(took < Duration::from_secs(30), "mutation {mutation}: {took:?}");
    }
    assert!(failed > 80, "{failed} errors: too few to say anything");
}

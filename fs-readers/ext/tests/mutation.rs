//! Fast commits and extended attributes with bytes changed and checksums made anew, so that what is behind the checksums is
//! reached: nothing panics, nothing goes on for long, and what is told is told twice the same.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "tests over golden images"
)]

mod support;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use stillframe_block::{BlockSource, Budget, BudgetSource, SparseMemorySource};
use stillframe_ext::ExtFs;
use stillframe_fixtures::golden;
use stillframe_fs::{FileId, FileKind, ReadOnlyFs, XATTR_BYTES_AT_MOST, XATTRS_AT_MOST};

use support::entries;

struct Seeded(u64);

impl Seeded {
    fn below(&mut self, below: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as usize) % below
    }
}

fn read(image: &SparseMemorySource, at: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    image.read_exact_at(at, &mut bytes).unwrap();
    bytes
}

fn write(image: &mut SparseMemorySource, at: u64, bytes: &[u8]) {
    (at..).zip(bytes).for_each(|(at, byte)| image.set(at, *byte));
}

/// The kernel's crc32c: without inversions.
fn crc(seed: u32, bytes: &[u8]) -> u32 {
    !crc32c::crc32c_append(!seed, bytes)
}

/// Reads all of it, within a budget that a loop would pass, and says what was read.
fn exhaust(image: SparseMemorySource) -> Vec<String> {
    let budget = Budget { reads: 60_000, bytes: 400 << 20, time: Duration::from_secs(60) };
    let source = Arc::new(BudgetSource::new(Arc::new(image), budget));
    let mut told = Vec::new();
    let Ok(fs) = ExtFs::open(source.clone()) else { return told };
    let mut folders = vec![fs.root()];
    let mut seen = BTreeSet::<FileId>::new();
    let mut buffer = vec![0; 256 << 10];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = entries(&fs, folder) else { continue };
        for (name, id) in entries {
            let metadata = fs.metadata(id);
            told.push(format!("{} {} {metadata:?}", name.escape_ascii(), id.number));
            if !seen.insert(id) {
                continue;
            }
            if let Ok(attributes) = fs.xattrs(id) {
                assert!(attributes.len() <= XATTRS_AT_MOST);
                assert!(attributes.iter().map(|one| one.value.len()).sum::<usize>() <= XATTR_BYTES_AT_MOST);
                told.push(format!("{attributes:?}"));
            }
            match metadata.map(|metadata| metadata.kind) {
                Ok(FileKind::Directory) => folders.push(id),
                Ok(FileKind::File) => {
                    let Ok(mut file) = fs.open(id) else { continue };
                    told.push(format!("{:?}", file.extents(0..u64::MAX)));
                    for offset in [0, file.len_bytes() / 2, file.len_bytes().saturating_sub(1)] {
                        told.push(format!("{:?}", file.read_at(offset, &mut buffer).ok()));
                    }
                }
                Ok(FileKind::Symlink) => told.push(format!("{:?}", fs.read_link(id).ok())),
                _ => {}
            }
        }
    }
    assert!(source.exhausted().is_none(), "{:?}", source.exhausted());
    told
}

/// Where the fast-commit area lies: from the head on, up to the last block that holds a tag.
fn area(image: &SparseMemorySource, block_bytes: usize) -> (u64, usize) {
    let start = image
        .written_pages()
        .flat_map(|page| (page..page + 4096).step_by(block_bytes.min(4096)))
        .find(|at| read(image, *at, 8) == [9, 0, 8, 0, 0, 0, 0, 0])
        .unwrap();
    let blocks =
        (0..).take_while(|index| read(image, start + index * block_bytes as u64, 2) != [0, 0]).count();
    (start, blocks * block_bytes)
}

/// Where the tags lie that change something.
fn tags(area: &[u8], block_bytes: usize) -> Vec<(usize, usize)> {
    let mut tags = Vec::new();
    for start in (0..area.len()).step_by(block_bytes) {
        let mut at = start;
        while at + 4 <= start + block_bytes {
            let end = at + 4 + usize::from(u16::from_le_bytes([area[at + 2], area[at + 3]]));
            if matches!(area[at], 1..=6) {
                tags.push((at, end));
            }
            at = end;
        }
    }
    tags
}

/// Makes the CRC of each tail anew, as far as the tags can be followed.
fn reseal(area: &mut [u8], block_bytes: usize) {
    let mut sum = 0;
    for block in area.chunks_exact_mut(block_bytes) {
        let mut at = 0;
        while at + 4 <= block_bytes {
            let kind = u16::from_le_bytes([block[at], block[at + 1]]);
            let end = at + 4 + usize::from(u16::from_le_bytes([block[at + 2], block[at + 3]]));
            if end > block_bytes || !(1..=9).contains(&kind) {
                return;
            }
            if kind == 8 && end >= at + 12 {
                sum = crc(sum, &block[at..at + 8]);
                block[at + 8..at + 12].copy_from_slice(&sum.to_le_bytes());
                sum = 0;
            } else {
                sum = crc(sum, &block[at..end]);
            }
            at = end;
        }
    }
}

#[test]
fn changed_fast_commits_do_no_harm() {
    let mut seeded = Seeded(0x5eed_0010);
    for (name, block_bytes) in
        [("ext4-fast-commit-1k", 1024), ("ext4-fast-commit-plain", 4096), ("ext4-fast-commit-inline", 4096)]
    {
        let image = golden(name);
        let whole = exhaust(image.clone());
        let (at, len) = area(&image, block_bytes);
        let bytes = read(&image, at, len);
        let mut resealed = bytes.clone();
        reseal(&mut resealed, block_bytes);
        assert!(resealed == bytes, "{name}: the test's own checksum is the kernel's");
        let places = tags(&bytes, block_bytes);
        let mut changed = 0;
        for _ in 0..60 {
            let mut bytes = bytes.clone();
            for _ in 0..=seeded.below(6) {
                let (start, end) = places[seeded.below(places.len())];
                let place = start + seeded.below((end - start).min(48));
                let other = seeded.below(256) as u8;
                bytes[place] = [0, 0xff, 1, 0x80, other][seeded.below(5)];
            }
            reseal(&mut bytes, block_bytes);
            let mut image = image.clone();
            write(&mut image, at, &bytes);
            let told = exhaust(image.clone());
            assert!(told == exhaust(image), "{name}: two readings differ");
            changed += usize::from(told != whole);
        }
        assert!(changed > 20, "{name}: only {changed} changes were seen");
    }
}

/// Tags in another order: what the kernel would never write.
#[test]
fn fast_commits_in_any_order_do_no_harm() {
    let mut seeded = Seeded(0x5eed_0011);
    let image = golden("ext4-fast-commit-plain");
    let (at, len) = area(&image, 4096);
    let bytes = read(&image, at, len);
    let tags: Vec<_> = tags(&bytes, 4096).into_iter().map(|(start, end)| &bytes[start..end]).collect();
    let (head, tail) = (&bytes[..12], [&[8, 0, 8, 0], &bytes[8..12], &[0; 4]].concat());
    assert!(tags.len() > 200, "{}", tags.len());
    for _ in 0..40 {
        let mut area = head.to_vec();
        while area.len() < 4096 * 3 {
            let tag = tags[seeded.below(tags.len())];
            let left = 4096 - area.len() % 4096;
            if left < tag.len() + tail.len() + 4 {
                // A tail closes the commit and, with what follows it, the block.
                let len = u16::try_from(left - 4).unwrap().to_le_bytes();
                area.extend([&[8, 0], &len[..], &tail[4..]].concat());
                area.resize(area.len().next_multiple_of(4096), 0);
            } else {
                area.extend_from_slice(tag);
            }
        }
        area.truncate(area.len() / 4096 * 4096);
        reseal(&mut area, 4096);
        let mut image = image.clone();
        write(&mut image, at, &area);
        let fs = ExtFs::open(Arc::new(image.clone())).unwrap();
        assert!(fs.description().notes.iter().any(|note| note.starts_with("fast commits replayed")));
        assert!(exhaust(image.clone()) == exhaust(image));
    }
}

fn number(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

/// The blocks that hold attributes, and inodes that have some behind their fields: where, how long, and the offset of the
/// first attribute's entry.
fn attribute_places(image: &SparseMemorySource, block_bytes: usize) -> Vec<(u64, usize, usize)> {
    let mut places = Vec::new();
    for page in image.written_pages() {
        let bytes = read(image, page, 4096);
        for at in (0..4096).step_by(block_bytes) {
            if bytes[at..at + 4] == [0, 0, 2, 0xea] && number(&bytes, at + 8) == 1 {
                places.push((page + at as u64, block_bytes, 32));
            }
        }
        for at in (0..4096).step_by(256) {
            if bytes[at + 128..at + 130] == [32, 0] && bytes[at + 160..at + 164] == [0, 0, 2, 0xea] {
                places.push((page + at as u64, 256, 164));
            }
        }
    }
    places
}

#[test]
fn changed_attributes_do_no_harm() {
    let mut seeded = Seeded(0x5eed_0012);
    for (name, block_bytes) in [("ext4-xattrs", 1024_usize), ("ext3-xattrs", 4096)] {
        let image = golden(name);
        let whole = exhaust(image.clone());
        let uuid = read(&image, 1024 + 0x68, 16);
        let seed = crc(u32::MAX, &uuid);
        let inode_table =
            u64::from(number(&read(&image, 2048.max(block_bytes as u64), 32), 8)) * block_bytes as u64;
        // Those before are copies in the journal.
        let mut places = attribute_places(&image, block_bytes);
        places.retain(|(at, _, _)| *at >= inode_table);
        let mut changed = 0;
        for round in 0..120 {
            let mut image = image.clone();
            let (at, len, first) = places[round % places.len()];
            let mut bytes = read(&image, at, len);
            for _ in 0..=seeded.below(4) {
                // Mostly the entries; values say nothing.
                let within = [24, len - first][seeded.below(2)];
                let place = first + seeded.below(within);
                let other = seeded.below(256) as u8;
                bytes[place] = [0, 0xff, 1, 0x80, other][seeded.below(5)];
            }
            if len == 256 {
                let inode = u32::try_from((at - inode_table) / 256 + 1).unwrap().to_le_bytes();
                let seed = crc(crc(seed, &inode), &bytes[0x64..0x68]);
                bytes[0x7c..0x7e].fill(0);
                bytes[0x82..0x84].fill(0);
                let sum = crc(seed, &bytes).to_le_bytes();
                bytes[0x7c..0x7e].copy_from_slice(&sum[..2]);
                bytes[0x82..0x84].copy_from_slice(&sum[2..]);
            } else {
                bytes[0x10..0x14].fill(0);
                let sum = crc(crc(seed, &(at / block_bytes as u64).to_le_bytes()), &bytes);
                bytes[0x10..0x14].copy_from_slice(&sum.to_le_bytes());
            }
            write(&mut image, at, &bytes);
            changed += usize::from(exhaust(image) != whole);
        }
        assert!(
            places.len() > 5 && changed > 30,
            "{name}: {} places, {changed} changes were seen",
            places.len()
        );
    }
}

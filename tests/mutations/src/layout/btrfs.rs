//! btrfs (kdave/btrfs-progs, `Documentation/dev/On-disk-format.rst`): superblocks, tree nodes, and the checksums of data in
//! the checksum tree.
//!
//! Nodes are told by the UUID in their header and by their checksum. Data is found where the chunks say, each stripe by
//! itself: striped chunks are left out.

use std::collections::BTreeMap;

use crate::covers::{Cover, Stored, Sum};
use crate::disk::{Fields, bytes_at};
use crate::layout::{Place, btrfs_sums};

const SUPERBLOCKS_AT: [u64; 3] = [64 << 10, 64 << 20, 256 << 30];
const SUPERBLOCK_BYTES: u64 = 4096;
const SUM_BYTES: u64 = 32;
const HEADER_BYTES: usize = 101;
const CHUNK_TREE: u64 = 3;
const SUM_TREE: u64 = 7;
const CHUNK_ITEM: u8 = 228;
const EXTENT_CSUM: u8 = 128;
/// RAID0, RAID10, RAID5 and RAID6.
const STRIPED: u64 = 0x8 | 0x40 | 0x80 | 0x100;

pub(super) fn covers(place: &Place<'_>) -> Vec<Cover> {
    let bytes = bytes_at(place.disk, place.start + SUPERBLOCKS_AT[0], SUPERBLOCK_BYTES);
    let superblock = Fields(&bytes);
    let (sum, sum_bytes) = match superblock.u16(0xc4) {
        0 => (Sum::Crc32c, 4),
        1 => (Sum::XxHash64, 8),
        2 => (Sum::Sha256, 32),
        3 => (Sum::Blake2b, 32),
        _ => return Vec::new(),
    };
    let (sector_bytes, node_bytes) = (u64::from(superblock.u32(0x90)), u64::from(superblock.u32(0x94)));
    let is_sound = node_bytes.is_power_of_two() && (4096..=65536).contains(&node_bytes);
    if !superblock.is(0x40, b"_BHRfS_M") || !is_sound || sector_bytes == 0 {
        return Vec::new();
    }
    let beside = |at: u64, len: u64| Cover::beside(at + SUM_BYTES..at + len, Stored::u32_le(at), sum);
    let mut covers = Vec::new();
    for at in SUPERBLOCKS_AT.map(|at| place.start + at) {
        if at + SUPERBLOCK_BYTES <= place.end && bytes_at(place.disk, at + 0x40, 8) == *b"_BHRfS_M" {
            covers.push(beside(at, SUPERBLOCK_BYTES));
        }
    }
    let uuid = &bytes[0x20..0x30];
    // With METADATA_UUID the nodes bear the other one.
    let metadata_uuid = &bytes[0x23b..0x24b];
    let mut leaves = Vec::new();
    for at in place.written(4096) {
        let is_superblock = covers.iter().any(|cover: &Cover| cover.stored[0].at == at);
        if is_superblock || at + node_bytes > place.end {
            continue;
        }
        let head = bytes_at(place.disk, at, HEADER_BYTES as u64);
        if head[0x20..0x30] != *uuid && head[0x20..0x30] != *metadata_uuid {
            continue;
        }
        let node = bytes_at(place.disk, at, node_bytes);
        if btrfs_sums::is_right(sum, &node) {
            covers.push(beside(at, node_bytes));
            leaves.push((at, node));
        }
    }
    data(place, &leaves, &Data { sum, sum_bytes, sector_bytes }, &mut covers);
    covers
}

struct Data {
    sum: Sum,
    sum_bytes: u64,
    sector_bytes: u64,
}

/// The items of a leaf: object, type, offset, and where its data is in the leaf.
fn items(leaf: &[u8]) -> Vec<(u64, u8, u64, std::ops::Range<usize>)> {
    let fields = Fields(leaf);
    let count = if fields.u8(100) == 0 { fields.u32(96) as usize } else { 0 };
    let item = |index: usize| {
        let at = HEADER_BYTES + index * 25;
        let start = HEADER_BYTES + fields.u32(at + 17) as usize;
        let range = start..start + fields.u32(at + 21) as usize;
        (fields.u64(at), fields.u8(at + 8), fields.u64(at + 9), range)
    };
    (0..count).map(item).filter(|item| item.3.end <= leaf.len()).collect()
}

fn data(place: &Place<'_>, leaves: &[(u64, Vec<u8>)], data: &Data, covers: &mut Vec<Cover>) {
    let mut leaves: Vec<_> = leaves.iter().collect();
    // Newer ones last: they say it better.
    leaves.sort_by_key(|(_, leaf)| Fields(leaf).u64(80));
    let of = |tree: u64| leaves.iter().filter(move |(_, leaf)| Fields(leaf).u64(88) == tree);
    // Where a chunk begins: its length, and where its stripes begin.
    let mut chunks: BTreeMap<u64, (u64, Vec<u64>)> = BTreeMap::new();
    for (_, leaf) in of(CHUNK_TREE) {
        for (_, _, logical, range) in items(leaf).into_iter().filter(|item| item.1 == CHUNK_ITEM) {
            let chunk = Fields(&leaf[range]);
            let stripes =
                (0..usize::from(chunk.u16(44))).map(|stripe| chunk.u64(48 + stripe * 32 + 8)).collect();
            if chunk.u64(24) & STRIPED == 0 {
                chunks.insert(logical, (chunk.u64(0), stripes));
            }
        }
    }
    let mut sums: BTreeMap<u64, u64> = BTreeMap::new();
    for (at, leaf) in of(SUM_TREE) {
        for (_, _, logical, range) in items(leaf).into_iter().filter(|item| item.1 == EXTENT_CSUM) {
            for index in 0..(range.len() as u64 / data.sum_bytes) {
                let stored = at + range.start as u64 + index * data.sum_bytes;
                sums.insert(logical + index * data.sector_bytes, stored);
            }
        }
    }
    for (logical, stored) in sums {
        let Some((start, (len, stripes))) = chunks.range(..=logical).next_back() else { continue };
        for stripe in stripes.iter().filter(|_| logical - start < *len) {
            let at = place.start + stripe + (logical - start);
            if at + data.sector_bytes <= place.end {
                let cover = Cover::beside(at..at + data.sector_bytes, Stored::u32_le(stored), data.sum);
                covers.push(Cover { is_data: true, ..cover });
            }
        }
    }
}

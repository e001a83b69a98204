//! ext4 with `metadata_csum` or `gdt_csum` (kernel documentation, `filesystems/ext4/checksums.rst`): the superblock, the
//! group descriptors, inodes, and the blocks of directories, htrees, extent trees and extended attributes.
//!
//! Blocks are told by their content, so that one that holds no metadata and looks like it is changed as if it did. Not
//! covered: bitmaps, which no reader of ours reads, and copies of the superblock.

use crate::covers::{Cover, Stored, Sum};
use crate::disk::{Fields, bytes_at};
use crate::layout::Place;

const METADATA_CSUM: u32 = 0x400;
const GDT_CSUM: u32 = 0x10;
const SPARSE_SUPER: u32 = 1;
const META_BG: u32 = 0x10;
const IS_64_BIT: u32 = 0x80;

/// What of a superblock tells where things are.
pub(super) struct Geometry {
    pub(super) block_bytes: u64,
    first_block: u64,
    blocks_per_group: u64,
    inodes_per_group: u64,
    inode_bytes: u64,
    descriptor_bytes: u64,
    groups: u64,
    incompat: u32,
    ro_compat: u32,
    first_meta_bg: u64,
}

impl Geometry {
    pub(super) fn of(place: &Place<'_>) -> Option<Self> {
        let bytes = bytes_at(place.disk, place.start + 1024, 1024);
        let superblock = Fields(&bytes);
        let incompat = superblock.u32(0x60);
        let inodes_per_group = u64::from(superblock.u32(0x28));
        let descriptor_bytes =
            if incompat & IS_64_BIT == 0 { 32 } else { u64::from(superblock.u16(0xfe)).clamp(64, 1024) };
        (superblock.u16(0x38) == 0xef53 && inodes_per_group > 0).then(|| Self {
            block_bytes: 1024 << superblock.u32(0x18).min(6),
            first_block: superblock.u32(0x14).into(),
            blocks_per_group: superblock.u32(0x20).into(),
            inodes_per_group,
            inode_bytes: u64::from(superblock.u16(0x58)).clamp(128, 4096),
            descriptor_bytes,
            groups: (u64::from(superblock.u32(0)) / inodes_per_group).min(4096),
            incompat,
            ro_compat: superblock.u32(0x64),
            first_meta_bg: superblock.u32(0x104).into(),
        })
    }

    /// The block that holds the descriptor of `group`, and where in it.
    fn descriptor(&self, group: u64) -> u64 {
        let per_block = self.block_bytes / self.descriptor_bytes;
        let (index, within) = (group / per_block, group % per_block * self.descriptor_bytes);
        let block = if self.incompat & META_BG == 0 || index < self.first_meta_bg {
            self.first_block + 1 + index
        } else {
            let first = index * per_block;
            first * self.blocks_per_group + self.first_block + u64::from(self.has_superblock(first))
        };
        block * self.block_bytes + within
    }

    fn has_superblock(&self, group: u64) -> bool {
        let is_power = |base: u64| {
            let mut power = base;
            while power < group {
                power *= base;
            }
            power == group
        };
        self.ro_compat & SPARSE_SUPER == 0 || group <= 1 || [3, 5, 7].into_iter().any(is_power)
    }
}

pub(super) fn covers(place: &Place<'_>) -> Vec<Cover> {
    let Some(geometry) = Geometry::of(place) else { return Vec::new() };
    let has_sums = geometry.ro_compat & METADATA_CSUM != 0;
    let mut covers = Vec::new();
    if has_sums {
        let at = place.start + 1024;
        covers.push(Cover::beside(at..at + 0x3fc, Stored::u32_le(at + 0x3fc), Sum::Crc32c));
    }
    for group in 0..geometry.groups {
        let at = place.start + geometry.descriptor(group);
        let end = at + geometry.descriptor_bytes;
        let stored = Stored::u16_le(at + 0x1e, 0);
        if has_sums {
            covers.push(Cover::with_field(at..end, stored, Sum::Crc32c));
            inodes(place, &geometry, at, &mut covers);
        } else if geometry.ro_compat & GDT_CSUM != 0 {
            let parts = vec![at..at + 0x1e, at + 0x20..end];
            covers.push(Cover { parts, ..Cover::beside(at..end, stored, Sum::Crc16) });
        }
    }
    if has_sums {
        let blocks = place.written(geometry.block_bytes).into_iter();
        covers.extend(blocks.filter_map(|at| of_block(&bytes_at(place.disk, at, geometry.block_bytes), at)));
    }
    covers
}

/// Every inode that was used, of the group whose descriptor is at `descriptor`.
fn inodes(place: &Place<'_>, geometry: &Geometry, descriptor: u64, covers: &mut Vec<Cover>) {
    let bytes = bytes_at(place.disk, descriptor, geometry.descriptor_bytes);
    let (low, high) = (Fields(&bytes).u32(8), Fields(&bytes).u32(0x28));
    let table = place.start + ((u64::from(high) << 32) | u64::from(low)) * geometry.block_bytes;
    for index in 0..geometry.inodes_per_group {
        let at = table + index * geometry.inode_bytes;
        if at + geometry.inode_bytes > place.end {
            return;
        }
        let inode = bytes_at(place.disk, at, geometry.inode_bytes);
        // One that was never used has no checksum.
        if inode.iter().all(|byte| *byte == 0) {
            continue;
        }
        let mut cover =
            Cover::with_field(at..at + geometry.inode_bytes, Stored::u16_le(at + 0x7c, 0), Sum::Crc32c);
        if inode.len() > 128 && Fields(&inode).u16(0x80) >= 4 {
            cover.zeroed.push(at + 0x82..at + 0x84);
            cover.stored.push(Stored::u16_le(at + 0x82, 16));
        }
        covers.push(cover);
    }
}

fn of_block(bytes: &[u8], at: u64) -> Option<Cover> {
    let (block, len) = (Fields(bytes), bytes.len());
    let all = at..at + len as u64;
    if block.is(len - 12, &[0, 0, 0, 0, 12, 0, 0, 0xde]) {
        return Some(Cover::beside(at..all.end - 12, Stored::u32_le(all.end - 4), Sum::Crc32c));
    }
    if block.u32(0) == 0xea02_0000 && block.u32(8) == 1 {
        return Some(Cover::with_field(all, Stored::u32_le(at + 0x10), Sum::Crc32c));
    }
    if block.u16(0) == 0xf30a && usize::from(block.u16(4)) == (len - 12) / 12 && block.u16(2) <= block.u16(4)
    {
        let end = at + 12 + 12 * u64::from(block.u16(4));
        return (end + 4 <= all.end).then(|| Cover::beside(at..end, Stored::u32_le(end), Sum::Crc32c));
    }
    let is_root = block.u32(0) != 0 && block.is(4, &[12, 0, 1, 2, b'.']) && block.u8(0x1d) == 8;
    let is_node = block.u32(0) == 0 && usize::from(block.u16(4)) == len && block.u8(6) == 0;
    let counts_at = if is_root { 0x20 } else { 8 };
    let (limit, count) = (usize::from(block.u16(counts_at)), block.u16(counts_at + 2));
    // The limit leaves room for one tail of eight bytes.
    let is_htree = (is_root || is_node) && limit == (len - counts_at) / 8 - 1 && usize::from(count) <= limit;
    is_htree.then(|| {
        let stored = Stored::u32_le(at + (counts_at + limit * 8 + 4) as u64);
        Cover::beside(all, stored, Sum::Htree { counts_at })
    })
}

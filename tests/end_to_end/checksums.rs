//! Checksums of metadata made right again after a change, so that the code behind them is reached.
//!
//! Refreshed: the superblock, the group descriptors and the inodes of ext4 (`metadata_csum`); the superblock, the inodes
//! and the blocks of short directories of XFS version 5; the superblock and every tree node of btrfs; the header and the
//! entries of a GPT. Not refreshed: directory and extent blocks of ext4, trees of XFS, journals.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]
#![allow(clippy::arithmetic_side_effects, clippy::cast_possible_truncation, reason = "our own images")]

use stillframe_block::{BlockSource, SparseMemorySource};

use crate::disks::{bytes_at, patch};

pub const BTRFS_SUPERBLOCK_AT: u64 = 64 << 10;
const METADATA_CSUM: u32 = 0x400;
const CSUM_SEED: u32 = 0x2000;
const BTRFS_NODE_HEADER_BYTES: usize = 0x65;

/// Everything that covers the byte at `changed`, on a disk whose filesystems begin where `volumes` says.
pub fn refresh(disk: &mut SparseMemorySource, volumes: &[(u64, String)], changed: u64) {
    for sector_bytes in [512, 4096] {
        if bytes_at::<8>(disk, sector_bytes) == *b"EFI PART" && changed < 1 << 16 {
            refresh_gpt(disk, sector_bytes);
        }
    }
    let volume = volumes.iter().filter(|(start, _)| *start <= changed).max_by_key(|(start, _)| *start);
    let Some((start, kind)) = volume else { return };
    match kind.as_str() {
        "ext2" | "ext3" | "ext4" => {
            refresh_ext_inode(disk, *start, changed);
            refresh_ext_descriptors(disk, *start, changed);
            if (*start + 1024..*start + 2048).contains(&changed) {
                refresh_ext_superblock(disk, *start);
            }
        }
        "xfs" if changed - start < 512 => refresh_xfs_superblock(disk, *start),
        "xfs" => refresh_xfs_block(disk, *start, changed),
        "btrfs" if (*start + BTRFS_SUPERBLOCK_AT..*start + BTRFS_SUPERBLOCK_AT + 4096).contains(&changed) => {
            refresh_btrfs_superblock(disk, *start);
        }
        "btrfs" => refresh_btrfs_node(disk, *start, changed),
        _ => {}
    }
}

/// The entries and the header of the first partition table.
fn refresh_gpt(disk: &mut SparseMemorySource, sector_bytes: u64) {
    let header = sector_bytes;
    let entries_at = u64::from_le_bytes(bytes_at(disk, header + 72)).saturating_mul(sector_bytes);
    let entries_len = u64::from(u32_at(disk, header + 80)).saturating_mul(u32_at(disk, header + 84).into());
    let header_len = u32_at(disk, header + 12) as usize;
    if entries_len > 1 << 20
        || entries_at.saturating_add(entries_len) > disk.len_bytes()
        || !(92..=512).contains(&header_len)
    {
        return;
    }
    let entries = crc32fast::hash(&vec_at(disk, entries_at, entries_len as usize));
    patch(disk, header + 88, &entries.to_le_bytes());
    patch(disk, header + 16, &[0; 4]);
    let crc = crc32fast::hash(&vec_at(disk, header, header_len));
    patch(disk, header + 16, &crc.to_le_bytes());
}

/// CRC-32C as ext4 keeps it: begun with `seed`, and not inverted at its end.
fn crc_from(seed: u32, bytes: &[u8]) -> u32 {
    !crc32c::crc32c_append(!seed, bytes)
}

fn u32_at(disk: &dyn BlockSource, at: u64) -> u32 {
    u32::from_le_bytes(bytes_at(disk, at))
}

fn vec_at(disk: &dyn BlockSource, at: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    disk.read_exact_at(at, &mut bytes).unwrap();
    bytes
}

/// The superblock of the ext4 filesystem that begins at `start`.
pub fn refresh_ext_superblock(disk: &mut SparseMemorySource, start: u64) {
    let at = start + 1024;
    if u32_at(disk, at + 0x64) & METADATA_CSUM != 0 {
        let crc = crc_from(u32::MAX, &vec_at(disk, at, 0x3fc));
        patch(disk, at + 0x3fc, &crc.to_le_bytes());
    }
}

/// What of an ext4 superblock its checksums need.
struct Ext {
    block_bytes: u64,
    inodes_per_group: u64,
    inode_bytes: u64,
    descriptors_at: u64,
    descriptor_bytes: u64,
    groups: u64,
    seed: u32,
}

impl Ext {
    fn of(disk: &SparseMemorySource, start: u64) -> Option<Self> {
        let superblock = start + 1024;
        if u32_at(disk, superblock + 0x64) & METADATA_CSUM == 0 {
            return None;
        }
        let block_bytes = 1024_u64 << u32_at(disk, superblock + 0x18).min(6);
        let inodes_per_group = u64::from(u32_at(disk, superblock + 0x28)).max(1);
        let incompat = u32_at(disk, superblock + 0x60);
        let descriptor_bytes = u64::from(u16::from_le_bytes(bytes_at(disk, superblock + 0xfe)));
        let is_64_bit = incompat & 0x80 != 0;
        Some(Self {
            block_bytes,
            inodes_per_group,
            inode_bytes: u64::from(u16::from_le_bytes(bytes_at(disk, superblock + 0x58))).clamp(128, 4096),
            descriptors_at: start + block_bytes * (1 + u64::from(block_bytes == 1024)),
            descriptor_bytes: if is_64_bit { descriptor_bytes.clamp(64, 1024) } else { 32 },
            groups: (u64::from(u32_at(disk, superblock)) / inodes_per_group).min(64),
            seed: if incompat & CSUM_SEED != 0 {
                u32_at(disk, superblock + 0x270)
            } else {
                crc_from(u32::MAX, &vec_at(disk, superblock + 0x68, 16))
            },
        })
    }
}

/// The group descriptor that holds the byte at `changed`, if one of the ext4 filesystem at `start` does. Those of
/// `meta_bg` behind the first group are not found.
fn refresh_ext_descriptors(disk: &mut SparseMemorySource, start: u64, changed: u64) {
    let Some(ext) = Ext::of(disk, start) else { return };
    let Some(within) = changed.checked_sub(ext.descriptors_at) else { return };
    let group = within / ext.descriptor_bytes;
    let at = ext.descriptors_at + group * ext.descriptor_bytes;
    if group < ext.groups && at + ext.descriptor_bytes <= disk.len_bytes() {
        let mut descriptor = vec_at(disk, at, ext.descriptor_bytes as usize);
        descriptor[0x1e..0x20].fill(0);
        let crc = crc_from(crc_from(ext.seed, &(group as u32).to_le_bytes()), &descriptor);
        patch(disk, at + 0x1e, &crc.to_le_bytes()[..2]);
    }
}

/// The inode that holds the byte at `changed`, if an inode table of the ext4 filesystem at `start` does.
fn refresh_ext_inode(disk: &mut SparseMemorySource, start: u64, changed: u64) {
    let Some(ext) = Ext::of(disk, start) else { return };
    for group in 0..ext.groups {
        let descriptor = ext.descriptors_at + group * ext.descriptor_bytes;
        if descriptor + 32 > disk.len_bytes() {
            return;
        }
        let table = start + u64::from(u32_at(disk, descriptor + 8)) * ext.block_bytes;
        let table_bytes = ext.inodes_per_group * ext.inode_bytes;
        let Some(within) = changed.checked_sub(table).filter(|within| *within < table_bytes) else {
            continue;
        };
        let index = within / ext.inode_bytes;
        let number = (group * ext.inodes_per_group + index + 1) as u32;
        refresh_ext_inode_at(disk, &ext, number, table + index * ext.inode_bytes);
        return;
    }
}

fn refresh_ext_inode_at(disk: &mut SparseMemorySource, ext: &Ext, number: u32, at: u64) {
    if at + ext.inode_bytes > disk.len_bytes() {
        return;
    }
    let mut inode = vec_at(disk, at, ext.inode_bytes as usize);
    // One that was never used has no checksum.
    if inode.iter().all(|byte| *byte == 0) {
        return;
    }
    let generation = inode[0x64..0x68].to_vec();
    let has_high = inode.len() > 128 && u16::from_le_bytes([inode[0x80], inode[0x81]]) >= 4;
    inode[0x7c..0x7e].fill(0);
    if has_high {
        inode[0x82..0x84].fill(0);
    }
    let crc = crc_from(crc_from(crc_from(ext.seed, &number.to_le_bytes()), &generation), &inode);
    patch(disk, at + 0x7c, &crc.to_le_bytes()[..2]);
    if has_high {
        patch(disk, at + 0x82, &crc.to_le_bytes()[2..]);
    }
}

/// The superblock of the XFS filesystem that begins at `start`; version 4 has no checksum.
pub fn refresh_xfs_superblock(disk: &mut SparseMemorySource, start: u64) {
    let version = u16::from_be_bytes(bytes_at(disk, start + 0x64)) & 0xf;
    let sector_bytes = usize::from(u16::from_be_bytes(bytes_at(disk, start + 0x66)));
    if version != 5 || !(512..=32768).contains(&sector_bytes) {
        return;
    }
    patch(disk, start + 0xe0, &[0; 4]);
    let crc = crc32c::crc32c(&vec_at(disk, start, sector_bytes));
    patch(disk, start + 0xe0, &crc.to_le_bytes());
}

/// The inode or short directory block of XFS version 5 that holds the byte at `changed`, found by its magic. Directory
/// blocks longer than a filesystem block are not.
fn refresh_xfs_block(disk: &mut SparseMemorySource, start: u64, changed: u64) {
    let block_bytes = u64::from(u32::from_be_bytes(bytes_at(disk, start + 4)));
    let inode_bytes = u64::from(u16::from_be_bytes(bytes_at(disk, start + 0x68)));
    if !block_bytes.is_power_of_two() || !inode_bytes.is_power_of_two() || inode_bytes < 256 {
        return;
    }
    let within = changed - start;
    let (inode_at, block_at) = (changed - within % inode_bytes, changed - within % block_bytes);
    let fits = |at: u64, len: u64| len <= 65536 && at + len <= disk.len_bytes();
    let (at, len, field) = if fits(inode_at, inode_bytes)
        && bytes_at::<2>(disk, inode_at) == *b"IN"
        && bytes_at::<1>(disk, inode_at + 4) == [3]
    {
        (inode_at, inode_bytes, 100)
    } else if fits(block_at, block_bytes) && bytes_at::<4>(disk, block_at) == *b"XDB3" {
        (block_at, block_bytes, 4)
    } else {
        return;
    };
    patch(disk, at + field, &[0; 4]);
    let crc = crc32c::crc32c(&vec_at(disk, at, len as usize));
    patch(disk, at + field, &crc.to_le_bytes());
}

/// The superblock of the btrfs filesystem that begins at `start`.
pub fn refresh_btrfs_superblock(disk: &mut SparseMemorySource, start: u64) {
    let at = start + BTRFS_SUPERBLOCK_AT;
    let crc = crc32c::crc32c(&vec_at(disk, at + 0x20, 4096 - 0x20));
    patch(disk, at, &crc.to_le_bytes());
}

/// The btrfs tree node that holds the byte at `changed`, if one does: a node begins at a multiple of its size, with the
/// filesystem's UUID in its header.
fn refresh_btrfs_node(disk: &mut SparseMemorySource, start: u64, changed: u64) {
    let superblock = start + BTRFS_SUPERBLOCK_AT;
    let node_bytes = u64::from(u32_at(disk, superblock + 0x94));
    if !node_bytes.is_power_of_two() || !(4096..=65536).contains(&node_bytes) {
        return;
    }
    // Nodes are aligned to 4096 bytes, and not always to their own size.
    for back in 0..node_bytes / 4096 {
        let at = (changed / 4096).saturating_sub(back) * 4096;
        if at < start || at + node_bytes > disk.len_bytes() {
            continue;
        }
        let node = vec_at(disk, at, node_bytes as usize);
        let header = &node[..BTRFS_NODE_HEADER_BYTES];
        let is_superblock_copy = header[0x40..0x48] == *b"_BHRfS_M";
        if !is_superblock_copy && header[0x20..0x30] == bytes_at::<16>(disk, superblock + 0x20) {
            let crc = crc32c::crc32c(&node[0x20..]);
            patch(disk, at, &crc.to_le_bytes());
            return;
        }
    }
}

//! The entries of a directory. Kernel documentation: `filesystems/ext4/directory.rst`.
//!
//! All blocks are read in order, hash trees too: their inner nodes look like unused entries, and their leaves are
//! plain blocks. So no hash is ever followed, and none can lead astray.

use std::ops::ControlFlow;

use stillframe_block::BlockSource;
use stillframe_bytes::{Fault, Quantity, Structure};
use stillframe_fs::{DirEntry, FileId, FileKind, FsError, prefetch_on};

use crate::block_map::BlockMap;
use crate::checksum::crc32c_raw;
use crate::content::{extents, read_blocks};
use crate::inode::Inode;
use crate::superblock::incompat;
use crate::volume::Volume;

const TAIL_BYTES: usize = 12;
const TAIL_KIND: u8 = 0xde;
/// No directory of a real machine comes near: 2^32 blocks could be claimed.
const MAX_BLOCKS: u64 = 1 << 24;

type Visit<'v> = dyn FnMut(DirEntry<'_>) -> ControlFlow<()> + 'v;

/// Visits every entry but `.` and `..`. A damaged block is passed over, as the kernel does, and the first fault is
/// returned at the end.
pub(crate) fn read(volume: &Volume, inode: &Inode, visit: &mut Visit<'_>) -> Result<(), FsError> {
    if inode.is_encrypted() {
        return Err(FsError::Encrypted("ext4 file encryption"));
    }
    if inode.has_inline_data() {
        return read_inline(volume, inode, visit);
    }
    let block_bytes = u64::from(volume.superblock.block_bytes);
    let blocks = inode.size_bytes.div_ceil(block_bytes);
    if blocks > MAX_BLOCKS {
        return Err(FsError::Limit { what: "directory blocks", cap: MAX_BLOCKS });
    }
    if blocks > 1 && volume.source.wants_hints() {
        // All of it will be read, one block after the other: they can be on their way together.
        let all = extents(volume, inode, 0..inode.size_bytes);
        prefetch_on(std::slice::from_ref(&volume.source), &all);
    }
    let mut map = BlockMap::new(volume, inode);
    let mut first_fault = None;
    let mut bytes = vec![0; volume.block_bytes()];
    let mut block = 0;
    while block < blocks {
        let run = map.run(block)?;
        let Some(start) = run.start else {
            let at = inode.at;
            first_fault.get_or_insert(FsError::Corrupt(Fault::new(
                "directory block",
                at,
                "a block",
                "a hole",
            )));
            block = block.saturating_add(run.len_blocks);
            continue;
        };
        read_blocks(volume, &mut map, block.saturating_mul(block_bytes), &mut bytes)?;
        let s = Structure::new("directory block", start.saturating_mul(block_bytes), &bytes);
        match read_block(volume, inode, block, &s, visit) {
            Ok(ControlFlow::Continue(())) => {}
            Ok(ControlFlow::Break(())) => return Ok(()),
            Err(fault) => {
                first_fault.get_or_insert(FsError::Corrupt(fault));
            }
        }
        block = block.saturating_add(1);
    }
    first_fault.map_or(Ok(()), Err)
}

fn read_block(
    volume: &Volume,
    inode: &Inode,
    block: u64,
    s: &Structure<'_>,
    visit: &mut Visit<'_>,
) -> Result<ControlFlow<()>, Fault> {
    if let Some(seed) = inode.checksum_seed {
        // The root and the inner nodes of a hash tree have a tail of another form, and no entry that is read here
        // besides `.` and `..`.
        if inode.is_indexed() && is_inner(block, s)? {
            return Ok(ControlFlow::Continue(()));
        }
        check_tail(s, seed)?;
    }
    read_entries(volume, s, visit)
}

/// Whether a block of a hash tree can hold no entry besides `.` and `..`. The flag alone does not make it so: entries
/// could be hidden in a first block that is called a root.
fn is_inner(block: u64, s: &Structure<'_>) -> Result<bool, Fault> {
    let first_len = record_len(s, 0)?;
    if block > 0 {
        return Ok(s.u32_le(0)? == 0 && first_len == s.len());
    }
    let is_dots = first_len == 12 && s.slice(8, 2)? == b".\0" && s.slice(12 + 8, 3)? == b"..\0";
    Ok(is_dots && record_len(s, 12)? == s.len().saturating_sub(12))
}

/// The last 12 bytes of a block pass for an unused entry and hold its checksum.
fn check_tail(s: &Structure<'_>, seed: u32) -> Result<(), Fault> {
    let at = s.len().saturating_sub(TAIL_BYTES);
    let tail = s.part("directory block tail", at, TAIL_BYTES)?;
    let is_tail =
        tail.u32_le(0)? == 0 && usize::from(tail.u16_le(4)?) == TAIL_BYTES && tail.u8(7)? == TAIL_KIND;
    if !is_tail {
        return Err(tail.fault("directory block tail", 0, "a checksum", "none"));
    }
    let (stored, computed) = (tail.u32_le(8)?, crc32c_raw(seed, s.slice(0, at)?));
    if stored == computed {
        return Ok(());
    }
    Err(tail.fault(
        "directory block checksum",
        8,
        Quantity::Hex(stored.into()),
        Quantity::Hex(computed.into()),
    ))
}

/// The entries of an inline directory: behind the parent's number in `i_block`, and in the attribute `system.data`.
fn read_inline(volume: &Volume, inode: &Inode, visit: &mut Visit<'_>) -> Result<(), FsError> {
    let (first, second) = inode.inline_data()?;
    let first = Structure::new("inline directory", inode.at, first).rest("inline directory", 4)?;
    let second = Structure::new("inline directory", inode.at, second);
    for part in [first, second] {
        if read_entries(volume, &part, visit)?.is_break() {
            break;
        }
    }
    Ok(())
}

/// `rec_len` of the entry at `at`. In blocks of 64 KiB its two low bits are its high bits.
fn record_len(s: &Structure<'_>, at: usize) -> Result<usize, Fault> {
    let raw = usize::from(s.u16_le(at.saturating_add(4))?);
    Ok(match raw {
        0 | 65_535 if s.len() >= 65_536 => 65_536,
        _ => raw & 0xfffc | (raw & 3) << 16,
    })
}

fn read_entries(volume: &Volume, s: &Structure<'_>, visit: &mut Visit<'_>) -> Result<ControlFlow<()>, Fault> {
    let has_kinds = volume.superblock.has_incompat(incompat::FILETYPE);
    let mut at = 0_usize;
    while at < s.len() {
        let len = record_len(s, at)?;
        let left = s.len().saturating_sub(at);
        if len < 8 || len > left {
            return Err(s.fault("directory record length", at.saturating_add(4), left, len));
        }
        let entry = s.part("directory entry", at, len)?;
        at = at.saturating_add(len);
        let inode = entry.u32_le(0)?;
        if inode == 0 {
            continue;
        }
        let (name_len, kind) =
            if has_kinds { (u16::from(entry.u8(6)?), entry.u8(7)?) } else { (entry.u16_le(6)?, 0) };
        let name = entry.slice(8, usize::from(name_len))?;
        if name == b"." || name == b".." {
            continue;
        }
        if name.is_empty() || name.len() > 255 || name.iter().any(|byte| matches!(byte, 0 | b'/')) {
            volume.push_fault(entry.fault("directory entry name", 6, "a name without separator", name_len));
            continue;
        }
        if inode > volume.superblock.inodes_count {
            volume.push_fault(entry.fault("directory entry inode", 0, inode, volume.superblock.inodes_count));
            continue;
        }
        let found = DirEntry { name, id: FileId::new(inode.into()), kind: kind_of(kind) };
        if visit(found).is_break() {
            return Ok(ControlFlow::Break(()));
        }
    }
    Ok(ControlFlow::Continue(()))
}

const fn kind_of(file_type: u8) -> Option<FileKind> {
    match file_type {
        1 => Some(FileKind::File),
        2 => Some(FileKind::Directory),
        3 => Some(FileKind::CharacterDevice),
        4 => Some(FileKind::BlockDevice),
        5 => Some(FileKind::Fifo),
        6 => Some(FileKind::Socket),
        7 => Some(FileKind::Symlink),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_first_block_with_entries_is_no_root_of_a_hash_tree() {
        let mut block = [0; 1024];
        for (at, len, name) in [(0, 12, b".".as_slice()), (12, 1012, b"..")] {
            block[at + 4..at + 6].copy_from_slice(&u16::to_le_bytes(len));
            block[at + 8..at + 8 + name.len()].copy_from_slice(name);
        }
        let is_root = |block: &[u8]| is_inner(0, &Structure::new("block", 0, block)).unwrap();
        assert!(is_root(&block));
        block[12 + 4] = 12;
        block[12 + 5] = 0;
        assert!(!is_root(&block));
    }
}

//! The entries of a directory. Kernel documentation: `filesystems/ext4/directory.rst`.
//!
//! All blocks are read in order, hash trees too: their inner nodes look like unused entries, and their leaves are
//! plain blocks. So no hash is ever followed, and none can lead astray.

use std::ops::ControlFlow;

use stillframe_bytes::{Fault, Quantity, Structure};
use stillframe_fs::{DirEntry, FileId, FileKind, FsError};

use crate::block_map::BlockMap;
use crate::checksum::crc32c_raw;
use crate::content::read_blocks;
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
        let is_inner =
            inode.is_indexed() && (block == 0 || (s.u32_le(0)? == 0 && record_len(s, 0)? == s.len()));
        if is_inner {
            return Ok(ControlFlow::Continue(()));
        }
        check_tail(s, seed)?;
    }
    read_entries(volume, s, visit)
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

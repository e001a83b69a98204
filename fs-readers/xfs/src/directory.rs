//! Directories (XFS Algorithms & Data Structures, "Directories"): short form in the inode, one block, or data blocks
//! with a hash index.
//!
//! Entries are taken from the data in its order; the hash index beyond 32 GiB of the fork's address space only speeds
//! up looking a name up, which nothing does here.

use std::ops::ControlFlow;

use stillframe_bytes::{Fault, Quantity, Structure};
use stillframe_fs::{DirEntry, FileId, FileKind, FsError};

use crate::checksum::checksum_matches;
use crate::extents::{self, Extent};
use crate::inode::{Format, Inode};
use crate::superblock::Superblock;
use crate::volume::{SECTOR_BYTES, Volume, to_u64, to_usize};

/// Where the hash index begins in the fork's address space.
const INDEX_OFFSET: u64 = 32 << 30;

const DATA_V5: u32 = 0x5844_4433;
const DATA_V4: u32 = 0x5844_3244;
const BLOCK_V5: u32 = 0x5844_4233;
const BLOCK_V4: u32 = 0x5844_3242;
const HEADER_V5_BYTES: usize = 64;
const HEADER_V4_BYTES: usize = 16;
const CRC_OFFSET: usize = 4;
const SEQUENCE_NUMBER_OFFSET: usize = 16;
/// In place of an inode number's first bytes: nothing is here.
const FREE_TAG: u16 = 0xffff;

/// What a visitor of entries gives back.
pub(crate) type Visit<'a> = dyn FnMut(DirEntry<'_>) -> ControlFlow<()> + 'a;

/// Visits all entries of `inode`. Goes on past a damaged block, and tells of the first one at the end.
pub(crate) fn read(
    volume: &Volume,
    superblock: &Superblock,
    inode: &Inode,
    visit: &mut Visit<'_>,
) -> Result<(), FsError> {
    if inode.data.format == Format::Local {
        return read_short(superblock, inode, visit);
    }
    let mut extents = extents::read(volume, superblock, inode)?;
    let index = INDEX_OFFSET.checked_div(superblock.block_bytes).unwrap_or(0);
    extents.retain(|extent| extent.file_block < index);
    if volume.wants_hints() {
        volume.prefetch(&extents::volume_ranges(&extents, superblock.block_bytes, &(0..INDEX_OFFSET)));
    }
    let mut damage = None;
    for block in directory_blocks(superblock, &extents) {
        match read_block(volume, superblock, inode, &extents, block, visit) {
            Ok(ControlFlow::Continue(())) => {}
            Ok(ControlFlow::Break(())) => return Ok(()),
            Err(error) if error.is_final() => return Err(error),
            Err(error) => damage = damage.or(Some(error)),
        }
    }
    damage.map_or(Ok(()), Err)
}

/// The numbers of the directory blocks that `extents` map, each once.
fn directory_blocks<'a>(superblock: &'a Superblock, extents: &'a [Extent]) -> impl Iterator<Item = u64> + 'a {
    let size = superblock.directory_block_blocks;
    let mut next = 0;
    extents.iter().flat_map(move |extent| {
        let first = extent.file_block.checked_div(size).unwrap_or(0).max(next);
        let end = extent.end().div_ceil(size.max(1));
        next = end.max(next);
        first..end
    })
}

/// Short form: parent, then entries of length, offset, name, file type and inode number. The numbers have 8 bytes
/// where one of them needs them.
fn read_short(superblock: &Superblock, inode: &Inode, visit: &mut Visit<'_>) -> Result<(), FsError> {
    let data = inode.local_data()?;
    let fields = Structure::new("short directory", inode.at, data);
    let count = fields.u8(0)?;
    let number_bytes: usize = if fields.u8(1)? == 0 { 4 } else { 8 };
    let mut at = number_bytes.saturating_add(2);
    for _ in 0..count {
        let name = fields.slice(at.saturating_add(3), fields.u8(at)?.into())?;
        at = at.saturating_add(3).saturating_add(name.len());
        let mut kind = None;
        if superblock.has_file_types {
            kind = file_kind(fields.u8(at)?);
            at = at.saturating_add(1);
        }
        let number = if number_bytes == 4 { fields.u32_be(at)?.into() } else { fields.u64_be(at)? };
        at = at.saturating_add(number_bytes);
        if visit_entry(&fields, at, name, number, kind, visit)?.is_break() {
            return Ok(());
        }
    }
    Ok(())
}

fn read_block(
    volume: &Volume,
    superblock: &Superblock,
    inode: &Inode,
    extents: &[Extent],
    number: u64,
    visit: &mut Visit<'_>,
) -> Result<ControlFlow<()>, FsError> {
    let first = number.saturating_mul(superblock.directory_block_blocks);
    let at = whole_block_offset(superblock, inode, extents, first)?;
    let mut bytes = vec![0; to_usize(superblock.directory_block_bytes())];
    let offset = first.saturating_mul(superblock.block_bytes);
    extents::read_mapped(volume, extents, superblock.block_bytes, offset, &mut bytes)?;
    let block = Structure::new("directory block", at, &bytes);
    // A directory block in several places is several buffers to the log, and its checksum no single one's.
    let is_logged = superblock.directory_block_blocks > 1
        && volume.changes().is_some_and(|changes| {
            let ranges = extents::volume_ranges(
                extents,
                superblock.block_bytes,
                &(offset..offset.saturating_add(to_u64(bytes.len()))),
            );
            ranges.len() > 1
                && ranges
                    .iter()
                    .any(|range| changes.touches(range.start, range.end.saturating_sub(range.start)))
        });
    let (start, end) = check_block(superblock, inode, &block, is_logged)?;
    volume.check_sequence_number(&block, SEQUENCE_NUMBER_OFFSET)?;
    read_entries(superblock, &block, start, end, visit)
}

/// Checks that all filesystem blocks of a directory block are there; gives the offset of the first on the volume.
fn whole_block_offset(
    superblock: &Superblock,
    inode: &Inode,
    extents: &[Extent],
    first: u64,
) -> Result<u64, Fault> {
    let mut at = None;
    for block in first..first.saturating_add(superblock.directory_block_blocks) {
        let holder = extents.partition_point(|extent| extent.end() <= block);
        let extent = extents.get(holder).filter(|extent| extent.file_block <= block && !extent.is_unwritten);
        let extent = extent.ok_or_else(|| Fault::new("directory block", inode.at, "mapped", "a hole"))?;
        let within = block.saturating_sub(extent.file_block).saturating_mul(superblock.block_bytes);
        at = at.or(Some(extent.volume_offset.saturating_add(within)));
    }
    Ok(at.unwrap_or_default())
}

/// Checks a directory block; gives where its entries begin and end.
fn check_block(
    superblock: &Superblock,
    inode: &Inode,
    block: &Structure<'_>,
    is_logged: bool,
) -> Result<(usize, usize), Fault> {
    let magic = block.u32_be(0)?;
    let (data, single, header) = if superblock.has_checksums {
        (DATA_V5, BLOCK_V5, HEADER_V5_BYTES)
    } else {
        (DATA_V4, BLOCK_V4, HEADER_V4_BYTES)
    };
    if magic != data && magic != single {
        return Err(block.fault(
            "directory block magic",
            0,
            Quantity::Hex(data.into()),
            Quantity::Hex(magic.into()),
        ));
    }
    if superblock.has_checksums {
        if !is_logged && !checksum_matches(block.bytes(), CRC_OFFSET) {
            return Err(block.fault("directory block checksum", CRC_OFFSET, "a match", "none"));
        }
        let owner = block.u64_be(40)?;
        if owner != inode.number {
            return Err(block.fault("directory block owner", 40, inode.number, owner));
        }
        let sector = block.u64_be(8)?;
        if sector.checked_mul(SECTOR_BYTES) != Some(block.at()) {
            return Err(block.fault("directory block number", 8, block.at() / SECTOR_BYTES, sector));
        }
    }
    if magic == data {
        return Ok((header, block.len()));
    }
    // A single block ends with its own hash index and the index's count.
    let tail = block.len().saturating_sub(8);
    let index_bytes = to_usize(block.u32_be(tail)?.into()).saturating_mul(8);
    match tail.checked_sub(index_bytes) {
        Some(end) if end >= header => Ok((header, end)),
        _ => Err(block.fault("directory block index", tail, tail, index_bytes)),
    }
}

/// Entries and free regions fill the block from `start` to `end`; each ends with its own offset.
fn read_entries(
    superblock: &Superblock,
    block: &Structure<'_>,
    start: usize,
    end: usize,
    visit: &mut Visit<'_>,
) -> Result<ControlFlow<()>, FsError> {
    let mut at = start;
    let mut damage = None;
    while at < end {
        let is_free = block.u16_be(at)? == FREE_TAG;
        let mut name_bytes = 0;
        let len = if is_free {
            usize::from(block.u16_be(at.saturating_add(2))?)
        } else {
            name_bytes = usize::from(block.u8(at.saturating_add(8))?);
            let type_bytes = usize::from(superblock.has_file_types);
            name_bytes.saturating_add(11).saturating_add(type_bytes).next_multiple_of(8)
        };
        let next = at.saturating_add(len);
        if len < 8 || !len.is_multiple_of(8) || next > end {
            return Err(block.fault("directory entry length", at, end.saturating_sub(at), len).into());
        }
        let tag = usize::from(block.u16_be(next.saturating_sub(2))?);
        if tag != at {
            return Err(block.fault("directory entry tag", at, at, tag).into());
        }
        if !is_free {
            let name = block.slice(at.saturating_add(9), name_bytes)?;
            let number = block.u64_be(at)?;
            let type_at = at.saturating_add(9).saturating_add(name_bytes);
            let kind = if superblock.has_file_types { file_kind(block.u8(type_at)?) } else { None };
            match visit_entry(block, at, name, number, kind, visit) {
                Ok(ControlFlow::Break(())) => return Ok(ControlFlow::Break(())),
                Ok(ControlFlow::Continue(())) => {}
                Err(error) => damage = damage.or(Some(error)),
            }
        }
        at = next;
    }
    damage.map_or(Ok(ControlFlow::Continue(())), |fault| Err(fault.into()))
}

fn visit_entry(
    fields: &Structure<'_>,
    at: usize,
    name: &[u8],
    number: u64,
    kind: Option<FileKind>,
    visit: &mut Visit<'_>,
) -> Result<ControlFlow<()>, Fault> {
    if matches!(name, b"." | b"..") {
        return Ok(ControlFlow::Continue(()));
    }
    if name.is_empty() || name.iter().any(|byte| matches!(byte, 0 | b'/')) {
        return Err(fields.fault("directory entry name", at, "a name", "none, or a separator in it"));
    }
    Ok(visit(DirEntry { name, id: FileId::new(number), kind }))
}

fn file_kind(number: u8) -> Option<FileKind> {
    match number {
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

//! Where a file's blocks lie: the extent list and the block map B+tree of the data fork (XFS Algorithms & Data
//! Structures, "Data Extents").
//!
//! All extents of a fork are collected, sorted as the disk has them, so that a read needs one search. What is out of
//! order, overlaps, or lies outside the volume is a fault: a hole is never guessed.

use std::ops::Range;

use stillframe_block::ReadError;
use stillframe_bytes::{Fault, Quantity, Structure};
use stillframe_fs::{FsError, extent_hints};

use crate::changes::MappingChange;
use crate::checksum::checksum_matches;
use crate::inode::{Fork, Format, Inode};
use crate::superblock::Superblock;
use crate::volume::{Volume, to_u64, to_usize};

/// Extents of one file that are held in memory: 32 MiB of them.
const MAX_EXTENTS: usize = 1 << 20;
/// Levels of a block map; 9 would map more than a file can have.
const MAX_LEVELS: u16 = 9;
const RECORD_BYTES: usize = 16;

const MAGIC_V5: u32 = 0x424d_4133;
const MAGIC_V4: u32 = 0x424d_4150;
const HEADER_V5_BYTES: usize = 72;
const HEADER_V4_BYTES: usize = 24;
const CRC_OFFSET: usize = 64;
const SEQUENCE_NUMBER_OFFSET: usize = 32;

/// Blocks of a file that lie side by side on the volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Extent {
    /// The first block in the file.
    pub(crate) file_block: u64,
    /// How many.
    pub(crate) blocks: u64,
    /// Where they lie on the volume, in bytes.
    pub(crate) volume_offset: u64,
    /// Allocated and never written: reads as zeros.
    pub(crate) is_unwritten: bool,
}

impl Extent {
    /// The block in the file after the last one.
    pub(crate) fn end(&self) -> u64 {
        self.file_block.saturating_add(self.blocks)
    }

    /// What of it lies between two blocks of the file.
    fn cut(&self, from: u64, to: u64, block_bytes: u64) -> Option<Self> {
        let (start, end) = (self.file_block.max(from), self.end().min(to));
        let skipped = start.saturating_sub(self.file_block).saturating_mul(block_bytes);
        (start < end).then(|| Self {
            file_block: start,
            blocks: end.saturating_sub(start),
            volume_offset: self.volume_offset.saturating_add(skipped),
            is_unwritten: self.is_unwritten,
        })
    }
}

/// Which fork of an inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Of {
    Data,
    Attributes,
}

/// All extents of the data fork, in the file's order.
pub(crate) fn read(volume: &Volume, superblock: &Superblock, inode: &Inode) -> Result<Vec<Extent>, FsError> {
    read_fork(volume, superblock, inode, &inode.data, Of::Data)
}

/// All extents of a fork, in its order.
pub(crate) fn read_fork(
    volume: &Volume,
    superblock: &Superblock,
    inode: &Inode,
    fork: &Fork,
    of: Of,
) -> Result<Vec<Extent>, FsError> {
    if inode.is_realtime && of == Of::Data {
        return Err(FsError::Unsupported("an XFS realtime file"));
    }
    let changes = volume.changes();
    if changes.is_some_and(|changes| changes.has_unfinished_exchange(inode.number)) {
        return Err(FsError::Unsupported("an XFS file whose exchange with another was not finished"));
    }
    let mut collected = Collector { superblock, extents: Vec::new() };
    match fork.format {
        Format::Extents => {
            let count = to_usize(fork.extent_count);
            let list = count
                .checked_mul(RECORD_BYTES)
                .and_then(|len| fork.bytes.get(..len))
                .ok_or_else(|| Fault::new("inode extent count", inode.at, fork.bytes.len(), count))?;
            collected.add_records(list, inode.at)?;
        }
        Format::Btree => {
            read_root(volume, inode, fork, &mut collected)?;
            if to_u64(collected.extents.len()) != fork.extent_count {
                let found = collected.extents.len();
                return Err(Fault::new("inode extent count", inode.at, fork.extent_count, found).into());
            }
        }
        Format::Device | Format::Local => {
            return Err(Fault::new("inode format", inode.at, "extents", "no extents").into());
        }
    }
    if let Some(changes) = changes {
        for change in changes
            .mapping_changes(inode.number)
            .iter()
            .filter(|change| change.is_of_attributes == (of == Of::Attributes))
        {
            collected.finish_mapping(change)?;
        }
    }
    Ok(collected.extents)
}

/// Fills `buffer` from `offset` in the file that `extents` map; what none of them maps is zeros.
pub(crate) fn read_mapped(
    volume: &Volume,
    extents: &[Extent],
    block_bytes: u64,
    offset: u64,
    buffer: &mut [u8],
) -> Result<(), ReadError> {
    let Some(first_block) = offset.checked_div(block_bytes) else {
        return Ok(());
    };
    let first = extents.partition_point(|extent| extent.end() <= first_block);
    let mut at = offset;
    let mut rest = buffer;
    for extent in extents.get(first..).unwrap_or_default() {
        if rest.is_empty() {
            break;
        }
        let start = extent.file_block.saturating_mul(block_bytes);
        let (hole, mapped) = rest.split_at_mut(to_usize(start.saturating_sub(at)).min(rest.len()));
        hole.fill(0);
        at = at.saturating_add(to_u64(hole.len()));
        let left = extent.end().saturating_mul(block_bytes).saturating_sub(at);
        let (now, later) = mapped.split_at_mut(to_usize(left).min(mapped.len()));
        if extent.is_unwritten {
            now.fill(0);
        } else if !now.is_empty() {
            volume.read(extent.volume_offset.saturating_add(at.saturating_sub(start)), now)?;
        }
        at = at.saturating_add(to_u64(now.len()));
        rest = later;
    }
    rest.fill(0);
    Ok(())
}

/// Where on the volume the bytes of `range` lie, but for what was never written.
pub(crate) fn volume_ranges(extents: &[Extent], block_bytes: u64, range: &Range<u64>) -> Vec<Range<u64>> {
    let mut hints = Vec::new();
    let Some(first_block) = range.start.checked_div(block_bytes) else { return hints };
    let first = extents.partition_point(|extent| extent.end() <= first_block);
    for extent in extents.get(first..).unwrap_or_default() {
        let (start, end) =
            (extent.file_block.saturating_mul(block_bytes), extent.end().saturating_mul(block_bytes));
        if start >= range.end {
            break;
        }
        if extent.is_unwritten {
            continue;
        }
        let on_volume =
            |at: u64| extent.volume_offset.saturating_add(at.clamp(start, end).saturating_sub(start));
        if !extent_hints(&mut hints, on_volume(range.start)..on_volume(range.end)) {
            break;
        }
    }
    hints
}

struct Collector<'a> {
    superblock: &'a Superblock,
    extents: Vec<Extent>,
}

impl Collector<'_> {
    fn add_records(&mut self, records: &[u8], at: u64) -> Result<(), FsError> {
        let records = Structure::new("extent record", at, records);
        for offset in (0..records.len()).step_by(RECORD_BYTES) {
            if self.extents.len() >= MAX_EXTENTS {
                return Err(FsError::Limit { what: "extents of one file", cap: to_u64(MAX_EXTENTS) });
            }
            let extent = self.record(&records, offset)?;
            self.extents.push(extent);
        }
        Ok(())
    }

    /// Does what the log says was begun and not finished: blocks of the file that are to be mapped, or no more.
    fn finish_mapping(&mut self, change: &MappingChange) -> Result<(), FsError> {
        if change.is_realtime {
            return Err(FsError::Unsupported("an XFS realtime file"));
        }
        let offset = self.superblock.run_offset(change.start_block, change.blocks);
        let volume_offset = offset.ok_or_else(|| {
            Fault::new("log mapping block", 0, self.superblock.data_blocks, change.start_block)
        })?;
        let (start, end) = (change.file_block, change.file_block.saturating_add(change.blocks));
        let added = Extent {
            file_block: start,
            blocks: change.blocks,
            volume_offset,
            is_unwritten: change.is_unwritten,
        };
        let mut extents = Vec::with_capacity(self.extents.len().saturating_add(2));
        for extent in &self.extents {
            extents.extend(extent.cut(0, start, self.superblock.block_bytes));
            extents.extend(extent.cut(end, u64::MAX, self.superblock.block_bytes));
        }
        if change.is_added {
            extents.push(added);
        }
        extents.sort_unstable_by_key(|extent| extent.file_block);
        self.extents = extents;
        Ok(())
    }

    /// 128 bits: unwritten 1, block in the file 54, block on the volume 52, count 21.
    fn record(&self, records: &Structure<'_>, offset: usize) -> Result<Extent, Fault> {
        let high = records.u64_be(offset)?;
        let low = records.u64_be(offset.saturating_add(8))?;
        let file_block = (high >> 9) & ((1 << 54) - 1);
        let start = ((high & 0x1ff) << 43) | (low >> 21);
        let blocks = low & ((1 << 21) - 1);
        let after = self.extents.last().map_or(0, Extent::end);
        if file_block < after {
            return Err(records.fault("extent order", offset, after, file_block));
        }
        let volume_offset = self
            .superblock
            .run_offset(start, blocks)
            .ok_or_else(|| records.fault("extent block", offset, self.superblock.data_blocks, start))?;
        Ok(Extent { file_block, blocks, volume_offset, is_unwritten: high >> 63 != 0 })
    }
}

/// The root lies in the inode: level, count, then keys and pointers, each with room for as many as fit.
fn read_root(
    volume: &Volume,
    inode: &Inode,
    fork: &Fork,
    collected: &mut Collector<'_>,
) -> Result<(), FsError> {
    let root = Structure::new("block map root", inode.at, &fork.bytes);
    let level = root.u16_be(0)?;
    let count = usize::from(root.u16_be(2)?);
    let most = root.len().saturating_sub(4) / 16;
    if level == 0 || level > MAX_LEVELS {
        return Err(root.fault("block map level", 0, MAX_LEVELS, level).into());
    }
    if count > most {
        return Err(root.fault("block map count", 2, most, count).into());
    }
    let pointers = pointers(&root, 4, most, count)?;
    read_children(volume, inode, level, &pointers, collected)
}

/// Visits children in order. Each lies one level lower and extents only go forward, so no cycle is followed twice.
fn read_children(
    volume: &Volume,
    inode: &Inode,
    level: u16,
    children: &[u64],
    collected: &mut Collector<'_>,
) -> Result<(), FsError> {
    let child_level = level.saturating_sub(1);
    if children.len() > 1 && volume.wants_hints() {
        let block = |child: &u64| {
            let start = collected.superblock.run_offset(*child, 1)?;
            Some(start..start.checked_add(collected.superblock.block_bytes)?)
        };
        volume.prefetch(&children.iter().filter_map(block).collect::<Vec<_>>());
    }
    for child in children {
        let superblock = collected.superblock;
        let at = superblock
            .run_offset(*child, 1)
            .ok_or_else(|| Fault::new("block map pointer", inode.at, superblock.data_blocks, *child))?;
        let mut bytes = vec![0; to_usize(superblock.block_bytes)];
        volume.read(at, &mut bytes)?;
        let block = Structure::new("block map block", at, &bytes);
        let has_new_owner = volume.changes().is_some_and(|changes| changes.has_new_owner(inode.number));
        let header = check_block(superblock, inode, &block, child_level, has_new_owner)?;
        volume.check_sequence_number(&block, SEQUENCE_NUMBER_OFFSET)?;
        let count = usize::from(block.u16_be(6)?);
        let most = block.len().saturating_sub(header) / RECORD_BYTES;
        // An empty block would let a tree of empty blocks be walked for long.
        if count > most || count == 0 {
            return Err(block.fault("block map count", 6, most, count).into());
        }
        if child_level == 0 {
            let records = block.slice(header, count.saturating_mul(RECORD_BYTES))?;
            collected.add_records(records, at.saturating_add(to_u64(header)))?;
        } else {
            let pointers = pointers(&block, header, most, count)?;
            read_children(volume, inode, child_level, &pointers, collected)?;
        }
    }
    Ok(())
}

fn pointers(block: &Structure<'_>, keys: usize, most: usize, count: usize) -> Result<Vec<u64>, Fault> {
    let start = keys.saturating_add(most.saturating_mul(8));
    let pointers = block.part("block map pointers", start, count.saturating_mul(8))?;
    (0..count).map(|index| pointers.u64_be(index.saturating_mul(8))).collect()
}

/// Checks a block below the root; gives the length of its header.
fn check_block(
    superblock: &Superblock,
    inode: &Inode,
    block: &Structure<'_>,
    level: u16,
    has_new_owner: bool,
) -> Result<usize, Fault> {
    let (magic, header) =
        if superblock.has_checksums { (MAGIC_V5, HEADER_V5_BYTES) } else { (MAGIC_V4, HEADER_V4_BYTES) };
    let found = block.u32_be(0)?;
    if found != magic {
        return Err(block.fault(
            "block map magic",
            0,
            Quantity::Hex(magic.into()),
            Quantity::Hex(found.into()),
        ));
    }
    let found = block.u16_be(4)?;
    if found != level {
        return Err(block.fault("block map level", 4, level, found));
    }
    if superblock.has_checksums {
        if !checksum_matches(block.bytes(), CRC_OFFSET) {
            return Err(block.fault("block map checksum", CRC_OFFSET, "a match", "none"));
        }
        let owner = block.u64_be(56)?;
        if owner != inode.number && !has_new_owner {
            return Err(block.fault("block map owner", 56, inode.number, owner));
        }
    }
    Ok(header)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn extent(file_block: u64, blocks: u64, volume_offset: u64) -> Extent {
        Extent { file_block, blocks, volume_offset, is_unwritten: false }
    }

    #[test]
    fn work_that_was_begun_on_a_mapping_is_done() {
        let superblock = Superblock::parse(&crate::superblock::tests::version_4()).unwrap();
        let extents = vec![extent(0, 10, 40_960), extent(20, 5, 819_200)];
        let mut collected = Collector { superblock: &superblock, extents };
        let mut change = MappingChange {
            inode: 9,
            start_block: 12,
            file_block: 2,
            blocks: 3,
            is_added: false,
            is_unwritten: false,
            is_of_attributes: false,
            is_realtime: false,
        };
        collected.finish_mapping(&change).unwrap();
        let (before, after, other) = (extent(0, 2, 40_960), extent(5, 5, 61_440), extent(20, 5, 819_200));
        assert_eq!(collected.extents, [before, after, other]);
        change = MappingChange { start_block: 100, is_added: true, ..change };
        collected.finish_mapping(&change).unwrap();
        assert_eq!(collected.extents, [before, extent(2, 3, 409_600), after, other]);
        change.start_block = u64::MAX;
        assert!(collected.finish_mapping(&change).is_err());
        assert!(collected.finish_mapping(&MappingChange { is_realtime: true, ..change }).is_err());
    }
}

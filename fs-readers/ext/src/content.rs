//! The bytes of a regular file.

use std::ops::Range;

use stillframe_block::BlockSource;
use stillframe_fs::{Extent, FileContent, FsError, HINT_EXTENTS_AT_MOST, extent_hints, prefetch_on};

use crate::block_map::BlockMap;
use crate::inode::Inode;
use crate::volume::Volume;

/// Reads `buffer.len()` bytes at `offset` of a file whose blocks `map` finds; all of them must lie inside its size.
pub(crate) fn read_blocks(
    volume: &Volume,
    map: &mut BlockMap<'_>,
    offset: u64,
    buffer: &mut [u8],
) -> Result<(), FsError> {
    let block_bytes = u64::from(volume.superblock.block_bytes);
    let mut at = offset;
    let mut rest = buffer;
    while !rest.is_empty() {
        let within = at.checked_rem(block_bytes).unwrap_or(0);
        let run = map.run(at.checked_div(block_bytes).unwrap_or(0))?;
        let run_bytes = run.len_blocks.saturating_mul(block_bytes).saturating_sub(within);
        let take = rest.len().min(usize::try_from(run_bytes).unwrap_or(usize::MAX)).max(1);
        let (now, later) = rest.split_at_mut(take);
        match run.start {
            Some(start) => {
                let position = start.saturating_mul(block_bytes).saturating_add(within);
                volume.source.read_exact_at(position, now)?;
            }
            None => now.fill(0),
        }
        at = at.saturating_add(u64::try_from(take).unwrap_or(u64::MAX));
        rest = later;
    }
    Ok(())
}

/// Where the bytes of `range` of a file or directory lie, up to damage, and no more of them than a hint names.
pub(crate) fn extents(volume: &Volume, inode: &Inode, range: Range<u64>) -> Vec<Extent> {
    let block_bytes = u64::from(volume.superblock.block_bytes);
    let end = range.end.min(inode.size_bytes);
    let mut map = BlockMap::new(volume, inode);
    let mut ranges = Vec::new();
    let mut at = range.start;
    // Holes count too: a crafted map may have one a block.
    for _ in 0..HINT_EXTENTS_AT_MOST {
        if at >= end {
            break;
        }
        // Damage is for the read to meet.
        let Ok(run) = map.run(at.checked_div(block_bytes).unwrap_or(0)) else { break };
        let within = at.checked_rem(block_bytes).unwrap_or(0);
        // A run has one block at least: each turn goes on.
        let len = run.len_blocks.saturating_mul(block_bytes).saturating_sub(within);
        let len = len.min(end.saturating_sub(at)).max(1);
        if let Some(start) = run.start {
            let start = start.saturating_mul(block_bytes).saturating_add(within);
            if !extent_hints(&mut ranges, start..start.saturating_add(len)) {
                break;
            }
        }
        at = at.saturating_add(len);
    }
    ranges.into_iter().map(Extent::new).collect()
}

/// A regular file that is being read.
pub(crate) struct Content<'a> {
    volume: &'a Volume,
    inode: Box<Inode>,
}

impl<'a> Content<'a> {
    pub(crate) fn open(volume: &'a Volume, inode: Inode) -> Result<Self, FsError> {
        if inode.is_encrypted() {
            return Err(FsError::Encrypted("ext4 file encryption"));
        }
        Ok(Self { volume, inode: Box::new(inode) })
    }

    fn read_inline(&self, offset: u64, buffer: &mut [u8]) -> Result<(), FsError> {
        let (first, second) = self.inode.inline_data()?;
        let skip = usize::try_from(offset).unwrap_or(usize::MAX);
        // What lies past the stored bytes, and inside the size, reads as zeros.
        let bytes = first.iter().chain(second).copied().chain(std::iter::repeat(0)).skip(skip);
        buffer.iter_mut().zip(bytes).for_each(|(slot, byte)| *slot = byte);
        Ok(())
    }
}

impl FileContent for Content<'_> {
    fn len_bytes(&self) -> u64 {
        self.inode.size_bytes
    }

    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> Result<usize, FsError> {
        let left = self.inode.size_bytes.saturating_sub(offset);
        let take = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let Some(buffer) = buffer.get_mut(..take).filter(|buffer| !buffer.is_empty()) else { return Ok(0) };
        if self.inode.has_inline_data() {
            // More than the inode can hold is a claim, and `skip` above would count to it.
            if self.inode.size_bytes > u64::from(self.volume.superblock.inode_bytes) {
                let limit = self.volume.superblock.inode_bytes;
                let fault = stillframe_bytes::Fault::new(
                    "inline data size",
                    self.inode.at,
                    self.inode.size_bytes,
                    limit,
                );
                return Err(fault.into());
            }
            self.read_inline(offset, buffer)?;
        } else {
            // A map for each call keeps one block of pointers while a large buffer is filled.
            read_blocks(self.volume, &mut BlockMap::new(self.volume, &self.inode), offset, buffer)?;
        }
        Ok(take)
    }

    fn extents(&mut self, range: Range<u64>) -> Vec<Extent> {
        if self.inode.has_inline_data() {
            return Vec::new();
        }
        extents(self.volume, &self.inode, range)
    }

    fn will_read(&mut self, range: Range<u64>) {
        if self.volume.source.wants_hints() {
            prefetch_on(std::slice::from_ref(&self.volume.source), &self.extents(range));
        }
    }
}

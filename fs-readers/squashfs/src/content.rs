//! The bytes of a file: blocks of one length, each compressed by itself, and a tail that may lie in a fragment (Squashfs
//! Binary Format, "Data and Fragment Blocks").

use std::ops::Range;
use std::sync::Arc;

use stillframe_bytes::{Fault, Quantity};
use stillframe_fs::{Extent, FileContent, FsError, extent_hints, prefetch_on};

use crate::SquashfsReader;
use crate::inode::{FileBody, check_inside};
use crate::metadata::{BLOCK_LEN, Cursor};

/// Set in a block's size where it is stored as it is.
const UNCOMPRESSED: u32 = 1 << 24;
/// Every so many blocks, it is kept where the walk of the block list was.
const CHECKPOINT_BLOCKS: u64 = 1024;
/// Blocks that one hint looks at.
const HINT_BLOCKS_AT_MOST: u64 = 65_536;
const SIZE_LEN: usize = 4;

/// Where a block lies, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stored {
    pub(crate) at: u64,
    /// What it takes on the volume; 0 for a hole.
    pub(crate) len_bytes: u64,
    pub(crate) is_compressed: bool,
}

impl Stored {
    /// What a size field says of the block at `at`.
    ///
    /// # Errors
    /// Where it is longer than a block, or lies outside of the filesystem.
    pub(crate) fn of_size(fs: &SquashfsReader, at: u64, size: u32) -> Result<Self, FsError> {
        let len_bytes = u64::from(size & !UNCOMPRESSED);
        let cap = fs.superblock.block_bytes;
        if len_bytes > cap {
            return Err(Fault::new("block length in bytes", at, cap, len_bytes).into());
        }
        check_inside("end of a block", at, len_bytes, fs.superblock.bytes_used)?;
        Ok(Self { at, len_bytes, is_compressed: size & UNCOMPRESSED == 0 })
    }

    /// Reads and decompresses the whole block.
    pub(crate) fn read(&self, fs: &SquashfsReader) -> Result<Vec<u8>, FsError> {
        let mut bytes = vec![0; usize::try_from(self.len_bytes).unwrap_or(0)];
        fs.source.read_exact_at(self.at, &mut bytes)?;
        if !self.is_compressed {
            return Ok(bytes);
        }
        let most = usize::try_from(fs.superblock.block_bytes).unwrap_or(0);
        fs.superblock.compression.decompress(&bytes, most, self.at)
    }
}

/// An open file.
pub(crate) struct Content<'f> {
    fs: &'f SquashfsReader,
    file: FileBody,
    list: BlockList<'f>,
    /// The block that was decompressed last.
    current: Option<(u64, Vec<u8>)>,
    /// Its fragment, once it was needed.
    fragment: Option<Arc<[u8]>>,
}

impl<'f> Content<'f> {
    /// # Errors
    /// Where the table of inodes has no room for a list of so many blocks.
    pub(crate) fn open(fs: &'f SquashfsReader, file: FileBody) -> Result<Self, FsError> {
        let block_bytes = fs.superblock.block_bytes;
        let blocks = match file.tail {
            Some(_) => file.size_bytes.checked_div(block_bytes).unwrap_or(0),
            None => file.size_bytes.div_ceil(block_bytes),
        };
        // A metadata block takes three bytes and holds 2048 sizes at best.
        let list_room = fs.superblock.directory_table.saturating_sub(file.block_list.block_at);
        let most = list_room.saturating_mul(u64::try_from(BLOCK_LEN / SIZE_LEN).unwrap_or(0));
        if blocks > most {
            return Err(Fault::new("file size in blocks", file.block_list.block_at, most, blocks).into());
        }
        Ok(Self { fs, file, list: BlockList::new(fs, &file, blocks), current: None, fragment: None })
    }

    /// The length of block `index`: all are of one length but the last.
    fn block_len(&self, index: u64) -> u64 {
        let block_bytes = self.fs.superblock.block_bytes;
        self.file.size_bytes.saturating_sub(index.saturating_mul(block_bytes)).min(block_bytes)
    }

    /// Fills `buffer` from block `index`, `within` bytes behind its start.
    fn fill(&mut self, index: u64, within: u64, buffer: &mut [u8]) -> Result<(), FsError> {
        let start = usize::try_from(within).unwrap_or(usize::MAX);
        if index >= self.list.blocks {
            return self.fill_from_fragment(start, buffer);
        }
        let stored = self.list.block(self.fs, index)?;
        let len = self.block_len(index);
        if stored.len_bytes == 0 {
            buffer.fill(0);
            return Ok(());
        }
        if !stored.is_compressed {
            check_len(stored.at, len, stored.len_bytes)?;
            return Ok(self.fs.source.read_exact_at(stored.at.saturating_add(within), buffer)?);
        }
        if self.current.as_ref().is_none_or(|(current, _)| *current != index) {
            let bytes = stored.read(self.fs)?;
            check_len(stored.at, len, u64::try_from(bytes.len()).unwrap_or(u64::MAX))?;
            self.current = Some((index, bytes));
        }
        let bytes = self.current.as_ref().map(|(_, bytes)| &bytes[..]).unwrap_or_default();
        copy(bytes, start, buffer, stored.at)
    }

    fn fill_from_fragment(&mut self, start: usize, buffer: &mut [u8]) -> Result<(), FsError> {
        let Some(tail) = self.file.tail else {
            return Err(Fault::new("fragment", self.file.blocks_at, "one", "none").into());
        };
        let bytes = match &self.fragment {
            Some(bytes) => bytes,
            None => self.fragment.insert(self.fs.fragment(tail.fragment)?),
        };
        let offset = usize::try_from(tail.offset).unwrap_or(usize::MAX).saturating_add(start);
        copy(bytes, offset, buffer, self.file.blocks_at)
    }

    /// Adds what reading block `index` asks for, `within` it. `false` where no more is taken.
    fn add_extent(&mut self, index: u64, within: Range<u64>, ranges: &mut Vec<Range<u64>>) -> Option<bool> {
        if index >= self.list.blocks {
            let stored = self.fs.fragment_unless_kept(self.file.tail?.fragment)?;
            return Some(extent_hints(ranges, stored.at..stored.at.saturating_add(stored.len_bytes)));
        }
        let stored = self.list.block(self.fs, index).ok()?;
        let range = match stored.len_bytes {
            0 => return Some(true),
            len if stored.is_compressed => 0..len,
            len => within.start.min(len)..within.end.min(len),
        };
        let (start, end) = (stored.at.saturating_add(range.start), stored.at.saturating_add(range.end));
        Some(extent_hints(ranges, start..end))
    }
}

impl FileContent for Content<'_> {
    fn len_bytes(&self) -> u64 {
        self.file.size_bytes
    }

    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> Result<usize, FsError> {
        let left = usize::try_from(self.file.size_bytes.saturating_sub(offset)).unwrap_or(usize::MAX);
        let len = left.min(buffer.len());
        let mut rest = buffer.get_mut(..len).unwrap_or_default();
        let mut offset = offset;
        while !rest.is_empty() {
            let (index, within) = position(self.fs, offset);
            let there = usize::try_from(self.block_len(index).saturating_sub(within)).unwrap_or(usize::MAX);
            let take = there.clamp(1, rest.len());
            let (now, later) = rest.split_at_mut(take);
            self.fill(index, within, now)?;
            offset = offset.saturating_add(u64::try_from(take).unwrap_or(u64::MAX));
            rest = later;
        }
        Ok(len)
    }

    fn extents(&mut self, range: Range<u64>) -> Vec<Extent> {
        let end = range.end.min(self.file.size_bytes);
        let mut ranges = Vec::new();
        let mut offset = range.start;
        let mut looked_at = 0_u64;
        while offset < end && looked_at < HINT_BLOCKS_AT_MOST {
            let (index, within) = position(self.fs, offset);
            let len = self.block_len(index).saturating_sub(within).min(end.saturating_sub(offset)).max(1);
            if self.add_extent(index, within..within.saturating_add(len), &mut ranges) != Some(true) {
                break;
            }
            offset = offset.saturating_add(len);
            looked_at = looked_at.saturating_add(1);
        }
        ranges.into_iter().map(Extent::new).collect()
    }

    fn will_read(&mut self, range: Range<u64>) {
        if self.fs.source.wants_hints() {
            let extents = self.extents(range);
            prefetch_on(std::slice::from_ref(&self.fs.source), &extents);
        }
    }
}

/// The block that the byte at `offset` lies in, and where in it.
fn position(fs: &SquashfsReader, offset: u64) -> (u64, u64) {
    let block_bytes = fs.superblock.block_bytes;
    (offset.checked_div(block_bytes).unwrap_or(0), offset.checked_rem(block_bytes).unwrap_or(0))
}

fn check_len(at: u64, claimed: u64, found: u64) -> Result<(), Fault> {
    if claimed == found { Ok(()) } else { Err(Fault::new("content of a block in bytes", at, claimed, found)) }
}

fn copy(bytes: &[u8], start: usize, buffer: &mut [u8], at: u64) -> Result<(), FsError> {
    let part = bytes.get(start..).and_then(|rest| rest.get(..buffer.len()));
    let Some(part) = part else {
        let needed = start.saturating_add(buffer.len());
        return Err(Fault::new("content of a block in bytes", at, needed, bytes.len()).into());
    };
    buffer.copy_from_slice(part);
    Ok(())
}

/// The sizes of a file's blocks. Where a block lies is the sum of those before it, so the list is walked in its order;
/// places on the way are kept, so that no walk begins anew. Nothing is allocated on the size that a file claims.
struct BlockList<'f> {
    blocks: u64,
    cursor: Cursor<'f>,
    next: u64,
    next_at: u64,
    /// Where the walk was at each multiple of [`CHECKPOINT_BLOCKS`]: place in the list, place of the block.
    checkpoints: Vec<(crate::metadata::Position, u64)>,
    last: Option<(u64, Stored)>,
}

impl<'f> BlockList<'f> {
    fn new(fs: &'f SquashfsReader, file: &FileBody, blocks: u64) -> Self {
        let cursor = fs.metadata.cursor(file.block_list, fs.superblock.directory_table);
        let checkpoints = vec![(file.block_list, file.blocks_at)];
        Self { blocks, cursor, next: 0, next_at: file.blocks_at, checkpoints, last: None }
    }

    fn block(&mut self, fs: &'f SquashfsReader, index: u64) -> Result<Stored, FsError> {
        if let Some((_, stored)) = self.last.filter(|(last, _)| *last == index) {
            return Ok(stored);
        }
        let wanted = index / CHECKPOINT_BLOCKS;
        let reached = u64::try_from(self.checkpoints.len()).unwrap_or(0).saturating_sub(1);
        // Back, or more than one checkpoint ahead.
        if index < self.next || self.next / CHECKPOINT_BLOCKS < wanted.min(reached) {
            let from = wanted.min(reached);
            let checkpoint = usize::try_from(from).ok().and_then(|from| self.checkpoints.get(from));
            if let Some((position, at)) = checkpoint {
                self.cursor = fs.metadata.cursor(*position, fs.superblock.directory_table);
                (self.next, self.next_at) = (from.saturating_mul(CHECKPOINT_BLOCKS), *at);
            }
        }
        loop {
            let size = u32::from_le_bytes(self.cursor.array()?);
            let len = u64::from(size & !UNCOMPRESSED);
            let (at, passed) = (self.next_at, self.next);
            self.next = passed.saturating_add(1);
            self.next_at = at.checked_add(len).ok_or_else(|| {
                Fault::new(
                    "end of a block",
                    at,
                    Quantity::Hex(fs.superblock.bytes_used),
                    Quantity::Hex(u64::MAX),
                )
            })?;
            let kept = u64::try_from(self.checkpoints.len()).unwrap_or(u64::MAX);
            if self.next == kept.saturating_mul(CHECKPOINT_BLOCKS) {
                self.checkpoints.push((self.cursor.position(), self.next_at));
            }
            if passed >= index {
                let stored = Stored::of_size(fs, at, size)?;
                self.last = Some((index, stored));
                return Ok(stored);
            }
        }
    }
}

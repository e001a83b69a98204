//! Metadata blocks: inodes, directories, attributes and tables lie in blocks of 8 KiB that are compressed one by one
//! (Squashfs Binary Format, "Packing Metadata"). What lies in them is named by where its block begins on the volume and
//! an offset into the block's content, and may go on in the next block.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use stillframe_block::BlockSource;
use stillframe_bytes::{Fault, Structure};
use stillframe_fs::FsError;

use crate::compression::Compression;

/// The content of a block but for the last of its table.
pub(crate) const BLOCK_LEN: usize = 8192;
const HEADER_LEN: usize = 2;
const UNCOMPRESSED: u16 = 0x8000;
/// 2 MiB of content.
const KEPT_BLOCKS: usize = 256;

/// Reads metadata blocks and keeps the ones used last.
pub(crate) struct MetadataBlocks {
    source: Arc<dyn BlockSource>,
    compression: Compression,
    kept: Mutex<VecDeque<(u64, Arc<Block>)>>,
}

/// A block's content.
pub(crate) struct Block {
    bytes: Vec<u8>,
    next_at: u64,
}

/// A place in a table: where its block begins, and the offset into the block's content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) block_at: u64,
    pub(crate) offset: usize,
}

impl Position {
    /// What a reference of 48 bits names in the table that begins at `table_at`.
    pub(crate) fn of_reference(table_at: u64, reference: u64) -> Self {
        let offset = usize::try_from(reference & 0xFFFF).unwrap_or(usize::MAX);
        Self { block_at: table_at.saturating_add(reference >> 16), offset }
    }
}

impl MetadataBlocks {
    pub(crate) fn new(source: Arc<dyn BlockSource>, compression: Compression) -> Self {
        Self { source, compression, kept: Mutex::default() }
    }

    /// Reads from `position` on, in a table that ends before `end`.
    pub(crate) fn cursor(&self, position: Position, end: u64) -> Cursor<'_> {
        Cursor { blocks: self, position, end: end.min(self.source.len_bytes()), current: None }
    }

    fn block(&self, at: u64, end: u64) -> Result<Arc<Block>, FsError> {
        {
            let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(index) = kept.iter().position(|(kept, _)| *kept == at)
                && let Some(entry) = kept.remove(index)
            {
                let block = Arc::clone(&entry.1);
                kept.push_front(entry);
                return Ok(block);
            }
        }
        // Read and decompressed without the lock, so that no thread waits for another's source.
        let block = Arc::new(self.read(at, end)?);
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if !kept.iter().any(|(kept, _)| *kept == at) {
            kept.push_front((at, Arc::clone(&block)));
            kept.truncate(KEPT_BLOCKS);
        }
        Ok(block)
    }

    fn read(&self, at: u64, end: u64) -> Result<Block, FsError> {
        let there = usize::try_from(end.saturating_sub(at)).unwrap_or(usize::MAX);
        let mut bytes = vec![0; there.min(HEADER_LEN.saturating_add(BLOCK_LEN))];
        if bytes.len() <= HEADER_LEN {
            return Err(Fault::new("metadata block", at, "inside its table", "at the table's end").into());
        }
        self.source.read_exact_at(at, &mut bytes)?;
        let block = Structure::new("metadata block", at, &bytes);
        let header = block.u16_le(0)?;
        let len = usize::from(header & !UNCOMPRESSED);
        if len == 0 || len > BLOCK_LEN {
            return Err(block.fault("metadata block length", 0, BLOCK_LEN, len).into());
        }
        let data = block.slice(HEADER_LEN, len)?;
        let content = if header & UNCOMPRESSED != 0 {
            data.to_vec()
        } else {
            self.compression.decompress(data, BLOCK_LEN, at)?
        };
        let len = u64::try_from(len.saturating_add(HEADER_LEN)).unwrap_or(u64::MAX);
        Ok(Block { bytes: content, next_at: at.saturating_add(len) })
    }
}

/// Reads a table in its order.
pub(crate) struct Cursor<'f> {
    blocks: &'f MetadataBlocks,
    position: Position,
    end: u64,
    current: Option<Arc<Block>>,
}

impl Cursor<'_> {
    /// Where the next byte is.
    pub(crate) fn position(&self) -> Position {
        self.position
    }

    /// The next `N` bytes.
    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], FsError> {
        let mut array = [0; N];
        self.fill(&mut array)?;
        Ok(array)
    }

    /// The next `len` bytes, which the caller has bounded.
    pub(crate) fn bytes(&mut self, len: usize) -> Result<Vec<u8>, FsError> {
        let mut bytes = vec![0; len];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    /// Passes over `len` bytes.
    pub(crate) fn skip(&mut self, len: usize) -> Result<(), FsError> {
        let mut left = len;
        while left > 0 {
            let step = self.rest()?.min(left);
            self.position.offset = self.position.offset.saturating_add(step);
            left = left.saturating_sub(step);
        }
        Ok(())
    }

    fn fill(&mut self, buffer: &mut [u8]) -> Result<(), FsError> {
        let mut rest = buffer;
        while !rest.is_empty() {
            let take = self.rest()?.min(rest.len());
            let from = self.position.offset;
            let part = self.current.as_ref().and_then(|block| block.bytes.get(from..)?.get(..take));
            let (now, later) = rest.split_at_mut(take);
            if let Some(part) = part {
                now.copy_from_slice(part);
            }
            self.position.offset = from.saturating_add(take);
            rest = later;
        }
        Ok(())
    }

    /// How many bytes of the current block follow: at least one. Goes to the next block where this one is over.
    fn rest(&mut self) -> Result<usize, FsError> {
        loop {
            let at = self.position.block_at;
            let block = match &self.current {
                Some(block) => block,
                None => self.current.insert(self.blocks.block(at, self.end)?),
            };
            let (len, next_at) = (block.bytes.len(), block.next_at);
            match len.checked_sub(self.position.offset) {
                Some(0) => {
                    self.position = Position { block_at: next_at, offset: 0 };
                    self.current = None;
                }
                Some(rest) => return Ok(rest),
                None => {
                    return Err(
                        Fault::new("offset into a metadata block", at, len, self.position.offset).into()
                    );
                }
            }
        }
    }
}

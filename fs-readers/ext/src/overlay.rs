//! The volume as it will be once its journal is replayed: a source that serves journalled blocks from the journal.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use stillframe_block::{BlockSource, ReadError};

use crate::checksum::crc32c_raw;

/// Where the journal holds a block's newest content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct JournalledBlock {
    /// Byte offset of the copy on the volume.
    pub(crate) copy_at: u64,
    /// The copy's first four bytes were the journal's magic and were zeroed.
    pub(crate) is_escaped: bool,
    pub(crate) checksum: Option<BlockChecksum>,
}

/// A checksum of one journalled block: compared when the block is first used, so that replay does not read blocks that
/// nobody asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BlockChecksum {
    /// What the CRC of the content continues from.
    pub(crate) seed: u32,
    pub(crate) stored: u32,
    /// Which bits of the CRC are stored: 16 in the second version of journal checksums.
    pub(crate) mask: u32,
}

/// Serves the blocks that a journal holds from there, and all else from the volume.
pub(crate) struct OverlaySource {
    inner: Arc<dyn BlockSource>,
    block_bytes: u64,
    blocks: BTreeMap<u64, JournalledBlock>,
}

pub(crate) const JOURNAL_MAGIC: u32 = 0xc03b_3998;

impl OverlaySource {
    pub(crate) fn new(
        inner: Arc<dyn BlockSource>,
        block_bytes: u32,
        blocks: BTreeMap<u64, JournalledBlock>,
    ) -> Self {
        Self { inner, block_bytes: u64::from(block_bytes), blocks }
    }

    /// Where the bytes of `range` are read from: what the journal holds, and all between from their own place.
    fn sources_of(&self, range: &Range<u64>) -> Vec<Range<u64>> {
        let mut sources = Vec::new();
        let mut at = range.start;
        let first = at.checked_div(self.block_bytes).unwrap_or(0);
        for (number, block) in self.blocks.range(first..) {
            let start = number.saturating_mul(self.block_bytes);
            if start >= range.end {
                break;
            }
            sources.extend((at < start).then_some(at..start));
            sources.push(block.copy_at..block.copy_at.saturating_add(self.block_bytes));
            at = start.saturating_add(self.block_bytes);
        }
        sources.extend((at < range.end).then_some(at..range.end));
        sources
    }

    /// The whole content of a journalled block.
    fn journalled(&self, block: &JournalledBlock) -> Result<Vec<u8>, ReadError> {
        let mut bytes = vec![0; usize::try_from(self.block_bytes).unwrap_or(0)];
        self.inner.read_exact_at(block.copy_at, &mut bytes)?;
        if let Some(checksum) = block.checksum
            && crc32c_raw(checksum.seed, &bytes) & checksum.mask != checksum.stored
        {
            let damaged =
                std::io::Error::new(std::io::ErrorKind::InvalidData, "a journalled block fails its checksum");
            return Err(ReadError::Io { offset: block.copy_at, len: bytes.len(), source: Arc::new(damaged) });
        }
        if block.is_escaped
            && let Some(start) = bytes.get_mut(..4)
        {
            start.copy_from_slice(&JOURNAL_MAGIC.to_be_bytes());
        }
        Ok(bytes)
    }
}

impl BlockSource for OverlaySource {
    fn len_bytes(&self) -> u64 {
        self.inner.len_bytes()
    }

    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), ReadError> {
        let len = u64::try_from(buffer.len()).unwrap_or(u64::MAX);
        let end = offset.saturating_add(len);
        let mut at = offset;
        let mut rest = buffer;
        let first = offset.checked_div(self.block_bytes).unwrap_or(0);
        for (number, block) in self.blocks.range(first..) {
            let start = number.saturating_mul(self.block_bytes);
            if start >= end || rest.is_empty() {
                break;
            }
            // Up to the journalled block from the volume, then the part of it that is wanted from the journal.
            let (before, later) = split(rest, start.saturating_sub(at));
            self.inner.read_exact_at(at, before)?;
            at = at.max(start);
            let within = usize::try_from(at.saturating_sub(start)).unwrap_or(usize::MAX);
            let (now, later) = split(later, start.saturating_add(self.block_bytes).saturating_sub(at));
            let bytes = self.journalled(block)?;
            let part = bytes.get(within..).and_then(|rest| rest.get(..now.len()));
            now.copy_from_slice(part.ok_or(ReadError::OutOfBounds {
                offset: at,
                len: now.len(),
                source_len: self.len_bytes(),
            })?);
            at = at.saturating_add(u64::try_from(now.len()).unwrap_or(0));
            rest = later;
        }
        if rest.is_empty() { Ok(()) } else { self.inner.read_exact_at(at, rest) }
    }

    fn prefetch(&self, ranges: &[Range<u64>]) {
        let ranges: Vec<_> = ranges.iter().flat_map(|range| self.sources_of(range)).collect();
        self.inner.prefetch(&ranges);
    }

    fn wants_hints(&self) -> bool {
        self.inner.wants_hints()
    }

    fn next_written(&self, offset: u64) -> Result<Option<Range<u64>>, ReadError> {
        let written = self.inner.next_written(offset)?;
        // A hole of the volume may have its content in the journal.
        let first = offset.checked_div(self.block_bytes).unwrap_or(0);
        let journalled = self.blocks.range(first..).next().map(|(number, _)| {
            let start = number.saturating_mul(self.block_bytes);
            start.max(offset)..start.saturating_add(self.block_bytes)
        });
        Ok(match (written, journalled) {
            (Some(written), Some(journalled)) if journalled.start < written.start => Some(journalled),
            (None, journalled) => journalled,
            (written, _) => written,
        })
    }
}

/// Splits off at most `len` bytes.
fn split(buffer: &mut [u8], len: u64) -> (&mut [u8], &mut [u8]) {
    let len = usize::try_from(len).unwrap_or(usize::MAX).min(buffer.len());
    buffer.split_at_mut(len)
}

#[cfg(test)]
#[allow(clippy::single_range_in_vec_init, reason = "hints are ranges, and often one")]
mod tests {
    use stillframe_block::MemorySource;

    use super::*;

    #[test]
    fn journalled_blocks_are_served_from_the_journal_at_any_offset() {
        let mut disk = vec![1_u8; 16 * 1024];
        disk[8 * 1024..9 * 1024].fill(2);
        disk[9 * 1024..10 * 1024].fill(3);
        let block = |copy_at, is_escaped| JournalledBlock { copy_at, is_escaped, checksum: None };
        let blocks = BTreeMap::from([(1, block(8 * 1024, false)), (2, block(9 * 1024, true))]);
        let overlay = OverlaySource::new(Arc::new(MemorySource(disk.clone())), 1024, blocks);

        let mut expected = disk;
        expected[1024..2048].fill(2);
        expected[2048..3072].fill(3);
        expected[2048..2052].copy_from_slice(&JOURNAL_MAGIC.to_be_bytes());
        for (offset, len) in
            [(0, 16 * 1024), (1000, 2000), (1500, 10), (2047, 2), (3071, 2), (2050, 500), (0, 1024)]
        {
            let mut bytes = vec![0; len];
            overlay.read_exact_at(offset as u64, &mut bytes).unwrap();
            assert!(bytes == expected[offset..offset + len], "{offset} {len}");
        }
        assert!(overlay.read_exact_at(16 * 1024 - 1, &mut [0; 2]).is_err());
    }

    #[test]
    fn a_damaged_copy_is_an_error_and_never_bytes() {
        let disk = vec![7_u8; 4096];
        let checksum = BlockChecksum { seed: 5, stored: crc32c_raw(5, &[7; 1024]) & 0xffff, mask: 0xffff };
        let block = |checksum| JournalledBlock { copy_at: 2048, is_escaped: false, checksum: Some(checksum) };
        let overlay = |checksum| {
            OverlaySource::new(
                Arc::new(MemorySource(disk.clone())),
                1024,
                BTreeMap::from([(0, block(checksum))]),
            )
        };
        assert!(overlay(checksum).read_exact_at(0, &mut [0; 8]).is_ok());
        let wrong = BlockChecksum { stored: checksum.stored ^ 1, ..checksum };
        assert!(matches!(overlay(wrong).read_exact_at(0, &mut [0; 8]), Err(ReadError::Io { .. })));
    }

    #[test]
    fn a_hint_names_where_the_bytes_are_read_from() {
        let block = |copy_at| JournalledBlock { copy_at, is_escaped: false, checksum: None };
        let blocks = BTreeMap::from([(1, block(8 * 1024)), (2, block(9 * 1024)), (5, block(12 * 1024))]);
        let disk = Arc::new(MemorySource(vec![0; 16 * 1024]));
        let overlay = OverlaySource::new(disk, 1024, blocks);
        assert_eq!(
            overlay.sources_of(&(500..5000)),
            [500..1024, 8 * 1024..9 * 1024, 9 * 1024..10 * 1024, 3072..5000]
        );
        assert_eq!(overlay.sources_of(&(1500..1600)), [8 * 1024..9 * 1024]);
        assert_eq!(overlay.sources_of(&(3072..5120)), [3072..5120]);
        assert!(!overlay.wants_hints());
    }
}

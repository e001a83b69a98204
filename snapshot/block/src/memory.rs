use std::collections::BTreeMap;
use std::io::{self, Read};
use std::ops::Range;

use crate::{BlockSource, ReadError, check_bounds};

/// A disk held in memory whole.
#[derive(Debug, Clone, Default)]
pub struct MemorySource(pub Vec<u8>);

impl BlockSource for MemorySource {
    fn len_bytes(&self) -> u64 {
        u64::try_from(self.0.len()).unwrap_or(u64::MAX)
    }

    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), ReadError> {
        check_bounds(offset, buffer.len(), self.len_bytes())?;
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let bytes = self.0.get(start..).and_then(|rest| rest.get(..buffer.len()));
        buffer.copy_from_slice(bytes.unwrap_or_default());
        Ok(())
    }
}

/// A disk held in memory of which only the pages with a non-zero byte are kept, so that a golden image of gigabytes
/// costs what is in it.
#[derive(Debug, Clone, Default)]
pub struct SparseMemorySource {
    pages: BTreeMap<u64, Box<[u8]>>,
    len_bytes: u64,
}

const PAGE_BYTES: usize = 4096;
const PAGE_BYTES_U64: u64 = 4096;

impl SparseMemorySource {
    /// Takes everything that `reader` gives.
    ///
    /// # Errors
    /// What `reader` fails with.
    pub fn from_reader(mut reader: impl Read) -> io::Result<Self> {
        let mut source = Self::default();
        loop {
            let mut page = Vec::with_capacity(PAGE_BYTES);
            let read = reader.by_ref().take(PAGE_BYTES_U64).read_to_end(&mut page)?;
            if read == 0 {
                return Ok(source);
            }
            if page.iter().any(|byte| *byte != 0) {
                page.resize(PAGE_BYTES, 0);
                source.pages.insert(source.len_bytes / PAGE_BYTES_U64, page.into_boxed_slice());
            }
            source.len_bytes = source.len_bytes.saturating_add(u64::try_from(read).unwrap_or(0));
        }
    }

    /// The offsets in bytes of the pages that hold something.
    pub fn written_pages(&self) -> impl Iterator<Item = u64> + '_ {
        self.pages.keys().map(|page| page.saturating_mul(PAGE_BYTES_U64))
    }

    /// Changes the byte at `offset`; tests damage images with it.
    pub fn set(&mut self, offset: u64, byte: u8) {
        let page = self
            .pages
            .entry(offset / PAGE_BYTES_U64)
            .or_insert_with(|| vec![0; PAGE_BYTES].into_boxed_slice());
        let within = usize::try_from(offset % PAGE_BYTES_U64).unwrap_or(0);
        if let Some(slot) = page.get_mut(within) {
            *slot = byte;
        }
    }

    /// Cuts the disk to `len_bytes`, or lengthens it with zeros.
    pub fn set_len(&mut self, len_bytes: u64) {
        self.len_bytes = len_bytes;
        self.pages.split_off(&len_bytes.div_ceil(PAGE_BYTES_U64));
    }
}

impl BlockSource for SparseMemorySource {
    fn len_bytes(&self) -> u64 {
        self.len_bytes
    }

    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), ReadError> {
        check_bounds(offset, buffer.len(), self.len_bytes)?;
        let mut at = offset;
        let mut rest = buffer;
        while !rest.is_empty() {
            let within = usize::try_from(at % PAGE_BYTES_U64).unwrap_or(0);
            let take = rest.len().min(PAGE_BYTES.saturating_sub(within));
            let (now, later) = rest.split_at_mut(take);
            match self.pages.get(&(at / PAGE_BYTES_U64)).and_then(|page| page.get(within..)?.get(..take)) {
                Some(bytes) => now.copy_from_slice(bytes),
                None => now.fill(0),
            }
            at = at.saturating_add(u64::try_from(take).unwrap_or(0));
            rest = later;
        }
        Ok(())
    }

    fn next_written(&self, offset: u64) -> Result<Option<Range<u64>>, ReadError> {
        let page = self.pages.range(offset / PAGE_BYTES_U64..).next();
        Ok(page.map(|(page, _)| {
            let start = page.saturating_mul(PAGE_BYTES_U64);
            start.max(offset)..start.saturating_add(PAGE_BYTES_U64).min(self.len_bytes)
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sparse_disk_reads_as_it_was_written() {
        let mut disk = vec![0; 20_000];
        disk[9_000..9_010].fill(5);
        disk[19_999] = 9;
        let source = SparseMemorySource::from_reader(&disk[..]).unwrap();
        let mut back = vec![1; 20_000];
        source.read_exact_at(0, &mut back).unwrap();
        assert_eq!(back, disk);
        assert_eq!(source.written_pages().collect::<Vec<_>>(), [8192, 16384]);
        assert_eq!(source.next_written(9_005).unwrap(), Some(9_005..12_288));
        assert_eq!(source.next_written(12_288).unwrap(), Some(16_384..20_000));
        assert!(source.read_exact_at(19_999, &mut [0; 2]).is_err());
    }
}

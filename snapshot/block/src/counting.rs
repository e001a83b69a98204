use std::collections::HashMap;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::{BLOCK_BYTES, BlockSource, ReadError};

/// What was asked of a source.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ReadCounts {
    /// Calls that read.
    pub requests: u64,
    /// Bytes read.
    pub bytes: u64,
    /// Distinct blocks of 512 KiB that were touched.
    pub distinct_blocks: u64,
}

/// Counts what is read from the source below it.
pub struct CountingSource {
    inner: Arc<dyn BlockSource>,
    requests: AtomicU64,
    bytes: AtomicU64,
    /// Block index / 64 → a bit for each block. A map and not a table: an 8 EiB sparse file costs nothing.
    touched: Mutex<HashMap<u64, u64>>,
}

impl CountingSource {
    /// Counts reads of `inner`.
    #[must_use]
    pub fn new(inner: Arc<dyn BlockSource>) -> Self {
        Self { inner, requests: AtomicU64::new(0), bytes: AtomicU64::new(0), touched: Mutex::default() }
    }

    /// The counts so far.
    #[must_use]
    pub fn counts(&self) -> ReadCounts {
        let touched = self.touched.lock().unwrap_or_else(PoisonError::into_inner);
        ReadCounts {
            requests: self.requests.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
            distinct_blocks: touched.values().map(|word| u64::from(word.count_ones())).sum(),
        }
    }
}

impl BlockSource for CountingSource {
    fn len_bytes(&self) -> u64 {
        self.inner.len_bytes()
    }

    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), ReadError> {
        self.inner.read_exact_at(offset, buffer)?;
        let len = u64::try_from(buffer.len()).unwrap_or(u64::MAX);
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(len, Ordering::Relaxed);
        let last = offset.saturating_add(len.saturating_sub(1)) / BLOCK_BYTES;
        let mut touched = self.touched.lock().unwrap_or_else(PoisonError::into_inner);
        for block in offset / BLOCK_BYTES..=last {
            let bit = 1_u64.rotate_left(u32::try_from(block % 64).unwrap_or(0));
            *touched.entry(block / 64).or_default() |= bit;
        }
        Ok(())
    }

    fn prefetch(&self, ranges: &[Range<u64>]) {
        self.inner.prefetch(ranges);
    }

    fn wants_hints(&self) -> bool {
        self.inner.wants_hints()
    }

    fn next_written(&self, offset: u64) -> Result<Option<Range<u64>>, ReadError> {
        self.inner.next_written(offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MemorySource;
    use crate::hints::Hints;

    #[test]
    fn blocks_are_counted_once() {
        let source = CountingSource::new(Arc::new(MemorySource(vec![0; 3 << 20])));
        let block = usize::try_from(BLOCK_BYTES).unwrap();
        source.read_exact_at(BLOCK_BYTES - 1, &mut [0; 2]).unwrap();
        source.read_exact_at(0, &mut vec![0; block]).unwrap();
        assert_eq!(source.counts(), ReadCounts { requests: 2, bytes: 2 + BLOCK_BYTES, distinct_blocks: 2 });
    }

    #[test]
    fn hints_are_passed_on_and_are_no_reads() {
        let disk = Arc::new(Hints::default());
        let source = CountingSource::new(disk.clone());
        source.prefetch(&[7..9, 20..30]);
        assert_eq!((source.wants_hints(), disk.taken()), (true, vec![7..9, 20..30]));
        assert_eq!(source.counts(), ReadCounts::default());
    }
}

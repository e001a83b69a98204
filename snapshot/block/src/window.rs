use std::ops::Range;
use std::sync::Arc;

use crate::{BlockSource, ReadError, check_bounds};

/// A part of another source: a partition of a disk.
#[derive(Clone)]
pub struct WindowSource {
    inner: Arc<dyn BlockSource>,
    start: u64,
    len_bytes: u64,
}

impl WindowSource {
    /// The window `start..start + len_bytes` of `inner`, cut where `inner` ends: a partition table may claim more than
    /// the disk holds.
    #[must_use]
    pub fn new(inner: Arc<dyn BlockSource>, start: u64, len_bytes: u64) -> Self {
        let len_bytes = len_bytes.min(inner.len_bytes().saturating_sub(start));
        Self { inner, start, len_bytes }
    }
}

impl BlockSource for WindowSource {
    fn len_bytes(&self) -> u64 {
        self.len_bytes
    }

    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), ReadError> {
        check_bounds(offset, buffer.len(), self.len_bytes)?;
        self.inner.read_exact_at(self.start.saturating_add(offset), buffer)
    }

    fn prefetch(&self, ranges: &[Range<u64>]) {
        let shifted: Vec<_> = ranges
            .iter()
            .map(|range| {
                let end = range.end.min(self.len_bytes);
                self.start.saturating_add(range.start.min(end))..self.start.saturating_add(end)
            })
            .collect();
        self.inner.prefetch(&shifted);
    }

    fn wants_hints(&self) -> bool {
        self.inner.wants_hints()
    }

    fn next_written(&self, offset: u64) -> Result<Option<Range<u64>>, ReadError> {
        if offset >= self.len_bytes {
            return Ok(None);
        }
        let written = self.inner.next_written(self.start.saturating_add(offset))?;
        Ok(written.and_then(|range| {
            let start = range.start.saturating_sub(self.start);
            let end = range.end.saturating_sub(self.start).min(self.len_bytes);
            (start < end).then_some(start..end)
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MemorySource;
    use crate::hints::Hints;

    #[test]
    fn a_window_stays_inside() {
        let disk: Arc<dyn BlockSource> = Arc::new(MemorySource((0..100).collect()));
        let window = WindowSource::new(disk.clone(), 90, 50);
        assert_eq!(window.len_bytes(), 10);
        let mut bytes = [0; 10];
        window.read_exact_at(0, &mut bytes).unwrap();
        assert_eq!(bytes[..], (90..100).collect::<Vec<u8>>()[..]);
        assert!(window.read_exact_at(5, &mut bytes).is_err());
        assert_eq!(WindowSource::new(disk, 200, 10).len_bytes(), 0);
    }

    #[test]
    fn hints_are_moved_and_cut_to_the_window() {
        let disk = Arc::new(Hints::default());
        let window = WindowSource::new(disk.clone(), 1000, 500);
        assert!(window.wants_hints());
        window.prefetch(&[0..10, 490..600, 700..800]);
        assert_eq!(disk.taken(), [1000..1010, 1490..1500]);
        let local = WindowSource::new(Arc::new(MemorySource(vec![0; 10])), 0, 10);
        assert!(!local.wants_hints());
    }
}

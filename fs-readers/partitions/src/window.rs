use std::ops::Range;

use stillframe_block::{BlockSource, ReadError};

/// A part of a disk that is borrowed. `WindowSource` owns its disk and cannot be made from a reference.
pub(crate) struct Window<'a> {
    disk: &'a dyn BlockSource,
    start: u64,
    len_bytes: u64,
}

impl<'a> Window<'a> {
    /// `start..start + len_bytes`, cut where `disk` ends.
    pub(crate) fn new(disk: &'a dyn BlockSource, start: u64, len_bytes: u64) -> Self {
        let start = start.min(disk.len_bytes());
        Self { disk, start, len_bytes: len_bytes.min(disk.len_bytes().saturating_sub(start)) }
    }
}

impl BlockSource for Window<'_> {
    fn len_bytes(&self) -> u64 {
        self.len_bytes
    }

    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), ReadError> {
        let end = u64::try_from(buffer.len()).ok().and_then(|len| offset.checked_add(len));
        if end.is_none_or(|end| end > self.len_bytes) {
            return Err(ReadError::OutOfBounds { offset, len: buffer.len(), source_len: self.len_bytes });
        }
        self.disk.read_exact_at(self.start.saturating_add(offset), buffer)
    }

    fn next_written(&self, offset: u64) -> Result<Option<Range<u64>>, ReadError> {
        let written = self.disk.next_written(self.start.saturating_add(offset))?;
        Ok(written.and_then(|range| {
            let end = range.end.saturating_sub(self.start).min(self.len_bytes);
            let start = range.start.saturating_sub(self.start);
            (start < end).then_some(start..end)
        }))
    }
}

/// The `len` bytes at `at`; `None` where they pass the end of the disk.
pub(crate) fn read_at(disk: &dyn BlockSource, at: u64, len: usize) -> Result<Option<Vec<u8>>, ReadError> {
    let end = u64::try_from(len).ok().and_then(|len| at.checked_add(len));
    if end.is_none_or(|end| end > disk.len_bytes()) {
        return Ok(None);
    }
    let mut bytes = vec![0; len];
    disk.read_exact_at(at, &mut bytes)?;
    Ok(Some(bytes))
}

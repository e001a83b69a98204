//! The bytes of a file: one extent or several, one after the other.

use std::ops::Range;

use stillframe_bytes::Fault;
use stillframe_fs::{Extent, FileContent, FsError, extent_hints, prefetch_on};

use crate::Iso9660Reader;
use crate::record::Record;

/// An open file.
pub(crate) struct Content<'f> {
    fs: &'f Iso9660Reader,
    at: u64,
    size_bytes: u64,
    sections: Vec<Section>,
}

#[derive(Debug, Clone, Copy)]
struct Section {
    /// How many bytes of the file come before.
    offset: u64,
    at: u64,
    len_bytes: u64,
}

impl<'f> Content<'f> {
    /// # Errors
    /// Where a section is interleaved with others, or on another disc of a set.
    pub(crate) fn open(fs: &'f Iso9660Reader, records: &[Record]) -> Result<Self, FsError> {
        let mut sections = Vec::new();
        let mut size_bytes = 0_u64;
        for record in records {
            if record.interleave != 0 {
                return Err(FsError::Unsupported("an interleaved file"));
            }
            let volume = record.volume_sequence_number;
            if volume != 0 && volume != fs.descriptors.sequence_number {
                return Err(FsError::Unsupported("a file on another volume of the set"));
            }
            let at = record.block.saturating_mul(fs.descriptors.block_bytes);
            let len_bytes = u64::from(record.size_bytes);
            sections.push(Section { offset: size_bytes, at, len_bytes });
            // OK to saturate: at most 100 sections of 4 GiB.
            size_bytes = size_bytes.saturating_add(len_bytes);
        }
        Ok(Self { fs, at: records.first().map_or(0, |record| record.at), size_bytes, sections })
    }

    /// Where the byte at `offset` lies on the volume, and how many follow it there.
    fn position(&self, offset: u64) -> Option<(u64, u64)> {
        let after = self.sections.partition_point(|section| section.offset <= offset);
        let section = self.sections.get(after.checked_sub(1)?)?;
        let within = offset.checked_sub(section.offset)?;
        let len = section.len_bytes.checked_sub(within)?;
        Some((section.at.checked_add(within)?, len)).filter(|_| len > 0)
    }
}

impl FileContent for Content<'_> {
    fn len_bytes(&self) -> u64 {
        self.size_bytes
    }

    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> Result<usize, FsError> {
        let left = usize::try_from(self.size_bytes.saturating_sub(offset)).unwrap_or(usize::MAX);
        let len = left.min(buffer.len());
        let mut rest = buffer.get_mut(..len).unwrap_or_default();
        let mut offset = offset;
        while !rest.is_empty() {
            let Some((at, there)) = self.position(offset) else {
                return Err(Fault::new("sections of a file", self.at, self.size_bytes, offset).into());
            };
            let take = usize::try_from(there).unwrap_or(usize::MAX).min(rest.len());
            let (now, later) = rest.split_at_mut(take);
            self.fs.source.read_exact_at(at, now)?;
            offset = offset.saturating_add(there);
            rest = later;
        }
        Ok(len)
    }

    fn extents(&mut self, range: Range<u64>) -> Vec<Extent> {
        let end = range.end.min(self.size_bytes);
        let mut extents = Vec::new();
        let mut offset = range.start;
        while offset < end {
            let Some((at, len)) = self.position(offset) else { break };
            let len = len.min(end.saturating_sub(offset));
            if !extent_hints(&mut extents, at..at.saturating_add(len)) {
                break;
            }
            offset = offset.saturating_add(len);
        }
        extents.into_iter().map(Extent::new).collect()
    }

    fn will_read(&mut self, range: Range<u64>) {
        if self.fs.source.wants_hints() {
            let extents = self.extents(range);
            prefetch_on(std::slice::from_ref(&self.fs.source), &extents);
        }
    }
}

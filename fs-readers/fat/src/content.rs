//! The bytes of a file.

use std::ops::Range;

use stillframe_bytes::Fault;
use stillframe_fs::{Extent, FileContent, FsError, extent_hints, prefetch_on};

use crate::FatReader;
use crate::directory::ShortEntry;
use crate::table::Run;

/// An open file.
pub(crate) struct Content<'f> {
    fs: &'f FatReader,
    at: u64,
    size_bytes: u64,
    runs: Vec<Run>,
}

impl<'f> Content<'f> {
    /// Finds the file's clusters.
    ///
    /// # Errors
    /// Where its chain is shorter than its size, or is none.
    pub(crate) fn open(fs: &'f FatReader, entry: ShortEntry) -> Result<Self, FsError> {
        let size_bytes = u64::from(entry.size_bytes);
        let needed = size_bytes.div_ceil(fs.boot.cluster_bytes.max(1));
        let runs = match u32::try_from(needed).unwrap_or(u32::MAX) {
            0 => Vec::new(),
            needed => fs.table.chain(entry.first_cluster, needed)?,
        };
        Ok(Self { fs, at: entry.at, size_bytes, runs })
    }

    /// Where the byte at `offset` lies on the volume, and how many follow it there.
    fn position(&self, offset: u64) -> Option<(u64, u64)> {
        let boot = &self.fs.boot;
        let index = u32::try_from(offset.checked_div(boot.cluster_bytes)?).ok()?;
        let after = self.runs.partition_point(|run| run.index <= index);
        let run = self.runs.get(after.checked_sub(1)?)?;
        let run_offset = u64::from(run.index).checked_mul(boot.cluster_bytes)?;
        let within = offset.checked_sub(run_offset)?;
        let len = u64::from(run.clusters).checked_mul(boot.cluster_bytes)?.checked_sub(within)?;
        Some((boot.cluster_at(run.cluster)?.checked_add(within)?, len))
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
            let found = self.position(offset).filter(|(_, len)| *len > 0);
            let Some((at, run_len)) = found else {
                return Err(Fault::new("cluster chain length", self.at, self.size_bytes, offset).into());
            };
            let take = usize::try_from(run_len).unwrap_or(usize::MAX).min(rest.len());
            let (now, later) = rest.split_at_mut(take);
            self.fs.source.read_exact_at(at, now)?;
            offset = offset.saturating_add(run_len);
            rest = later;
        }
        Ok(len)
    }

    fn extents(&mut self, range: Range<u64>) -> Vec<Extent> {
        let end = range.end.min(self.size_bytes);
        let mut extents = Vec::new();
        let mut offset = range.start;
        while offset < end {
            let Some((at, len)) = self.position(offset).filter(|(_, len)| *len > 0) else { break };
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

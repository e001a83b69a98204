//! The bytes of a file.

use std::ops::Range;

use stillframe_bytes::Fault;
use stillframe_clusters::Chain;
use stillframe_fs::{Extent, FileContent, FsError, extent_hints, prefetch_on};

use crate::ExFatReader;
use crate::entry_set::EntrySet;

/// Clusters that one hint looks at.
const HINT_CLUSTERS_AT_MOST: u64 = 65_536;

/// An open file.
pub(crate) struct Content<'f> {
    fs: &'f ExFatReader,
    at: u64,
    size_bytes: u64,
    /// What was written; zeros follow, whatever lies in the clusters.
    valid_bytes: u64,
    chain: Chain,
}

impl<'f> Content<'f> {
    /// Finds the file's clusters.
    ///
    /// # Errors
    /// Where the volume has no room for its size, or the start of its chain is none.
    pub(crate) fn open(fs: &'f ExFatReader, set: &EntrySet) -> Result<Self, FsError> {
        let clusters = set.size_bytes.div_ceil(fs.boot.cluster_bytes.max(1));
        let needed = u32::try_from(clusters).ok().filter(|needed| *needed <= fs.boot.clusters);
        let Some(needed) = needed else {
            return Err(Fault::new("data length in clusters", set.at, fs.boot.clusters, clusters).into());
        };
        let chain = match needed {
            0 => Chain::contiguous(set.first_cluster, 0),
            needed if set.no_fat_chain => {
                let before = set.first_cluster.checked_sub(2);
                let there = before.and_then(|before| fs.boot.clusters.checked_sub(before)).unwrap_or(0);
                if needed > there {
                    return Err(Fault::new("contiguous clusters", set.at, needed, there).into());
                }
                Chain::contiguous(set.first_cluster, needed)
            }
            needed => Chain::open(&fs.table, set.first_cluster, needed)?,
        };
        Ok(Self { fs, at: set.at, size_bytes: set.size_bytes, valid_bytes: set.valid_bytes, chain })
    }

    /// Where the byte at `offset` lies on the volume, and how many of the `wanted_bytes` from it on lie there.
    fn position(&mut self, offset: u64, wanted_bytes: u64) -> Result<(u64, u64), FsError> {
        let boot = &self.fs.boot;
        let index = offset.checked_div(boot.cluster_bytes).unwrap_or(0);
        let within = offset.checked_rem(boot.cluster_bytes).unwrap_or(0);
        let wanted = within.saturating_add(wanted_bytes).div_ceil(boot.cluster_bytes.max(1));
        let [index, wanted] = [index, wanted].map(|clusters| u32::try_from(clusters).unwrap_or(u32::MAX));
        let run = self.chain.run_at(&self.fs.table, index, wanted)?;
        let len = u64::from(run.clusters).saturating_mul(boot.cluster_bytes).saturating_sub(within);
        match boot.cluster_at(run.cluster) {
            Some(at) if len > 0 => Ok((at.saturating_add(within), len.min(wanted_bytes))),
            _ => Err(Fault::new("cluster chain", self.at, "a cluster of the volume", run.cluster).into()),
        }
    }
}

impl FileContent for Content<'_> {
    fn len_bytes(&self) -> u64 {
        self.size_bytes
    }

    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> Result<usize, FsError> {
        let left = usize::try_from(self.size_bytes.saturating_sub(offset)).unwrap_or(usize::MAX);
        let len = left.min(buffer.len());
        let written = usize::try_from(self.valid_bytes.saturating_sub(offset)).unwrap_or(usize::MAX);
        let (mut rest, zeros) = buffer.get_mut(..len).unwrap_or_default().split_at_mut(written.min(len));
        zeros.fill(0);
        let mut offset = offset;
        while !rest.is_empty() {
            let wanted_bytes = u64::try_from(rest.len()).unwrap_or(u64::MAX);
            let (at, run_len) = self.position(offset, wanted_bytes)?;
            let take = usize::try_from(run_len).unwrap_or(usize::MAX).min(rest.len());
            let (now, later) = rest.split_at_mut(take);
            self.fs.source.read_exact_at(at, now)?;
            offset = offset.saturating_add(run_len);
            rest = later;
        }
        Ok(len)
    }

    fn extents(&mut self, range: Range<u64>) -> Vec<Extent> {
        let most = self.fs.boot.cluster_bytes.saturating_mul(HINT_CLUSTERS_AT_MOST);
        let end = range.end.min(self.valid_bytes).min(range.start.saturating_add(most));
        let mut extents = Vec::new();
        let mut offset = range.start;
        while offset < end {
            let Ok((at, len)) = self.position(offset, end.saturating_sub(offset)) else { break };
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

//! The file allocation table: which cluster follows which (exFAT specification, section 4.1).
//!
//! It may be 16 GiB long, so it is read in pieces, a few of which are kept.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use stillframe_block::BlockSource;
use stillframe_bytes::{Fault, Structure};
use stillframe_fs::FsError;

use crate::boot_region::BootSector;

const PIECE_BYTES: u64 = 32 << 10;
const KEPT_PIECES: usize = 32;
const END_OF_CHAIN: u32 = 0xFFFF_FFFF;

/// The FAT.
pub(crate) struct Table {
    source: Arc<dyn BlockSource>,
    clusters: u32,
    at: u64,
    len_bytes: u64,
    /// Pieces by their index, the one used last in front.
    kept: Mutex<VecDeque<(u64, Arc<[u8]>)>>,
}

/// A part of a file whose clusters follow each other on the volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Run {
    /// How many clusters of the file come before.
    pub(crate) index: u32,
    /// The first cluster.
    pub(crate) cluster: u32,
    /// How many.
    pub(crate) clusters: u32,
}

impl Table {
    pub(crate) fn new(source: Arc<dyn BlockSource>, boot: &BootSector) -> Self {
        let (at, len_bytes) = (boot.table_at, boot.table_bytes);
        Self { source, clusters: boot.clusters, at, len_bytes, kept: Mutex::default() }
    }

    /// The `needed` clusters from `first` without a chain: one after the other.
    ///
    /// # Errors
    /// Where the cluster heap ends before.
    pub(crate) fn contiguous(&self, first: u32, needed: u32, at: u64) -> Result<Vec<Run>, FsError> {
        let there = first.checked_sub(2).and_then(|index| self.clusters.checked_sub(index)).unwrap_or(0);
        if needed > there {
            return Err(Fault::new("contiguous clusters", at, needed, there).into());
        }
        Ok(vec![Run { index: 0, cluster: first, clusters: needed }])
    }

    /// Follows the chain from `first` for `needed` clusters and then to its end, so that no cycle is taken for content.
    /// A chain that is longer than needed is cut: clusters are allocated before they are written.
    ///
    /// # Errors
    /// Where it ends early, or does not end.
    pub(crate) fn chain(&self, first: u32, needed: u32) -> Result<Vec<Run>, FsError> {
        let mut runs: Vec<Run> = Vec::new();
        let mut cluster = first;
        let mut walked = 0_u32;
        // Brent's algorithm: a cluster met again after a power of two steps is on a cycle.
        let (mut landmark, mut next_landmark) = (0, 1_u32);
        loop {
            self.check(first, cluster)?;
            if cluster == landmark || walked > self.clusters {
                return Err(Fault::new("cluster chain", self.entry_at(cluster), "an end", "a cycle").into());
            }
            if walked == next_landmark {
                landmark = cluster;
                next_landmark = next_landmark.saturating_mul(2);
            }
            if walked < needed {
                extend(&mut runs, cluster);
            }
            walked = walked.saturating_add(1);
            match self.next(cluster)? {
                Some(next) => cluster = next,
                None => break,
            }
        }
        if walked < needed {
            return Err(Fault::new("cluster chain length", self.entry_at(first), needed, walked).into());
        }
        Ok(runs)
    }

    /// What follows `cluster`; `None` at the end of a chain.
    pub(crate) fn next(&self, cluster: u32) -> Result<Option<u32>, FsError> {
        let offset = entry_offset(cluster);
        let index = offset / PIECE_BYTES;
        let piece = self.piece(index)?;
        let piece_offset = index.saturating_mul(PIECE_BYTES);
        let piece = Structure::new("FAT", self.at.saturating_add(piece_offset), &piece);
        let within = usize::try_from(offset.saturating_sub(piece_offset)).unwrap_or(usize::MAX);
        let entry = piece.u32_le(within)?;
        Ok((entry != END_OF_CHAIN).then_some(entry))
    }

    /// Refuses what a chain may not hold: free and bad clusters, and those that are not there.
    fn check(&self, first: u32, cluster: u32) -> Result<(), Fault> {
        if cluster.checked_sub(2).is_some_and(|index| index < self.clusters) {
            return Ok(());
        }
        Err(Fault::new("cluster chain", self.entry_at(first), "a cluster of the volume", cluster))
    }

    fn entry_at(&self, cluster: u32) -> u64 {
        self.at.saturating_add(entry_offset(cluster))
    }

    fn piece(&self, index: u64) -> Result<Arc<[u8]>, FsError> {
        {
            let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(position) = kept.iter().position(|(kept, _)| *kept == index)
                && let Some(piece) = kept.remove(position)
            {
                let bytes = Arc::clone(&piece.1);
                kept.push_front(piece);
                return Ok(bytes);
            }
        }
        // Read without the lock: another thread may read the same piece, and none waits for this one's source.
        let offset = index.saturating_mul(PIECE_BYTES);
        let len = self.len_bytes.saturating_sub(offset).min(PIECE_BYTES);
        let mut bytes = vec![0; usize::try_from(len).unwrap_or(0)];
        self.source.read_exact_at(self.at.saturating_add(offset), &mut bytes)?;
        let bytes: Arc<[u8]> = bytes.into();
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if !kept.iter().any(|(kept, _)| *kept == index) {
            kept.push_front((index, Arc::clone(&bytes)));
            kept.truncate(KEPT_PIECES);
        }
        Ok(bytes)
    }
}

fn entry_offset(cluster: u32) -> u64 {
    u64::from(cluster).saturating_mul(4)
}

fn extend(runs: &mut Vec<Run>, cluster: u32) {
    if let Some(last) = runs.last_mut()
        && last.cluster.checked_add(last.clusters) == Some(cluster)
    {
        last.clusters = last.clusters.saturating_add(1);
        return;
    }
    let index = runs.last().map_or(0, |last| last.index.saturating_add(last.clusters));
    runs.push(Run { index, cluster, clusters: 1 });
}

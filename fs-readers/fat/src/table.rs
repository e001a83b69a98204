//! The file allocation table: which cluster follows which.
//!
//! A FAT of FAT32 may be 1 GiB long, so it is read in pieces, a few of which are kept.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use stillframe_block::BlockSource;
use stillframe_bytes::{Fault, Structure};
use stillframe_fs::FsError;

use crate::boot_sector::{BootSector, FatKind};

/// A multiple of every entry size but FAT12's, whose whole FAT is shorter.
const PIECE_BYTES: u64 = 32 << 10;
const KEPT_PIECES: usize = 32;

/// The FAT in use.
pub(crate) struct Table {
    source: Arc<dyn BlockSource>,
    kind: FatKind,
    clusters: u32,
    at: u64,
    len_bytes: u64,
    /// Pieces by their index, the one used last in front.
    kept: Mutex<VecDeque<(u64, Arc<[u8]>)>>,
}

/// A part of a chain whose clusters follow each other on the volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Run {
    /// How many clusters of the chain come before.
    pub(crate) index: u32,
    /// The first cluster.
    pub(crate) cluster: u32,
    /// How many.
    pub(crate) clusters: u32,
}

impl Table {
    pub(crate) fn new(source: Arc<dyn BlockSource>, boot: &BootSector) -> Self {
        Self {
            source,
            kind: boot.kind,
            clusters: boot.clusters,
            at: boot.table_at,
            len_bytes: boot.table_bytes,
            kept: Mutex::default(),
        }
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
        let entry = self.entry(cluster)?;
        let end = match self.kind {
            FatKind::Fat12 => 0xFF8,
            FatKind::Fat16 => 0xFFF8,
            FatKind::Fat32 => 0x0FFF_FFF8,
        };
        Ok((entry < end).then_some(entry))
    }

    /// Whether the volume's own entry says that it was not unmounted; FAT12 has none.
    pub(crate) fn is_dirty(&self) -> Result<bool, FsError> {
        Ok(match self.kind {
            FatKind::Fat12 => false,
            FatKind::Fat16 => self.entry(1)? & 0x8000 == 0,
            FatKind::Fat32 => self.entry(1)? & 0x0800_0000 == 0,
        })
    }

    /// Refuses what a chain may not hold: free and bad clusters, and those that are not there.
    fn check(&self, first: u32, cluster: u32) -> Result<(), Fault> {
        if cluster.checked_sub(2).is_some_and(|index| index < self.clusters) {
            return Ok(());
        }
        Err(Fault::new("cluster chain", self.entry_at(first), "a cluster of the volume", cluster))
    }

    fn entry(&self, cluster: u32) -> Result<u32, FsError> {
        let offset = self.entry_offset(cluster);
        let index = offset / PIECE_BYTES;
        let piece = self.piece(index)?;
        let piece_offset = index.saturating_mul(PIECE_BYTES);
        let piece = Structure::new("FAT", self.at.saturating_add(piece_offset), &piece);
        let within = usize::try_from(offset.saturating_sub(piece_offset)).unwrap_or(usize::MAX);
        Ok(match self.kind {
            FatKind::Fat12 if cluster.is_multiple_of(2) => u32::from(piece.u16_le(within)? & 0x0FFF),
            FatKind::Fat12 => u32::from(piece.u16_le(within)? >> 4),
            FatKind::Fat16 => u32::from(piece.u16_le(within)?),
            FatKind::Fat32 => piece.u32_le(within)? & 0x0FFF_FFFF,
        })
    }

    fn entry_offset(&self, cluster: u32) -> u64 {
        let cluster = u64::from(cluster);
        match self.kind {
            FatKind::Fat12 => cluster.saturating_add(cluster / 2),
            FatKind::Fat16 => cluster.saturating_mul(2),
            FatKind::Fat32 => cluster.saturating_mul(4),
        }
    }

    fn entry_at(&self, cluster: u32) -> u64 {
        self.at.saturating_add(self.entry_offset(cluster))
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

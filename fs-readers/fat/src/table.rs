//! The file allocation table: which cluster follows which.
//!
//! A FAT of FAT32 may be 1 GiB long, so it is read in pieces, some of which are kept.

use std::sync::{Arc, Mutex, PoisonError};

use stillframe_block::BlockSource;
use stillframe_bytes::{Fault, Structure};
use stillframe_fs::FsError;

use crate::boot_sector::{BootSector, FatKind};

/// Short, since a chain may lead to another piece with every cluster; and a multiple of every entry size but FAT12's,
/// whose whole FAT is shorter.
const PIECE_BYTES: u64 = 8 << 10;
/// 4 MiB: a FAT that is not longer is kept whole.
const KEPT_PIECES: usize = 512;

/// A piece and its index: the last one that was read of those whose place it is.
type Slot = Option<(u64, Arc<[u8]>)>;

/// The FAT in use.
pub(crate) struct Table {
    source: Arc<dyn BlockSource>,
    kind: FatKind,
    clusters: u32,
    at: u64,
    len_bytes: u64,
    kept: Mutex<Vec<Slot>>,
}

impl stillframe_clusters::Table for Table {
    fn clusters(&self) -> u32 {
        self.clusters
    }

    fn next(&self, cluster: u32) -> Result<Option<u32>, FsError> {
        let entry = self.entry(cluster)?;
        let end = match self.kind {
            FatKind::Fat12 => 0xFF8,
            FatKind::Fat16 => 0xFFF8,
            FatKind::Fat32 => 0x0FFF_FFF8,
        };
        Ok((entry < end).then_some(entry))
    }

    fn check(&self, first: u32, cluster: u32) -> Result<(), Fault> {
        if cluster.checked_sub(2).is_some_and(|index| index < self.clusters) {
            return Ok(());
        }
        Err(Fault::new("cluster chain", self.entry_at(first), "a cluster of the volume", cluster))
    }

    fn entry_at(&self, cluster: u32) -> u64 {
        self.at.saturating_add(self.entry_offset(cluster))
    }
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

    /// Whether the volume's own entry says that it was not unmounted; FAT12 has none.
    pub(crate) fn is_dirty(&self) -> Result<bool, FsError> {
        Ok(match self.kind {
            FatKind::Fat12 => false,
            FatKind::Fat16 => self.entry(1)? & 0x8000 == 0,
            FatKind::Fat32 => self.entry(1)? & 0x0800_0000 == 0,
        })
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

    fn piece(&self, index: u64) -> Result<Arc<[u8]>, FsError> {
        let slot = usize::try_from(index).unwrap_or(usize::MAX) % KEPT_PIECES;
        {
            let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(Some((kept, piece))) = kept.get(slot)
                && *kept == index
            {
                return Ok(Arc::clone(piece));
            }
        }
        // Read without the lock: another thread may read the same piece, and none waits for this one's source.
        let offset = index.saturating_mul(PIECE_BYTES);
        let len = self.len_bytes.saturating_sub(offset).min(PIECE_BYTES);
        let mut bytes = vec![0; usize::try_from(len).unwrap_or(0)];
        self.source.read_exact_at(self.at.saturating_add(offset), &mut bytes)?;
        let bytes: Arc<[u8]> = bytes.into();
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.is_empty() {
            kept.resize(KEPT_PIECES, None);
        }
        if let Some(place) = kept.get_mut(slot) {
            *place = Some((index, Arc::clone(&bytes)));
        }
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use stillframe_block::{CountingSource, MemorySource};
    use stillframe_clusters::Table as _;

    use super::*;

    #[test]
    fn a_piece_of_the_table_is_read_once_while_it_is_kept() {
        let source = Arc::new(CountingSource::new(Arc::new(MemorySource(vec![0; 1 << 20]))));
        let table = Table {
            source: source.clone(),
            kind: FatKind::Fat32,
            clusters: 100_000,
            at: 0,
            len_bytes: 1 << 20,
            kept: Mutex::default(),
        };
        for cluster in (2..100_000).chain(2..100_000) {
            let _ = table.next(cluster);
        }
        assert!(source.counts().requests <= (1 << 20) / PIECE_BYTES, "{:?}", source.counts());
    }
}

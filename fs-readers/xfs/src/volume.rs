//! The volume as replaying its log leaves it: the source below, and the sectors that the log changes over it.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use stillframe_block::{BlockSource, ReadError};

use crate::changes::Changes;

/// The unit in which the log names what it changes, whatever the sector size of the filesystem.
pub(crate) const SECTOR_BYTES: u64 = 512;

/// Inodes are read one by one, and a directory's inodes mostly lie side by side: each of these holds 32 of them.
const WINDOW_BYTES: u64 = 16 * 1024;
/// 1 MiB of windows for each open filesystem.
const WINDOWS: usize = 64;

struct Window {
    start: u64,
    bytes: Vec<u8>,
}

/// What all reading of an open filesystem goes through.
pub(crate) struct Volume {
    source: Arc<dyn BlockSource>,
    changes: Option<Changes>,
    /// Direct-mapped by the window's number, so that a lock is held for one copy only.
    windows: Vec<Mutex<Option<Window>>>,
}

impl Volume {
    pub(crate) fn new(source: Arc<dyn BlockSource>, changes: Option<Changes>) -> Self {
        Self { source, changes, windows: (0..WINDOWS).map(|_| Mutex::new(None)).collect() }
    }

    pub(crate) fn len_bytes(&self) -> u64 {
        self.source.len_bytes()
    }

    /// Fills `buffer` with the bytes at `offset`.
    pub(crate) fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<(), ReadError> {
        self.source.read_exact_at(offset, buffer)?;
        match &self.changes {
            Some(changes) => changes.patch(&*self.source, offset, buffer),
            None => Ok(()),
        }
    }

    /// What lies below, without what the log changes.
    pub(crate) fn source(&self) -> &Arc<dyn BlockSource> {
        &self.source
    }

    /// What the log changes.
    pub(crate) fn changes(&self) -> Option<&Changes> {
        self.changes.as_ref()
    }

    /// Whether [`Self::prefetch`] does anything.
    pub(crate) fn wants_hints(&self) -> bool {
        self.source.wants_hints()
    }

    /// A hint that these bytes will be read. What the log changed is in memory beside them, and not instead of them.
    pub(crate) fn prefetch(&self, ranges: &[Range<u64>]) {
        self.source.prefetch(ranges);
    }

    /// [`Self::read`] for small structures that lie close to each other: reads the whole window around them, once.
    pub(crate) fn read_clustered(&self, offset: u64, buffer: &mut [u8]) -> Result<(), ReadError> {
        let number = offset / WINDOW_BYTES;
        let start = number.saturating_mul(WINDOW_BYTES);
        let len = self.len_bytes().saturating_sub(start).min(WINDOW_BYTES);
        let within = offset.saturating_sub(start);
        let fits = within.saturating_add(to_u64(buffer.len())) <= len;
        let slot = to_usize(number).checked_rem(WINDOWS).and_then(|slot| self.windows.get(slot));
        let (true, Some(slot)) = (fits, slot) else {
            return self.read(offset, buffer);
        };
        let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
        if slot.as_ref().is_none_or(|window| window.start != start) {
            let mut bytes = vec![0; to_usize(len)];
            self.read(start, &mut bytes)?;
            *slot = Some(Window { start, bytes });
        }
        match slot.as_ref().and_then(|window| part(&window.bytes, within, buffer.len())) {
            Some(bytes) => {
                buffer.copy_from_slice(bytes);
                Ok(())
            }
            None => self.read(offset, buffer),
        }
    }
}

/// The `len` bytes at `offset` of `bytes`.
pub(crate) fn part(bytes: &[u8], offset: u64, len: usize) -> Option<&[u8]> {
    bytes.get(to_usize(offset)..)?.get(..len)
}

/// The `len` bytes at `offset` of `bytes`.
pub(crate) fn part_mut(bytes: &mut [u8], offset: u64, len: usize) -> Option<&mut [u8]> {
    bytes.get_mut(to_usize(offset)..)?.get_mut(..len)
}

/// A length as the type that slices want; what does not fit is past every slice's end.
pub(crate) fn to_usize(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// A length as the type that offsets have.
pub(crate) fn to_u64(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use stillframe_block::{CountingSource, MemorySource};

    use super::*;

    #[test]
    fn neighbours_cost_one_read() {
        let disk = (0_u32..50_000).map(|at| u8::try_from(at % 251).unwrap()).collect();
        let source = Arc::new(CountingSource::new(Arc::new(MemorySource(disk))));
        let volume = Volume::new(source.clone(), None);
        for inode in 0..32_u64 {
            let mut bytes = [0; 512];
            volume.read_clustered(inode * 512, &mut bytes).unwrap();
            assert_eq!(u64::from(bytes[0]), inode * 512 % 251);
        }
        assert_eq!(source.counts().requests, 1);
        // Over a window's edge, and in the cut one at the end.
        volume.read_clustered(16_380, &mut [0; 8]).unwrap();
        volume.read_clustered(49_990, &mut [0; 10]).unwrap();
        assert!(volume.read_clustered(49_990, &mut [0; 11]).is_err());
    }
}

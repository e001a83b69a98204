//! The volume as replaying its log leaves it: the source below, and the sectors that the log changes over it.

use std::ops::Range;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use stillframe_block::{BlockSource, ReadError};
use stillframe_bytes::{Fault, Structure};

use crate::changes::Changes;
use crate::checksum::check_sequence_number;
use crate::inode;

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

/// The log's end, of version 5.
pub(crate) struct LogEnd {
    /// No metadata carries a later one.
    pub(crate) sequence_number: u64,
    pub(crate) inode_bytes: usize,
    /// What metadata carries.
    pub(crate) uuid: [u8; 16],
}

/// What all reading of an open filesystem goes through.
pub(crate) struct Volume {
    source: Arc<dyn BlockSource>,
    changes: Option<Changes>,
    log_end: Option<LogEnd>,
    /// The first inode met that is newer than the log.
    newer_inode: OnceLock<Fault>,
    /// Direct-mapped by the window's number, so that a lock is held for one copy only.
    windows: Vec<Mutex<Option<Window>>>,
}

impl Volume {
    pub(crate) fn new(
        source: Arc<dyn BlockSource>,
        changes: Option<Changes>,
        log_end: Option<LogEnd>,
    ) -> Self {
        let windows = (0..WINDOWS).map(|_| Mutex::new(None)).collect();
        Self { source, changes, log_end, newer_inode: OnceLock::new(), windows }
    }

    /// Refuses a block whose sequence number, `offset` bytes into it, is later than the log's end, as the kernel does.
    pub(crate) fn check_sequence_number(&self, block: &Structure<'_>, offset: usize) -> Result<(), Fault> {
        match &self.log_end {
            Some(end) => {
                let at = block.at().saturating_add(to_u64(offset));
                check_sequence_number(block.u64_be(offset)?, end.sequence_number, at)
            }
            None => Ok(()),
        }
    }

    /// Where an inode was met that is newer than the log's end. The kernel shows such inodes, so they are no error; but no
    /// sound disk has one, and what the log changed beside them may be old.
    pub(crate) fn newer_inode(&self) -> Option<Fault> {
        self.newer_inode.get().copied()
    }

    pub(crate) fn len_bytes(&self) -> u64 {
        self.source.len_bytes()
    }

    /// Fills `buffer` with the bytes at `offset`.
    pub(crate) fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<(), ReadError> {
        self.source.read_exact_at(offset, buffer)?;
        self.patch(offset, buffer)
    }

    fn patch(&self, offset: u64, buffer: &mut [u8]) -> Result<(), ReadError> {
        match &self.changes {
            Some(changes) => changes.patch(&*self.source, offset, buffer),
            None => Ok(()),
        }
    }

    /// Looks at inodes as they lie on the volume: what the log says of them may hide that they are newer.
    fn note_newer_inodes(&self, start: u64, window: &[u8]) {
        let Some(end) = self.log_end.as_ref().filter(|_| self.newer_inode.get().is_none()) else { return };
        let inode_bytes = end.inode_bytes.max(1);
        let mut inodes = window.chunks_exact(inode_bytes).zip((start..).step_by(inode_bytes));
        let newer =
            inodes.find_map(|(bytes, at)| inode::check_age(bytes, at, &end.uuid, end.sequence_number).err());
        if let Some(fault) = newer {
            // Another thread's is as good.
            let _ = self.newer_inode.set(fault);
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

    /// [`Self::read`] for inodes, which lie close to each other: reads the whole window around them, once.
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
            self.source.read_exact_at(start, &mut bytes)?;
            self.note_newer_inodes(start, &bytes);
            self.patch(start, &mut bytes)?;
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
        let volume = Volume::new(source.clone(), None, None);
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

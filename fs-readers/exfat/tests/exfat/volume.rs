//! A golden disk whose fields can be changed, with every checksum made right again.

use std::sync::Arc;

use stillframe_block::{BlockSource, MemorySource, SparseMemorySource};
use stillframe_fs::{FsError, ReadOnlyFs};

use crate::support::find;

pub(crate) fn open(source: Arc<dyn BlockSource>) -> Result<Box<dyn ReadOnlyFs>, FsError> {
    stillframe_exfat::open(source)
}

pub(crate) struct Volume(pub(crate) Vec<u8>);

impl Volume {
    pub(crate) fn golden(name: &str) -> Self {
        let disk = stillframe_fixtures::golden(name);
        let mut bytes = vec![0; disk.len_bytes() as usize];
        disk.read_exact_at(0, &mut bytes).unwrap();
        Self(bytes)
    }

    pub(crate) fn open(&self) -> Result<Box<dyn ReadOnlyFs>, FsError> {
        open(Arc::new(MemorySource(self.0.clone())))
    }

    pub(crate) fn u32_at(&self, at: usize) -> usize {
        u32::from_le_bytes(self.0[at..at + 4].try_into().unwrap()) as usize
    }

    pub(crate) fn set_u32(&mut self, at: usize, value: u32) {
        self.0[at..at + 4].copy_from_slice(&value.to_le_bytes());
    }

    pub(crate) fn set_u64(&mut self, at: usize, value: u64) {
        self.0[at..at + 8].copy_from_slice(&value.to_le_bytes());
    }

    /// Where the entry set of `path` begins.
    pub(crate) fn set_of(&self, path: &str) -> usize {
        (find(&*self.open().unwrap(), path).number & !1) as usize
    }

    pub(crate) fn stream_flags(&self, path: &str) -> u8 {
        self.0[self.set_of(path) + 33]
    }

    pub(crate) fn size(&self, path: &str) -> usize {
        self.u32_at(self.set_of(path) + 32 + 24)
    }

    pub(crate) fn first_cluster(&self, path: &str) -> usize {
        self.u32_at(self.set_of(path) + 32 + 20)
    }

    /// Where the FAT has what follows `cluster`.
    pub(crate) fn fat_entry(&self, cluster: usize) -> usize {
        (self.u32_at(80) << self.0[108]) + cluster * 4
    }

    pub(crate) fn cluster_at(&self, cluster: usize) -> usize {
        (self.u32_at(88) << self.0[108]) + ((cluster - 2) << (self.0[108] + self.0[109]))
    }

    /// Makes the checksum of the set at `at` right.
    pub(crate) fn sum_set(&mut self, at: usize) {
        let len = 32 * (1 + usize::from(self.0[at + 1]));
        let counted = self.0[at..at + len].iter().enumerate().filter(|(index, _)| !matches!(index, 2 | 3));
        let sum = counted.fold(0_u16, |sum, (_, byte)| sum.rotate_right(1).wrapping_add(u16::from(*byte)));
        self.0[at + 2..at + 4].copy_from_slice(&sum.to_le_bytes());
    }

    /// Makes the checksum of the boot region at `at` right.
    pub(crate) fn sum_boot(&mut self, at: usize) {
        let sector = 1_usize << self.0[at + 108].clamp(9, 12);
        let counted = self.0[at..at + 11 * sector]
            .iter()
            .enumerate()
            .filter(|(index, _)| !matches!(index, 106 | 107 | 112));
        let sum = counted.fold(0_u32, |sum, (_, byte)| sum.rotate_right(1).wrapping_add(u32::from(*byte)));
        for place in (at + 11 * sector..at + 12 * sector).step_by(4) {
            self.set_u32(place, sum);
        }
    }

    /// Makes all checksums of a changed disk right.
    pub(crate) fn mend(disk: &mut SparseMemorySource) {
        let mut bytes = vec![0; disk.len_bytes() as usize];
        disk.read_exact_at(0, &mut bytes).unwrap();
        let mut volume = Self(bytes.clone());
        volume.sum_boot(0);
        let heap = volume.u32_at(88).min(4096) << 9;
        for at in (heap..volume.0.len() - 1024).step_by(32) {
            if volume.0[at] == 0x85 && volume.0[at + 1] <= 18 && volume.0[at + 32] == 0xC0 {
                volume.sum_set(at);
            }
        }
        for (at, (new, old)) in (0_u64..).zip(volume.0.iter().zip(&bytes)) {
            if new != old {
                disk.set(at, *new);
            }
        }
    }
}

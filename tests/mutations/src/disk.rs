use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use stillframe_block::{BlockSource, ReadError, SparseMemorySource};

/// A disk in memory that can be changed.
pub trait Disk: BlockSource {
    /// Puts `bytes` at `offset`; what passes the end is left out.
    fn put(&mut self, offset: u64, bytes: &[u8]);
}

impl Disk for SparseMemorySource {
    fn put(&mut self, offset: u64, bytes: &[u8]) {
        let end = self.len_bytes();
        for (at, byte) in (offset..end).zip(bytes) {
            self.set(at, *byte);
        }
    }
}

const PAGE_BYTES: u64 = 4096;

/// A golden disk and the pages that differ from it: a mutant costs what is changed in it.
#[derive(Debug, Clone)]
pub struct Mutant {
    golden: Arc<SparseMemorySource>,
    pages: BTreeMap<u64, Vec<u8>>,
}

impl Mutant {
    /// `golden` as it is.
    #[must_use]
    pub const fn new(golden: Arc<SparseMemorySource>) -> Self {
        Self { golden, pages: BTreeMap::new() }
    }
}

impl Disk for Mutant {
    fn put(&mut self, offset: u64, bytes: &[u8]) {
        let len_bytes = self.len_bytes();
        for (at, byte) in (offset..len_bytes).zip(bytes) {
            let start = at - at % PAGE_BYTES;
            let golden = &self.golden;
            let page = self.pages.entry(start).or_insert_with(|| bytes_at(golden, start, PAGE_BYTES));
            page[(at - start) as usize] = *byte;
        }
    }
}

impl BlockSource for Mutant {
    fn len_bytes(&self) -> u64 {
        self.golden.len_bytes()
    }

    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), ReadError> {
        self.golden.read_exact_at(offset, buffer)?;
        let end = offset + buffer.len() as u64;
        for (start, page) in self.pages.range(offset - offset % PAGE_BYTES..end) {
            let (from, to) = (offset.max(*start), end.min(start + PAGE_BYTES));
            let within = (from - start) as usize..(to - start) as usize;
            buffer[(from - offset) as usize..(to - offset) as usize].copy_from_slice(&page[within]);
        }
        Ok(())
    }

    fn next_written(&self, offset: u64) -> Result<Option<Range<u64>>, ReadError> {
        let changed = self.pages.range(offset - offset % PAGE_BYTES..).next();
        let changed = changed.map(|(start, _)| offset.max(*start)..start + PAGE_BYTES);
        let golden = self.golden.next_written(offset)?;
        Ok(match (golden, changed) {
            (Some(golden), Some(changed)) => {
                Some(if changed.start < golden.start { changed } else { golden })
            }
            (golden, changed) => golden.or(changed),
        })
    }
}

/// The `len` bytes at `offset`; zeros where they pass the end.
pub(crate) fn bytes_at(disk: &dyn BlockSource, offset: u64, len: u64) -> Vec<u8> {
    let mut bytes = vec![0; len as usize];
    let there = disk.len_bytes().saturating_sub(offset).min(len) as usize;
    disk.read_exact_at(offset.min(disk.len_bytes()), &mut bytes[..there]).expect("it lies on the disk");
    bytes
}

/// The numbers of a structure that was read; 0 where it ends before.
pub(crate) struct Fields<'a>(pub(crate) &'a [u8]);

impl Fields<'_> {
    fn array<const LEN: usize>(&self, at: usize) -> [u8; LEN] {
        let bytes = self.0.get(at..at + LEN);
        bytes.and_then(|bytes| bytes.try_into().ok()).unwrap_or([0; LEN])
    }

    pub(crate) fn u8(&self, at: usize) -> u8 {
        u8::from_le_bytes(self.array(at))
    }

    pub(crate) fn u16(&self, at: usize) -> u16 {
        u16::from_le_bytes(self.array(at))
    }

    pub(crate) fn u32(&self, at: usize) -> u32 {
        u32::from_le_bytes(self.array(at))
    }

    pub(crate) fn u64(&self, at: usize) -> u64 {
        u64::from_le_bytes(self.array(at))
    }

    pub(crate) fn u16_be(&self, at: usize) -> u16 {
        u16::from_be_bytes(self.array(at))
    }

    pub(crate) fn u32_be(&self, at: usize) -> u32 {
        u32::from_be_bytes(self.array(at))
    }

    pub(crate) fn is(&self, at: usize, bytes: &[u8]) -> bool {
        self.0.get(at..at + bytes.len()) == Some(bytes)
    }
}

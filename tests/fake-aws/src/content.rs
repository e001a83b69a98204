//! The blocks of a volume: which were written, their bytes and their checksums. A raw file is asked for its data by
//! `SEEK_DATA`, so that a hole is a block that was never written.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::SeekFrom;
use rustix::io::Errno;
use sha2::{Digest, Sha256};

use crate::estate::Content;

/// The length of a block of the EBS direct APIs.
pub const BLOCK_LEN: usize = 512 * 1024;
const BLOCK_LEN_BYTES: u64 = 512 * 1024;
/// In a GiB.
const BLOCKS_PER_GIB: u64 = 2_048;

/// How many blocks a volume has.
pub(crate) fn block_count(size_gib: u64) -> u32 {
    u32::try_from(size_gib.saturating_mul(BLOCKS_PER_GIB)).unwrap_or(u32::MAX)
}

/// The contents that were opened.
#[derive(Debug, Default)]
pub(crate) struct Contents(Mutex<HashMap<Content, Arc<Opened>>>);

/// One content.
#[derive(Debug)]
pub(crate) struct Opened {
    file: Option<File>,
    /// Ranges of written blocks, ascending.
    written: Vec<Range<u32>>,
    /// Hashing costs more than reading, and clients read the same blocks many times.
    checksums: Mutex<HashMap<u32, [u8; 32]>>,
}

impl Contents {
    /// Opens a content, or finds it open.
    pub(crate) fn open(&self, content: &Content) -> io::Result<Arc<Opened>> {
        let mut opened = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = opened.get(content) {
            return Ok(Arc::clone(found));
        }
        let fresh = Arc::new(Opened::open(content)?);
        opened.insert(content.clone(), Arc::clone(&fresh));
        Ok(fresh)
    }
}

impl Opened {
    fn open(content: &Content) -> io::Result<Self> {
        let (file, written) = match &content.image {
            Some(path) => {
                let file = File::open(path).map_err(|error| named(path, &error))?;
                let written = written_blocks(&file).map_err(|error| named(path, &error))?;
                (Some(file), written)
            }
            None if content.pattern_blocks > 0 => {
                (None, std::iter::once(0..content.pattern_blocks).collect())
            }
            None => (None, Vec::new()),
        };
        Ok(Self { file, written, checksums: Mutex::default() })
    }

    /// The ranges of written blocks, ascending.
    pub(crate) fn written(&self) -> &[Range<u32>] {
        &self.written
    }

    pub(crate) fn is_written(&self, index: u32) -> bool {
        let after = self.written.partition_point(|range| range.end <= index);
        self.written.get(after).is_some_and(|range| range.contains(&index))
    }

    /// How many blocks are written.
    pub(crate) fn written_count(&self) -> u64 {
        self.written.iter().map(|range| u64::from(range.end - range.start)).sum()
    }

    /// The first written blocks from `start` on, and the index of the one after them.
    pub(crate) fn page(&self, start: u32, limit: usize, end: u32) -> (Vec<u32>, Option<u32>) {
        let mut blocks: Vec<u32> = self
            .written
            .iter()
            .skip_while(|range| range.end <= start)
            .flat_map(|range| range.start.max(start)..range.end)
            .take_while(|index| *index < end)
            .take(limit + 1)
            .collect();
        let next = if blocks.len() > limit { blocks.pop() } else { None };
        (blocks, next)
    }

    /// A block. What lies past the file's end is zeros.
    pub(crate) fn read(&self, index: u32) -> io::Result<Vec<u8>> {
        let mut block = vec![0; BLOCK_LEN];
        match &self.file {
            Some(file) => {
                let mut filled = 0;
                while let Some(rest @ [_, ..]) = block.get_mut(filled..) {
                    let offset =
                        u64::from(index) * BLOCK_LEN_BYTES + u64::try_from(filled).unwrap_or(u64::MAX);
                    match file.read_at(rest, offset)? {
                        0 => break,
                        length => filled += length,
                    }
                }
            }
            None if self.is_written(index) => {
                let mut state = u64::from(index) + 1;
                for word in block.chunks_exact_mut(8) {
                    state =
                        state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    word.copy_from_slice(&state.to_le_bytes());
                }
            }
            None => {}
        }
        Ok(block)
    }

    /// The SHA-256 of a block's bytes.
    pub(crate) fn checksum(&self, index: u32, block: &[u8]) -> [u8; 32] {
        let mut checksums = self.checksums.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = checksums.get(&index) {
            return *found;
        }
        drop(checksums);
        let fresh: [u8; 32] = Sha256::digest(block).into();
        checksums = self.checksums.lock().unwrap_or_else(PoisonError::into_inner);
        checksums.insert(index, fresh);
        fresh
    }
}

fn named(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// The blocks that hold data of a sparse file.
fn written_blocks(file: &File) -> io::Result<Vec<Range<u32>>> {
    let mut written: Vec<Range<u32>> = Vec::new();
    let mut offset = 0;
    loop {
        let start = match rustix::fs::seek(file, SeekFrom::Data(offset)) {
            Ok(start) => start,
            // No data from here on.
            Err(Errno::NXIO) => return Ok(written),
            Err(error) => return Err(error.into()),
        };
        offset = rustix::fs::seek(file, SeekFrom::Hole(start))?;
        let first = u32::try_from(start / BLOCK_LEN_BYTES).map_err(io::Error::other)?;
        let end = u32::try_from(offset.div_ceil(BLOCK_LEN_BYTES)).map_err(io::Error::other)?;
        match written.last_mut() {
            Some(last) if last.end >= first => last.end = last.end.max(end),
            _ => written.push(first..end),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holes_are_not_written() {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(64 * BLOCK_LEN_BYTES).unwrap();
        // The end of block 2 and the start of block 3; then block 10; then the last byte of all.
        file.as_file().write_all_at(&[1; 8_192], 3 * BLOCK_LEN_BYTES - 4_096).unwrap();
        file.as_file().write_all_at(&[2; 4_096], 10 * BLOCK_LEN_BYTES).unwrap();
        file.as_file().write_all_at(&[3], 64 * BLOCK_LEN_BYTES - 1).unwrap();
        let content = Content { image: Some(file.path().to_owned()), pattern_blocks: 0 };
        let opened = Contents::default().open(&content).unwrap();
        assert_eq!(opened.written(), [2..4, 10..11, 63..64]);
        assert_eq!(opened.written_count(), 4);
        assert_eq!(opened.page(0, 2, 64), (vec![2, 3], Some(10)));
        assert_eq!(opened.page(3, 100, 64), (vec![3, 10, 63], None));
        assert_eq!(opened.page(3, 100, 11), (vec![3, 10], None));
        assert!(opened.is_written(63) && !opened.is_written(62) && !opened.is_written(64));
        let block = opened.read(3).unwrap();
        assert_eq!((block.len(), block[4_095], block[4_096]), (BLOCK_LEN, 1, 0));
        let digest: [u8; 32] = Sha256::digest(&block).into();
        assert_eq!(opened.checksum(3, &block), digest);
    }

    #[test]
    fn made_up_blocks_differ() {
        let content = Content { image: None, pattern_blocks: 3 };
        let opened = Contents::default().open(&content).unwrap();
        assert_eq!(opened.page(0, 10, 2_048), (vec![0, 1, 2], None));
        assert_ne!(opened.read(0).unwrap(), opened.read(1).unwrap());
        assert!(opened.read(3).unwrap().iter().all(|byte| *byte == 0));
    }
}

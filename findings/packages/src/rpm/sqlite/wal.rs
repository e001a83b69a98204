//! SQLite's write-ahead log: which pages of the database it has newer.
//!
//! Format: sqlite.org/fileformat2.html, section 4, "The Write-Ahead Log", and walformat.html. A frame counts if its
//! salts are the header's and its checksum, which goes on from frame to frame, is right; the first that does not count
//! ends the log. What follows the last frame that commits is of a transaction that did not end.

use std::collections::BTreeMap;

use stillframe_bytes::{Fault, Quantity, Structure};
use stillframe_fs::{FileContent, FsError};

use super::super::blob::MAX_PAGES;
use super::super::cached::CachedFile;
use super::super::{length_of, offset_of};
use crate::collector::Collector;

const HEADER_BYTES: usize = 32;
const FRAME_HEADER_BYTES: usize = 24;
/// Its lowest bit says that checksums read the log as big-endian numbers.
const MAGIC: u32 = 0x377f_0682;
const VERSION: u32 = 3_007_000;

/// 1 GiB of pages of the usual size. rpm's log seldom has more than 1,000 pages.
const MAX_FRAMES: u64 = 1 << 18;

/// A log's committed pages.
pub(super) struct Wal<'f> {
    file: CachedFile<'f>,
    /// Where in the log the newest content of a page lies.
    pages: BTreeMap<u32, u64>,
    /// How many pages the database has after the last commit.
    pub(super) database_pages: u32,
}

impl<'f> Wal<'f> {
    /// Reads the log for a database with pages of `page_bytes`; `None` where nothing in it is committed. What is
    /// wrong with it, besides an end that was not written, goes to `collector`.
    ///
    /// # Errors
    /// What `file` fails with.
    pub(super) fn open(
        file: &'f mut dyn FileContent,
        page_bytes: usize,
        collector: &mut Collector,
    ) -> Result<Option<Self>, FsError> {
        let file = CachedFile::new(file);
        if file.len_bytes() == 0 {
            return Ok(None);
        }
        let mut wal = Self { file, pages: BTreeMap::new(), database_pages: 0 };
        match wal.read_frames(page_bytes) {
            Ok(()) => {}
            // What was committed before the damage holds.
            Err(FsError::Corrupt(fault)) => {
                let _ = collector.fault(fault);
            }
            Err(error) => return Err(error),
        }
        Ok((wal.database_pages != 0).then_some(wal))
    }

    /// Fills `page` with the log's content of page `number`; `false` where the log has none.
    pub(super) fn read_page(&mut self, number: u32, page: &mut [u8]) -> Result<bool, FsError> {
        let Some(at) = self.pages.get(&number) else { return Ok(false) };
        self.file.read_exact("SQLite WAL page", *at, page)?;
        Ok(true)
    }

    fn read_frames(&mut self, page_bytes: usize) -> Result<(), FsError> {
        let mut bytes = [0; HEADER_BYTES];
        self.file.read_exact("SQLite WAL header", 0, &mut bytes)?;
        let header = Header::parse(&bytes, page_bytes)?;
        let mut checksum = header.checksum;
        let mut frame = vec![0; FRAME_HEADER_BYTES.saturating_add(page_bytes)];
        let frame_bytes = offset_of(frame.len());
        let end = self.file.len_bytes();
        let mut at = offset_of(HEADER_BYTES);
        let mut frames = 0_u64;
        let mut pending: Vec<(u32, u64)> = Vec::new();
        while at.saturating_add(frame_bytes) <= end {
            self.file.read_exact("SQLite WAL frame", at, &mut frame)?;
            let structure = Structure::new("SQLite WAL frame", at, &frame);
            let (number, pages_after) = (structure.u32_be(0)?, structure.u32_be(4)?);
            if structure.array::<8>(8)? != header.salts {
                break;
            }
            checksum.add(structure.slice(0, 8)?);
            checksum.add(structure.slice(FRAME_HEADER_BYTES, page_bytes)?);
            if checksum.sums() != (structure.u32_be(16)?, structure.u32_be(20)?) {
                break;
            }
            if number == 0 || number >= MAX_PAGES {
                return Err(structure.fault("SQLite WAL page number", 0, MAX_PAGES, number).into());
            }
            frames = frames.saturating_add(1);
            if frames > MAX_FRAMES {
                return Err(structure.fault("SQLite WAL frames", 0, MAX_FRAMES, frames).into());
            }
            pending.push((number, at.saturating_add(offset_of(FRAME_HEADER_BYTES))));
            if pages_after != 0 {
                self.pages.extend(pending.drain(..));
                self.database_pages = pages_after;
            }
            at = at.saturating_add(frame_bytes);
        }
        Ok(())
    }
}

struct Header {
    salts: [u8; 8],
    checksum: Checksum,
}

impl Header {
    fn parse(bytes: &[u8], page_bytes: usize) -> Result<Self, Fault> {
        let header = Structure::new("SQLite WAL header", 0, bytes);
        let magic = header.u32_be(0)?;
        if magic & !1 != MAGIC {
            return Err(header.fault(
                "SQLite WAL magic",
                0,
                Quantity::Hex(MAGIC.into()),
                Quantity::Hex(magic.into()),
            ));
        }
        let version = header.u32_be(4)?;
        if version != VERSION {
            return Err(header.fault("SQLite WAL version", 4, VERSION, version));
        }
        let mut checksum = Checksum { is_big_endian: magic & 1 != 0, low: 0, high: 0 };
        checksum.add(header.slice(0, 24)?);
        if checksum.sums() != (header.u32_be(24)?, header.u32_be(28)?) {
            let found = Quantity::Hex(checksum.sums().0.into());
            return Err(header.fault(
                "SQLite WAL header checksum",
                24,
                Quantity::Hex(header.u32_be(24)?.into()),
                found,
            ));
        }
        let log_page_bytes = header.u32_be(8)?;
        if length_of(log_page_bytes) != page_bytes {
            return Err(header.fault("SQLite WAL page size in bytes", 8, log_page_bytes, page_bytes));
        }
        Ok(Self { salts: header.array(16)?, checksum })
    }
}

/// The log's running checksum: two sums, each fed with the other.
#[derive(Clone, Copy)]
struct Checksum {
    is_big_endian: bool,
    low: u32,
    high: u32,
}

impl Checksum {
    /// Takes `bytes`, whose length is a multiple of 8.
    fn add(&mut self, bytes: &[u8]) {
        let number = if self.is_big_endian { u32::from_be_bytes } else { u32::from_le_bytes };
        let (mut low, mut high) = (self.low, self.high);
        for pair in bytes.chunks_exact(8) {
            let [a, b, c, d, e, f, g, h] = *pair else { continue };
            low = low.wrapping_add(number([a, b, c, d])).wrapping_add(high);
            high = high.wrapping_add(number([e, f, g, h])).wrapping_add(low);
        }
        (self.low, self.high) = (low, high);
    }

    const fn sums(&self) -> (u32, u32) {
        (self.low, self.high)
    }
}

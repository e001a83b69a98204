//! rpm's own database, `Packages.db`.
//!
//! Described by rpm's `lib/backend/ndb/rpmpkg.c` only. All numbers are little-endian. The file begins with pages of
//! slots of 16 bytes, the first two of which are the file's header; a slot says in which blocks of 16 bytes the header
//! of a package lies. There it has a head of 16 bytes before it and, after zeros up to a whole block, a tail of 12
//! with an Adler-32 of everything before.

use std::ops::ControlFlow;

use stillframe_bytes::{Fault, Quantity, Structure};
use stillframe_fs::{FileContent, FsError};

use super::blob::Blob;
use super::cached::CachedFile;
use super::{header, length_of, offset_of};
use crate::collector::Collector;

pub(super) const MAGIC: &[u8] = b"RpmP";
const SLOT_MAGIC: u32 = u32::from_le_bytes(*b"Slot");
const BLOB_MAGIC: u32 = u32::from_le_bytes(*b"BlbS");
const BLOB_END_MAGIC: u32 = u32::from_le_bytes(*b"BlbE");

const HEADER_BYTES: usize = 32;
const SLOT_PAGE_BYTES: usize = 4096;
const SLOT_BYTES: usize = 16;
const BLOCK_BYTES: u64 = 16;
const HEAD_BYTES: usize = 16;
const TAIL_BYTES: usize = 12;

/// 16 million packages.
const MAX_SLOT_PAGES: u32 = 1 << 16;

pub(super) fn read(file: &mut dyn FileContent, collector: &mut Collector) -> Result<(), FsError> {
    let mut file = CachedFile::new(file);
    let mut bytes = [0; HEADER_BYTES];
    file.read_exact("ndb header", 0, &mut bytes)?;
    let structure = Structure::new("ndb header", 0, &bytes);
    let (version, slot_pages) = (structure.u32_le(4)?, structure.u32_le(12)?);
    if version != 0 {
        return Err(FsError::Unsupported("ndb version"));
    }
    let pages_there = file.len_bytes().div_ceil(offset_of(SLOT_PAGE_BYTES));
    if slot_pages == 0 || slot_pages > MAX_SLOT_PAGES || u64::from(slot_pages) > pages_there {
        return Err(structure.fault("ndb slot pages", 12, slot_pages, pages_there).into());
    }
    let mut blob_bytes = 0_u64;
    for page in 0..slot_pages {
        let flow = read_slot_page(&mut file, page, &mut blob_bytes, collector);
        if flow.is_break() {
            break;
        }
    }
    Ok(())
}

fn read_slot_page(
    file: &mut CachedFile<'_>,
    page: u32,
    blob_bytes: &mut u64,
    collector: &mut Collector,
) -> ControlFlow<()> {
    let at = u64::from(page).saturating_mul(offset_of(SLOT_PAGE_BYTES));
    let mut bytes = vec![0; SLOT_PAGE_BYTES];
    if let Err(error) = file.read_exact("ndb slot page", at, &mut bytes) {
        return collector.error(error);
    }
    let begin = if page == 0 { HEADER_BYTES } else { 0 };
    let slots = bytes.get(begin..).unwrap_or_default().chunks_exact(SLOT_BYTES);
    for (slot, bytes) in slots.enumerate() {
        let slot_at =
            at.saturating_add(offset_of(begin)).saturating_add(offset_of(slot.saturating_mul(SLOT_BYTES)));
        match read_slot(file, &Structure::new("ndb slot", slot_at, bytes), blob_bytes, collector) {
            Ok(flow) => flow?,
            Err(error) => collector.error(error)?,
        }
    }
    ControlFlow::Continue(())
}

fn read_slot(
    file: &mut CachedFile<'_>,
    slot: &Structure<'_>,
    blob_bytes: &mut u64,
    collector: &mut Collector,
) -> Result<ControlFlow<()>, FsError> {
    let (magic, package) = (slot.u32_le(0)?, slot.u32_le(4)?);
    if magic != SLOT_MAGIC {
        return Err(slot.fault("ndb slot magic", 0, "Slot", "other bytes").into());
    }
    let at = u64::from(slot.u32_le(8)?).saturating_mul(BLOCK_BYTES);
    let len = u64::from(slot.u32_le(12)?).saturating_mul(BLOCK_BYTES);
    if at == 0 {
        return Ok(ControlFlow::Continue(()));
    }
    if at.saturating_add(len) > file.len_bytes() {
        let end = at.saturating_add(len);
        return Err(slot.fault("ndb blob end in bytes", 8, end, file.len_bytes()).into());
    }
    let len_bytes = check_ends(file, at, len, package)?;
    // Blobs do not overlap: together they are no longer than the file. This bounds the work of any slots.
    let sum = blob_bytes.saturating_add(len);
    if sum > file.len_bytes() {
        return Err(slot.fault("ndb blobs in bytes", 12, "blobs apart", "blobs that overlap").into());
    }
    *blob_bytes = sum;
    check_sum(file, at, len)?;
    let mut blob = NdbBlob { file, at: at.saturating_add(offset_of(HEAD_BYTES)), len_bytes };
    header::read(&mut blob, at, collector)
}

/// Checks the head and tail of the blob of `len` bytes at `at`, and says how long the header in it is.
fn check_ends(file: &mut CachedFile<'_>, at: u64, len: u64, package: u32) -> Result<u64, FsError> {
    let overhead = offset_of(HEAD_BYTES.saturating_add(TAIL_BYTES));
    if len < overhead {
        return Err(Fault::new("ndb blob bytes", at, overhead, len).into());
    }
    let mut head = [0; HEAD_BYTES];
    file.read_exact("ndb blob head", at, &mut head)?;
    let head = Structure::new("ndb blob head", at, &head);
    let tail_at = at.saturating_add(len).saturating_sub(offset_of(TAIL_BYTES));
    let mut tail = [0; TAIL_BYTES];
    file.read_exact("ndb blob tail", tail_at, &mut tail)?;
    let tail = Structure::new("ndb blob tail", tail_at, &tail);
    if head.u32_le(0)? != BLOB_MAGIC || tail.u32_le(8)? != BLOB_END_MAGIC {
        return Err(head.fault("ndb blob magic", 0, "BlbS and BlbE", "other bytes").into());
    }
    if head.u32_le(4)? != package {
        return Err(head.fault("ndb blob package", 4, package, head.u32_le(4)?).into());
    }
    let header_bytes = head.u32_le(12)?;
    if tail.u32_le(4)? != header_bytes {
        return Err(tail.fault("ndb blob length", 4, header_bytes, tail.u32_le(4)?).into());
    }
    let blocks_bytes = u64::from(header_bytes).saturating_add(overhead).next_multiple_of(BLOCK_BYTES);
    if blocks_bytes != len {
        return Err(head.fault("ndb blob length", 12, len, blocks_bytes).into());
    }
    Ok(header_bytes.into())
}

fn check_sum(file: &mut CachedFile<'_>, at: u64, len: u64) -> Result<(), FsError> {
    let tail_at = at.saturating_add(len).saturating_sub(offset_of(TAIL_BYTES));
    let mut claimed = [0; 4];
    file.read_exact("ndb blob tail", tail_at, &mut claimed)?;
    let (claimed, found) = (u32::from_le_bytes(claimed), adler32(file, at, tail_at)?);
    if claimed != found {
        let [claimed, found] = [claimed, found].map(|sum| Quantity::Hex(sum.into()));
        return Err(Fault::new("ndb blob checksum", tail_at, claimed, found).into());
    }
    Ok(())
}

/// Adler-32 (RFC 1950, section 9) of the bytes from `at` to `end`.
fn adler32(file: &mut CachedFile<'_>, at: u64, end: u64) -> Result<u32, FsError> {
    const MODULUS: u32 = 65_521;
    /// So many bytes can be summed up before a `u32` overflows.
    const BEFORE_OVERFLOW: usize = 5_552;
    let (mut low, mut high) = (1_u32, 0_u32);
    let mut buffer = [0; BEFORE_OVERFLOW];
    let mut position = at;
    while position < end {
        let len = length_of(end.saturating_sub(position)).min(BEFORE_OVERFLOW);
        let bytes = buffer.get_mut(..len).unwrap_or_default();
        file.read_exact("ndb blob", position, bytes)?;
        for byte in bytes {
            low = low.wrapping_add(u32::from(*byte));
            high = high.wrapping_add(low);
        }
        low %= MODULUS;
        high %= MODULUS;
        position = position.saturating_add(offset_of(len));
    }
    Ok(high << 16 | low)
}

struct NdbBlob<'c, 'f> {
    file: &'c mut CachedFile<'f>,
    at: u64,
    len_bytes: u64,
}

impl Blob for NdbBlob<'_, '_> {
    fn len_bytes(&self) -> u64 {
        self.len_bytes
    }

    fn read_exact(&mut self, offset: u64, buffer: &mut [u8]) -> Result<(), FsError> {
        let ends = offset.saturating_add(offset_of(buffer.len()));
        if ends > self.len_bytes {
            return Err(Fault::new("ndb blob", self.at, ends, self.len_bytes).into());
        }
        self.file.read_exact("ndb blob", self.at.saturating_add(offset), buffer)
    }
}

#[cfg(test)]
mod tests {
    use stillframe_fs::MemoryContent;

    use super::*;

    #[test]
    fn adler32_of_the_known_word() {
        // The sum of "Wikipedia" is worked out step by step in that encyclopedia's article on Adler-32.
        let mut file = MemoryContent(b"..Wikipedia".to_vec());
        assert_eq!(adler32(&mut CachedFile::new(&mut file), 2, 11).unwrap(), 0x11e6_0398);
        // 0xff so often that an unreduced sum overflows: zlib.adler32(b"\xff" * 100000).
        let mut file = MemoryContent(vec![0xff; 100_000]);
        assert_eq!(adler32(&mut CachedFile::new(&mut file), 0, 100_000).unwrap(), 0x149a_302c);
    }
}

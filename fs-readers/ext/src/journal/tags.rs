//! The tags of a descriptor block, and the block numbers of a revocation block.

use stillframe_bytes::{Fault, Quantity, Structure};

use super::superblock::{Checksums, JournalSuperblock};
use crate::checksum::crc32c_raw;

/// Every block of the log begins with its magic, type and sequence.
const HEADER_BYTES: usize = 12;
/// A block whose checksums are its own ends in one.
const TAIL_BYTES: usize = 4;
const UUID_BYTES: usize = 16;

mod flag {
    pub(super) const ESCAPED: u32 = 0x1;
    pub(super) const SAME_UUID: u32 = 0x2;
    pub(super) const LAST: u32 = 0x8;
}

/// One block that follows the descriptor, and where it belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tag {
    pub(super) block: u64,
    pub(super) is_escaped: bool,
    /// The stored checksum and which bits of it are stored.
    pub(super) checksum: Option<(u32, u32)>,
}

/// The tags of a descriptor block.
pub(super) fn tags(journal: &JournalSuperblock, s: &Structure<'_>) -> Result<Vec<Tag>, Fault> {
    let end = body_end(journal, s)?;
    let mut tags = Vec::new();
    let mut at = HEADER_BYTES;
    let tag_bytes = tag_bytes(journal);
    while at.saturating_add(tag_bytes) <= end {
        let entry = s.part("journal tag", at, tag_bytes)?;
        at = at.saturating_add(tag_bytes);
        let low = u64::from(entry.u32_be(0)?);
        let (flags, high, checksum) = match journal.checksums {
            Checksums::Tag32 { .. } => {
                let high = if journal.has_wide_blocks { entry.u32_be(8)? } else { 0 };
                (entry.u32_be(4)?, high, Some((entry.u32_be(12)?, u32::MAX)))
            }
            others => {
                let high = if journal.has_wide_blocks { entry.u32_be(8)? } else { 0 };
                let checksum = match others {
                    Checksums::Tag16 { .. } => Some((u32::from(entry.u16_be(4)?), 0xffff)),
                    _ => None,
                };
                (u32::from(entry.u16_be(6)?), high, checksum)
            }
        };
        tags.push(Tag {
            block: u64::from(high) << 32 | low,
            is_escaped: flags & flag::ESCAPED != 0,
            checksum,
        });
        if flags & flag::SAME_UUID == 0 {
            at = at.saturating_add(UUID_BYTES);
        }
        if flags & flag::LAST != 0 {
            break;
        }
    }
    Ok(tags)
}

const fn tag_bytes(journal: &JournalSuperblock) -> usize {
    match (journal.checksums, journal.has_wide_blocks) {
        (Checksums::Tag32 { .. }, _) => 16,
        (Checksums::Tag16 { .. }, true) => 14,
        (Checksums::Tag16 { .. }, false) => 10,
        (_, true) => 12,
        (_, false) => 8,
    }
}

/// The block numbers of a revocation block.
pub(super) fn revoked(journal: &JournalSuperblock, s: &Structure<'_>) -> Result<Vec<u64>, Fault> {
    let end = body_end(journal, s)?;
    let used = usize::try_from(s.u32_be(HEADER_BYTES)?).unwrap_or(usize::MAX);
    if used > end {
        return Err(s.fault("revocation bytes", HEADER_BYTES, end, used));
    }
    let size = if journal.has_wide_blocks { 8 } else { 4 };
    let mut blocks = Vec::new();
    let mut at = HEADER_BYTES.saturating_add(4);
    while at.saturating_add(size) <= used {
        blocks.push(if journal.has_wide_blocks { s.u64_be(at)? } else { u64::from(s.u32_be(at)?) });
        at = at.saturating_add(size);
    }
    Ok(blocks)
}

/// Where the body of a descriptor or revocation block ends; its checksum, if it has one, is compared.
fn body_end(journal: &JournalSuperblock, s: &Structure<'_>) -> Result<usize, Fault> {
    let Some(seed) = journal.checksums.seed() else { return Ok(s.len()) };
    let end = s.len().saturating_sub(TAIL_BYTES);
    let computed = crc32c_raw(crc32c_raw(seed, s.slice(0, end)?), &[0; TAIL_BYTES]);
    let stored = s.u32_be(end)?;
    if stored == computed {
        return Ok(end);
    }
    Err(s.fault("journal block checksum", end, Quantity::Hex(stored.into()), Quantity::Hex(computed.into())))
}

//! The journal's superblock: block 0 of the journal.

use stillframe_bytes::{Fault, Quantity, Structure};
use stillframe_fs::FsError;

use super::JOURNAL_MAGIC;
use crate::checksum::crc32c_raw;

mod incompat {
    pub(super) const REVOKE: u32 = 0x1;
    pub(super) const BITS_64: u32 = 0x2;
    pub(super) const ASYNC_COMMIT: u32 = 0x4;
    pub(super) const CHECKSUM_V2: u32 = 0x8;
    pub(super) const CHECKSUM_V3: u32 = 0x10;
    pub(super) const FAST_COMMIT: u32 = 0x20;
    pub(super) const KNOWN: u32 = REVOKE | BITS_64 | ASYNC_COMMIT | CHECKSUM_V2 | CHECKSUM_V3 | FAST_COMMIT;
}
const COMPAT_CHECKSUM: u32 = 0x1;
const VERSION_1: u32 = 3;
const VERSION_2: u32 = 4;
const SUPERBLOCK_BYTES: usize = 1024;
const CHECKSUM_AT: usize = 0xfc;
const CHECKSUM_TYPE_CRC32C: u8 = 4;
const DEFAULT_FAST_COMMIT_BLOCKS: u32 = 256;

/// How blocks of the journal are checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Checksums {
    None,
    /// One CRC-32 over all blocks of a transaction, in its commit block.
    Transaction,
    /// A CRC of each block, 16 bits of it in the tag.
    Tag16 {
        seed: u32,
    },
    /// A CRC of each block, in a wider tag.
    Tag32 {
        seed: u32,
    },
}

impl Checksums {
    /// What checksums of single blocks continue from, where there are any.
    pub(super) const fn seed(self) -> Option<u32> {
        match self {
            Self::None | Self::Transaction => None,
            Self::Tag16 { seed } | Self::Tag32 { seed } => Some(seed),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct JournalSuperblock {
    /// Blocks of the journal, this one and the fast-commit area included.
    pub(super) len_blocks: u32,
    /// The first block of the log, which is a ring.
    pub(super) first: u32,
    /// One past the last block of the ring: the fast-commit area, if any, follows.
    pub(super) end: u32,
    /// The sequence of the transaction at `start`.
    pub(super) sequence: u32,
    /// Where the oldest transaction begins; `None` where nothing is to be replayed.
    pub(super) start: Option<u32>,
    pub(super) has_wide_blocks: bool,
    pub(super) has_fast_commits: bool,
    pub(super) checksums: Checksums,
}

impl JournalSuperblock {
    pub(super) fn parse(block: &Structure<'_>, filesystem_block_bytes: u32) -> Result<Self, FsError> {
        let s = block.part("journal superblock", 0, SUPERBLOCK_BYTES)?;
        let magic = s.u32_be(0)?;
        if magic != JOURNAL_MAGIC {
            let hex = |number: u32| Quantity::Hex(number.into());
            return Err(s.fault("journal magic", 0, hex(JOURNAL_MAGIC), hex(magic)).into());
        }
        let version = s.u32_be(4)?;
        if !matches!(version, VERSION_1 | VERSION_2) {
            return Err(s.fault("journal superblock type", 4, VERSION_2, version).into());
        }
        let block_bytes = s.u32_be(0xc)?;
        if block_bytes != filesystem_block_bytes {
            return Err(s.fault("journal block size", 0xc, filesystem_block_bytes, block_bytes).into());
        }
        let feature = |offset| if version == VERSION_2 { s.u32_be(offset) } else { Ok(0) };
        let (compat, incompat) = (feature(0x24)?, feature(0x28)?);
        if incompat & !incompat::KNOWN != 0 {
            return Err(FsError::Unsupported("an unknown feature of the journal"));
        }
        let checksums = checksums(&s, compat, incompat)?;
        let (len_blocks, first) = (s.u32_be(0x10)?, s.u32_be(0x14)?);
        let has_fast_commits = incompat & incompat::FAST_COMMIT != 0;
        let fast_blocks = match s.u32_be(0x54)? {
            _ if !has_fast_commits => 0,
            0 => DEFAULT_FAST_COMMIT_BLOCKS,
            blocks => blocks,
        };
        let end = len_blocks.saturating_sub(fast_blocks);
        if first == 0 || first >= end {
            return Err(s.fault("first block of the log", 0x14, end, first).into());
        }
        let start = s.u32_be(0x1c)?;
        if start != 0 && !(first..end).contains(&start) {
            return Err(s.fault("start of the log", 0x1c, end, start).into());
        }
        Ok(Self {
            len_blocks,
            first,
            end,
            sequence: s.u32_be(0x18)?,
            start: (start != 0).then_some(start),
            has_wide_blocks: incompat & incompat::BITS_64 != 0,
            has_fast_commits,
            checksums,
        })
    }

    /// The block `count` blocks after `index` in the ring.
    pub(super) fn after(&self, index: u32, count: u32) -> u32 {
        let ring = self.end.saturating_sub(self.first).max(1);
        let position = u64::from(index.saturating_sub(self.first)).saturating_add(u64::from(count));
        let within = position.checked_rem(u64::from(ring)).unwrap_or(0);
        self.first.saturating_add(u32::try_from(within).unwrap_or(0))
    }
}

fn checksums(s: &Structure<'_>, compat: u32, incompat: u32) -> Result<Checksums, FsError> {
    let is_v2 = incompat & incompat::CHECKSUM_V2 != 0;
    let is_v3 = incompat & incompat::CHECKSUM_V3 != 0;
    if !is_v2 && !is_v3 {
        let is_v1 = compat & COMPAT_CHECKSUM != 0;
        return Ok(if is_v1 { Checksums::Transaction } else { Checksums::None });
    }
    if s.u8(0x50)? != CHECKSUM_TYPE_CRC32C {
        return Err(FsError::Unsupported("a journal checksum that is not crc32c"));
    }
    let crc = crc32c_raw(u32::MAX, s.slice(0, CHECKSUM_AT)?);
    let crc = crc32c_raw(
        crc32c_raw(crc, &[0; 4]),
        s.rest("journal superblock", CHECKSUM_AT.saturating_add(4))?.bytes(),
    );
    let stored = s.u32_be(CHECKSUM_AT)?;
    if stored != crc {
        let fault: Fault = s.fault(
            "journal superblock checksum",
            CHECKSUM_AT,
            Quantity::Hex(stored.into()),
            Quantity::Hex(crc.into()),
        );
        return Err(fault.into());
    }
    let seed = crc32c_raw(u32::MAX, s.slice(0x30, 16)?);
    Ok(if is_v3 { Checksums::Tag32 { seed } } else { Checksums::Tag16 { seed } })
}

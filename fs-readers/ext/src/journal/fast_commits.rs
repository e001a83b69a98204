//! The fast-commit area: the last blocks of the journal, behind the ring. It holds small commits that follow the last
//! full one, as a log of tags (little-endian, unlike the rest of the journal): type, length, value. A tail closes each
//! commit with a CRC over its tags and the number of the transaction that they belong to; what is behind the last good
//! tail was not committed.
//!
//! Kernel documentation: `filesystems/ext4/journal.rst`, "Fast commits". Here they are read; what they change is in
//! [`crate::fast_commit`].

use stillframe_bytes::{Fault, Quantity, Structure};
use stillframe_fs::FsError;

use super::JournalFile;
use super::superblock::JournalSuperblock;
use crate::checksum::crc32c_raw;

/// Types of tags.
mod tag {
    pub(super) const ADD_RANGE: u16 = 1;
    pub(super) const DEL_RANGE: u16 = 2;
    pub(super) const CREAT: u16 = 3;
    pub(super) const LINK: u16 = 4;
    pub(super) const UNLINK: u16 = 5;
    pub(super) const INODE: u16 = 6;
    pub(super) const PAD: u16 = 7;
    pub(super) const TAIL: u16 = 8;
    pub(super) const HEAD: u16 = 9;
}

/// Type and length of a tag.
const TAG_BYTES: usize = 4;
/// `mke2fs(8)` makes 256 blocks of it; it is read whole.
const MAX_AREA_BYTES: u64 = 64 << 20;
/// The most bytes of memory for what it says: a tag of 13 bytes can take ten times as many here.
const MAX_HELD_BYTES: usize = 32 << 20;
/// What an allocation takes besides its bytes.
const ALLOCATION_BYTES: usize = 32;

/// One change that a fast commit makes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    /// Blocks of a file lie here now.
    AddRange { inode: u32, first: u32, len_blocks: u32, start: u64, is_written: bool },
    /// Blocks of a file lie nowhere now.
    DelRange { inode: u32, first: u32, len_blocks: u32 },
    /// A new inode, described before, has its first name.
    Create(Name),
    /// An inode has one more name.
    Link(Name),
    /// A name is gone.
    Unlink(Name),
    /// The inode as it is now, but for where its blocks lie.
    Inode { inode: u32, bytes: Vec<u8> },
}

impl Change {
    /// What it takes in memory, in a list that was grown by doubling.
    fn held_bytes(&self) -> usize {
        let bytes = match self {
            Self::Create(name) | Self::Link(name) | Self::Unlink(name) => name.name.capacity(),
            Self::Inode { bytes, .. } => bytes.capacity(),
            Self::AddRange { .. } | Self::DelRange { .. } => 0,
        };
        let own = if bytes > 0 { bytes.saturating_add(ALLOCATION_BYTES) } else { 0 };
        own.saturating_add(size_of::<Self>().saturating_mul(2))
    }
}

/// A name in a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Name {
    pub(crate) parent: u32,
    pub(crate) inode: u32,
    pub(crate) name: Vec<u8>,
}

/// What the scan of the area comes to.
#[derive(Debug, Default)]
pub(super) struct FastCommits {
    /// In order, of whole commits only.
    pub(super) changes: Vec<Change>,
    /// Set where the area belongs to this transaction and none of its commits is whole: the kernel refuses such a journal.
    pub(super) fault: Option<Fault>,
}

/// Reads the commits that follow transaction `sequence - 1`.
pub(super) fn read(
    journal: &mut JournalFile<'_>,
    superblock: &JournalSuperblock,
    sequence: u32,
) -> Result<FastCommits, FsError> {
    // The kernel leaves the block between the ring and the area unused.
    let first = superblock.end.saturating_add(1);
    let block_bytes = u64::from(journal.volume.superblock.block_bytes);
    let inode_bytes = usize::from(journal.volume.superblock.inode_bytes);
    let mut scan = Scan {
        sequence,
        inode_bytes,
        is_begun: false,
        has_whole: false,
        crc: 0,
        whole: 0,
        held_bytes: 0,
        found: FastCommits::default(),
    };
    for index in first..superblock.len_blocks {
        if u64::from(index.saturating_sub(first)).saturating_mul(block_bytes) >= MAX_AREA_BYTES {
            return Err(FsError::Limit { what: "bytes of fast commits", cap: MAX_AREA_BYTES });
        }
        let (at, bytes) = journal.read(index)?;
        let goes_on = scan.block(&Structure::new("fast-commit block", at, &bytes))?;
        if !goes_on {
            break;
        }
    }
    scan.found.changes.truncate(scan.whole);
    Ok(scan.found)
}

struct Scan {
    sequence: u32,
    inode_bytes: usize,
    /// A head of this transaction was met.
    is_begun: bool,
    has_whole: bool,
    crc: u32,
    /// So many changes are closed by a tail; those behind them are not yet.
    whole: usize,
    held_bytes: usize,
    found: FastCommits,
}

impl Scan {
    /// Takes the tags of one block; says whether the next block may hold more.
    fn block(&mut self, s: &Structure<'_>) -> Result<bool, FsError> {
        let mut at = 0_usize;
        while at.saturating_add(TAG_BYTES) <= s.len() {
            let (kind, len) = (s.u16_le(at)?, usize::from(s.u16_le(at.saturating_add(2))?));
            if !self.is_begun && kind != tag::HEAD {
                return Ok(false);
            }
            let whole = TAG_BYTES.saturating_add(len);
            let Ok(tag) = s.part("fast-commit tag", at, whole) else {
                return Ok(self.ends(s.fault("fast-commit tag length", at, s.len().saturating_sub(at), len)));
            };
            if !self.has_valid_len(kind, len) {
                return Ok(self.ends(tag.fault(
                    "fast-commit tag",
                    0,
                    "a known tag of the right length",
                    kind,
                )));
            }
            let value = tag.rest("fast-commit tag", TAG_BYTES)?;
            match kind {
                tag::HEAD => {
                    if value.u32_le(0)? != 0 {
                        return Err(FsError::Unsupported("a feature of fast commits"));
                    }
                    if value.u32_le(4)? != self.sequence {
                        return Ok(false);
                    }
                    self.is_begun = true;
                }
                tag::TAIL => {
                    if !self.tail(&tag, &value)? {
                        return Ok(false);
                    }
                    at = at.saturating_add(whole);
                    continue;
                }
                tag::PAD => {}
                _ => self.push(change(kind, &value)?)?,
            }
            self.crc = crc32c_raw(self.crc, tag.bytes());
            at = at.saturating_add(whole);
        }
        Ok(true)
    }

    fn push(&mut self, change: Change) -> Result<(), FsError> {
        self.held_bytes = self.held_bytes.saturating_add(change.held_bytes());
        if self.held_bytes > MAX_HELD_BYTES {
            let cap = u64::try_from(MAX_HELD_BYTES).unwrap_or(u64::MAX);
            return Err(FsError::Limit { what: "bytes in memory of fast commits", cap });
        }
        self.found.changes.push(change);
        Ok(())
    }

    /// Closes a commit; `false` where it does not count, and so nothing behind it.
    fn tail(&mut self, tag: &Structure<'_>, value: &Structure<'_>) -> Result<bool, Fault> {
        let computed = crc32c_raw(self.crc, tag.slice(0, TAG_BYTES.saturating_add(4))?);
        let (sequence, stored) = (value.u32_le(0)?, value.u32_le(4)?);
        if sequence != self.sequence || stored != computed {
            let hex = |crc: u32| Quantity::Hex(crc.into());
            return Ok(self.ends(value.fault("fast-commit checksum", 4, hex(stored), hex(computed))));
        }
        self.crc = 0;
        self.whole = self.found.changes.len();
        self.has_whole = true;
        Ok(true)
    }

    /// The log ends at a damaged tag. That is how every log ends that was being written; but one that has no whole commit
    /// before it is refused by the kernel.
    fn ends(&mut self, fault: Fault) -> bool {
        if !self.has_whole && self.is_begun {
            self.found.fault = Some(fault);
        }
        false
    }

    fn has_valid_len(&self, kind: u16, len: usize) -> bool {
        match kind {
            tag::ADD_RANGE => len == 16,
            tag::DEL_RANGE => len == 12,
            tag::CREAT | tag::LINK | tag::UNLINK => (8 + 1..=8 + 255).contains(&len),
            tag::INODE => len >= 4 + 128 && len.saturating_sub(4) <= self.inode_bytes,
            tag::PAD => true,
            tag::TAIL => len >= 8,
            tag::HEAD => len == 8,
            _ => false,
        }
    }
}

fn change(kind: u16, value: &Structure<'_>) -> Result<Change, Fault> {
    /// A longer extent is one of this many blocks less that were never written.
    const MAX_WRITTEN_LEN: u32 = 32_768;
    let inode = value.u32_le(0)?;
    Ok(match kind {
        tag::ADD_RANGE => {
            let raw_len = u32::from(value.u16_le(8)?);
            let is_written = raw_len <= MAX_WRITTEN_LEN;
            Change::AddRange {
                inode,
                first: value.u32_le(4)?,
                len_blocks: if is_written { raw_len } else { raw_len.saturating_sub(MAX_WRITTEN_LEN) },
                start: u64::from(value.u16_le(10)?) << 32 | u64::from(value.u32_le(12)?),
                is_written,
            }
        }
        tag::DEL_RANGE => Change::DelRange { inode, first: value.u32_le(4)?, len_blocks: value.u32_le(8)? },
        tag::INODE => Change::Inode { inode, bytes: value.rest("fast-commit inode", 4)?.bytes().to_vec() },
        _ => {
            let name = value.rest("fast-commit name", 8)?.bytes().to_vec();
            let name = Name { parent: inode, inode: value.u32_le(4)?, name };
            match kind {
                tag::CREAT => Change::Create(name),
                tag::LINK => Change::Link(name),
                _ => Change::Unlink(name),
            }
        }
    })
}

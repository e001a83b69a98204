//! The log: transactions one after the other in a ring of blocks, each of descriptors with the blocks that they
//! describe, revocations, and a commit block without which it counts for nothing.

use std::collections::{HashMap, HashSet};

use stillframe_bytes::{Fault, Quantity, Structure};
use stillframe_fs::FsError;

use super::fast_commits::{self, Change};
use super::superblock::{Checksums, JournalSuperblock};
use super::tags::{self, Tag};
use super::{Committed, JOURNAL_MAGIC, JournalFile, Replay, is_not_after};
use crate::checksum::{crc32_be, crc32c_raw};
use crate::overlay::{BlockChecksum, JournalledBlock};

const DESCRIPTOR: u32 = 1;
const COMMIT: u32 = 2;
const REVOKE: u32 = 5;
const COMMIT_CHECKSUM_AT: usize = 16;
const CRC32_TYPE: u8 = 1;
/// The most blocks that a log may describe and revoke.
const MAX_NAMED_BLOCKS: usize = 1 << 22;
/// The most faults of single tags that are kept.
const MAX_FAULTS: usize = 1000;

pub(super) struct Log<'a> {
    journal: JournalFile<'a>,
    superblock: JournalSuperblock,
    filesystem_blocks: u64,
    committed: Committed,
    changes: Vec<Change>,
    faults: Vec<Fault>,
    /// The sequence of the transaction that is read, or would come next.
    sequence: u32,
}

/// A transaction whose commit block has not been met.
#[derive(Default)]
struct Open {
    /// Maps and sets: a crafted log may name one block without end.
    copies: HashMap<u64, JournalledBlock>,
    revoked: HashSet<u64>,
    /// The running CRC of [`Checksums::Transaction`].
    crc: u32,
}

impl Open {
    fn new() -> Self {
        Self { crc: u32::MAX, ..Self::default() }
    }
}

impl<'a> Log<'a> {
    pub(super) fn new(
        journal: JournalFile<'a>,
        superblock: JournalSuperblock,
        filesystem_blocks: u64,
    ) -> Self {
        let sequence = superblock.sequence;
        Self {
            journal,
            superblock,
            filesystem_blocks,
            committed: Committed::default(),
            changes: Vec::new(),
            faults: Vec::new(),
            sequence,
        }
    }

    /// Reads transactions from block `start` of the ring to the first block that does not belong: there the log ends.
    pub(super) fn read(&mut self, start: u32) -> Result<(), FsError> {
        let ring = self.superblock.end.saturating_sub(self.superblock.first);
        let mut open = Open::new();
        let mut index = start;
        // Each turn goes at least one block on, and the ring is read once at most.
        let mut turned = 0;
        while turned < ring {
            let (at, bytes) = self.journal.read(index)?;
            let s = Structure::new("journal block", at, &bytes);
            if s.u32_be(0)? != JOURNAL_MAGIC || s.u32_be(8)? != self.sequence {
                break;
            }
            let taken = match s.u32_be(4)? {
                DESCRIPTOR => self
                    .descriptor(&s, index, &mut open)
                    .and_then(|taken| self.check_limit(&open).map(|()| taken)),
                REVOKE => tags::revoked(&self.superblock, &s)
                    .map(|blocks| {
                        open.revoked.extend(blocks);
                        1
                    })
                    .map_err(FsError::from)
                    .and_then(|taken| self.check_limit(&open).map(|()| taken)),
                COMMIT => match self.check_commit(&s, &open) {
                    Ok(()) => {
                        self.commit(std::mem::replace(&mut open, Open::new()));
                        Ok(1)
                    }
                    Err(fault) => Err(fault.into()),
                },
                _ => break,
            };
            match taken {
                Ok(blocks) => {
                    index = self.superblock.after(index, blocks);
                    turned = turned.saturating_add(blocks);
                }
                // A damaged block ends the log here, as it does for the kernel. What was committed before it stands.
                Err(FsError::Corrupt(fault)) => {
                    self.faults.push(fault);
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        if self.superblock.has_fast_commits {
            match fast_commits::read(&mut self.journal, &self.superblock, self.sequence) {
                Ok(found) => {
                    self.faults.extend(found.fault);
                    self.changes = found.changes;
                }
                Err(FsError::Corrupt(fault)) => self.faults.push(fault),
                Err(FsError::Unsupported(what) | FsError::Limit { what, .. }) => {
                    self.faults.push(Fault::new("fast commits", 0, "replayed", what));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Takes the blocks that a descriptor describes; says how many blocks of the ring they are, itself included.
    fn descriptor(&mut self, s: &Structure<'_>, index: u32, open: &mut Open) -> Result<u32, FsError> {
        let found = tags::tags(&self.superblock, s)?;
        let is_summed = self.superblock.checksums == Checksums::Transaction;
        if is_summed {
            open.crc = crc32_be(open.crc, s.bytes());
        }
        let mut taken = 1;
        for tag in found {
            let copy = self.superblock.after(index, taken);
            let copy_at = self.journal.position(copy)?;
            if is_summed {
                open.crc = crc32_be(open.crc, &self.journal.read(copy)?.1);
            }
            taken = taken.saturating_add(1);
            if tag.block >= self.filesystem_blocks {
                let blocks = self.filesystem_blocks;
                if self.faults.len() < MAX_FAULTS {
                    self.faults.push(Fault::new("journalled block number", s.at(), tag.block, blocks));
                }
                continue;
            }
            let checksum = self.checksum(&tag);
            open.copies.insert(tag.block, JournalledBlock { copy_at, is_escaped: tag.is_escaped, checksum });
        }
        Ok(taken)
    }

    /// Ends a log that names more blocks than a journal has.
    fn check_limit(&self, open: &Open) -> Result<(), FsError> {
        let committed = self.committed.copies.len().saturating_add(self.committed.revoked.len());
        let count = committed.saturating_add(open.copies.len()).saturating_add(open.revoked.len());
        if count <= MAX_NAMED_BLOCKS {
            return Ok(());
        }
        let cap = u64::try_from(MAX_NAMED_BLOCKS).unwrap_or(u64::MAX);
        Err(FsError::Limit { what: "blocks named by a journal", cap })
    }

    fn checksum(&self, tag: &Tag) -> Option<BlockChecksum> {
        let (stored, mask) = tag.checksum?;
        let seed = crc32c_raw(self.superblock.checksums.seed()?, &self.sequence.to_be_bytes());
        Some(BlockChecksum { seed, stored, mask })
    }

    fn check_commit(&self, s: &Structure<'_>, open: &Open) -> Result<(), Fault> {
        let stored = s.u32_be(COMMIT_CHECKSUM_AT)?;
        let computed = match self.superblock.checksums {
            Checksums::None => return Ok(()),
            Checksums::Transaction => {
                let (kind, size) = (s.u8(12)?, s.u8(13)?);
                // Written without a checksum: the feature was switched on later.
                if kind == 0 && size == 0 && stored == 0 {
                    return Ok(());
                }
                if kind != CRC32_TYPE {
                    return Err(s.fault("commit checksum type", 12, CRC32_TYPE, kind));
                }
                open.crc
            }
            Checksums::Tag16 { seed } | Checksums::Tag32 { seed } => {
                let crc = crc32c_raw(seed, s.slice(0, COMMIT_CHECKSUM_AT)?);
                let rest = s.rest("commit block", COMMIT_CHECKSUM_AT.saturating_add(4))?;
                crc32c_raw(crc32c_raw(crc, &[0; 4]), rest.bytes())
            }
        };
        if stored == computed {
            return Ok(());
        }
        let hex = |crc: u32| Quantity::Hex(crc.into());
        Err(s.fault("commit block checksum", COMMIT_CHECKSUM_AT, hex(stored), hex(computed)))
    }

    fn commit(&mut self, open: Open) {
        for (block, copy) in open.copies {
            self.committed.copies.insert(block, (self.sequence, copy));
        }
        for block in open.revoked {
            self.committed.revoked.insert(block, self.sequence);
        }
        self.sequence = self.sequence.wrapping_add(1);
    }

    pub(super) fn finish(self) -> Replay {
        let revoked = self.committed.revoked;
        let is_void = |block: &u64, sequence: u32| {
            revoked.get(block).is_some_and(|revocation| is_not_after(sequence, *revocation))
        };
        let blocks = self
            .committed
            .copies
            .into_iter()
            .filter(|(block, (sequence, _))| !is_void(block, *sequence))
            .map(|(block, (_, copy))| (block, copy))
            .collect();
        Replay { blocks, changes: self.changes, faults: self.faults }
    }
}

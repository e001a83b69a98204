//! The JBD2 journal. A disk of a running machine is always a picture between two writes: what the journal has committed
//! and not yet written in place is the newest metadata (and, with `data=journal`, content). [`replay`] finds those
//! blocks; nothing is written anywhere.
//!
//! Kernel documentation: `filesystems/ext4/journal.rst`; the order of checks follows recovery as the kernel does it.
//! All numbers are big-endian. All four forms of tags are read, with checksums of the first, second and third version
//! or none, 32 or 64-bit block numbers, revocations and escaped blocks. Fast commits behind the last full one are read
//! here and applied by [`crate::fast_commit`].

mod fast_commits;
mod log;
mod superblock;
mod tags;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use stillframe_block::BlockSource;
use stillframe_bytes::{Fault, Structure};
use stillframe_fs::FsError;

use crate::block_map::BlockMap;
use crate::inode::Inode;
use crate::overlay::{JOURNAL_MAGIC, JournalledBlock};
use crate::superblock::Superblock;
use crate::volume::Volume;
pub(crate) use fast_commits::{Change, Name};
use log::Log;
use superblock::JournalSuperblock;

/// The longest journal that `mke2fs(8)` makes.
const MAX_JOURNAL_BLOCKS: u32 = 10_240_000;

/// What replay comes to.
#[derive(Debug, Default)]
pub(crate) struct Replay {
    /// The newest content of each block that the journal holds, by block number.
    pub(crate) blocks: BTreeMap<u64, JournalledBlock>,
    /// What the fast commits behind the last full one change, in order.
    pub(crate) changes: Vec<Change>,
    /// What was damaged. Transactions before the damage are in `blocks`.
    pub(crate) faults: Vec<Fault>,
}

/// Finds the committed blocks in the journal of the volume `source`.
///
/// # Errors
/// [`FsError`] where there is a journal to replay and its start cannot be read.
pub(crate) fn replay(source: Arc<dyn BlockSource>, filesystem: &Superblock) -> Result<Replay, FsError> {
    if filesystem.journal_inode == 0 {
        return Err(FsError::Unsupported("an external journal"));
    }
    let volume = Volume::new(source, filesystem.clone());
    let inode = match volume.inode(u64::from(filesystem.journal_inode)) {
        Ok(inode) => inode,
        // The superblock keeps a copy of the journal inode's block map for this case.
        Err(error) => match &filesystem.journal_backup {
            Some(backup) => Inode::of_journal_backup(backup),
            None => return Err(error),
        },
    };
    let mut journal = JournalFile { volume: &volume, map: BlockMap::new(&volume, &inode) };
    let (at, bytes) = journal.read(0)?;
    let superblock =
        JournalSuperblock::parse(&Structure::new("journal superblock", at, &bytes), filesystem.block_bytes)?;
    if inode.size_bytes < u64::from(superblock.len_blocks).saturating_mul(u64::from(filesystem.block_bytes)) {
        let claimed = u64::from(superblock.len_blocks);
        let fault = Fault::new("journal length in blocks", at, claimed, inode.size_bytes);
        return Err(fault.into());
    }
    // Blocks of a crafted journal may all be one block, so what a log says is bounded by this and not by the volume.
    if superblock.len_blocks > MAX_JOURNAL_BLOCKS {
        return Err(FsError::Limit { what: "journal blocks", cap: MAX_JOURNAL_BLOCKS.into() });
    }
    let Some(start) = superblock.start else { return Ok(Replay::default()) };
    let mut log = Log::new(journal, superblock, filesystem.blocks_count);
    log.read(start)?;
    Ok(log.finish())
}

/// The journal's file, by its own block numbers.
struct JournalFile<'a> {
    volume: &'a Volume,
    map: BlockMap<'a>,
}

impl JournalFile<'_> {
    /// Where block `index` of the journal lies on the volume, in bytes.
    fn position(&mut self, index: u32) -> Result<u64, FsError> {
        match self.map.run(u64::from(index))?.start {
            Some(block) => Ok(self.volume.block_at("journal block", block)?),
            None => Err(Fault::new("journal block", 0, "a block", "a hole").into()),
        }
    }

    fn read(&mut self, index: u32) -> Result<(u64, Vec<u8>), FsError> {
        let at = self.position(index)?;
        let mut bytes = vec![0; self.volume.block_bytes()];
        self.volume.source.read_exact_at(at, &mut bytes)?;
        Ok((at, bytes))
    }
}

/// What the transactions read so far say of one block.
#[derive(Default)]
struct Committed {
    /// The newest copy of each block, and the sequence of its transaction.
    copies: HashMap<u64, (u32, JournalledBlock)>,
    /// The last transaction that revoked a block: copies up to it are void.
    revoked: HashMap<u64, u32>,
}

/// Whether `sequence` is not after `other`; sequences wrap.
const fn is_not_after(sequence: u32, other: u32) -> bool {
    sequence.wrapping_sub(other).cast_signed() <= 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequences_wrap() {
        assert!(is_not_after(1, 1) && is_not_after(1, 2) && !is_not_after(2, 1));
        assert!(is_not_after(u32::MAX, 0) && !is_not_after(0, u32::MAX));
    }
}

//! What the log of a filesystem that was not unmounted still has to change, as sectors to lay over the volume.
//!
//! The crate `lamxfs` replays a version 5 log in memory when it opens a volume (XFS Algorithms & Data Structures,
//! "Journaling Log"), and then reads through the result. It resolves every directory from the root by path, checks
//! neither directory nor block map checksums and gives no owners or times, so it is asked for the replay only:
//!
//! 1. It reads a block before it changes it, so the blocks that it reads outside the log are those that the log may
//!    change.
//! 2. It can read a file by inode number. It is shown an inode that is not on the volume, in the place of the log's
//!    first block, whose one extent covers the blocks wanted: reading that file gives them as replayed.
//!
//! The crate takes a block for newer than the log by its magic and sequence number alone. File content, or metadata of a
//! filesystem that was here before, may look like that; what does not carry this filesystem's UUID is shown to it
//! without a sequence number, which is the kernel's rule.
//!
//! Not replayed, by the crate: version 4 logs, logs with an unfinished change to a file's mapping, unknown items, more
//! than 128 MiB of live log.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;

use lamxfs::{BlockRead, Error, Inode, SuperblockReason, Xfs};
use stillframe_block::{BlockSource, ReadError};
use stillframe_bytes::Fault;
use stillframe_fs::FsError;

use crate::superblock::Superblock;
use crate::volume::{Overlay, SECTOR_BYTES, Volume, to_u64, to_usize};

const READER: &str = "lamxfs";
/// Sectors that a log may change, in groups of 64: 8 GiB of volume, far more than 128 MiB of log can name in earnest.
const MAX_GROUPS: usize = 1 << 18;

/// What the log changes.
pub(crate) struct Replayed {
    pub(crate) overlay: Overlay,
    /// Whether the log held changes, of which some may have been on the volume already.
    pub(crate) was_dirty: bool,
}

/// Replays the log in memory. Nothing of the volume changes.
pub(crate) fn replay(source: &Arc<dyn BlockSource>, superblock: &Superblock) -> Result<Replayed, FsError> {
    let seen = Rc::new(RefCell::new(Seen::default()));
    let outcome = catch_unwind(AssertUnwindSafe(|| replay_with_crate(source, superblock, &seen)));
    match outcome {
        Ok(Err(error)) => {
            let failure = seen.borrow_mut().failure.take();
            Err(explain(&error, failure, superblock))
        }
        Ok(Ok(replayed)) => replayed,
        Err(_) => Err(FsError::Reader { reader: READER, what: "panicked in log replay" }),
    }
}

fn replay_with_crate(
    source: &Arc<dyn BlockSource>,
    superblock: &Superblock,
    seen: &Rc<RefCell<Seen>>,
) -> Result<Result<Replayed, FsError>, Error> {
    let log = superblock.run_offset(superblock.log_start, superblock.log_blocks).unwrap_or(u64::MAX);
    let log_end = log.saturating_add(superblock.log_blocks.saturating_mul(superblock.block_bytes));
    seen.borrow_mut().superblock_reads = if superblock.sector_bytes > 4096 { 2 } else { 1 };
    let volume = Rc::new(Volume::new(source.clone(), Overlay::default()));
    let uuid = superblock.metadata_uuid;
    let reader = Recorder { volume: volume.clone(), log_start: log, log_end, uuid, seen: seen.clone() };
    let mut crate_view = Xfs::open(reader, source.len_bytes())?;
    let touched = {
        let mut seen = seen.borrow_mut();
        seen.is_open = true;
        std::mem::take(&mut seen.touched)
    };
    if touched.len() > MAX_GROUPS {
        return Ok(Err(FsError::Limit {
            what: "sectors that the log changes",
            cap: to_u64(MAX_GROUPS).saturating_mul(64),
        }));
    }
    let mut overlay = Overlay::default();
    for (group, bits) in &touched {
        for run in runs(*group, *bits) {
            if let Err(error) = compare(&volume, superblock, &mut crate_view, seen, run, &mut overlay)? {
                return Ok(Err(error));
            }
        }
    }
    Ok(Ok(Replayed { overlay, was_dirty: !touched.is_empty() }))
}

/// Reads sectors as they lie on the volume and as replayed; keeps those that differ.
fn compare(
    volume: &Volume,
    superblock: &Superblock,
    crate_view: &mut Xfs<Recorder>,
    seen: &Rc<RefCell<Seen>>,
    run: Run,
    overlay: &mut Overlay,
) -> Result<Result<(), FsError>, Error> {
    let offset = run.first.saturating_mul(SECTOR_BYTES);
    let len = to_usize(run.sectors.saturating_mul(SECTOR_BYTES));
    let mut on_volume = vec![0; len];
    if let Err(error) = volume.read(offset, &mut on_volume) {
        return Ok(Err(error.into()));
    }
    let Some((inode, within)) = peephole(superblock, offset, len) else {
        return Ok(Err(Fault::new("log item block", offset, superblock.data_blocks, run.first).into()));
    };
    seen.borrow_mut().peephole = Some(inode);
    let mut replayed = vec![0; len];
    let number = superblock.first_inode_of_block(superblock.log_start).unwrap_or(u64::MAX);
    let read = crate_view.read_file_at(&Inode { ino: number }, within, &mut replayed)?;
    if read != len {
        return Ok(Err(FsError::Reader { reader: READER, what: "a short read of replayed blocks" }));
    }
    let sector_bytes = to_usize(SECTOR_BYTES);
    let pairs = on_volume.chunks_exact(sector_bytes).zip(replayed.chunks_exact(sector_bytes));
    for (sector, (old, new)) in (run.first..).zip(pairs) {
        if old != new {
            overlay.insert(sector, new);
        }
    }
    Ok(Ok(()))
}

/// A regular file of one extent over the blocks that hold `len` bytes at `offset`, and where in it they begin. A
/// version 2 inode, since that carries no checksum.
fn peephole(superblock: &Superblock, offset: u64, len: usize) -> Option<(Vec<u8>, u64)> {
    let block = offset.checked_div(superblock.block_bytes)?;
    let within = offset.checked_rem(superblock.block_bytes)?;
    let blocks = within.checked_add(to_u64(len))?.div_ceil(superblock.block_bytes);
    let start = superblock.block_number(block)?;
    let mut inode = vec![0; superblock.inode_bytes];
    let mut put = |at: usize, value: &[u8]| {
        if let Some(field) = inode.get_mut(at..).and_then(|rest| rest.get_mut(..value.len())) {
            field.copy_from_slice(value);
        }
    };
    put(0, b"IN");
    put(2, &0o100_444_u16.to_be_bytes());
    put(4, &[2, 2]);
    put(56, &blocks.checked_mul(superblock.block_bytes)?.to_be_bytes());
    put(76, &1_u32.to_be_bytes());
    put(100, &(start >> 43).to_be_bytes());
    put(108, &((start << 21) | blocks).to_be_bytes());
    Some((inode, within))
}

/// Sectors side by side.
#[derive(Clone, Copy)]
struct Run {
    first: u64,
    sectors: u64,
}

/// The runs of set bits of a group of 64 sectors.
fn runs(group: u64, bits: u64) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for bit in (0..64_u32).filter(|bit| bits.checked_shr(*bit).is_some_and(|rest| rest & 1 == 1)) {
        let sector = group.saturating_mul(64).saturating_add(bit.into());
        match runs.last_mut() {
            Some(run) if run.first.saturating_add(run.sectors) == sector => {
                run.sectors = run.sectors.saturating_add(1);
            }
            _ => runs.push(Run { first: sector, sectors: 1 }),
        }
    }
    runs
}

/// What the crate's reader learns, shared with us while the crate owns the reader.
#[derive(Default)]
struct Seen {
    failure: Option<ReadError>,
    /// Reads of the superblock that come before the log is looked at.
    superblock_reads: u32,
    /// Sectors read outside the log, as sector / 64 → a bit for each.
    touched: BTreeMap<u64, u64>,
    /// Set after the replay: later reads are our own.
    is_open: bool,
    /// What to show in the place of the log's first block.
    peephole: Option<Vec<u8>>,
}

struct Recorder {
    /// As it lies on the disk. The log is read sector by sector, and a cluster of inodes once for each that changed.
    volume: Rc<Volume>,
    log_start: u64,
    log_end: u64,
    uuid: [u8; 16],
    seen: Rc<RefCell<Seen>>,
}

impl Recorder {
    fn note(&self, offset: u64, len: u64) {
        let mut seen = self.seen.borrow_mut();
        if seen.is_open || (self.log_start..self.log_end).contains(&offset) {
            return;
        }
        if offset == 0 && seen.superblock_reads > 0 {
            seen.superblock_reads = seen.superblock_reads.saturating_sub(1);
            return;
        }
        let end = offset.saturating_add(len).div_ceil(SECTOR_BYTES);
        for sector in offset / SECTOR_BYTES..end {
            if seen.touched.len() > MAX_GROUPS {
                return;
            }
            let bit = 1_u64.rotate_left(u32::try_from(sector % 64).unwrap_or(0));
            *seen.touched.entry(sector / 64).or_default() |= bit;
        }
    }
}

impl BlockRead for Recorder {
    type Error = ();

    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> Result<(), ()> {
        if offset == self.log_start
            && let Some(inode) = &self.seen.borrow().peephole
            && inode.len() == buffer.len()
        {
            buffer.copy_from_slice(inode);
            return Ok(());
        }
        // Noted only where it can be read: a claimed length past the end names nothing.
        let len = to_u64(buffer.len());
        if offset.saturating_add(len) <= self.volume.len_bytes() {
            self.note(offset, len);
        }
        self.volume.read_clustered(offset, buffer).map_err(|error| {
            self.seen.borrow_mut().failure.get_or_insert(error);
        })?;
        if !self.seen.borrow().is_open && !(self.log_start..self.log_end).contains(&offset) {
            hide_foreign_sequence_number(buffer, &self.uuid);
        }
        Ok(())
    }
}

/// Clears the log sequence number of what looks like a metadata block and is none of this filesystem. The log writes
/// the whole header of a block that it makes, so nothing of this stays.
fn hide_foreign_sequence_number(block: &mut [u8], own_uuid: &[u8; 16]) {
    let Some((number_at, uuid_at)) = sequence_number_and_uuid(block) else {
        return;
    };
    if block.get(uuid_at..).and_then(|rest| rest.first_chunk()) == Some(own_uuid) {
        return;
    }
    if let Some(number) = block.get_mut(number_at..).and_then(|rest| rest.first_chunk_mut::<8>()) {
        number.fill(0);
    }
}

/// Where a version 5 metadata block keeps its log sequence number and its UUID, by its magic.
fn sequence_number_and_uuid(block: &[u8]) -> Option<(usize, usize)> {
    match block.first_chunk::<4>()? {
        // Short B+trees: free space, inodes, reverse map, reference counts.
        b"AB3B" | b"AB3C" | b"IAB3" | b"FIB3" | b"RMB3" | b"R3FC" => Some((24, 32)),
        b"BMA3" => Some((32, 40)),
        b"XDB3" | b"XDD3" | b"XDF3" => Some((16, 24)),
        b"XSLM" => Some((48, 16)),
        // Directory and attribute leaves and nodes have a magic of two bytes, behind their siblings.
        _ => match block.get(8..)?.first_chunk::<2>()? {
            [0x3d, 0xf1 | 0xff] | [0x3e, 0xbe] | [0x3b, 0xee] => Some((24, 32)),
            _ => None,
        },
    }
}

/// The crate's error in our words; what its reader met goes first.
fn explain(error: &Error, failure: Option<ReadError>, superblock: &Superblock) -> FsError {
    match (error, failure) {
        (Error::Io { .. }, Some(failure)) => failure.into(),
        (Error::BadSuperblock(SuperblockReason::DirtyLog), _) if superblock.has_checksums => {
            FsError::Unsupported("replay of this XFS log (unfinished change, unknown item or damage)")
        }
        (Error::BadSuperblock(SuperblockReason::DirtyLog), _) => {
            FsError::Unsupported("replay of an XFS version 4 log")
        }
        (Error::UnsupportedFeature("feat_ascii_ci"), _) => {
            FsError::Unsupported("XFS with names that ignore case")
        }
        (Error::UnsupportedFeature(_), _) => FsError::Unsupported("an XFS feature"),
        (other, _) => FsError::Reader { reader: READER, what: other.token() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_own_blocks_keep_their_sequence_number() {
        // File content that happened to have a node's magic, as found on a disk after a crash.
        let mut content = [0x5a; 512];
        content[8..10].copy_from_slice(&[0x3e, 0xbe]);
        hide_foreign_sequence_number(&mut content, &[7; 16]);
        assert_eq!((content[23], &content[24..32], content[32]), (0x5a, &[0; 8][..], 0x5a));
        for (magic, number_at, uuid_at) in [(b"XDD3", 16, 24), (b"BMA3", 32, 40), (b"XSLM", 48, 16)] {
            let mut own = [1; 512];
            own[..4].copy_from_slice(magic);
            own[uuid_at..uuid_at + 16].fill(7);
            hide_foreign_sequence_number(&mut own, &[7; 16]);
            assert_eq!(own[number_at..number_at + 8], [1; 8]);
            hide_foreign_sequence_number(&mut own, &[8; 16]);
            assert_eq!(own[number_at..number_at + 8], [0; 8]);
        }
    }

    #[test]
    fn runs_are_joined() {
        let runs = runs(2, 0b1101 | 1 << 63);
        let runs: Vec<_> = runs.iter().map(|run| (run.first, run.sectors)).collect();
        assert_eq!(runs, [(128, 1), (130, 2), (191, 1)]);
    }
}

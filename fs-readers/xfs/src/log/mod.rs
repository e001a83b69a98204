//! What the log of a filesystem that was not unmounted still has to change (XFS Algorithms & Data Structures,
//! "Journaling Log").
//!
//! The log is read once, from its tail to its head. What it changes is kept in memory ([`Changes`]) and laid over the
//! volume when the place is read: nothing of the volume is read here. Transactions that were not committed change
//! nothing, as with the kernel.
//!
//! A log whose end is damaged seems to end earlier, and what it changes would be old. As the kernel does, what lies on the
//! volume is compared with the end: see [`crate::checksum::check_sequence_number`]. Version 4 has nothing to compare but
//! how often an inode was written. What the kernel believes and should not is told beside what is read.
//!
//! Not supported, and refused by name: external logs, logs of machines of the other byte order, items that are unknown
//! here. Work that the log says was begun and not finished: a change of one file's mapping is done on the file's
//! extents; what two files exchange and attributes that were being changed are named when they are asked for.

mod device;
mod ends;
mod inode_item;
mod items;
mod record;
mod transaction;

use std::sync::Arc;

use stillframe_block::BlockSource;
use stillframe_bytes::{Fault, Quantity, Structure};
use stillframe_fs::FsError;

use crate::changes::Changes;
use crate::checksum::check_sequence_number;
use crate::superblock::{SEQUENCE_NUMBER_OFFSET, Superblock};
use crate::volume::to_u64;
use device::{LogDevice, Stream};
use ends::{Dirty, Ends};
use items::Replay;
use record::{Record, cycle_part_of, sector_of, sequence_number};
use transaction::Open;

/// What the log says.
pub(crate) struct Recovered {
    /// What it changes; `None` where it holds nothing that must be replayed.
    pub(crate) changes: Option<Changes>,
    /// The sequence number that its next record would have: no metadata of version 5 carries a later one.
    pub(crate) head: u64,
    /// What the kernel takes for the log's end, and may be damage.
    pub(crate) doubt: Option<Fault>,
}

/// Finds the ends of the log and takes in what lies between them.
pub(crate) fn recover(source: &Arc<dyn BlockSource>, superblock: &Superblock) -> Result<Recovered, FsError> {
    let device = LogDevice::new(source, superblock)?;
    let Ends { head_lsn, dirty, doubt } = ends::find(&device)?;
    let recovered = |changes| Ok(Recovered { changes, head: head_lsn, doubt });
    // Before anything is replayed, which may end in an error that says less.
    check_superblock(superblock, head_lsn)?;
    let Some(Dirty { mut tail, head, in_flight }) = dirty else {
        return recovered(None);
    };
    loop {
        match replay(&device, superblock, tail, head_lsn)? {
            Outcome::Replayed(changes) => return recovered(Some(*changes)),
            Outcome::Damaged { sector, fault } => {
                // Buffers that were under way when the machine stopped may have been written over the tail.
                if device.distance(head, sector) > in_flight {
                    return Err(fault.into());
                }
                tail = next_record(&device, sector, head, in_flight)?.ok_or(fault)?;
            }
        }
    }
}

/// The superblock was read before the log's end was known.
fn check_superblock(superblock: &Superblock, head: u64) -> Result<(), Fault> {
    match superblock.sequence_number {
        Some(number) => check_sequence_number(number, head, to_u64(SEQUENCE_NUMBER_OFFSET)),
        None => Ok(()),
    }
}

enum Outcome {
    Replayed(Box<Changes>),
    Damaged { sector: u64, fault: Fault },
}

fn replay(device: &LogDevice, superblock: &Superblock, tail: u64, head_lsn: u64) -> Result<Outcome, FsError> {
    let head = sector_of(head_lsn);
    let mut stream = Stream::new(device, tail, head);
    let mut open = Open::default();
    let mut replay = Replay::new(superblock);
    let mut sector = tail;
    let mut left = device.distance(tail, head);
    while left > 0 {
        let at = device.at(sector);
        let damaged = |fault| Ok(Outcome::Damaged { sector, fault });
        let record = match Record::parse(sector, at, stream.sectors(sector, 1)?) {
            Ok(record) => record,
            Err(FsError::Corrupt(fault)) => return damaged(fault),
            Err(error) => return Err(error),
        };
        let sectors = record.sectors();
        if sectors > left || !record.has_sound_length() {
            return damaged(Fault::new("log record length", at, left, sectors));
        }
        // What lies before the head is of the newest turn, what lies behind it of the one before. A whole record of
        // another turn is a write that was lost, or one that was under way over the tail.
        let turns_ago = u64::from(sector >= head);
        let lsn = sequence_number(cycle_part_of(head_lsn).saturating_sub(turns_ago), sector);
        if record.lsn != lsn {
            let (claimed, found) = (Quantity::Hex(lsn), Quantity::Hex(record.lsn));
            return damaged(Fault::new("log record sequence number", at, claimed, found));
        }
        let bytes = stream.sectors(sector, sectors)?;
        // A sum is missing only where `mkfs` wrote the record, or a kernel that knew none.
        if !record.checksum_holds(bytes) || (superblock.has_checksums && !holds_or_is_from_mkfs(&record)) {
            return damaged(Fault::new("log record checksum", at, "a match", "none"));
        }
        record.check_uuid(device)?;
        let content = record.content(at, bytes)?;
        let content = Structure::new("log record", at, &content);
        open.add_record(record.lsn, record.operations, &content, &mut |committed| replay.apply(committed))?;
        sector = device.forward(sector, sectors);
        left = left.saturating_sub(sectors);
    }
    Ok(Outcome::Replayed(Box::new(replay.finish())))
}

/// Version 5 records have checksums, but for the one that `mkfs` writes.
fn holds_or_is_from_mkfs(record: &Record) -> bool {
    record.has_checksum() || record.operations <= 1
}

/// The first record behind the one at `sector`.
fn next_record(device: &LogDevice, sector: u64, head: u64, in_flight: u64) -> Result<Option<u64>, FsError> {
    let first = device.forward(sector, 1);
    let count = device.distance(first, head).min(in_flight.saturating_mul(2));
    let sectors = device.read(first, count)?;
    let magic = device::RECORD_MAGIC.to_be_bytes();
    let position = sectors.chunks_exact(512).zip(0_u64..).find(|(sector, _)| sector.starts_with(&magic));
    Ok(position.map(|(_, within)| device.forward(first, within)))
}

//! Partition tables: MBR with extended partitions, GPT.
//!
//! Specifications: UEFI 2.10 sections 5.2 (MBR) and 5.3 (GPT); libvsmbr's documentation for extended boot records.
//! Partitions are numbered as Linux numbers them.
//!
//! A disk with a filesystem on the whole of it may end its first sector in 55 AA as a table does, and a disk with a
//! table may hold leftovers: `judge` tells them apart by content. Sectors of 512 and of 4096 bytes are tried; nothing
//! in an MBR says which it counts in, so the content of its partitions decides there, too.
//!
//! Not supported: Apple partition maps, BSD and Sun disk labels (the probe names them), and the volumes of Windows
//! dynamic disks, whose database is not read: their partitions are given as the table has them.

mod extended;
mod gpt;
mod gpt_header;
mod guid;
mod judge;
mod mbr;
mod table;
mod window;

use stillframe_block::{BlockSource, ReadError};
use stillframe_bytes::Fault;
pub use table::{Partition, PartitionRole, PartitionTable, Scheme, TypeCode};

use crate::gpt::Gpt;
use crate::mbr::Mbr;

/// Reads the partition table of `disk`, or finds that it has none.
///
/// Damage is no error: it is in [`PartitionTable::faults`]. A protective MBR whose GPT is damaged in both copies gives
/// [`Scheme::Gpt`] with no partition.
///
/// # Errors
/// What the source fails with.
pub fn read_table(disk: &dyn BlockSource) -> Result<PartitionTable, ReadError> {
    let mut table = match mbr::read(disk)? {
        Some(mbr) if mbr.is_protective() => protected_gpt(disk, &mbr)?,
        Some(mbr) => plain_mbr(disk, &mbr)?,
        None => unprotected_gpt(disk)?,
    };
    if judge::belongs_to_array(disk, &table)? {
        table = PartitionTable::none();
    }
    table.finish(disk.len_bytes());
    Ok(table)
}

fn protected_gpt(disk: &dyn BlockSource, mbr: &Mbr) -> Result<PartitionTable, ReadError> {
    let found = gpt::read(disk, mbr.protected_sectors())?;
    let mut table = match found.gpt {
        Some(gpt) => gpt.into_table(disk.len_bytes()),
        None => PartitionTable { scheme: Scheme::Gpt, ..PartitionTable::none() },
    };
    table.faults.splice(0..0, found.faults);
    mbr.compare_with_gpt(&mut table);
    Ok(table)
}

fn plain_mbr(disk: &dyn BlockSource, mbr: &Mbr) -> Result<PartitionTable, ReadError> {
    if judge::is_whole_disk_content(disk, mbr)? {
        return Ok(PartitionTable::none());
    }
    let mut table = judge::with_sector_bytes(disk, mbr)?;
    if let Some(Gpt { at, .. }) = gpt::read(disk, None)?.gpt.filter(|gpt| !gpt.is_backup) {
        // Linux and Windows go by the MBR then.
        table.faults.push(Fault::new("GPT header", at, "a protective MBR", "another MBR"));
    }
    Ok(table)
}

/// The first sector is no MBR. A GPT whose first copy is whole is one still; the copy at the end alone may be what an
/// earlier use of the disk left, and counts only where nothing else is recognised.
fn unprotected_gpt(disk: &dyn BlockSource) -> Result<PartitionTable, ReadError> {
    let found = gpt::read(disk, None)?;
    let Some(gpt) = found.gpt else { return Ok(PartitionTable::none()) };
    if gpt.is_backup && stillframe_probe::recognise(disk)?.is_some() {
        return Ok(PartitionTable::none());
    }
    let mut table = gpt.into_table(disk.len_bytes());
    table.faults.splice(0..0, found.faults);
    table.faults.insert(0, Fault::new("protective MBR", 0, "signature 55 AA", "another first sector"));
    Ok(table)
}

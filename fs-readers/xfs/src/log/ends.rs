//! Where the log begins and ends: the head is found by the cycle numbers, the tail is named by the last record before
//! it. Buffers that were under way when the machine stopped may lie there in part, in any order; the log ends before
//! the first that is not whole.

use stillframe_bytes::{Fault, Quantity};
use stillframe_fs::FsError;

use super::device::{LogDevice, cycle_of};
use super::record::{
    MAX_IN_FLIGHT, MAX_RECORD_BYTES, Record, cycle_part_of, last_header, sector_of, sequence_number,
};
use crate::volume::{SECTOR_BYTES, to_u64, to_usize};

/// An operation's flag: the filesystem was unmounted, or its log otherwise brought home.
const UNMOUNT: u8 = 0x20;
const CYCLE_BYTES: usize = 512;

/// How far behind a first sector of zeros something else is looked for.
const LOOK_BEHIND_SECTORS: u64 = 128;

/// Where the log ends, and what of it is to be replayed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ends {
    /// The sequence number that the next record would have.
    pub(super) head_lsn: u64,
    /// `None` where nothing is to be replayed.
    pub(super) dirty: Option<Dirty>,
    /// What the kernel takes for the log's end, and may be damage.
    pub(super) doubt: Option<Fault>,
}

/// What is to be replayed: from one sector up to another, around the ring's end where need be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Dirty {
    pub(super) tail: u64,
    pub(super) head: u64,
    pub(super) in_flight: u64,
}

/// Finds the part of the log that is to be replayed.
pub(super) fn find(device: &LogDevice) -> Result<Ends, FsError> {
    let Some((end, stale)) = turning_point(device)? else {
        return Ok(Ends { head_lsn: sequence_number(1, 0), dirty: None, doubt: doubt_of_zeros(device)? });
    };
    let mut trail = Trail::read(device, end)?;
    trail.cut_at_stale_sector(stale);
    let doubt = trail.doubt(device);
    trail.cut_before_incomplete_record(device)?;
    let no_record = |head: u64| Fault::new("log head", device.at(head), "a whole record before it", "none");
    let mut last = trail.last_record(device)?.ok_or_else(|| no_record(trail.head()))?;
    if !last.uuid.iter().all(|byte| *byte == 0) {
        last.check_uuid(device)?;
    }
    let mut is_clean = is_unmount(device, &last, trail.head())?;
    if !is_clean && trail.cut_at_bad_checksum(device)? {
        last = trail.last_record(device)?.ok_or_else(|| no_record(end))?;
        is_clean = is_unmount(device, &last, trail.head())?;
    }
    let (tail, head) = (sector_of(last.tail_lsn), trail.head());
    // A record that ends with the ring, or goes around its end, is followed by the next cycle.
    let cycle = u64::from(last.cycle).saturating_add(u64::from(head <= last.sector));
    let ends = Ends { head_lsn: sequence_number(cycle, head), dirty: None, doubt };
    check_tail(device, &last, ends.head_lsn)?;
    if is_clean {
        let bytes = device.read(last.sector, last.sectors())?;
        let damaged = Fault::new("log record checksum", device.at(last.sector), "a match", "none");
        let doubt = ends.doubt.or_else(|| (!last.checksum_holds(&bytes)).then_some(damaged));
        return Ok(Ends { doubt, ..ends });
    }
    if tail == head {
        return Ok(ends);
    }
    let in_flight = MAX_IN_FLIGHT.saturating_mul(last.buffer_bytes) / SECTOR_BYTES;
    Ok(Ends { dirty: Some(Dirty { tail, head, in_flight }), ..ends })
}

/// The tail that a record names lies before the log's head by less than one turn.
fn check_tail(device: &LogDevice, last: &Record, head_lsn: u64) -> Result<(), Fault> {
    let (tail, head) = (sector_of(last.tail_lsn), sector_of(head_lsn));
    let turns = cycle_part_of(head_lsn).checked_sub(cycle_part_of(last.tail_lsn));
    let is_before = match turns {
        Some(0) => tail <= head,
        Some(1) => tail > head,
        _ => false,
    };
    if tail < device.sectors && is_before {
        return Ok(());
    }
    let (claimed, found) = (Quantity::Hex(head_lsn), Quantity::Hex(last.tail_lsn));
    Err(Fault::new("log tail", device.at(last.sector), claimed, found))
}

/// The kernel takes a log whose first sector was never written for one without records. `mkfs` writes a record there, and
/// where others follow it was lost.
fn doubt_of_zeros(device: &LogDevice) -> Result<Option<Fault>, FsError> {
    let behind = device.read(0, LOOK_BEHIND_SECTORS)?;
    let mut sectors = behind.chunks_exact(CYCLE_BYTES).zip(0_u64..);
    let found = sectors.find(|(sector, _)| cycle_of(sector) != 0);
    Ok(found.map(|(_, sector)| Fault::new("log head", device.at(0), "a record", sector)))
}

/// Where the log's cycle number changes: the sector that is to be written next, and the cycle of what lies there from
/// the turn before. `None` where nothing was ever written.
fn turning_point(device: &LogDevice) -> Result<Option<(u64, u32)>, FsError> {
    let last_sector = device.sectors.saturating_sub(1);
    let (first, last) = (device.cycle(0)?, device.cycle(last_sector)?);
    if first == 0 {
        return Ok(None);
    }
    if first == last {
        return Ok(Some((device.sectors, first.wrapping_sub(1))));
    }
    // Sectors before the turning point have the newer cycle, from it on they have the one of the last sector.
    let (mut newer, mut older) = (0, last_sector);
    while older.saturating_sub(newer) > 1 {
        let middle = newer.midpoint(older);
        if device.cycle(middle)? == last {
            older = middle;
        } else {
            newer = middle;
        }
    }
    Ok(Some((older, last)))
}

/// The sectors before the head, as far back as buffers may have been under way.
struct Trail {
    sectors: Vec<u8>,
    /// The sector that the first of them is.
    first: u64,
    /// Of the ring.
    turn: u64,
    /// A head at the ring's end is sector 0.
    end: u64,
    /// Behind the head, where a write seemed to be lost.
    lost_records: u64,
}

impl Trail {
    fn read(device: &LogDevice, end: u64) -> Result<Self, FsError> {
        let longest = MAX_IN_FLIGHT.saturating_add(1).saturating_mul(MAX_RECORD_BYTES) / SECTOR_BYTES;
        let mut count = (MAX_RECORD_BYTES / SECTOR_BYTES).saturating_mul(2);
        loop {
            // A log that was never full begins at its first sector.
            let is_young = device.cycle(device.sectors.saturating_sub(1))? == 0;
            let most = if is_young { end } else { device.sectors };
            let sectors = device.read(device.back(end, count.min(most)), count.min(most))?;
            let first = device.back(end, count.min(most));
            let trail = Self { first, turn: device.sectors, end, lost_records: 0, sectors };
            // As many buffers as can be under way, of the size that this mount gave them, and the record before them.
            let wanted = match trail.last_record(device) {
                Ok(Some(record)) => {
                    MAX_IN_FLIGHT.saturating_add(2).saturating_mul(record.buffer_bytes) / SECTOR_BYTES
                }
                _ => longest,
            };
            if count >= wanted.min(longest) || count >= most {
                return Ok(trail);
            }
            count = wanted.min(longest);
        }
    }

    fn head(&self) -> u64 {
        let len = to_u64(self.sectors.len()) / SECTOR_BYTES;
        self.first.saturating_add(len).checked_rem(self.turn).unwrap_or(self.end)
    }

    fn cut(&mut self, sectors: u64) {
        self.sectors.truncate(to_usize(sectors.saturating_mul(SECTOR_BYTES)));
    }

    /// Where in the ring a sector of the trail lies.
    fn sector(&self, within: u64) -> u64 {
        self.first.saturating_add(within).checked_rem(self.turn).unwrap_or(0)
    }

    /// A sector of the turn before among the newest ones is a write that did not come to the disk before a later one did.
    fn cut_at_stale_sector(&mut self, stale: u32) {
        let (turn, first) = (self.turn, self.first);
        let wrapped = |within: u64| first.saturating_add(within) >= turn;
        let is_wrapped = wrapped((to_u64(self.sectors.len()) / SECTOR_BYTES).saturating_sub(1));
        // Before the ring's end all is one cycle older than after it.
        let stale_at = |within| if is_wrapped && !wrapped(within) { stale.wrapping_sub(1) } else { stale };
        let mut sectors = self.sectors.chunks_exact(CYCLE_BYTES).zip(0_u64..);
        let Some((_, position)) = sectors.find(|(sector, within)| cycle_of(sector) == stale_at(*within))
        else {
            return;
        };
        let magic = super::device::RECORD_MAGIC.to_be_bytes();
        let is_newer = |(sector, within): &(&[u8], u64)| {
            sector.starts_with(&magic) && cycle_of(sector) == stale_at(*within).wrapping_add(1)
        };
        self.lost_records = to_u64(sectors.filter(is_newer).count());
        self.cut(position);
    }

    /// More records behind the head than can have been under way when the machine stopped. The kernel leaves them out all the
    /// same.
    fn doubt(&self, device: &LogDevice) -> Option<Fault> {
        let fault = || Fault::new("log head", device.at(self.head()), MAX_IN_FLIGHT, self.lost_records);
        (self.lost_records > MAX_IN_FLIGHT).then(fault)
    }

    fn last_record(&self, device: &LogDevice) -> Result<Option<Record>, FsError> {
        last_header(&self.sectors).map(|within| self.record(device, within)).transpose()
    }

    fn record(&self, device: &LogDevice, within: u64) -> Result<Record, FsError> {
        let sector = self.sector(within);
        let start = to_usize(within.saturating_mul(SECTOR_BYTES));
        Record::parse(sector, device.at(sector), self.sectors.get(start..).unwrap_or_default())
    }

    /// The last record must end where the log does.
    fn cut_before_incomplete_record(&mut self, device: &LogDevice) -> Result<(), FsError> {
        if let Some(within) = last_header(&self.sectors) {
            let left = (to_u64(self.sectors.len()) / SECTOR_BYTES).saturating_sub(within);
            match self.record(device, within) {
                Ok(record) if record.sectors() == left => {}
                Ok(_) | Err(FsError::Corrupt(_)) => self.cut(within),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Checks the records that may have been under way; says whether the log ends earlier than it seemed.
    fn cut_at_bad_checksum(&mut self, device: &LogDevice) -> Result<bool, FsError> {
        let starts = self.sectors.chunks_exact(CYCLE_BYTES).zip(0_u64..);
        let magic = super::device::RECORD_MAGIC.to_be_bytes();
        let headers: Vec<u64> =
            starts.filter(|(sector, _)| sector.starts_with(&magic)).map(|(_, within)| within).collect();
        let newest = headers.len().saturating_sub(to_usize(MAX_IN_FLIGHT));
        for within in headers.iter().skip(newest) {
            let start = to_usize(within.saturating_mul(SECTOR_BYTES));
            let record = self.record(device, *within);
            let is_whole = record.is_ok_and(|record| {
                let len = to_usize(record.sectors().saturating_mul(SECTOR_BYTES));
                let bytes = self.sectors.get(start..).and_then(|rest| rest.get(..len));
                bytes.is_some_and(|bytes| record.checksum_holds(bytes))
            });
            if !is_whole {
                self.cut(*within);
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// Whether the last record says that nothing before it needs to be replayed.
fn is_unmount(device: &LogDevice, last: &Record, head: u64) -> Result<bool, FsError> {
    let end = device.forward(last.sector, last.sectors());
    if end != head || last.operations != 1 {
        return Ok(false);
    }
    let first = device.read(device.forward(last.sector, last.header_sectors), 1)?;
    Ok(first.get(9).is_some_and(|flags| flags & UNMOUNT != 0))
}

//! Extended partitions: a chain of boot records, each with a logical partition and the place of the next one.
//!
//! An entry for a partition counts from its own record, an entry for the next record from the start of the extended
//! partition. A chain may go backwards (tools number new partitions last wherever they lie), never to a record that was
//! read before.

use std::collections::BTreeSet;

use stillframe_block::{BlockSource, ReadError};
use stillframe_bytes::{Fault, Structure};

use crate::mbr::{self, BOOT_RECORD_BYTES, Entry};
use crate::table::{PartitionRole, PartitionTable};
use crate::window::read_at;

/// Extended boot records that are read of one disk. Linux names at most 256 partitions of a disk.
const RECORDS_CAP: usize = 256;
const FIRST_LOGICAL: u32 = 5;

/// Adds the logical partitions of all `extended` entries to `table`; says how many records there were.
pub(crate) fn read<'a>(
    disk: &dyn BlockSource,
    table: &mut PartitionTable,
    extended: impl Iterator<Item = &'a Entry>,
) -> Result<usize, ReadError> {
    let mut chain = Chain { next_number: FIRST_LOGICAL, seen: BTreeSet::new() };
    for container in extended {
        let mut record_sector = u64::from(container.start_sector);
        while let Some(entries) = chain.record(disk, table, record_sector)? {
            chain.push_logical(table, container, record_sector, &entries);
            let Some(link) = entries.iter().find(|entry| entry.is_used() && entry.is_extended()) else {
                break;
            };
            record_sector = u64::from(container.start_sector).saturating_add(link.start_sector.into());
            if record_sector >= container.end_sector() {
                // Linux follows it, so it is followed here.
                let at = record_sector.saturating_mul(table.sector_bytes.into());
                let end = container.end_sector();
                table.faults.push(Fault::new("extended boot record's sector", at, end, record_sector));
            }
        }
    }
    Ok(chain.seen.len())
}

struct Chain {
    next_number: u32,
    /// The sectors of the records read, over all extended partitions.
    seen: BTreeSet<u64>,
}

impl Chain {
    /// The entries of the record at `sector`; `None` where the chain ends in a fault.
    fn record(
        &mut self,
        disk: &dyn BlockSource,
        table: &mut PartitionTable,
        sector: u64,
    ) -> Result<Option<[Entry; 4]>, ReadError> {
        let at = sector.saturating_mul(table.sector_bytes.into());
        if self.seen.contains(&sector) {
            table.faults.push(Fault::new(
                "extended boot record chain",
                at,
                "a record not seen yet",
                "a loop",
            ));
            return Ok(None);
        }
        if self.seen.len() >= RECORDS_CAP {
            table.faults.push(Fault::new("extended boot records", at, RECORDS_CAP, "more"));
            return Ok(None);
        }
        let Some(bytes) = read_at(disk, at, BOOT_RECORD_BYTES)? else {
            table.faults.push(Fault::new("extended boot record", at, at, disk.len_bytes()));
            return Ok(None);
        };
        match mbr::entries(&Structure::new("extended boot record", at, &bytes)) {
            Ok(entries) => {
                self.seen.insert(sector);
                table.structures.push(at..at.saturating_add(table.sector_bytes.into()));
                Ok(Some(entries))
            }
            Err(fault) => {
                table.faults.push(fault);
                Ok(None)
            }
        }
    }

    fn push_logical(
        &mut self,
        table: &mut PartitionTable,
        container: &Entry,
        record_sector: u64,
        entries: &[Entry; 4],
    ) {
        let inside = u64::from(container.start_sector)..=container.end_sector();
        for (index, entry) in entries.iter().enumerate() {
            if !entry.is_used() || entry.is_extended() {
                continue;
            }
            let start = record_sector.saturating_add(entry.start_sector.into());
            let is_inside =
                inside.contains(&start) && inside.contains(&start.saturating_add(entry.sectors.into()));
            if !is_inside {
                let at = start.saturating_mul(table.sector_bytes.into());
                table.faults.push(Fault::new(
                    "logical partition's sector",
                    at,
                    container.end_sector(),
                    start,
                ));
                // The last two entries are unused by all tools; Linux takes them only where they make sense.
                if index >= 2 {
                    continue;
                }
            }
            mbr::push(table, self.next_number, PartitionRole::Logical, entry.type_code, start, entry.sectors);
            self.next_number = self.next_number.saturating_add(1);
        }
    }
}

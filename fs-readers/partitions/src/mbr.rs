//! The master boot record (UEFI section 5.2.1).

use stillframe_block::{BlockSource, ReadError};
use stillframe_bytes::{Fault, Structure};

use crate::extended;
use crate::table::{Partition, PartitionRole, PartitionTable, Scheme, TypeCode};
use crate::window::read_at;

pub(crate) const BOOT_RECORD_BYTES: usize = 512;
const DISK_SIGNATURE_AT: usize = 440;
const ENTRIES_AT: usize = 446;
const ENTRY_BYTES: usize = 16;
const TYPE_GPT_PROTECTIVE: u8 = 0xee;

/// One of the four entries of a boot record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) boot_indicator: u8,
    pub(crate) type_code: u8,
    pub(crate) start_sector: u32,
    pub(crate) sectors: u32,
}

impl Entry {
    /// As Linux sees it: by its length, whatever its type.
    pub(crate) fn is_used(self) -> bool {
        self.sectors != 0
    }

    pub(crate) fn is_extended(self) -> bool {
        matches!(self.type_code, 0x05 | 0x0f | 0x85)
    }

    /// The end in sectors.
    pub(crate) fn end_sector(self) -> u64 {
        u64::from(self.start_sector).saturating_add(self.sectors.into())
    }
}

/// The entries of a master or extended boot record that ends in 55 AA.
pub(crate) fn entries(record: &Structure<'_>) -> Result<[Entry; 4], Fault> {
    let signature = record.u16_le(510)?;
    if signature != 0xaa55 {
        return Err(record.fault("boot record signature", 510, "0xaa55", signature));
    }
    let mut entries = [Entry { boot_indicator: 0, type_code: 0, start_sector: 0, sectors: 0 }; 4];
    for (index, entry) in entries.iter_mut().enumerate() {
        let at = ENTRIES_AT.saturating_add(index.saturating_mul(ENTRY_BYTES));
        let bytes = record.part("partition entry", at, ENTRY_BYTES)?;
        *entry = Entry {
            boot_indicator: bytes.u8(0)?,
            type_code: bytes.u8(4)?,
            start_sector: bytes.u32_le(8)?,
            sectors: bytes.u32_le(12)?,
        };
    }
    Ok(entries)
}

/// A first sector that can be a master boot record.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mbr {
    entries: [Entry; 4],
    disk_signature: u32,
}

/// The first sector, where it ends in 55 AA and each boot indicator is one: the code of another boot sector has other
/// bytes there.
pub(crate) fn read(disk: &dyn BlockSource) -> Result<Option<Mbr>, ReadError> {
    let Some(bytes) = read_at(disk, 0, BOOT_RECORD_BYTES)? else { return Ok(None) };
    let record = Structure::new("MBR", 0, &bytes);
    let (Ok(entries), Ok(disk_signature)) = (entries(&record), record.u32_le(DISK_SIGNATURE_AT)) else {
        return Ok(None);
    };
    let indicators_are_right = entries.iter().all(|entry| entry.boot_indicator & 0x7f == 0);
    Ok(indicators_are_right.then_some(Mbr { entries, disk_signature }))
}

impl Mbr {
    /// Whether it protects a GPT, alone or (a hybrid MBR) beside other entries.
    pub(crate) fn is_protective(&self) -> bool {
        self.entries.iter().any(|entry| entry.type_code == TYPE_GPT_PROTECTIVE)
    }

    /// Where the protective entry ends, in sectors: the disk's size when the GPT was made.
    pub(crate) fn protected_sectors(&self) -> Option<u64> {
        self.entries
            .iter()
            .find(|entry| entry.type_code == TYPE_GPT_PROTECTIVE)
            .map(|entry| entry.end_sector())
    }

    /// Whether no entry is used.
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.iter().all(|entry| !entry.is_used())
    }

    /// The partitions, where sectors have `sector_bytes`, and how many extended boot records were there.
    pub(crate) fn table(
        &self,
        disk: &dyn BlockSource,
        sector_bytes: u32,
    ) -> Result<(PartitionTable, usize), ReadError> {
        let disk_id = (self.disk_signature != 0).then(|| format!("{:08x}", self.disk_signature));
        let mut table =
            PartitionTable { scheme: Scheme::Mbr, sector_bytes, disk_id, ..PartitionTable::none() };
        table.structures.push(0..sector_bytes.into());
        for (number, entry) in (1..).zip(self.entries).filter(|(_, entry)| entry.is_used()) {
            let role = if entry.is_extended() { PartitionRole::Extended } else { PartitionRole::Primary };
            push(&mut table, number, role, entry.type_code, entry.start_sector.into(), entry.sectors);
        }
        let extended = self.entries.iter().filter(|entry| entry.is_used() && entry.is_extended());
        let records = extended::read(disk, &mut table, extended)?;
        Ok((table, records))
    }

    /// Entries beside the protective one (a hybrid MBR) that the GPT does not have.
    pub(crate) fn compare_with_gpt(&self, table: &mut PartitionTable) {
        let entries_at = u64::try_from(ENTRIES_AT).unwrap_or(0);
        for entry in
            self.entries.iter().filter(|entry| entry.is_used() && entry.type_code != TYPE_GPT_PROTECTIVE)
        {
            let start = u64::from(entry.start_sector).saturating_mul(table.sector_bytes.into());
            if !table.partitions.iter().any(|partition| partition.start_bytes == start) {
                table.faults.push(Fault::new("hybrid MBR entry", entries_at, start, "no such GPT partition"));
            }
        }
    }
}

/// Adds a partition that is counted in the table's sectors.
pub(crate) fn push(
    table: &mut PartitionTable,
    number: u32,
    role: PartitionRole,
    type_code: u8,
    start_sector: u64,
    sectors: u32,
) {
    let sector_bytes = u64::from(table.sector_bytes);
    let part_uuid = table.disk_id.as_ref().map(|disk_id| format!("{disk_id}-{number:02x}"));
    table.partitions.push(Partition {
        number,
        // At most 2^33 sectors of 4 KiB: far inside u64.
        start_bytes: start_sector.saturating_mul(sector_bytes),
        len_bytes: u64::from(sectors).saturating_mul(sector_bytes),
        type_code: TypeCode::Mbr(type_code),
        role,
        name: None,
        part_uuid,
        cut: false,
    });
}

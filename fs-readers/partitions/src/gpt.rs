//! The GUID partition table: which copy is read, and its entries (UEFI section 5.3).

use std::ops::Range;

use stillframe_block::{BlockSource, ReadError};
use stillframe_bytes::{Fault, Structure};

use crate::gpt_header::{self, Header, Reading};
use crate::guid::Guid;
use crate::table::{Partition, PartitionRole, PartitionTable, Scheme, TypeCode};

const SECTOR_SIZES: [u32; 2] = [512, 4096];
const NAME_UNITS: usize = 36;

/// A copy of the table that is whole.
pub(crate) struct Gpt {
    /// Where its header lies, in bytes.
    pub(crate) at: u64,
    pub(crate) is_backup: bool,
    sector_bytes: u32,
    header: Header,
    entries: Vec<u8>,
    /// What the other copy covers.
    other_copy: Range<u64>,
}

/// A copy that is whole, if any is, and what is wrong with the others.
pub(crate) struct Found {
    pub(crate) gpt: Option<Gpt>,
    pub(crate) faults: Vec<Fault>,
}

/// Looks for the first copy in LBA 1, then for the backup where the first says, in the last LBA, and where the disk
/// ended when the table was made (`protected_sectors`): a disk that was enlarged keeps its backup there.
pub(crate) fn read(disk: &dyn BlockSource, protected_sectors: Option<u64>) -> Result<Found, ReadError> {
    let mut faults = Vec::new();
    let mut first_readings = Vec::new();
    for sector_bytes in SECTOR_SIZES {
        let reading = gpt_header::read(disk, sector_bytes, 1)?;
        match whole_copy(disk, sector_bytes, 1, &reading)? {
            Ok(mut gpt) => {
                faults.clear();
                faults.extend(gpt.check_backup(disk)?);
                return Ok(Found { gpt: Some(gpt), faults });
            }
            // Of the two sector sizes, the one with a signature is meant; without any, the common one.
            Err(fault) if reading.has_signature => faults = vec![fault],
            Err(fault) if faults.is_empty() => faults.push(fault),
            Err(_) => {}
        }
        first_readings.push((sector_bytes, reading));
    }
    let mut backup_fault = None;
    for (sector_bytes, reading) in first_readings {
        let last_lba = (disk.len_bytes().checked_div(sector_bytes.into()).unwrap_or(0)).checked_sub(1);
        let protected_end = protected_sectors.and_then(|sectors| sectors.checked_sub(1));
        let mut places: Vec<u64> =
            [reading.claimed_alternate, last_lba, protected_end].into_iter().flatten().collect();
        places.dedup();
        for lba in places.into_iter().filter(|lba| *lba > 1) {
            let reading = gpt_header::read(disk, sector_bytes, lba)?;
            match whole_copy(disk, sector_bytes, lba, &reading)? {
                Ok(gpt) => return Ok(Found { gpt: Some(Gpt { is_backup: true, ..gpt }), faults }),
                Err(fault) if reading.has_signature || backup_fault.is_none() => backup_fault = Some(fault),
                Err(_) => {}
            }
        }
    }
    faults.extend(backup_fault);
    Ok(Found { gpt: None, faults })
}

fn whole_copy(
    disk: &dyn BlockSource,
    sector_bytes: u32,
    lba: u64,
    reading: &Reading,
) -> Result<Result<Gpt, Fault>, ReadError> {
    let header = match reading.header {
        Ok(header) => header,
        Err(fault) => return Ok(Err(fault)),
    };
    let at = lba.saturating_mul(sector_bytes.into());
    let entries = header.entries(disk, sector_bytes)?;
    Ok(entries.map(|entries| Gpt { at, is_backup: false, sector_bytes, header, entries, other_copy: 0..0 }))
}

impl Gpt {
    /// Reads the header that the first copy calls its alternate.
    fn check_backup(&mut self, disk: &dyn BlockSource) -> Result<Option<Fault>, ReadError> {
        let lba = self.header.alternate_lba;
        let reading = gpt_header::read(disk, self.sector_bytes, lba)?;
        let header_at = self.bytes(lba);
        let len = u64::try_from(self.header.entries_bytes).unwrap_or(0);
        let entries_at = match &reading.header {
            Ok(header) => self.bytes(header.entries_lba),
            Err(_) => header_at.saturating_sub(len),
        };
        self.other_copy = entries_at.min(header_at)..header_at.saturating_add(self.sector_bytes.into());
        Ok(whole_copy(disk, self.sector_bytes, lba, &reading)?.err())
    }

    pub(crate) fn into_table(self, disk_len_bytes: u64) -> PartitionTable {
        let mut table = PartitionTable {
            scheme: Scheme::Gpt,
            sector_bytes: self.sector_bytes,
            disk_id: Some(self.header.disk_guid.to_string()),
            used_backup: self.is_backup,
            ..PartitionTable::none()
        };
        table.structures = self.structures(disk_len_bytes);
        let entries_at = self.bytes(self.header.entries_lba);
        for (number, bytes) in (1..).zip(self.entries.chunks_exact(self.header.entry_bytes)) {
            let offset = u64::from(number).saturating_sub(1);
            let offset = offset.saturating_mul(u64::try_from(self.header.entry_bytes).unwrap_or(0));
            let entry = Structure::new("GPT entry", entries_at.saturating_add(offset), bytes);
            match self.partition(number, &entry, &mut table.faults) {
                Ok(Some(partition)) => table.partitions.push(partition),
                Ok(None) => {}
                Err(fault) => table.faults.push(fault),
            }
        }
        table
    }

    /// The partition of one entry; `None` where the entry is unused.
    fn partition(
        &self,
        number: u32,
        entry: &Structure<'_>,
        faults: &mut Vec<Fault>,
    ) -> Result<Option<Partition>, Fault> {
        let type_guid = Guid(entry.array(0)?);
        if type_guid.is_zero() {
            return Ok(None);
        }
        let (first_lba, last_lba) = (entry.u64_le(32)?, entry.u64_le(40)?);
        if last_lba < first_lba {
            return Err(entry.fault("GPT entry's last LBA", 40, first_lba, last_lba));
        }
        let sector_bytes = u64::from(self.sector_bytes);
        let start_bytes = first_lba.checked_mul(sector_bytes);
        let end_bytes = last_lba.checked_add(1).and_then(|end| end.checked_mul(sector_bytes));
        let (Some(start_bytes), Some(end_bytes)) = (start_bytes, end_bytes) else {
            return Err(entry.fault("GPT entry's last LBA", 40, last_lba, "more than 64 bits of bytes"));
        };
        let usable = self.header.first_usable_lba..=self.header.last_usable_lba;
        if !usable.contains(&first_lba) || !usable.contains(&last_lba) {
            faults.push(entry.fault("GPT entry outside the usable LBAs", 32, *usable.end(), last_lba));
        }
        Ok(Some(Partition {
            number,
            start_bytes,
            len_bytes: end_bytes.saturating_sub(start_bytes),
            type_code: TypeCode::Gpt(type_guid.0),
            role: PartitionRole::Primary,
            name: name(entry)?,
            part_uuid: Some(Guid(entry.array(16)?).to_string()),
            cut: false,
        }))
    }

    /// Where the MBR and both copies of the table lie.
    fn structures(&self, disk_len_bytes: u64) -> Vec<Range<u64>> {
        let len = u64::try_from(self.header.entries_bytes).unwrap_or(0);
        let entries_at = self.bytes(self.header.entries_lba);
        let mut structures = vec![
            0..self.bytes(2),
            self.at..self.at.saturating_add(self.sector_bytes.into()),
            entries_at..entries_at.saturating_add(len).min(disk_len_bytes),
        ];
        if self.is_backup {
            // The first copy's entries follow its header in all tools' tables.
            structures.push(self.bytes(2)..self.bytes(2).saturating_add(len));
        } else {
            structures.push(self.other_copy.clone());
        }
        structures
    }

    fn bytes(&self, lba: u64) -> u64 {
        lba.saturating_mul(self.sector_bytes.into())
    }
}

/// UTF-16 up to a NUL; some tools fill the field with ones instead. Unpaired surrogates become U+FFFD.
fn name(entry: &Structure<'_>) -> Result<Option<String>, Fault> {
    let units =
        entry.slice(56, NAME_UNITS.saturating_mul(2))?.chunks_exact(2).map_while(|unit| match *unit {
            [low, high] => Some(u16::from_le_bytes([low, high])).filter(|unit| !matches!(unit, 0 | 0xffff)),
            _ => None,
        });
    let name: String =
        char::decode_utf16(units).map(|decoded| decoded.unwrap_or(char::REPLACEMENT_CHARACTER)).collect();
    Ok((!name.is_empty()).then_some(name))
}

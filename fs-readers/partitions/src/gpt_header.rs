//! The GPT header (UEFI section 5.3.2).

use stillframe_block::{BlockSource, ReadError};
use stillframe_bytes::{Fault, Structure};

use crate::guid::Guid;
use crate::window::read_at;

const HEADER_LEAST_BYTES: usize = 92;
const ENTRY_LEAST_BYTES: u32 = 128;
const ENTRY_MOST_BYTES: u32 = 4096;
/// Entries that a table may have. Tools make 128.
const ENTRIES_CAP: u32 = 16_384;
/// The size of the entries, which are read at once.
const ENTRIES_BYTES_CAP: usize = 4 << 20;

/// A header whose CRC is right and whose fields make sense.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Header {
    pub(crate) alternate_lba: u64,
    pub(crate) first_usable_lba: u64,
    pub(crate) last_usable_lba: u64,
    pub(crate) disk_guid: Guid,
    pub(crate) entries_lba: u64,
    pub(crate) entry_bytes: usize,
    pub(crate) entries_bytes: usize,
    entries_crc: u32,
}

impl std::fmt::Debug for Guid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self}")
    }
}

/// What stands in a header's place.
pub(crate) struct Reading {
    pub(crate) header: Result<Header, Fault>,
    /// Whether it has the signature at least.
    pub(crate) has_signature: bool,
    /// Where it says that the other copy is, right or wrong.
    pub(crate) claimed_alternate: Option<u64>,
}

/// Reads the header at `lba`.
pub(crate) fn read(disk: &dyn BlockSource, sector_bytes: u32, lba: u64) -> Result<Reading, ReadError> {
    let at = lba.saturating_mul(sector_bytes.into());
    let Some(bytes) = read_at(disk, at, usize::try_from(sector_bytes).unwrap_or(512))? else {
        let header = Err(Fault::new("GPT header", at, at, disk.len_bytes()));
        return Ok(Reading { header, has_signature: false, claimed_alternate: None });
    };
    let sector = Structure::new("GPT header", at, &bytes);
    let has_signature = sector.slice(0, 8) == Ok(b"EFI PART");
    let claimed_alternate = sector.u64_le(32).ok().filter(|_| has_signature);
    Ok(Reading { header: parse(&sector, lba), has_signature, claimed_alternate })
}

fn parse(sector: &Structure<'_>, lba: u64) -> Result<Header, Fault> {
    if sector.slice(0, 8)? != b"EFI PART" {
        return Err(sector.fault("GPT header signature", 0, "EFI PART", "something else"));
    }
    let header_bytes = sector.u32_le(12)?;
    let len = usize::try_from(header_bytes).unwrap_or(usize::MAX);
    if !(HEADER_LEAST_BYTES..=sector.len()).contains(&len) {
        return Err(sector.fault("GPT header size", 12, header_bytes, sector.len()));
    }
    let claimed_crc = sector.u32_le(16)?;
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(sector.slice(0, 16)?);
    hasher.update(&[0; 4]);
    hasher.update(sector.slice(20, len.saturating_sub(20))?);
    let crc = hasher.finalize();
    if crc != claimed_crc {
        return Err(sector.fault("GPT header CRC", 16, claimed_crc, crc));
    }
    let my_lba = sector.u64_le(24)?;
    if my_lba != lba {
        return Err(sector.fault("GPT header's own LBA", 24, my_lba, lba));
    }
    let (entries, entry_bytes) = (sector.u32_le(80)?, sector.u32_le(84)?);
    if !entry_bytes.is_power_of_two() || !(ENTRY_LEAST_BYTES..=ENTRY_MOST_BYTES).contains(&entry_bytes) {
        return Err(sector.fault("GPT entry size", 84, entry_bytes, ENTRY_LEAST_BYTES));
    }
    let entries_bytes =
        entries.checked_mul(entry_bytes).and_then(|bytes| usize::try_from(bytes).ok()).unwrap_or(usize::MAX);
    if entries > ENTRIES_CAP || entries_bytes > ENTRIES_BYTES_CAP {
        return Err(sector.fault("GPT entries", 80, entries, ENTRIES_CAP));
    }
    Ok(Header {
        alternate_lba: sector.u64_le(32)?,
        first_usable_lba: sector.u64_le(40)?,
        last_usable_lba: sector.u64_le(48)?,
        disk_guid: Guid(sector.array(56)?),
        entries_lba: sector.u64_le(72)?,
        entry_bytes: usize::try_from(entry_bytes).unwrap_or(128),
        entries_bytes,
        entries_crc: sector.u32_le(88)?,
    })
}

impl Header {
    /// All entries, where their CRC is right.
    pub(crate) fn entries(
        &self,
        disk: &dyn BlockSource,
        sector_bytes: u32,
    ) -> Result<Result<Vec<u8>, Fault>, ReadError> {
        let at = self.entries_lba.saturating_mul(sector_bytes.into());
        let Some(bytes) = read_at(disk, at, self.entries_bytes)? else {
            return Ok(Err(Fault::new("GPT entries", at, self.entries_bytes, "the end of the disk")));
        };
        let crc = crc32fast::hash(&bytes);
        Ok(if crc == self.entries_crc {
            Ok(bytes)
        } else {
            Err(Fault::new("GPT entries CRC", at, self.entries_crc, crc))
        })
    }
}

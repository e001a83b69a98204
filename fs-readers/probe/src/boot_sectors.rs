//! Filesystems whose superblock is the boot sector: NTFS, exFAT, FAT, ReFS.
//!
//! Specifications: libfsntfs' documentation ("Volume header"), Microsoft's exFAT specification sections 3.1 and 3.4,
//! Microsoft's FAT specification (fatgen103) sections "Boot Sector and BPB" and "FAT Type Determination", libfsrefs'
//! documentation ("Volume header").

use stillframe_bytes::Structure;

use crate::candidate::Candidate;
use crate::view::{View, ensure};
use crate::{Content, FsKind, UnsupportedKind};

/// `NTFS` as the OEM name, and a parameter block that has none of FAT's own fields.
pub(crate) fn ntfs(view: &View) -> Option<Candidate> {
    let sector = view.structure("NTFS boot sector", 0, 512)?;
    ensure(sector.slice(3, 8).ok()? == b"NTFS    ")?;
    let sector_bytes = sector.u16_le(11).ok()?;
    ensure(sector_bytes.is_power_of_two() && (256..=4096).contains(&sector_bytes))?;
    // Above 0x80 it is a negative power of two.
    let cluster_sectors = sector.u8(13).ok()?;
    ensure(cluster_sectors.is_power_of_two() || cluster_sectors >= 0xe0)?;
    // Reserved sectors, number of FATs, root entries, sectors, sectors per FAT.
    ensure([14, 17, 19, 22].iter().all(|offset| sector.u16_le(*offset) == Ok(0)) && sector.u8(16) == Ok(0))?;
    let sectors = sector.u64_le(40).ok()?;
    ensure(sectors != 0 && sector.u64_le(48).ok()? < sectors && sector.u64_le(56).ok()? < sectors)?;
    // The last sector, behind the counted ones, is the boot sector's copy. $Boot covers 8 KiB.
    let ends_at = sectors.saturating_add(1).saturating_mul(sector_bytes.into());
    Some(Candidate::new(Content::Filesystem(FsKind::Ntfs), 0).clears(0..8192).ends_at(ends_at))
}

/// Sectors that the checksum covers, and sectors of a region with it.
const EXFAT_COVERED_SECTORS: u64 = 11;
const EXFAT_REGION_SECTORS: u64 = 12;
const EXFAT_SECTOR_SHIFTS: std::ops::RangeInclusive<u32> = 9..=12;

/// The main boot region; where its first sector has been lost, the backup behind it, if that is whole.
pub(crate) fn exfat(view: &View) -> Option<Candidate> {
    exfat_region(view, 0).or_else(|| {
        // A sector that somebody else signed is no damage.
        ensure(!view.has(510, &[0x55, 0xaa]))?;
        EXFAT_SECTOR_SHIFTS.into_iter().find_map(|shift| {
            let at = EXFAT_REGION_SECTORS.checked_shl(shift)?;
            exfat_region(view, at).filter(|backup| backup.certain)
        })
    })
}

/// `EXFAT` as the name, zeros where FAT has its parameter block, and the boot region's checksum.
fn exfat_region(view: &View, at: u64) -> Option<Candidate> {
    let sector = view.structure("exFAT boot sector", at, 512)?;
    ensure(sector.slice(3, 8).ok()? == b"EXFAT   ")?;
    ensure(sector.slice(11, 53).ok()?.iter().all(|byte| *byte == 0))?;
    let sector_shift = sector.u8(108).ok()?;
    ensure(EXFAT_SECTOR_SHIFTS.contains(&sector_shift.into()))?;
    ensure(
        sector.u8(109).ok()? <= 25_u8.saturating_sub(sector_shift) && (1..=2).contains(&sector.u8(110).ok()?),
    )?;
    let sector_bytes = 1_u64.checked_shl(sector_shift.into())?;
    let covered = EXFAT_COVERED_SECTORS.saturating_mul(sector_bytes);
    let checksum = exfat_checksum(view, at, covered);
    let written = view.structure("exFAT boot checksum", at.saturating_add(covered), 4)?.u32_le(0).ok()?;
    Some(
        Candidate::new(Content::Filesystem(FsKind::ExFat), at)
            .certain(checksum == Some(written))
            .clears(0..sector_bytes.saturating_mul(24))
            .ends_at(sector.u64_le(72).ok()?.saturating_mul(sector_bytes)),
    )
}

/// Of all boot sectors but the volume flags and the percentage in use, which change while it is mounted.
fn exfat_checksum(view: &View, at: u64, len: u64) -> Option<u32> {
    let bytes = view.bytes(at, usize::try_from(len).ok()?)?;
    let counted = bytes.iter().enumerate().filter(|(index, _)| !matches!(index, 106 | 107 | 112));
    Some(counted.fold(0_u32, |sum, (_, byte)| sum.rotate_right(1).wrapping_add(u32::from(*byte))))
}

/// What FAT's parameter block says, where all of it fits together.
struct FatLayout {
    fat_at: u64,
    media: u8,
    ends_at: u64,
}

/// There is no magic: a jump, 55 AA, and a parameter block that makes sense as a whole.
pub(crate) fn fat(view: &View) -> Option<Candidate> {
    let sector = view.structure("FAT boot sector", 0, 512)?;
    let layout = fat_layout(&sector)?;
    // The first FAT begins with the media byte and a run of set bits.
    let entries = view.bytes(layout.fat_at, 3).unwrap_or_default();
    let table_begins = matches!(entries, [media, 0xff, 0xff] if *media == layout.media);
    // Formatters write all reserved sectors and the start of the FAT.
    Some(
        Candidate::new(Content::Filesystem(FsKind::Fat), 0)
            .certain(table_begins)
            .clears(0..layout.fat_at.saturating_add(512))
            .ends_at(layout.ends_at),
    )
}

fn fat_layout(sector: &Structure<'_>) -> Option<FatLayout> {
    ensure(matches!((sector.u8(0).ok()?, sector.u8(2).ok()?), (0xeb, 0x90) | (0xe9, _)))?;
    ensure(sector.slice(510, 2).ok()? == [0x55, 0xaa])?;
    let sector_bytes = u64::from(sector.u16_le(11).ok()?);
    ensure(sector_bytes.is_power_of_two() && (512..=4096).contains(&sector_bytes))?;
    let cluster_sectors = u64::from(sector.u8(13).ok()?);
    ensure(cluster_sectors.is_power_of_two())?;
    let reserved = u64::from(sector.u16_le(14).ok()?);
    let fats = u64::from(sector.u8(16).ok()?);
    ensure(reserved != 0 && (1..=4).contains(&fats))?;
    let media = sector.u8(21).ok()?;
    ensure(media == 0xf0 || media >= 0xf8)?;
    let either = |short: u16, long: u32| if short == 0 { u64::from(long) } else { u64::from(short) };
    let sectors = either(sector.u16_le(19).ok()?, sector.u32_le(32).ok()?);
    let short_fat_sectors = sector.u16_le(22).ok()?;
    let root_entries = sector.u16_le(17).ok()?;
    // FAT32 has no root region and no short FAT length; the others have both.
    ensure((short_fat_sectors == 0) == (root_entries == 0))?;
    let fat_sectors = either(short_fat_sectors, sector.u32_le(36).ok()?);
    let root_sectors = u64::from(root_entries).saturating_mul(32).div_ceil(sector_bytes);
    let data_at = reserved.saturating_add(fats.saturating_mul(fat_sectors)).saturating_add(root_sectors);
    ensure(fat_sectors != 0 && data_at < sectors)?;
    let clusters = sectors.saturating_sub(data_at).checked_div(cluster_sectors)?;
    // Even at 12 bits an entry, the FAT must have room for the clusters; some tools are off by a few.
    let entries = fat_sectors.saturating_mul(sector_bytes).saturating_mul(2) / 3;
    ensure(clusters <= entries.saturating_add(16))?;
    let bytes = |sectors: u64| sectors.saturating_mul(sector_bytes);
    Some(FatLayout { fat_at: bytes(reserved), media, ends_at: bytes(sectors) })
}

/// Four bytes of name where NTFS has eight, and `FSRS`.
pub(crate) fn refs(view: &View) -> Option<Candidate> {
    ensure(view.has(0, b"\0\0\0ReFS\0\0\0\0") && view.has(16, b"FSRS"))?;
    Some(Candidate::new(Content::Unsupported(UnsupportedKind::Refs), 0).clears(0..512))
}

//! Directory entry sets: a file entry, a stream extension, and the name in pieces (exFAT specification, sections 6.2, 6.3
//! and 7.4 to 7.7).

use stillframe_bytes::{Fault, Quantity, Structure, days_since_1970, wtf8};
use stillframe_fs::{FileKind, Timestamp};

/// The length of an entry.
pub(crate) const ENTRY_BYTES: u64 = 32;
pub(crate) const ENTRY_LEN: usize = 32;
/// Entries that may follow a file's own.
const SECONDARIES_CAP: u8 = 18;
/// A set at its longest.
pub(crate) const SET_LEN_CAP: usize = ENTRY_LEN * 19;

const END_OF_DIRECTORY: u8 = 0x00;
const IN_USE: u8 = 0x80;
const SECONDARY: u8 = 0x40;
const BENIGN: u8 = 0x20;
const VOLUME_LABEL: u8 = 0x83;
const FILE: u8 = 0x85;
const ALLOCATION_BITMAP: u8 = 0x81;
const UP_CASE_TABLE: u8 = 0x82;
const STREAM_EXTENSION: u8 = 0xC0;
const FILE_NAME: u8 = 0xC1;

const ATTRIBUTE_DIRECTORY: u16 = 0x10;
const ALLOCATION_POSSIBLE: u8 = 1;
const NO_FAT_CHAIN: u8 = 2;
/// UTF-16 units of a name in one entry.
const NAME_PIECE_BYTES: usize = 30;

/// What an entry is, by its type alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EntryKind {
    /// Deleted, or one that another entry leads, or that may be ignored by those who do not know it.
    PassedOver,
    VolumeLabel,
    File,
    /// Whoever does not know it cannot know what the directory holds.
    UnknownCritical,
}

impl EntryKind {
    pub(crate) fn of(entry_type: u8) -> Self {
        match entry_type {
            VOLUME_LABEL => Self::VolumeLabel,
            FILE => Self::File,
            ALLOCATION_BITMAP | UP_CASE_TABLE => Self::PassedOver,
            other if other & IN_USE == 0 || other & (SECONDARY | BENIGN) != 0 => Self::PassedOver,
            _ => Self::UnknownCritical,
        }
    }

    /// Whether no entry follows.
    pub(crate) fn is_end(entry_type: u8) -> bool {
        entry_type == END_OF_DIRECTORY
    }

    /// Whether it belongs to the entry before it.
    pub(crate) fn is_secondary(entry_type: u8) -> bool {
        entry_type & (IN_USE | SECONDARY) == IN_USE | SECONDARY
    }
}

/// What a set says of its file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct EntrySet {
    /// Where it lies on the volume, in bytes.
    pub(crate) at: u64,
    /// In UTF-8 (unpaired surrogates as in WTF-8).
    pub(crate) name: Vec<u8>,
    pub(crate) kind: FileKind,
    pub(crate) first_cluster: u32,
    /// Whether the clusters follow each other, and the FAT says nothing of them.
    pub(crate) no_fat_chain: bool,
    pub(crate) size_bytes: u64,
    /// What was written of it; zeros follow.
    pub(crate) valid_bytes: u64,
    pub(crate) modified: Option<Timestamp>,
}

impl EntrySet {
    /// How many bytes a set has that begins with this file entry.
    pub(crate) fn len(file: &Structure<'_>) -> Result<usize, Fault> {
        let secondaries = file.u8(1)?;
        if !(2..=SECONDARIES_CAP).contains(&secondaries) {
            return Err(file.fault("secondary count", 1, SECONDARIES_CAP, secondaries));
        }
        Ok(usize::from(secondaries).saturating_add(1).saturating_mul(ENTRY_LEN))
    }

    /// Takes apart a whole set.
    pub(crate) fn parse(set: &Structure<'_>) -> Result<Self, Fault> {
        check_sum(set)?;
        let stream = set.part("stream extension directory entry", ENTRY_LEN, ENTRY_LEN)?;
        if stream.u8(0)? != STREAM_EXTENSION {
            return Err(stream.fault("entry type", 0, Quantity::Hex(STREAM_EXTENSION.into()), stream.u8(0)?));
        }
        let flags = stream.u8(1)?;
        let (valid_bytes, size_bytes) = (stream.u64_le(8)?, stream.u64_le(24)?);
        if valid_bytes > size_bytes {
            return Err(stream.fault("valid data length", 8, size_bytes, valid_bytes));
        }
        if flags & ALLOCATION_POSSIBLE == 0 && size_bytes != 0 {
            return Err(stream.fault("data length without allocation", 24, 0_u8, size_bytes));
        }
        let is_directory = set.u16_le(4)? & ATTRIBUTE_DIRECTORY != 0;
        Ok(Self {
            at: set.at(),
            name: name(set, stream.u8(3)?.into())?,
            kind: if is_directory { FileKind::Directory } else { FileKind::File },
            first_cluster: stream.u32_le(20)?,
            no_fat_chain: flags & NO_FAT_CHAIN != 0,
            size_bytes,
            valid_bytes,
            modified: timestamp(set.u32_le(12)?, set.u8(21)?, set.u8(23)?),
        })
    }
}

/// Gathers the name of `units` UTF-16 units from the entries behind the stream extension.
fn name(set: &Structure<'_>, units: usize) -> Result<Vec<u8>, Fault> {
    let mut bytes = Vec::new();
    let wanted = units.saturating_mul(2);
    for offset in (ENTRY_LEN.saturating_mul(2)..set.len()).step_by(ENTRY_LEN) {
        let entry = set.part("file name directory entry", offset, ENTRY_LEN)?;
        match entry.u8(0)? {
            FILE_NAME if bytes.len() < wanted => bytes.extend_from_slice(entry.slice(2, NAME_PIECE_BYTES)?),
            // Vendor extensions and all that is benign.
            other if other & BENIGN != 0 => {}
            other => return Err(entry.fault("entry type", 0, "a known one", Quantity::Hex(other.into()))),
        }
    }
    if units == 0 || bytes.len() < wanted {
        return Err(set.fault("name length", ENTRY_LEN.saturating_add(3), bytes.len() / 2, units));
    }
    bytes.truncate(wanted);
    let units =
        bytes.chunks_exact(2).map(|pair| pair.first_chunk().map_or(0, |pair| u16::from_le_bytes(*pair)));
    let name = wtf8(units);
    if name.iter().any(|byte| matches!(byte, b'/' | 0)) || matches!(&name[..], b"." | b"..") {
        return Err(set.fault("file name", 0, "no separator, NUL or ..", "one"));
    }
    Ok(name)
}

/// The checksum of all entries but for the field that holds it.
fn check_sum(set: &Structure<'_>) -> Result<(), Fault> {
    let counted = set.bytes().iter().enumerate().filter(|(index, _)| !matches!(index, 2 | 3));
    let sum = counted.fold(0_u16, |sum, (_, byte)| sum.rotate_right(1).wrapping_add(u16::from(*byte)));
    let written = set.u16_le(2)?;
    if sum == written {
        return Ok(());
    }
    Err(set.fault("entry set checksum", 2, Quantity::Hex(written.into()), Quantity::Hex(sum.into())))
}

/// `None` where no time of the world is said: the offset from UTC is missing, or a field has no meaning.
fn timestamp(packed: u32, centiseconds: u8, offset: u8) -> Option<Timestamp> {
    let (second, minute, hour) = ((packed & 0x1F) << 1, packed >> 5 & 0x3F, packed >> 11 & 0x1F);
    let (day, month, year) = (packed >> 16 & 0x1F, packed >> 21 & 0x0F, packed >> 25);
    let [second, minute, hour, day, month, year] = [second, minute, hour, day, month, year].map(i64::from);
    let year = year.checked_add(1980)?;
    let has_offset = offset & 0x80 != 0;
    let makes_sense =
        (1..=31).contains(&day) && (1..=12).contains(&month) && hour < 24 && minute < 60 && second < 60;
    if !has_offset || !makes_sense || centiseconds > 199 {
        return None;
    }
    // Seven bits with a sign, in quarters of an hour.
    let quarters = i64::from(offset & 0x3F).checked_sub(i64::from(offset & 0x40))?;
    let minutes = days_since_1970(year, month, day)?.checked_mul(24)?.checked_add(hour)?.checked_mul(60)?;
    let minutes = minutes.checked_add(minute)?.checked_sub(quarters.checked_mul(15)?)?;
    let seconds = minutes.checked_mul(60)?.checked_add(second)?.checked_add(i64::from(centiseconds / 100))?;
    let nanoseconds = u32::from(centiseconds % 100).checked_mul(10_000_000)?;
    Some(Timestamp { seconds, nanoseconds })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_of_utc_or_none() {
        // 2023-11-14 22:13:20, as `date -u -d @1700000000` has it.
        let packed = (43 << 25) | (11 << 21) | (14 << 16) | (22 << 11) | (13 << 5) | 10;
        let at = |offset| timestamp(packed, 0, offset).map(|time| time.seconds);
        assert_eq!(at(0x80), Some(1_700_000_000));
        // One hour east, and eleven and a half west.
        assert_eq!(at(0x84), Some(1_700_000_000 - 3600));
        assert_eq!(at(0x80 | (0x80 - 46)), Some(1_700_000_000 + 46 * 900));
        assert_eq!(at(0), None);
        let odd = timestamp(packed, 199, 0x80).unwrap();
        assert_eq!((odd.seconds, odd.nanoseconds), (1_700_000_001, 990_000_000));
        assert_eq!(timestamp(packed, 200, 0x80), None);
        assert_eq!(timestamp(0, 0, 0x80), None);
        // 1980-01-01 and 2000-02-29.
        assert_eq!(timestamp((1 << 21) | (1 << 16), 0, 0x80).unwrap().seconds, 315_532_800);
        assert_eq!(timestamp((20 << 25) | (2 << 21) | (29 << 16), 0, 0x80).unwrap().seconds, 951_782_400);
    }

    #[test]
    fn entries_that_nobody_needs_to_know_are_passed_over() {
        for passed_over in [0x01, 0x05, 0x40, 0x81, 0x82, 0xA0, 0xA1, 0xC0, 0xC1, 0xE0, 0xE1] {
            assert_eq!(EntryKind::of(passed_over), EntryKind::PassedOver, "{passed_over:#x}");
        }
        assert_eq!(EntryKind::of(0x84), EntryKind::UnknownCritical);
        assert!(EntryKind::is_end(0) && EntryKind::is_secondary(0xC1) && !EntryKind::is_secondary(0x41));
    }
}

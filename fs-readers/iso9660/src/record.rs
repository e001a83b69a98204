//! Directory records (ECMA-119, section 9.1).

use stillframe_bytes::{Fault, Structure, days_since_1970};
use stillframe_fs::Timestamp;

/// What a record has before its name.
const FIXED_LEN: usize = 33;
/// The least that a record has: a name of one byte.
pub(crate) const LEAST_LEN: u8 = 34;
const DIRECTORY: u8 = 0x02;
const ASSOCIATED: u8 = 0x04;
const MULTI_EXTENT: u8 = 0x80;

/// What a record says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Record {
    /// Where it lies on the volume, in bytes.
    pub(crate) at: u64,
    pub(crate) len: u8,
    /// The block that the extent begins with, behind its attribute record.
    pub(crate) block: u64,
    pub(crate) size_bytes: u32,
    pub(crate) recorded: Option<Timestamp>,
    flags: u8,
    /// Not 0 where the file is interleaved with others.
    pub(crate) interleave: u8,
    pub(crate) volume_sequence_number: u16,
    pub(crate) name: Vec<u8>,
    /// Where the system use area lies, in bytes, and what is in it.
    pub(crate) system_use_at: u64,
    pub(crate) system_use: Vec<u8>,
}

impl Record {
    /// Takes apart the record at the start of `bytes`.
    pub(crate) fn parse(bytes: &Structure<'_>) -> Result<Self, Fault> {
        let len = bytes.u8(0)?;
        if len < LEAST_LEN {
            return Err(bytes.fault("directory record length", 0, LEAST_LEN, len));
        }
        let record = bytes.part("directory record", 0, len.into())?;
        let name_len = usize::from(record.u8(32)?);
        let name = record.slice(FIXED_LEN, name_len)?;
        // A name of even length is padded.
        let padded_len = if name_len.is_multiple_of(2) { name_len.saturating_add(1) } else { name_len };
        let system_use =
            record.rest("system use area", FIXED_LEN.saturating_add(padded_len).min(len.into()))?;
        Ok(Self {
            at: record.at(),
            len,
            block: u64::from(record.u32_le(2)?).saturating_add(record.u8(1)?.into()),
            size_bytes: record.u32_le(10)?,
            recorded: short_time(record.array(18)?),
            flags: record.u8(25)?,
            interleave: record.u8(26)? | record.u8(27)?,
            volume_sequence_number: record.u16_le(28)?,
            name: name.to_vec(),
            system_use_at: system_use.at(),
            system_use: system_use.bytes().to_vec(),
        })
    }

    pub(crate) fn is_directory(&self) -> bool {
        self.flags & DIRECTORY != 0
    }

    /// Whether it belongs to a file of the same name: a resource fork.
    pub(crate) fn is_associated(&self) -> bool {
        self.flags & ASSOCIATED != 0
    }

    /// Whether the file goes on in the next record.
    pub(crate) fn goes_on(&self) -> bool {
        self.flags & MULTI_EXTENT != 0
    }

    /// Whether it is the directory's own, or its parent's.
    pub(crate) fn is_dot(&self) -> bool {
        matches!(self.name[..], [0 | 1] | [])
    }
}

/// A time of seven bytes (section 9.1.5). `None` where it is not set.
pub(crate) fn short_time([year, month, day, hour, minute, second, quarters]: [u8; 7]) -> Option<Timestamp> {
    let year = i64::from(year).checked_add(1900)?;
    time([year, month.into(), day.into(), hour.into(), minute.into(), second.into()], quarters, 0)
}

/// A time of sixteen digits and a byte (section 8.4.26.1). `None` where it is not set.
pub(crate) fn long_time(bytes: [u8; 17]) -> Option<Timestamp> {
    let number = |from: usize, to: usize| -> Option<i64> {
        let digits = bytes.get(from..to)?;
        if !digits.iter().all(u8::is_ascii_digit) {
            return None;
        }
        std::str::from_utf8(digits).ok()?.parse().ok()
    };
    let fields =
        [number(0, 4)?, number(4, 6)?, number(6, 8)?, number(8, 10)?, number(10, 12)?, number(12, 14)?];
    let nanoseconds = u32::try_from(number(14, 16)?).ok()?.checked_mul(10_000_000)?;
    time(fields, *bytes.last()?, nanoseconds)
}

/// `quarters` are quarters of an hour east of Greenwich, with a sign; the kernel takes those that there are.
fn time(fields: [i64; 6], quarters: u8, nanoseconds: u32) -> Option<Timestamp> {
    let [year, month, day, hour, minute, second] = fields;
    let makes_sense =
        (1..=12).contains(&month) && (1..=31).contains(&day) && hour < 24 && minute < 60 && second < 60;
    if !makes_sense {
        return None;
    }
    let quarters = i64::from(i8::from_le_bytes([quarters]));
    let quarters = if (-52..=52).contains(&quarters) { quarters } else { 0 };
    let hours = days_since_1970(year, month, day)?.checked_mul(24)?.checked_add(hour)?;
    let minutes = hours.checked_mul(60)?.checked_add(minute)?.checked_sub(quarters.checked_mul(15)?)?;
    Some(Timestamp { seconds: minutes.checked_mul(60)?.checked_add(second)?, nanoseconds })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_of_utc() {
        // 2023-11-14 22:13:20, as `date -u -d @1700000000` has it.
        let at = |quarters| short_time([123, 11, 14, 22, 13, 20, quarters]).map(|time| time.seconds);
        assert_eq!(at(0), Some(1_700_000_000));
        assert_eq!(at(4), Some(1_700_000_000 - 3600));
        assert_eq!(at(256_u16.wrapping_sub(20).to_le_bytes()[0]), Some(1_700_000_000 + 20 * 900));
        assert_eq!(short_time([0; 7]), None);
        let long = long_time(*b"2023111422132099\x08").unwrap();
        assert_eq!((long.seconds, long.nanoseconds), (1_700_000_000 - 7200, 990_000_000));
        assert_eq!(long_time(*b"0000000000000000\0"), None);
        assert_eq!(long_time(*b"2023-11-14 22:13\0"), None);
    }
}

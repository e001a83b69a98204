//! SQLite's record format: sqlite.org/fileformat2.html, section 2.1.

use stillframe_bytes::Fault;
use stillframe_fs::FsError;

use super::super::blob::Blob;
use super::super::{length_of, offset_of};

/// The longest record header that is read: 5 columns need 6 to 46 bytes, and 14 are usual. The smallest part of a
/// record that lies on its page is 35 bytes, and a record is read forwards.
const MAX_HEADER_BYTES: usize = 32;

/// Reads a variable-length integer from the front of `bytes`: 7 bits a byte, highest first, the ninth byte whole. Gives
/// it with the length it has.
pub(super) fn varint(bytes: &[u8]) -> Option<(u64, usize)> {
    let mut value = 0_u64;
    for (index, byte) in bytes.iter().take(9).enumerate() {
        let len = index.saturating_add(1);
        if len == 9 {
            return Some((value << 8 | u64::from(*byte), len));
        }
        value = value << 7 | u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            return Some((value, len));
        }
    }
    None
}

/// What a column is, and where it lies in its record.
#[derive(Clone, Copy)]
pub(super) struct Column {
    serial_type: u64,
    pub(super) offset: u64,
    pub(super) len_bytes: u64,
}

impl Column {
    pub(super) const fn is_blob(&self) -> bool {
        self.serial_type >= 12 && self.serial_type.is_multiple_of(2)
    }

    pub(super) const fn is_text(&self) -> bool {
        self.serial_type >= 13 && !self.serial_type.is_multiple_of(2)
    }

    /// The number that the column's `bytes` are; `None` where it is no positive one.
    pub(super) fn number(&self, bytes: &[u8]) -> Option<u64> {
        match self.serial_type {
            8 => Some(0),
            9 => Some(1),
            1..=6 if bytes.first().is_some_and(|byte| byte & 0x80 == 0) => {
                Some(bytes.iter().fold(0, |value, byte| value << 8 | u64::from(*byte)))
            }
            _ => None,
        }
    }
}

/// Reads where the columns of a record lie, `at` bytes into the database.
pub(super) fn columns<const N: usize>(record: &mut impl Blob, at: u64) -> Result<[Column; N], FsError> {
    let fault = |found: usize| Fault::new("SQLite record header bytes", at, MAX_HEADER_BYTES, found);
    let mut header = [0; MAX_HEADER_BYTES];
    let (first, rest) = header.split_at_mut(1);
    record.read_exact(0, first)?;
    // A header longer than a one-byte length can say is longer than we read.
    let len = usize::from(first.first().copied().unwrap_or_default());
    record.read_exact(1, rest.get_mut(..len.saturating_sub(1)).ok_or_else(|| fault(len))?)?;
    let mut types = header.get(1..len).ok_or_else(|| fault(len))?;
    let mut offset = offset_of(len);
    let mut columns = [Column { serial_type: 0, offset: 0, len_bytes: 0 }; N];
    for column in &mut columns {
        let (serial_type, type_len) = varint(types).ok_or_else(|| fault(len))?;
        types = types.get(type_len..).unwrap_or_default();
        let len_bytes = match serial_type {
            number @ 0..=4 => number,
            5 => 6,
            6 | 7 => 8,
            8 | 9 => 0,
            10 | 11 => return Err(Fault::new("SQLite serial type", at, 9_u8, serial_type).into()),
            long => long.saturating_sub(12) / 2,
        };
        *column = Column { serial_type, offset, len_bytes };
        offset = offset.saturating_add(len_bytes);
        if offset > record.len_bytes() {
            return Err(Fault::new("SQLite record bytes", at, offset, record.len_bytes()).into());
        }
    }
    Ok(columns)
}

/// Reads a column of at most `N` bytes; `None` where it is longer.
pub(super) fn short_column<const N: usize>(
    record: &mut impl Blob,
    column: Column,
) -> Result<Option<Vec<u8>>, FsError> {
    let len = length_of(column.len_bytes);
    if len > N {
        return Ok(None);
    }
    let mut bytes = vec![0; len];
    record.read_exact(column.offset, &mut bytes)?;
    Ok(Some(bytes))
}

#[cfg(test)]
mod tests {
    use super::super::super::blob::Inline;
    use super::*;

    #[test]
    fn varints() {
        assert_eq!(varint(&[0x7f]), Some((127, 1)));
        assert_eq!(varint(&[0x81, 0x00, 0xff]), Some((128, 2)));
        assert_eq!(varint(&[0xff; 9]), Some((u64::MAX, 9)));
        assert_eq!(varint(&[0xff; 8]), None);
        assert_eq!(varint(&[]), None);
    }

    #[test]
    fn columns_lie_behind_the_header() {
        // NULL, the number 300, the text "ab", a blob of one byte, the number 1.
        let bytes = [6, 0, 2, 17, 14, 9, 0x01, 0x2c, b'a', b'b', 0xee];
        let mut record = Inline { at: 0, bytes: &bytes };
        let columns: [Column; 5] = columns(&mut record, 0).unwrap();
        assert_eq!(
            columns.map(|column| (column.offset, column.len_bytes)),
            [(6, 0), (6, 2), (8, 2), (10, 1), (11, 0)]
        );
        assert_eq!(columns[1].number(&[0x01, 0x2c]), Some(300));
        assert!(columns[2].is_text() && columns[3].is_blob());
        assert_eq!(columns[4].number(&[]), Some(1));
        assert_eq!(short_column::<2>(&mut record, columns[2]).unwrap().unwrap(), b"ab");
    }

    #[test]
    fn hostile_records_are_faults() {
        for bytes in [&[][..], &[0], &[1], &[2, 0x80], &[3, 0, 10], &[3, 0, 16], &[40, 0, 0], &[0x81, 0, 0]] {
            assert!(columns::<2>(&mut Inline { at: 0, bytes }, 0).is_err(), "{bytes:?}");
        }
    }
}

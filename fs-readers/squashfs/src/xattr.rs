//! Extended attributes (Squashfs Binary Format, "Xattr Table").

use stillframe_bytes::{Fault, Structure};
use stillframe_fs::{FsError, XATTR_BYTES_AT_MOST, XATTRS_AT_MOST, Xattr};

use crate::SquashfsReader;
use crate::lookup::LookupTable;
use crate::metadata::{Cursor, Position};

const ROW_BYTES: u32 = 16;
const HEADER_LEN: usize = 16;
/// Set in a type whose value lies elsewhere, since several files have it.
const OUT_OF_LINE: u16 = 0x100;

/// Where the attributes of a filesystem lie.
pub(crate) struct XattrTable {
    /// What keys and values are counted from.
    at: u64,
    rows: LookupTable,
}

impl XattrTable {
    pub(crate) fn read(fs: &SquashfsReader, table_at: u64) -> Result<Self, FsError> {
        let mut bytes = [0; HEADER_LEN];
        fs.source.read_exact_at(table_at, &mut bytes)?;
        let header = Structure::new("xattr table", table_at, &bytes);
        let list_at = table_at.saturating_add(u64::try_from(HEADER_LEN).unwrap_or(0));
        let rows = LookupTable::new("number of an xattr row", list_at, header.u32_le(8)?, ROW_BYTES);
        Ok(Self { at: header.u64_le(0)?, rows })
    }

    /// The attributes of row `number`.
    pub(crate) fn of_row(&self, fs: &SquashfsReader, number: u32) -> Result<Vec<Xattr>, FsError> {
        let row: [u8; 16] = self.rows.row(fs, number)?;
        let row = Structure::new("xattr row", self.at, &row);
        let count = usize::try_from(row.u32_le(8)?).unwrap_or(usize::MAX);
        if count > XATTRS_AT_MOST {
            return Err(limit("extended attributes of a file", XATTRS_AT_MOST));
        }
        let mut cursor = self.cursor(fs, row.u64_le(0)?);
        let mut left = XATTR_BYTES_AT_MOST;
        let mut xattrs = Vec::new();
        for _ in 0..count {
            let at = cursor.position().block_at;
            let key: [u8; 4] = cursor.array()?;
            let key = Structure::new("xattr key", at, &key);
            let kind = key.u16_le(0)?;
            let prefix: &[u8] = match kind & 0xFF {
                0 => b"user.",
                1 => b"trusted.",
                2 => b"security.",
                other => return Err(key.fault("xattr prefix", 0, 2_u8, other).into()),
            };
            let name_len = usize::from(key.u16_le(2)?);
            if name_len == 0 || name_len > 255 {
                return Err(key.fault("xattr name length", 2, 255_u8, name_len).into());
            }
            let name = [prefix, &cursor.bytes(name_len)?].concat();
            let value = if kind & OUT_OF_LINE == 0 {
                value(&mut cursor, &mut left)?
            } else {
                let mut reference_bytes = 8;
                let reference = value(&mut cursor, &mut reference_bytes)?;
                let reference =
                    reference.try_into().map_err(|_| Fault::new("xattr reference", at, 8_u8, "fewer"))?;
                value(&mut self.cursor(fs, u64::from_le_bytes(reference)), &mut left)?
            };
            xattrs.push(Xattr { name, value });
        }
        Ok(xattrs)
    }

    fn cursor<'f>(&self, fs: &'f SquashfsReader, reference: u64) -> Cursor<'f> {
        fs.metadata.cursor(Position::of_reference(self.at, reference), fs.superblock.bytes_used)
    }
}

/// Reads a value with its length, and takes that from what is `left`.
fn value(cursor: &mut Cursor<'_>, left: &mut usize) -> Result<Vec<u8>, FsError> {
    let len = usize::try_from(u32::from_le_bytes(cursor.array()?)).unwrap_or(usize::MAX);
    *left = left
        .checked_sub(len)
        .ok_or_else(|| limit("bytes of extended attributes of a file", XATTR_BYTES_AT_MOST))?;
    cursor.bytes(len)
}

fn limit(what: &'static str, cap: usize) -> FsError {
    FsError::Limit { what, cap: u64::try_from(cap).unwrap_or(u64::MAX) }
}

//! Directories: runs of up to 256 entries whose inodes lie in the same metadata block (Squashfs Binary Format,
//! "Directory Table").

use std::ops::ControlFlow;

use stillframe_bytes::{Fault, Structure};
use stillframe_fs::{DirEntry, FileId, FsError};

use crate::SquashfsReader;
use crate::inode::kind_of;
use crate::metadata::Position;

const HEADER_LEN: usize = 12;
const ENTRY_LEN: usize = 8;
/// Entries behind one header.
const RUN_CAP: u32 = 256;

/// Visits the entries of the listing at `position`.
pub(crate) fn read(
    fs: &SquashfsReader,
    position: Position,
    listing_bytes: u32,
    visit: &mut dyn FnMut(DirEntry<'_>) -> ControlFlow<()>,
) -> Result<(), FsError> {
    let mut first_fault = None;
    let mut left = usize::try_from(listing_bytes).unwrap_or(usize::MAX);
    let mut cursor = fs.metadata.cursor(position, fs.superblock.bytes_used);
    while left > 0 {
        let at = cursor.position().block_at;
        let header: [u8; HEADER_LEN] = cursor.array()?;
        left = counted(left, HEADER_LEN, at)?;
        let header = Structure::new("directory header", at, &header);
        // The count is one less than there are.
        let (count, start) = (header.u32_le(0)?.saturating_add(1), header.u32_le(4)?);
        if count > RUN_CAP {
            return Err(header.fault("directory entries of a run", 0, RUN_CAP, count).into());
        }
        for _ in 0..count {
            let at = cursor.position().block_at;
            let entry: [u8; ENTRY_LEN] = cursor.array()?;
            let entry = Structure::new("directory entry", at, &entry);
            let name_len = usize::from(entry.u16_le(6)?).saturating_add(1);
            left = counted(left, ENTRY_LEN.saturating_add(name_len), at)?;
            if name_len > 256 {
                return Err(entry.fault("file name length", 6, 256_u32, name_len).into());
            }
            let name = cursor.bytes(name_len)?;
            if name.iter().any(|byte| matches!(byte, b'/' | 0)) || matches!(&name[..], b"." | b"..") {
                first_fault.get_or_insert(entry.fault("file name", 8, "no separator, NUL or ..", "one"));
                continue;
            }
            let id = FileId::new((u64::from(start) << 16) | u64::from(entry.u16_le(0)?));
            if visit(DirEntry { name: &name, id, kind: kind_of(entry.u16_le(4)?) }).is_break() {
                return Ok(());
            }
        }
    }
    first_fault.map_or(Ok(()), |fault| Err(fault.into()))
}

/// What is left of a listing behind `len` bytes of it.
fn counted(left: usize, len: usize, at: u64) -> Result<usize, Fault> {
    left.checked_sub(len).ok_or_else(|| Fault::new("directory listing in bytes", at, left, len))
}

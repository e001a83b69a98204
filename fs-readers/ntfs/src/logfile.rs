//! $LogFile: whether the volume was in use when the picture was taken.
//!
//! Only the restart pages are read: libyal's libfsntfs documentation, "Transaction journal". The log is not replayed.

use stillframe_bytes::{Fault, Structure};
use stillframe_fs::{FsError, read_full};

use crate::attribute::Kind;
use crate::content;
use crate::record::{FileRecord, Scope, UNNAMED};
use crate::volume::{Volume, fix_up};

const LOG_FILE: u64 = 2;
/// NTFS has always used this system page size.
const PAGE_LEN: usize = 4096;
const PAGE_BYTES: u64 = 4096;
const NO_CLIENT: u16 = 0xFFFF;
const VOLUME_IS_CLEAN: u16 = 0x2;

/// Whether a client has the log open: Windows marks the volume clean in it when it unmounts it. Of the two restart pages
/// the one that was written last counts.
pub(crate) fn in_use(volume: &Volume) -> Result<bool, FsError> {
    let record = FileRecord::load(volume, LOG_FILE, Scope::Whole)?;
    let Some(stream) = record.stream(volume, Kind::DATA, UNNAMED)? else { return Ok(false) };
    let at = stream.at;
    let mut log = content::open(volume, stream)?;
    let mut last = None;
    for page_at in [0, PAGE_BYTES] {
        let mut page = [0; PAGE_LEN];
        read_full(&mut log, page_at, &mut page)?;
        // A log that was never used, or was emptied, is all ones. One page may be cut off in the middle of a write.
        if page.starts_with(b"RSTR") && fix_up("log restart page", at, &mut page).is_ok() {
            last = last.max(Some(restart(&Structure::new("log restart page", at, &page))?));
        }
    }
    Ok(last.is_some_and(|(_, in_use)| in_use))
}

/// The restart area's log sequence number, and whether the volume was in use then.
fn restart(page: &Structure<'_>) -> Result<(u64, bool), Fault> {
    let area = page.rest("log restart area", usize::from(page.u16_le(0x18)?))?;
    let in_use = area.u16_le(0x0C)? != NO_CLIENT && area.u16_le(0x0E)? & VOLUME_IS_CLEAN == 0;
    Ok((area.u64_le(0)?, in_use))
}

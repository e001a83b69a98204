//! Every filesystem reader. A new one gets its line in [`open`]; the compiler asks for it once the probe knows its kind.

use std::sync::Arc;

use stillframe_block::BlockSource;
use stillframe_fs::{FsError, ReadOnlyFs};
use stillframe_probe::FsKind;

/// Opens the filesystem of `kind` on `volume`.
///
/// # Errors
/// What its reader fails with; [`FsError::Unsupported`] for a kind that has none.
pub fn open(kind: FsKind, volume: Arc<dyn BlockSource>) -> Result<Box<dyn ReadOnlyFs>, FsError> {
    match kind {
        FsKind::Ext => stillframe_ext::open(volume),
        FsKind::Xfs => stillframe_xfs::open(volume),
        FsKind::Btrfs => stillframe_btrfs::open(volume),
        FsKind::Ntfs => stillframe_ntfs::open(volume),
        FsKind::Fat => stillframe_fat::open(volume),
        FsKind::ExFat => stillframe_exfat::open(volume),
        FsKind::Squashfs => stillframe_squashfs::open(volume),
        FsKind::Iso9660 => stillframe_iso9660::open(volume),
    }
}

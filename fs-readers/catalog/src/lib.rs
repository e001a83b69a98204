//! Every filesystem reader. A new one gets its line in [`open`]; the compiler asks for it once the probe knows its kind.

use std::sync::Arc;

use stillframe_block::BlockSource;
use stillframe_fs::{FsError, ReadOnlyFs};
use stillframe_probe::FsKind;

/// A device of a filesystem that may lie on several.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Device {
    /// Which filesystem: its UUID.
    pub filesystem: [u8; 16],
    /// Which of its devices.
    pub number: u64,
    /// How many devices it has.
    pub devices: u64,
}

/// What the volume says of itself as a device of a filesystem of `kind`; `None` for kinds that lie on one device.
///
/// # Errors
/// What the reader fails with; opening the volume fails with the same.
pub fn device(kind: FsKind, volume: &dyn BlockSource) -> Result<Option<Device>, FsError> {
    match kind {
        FsKind::Btrfs => {
            let stillframe_btrfs::Device { filesystem, number, devices, .. } =
                stillframe_btrfs::device(volume)?;
            Ok(Some(Device { filesystem, number, devices }))
        }
        _ => Ok(None),
    }
}

/// Opens the filesystem of `kind` that lies on `first`, and on `more` where it has several devices.
///
/// # Errors
/// As [`open`].
pub fn open_devices(
    kind: FsKind,
    first: Arc<dyn BlockSource>,
    more: Vec<Arc<dyn BlockSource>>,
) -> Result<Box<dyn ReadOnlyFs>, FsError> {
    if kind == FsKind::Btrfs && !more.is_empty() {
        let mut devices = vec![first];
        devices.extend(more);
        return stillframe_btrfs::open_devices(devices);
    }
    open(kind, first)
}

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

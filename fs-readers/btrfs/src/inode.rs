//! Inodes (On-disk format, "Inode item").

use stillframe_bytes::{Fault, Structure};
use stillframe_fs::{FileFlags, FileKind, FsError, Metadata, Timestamp};

use crate::node::{INODE_ITEM, Key};
use crate::store::Store;
use crate::view::View;

/// `flags`: the content has no checksums.
const FLAG_NO_CHECKSUMS: u64 = 1 << 0;
/// `flags`: it is not to be compressed, whatever the next bit says.
const FLAG_NOT_COMPRESSED: u64 = 1 << 3;
const FLAG_COMPRESSED: u64 = 1 << 11;
/// What `lsattr` has no word for in [`FileFlags`]: `m`, not compressed; `D`, a directory written synchronously; `V`,
/// sealed by fs-verity.
const SHOWN_NOT_COMPRESSED: FileFlags = FileFlags(0x400);
const SHOWN_SYNCHRONOUS_DIRECTORY: FileFlags = FileFlags(0x1_0000);
const SHOWN_VERITY: FileFlags = FileFlags(0x10_0000);
/// Bits of `flags`, the read-only ones in its upper half, and what `FS_IOC_GETFLAGS` shows of them.
const SHOWN: [(u64, FileFlags); 8] = [
    (1 << 1, FileFlags::NO_COPY_ON_WRITE),
    (1 << 5, FileFlags::SYNCHRONOUS),
    (1 << 6, FileFlags::IMMUTABLE),
    (1 << 7, FileFlags::APPEND_ONLY),
    (1 << 8, FileFlags::NO_DUMP),
    (1 << 9, FileFlags::NO_ACCESS_TIME),
    (1 << 10, SHOWN_SYNCHRONOUS_DIRECTORY),
    (1 << 32, SHOWN_VERITY),
];

/// The fields of an inode item that are used.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Inode {
    pub(crate) number: u64,
    pub(crate) size_bytes: u64,
    pub(crate) mode: u32,
    pub(crate) has_checksums: bool,
    uid: u32,
    gid: u32,
    links: u32,
    flags: u64,
    changed: Timestamp,
    modified: Timestamp,
}

impl Inode {
    pub(crate) fn read(store: &Store, view: View<'_>, number: u64) -> Result<Self, FsError> {
        let found = view.find(store, Key::new(number, INODE_ITEM, 0))?;
        let Some((_, item)) = found.as_ref().and_then(|items| items.item()) else {
            return Err(FsError::NotFound);
        };
        let size_bytes = item.u64_le(16)?;
        if i64::try_from(size_bytes).is_err() {
            return Err(item.fault("inode size", 16, "at most 8 EiB", size_bytes).into());
        }
        let flags = item.u64_le(64)?;
        Ok(Self {
            number,
            size_bytes,
            mode: item.u32_le(52)?,
            has_checksums: flags & FLAG_NO_CHECKSUMS == 0,
            uid: item.u32_le(44)?,
            gid: item.u32_le(48)?,
            links: item.u32_le(40)?,
            flags,
            changed: time(&item, 124)?,
            modified: time(&item, 136)?,
        })
    }

    pub(crate) fn kind(&self) -> FileKind {
        FileKind::from_mode(self.mode)
    }

    /// Fails unless this is a file of `kind`.
    pub(crate) fn expect(self, kind: FileKind, otherwise: FsError) -> Result<Self, FsError> {
        if self.kind() == kind { Ok(self) } else { Err(otherwise) }
    }

    pub(crate) fn metadata(&self) -> Metadata {
        Metadata {
            kind: self.kind(),
            size_bytes: self.size_bytes,
            mode: Some(self.mode),
            uid: Some(self.uid),
            gid: Some(self.gid),
            modified: Some(self.modified),
            changed: Some(self.changed),
            links: Some(self.links),
            flags: Some(shown(self.flags)),
            encrypted: false,
        }
    }
}

fn time(item: &Structure<'_>, at: usize) -> Result<Timestamp, Fault> {
    let nanoseconds = item.u32_le(at.saturating_add(8))?.min(999_999_999);
    Ok(Timestamp { seconds: item.i64_le(at)?, nanoseconds })
}

/// What `lsattr` shows of an inode's flags.
fn shown(flags: u64) -> FileFlags {
    let compression = match (flags & FLAG_NOT_COMPRESSED != 0, flags & FLAG_COMPRESSED != 0) {
        (true, _) => SHOWN_NOT_COMPRESSED,
        (false, true) => FileFlags::COMPRESSED,
        (false, false) => FileFlags::default(),
    };
    let set = SHOWN.iter().filter(|(bit, _)| flags & bit != 0);
    set.fold(compression, |all, (_, shown)| all.and(*shown))
}

//! Inodes (On-disk format, "Inode item").

use stillframe_fs::{FileKind, FsError, Metadata, Timestamp};

use crate::node::{INODE_ITEM, Key};
use crate::store::Store;
use crate::superblock::Tree;
use crate::tree::Cursor;

/// `flags`: the content has no checksums.
const FLAG_NO_CHECKSUMS: u64 = 1 << 0;

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
    modified: Timestamp,
}

impl Inode {
    pub(crate) fn read(store: &Store, tree: Tree, number: u64) -> Result<Self, FsError> {
        let key = Key::new(number, INODE_ITEM, 0);
        let cursor = Cursor::seek(store, tree, key)?;
        let Some((_, item)) = cursor.item().filter(|(found, _)| *found == key) else {
            return Err(FsError::NotFound);
        };
        let size_bytes = item.u64_le(16)?;
        if i64::try_from(size_bytes).is_err() {
            return Err(item.fault("inode size", 16, "at most 8 EiB", size_bytes).into());
        }
        Ok(Self {
            number,
            size_bytes,
            mode: item.u32_le(52)?,
            has_checksums: item.u64_le(64)? & FLAG_NO_CHECKSUMS == 0,
            uid: item.u32_le(44)?,
            gid: item.u32_le(48)?,
            links: item.u32_le(40)?,
            modified: Timestamp {
                seconds: item.i64_le(136)?,
                nanoseconds: item.u32_le(144)?.min(999_999_999),
            },
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
            changed: None,
            links: Some(self.links),
            flags: None,
            encrypted: false,
        }
    }
}

//! btrfs on one device.
//!
//! Written from the on-disk format (btrfs-progs, `Documentation/dev/On-disk-format.rst`). Checksums of nodes and of data
//! are checked, and where a copy fails (DUP) the other is read. Subvolumes are entered where they are linked, from the
//! top-level subvolume down; a [`FileId`] is the subvolume and the inode number. Compressed extents (zlib, LZO, zstd)
//! are read. Addresses in faults are logical ones.
//!
//! Not supported, and refused by name: filesystems of which a part lies on other devices only, zoned ones, BLAKE2b
//! checksums, and the features that `superblock` lists. Extended attributes are not read. The log tree, which holds what
//! was synced since the last commit, is not applied: [`ReadOnlyFs::faults`] says so.

mod checksum;
mod chunks;
mod compression;
mod directory;
mod extent;
mod file;
mod inode;
mod lzo;
mod node;
mod store;
mod subvolumes;
mod superblock;
mod tree;

use std::ops::ControlFlow;
use std::sync::Arc;

use stillframe_block::BlockSource;
use stillframe_bytes::Fault;
use stillframe_fs::{DirEntry, FileContent, FileId, FileKind, FsDescription, FsError, Metadata, ReadOnlyFs};

use crate::directory::{EMPTY_DIRECTORY, ROOT_DIRECTORY};
use crate::file::BtrfsFile;
use crate::inode::Inode;
use crate::store::Store;
use crate::subvolumes::{CHECKSUM_TREE, Subvolumes, TOP_LEVEL};
use crate::superblock::{Superblock, Tree};

/// The longest target of a symbolic link that the kernel makes.
const MAX_TARGET_BYTES: u64 = 4096;

/// Opens the btrfs filesystem on `volume`.
///
/// # Errors
/// [`FsError::Corrupt`] where superblock, chunk tree or root tree are damaged, [`FsError::Unsupported`] for what the
/// module's header names, [`FsError::Read`] where the source fails.
pub fn open(volume: Arc<dyn BlockSource>) -> Result<Box<dyn ReadOnlyFs>, FsError> {
    let superblock = Superblock::read(&volume)?;
    let store = Store::open(volume, superblock)?;
    let subvolumes = Subvolumes::default();
    // Found now, so that a filesystem without them is refused and not listed as empty.
    subvolumes.tree(&store, TOP_LEVEL)?;
    let checksum_tree = match subvolumes.tree(&store, CHECKSUM_TREE) {
        Ok(tree) => Some(tree),
        Err(error) if error.is_final() => return Err(error),
        Err(_) => None,
    };
    Ok(Box::new(BtrfsFs { description: describe(&store.superblock), store, subvolumes, checksum_tree }))
}

struct BtrfsFs {
    description: FsDescription,
    store: Store,
    subvolumes: Subvolumes,
    /// `None` where it is damaged: files that need it cannot be read.
    checksum_tree: Option<Tree>,
}

fn describe(superblock: &Superblock) -> FsDescription {
    let mut notes = Vec::new();
    if superblock.has_log_tree {
        notes.push("log tree not applied: files synced since the last commit may be missing");
    }
    if superblock.damage.is_some() {
        notes.push("read by a copy of the superblock");
    }
    FsDescription {
        kind: "btrfs",
        label: (!superblock.label.is_empty()).then(|| superblock.label.clone()),
        uuid: Some(superblock.uuid_text()),
        size_bytes: superblock.total_bytes,
        dirty: Some(superblock.has_log_tree),
        reader: "stillframe-btrfs",
        hidden: Vec::new(),
        notes,
    }
}

impl BtrfsFs {
    fn inode(&self, file: FileId) -> Result<(Tree, Inode), FsError> {
        let tree = self.subvolumes.tree(&self.store, file.tree)?;
        Ok((tree, Inode::read(&self.store, tree, file.number)?))
    }

    fn file(&self, tree: Tree, inode: Inode) -> Result<BtrfsFile<'_>, FsError> {
        let checksums = match (inode.has_checksums, self.checksum_tree) {
            (false, _) => None,
            (true, Some(checksums)) => Some(checksums),
            (true, None) => {
                return Err(Fault::new("checksum tree", inode.number, "a tree", "none").into());
            }
        };
        Ok(BtrfsFile::new(&self.store, tree, checksums, inode))
    }
}

/// An entry without a subvolume behind it, as the kernel shows it.
fn empty_directory() -> Metadata {
    Metadata {
        kind: FileKind::Directory,
        size_bytes: 0,
        mode: Some(0o040_755),
        uid: Some(0),
        gid: Some(0),
        modified: None,
        changed: None,
        links: Some(1),
        flags: None,
        encrypted: false,
    }
}

impl ReadOnlyFs for BtrfsFs {
    fn description(&self) -> &FsDescription {
        &self.description
    }

    fn root(&self) -> FileId {
        FileId { tree: TOP_LEVEL, number: ROOT_DIRECTORY }
    }

    fn read_dir(
        &self,
        directory: FileId,
        visit: &mut dyn FnMut(DirEntry<'_>) -> ControlFlow<()>,
    ) -> Result<(), FsError> {
        if directory.number == EMPTY_DIRECTORY {
            return Ok(());
        }
        let (tree, inode) = self.inode(directory)?;
        inode.expect(FileKind::Directory, FsError::NotADirectory)?;
        directory::read(&self.store, tree, directory, visit)
    }

    fn metadata(&self, file: FileId) -> Result<Metadata, FsError> {
        if file.number == EMPTY_DIRECTORY {
            return Ok(empty_directory());
        }
        Ok(self.inode(file)?.1.metadata())
    }

    fn open(&self, file: FileId) -> Result<Box<dyn FileContent + '_>, FsError> {
        let (tree, inode) = self.inode(file)?;
        let inode = inode.expect(FileKind::File, FsError::NotAFile)?;
        Ok(Box::new(self.file(tree, inode)?))
    }

    fn read_link(&self, link: FileId) -> Result<Vec<u8>, FsError> {
        let (tree, inode) = self.inode(link)?;
        let not_a_link = Fault::new("inode mode", inode.number, "a symbolic link", "another kind of file");
        let inode = inode.expect(FileKind::Symlink, not_a_link.into())?;
        if inode.size_bytes == 0 || inode.size_bytes > MAX_TARGET_BYTES {
            let found = inode.size_bytes;
            return Err(Fault::new("symbolic link length", inode.number, MAX_TARGET_BYTES, found).into());
        }
        let mut target = vec![0; to_usize(inode.size_bytes)];
        self.file(tree, inode)?.read_at(0, &mut target)?;
        Ok(target)
    }

    fn faults(&self) -> Vec<Fault> {
        let superblock = &self.store.superblock;
        let mut faults: Vec<Fault> = superblock.damage.into_iter().collect();
        if superblock.has_log_tree {
            faults.push(Fault::new("log tree", 0, "replayed", "not applied"));
        }
        if self.store.len_bytes() < superblock.device_bytes {
            faults.push(Fault::new("volume length", 0, superblock.device_bytes, self.store.len_bytes()));
        }
        if self.store.bad_copies() > 0 {
            faults.push(Fault::new("copies with a bad checksum", 0, 0_u8, self.store.bad_copies()));
        }
        faults
    }
}

/// A length as the type that slices want; what does not fit is past every slice's end.
fn to_usize(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// A length as the type that offsets have.
fn to_u64(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

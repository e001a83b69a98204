//! btrfs on one or several devices.
//!
//! Written from the on-disk format (btrfs-progs, `Documentation/dev/On-disk-format.rst`). Checksums of nodes and of data
//! are checked, and where a copy fails the others are read, or what is lost is made of the parities (RAID5, RAID6). So a
//! device may be missing where the profile allows it; else what lies on it is a named error of each file. Devices that
//! missed transactions are told, and believed only where a checksum speaks for them. Subvolumes are entered where they are
//! linked, from the top-level subvolume down; a [`FileId`] is the subvolume and the inode number. Compressed extents (zlib,
//! LZO, zstd) are read. What was synced since the last commit is replayed from the log trees, in memory. Addresses in
//! faults are logical ones.
//!
//! Not supported, and refused by name: seed devices, zoned filesystems, and the features that `superblock` lists.

mod attributes;
mod checksum;
mod checksums;
mod chunks;
mod compression;
mod devices;
mod directory;
mod extent;
mod file;
mod inode;
mod log;
mod lzo;
mod node;
mod nodes;
mod parity;
mod store;
mod subvolume_path;
mod subvolumes;
mod superblock;
mod tree;
mod view;

use std::ops::ControlFlow;
use std::sync::Arc;

use stillframe_block::BlockSource;
use stillframe_bytes::Fault;
use stillframe_fs::{
    DirEntry, Extent, FileContent, FileFlags, FileId, FileKind, FsDescription, FsError, Metadata, ReadOnlyFs,
    Xattr, in_reading_order,
};

use crate::checksums::Checksums;
pub use crate::devices::Device;
use crate::directory::{EMPTY_DIRECTORY, ROOT_DIRECTORY};
use crate::file::BtrfsFile;
use crate::inode::Inode;
use crate::log::Logs;
use crate::node::{INODE_ITEM, Key};
use crate::store::Store;
use crate::subvolumes::{CHECKSUM_TREE, Subvolumes, TOP_LEVEL};
use crate::superblock::{Superblock, Tree};
use crate::view::View;

/// The longest target of a symbolic link that the kernel makes.
const MAX_TARGET_BYTES: u64 = 4096;

/// Opens the btrfs filesystem on `volume`, its only device.
///
/// # Errors
/// As [`open_devices`].
pub fn open(volume: Arc<dyn BlockSource>) -> Result<Box<dyn ReadOnlyFs>, FsError> {
    open_devices(vec![volume])
}

/// What filesystem `volume` is a device of, so that all its devices can be found before it is opened.
///
/// # Errors
/// [`FsError::Corrupt`] where no superblock is whole, [`FsError::Unsupported`] for the features that are refused,
/// [`FsError::Read`] where the source fails.
pub fn device(volume: &dyn BlockSource) -> Result<Device, FsError> {
    Ok(Device::of(&Superblock::read(volume)?))
}

/// Opens the btrfs filesystem that lies on `devices`, given in any order; some may be missing. The newest superblock says
/// where everything is. [`Extent::device`] is a device's place in `devices`.
///
/// # Errors
/// [`FsError::Corrupt`] where superblock, chunk tree or root tree are damaged, lie on a missing device, or the devices are
/// not of one filesystem; [`FsError::Unsupported`] for what the module's header names; [`FsError::Read`] where a source
/// fails.
pub fn open_devices(devices: Vec<Arc<dyn BlockSource>>) -> Result<Box<dyn ReadOnlyFs>, FsError> {
    let store = Store::open(devices)?;
    let subvolumes = Subvolumes::default();
    // Found now, so that a filesystem without them is refused and not listed as empty.
    subvolumes.tree(&store, TOP_LEVEL)?;
    let checksum_tree = match subvolumes.tree(&store, CHECKSUM_TREE) {
        Ok(tree) => Some(tree),
        Err(error) if error.is_final() => return Err(error),
        Err(_) => None,
    };
    let mut faults = store.devices.faults.clone();
    let default_subvolume = match subvolumes::default(&store) {
        Err(error) if error.is_final() => return Err(error),
        Err(FsError::Corrupt(fault)) => {
            faults.push(fault);
            TOP_LEVEL
        }
        other => other.unwrap_or(TOP_LEVEL),
    };
    let logs = Logs::replay(&store, &subvolumes)?;
    faults.extend(&logs.faults);
    let description = describe(&store, &logs, default_subvolume);
    Ok(Box::new(BtrfsFs { description, store, subvolumes, checksum_tree, default_subvolume, logs, faults }))
}

struct BtrfsFs {
    description: FsDescription,
    store: Store,
    subvolumes: Subvolumes,
    /// `None` where it is damaged: files that need it cannot be read.
    checksum_tree: Option<Tree>,
    default_subvolume: u64,
    logs: Logs,
    faults: Vec<Fault>,
}

fn describe(store: &Store, logs: &Logs, default_subvolume: u64) -> FsDescription {
    let superblock = &store.superblock;
    let mut notes = Vec::new();
    match (superblock.log_tree.is_some(), logs.are_whole) {
        (false, _) => {}
        (true, true) => notes.push("log tree replayed"),
        (true, false) => {
            notes.push("log tree not applied: files synced since the last commit may be missing")
        }
    }
    match (superblock.damage.is_some(), superblock.log_tree.is_some()) {
        (false, _) => {}
        // The kernel writes the log tree's root to the first superblock only.
        (true, false) => notes.push("read by a copy of the superblock, which knows no log tree"),
        (true, true) => notes.push("read by a copy of the superblock"),
    }
    if store.devices.sources.len() > 1 {
        notes.push("read from several devices");
    }
    match (store.devices.missing, superblock.device_count) {
        (0, _) => {}
        (1, 2) => notes.push("one of 2 devices is missing"),
        (1, 3) => notes.push("one of 3 devices is missing"),
        (1, 4) => notes.push("one of 4 devices is missing"),
        (1, _) => notes.push("one of its devices is missing"),
        _ => notes.push("several of its devices are missing"),
    }
    if default_subvolume != TOP_LEVEL {
        notes.push("another subvolume than the top level is mounted by default");
    }
    FsDescription {
        kind: "btrfs",
        label: (!superblock.label.is_empty()).then(|| superblock.label.clone()),
        uuid: Some(superblock.uuid_text()),
        size_bytes: superblock.total_bytes,
        dirty: Some(superblock.log_tree.is_some()),
        reader: "stillframe-btrfs",
        hidden: Vec::new(),
        notes,
    }
}

impl BtrfsFs {
    /// A subvolume as it is after its log was replayed.
    fn view(&self, subvolume: u64) -> Result<View<'_>, FsError> {
        let tree = self.subvolumes.tree(&self.store, subvolume)?;
        Ok(View { tree, changes: self.logs.logs.get(&subvolume).map(|log| &log.changes) })
    }

    fn inode(&self, file: FileId) -> Result<(View<'_>, Inode), FsError> {
        let view = self.view(file.tree)?;
        Ok((view, Inode::read(&self.store, view, file.number)?))
    }

    fn file<'a>(&'a self, subvolume: u64, view: View<'a>, inode: Inode) -> Result<BtrfsFile<'a>, FsError> {
        let log = self.logs.logs.get(&subvolume).map(|log| log.tree);
        let checksums = match (inode.has_checksums, self.checksum_tree) {
            (false, _) => None,
            (true, Some(tree)) => Some(Checksums::new(&self.store, tree, log)),
            (true, None) => {
                return Err(Fault::new("checksum tree", inode.number, "a tree", "none").into());
            }
        };
        Ok(BtrfsFile::new(&self.store, view, checksums, inode))
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
        flags: Some(FileFlags::default()),
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
        let (view, inode) = self.inode(directory)?;
        inode.expect(FileKind::Directory, FsError::NotADirectory)?;
        directory::read(&self.store, view, directory, visit)
    }

    fn metadata(&self, file: FileId) -> Result<Metadata, FsError> {
        if file.number == EMPTY_DIRECTORY {
            return Ok(empty_directory());
        }
        Ok(self.inode(file)?.1.metadata())
    }

    fn default_root(&self) -> FileId {
        FileId { tree: self.default_subvolume, number: ROOT_DIRECTORY }
    }

    fn subvolume_path(&self, number: u64) -> Result<Option<Vec<u8>>, FsError> {
        match subvolume_path::path(&self.store, &self.subvolumes, number) {
            Ok(path) => Ok(Some(path)),
            Err(FsError::NotFound) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn will_ask(&self, files: &[FileId]) {
        if !self.store.wants_hints() {
            return;
        }
        let mut extents = Vec::new();
        for file in files.iter().filter(|file| file.number != EMPTY_DIRECTORY) {
            // A subvolume that was not entered yet is found then.
            if let Some(tree) = self.subvolumes.known(file.tree) {
                let key = Key::new(file.number, INODE_ITEM, 0);
                self.store.add_nodes(&mut extents, tree, (key, key), 1);
            }
        }
        self.store.prefetch(&in_reading_order(extents));
    }

    fn wants_hints(&self) -> bool {
        self.store.wants_hints()
    }

    fn prefetch(&self, extents: &[Extent]) {
        self.store.prefetch(extents);
    }

    fn xattrs(&self, file: FileId) -> Result<Vec<Xattr>, FsError> {
        if file.number == EMPTY_DIRECTORY {
            return Ok(Vec::new());
        }
        let (view, inode) = self.inode(file)?;
        attributes::read(&self.store, view, inode.number)
    }

    fn open(&self, file: FileId) -> Result<Box<dyn FileContent + '_>, FsError> {
        let (view, inode) = self.inode(file)?;
        let inode = inode.expect(FileKind::File, FsError::NotAFile)?;
        Ok(Box::new(self.file(file.tree, view, inode)?))
    }

    fn read_link(&self, link: FileId) -> Result<Vec<u8>, FsError> {
        let (view, inode) = self.inode(link)?;
        let not_a_link = Fault::new("inode mode", inode.number, "a symbolic link", "another kind of file");
        let inode = inode.expect(FileKind::Symlink, not_a_link.into())?;
        if inode.size_bytes == 0 || inode.size_bytes > MAX_TARGET_BYTES {
            let found = inode.size_bytes;
            return Err(Fault::new("symbolic link length", inode.number, MAX_TARGET_BYTES, found).into());
        }
        let mut target = vec![0; to_usize(inode.size_bytes)];
        self.file(link.tree, view, inode)?.read_at(0, &mut target)?;
        Ok(target)
    }

    fn faults(&self) -> Vec<Fault> {
        let mut faults = self.faults.clone();
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

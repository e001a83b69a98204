//! XFS, versions 4 and 5.
//!
//! Written from "XFS Algorithms & Data Structures" (xfs-documentation, `design/XFS_Filesystem_Structure`). Checksums,
//! owners and UUIDs of all metadata that has them are checked. A log that holds changes is replayed in memory before
//! anything else is read, so what is served is what a mount would show.
//!
//! Not supported, and refused by name: realtime devices and files, external logs, filesystems that need repair, names that ignore case, version 1 directories.

mod attributes;
mod changes;
mod checksum;
mod directory;
mod extents;
mod groups;
mod inode;
mod log;
mod superblock;
mod symlink;
mod volume;

use std::ops::{ControlFlow, Range};
use std::sync::Arc;

use stillframe_block::{BLOCK_BYTES, BlockSource};
use stillframe_bytes::Fault;
use stillframe_fs::{
    DirEntry, Extent as Place, FileContent, FileId, FileKind, FsDescription, FsError, Metadata, ReadOnlyFs,
    Xattr, prefetch_on,
};

use crate::extents::Extent;
use crate::inode::Inode;
use crate::superblock::Superblock;
use crate::volume::{LogEnd, Volume, to_u64, to_usize};

/// Opens the XFS filesystem on `volume`, replaying its log in memory where it holds changes.
///
/// # Errors
/// [`FsError::Corrupt`] where the superblock is damaged, [`FsError::Unsupported`] for what the module's header names,
/// [`FsError::Read`] where the source fails.
pub fn open(volume: Arc<dyn BlockSource>) -> Result<Box<dyn ReadOnlyFs>, FsError> {
    let on_disk = Superblock::read(&volume)?;
    let recovered = log::recover(&volume, &on_disk)?;
    groups::check(&volume, &on_disk, recovered.head)?;
    let was_dirty = recovered.changes.is_some();
    let log_end = on_disk.has_checksums.then_some(LogEnd {
        sequence_number: recovered.head,
        inode_bytes: on_disk.inode_bytes,
        uuid: on_disk.metadata_uuid,
    });
    let volume = Volume::new(volume, recovered.changes, log_end);
    // The log may hold a superblock too: a filesystem that has just been grown.
    let superblock = if was_dirty {
        let mut sector = vec![0; to_usize(on_disk.sector_bytes)];
        volume.read(0, &mut sector)?;
        Superblock::parse(&sector)?
    } else {
        on_disk
    };
    Ok(Box::new(XfsFs {
        description: describe(&superblock, was_dirty),
        superblock,
        volume,
        doubt: recovered.doubt,
    }))
}

struct XfsFs {
    description: FsDescription,
    superblock: Superblock,
    volume: Volume,
    /// Of the log's end.
    doubt: Option<Fault>,
}

fn describe(superblock: &Superblock, was_dirty: bool) -> FsDescription {
    FsDescription {
        kind: "xfs",
        label: (!superblock.label.is_empty()).then(|| superblock.label.clone()),
        uuid: Some(superblock.uuid_text()),
        size_bytes: superblock.len_bytes(),
        dirty: Some(was_dirty),
        reader: "stillframe-xfs",
        hidden: Vec::new(),
        notes: if was_dirty { vec!["log replayed"] } else { Vec::new() },
    }
}

impl XfsFs {
    fn inode(&self, file: FileId) -> Result<Inode, FsError> {
        if file.tree != 0 {
            return Err(FsError::NotFound);
        }
        Inode::read(&self.volume, &self.superblock, file.number)
    }
}

impl ReadOnlyFs for XfsFs {
    fn description(&self) -> &FsDescription {
        &self.description
    }

    fn root(&self) -> FileId {
        FileId::new(self.superblock.root_inode)
    }

    fn read_dir(
        &self,
        directory: FileId,
        visit: &mut dyn FnMut(DirEntry<'_>) -> ControlFlow<()>,
    ) -> Result<(), FsError> {
        let inode = self.inode(directory)?;
        if inode.kind() != FileKind::Directory {
            return Err(FsError::NotADirectory);
        }
        directory::read(&self.volume, &self.superblock, &inode, visit)
    }

    fn metadata(&self, file: FileId) -> Result<Metadata, FsError> {
        let inode = self.inode(file)?;
        Ok(Metadata {
            kind: inode.kind(),
            size_bytes: inode.size_bytes,
            mode: Some(inode.mode.into()),
            uid: Some(inode.uid),
            gid: Some(inode.gid),
            modified: Some(inode.modified),
            changed: Some(inode.changed),
            links: Some(inode.links),
            flags: Some(inode.flags),
            encrypted: false,
        })
    }

    fn will_ask(&self, files: &[FileId]) {
        let inode_bytes = to_u64(self.superblock.inode_bytes);
        let place = |file: &FileId| {
            let at = self.superblock.inode_offset(file.number)?;
            Some(at..at.checked_add(inode_bytes)?)
        };
        let mut places: Vec<Range<u64>> = files.iter().filter_map(place).collect();
        places.sort_unstable_by_key(|place| place.start);
        // Of those that lie in one block the first one speaks for all.
        places.dedup_by_key(|place| place.start / BLOCK_BYTES);
        self.volume.prefetch(&places);
    }

    fn wants_hints(&self) -> bool {
        self.volume.wants_hints()
    }

    fn prefetch(&self, extents: &[Place]) {
        prefetch_on(std::slice::from_ref(self.volume.source()), extents);
    }

    fn xattrs(&self, file: FileId) -> Result<Vec<Xattr>, FsError> {
        attributes::read(&self.volume, &self.superblock, &self.inode(file)?)
    }

    fn open(&self, file: FileId) -> Result<Box<dyn FileContent + '_>, FsError> {
        let inode = self.inode(file)?;
        if inode.kind() != FileKind::File {
            return Err(FsError::NotAFile);
        }
        let extents = extents::read(&self.volume, &self.superblock, &inode)?;
        let block_bytes = self.superblock.block_bytes;
        Ok(Box::new(XfsFile { volume: &self.volume, extents, block_bytes, len_bytes: inode.size_bytes }))
    }

    fn read_link(&self, link: FileId) -> Result<Vec<u8>, FsError> {
        let inode = self.inode(link)?;
        if inode.kind() != FileKind::Symlink {
            return Err(Fault::new("inode mode", inode.at, "a symbolic link", "another kind of file").into());
        }
        symlink::read_target(&self.volume, &self.superblock, &inode)
    }

    fn faults(&self) -> Vec<Fault> {
        let (claimed, found) = (self.superblock.len_bytes(), self.volume.len_bytes());
        let cut = (found < claimed).then(|| Fault::new("volume length", 0, claimed, found));
        [cut, self.doubt, self.volume.newer_inode()].into_iter().flatten().collect()
    }
}

struct XfsFile<'a> {
    volume: &'a Volume,
    extents: Vec<Extent>,
    block_bytes: u64,
    len_bytes: u64,
}

impl FileContent for XfsFile<'_> {
    fn len_bytes(&self) -> u64 {
        self.len_bytes
    }

    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> Result<usize, FsError> {
        let left = self.len_bytes.saturating_sub(offset).min(to_u64(buffer.len()));
        let Some(wanted) = buffer.get_mut(..to_usize(left)) else {
            return Ok(0);
        };
        extents::read_mapped(self.volume, &self.extents, self.block_bytes, offset, wanted)?;
        Ok(wanted.len())
    }

    fn extents(&mut self, range: Range<u64>) -> Vec<Place> {
        let range = range.start..range.end.min(self.len_bytes);
        let places = extents::volume_ranges(&self.extents, self.block_bytes, &range);
        places.into_iter().map(Place::new).collect()
    }

    fn will_read(&mut self, range: Range<u64>) {
        if self.volume.wants_hints() {
            let extents = self.extents(range);
            prefetch_on(std::slice::from_ref(self.volume.source()), &extents);
        }
    }
}

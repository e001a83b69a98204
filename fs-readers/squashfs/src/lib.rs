//! squashfs 4.0, as the project's Squashfs Binary Format describes it: snaps, live systems, images of appliances.
//!
//! Read-only, lazy, for many threads: the superblock is read at open, and metadata blocks, fragments and file blocks when
//! they are asked for. All compressors but LZMA1, all block sizes, holes, fragments, hard links, device nodes, extended
//! attributes.
//!
//! It is ours and not the crate `backhand` (0.25.5), which was measured first: that parses every inode and directory at
//! open (0.78 s and 52 MB for 136,000 files, before one was asked for), gives no extended attributes, and brings zstd
//! and xz in C. The decoders here are Rust without `unsafe` of theirs, and are bounded before they allocate.
//!
//! Not supported, and named at open: versions before 4 and big-endian images, LZMA1 (which the kernel does not read
//! either). Not given: labels and UUIDs, which the format has not.

mod compression;
mod content;
mod directory;
mod inode;
mod lookup;
mod metadata;
mod superblock;
mod xattr;

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, PoisonError};

use stillframe_block::BlockSource;
use stillframe_bytes::{Fault, Structure};
use stillframe_fs::{
    DirEntry, Extent, FileContent, FileId, FsDescription, FsError, Metadata, ReadOnlyFs, Timestamp, Xattr,
    prefetch_on,
};

use crate::content::{Content, Stored};
use crate::inode::{Body, Inode};
use crate::lookup::LookupTable;
use crate::metadata::MetadataBlocks;
use crate::superblock::Superblock;
use crate::xattr::XattrTable;

const ID_BYTES: u32 = 4;
const FRAGMENT_BYTES: u32 = 16;
/// The content of fragments that is kept, in bytes: small files that lie in one are read one after the other.
const KEPT_FRAGMENT_BYTES: u64 = 16 << 20;

/// A squashfs filesystem.
pub struct SquashfsReader {
    source: Arc<dyn BlockSource>,
    superblock: Superblock,
    metadata: MetadataBlocks,
    ids: LookupTable,
    fragments: Option<LookupTable>,
    /// Fragments by their number, the one used last in front.
    kept_fragments: Mutex<VecDeque<(u32, Arc<[u8]>)>>,
    description: FsDescription,
    faults: Vec<Fault>,
}

/// Opens the squashfs filesystem at the start of `volume`.
///
/// # Errors
/// [`FsError`] where the superblock is damaged, or says a version or compressor that is not read.
pub fn open(volume: Arc<dyn BlockSource>) -> Result<Box<dyn ReadOnlyFs>, FsError> {
    Ok(Box::new(SquashfsReader::open(volume)?))
}

impl SquashfsReader {
    /// As [`open`].
    ///
    /// # Errors
    /// As [`open`].
    pub fn open(source: Arc<dyn BlockSource>) -> Result<Self, FsError> {
        let superblock = Superblock::read(&*source)?;
        let metadata = MetadataBlocks::new(Arc::clone(&source), superblock.compression);
        let ids =
            LookupTable::new("number of an owner", superblock.id_table, superblock.ids.into(), ID_BYTES);
        let fragments = superblock
            .fragment_table
            .map(|at| LookupTable::new("number of a fragment", at, superblock.fragments, FRAGMENT_BYTES));
        let description = FsDescription {
            kind: "squashfs",
            label: None,
            uuid: None,
            size_bytes: superblock.bytes_used,
            dirty: None,
            reader: "stillframe-squashfs",
            hidden: vec!["time of change"],
            notes: Vec::new(),
        };
        let (claimed, found) = (superblock.bytes_used, source.len_bytes());
        let cut = (found < claimed).then(|| Fault::new("volume length", 0, claimed, found));
        let faults = cut.into_iter().collect();
        let kept_fragments = Mutex::default();
        Ok(Self { source, superblock, metadata, ids, fragments, kept_fragments, description, faults })
    }

    fn inode(&self, file: FileId) -> Result<Inode, FsError> {
        if file.tree != 0 { Err(FsError::NotFound) } else { Inode::read(self, file.number) }
    }

    fn id(&self, index: u16) -> Result<u32, FsError> {
        self.ids.row(self, index.into()).map(u32::from_le_bytes)
    }

    /// The content of fragment `number`.
    fn fragment(&self, number: u32) -> Result<Arc<[u8]>, FsError> {
        if let Some(kept) = self.kept_fragment(number) {
            return Ok(kept);
        }
        let bytes: Arc<[u8]> = self.stored_fragment(number)?.read(self)?.into();
        let mut kept = self.kept_fragments.lock().unwrap_or_else(PoisonError::into_inner);
        if !kept.iter().any(|(kept, _)| *kept == number) {
            kept.push_front((number, Arc::clone(&bytes)));
            let most = KEPT_FRAGMENT_BYTES.checked_div(self.superblock.block_bytes).unwrap_or(1);
            kept.truncate(usize::try_from(most).unwrap_or(1));
        }
        Ok(bytes)
    }

    fn kept_fragment(&self, number: u32) -> Option<Arc<[u8]>> {
        let mut kept = self.kept_fragments.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = kept.iter().position(|(kept, _)| *kept == number).and_then(|index| kept.remove(index))?;
        let bytes = Arc::clone(&entry.1);
        kept.push_front(entry);
        Some(bytes)
    }

    fn stored_fragment(&self, number: u32) -> Result<Stored, FsError> {
        let no_table = || Fault::new("fragment table", 80, "one", "none");
        let row: [u8; 16] = self.fragments.as_ref().ok_or_else(no_table)?.row(self, number)?;
        let row = Structure::new("fragment table row", self.superblock.fragment_table.unwrap_or(0), &row);
        Stored::of_size(self, row.u64_le(0)?, row.u32_le(8)?)
    }

    /// Where fragment `number` lies; `None` where nothing will be read for it.
    fn fragment_unless_kept(&self, number: u32) -> Option<Stored> {
        if self.kept_fragment(number).is_some() { None } else { self.stored_fragment(number).ok() }
    }
}

impl ReadOnlyFs for SquashfsReader {
    fn description(&self) -> &FsDescription {
        &self.description
    }

    fn root(&self) -> FileId {
        FileId::new(self.superblock.root)
    }

    fn read_dir(
        &self,
        directory: FileId,
        visit: &mut dyn FnMut(DirEntry<'_>) -> ControlFlow<()>,
    ) -> Result<(), FsError> {
        match self.inode(directory)?.body {
            Body::Directory { listing, listing_bytes } => {
                directory::read(self, listing, listing_bytes, visit)
            }
            _ => Err(FsError::NotADirectory),
        }
    }

    fn metadata(&self, file: FileId) -> Result<Metadata, FsError> {
        let inode = self.inode(file)?;
        Ok(Metadata {
            kind: inode.kind,
            size_bytes: inode.size_bytes(),
            mode: Some(inode.mode()),
            uid: Some(self.id(inode.uid_index)?),
            gid: Some(self.id(inode.gid_index)?),
            modified: Some(Timestamp { seconds: inode.modified.into(), nanoseconds: 0 }),
            changed: None,
            links: Some(inode.links),
            flags: None,
            encrypted: false,
        })
    }

    fn prefetch(&self, extents: &[Extent]) {
        prefetch_on(std::slice::from_ref(&self.source), extents);
    }

    fn xattrs(&self, file: FileId) -> Result<Vec<Xattr>, FsError> {
        match (self.inode(file)?.xattrs, self.superblock.xattr_table) {
            (Some(row), Some(table_at)) => XattrTable::read(self, table_at)?.of_row(self, row),
            _ => Ok(Vec::new()),
        }
    }

    fn open(&self, file: FileId) -> Result<Box<dyn FileContent + '_>, FsError> {
        match self.inode(file)?.body {
            Body::File(file) => Ok(Box::new(Content::open(self, file)?)),
            _ => Err(FsError::NotAFile),
        }
    }

    fn read_link(&self, link: FileId) -> Result<Vec<u8>, FsError> {
        match self.inode(link)?.body {
            Body::Symlink { target, target_bytes } => {
                let mut cursor = self.metadata.cursor(target, self.superblock.directory_table);
                cursor.bytes(usize::try_from(target_bytes).unwrap_or(0))
            }
            _ => Err(FsError::NotFound),
        }
    }

    fn faults(&self) -> Vec<Fault> {
        self.faults.clone()
    }
}

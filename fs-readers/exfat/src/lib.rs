//! exFAT, as Microsoft's exFAT file system specification describes it.
//!
//! Read-only and for many threads. A file is named by where its directory entry set lies, so it can be opened again
//! without its path. The allocation bitmap and the up-case table are not needed to read, and not looked at.
//!
//! Times are given where the disk says how far from UTC they are; those of files without that are left out, since nobody
//! can tell which zone they were written in.
//!
//! Not supported: TexFAT (two FATs), revisions other than 1; both are named at open.

mod boot_region;
mod content;
mod directory;
mod entry_set;
mod table;

use std::ops::ControlFlow;
use std::sync::Arc;

use stillframe_block::BlockSource;
use stillframe_bytes::Fault;
use stillframe_fs::{
    DirEntry, Extent, FileContent, FileId, FileKind, FsDescription, FsError, Metadata, ReadOnlyFs,
    prefetch_on,
};

use crate::boot_region::BootSector;
use crate::content::Content;
use crate::entry_set::EntrySet;
use crate::table::Table;

/// No directory entry lies in the boot region.
const ROOT: FileId = FileId::new(0);

/// An exFAT filesystem.
pub struct ExFatReader {
    source: Arc<dyn BlockSource>,
    boot: BootSector,
    table: Table,
    description: FsDescription,
    faults: Vec<Fault>,
}

/// Opens the exFAT filesystem that fills `volume`.
///
/// # Errors
/// [`FsError`] where the boot region and its backup are damaged, or are of a revision that is not known.
pub fn open(volume: Arc<dyn BlockSource>) -> Result<Box<dyn ReadOnlyFs>, FsError> {
    Ok(Box::new(ExFatReader::open(volume)?))
}

impl ExFatReader {
    /// As [`open`].
    ///
    /// # Errors
    /// As [`open`].
    pub fn open(source: Arc<dyn BlockSource>) -> Result<Self, FsError> {
        let (mut boot, damage) = BootSector::read(&*source)?;
        boot.cut(source.len_bytes());
        let table = Table::new(Arc::clone(&source), &boot);
        let description = FsDescription {
            kind: "exfat",
            label: None,
            uuid: Some(format!("{:04X}-{:04X}", boot.serial >> 16, boot.serial & 0xFFFF)),
            size_bytes: boot.size_bytes,
            dirty: Some(boot.dirty),
            reader: "stillframe-exfat",
            hidden: vec![
                "mode",
                "owner",
                "links",
                "time of change",
                "times of files without an offset from UTC",
            ],
            notes: damage.iter().map(|_| "read by the backup boot region").collect(),
        };
        let (claimed, found) = (boot.size_bytes, source.len_bytes());
        let cut = (found < claimed).then(|| Fault::new("volume length", 0, claimed, found));
        let faults = damage.into_iter().chain(cut).collect();
        let mut fs = Self { source, boot, table, description, faults };
        // A damaged root directory is a fault of its own, and no reason to give up the volume.
        match directory::label(&fs) {
            Ok(label) => fs.description.label = label,
            Err(FsError::Corrupt(fault)) => fs.faults.push(fault),
            Err(error) => return Err(error),
        }
        Ok(fs)
    }

    /// Reads the directory entry set that `file` names; `None` for the root directory.
    fn set(&self, file: FileId) -> Result<Option<EntrySet>, FsError> {
        if file == ROOT { Ok(None) } else { directory::set(self, file).map(Some) }
    }
}

impl ReadOnlyFs for ExFatReader {
    fn description(&self) -> &FsDescription {
        &self.description
    }

    fn root(&self) -> FileId {
        ROOT
    }

    fn read_dir(
        &self,
        directory: FileId,
        visit: &mut dyn FnMut(DirEntry<'_>) -> ControlFlow<()>,
    ) -> Result<(), FsError> {
        let set = self.set(directory)?;
        if set.as_ref().is_some_and(|set| set.kind != FileKind::Directory) {
            return Err(FsError::NotADirectory);
        }
        directory::read(self, set.as_ref(), visit)
    }

    fn metadata(&self, file: FileId) -> Result<Metadata, FsError> {
        let set = self.set(file)?;
        let kind = set.as_ref().map_or(FileKind::Directory, |set| set.kind);
        Ok(Metadata {
            kind,
            size_bytes: set.as_ref().filter(|_| kind == FileKind::File).map_or(0, |set| set.size_bytes),
            mode: None,
            uid: None,
            gid: None,
            modified: set.and_then(|set| set.modified),
            changed: None,
            links: None,
            flags: None,
            encrypted: false,
        })
    }

    fn open(&self, file: FileId) -> Result<Box<dyn FileContent + '_>, FsError> {
        match self.set(file)? {
            Some(set) if set.kind == FileKind::File => Ok(Box::new(Content::open(self, &set)?)),
            _ => Err(FsError::NotAFile),
        }
    }

    fn prefetch(&self, extents: &[Extent]) {
        prefetch_on(std::slice::from_ref(&self.source), extents);
    }

    fn read_link(&self, _link: FileId) -> Result<Vec<u8>, FsError> {
        Err(FsError::NotFound)
    }

    fn faults(&self) -> Vec<Fault> {
        self.faults.clone()
    }
}

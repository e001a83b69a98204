//! FAT12, FAT16 and FAT32, as Microsoft's fatgen103 describes them.
//!
//! Read-only and for many threads. A file is named by where its directory entry lies, so it can be opened again
//! without its path. Short names are read in code page 437; a disk does not say which one it was written in.
//!
//! Not supported: exFAT, which has a reader of its own (said so at open). Not given: modification times, which FAT keeps in the local time of an
//! unknown zone.
//!
//! A volume is FAT32 where its 16-bit FAT size is 0, as Linux takes it, and not by its number of clusters alone: EFI
//! partitions are formatted as FAT32 with fewer clusters than the specification asks for.

mod boot_sector;
mod content;
mod directory;
mod name;
mod table;

use std::ops::ControlFlow;
use std::sync::Arc;

use stillframe_block::BlockSource;
use stillframe_bytes::{Fault, Structure};
use stillframe_fs::{
    DirEntry, Extent, FileContent, FileId, FileKind, FsDescription, FsError, Metadata, ReadOnlyFs,
    prefetch_on,
};

use crate::boot_sector::{BootSector, Root};
use crate::content::Content;
use crate::directory::{ENTRY_BYTES, ShortEntry};
use crate::table::Table;

/// No directory entry lies in the boot sector.
const ROOT: FileId = FileId::new(0);

/// A FAT filesystem.
pub struct FatReader {
    source: Arc<dyn BlockSource>,
    boot: BootSector,
    table: Table,
    description: FsDescription,
    faults: Vec<Fault>,
}

/// Opens the FAT filesystem that fills `volume`.
///
/// # Errors
/// [`FsError`] where the boot sector is damaged or is that of exFAT.
pub fn open(volume: Arc<dyn BlockSource>) -> Result<Box<dyn ReadOnlyFs>, FsError> {
    Ok(Box::new(FatReader::open(volume)?))
}

impl FatReader {
    /// As [`open`].
    ///
    /// # Errors
    /// As [`open`].
    pub fn open(source: Arc<dyn BlockSource>) -> Result<Self, FsError> {
        let mut boot = BootSector::read(&*source)?;
        boot.cut(source.len_bytes());
        let table = Table::new(Arc::clone(&source), &boot);
        let description = FsDescription {
            kind: "vfat",
            label: None,
            uuid: boot.serial.map(|serial| format!("{:04X}-{:04X}", serial >> 16, serial & 0xFFFF)),
            size_bytes: boot.size_bytes,
            dirty: None,
            reader: "stillframe-fat",
            hidden: vec!["mode", "owner", "links", "modification time (local, no zone)", "time of change"],
            notes: Vec::new(),
        };
        let (claimed, found) = (boot.size_bytes, source.len_bytes());
        let cut = (found < claimed).then(|| Fault::new("volume length", 0, claimed, found));
        let faults = cut.into_iter().collect();
        let mut fs = Self { source, boot, table, description, faults };
        fs.description.label = fs.label()?;
        fs.description.dirty = Some(fs.boot.mounted || fs.table.is_dirty()?);
        Ok(fs)
    }

    /// The root directory's label or else the boot sector's. A damaged root directory is a fault of its own, and no
    /// reason to give up the volume.
    fn label(&mut self) -> Result<Option<Vec<u8>>, FsError> {
        let label = match directory::label(self) {
            Ok(label) => label,
            Err(FsError::Corrupt(fault)) => {
                self.faults.push(fault);
                None
            }
            Err(error) => return Err(error),
        };
        let boot_label =
            || self.boot.label.map(|label| name::text(&label)).filter(|label| label != "NO NAME");
        Ok(label.or_else(boot_label).filter(|label| !label.is_empty()).map(String::into_bytes))
    }

    /// Reads the directory entry that `file` names; `None` for the root directory.
    fn entry(&self, file: FileId) -> Result<Option<ShortEntry>, FsError> {
        if file == ROOT {
            return Ok(None);
        }
        let first = match self.boot.root {
            Root::Region { at, .. } => at,
            Root::Chain(_) => self.boot.data_at,
        };
        if file.tree != 0 || file.number < first || !file.number.is_multiple_of(ENTRY_BYTES) {
            return Err(FsError::NotFound);
        }
        let mut bytes = [0; 32];
        self.source.read_exact_at(file.number, &mut bytes)?;
        let entry =
            ShortEntry::parse(&Structure::new("directory entry", file.number, &bytes), self.boot.kind)?;
        entry.ok_or(FsError::NotFound).map(Some)
    }
}

impl ReadOnlyFs for FatReader {
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
        let entry = self.entry(directory)?;
        if entry.is_some_and(|entry| entry.kind != FileKind::Directory) {
            return Err(FsError::NotADirectory);
        }
        directory::read(self, entry, visit)
    }

    fn metadata(&self, file: FileId) -> Result<Metadata, FsError> {
        let entry = self.entry(file)?;
        let kind = entry.map_or(FileKind::Directory, |entry| entry.kind);
        let size = entry.filter(|_| kind == FileKind::File).map_or(0, |entry| entry.size_bytes);
        Ok(Metadata {
            kind,
            size_bytes: u64::from(size),
            mode: None,
            uid: None,
            gid: None,
            modified: None,
            changed: None,
            links: None,
            flags: None,
            encrypted: false,
        })
    }

    fn prefetch(&self, extents: &[Extent]) {
        prefetch_on(std::slice::from_ref(&self.source), extents);
    }

    fn open(&self, file: FileId) -> Result<Box<dyn FileContent + '_>, FsError> {
        match self.entry(file)? {
            Some(entry) if entry.kind == FileKind::File => Ok(Box::new(Content::open(self, entry)?)),
            _ => Err(FsError::NotAFile),
        }
    }

    fn read_link(&self, _link: FileId) -> Result<Vec<u8>, FsError> {
        Err(FsError::NotFound)
    }

    fn faults(&self) -> Vec<Fault> {
        self.faults.clone()
    }
}

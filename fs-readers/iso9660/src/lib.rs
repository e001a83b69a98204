//! ISO 9660 (ECMA-119) with Rock Ridge (IEEE P1281 and P1282) or Joliet: the seeds of cloud-init, installers, live systems.
//!
//! Read-only, lazy, for many threads. Of a disc with several trees the one is read that Linux takes: Rock Ridge, else
//! Joliet, else the plain one with its names in lower case. A file is named by where its directory record lies, a directory
//! by where its own record (`.`) does; hard links are files of their own, as Linux has it. Directories that were moved
//! since they lay too deep are shown where they belong.
//!
//! Not supported, and named where they are opened: interleaved files, files on another volume of a set, content that
//! zisofs compressed, Rock Ridge's sparse files. High Sierra, the format's forerunner, is refused. Boot records (El
//! Torito) are no files and are passed over. Where a disc has UDF too, that tree is not read, and a fault says so, since
//! the two trees need not hold the same files.

mod content;
mod descriptor;
mod directory;
mod name;
mod record;
mod rock_ridge;

use std::ops::ControlFlow;
use std::sync::Arc;

use stillframe_block::BlockSource;
use stillframe_bytes::{Fault, Structure};
use stillframe_fs::{
    DirEntry, Extent, FileContent, FileId, FileKind, FsDescription, FsError, Metadata, ReadOnlyFs,
    prefetch_on,
};

use crate::content::Content;
use crate::descriptor::Descriptors;
use crate::record::{LEAST_LEN, Record};
use crate::rock_ridge::RockRidge;

/// A record at its longest.
const RECORD_LEN_CAP: u64 = 255;

/// Whose names and attributes are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tree {
    /// So many bytes of each system use area are others'.
    RockRidge {
        skip: usize,
    },
    Joliet,
    Plain,
}

/// An ISO 9660 filesystem.
pub struct Iso9660Reader {
    source: Arc<dyn BlockSource>,
    descriptors: Descriptors,
    tree: Tree,
    root: FileId,
    description: FsDescription,
    faults: Vec<Fault>,
}

/// Opens the ISO 9660 filesystem that fills `volume`.
///
/// # Errors
/// [`FsError`] where the volume descriptors or the root directory's own record are damaged.
pub fn open(volume: Arc<dyn BlockSource>) -> Result<Box<dyn ReadOnlyFs>, FsError> {
    Ok(Box::new(Iso9660Reader::open(volume)?))
}

impl Iso9660Reader {
    /// As [`open`].
    ///
    /// # Errors
    /// As [`open`].
    pub fn open(source: Arc<dyn BlockSource>) -> Result<Self, FsError> {
        let descriptors = Descriptors::read(&*source)?;
        let description = FsDescription {
            kind: "iso9660",
            label: Some(descriptors.label.clone()).filter(|label| !label.is_empty()),
            uuid: descriptors.uuid.clone(),
            size_bytes: descriptors.size_bytes,
            dirty: None,
            reader: "stillframe-iso9660",
            hidden: Vec::new(),
            notes: Vec::new(),
        };
        let (claimed, found) = (descriptors.size_bytes, source.len_bytes());
        let cut = (found < claimed).then(|| Fault::new("volume length", 0, claimed, found));
        let udf = descriptors.udf_at.map(|at| Fault::new("UDF beside ISO 9660", at, "read", "not read"));
        let faults = cut.into_iter().chain(udf).collect();
        let root = FileId::new(descriptors.root_at);
        let mut fs = Self { source, descriptors, tree: Tree::Plain, root, description, faults };
        fs.choose_tree()?;
        Ok(fs)
    }

    /// Rock Ridge, where the root directory's own record says so; it names its extension, which matters where Joliet
    /// could be taken instead.
    fn choose_tree(&mut self) -> Result<(), FsError> {
        let own = self.record_of(FileId::new(self.descriptors.root_at))?;
        let joliet = self.descriptors.joliet_root_at;
        if let Some(skip) = rock_ridge::skipped_bytes(&own) {
            // The skipped bytes of the first area are those of the entry that says how many they are.
            let root = RockRidge::read(&*self.source, self.descriptors.block_bytes, &own, 0)?;
            if root.names_extension || joliet.is_none() {
                self.tree = Tree::RockRidge { skip: skip.into() };
                self.description.notes.push("Rock Ridge");
                return Ok(());
            }
        }
        if let Some(root_at) = joliet {
            (self.tree, self.root) = (Tree::Joliet, FileId::new(root_at));
            self.description.notes.push("Joliet");
        }
        self.description.hidden = vec!["mode", "owner", "links", "time of change"];
        Ok(())
    }

    /// The record at `at`.
    ///
    /// # Errors
    /// [`FsError::NotFound`] where there is none.
    fn record(&self, at: u64) -> Result<Record, FsError> {
        let block_bytes = self.descriptors.block_bytes;
        let to_end =
            at.checked_rem(block_bytes).and_then(|within| block_bytes.checked_sub(within)).unwrap_or(0);
        let there = to_end.min(RECORD_LEN_CAP).min(self.source.len_bytes().saturating_sub(at));
        if there < LEAST_LEN.into() {
            return Err(FsError::NotFound);
        }
        let mut bytes = vec![0; usize::try_from(there).unwrap_or(0)];
        self.source.read_exact_at(at, &mut bytes)?;
        if bytes.first() == Some(&0) {
            return Err(FsError::NotFound);
        }
        Ok(Record::parse(&Structure::new("directory record", at, &bytes))?)
    }

    /// The record that `file` names.
    fn record_of(&self, file: FileId) -> Result<Record, FsError> {
        if file.tree != 0 || file.number < self.descriptors.block_bytes {
            return Err(FsError::NotFound);
        }
        match self.record(file.number) {
            // Where a block begins there is a directory's own record, or what leads there is damaged.
            Err(FsError::NotFound) if file.number.is_multiple_of(self.descriptors.block_bytes) => {
                Err(Fault::new("directory's own record", file.number, "one", "none").into())
            }
            outcome => outcome,
        }
    }

    fn rock_ridge(&self, record: &Record) -> Result<RockRidge, FsError> {
        let Tree::RockRidge { skip } = self.tree else {
            return Ok(RockRidge::default());
        };
        // The root directory's own record begins with the entry that says how much is skipped.
        let skip = if record.at == self.root.number { 0 } else { skip };
        RockRidge::read(&*self.source, self.descriptors.block_bytes, record, skip)
    }

    fn metadata_of(&self, record: Record) -> Result<Metadata, FsError> {
        let rock_ridge = self.rock_ridge(&record)?;
        let mode = rock_ridge.posix.map(|posix| posix.mode);
        let kind = match mode.map(FileKind::from_mode) {
            Some(FileKind::Directory) | None if record.is_directory() => FileKind::Directory,
            Some(kind) if !record.is_directory() && kind != FileKind::Directory => kind,
            Some(_) => {
                return Err(Fault::new("file type", record.at, "one of record and mode", "two").into());
            }
            None => FileKind::File,
        };
        let (modified, recorded) = (rock_ridge.modified, record.recorded);
        let size_bytes = match (kind, rock_ridge.zisofs_bytes) {
            (FileKind::Symlink, _) => {
                rock_ridge.target.map_or(0, |target| u64::try_from(target.len()).unwrap_or(0))
            }
            (FileKind::File, Some(size)) => size.into(),
            (FileKind::File, None) if record.goes_on() => {
                let sections = directory::sections(self, record)?;
                sections.iter().fold(0_u64, |sum, section| sum.saturating_add(section.size_bytes.into()))
            }
            _ => record.size_bytes.into(),
        };
        Ok(Metadata {
            kind,
            size_bytes,
            mode,
            uid: rock_ridge.posix.map(|posix| posix.uid),
            gid: rock_ridge.posix.map(|posix| posix.gid),
            modified: modified.or(recorded),
            changed: rock_ridge.changed,
            links: rock_ridge.posix.map(|posix| posix.links),
            flags: None,
            encrypted: false,
        })
    }
}

impl ReadOnlyFs for Iso9660Reader {
    fn description(&self) -> &FsDescription {
        &self.description
    }

    fn root(&self) -> FileId {
        self.root
    }

    fn read_dir(
        &self,
        directory: FileId,
        visit: &mut dyn FnMut(DirEntry<'_>) -> ControlFlow<()>,
    ) -> Result<(), FsError> {
        let own = self.record_of(directory)?;
        if !own.is_directory() {
            return Err(FsError::NotADirectory);
        }
        directory::read(self, &own, visit)
    }

    fn metadata(&self, file: FileId) -> Result<Metadata, FsError> {
        self.metadata_of(self.record_of(file)?)
    }

    fn prefetch(&self, extents: &[Extent]) {
        prefetch_on(std::slice::from_ref(&self.source), extents);
    }

    fn open(&self, file: FileId) -> Result<Box<dyn FileContent + '_>, FsError> {
        let record = self.record_of(file)?;
        let rock_ridge = self.rock_ridge(&record)?;
        let kind = rock_ridge.posix.map_or(FileKind::File, |posix| FileKind::from_mode(posix.mode));
        if record.is_directory() || kind != FileKind::File {
            return Err(FsError::NotAFile);
        }
        if rock_ridge.zisofs_bytes.is_some() {
            return Err(FsError::Unsupported("zisofs compression"));
        }
        if rock_ridge.is_sparse {
            return Err(FsError::Unsupported("a sparse file of Rock Ridge"));
        }
        Ok(Box::new(Content::open(self, &directory::sections(self, record)?)?))
    }

    fn read_link(&self, link: FileId) -> Result<Vec<u8>, FsError> {
        let record = self.record_of(link)?;
        self.rock_ridge(&record)?.target.ok_or(FsError::NotFound)
    }

    fn faults(&self) -> Vec<Fault> {
        self.faults.clone()
    }
}

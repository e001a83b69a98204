//! The crate `ext4-view`, asked where this crate's own reader calls a volume damaged before it has read its root.
//!
//! It reads what the journal replay shows, under a superblock without the features that it refuses and that change
//! nothing it reads. It knows files by path, is opened anew for each call since its handle cannot be shared between
//! threads, and has panicked on crafted hash trees: slow, careful, and rarely needed.

use std::collections::HashMap;
use std::error::Error;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};

use ext4_view::{Ext4, Ext4Error, Ext4Read, FileType};
use stillframe_block::{BlockSource, ReadError};
use stillframe_bytes::{Fault, Structure};
use stillframe_fs::{
    DirEntry, FileContent, FileId, FileKind, FsDescription, FsError, Metadata, ReadOnlyFs, Timestamp, Xattr,
};

use crate::superblock::{SUPERBLOCK_AT, SUPERBLOCK_BYTES, compat, incompat};

const READER: &str = "ext4-view";
const ROOT: u64 = 0;
/// How many paths are remembered, and how many bytes of them: a directory or file past it cannot be read, and that is
/// said.
const MAX_PATHS: usize = 4_000_000;
const MAX_PATH_BYTES: usize = 512 << 20;

/// A volume that `ext4-view` reads.
pub(crate) struct SecondOpinion {
    source: Arc<dyn BlockSource>,
    description: FsDescription,
    /// The path of each file that was met; its number is its place here.
    paths: Mutex<Paths>,
    faults: Vec<Fault>,
}

#[derive(Default)]
struct Paths {
    by_number: Vec<Arc<[u8]>>,
    numbers: HashMap<Arc<[u8]>, u64>,
    len_bytes: usize,
}

impl SecondOpinion {
    /// Opens `source`, in which the journal has been replayed; `description` and `faults` are what our own reader found.
    pub(crate) fn open(
        source: Arc<dyn BlockSource>,
        description: FsDescription,
        faults: Vec<Fault>,
    ) -> Result<Self, FsError> {
        let root: Arc<[u8]> = b"/".as_slice().into();
        let paths =
            Paths { by_number: vec![root.clone()], numbers: HashMap::from([(root, ROOT)]), len_bytes: 1 };
        let description = FsDescription {
            reader: READER,
            hidden: vec!["links", "time of change", "flags", "extended attributes"],
            notes: [description.notes, vec!["our own reader calls it damaged"]].concat(),
            ..description
        };
        let opinion = Self { source, description, paths: Mutex::new(paths), faults };
        opinion.ask(|ext4| ext4.read_dir("/").map(|_| ()))?;
        Ok(opinion)
    }

    /// Opens the crate's handle and asks it; a panic of it ends here.
    fn ask<T>(&self, question: impl FnOnce(&Ext4) -> Result<T, Ext4Error>) -> Result<T, FsError> {
        let reader = Box::new(CleanVolume(self.source.clone()));
        let answer = catch_unwind(AssertUnwindSafe(|| question(&Ext4::load(reader)?)));
        match answer {
            Ok(answer) => answer.map_err(|error| translate(&error)),
            Err(_) => Err(FsError::Reader { reader: READER, what: "the second reader panicked" }),
        }
    }

    fn path(&self, file: FileId) -> Result<Arc<[u8]>, FsError> {
        let paths = self.paths.lock().unwrap_or_else(PoisonError::into_inner);
        let index = usize::try_from(file.number).unwrap_or(usize::MAX);
        paths.by_number.get(index).cloned().ok_or(FsError::NotFound)
    }

    fn id(&self, path: Vec<u8>) -> Result<FileId, FsError> {
        let mut paths = self.paths.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(number) = paths.numbers.get(path.as_slice()) {
            return Ok(FileId::new(*number));
        }
        let len_bytes = paths.len_bytes.saturating_add(path.len());
        if paths.by_number.len() >= MAX_PATHS || len_bytes > MAX_PATH_BYTES {
            return Err(too_many_paths());
        }
        paths.len_bytes = len_bytes;
        let number = u64::try_from(paths.by_number.len()).unwrap_or(u64::MAX);
        let path: Arc<[u8]> = path.into();
        paths.by_number.push(path.clone());
        paths.numbers.insert(path, number);
        Ok(FileId::new(number))
    }
}

fn too_many_paths() -> FsError {
    FsError::Limit { what: "files of a second opinion", cap: u64::try_from(MAX_PATHS).unwrap_or(u64::MAX) }
}

fn translate(error: &Ext4Error) -> FsError {
    if let Ext4Error::Io(inner) = error {
        let mut cause: Option<&(dyn Error + 'static)> = Some(&**inner);
        while let Some(one) = cause {
            if let Some(read) = one.downcast_ref::<ReadError>() {
                return FsError::Read(read.clone());
            }
            cause = one.source();
        }
    }
    match error {
        Ext4Error::NotFound => FsError::NotFound,
        Ext4Error::NotADirectory => FsError::NotADirectory,
        Ext4Error::IsADirectory | Ext4Error::IsASpecialFile | Ext4Error::NotASymlink => FsError::NotAFile,
        Ext4Error::Encrypted => FsError::Encrypted("ext4 file encryption"),
        Ext4Error::Incompatible(_) => FsError::Unsupported("a feature that the second reader refuses"),
        _ => FsError::Reader { reader: READER, what: "the second reader calls it damaged too" },
    }
}

const fn kind_of(file_type: FileType) -> FileKind {
    match file_type {
        FileType::Regular => FileKind::File,
        FileType::Directory => FileKind::Directory,
        FileType::Symlink => FileKind::Symlink,
        FileType::BlockDevice => FileKind::BlockDevice,
        FileType::CharacterDevice => FileKind::CharacterDevice,
        FileType::Fifo => FileKind::Fifo,
        FileType::Socket => FileKind::Socket,
    }
}

impl ReadOnlyFs for SecondOpinion {
    fn description(&self) -> &FsDescription {
        &self.description
    }

    fn root(&self) -> FileId {
        FileId::new(ROOT)
    }

    fn read_dir(
        &self,
        directory: FileId,
        visit: &mut dyn FnMut(DirEntry<'_>) -> ControlFlow<()>,
    ) -> Result<(), FsError> {
        let folder = self.path(directory)?;
        let mut entries: Vec<(Vec<u8>, Option<FileKind>)> = Vec::new();
        let mut is_too_long = false;
        let end = self.ask(|ext4| {
            for entry in ext4.read_dir(&*folder)? {
                let entry = entry?;
                if entries.len() >= MAX_PATHS {
                    is_too_long = true;
                    break;
                }
                entries.push((entry.file_name().as_ref().to_vec(), entry.file_type().ok().map(kind_of)));
            }
            Ok(())
        });
        for (name, kind) in entries {
            if matches!(&*name, b"." | b"..") || name.is_empty() || name.contains(&b'/') {
                continue;
            }
            let slash: &[u8] = if folder.ends_with(b"/") { b"" } else { b"/" };
            let id = self.id([&*folder, slash, &*name].concat())?;
            if visit(DirEntry { name: &name, id, kind }).is_break() {
                return Ok(());
            }
        }
        if is_too_long { Err(too_many_paths()) } else { end }
    }

    fn metadata(&self, file: FileId) -> Result<Metadata, FsError> {
        let path = self.path(file)?;
        let metadata = self.ask(|ext4| ext4.symlink_metadata(&*path))?;
        let kind = kind_of(metadata.file_type());
        let modified = metadata.modified();
        Ok(Metadata {
            kind,
            size_bytes: metadata.len(),
            mode: Some(u32::from(metadata.mode())),
            uid: Some(metadata.uid()),
            gid: Some(metadata.gid()),
            modified: Some(Timestamp { seconds: modified.seconds(), nanoseconds: modified.nanoseconds() }),
            changed: None,
            links: None,
            flags: None,
            encrypted: false,
        })
    }

    fn xattrs(&self, _file: FileId) -> Result<Vec<Xattr>, FsError> {
        Err(FsError::Unsupported("extended attributes in the second reader"))
    }

    fn open(&self, file: FileId) -> Result<Box<dyn FileContent + '_>, FsError> {
        let metadata = self.metadata(file)?;
        if metadata.kind != FileKind::File {
            return Err(FsError::NotAFile);
        }
        Ok(Box::new(Content { opinion: self, path: self.path(file)?, len_bytes: metadata.size_bytes }))
    }

    fn read_link(&self, link: FileId) -> Result<Vec<u8>, FsError> {
        let path = self.path(link)?;
        Ok(self.ask(|ext4| ext4.read_link(&*path))?.as_ref().to_vec())
    }

    fn faults(&self) -> Vec<Fault> {
        self.faults.clone()
    }
}

struct Content<'a> {
    opinion: &'a SecondOpinion,
    path: Arc<[u8]>,
    len_bytes: u64,
}

impl FileContent for Content<'_> {
    fn len_bytes(&self) -> u64 {
        self.len_bytes
    }

    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> Result<usize, FsError> {
        if offset >= self.len_bytes {
            return Ok(0);
        }
        self.opinion.ask(|ext4| {
            let mut file = ext4.open(&*self.path)?;
            file.seek_to(offset)?;
            let mut filled = 0_usize;
            while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
                match file.read_bytes(rest)? {
                    0 => break,
                    read => filled = filled.saturating_add(read),
                }
            }
            Ok(filled)
        })
    }
}

/// The volume with a superblock that the crate takes.
struct CleanVolume(Arc<dyn BlockSource>);

impl Ext4Read for CleanVolume {
    fn read(
        &mut self,
        start_byte: u64,
        dst: &mut [u8],
    ) -> Result<(), Box<dyn Error + Send + Sync + 'static>> {
        self.0.read_exact_at(start_byte, dst)?;
        let end = start_byte.saturating_add(u64::try_from(dst.len()).unwrap_or(u64::MAX));
        let superblock_end = SUPERBLOCK_AT.saturating_add(u64::try_from(SUPERBLOCK_BYTES).unwrap_or(0));
        if start_byte < superblock_end && end > SUPERBLOCK_AT {
            let clean = self.clean_superblock()?;
            for (position, byte) in (SUPERBLOCK_AT..).zip(clean) {
                let slot = position.checked_sub(start_byte).and_then(|at| usize::try_from(at).ok());
                if let Some(slot) = slot.and_then(|at| dst.get_mut(at)) {
                    *slot = byte;
                }
            }
        }
        Ok(())
    }
}

impl CleanVolume {
    /// Without the marks of a dirty journal and of what only writers must know, and with its checksum made anew.
    fn clean_superblock(&self) -> Result<Vec<u8>, ReadError> {
        const CLEARED: u32 = incompat::RECOVER | incompat::MMP | incompat::EA_INODE | incompat::CASEFOLD;
        let mut bytes = vec![0; SUPERBLOCK_BYTES];
        self.0.read_exact_at(SUPERBLOCK_AT, &mut bytes)?;
        let feature = |at| Structure::new("superblock", SUPERBLOCK_AT, &bytes).u32_le(at).unwrap_or(0);
        let compat = feature(0x5c) & !(compat::FAST_COMMIT | compat::HAS_JOURNAL);
        let incompat = feature(0x60) & !CLEARED;
        for (at, value) in [(0x5c, compat), (0x60, incompat)] {
            put(&mut bytes, at, value);
        }
        let checksum = !crc32c::crc32c(bytes.get(..CHECKSUM_AT).unwrap_or_default());
        put(&mut bytes, CHECKSUM_AT, checksum);
        Ok(bytes)
    }
}

const CHECKSUM_AT: usize = 0x3fc;

fn put(bytes: &mut [u8], at: usize, value: u32) {
    for (slot, byte) in bytes.iter_mut().skip(at).zip(value.to_le_bytes()) {
        *slot = byte;
    }
}

//! Images and listings.

use std::collections::BTreeMap;
use std::io::Read;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;

use sha2::{Digest, Sha256};
use stillframe_block::{BlockSource, MemorySource};
use stillframe_fs::{FileContent, FileId, FileKind, FsError, ReadOnlyFs, read_full};

/// `testdata/NAME.img.zst`.
pub(crate) fn image(name: &str) -> Vec<u8> {
    let file = std::fs::File::open(testdata(&format!("{name}.img.zst"))).unwrap();
    let mut image = Vec::new();
    ruzstd::decoding::StreamingDecoder::new(file).unwrap().read_to_end(&mut image).unwrap();
    image
}

pub(crate) fn testdata(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("testdata").join(name)
}

pub(crate) fn open(image: Vec<u8>) -> Box<dyn ReadOnlyFs> {
    open_source(Arc::new(MemorySource(image))).unwrap()
}

pub(crate) fn open_source(source: Arc<dyn BlockSource>) -> Result<Box<dyn ReadOnlyFs>, FsError> {
    stillframe_ntfs::open(source)
}

/// One entry of a walk.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) id: FileId,
    pub(crate) kind: FileKind,
}

/// Every path, without a leading separator.
pub(crate) fn walk(fs: &dyn ReadOnlyFs) -> BTreeMap<Vec<u8>, Entry> {
    let mut paths = BTreeMap::new();
    let mut directories = vec![(Vec::new(), fs.root())];
    while let Some((path, directory)) = directories.pop() {
        for (name, id, kind) in list(fs, directory).unwrap() {
            let mut path = path.clone();
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend(name);
            let metadata = fs.metadata(id).unwrap();
            assert_eq!(kind, Some(metadata.kind), "{}", path.escape_ascii());
            if metadata.kind == FileKind::Directory {
                directories.push((path.clone(), id));
            }
            let before = paths.insert(path.clone(), Entry { id, kind: metadata.kind });
            assert!(before.is_none(), "listed twice: {}", path.escape_ascii());
        }
    }
    paths
}

pub(crate) type Listed = Vec<(Vec<u8>, FileId, Option<FileKind>)>;

pub(crate) fn list(fs: &dyn ReadOnlyFs, directory: FileId) -> Result<Listed, FsError> {
    let mut entries = Vec::new();
    fs.read_dir(directory, &mut |entry| {
        entries.push((entry.name.to_vec(), entry.id, entry.kind));
        ControlFlow::Continue(())
    })?;
    Ok(entries)
}

/// The id of `path`, found name by name.
pub(crate) fn find(fs: &dyn ReadOnlyFs, path: &str) -> FileId {
    path.split('/').fold(fs.root(), |directory, name| {
        let entries = list(fs, directory).unwrap();
        entries.into_iter().find(|(entry, ..)| entry == name.as_bytes()).unwrap_or_else(|| panic!("{name}")).1
    })
}

pub(crate) fn read_all(file: &mut dyn FileContent) -> Result<Vec<u8>, FsError> {
    // An odd size, so that reads end within clusters and units.
    let mut content = Vec::new();
    let mut piece = vec![0; 70_001];
    loop {
        let read = read_full(file, content.len() as u64, &mut piece)?;
        content.extend_from_slice(&piece[..read]);
        if read < piece.len() {
            assert_eq!(content.len() as u64, file.len_bytes());
            return Ok(content);
        }
    }
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The bytes of a golden disk.
pub(crate) fn golden(name: &str) -> Vec<u8> {
    let disk = stillframe_fixtures::golden(name);
    let mut image = vec![0; disk.len_bytes() as usize];
    disk.read_exact_at(0, &mut image).unwrap();
    image
}

//! A filesystem in memory that counts what is asked of it.

use std::collections::{BTreeMap, HashMap};
use std::ops::ControlFlow;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use stillframe_bytes::Fault;
use stillframe_fs::{DirEntry, FileContent, FileId, FileKind, FsDescription, FsError, Metadata, ReadOnlyFs};

const ROOT: u64 = 2;

/// What a reader may do wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Misbehaviour {
    PanicsInReadDir,
    PanicsInMetadata,
    PanicsInOpen,
    PanicsInReadAt,
    FailsInReadAt,
}

enum Node {
    Folder(Vec<(Vec<u8>, u64)>),
    File(Vec<u8>),
    /// A file of 8 EiB without a block.
    Endless,
    Special,
    Damaged,
}

/// Folders and files by number, made by path.
pub(super) struct MadeUp {
    nodes: HashMap<u64, Node>,
    misbehaviour: HashMap<u64, Misbehaviour>,
    /// Kinds that folders say of entries, where not those of their inodes.
    claimed: HashMap<u64, FileKind>,
    description: FsDescription,
    opened: Mutex<Vec<u64>>,
    bytes_read: AtomicU64,
}

impl Default for MadeUp {
    fn default() -> Self {
        Self {
            nodes: HashMap::from([(ROOT, Node::Folder(Vec::new()))]),
            misbehaviour: HashMap::new(),
            claimed: HashMap::new(),
            description: FsDescription {
                kind: "made up",
                label: None,
                uuid: None,
                size_bytes: 0,
                dirty: None,
                reader: "a test",
                hidden: Vec::new(),
                notes: Vec::new(),
            },
            opened: Mutex::default(),
            bytes_read: AtomicU64::new(0),
        }
    }
}

impl MadeUp {
    pub(super) fn file(&mut self, path: &str, content: Vec<u8>) {
        self.add(path, Node::File(content));
    }

    pub(super) fn endless(&mut self, path: &str) {
        self.add(path, Node::Endless);
    }

    pub(super) fn folder(&mut self, path: &str) {
        self.at(path);
    }

    pub(super) fn special(&mut self, path: &str) {
        self.add(path, Node::Special);
    }

    /// A folder that cannot be read.
    pub(super) fn damaged(&mut self, path: &str) {
        self.add(path, Node::Damaged);
    }

    /// A second name for what is at `path`.
    pub(super) fn link(&mut self, path: &str, name: &str) {
        let number = self.at(path);
        self.enter(name, number);
    }

    pub(super) fn misbehave(&mut self, path: &str, how: Misbehaviour) {
        let number = self.at(path);
        self.misbehaviour.insert(number, how);
    }

    pub(super) fn entry_claims(&mut self, path: &str, kind: FileKind) {
        let number = self.at(path);
        self.claimed.insert(number, kind);
    }

    /// How often each file was opened, by its first path.
    pub(super) fn opened(&self) -> BTreeMap<String, u32> {
        let mut counts = BTreeMap::new();
        for number in self.opened.lock().unwrap().iter() {
            *counts.entry(self.path_of(ROOT, String::new(), *number).unwrap()).or_default() += 1;
        }
        counts
    }

    pub(super) fn bytes_read(&self) -> u64 {
        self.bytes_read.load(Ordering::Relaxed)
    }

    /// The sum of the file's bytes.
    pub(super) fn sum(&self, path: &str) -> u64 {
        match &self.nodes[&self.find(path).unwrap()] {
            Node::File(content) => super::detectors::sum(content),
            _ => panic!("{path} is no file"),
        }
    }

    fn add(&mut self, path: &str, node: Node) {
        let number = ROOT + self.nodes.len() as u64;
        self.nodes.insert(number, node);
        self.enter(path, number);
    }

    fn enter(&mut self, path: &str, number: u64) {
        let (folder, name) = path.rsplit_once('/').unwrap();
        let folder = self.at(folder);
        let Some(Node::Folder(entries)) = self.nodes.get_mut(&folder) else { panic!("{path}") };
        entries.push((name.into(), number));
    }

    fn find(&self, path: &str) -> Option<u64> {
        path.split('/').filter(|name| !name.is_empty()).try_fold(ROOT, |at, name| match &self.nodes[&at] {
            Node::Folder(entries) => {
                entries.iter().find(|(known, _)| known == name.as_bytes()).map(|(_, number)| *number)
            }
            _ => None,
        })
    }

    /// The number of what is at `path`; folders that are missing are made.
    fn at(&mut self, path: &str) -> u64 {
        if let Some(number) = self.find(path) {
            return number;
        }
        self.add(path, Node::Folder(Vec::new()));
        self.find(path).unwrap()
    }

    fn path_of(&self, folder: u64, path: String, wanted: u64) -> Option<String> {
        let Node::Folder(entries) = &self.nodes[&folder] else { return None };
        entries.iter().find_map(|(name, number)| {
            let path = format!("{path}/{}", String::from_utf8_lossy(name));
            if *number == wanted { Some(path) } else { self.path_of(*number, path, wanted) }
        })
    }

    fn misbehaves(&self, file: FileId, how: Misbehaviour) -> bool {
        self.misbehaviour.get(&file.number) == Some(&how)
    }

    fn panic_if(&self, file: FileId, how: Misbehaviour) {
        assert!(!self.misbehaves(file, how), "a made-up reader panics: {how:?}");
    }
}

impl ReadOnlyFs for MadeUp {
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
        let entries = match &self.nodes[&directory.number] {
            Node::Folder(entries) => entries,
            Node::Damaged => return Err(Fault::new("folder", directory.number, "entries", "none").into()),
            _ => return Err(FsError::NotADirectory),
        };
        for (index, (name, number)) in entries.iter().enumerate() {
            // After the first entry: what was told by then must stay.
            if index == 1 {
                self.panic_if(directory, Misbehaviour::PanicsInReadDir);
            }
            // Every other entry does not say its kind, as on ext2 without `filetype`.
            let claimed = self.claimed.get(number).copied();
            let kind = claimed.or_else(|| (number % 2 == 0).then(|| self.kind(*number)));
            if visit(DirEntry { name, id: FileId::new(*number), kind }).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn metadata(&self, file: FileId) -> Result<Metadata, FsError> {
        self.panic_if(file, Misbehaviour::PanicsInMetadata);
        Ok(Metadata {
            kind: self.kind(file.number),
            size_bytes: 0,
            mode: None,
            uid: Some(1000),
            gid: None,
            modified: None,
            changed: None,
            links: None,
            flags: None,
            encrypted: false,
        })
    }

    fn open(&self, file: FileId) -> Result<Box<dyn FileContent + '_>, FsError> {
        self.panic_if(file, Misbehaviour::PanicsInOpen);
        self.opened.lock().unwrap().push(file.number);
        match &self.nodes[&file.number] {
            Node::File(content) => Ok(Box::new(Content { fs: self, file, content })),
            Node::Endless => Ok(Box::new(Hole)),
            _ => Err(FsError::NotAFile),
        }
    }

    fn read_link(&self, _link: FileId) -> Result<Vec<u8>, FsError> {
        Err(FsError::NotFound)
    }
}

impl MadeUp {
    fn kind(&self, number: u64) -> FileKind {
        match &self.nodes[&number] {
            Node::Folder(_) | Node::Damaged => FileKind::Directory,
            Node::File(_) | Node::Endless => FileKind::File,
            Node::Special => FileKind::CharacterDevice,
        }
    }
}

struct Content<'a> {
    fs: &'a MadeUp,
    file: FileId,
    content: &'a [u8],
}

impl FileContent for Content<'_> {
    fn len_bytes(&self) -> u64 {
        self.content.len() as u64
    }

    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> Result<usize, FsError> {
        if offset > 0 {
            self.fs.panic_if(self.file, Misbehaviour::PanicsInReadAt);
            if self.fs.misbehaves(self.file, Misbehaviour::FailsInReadAt) {
                return Err(Fault::new("extent", offset, "a block", "a hole").into());
            }
        }
        // Less than asked for, as a reader that stops at each extent does.
        let rest = self.content.get(usize::try_from(offset).unwrap()..).unwrap_or_default();
        let len = rest.len().min(buffer.len()).min(10_000);
        buffer[..len].copy_from_slice(&rest[..len]);
        self.fs.bytes_read.fetch_add(len as u64, Ordering::Relaxed);
        Ok(len)
    }
}

struct Hole;

impl FileContent for Hole {
    fn len_bytes(&self) -> u64 {
        1 << 63
    }

    fn read_at(&mut self, _offset: u64, buffer: &mut [u8]) -> Result<usize, FsError> {
        buffer.fill(0);
        Ok(buffer.len())
    }
}

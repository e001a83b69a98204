//! One parallel walk over a filesystem. Folders are tasks of a rayon scope; a visitor is called for each entry.

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rayon::Scope;
use serde::{Deserialize, Serialize};
use stillframe_bytes::Fault;
use stillframe_fs::{DirEntry, FileId, FileKind, FsError, Metadata, ReadOnlyFs};

/// How far a walk goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Folders inside folders. The kernel opens no path of more than 4096 bytes, which is 2048 folders.
    pub depth: u32,
    /// Entries of one filesystem.
    pub entries: u64,
    /// Bytes of a path from the filesystem's root.
    pub path_bytes: usize,
    /// Faults that are kept; more are counted.
    pub faults: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { depth: 2048, entries: 200_000_000, path_bytes: 64 * 1024, faults: 100 }
    }
}

/// One entry that the walk met.
#[derive(Debug, Clone, Copy)]
pub struct Entry<'a> {
    /// The folder that it is in.
    pub folder: &'a Folder,
    /// Its name.
    pub name: &'a [u8],
    /// The file.
    pub id: FileId,
    /// What it is.
    pub kind: FileKind,
    /// What its inode says, where that can be read.
    pub metadata: Option<&'a Metadata>,
}

impl Entry<'_> {
    /// The path from the filesystem's root: `/etc/hostname`.
    #[must_use]
    pub fn path(&self) -> Vec<u8> {
        join(&self.folder.path, self.name)
    }
}

/// A folder of the walk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folder {
    /// The path from the filesystem's root; empty for the root itself.
    pub path: Vec<u8>,
    /// The folder.
    pub id: FileId,
    depth: u32,
}

/// What is told of the entries of one filesystem. Called from many threads at once.
pub trait Visitor: Sync {
    /// What a visitor keeps for a folder while its entries are told.
    type InFolder<'v>
    where
        Self: 'v;

    /// A folder begins.
    fn enter<'v>(&'v self, folder: &Folder) -> Self::InFolder<'v>;

    /// An entry of the folder.
    fn visit(&self, entry: &Entry<'_>, in_folder: &mut Self::InFolder<'_>);

    /// The folder has ended.
    fn leave(&self, _folder: &Folder, _in_folder: Self::InFolder<'_>) {}
}

/// What a walk came to.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Entries told.
    pub entries: u64,
    /// What could not be read, by path, up to [`Limits::faults`].
    pub faults: Vec<(Vec<u8>, FsError)>,
    /// How many faults there were.
    pub fault_count: u64,
}

/// Appends a name to a path.
#[must_use]
pub fn join(folder: &[u8], name: &[u8]) -> Vec<u8> {
    let mut path = Vec::with_capacity(folder.len().saturating_add(name.len()).saturating_add(1));
    path.extend_from_slice(folder);
    path.push(b'/');
    path.extend_from_slice(name);
    path
}

struct Walk<'w, V> {
    fs: &'w dyn ReadOnlyFs,
    visitor: &'w V,
    limits: Limits,
    entries: AtomicU64,
    progress: &'w crate::progress::Progress,
    /// Set when the volume's budget is used up or a limit of the whole walk is reached.
    has_ended: AtomicBool,
    /// Folders that were entered. One that is met again is a second name of it, or a cycle.
    seen: Mutex<HashSet<FileId>>,
    faults: Mutex<Faults>,
}

/// Entries that are gathered before their inodes are asked for, where that is worth while.
const GATHERED: usize = 1024;

/// A subfolder that is to be walked.
struct Next {
    name: Box<[u8]>,
    id: FileId,
}

/// An entry of a folder whose inode was hinted and not yet asked for.
struct Gathered {
    name: Box<[u8]>,
    id: FileId,
    kind: Option<FileKind>,
}

#[derive(Default)]
struct Faults {
    listed: Vec<(Vec<u8>, FsError)>,
    count: u64,
}

/// Walks all of `fs`.
pub fn walk<V: Visitor>(
    fs: &dyn ReadOnlyFs,
    limits: Limits,
    visitor: &V,
    progress: &crate::progress::Progress,
) -> Outcome {
    let walk = Walk {
        fs,
        visitor,
        limits,
        entries: AtomicU64::new(0),
        progress,
        has_ended: AtomicBool::new(false),
        seen: Mutex::default(),
        faults: Mutex::default(),
    };
    let root = Folder { path: Vec::new(), id: fs.root(), depth: 0 };
    walk.is_new(root.id);
    rayon::scope(|scope| walk.folder(root, scope));
    let mut faults = walk.faults.into_inner().unwrap_or_else(PoisonError::into_inner);
    faults.keep_first(limits.faults);
    Outcome { entries: walk.entries.into_inner(), faults: faults.listed, fault_count: faults.count }
}

impl Faults {
    fn keep_first(&mut self, count: usize) {
        self.listed.sort_by(|a, b| a.0.cmp(&b.0));
        self.listed.truncate(count);
    }
}

impl<'w, V: Visitor> Walk<'w, V> {
    /// Reads one folder and spawns its subfolders. A panic of the reader stays inside.
    fn folder<'s>(&'s self, folder: Folder, scope: &Scope<'s>)
    where
        'w: 's,
    {
        if self.has_ended.load(Ordering::Relaxed) {
            return;
        }
        let parent = (folder.path.clone(), folder.depth);
        let mut below = Vec::new();
        let read = catch_unwind(AssertUnwindSafe(|| self.read(&folder, &mut below)));
        match read {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                if error.is_final() {
                    self.has_ended.store(true, Ordering::Relaxed);
                }
                self.fault(folder.path, error);
            }
            Err(_) => {
                let reader = self.fs.description().reader;
                self.fault(
                    folder.path,
                    FsError::Reader { reader, what: "the reader panicked on this folder" },
                );
            }
        }
        // A path is made when its folder's turn comes: many long ones would wait in memory.
        let parent = Arc::new(parent);
        for next in below {
            let parent = parent.clone();
            scope.spawn(move |scope| {
                let folder = Folder {
                    path: join(&parent.0, &next.name),
                    id: next.id,
                    depth: parent.1.saturating_add(1),
                };
                drop(parent);
                self.folder(folder, scope);
            });
        }
    }

    fn read(&self, folder: &Folder, below: &mut Vec<Next>) -> Result<(), FsError> {
        let mut in_folder = self.visitor.enter(folder);
        let mut count = 0_u64;
        let mut limit = None;
        let mut one = |entry: &DirEntry<'_>| {
            count = count.saturating_add(1);
            if self.entries.fetch_add(1, Ordering::Relaxed) >= self.limits.entries {
                limit = Some(FsError::Limit { what: "entries of one filesystem", cap: self.limits.entries });
                self.has_ended.store(true, Ordering::Relaxed);
                return ControlFlow::Break(());
            }
            let metadata = self.metadata(folder, entry);
            let kind = match &metadata {
                Some(metadata) => metadata.kind,
                // Without its inode a subfolder cannot be read: it is told, and not entered.
                None => entry.kind.filter(|hint| *hint != FileKind::Directory).unwrap_or(FileKind::Unknown),
            };
            if kind == FileKind::Directory {
                below.extend(self.next(folder, entry.name, entry.id));
            }
            let told = Entry { folder, name: entry.name, id: entry.id, kind, metadata: metadata.as_ref() };
            self.visitor.visit(&told, &mut in_folder);
            ControlFlow::Continue(())
        };
        let result = if self.fs.wants_hints() {
            self.read_ahead(folder.id, &mut one)
        } else {
            self.fs.read_dir(folder.id, &mut |entry| one(&entry))
        };
        self.progress.add_entries(count);
        self.visitor.leave(folder, in_folder);
        limit.map_or(result, Err)
    }

    /// Hints the inodes of many entries before each is asked for: they lie in several blocks, and one block's wait would
    /// follow another's.
    fn read_ahead(
        &self,
        folder: FileId,
        one: &mut dyn FnMut(&DirEntry<'_>) -> ControlFlow<()>,
    ) -> Result<(), FsError> {
        let mut gathered: Vec<Gathered> = Vec::new();
        let mut all = |gathered: &mut Vec<Gathered>| {
            let ids: Vec<FileId> = gathered.iter().map(|entry| entry.id).collect();
            self.fs.will_ask(&ids);
            let mut entries = gathered.drain(..);
            entries.try_for_each(|Gathered { name, id, kind }| one(&DirEntry { name: &name, id, kind }))
        };
        let result = self.fs.read_dir(folder, &mut |entry| {
            gathered.push(Gathered { name: entry.name.into(), id: entry.id, kind: entry.kind });
            if gathered.len() < GATHERED { ControlFlow::Continue(()) } else { all(&mut gathered) }
        });
        // Entries that were whole are visited also where the folder is damaged further on.
        let _ = all(&mut gathered);
        result
    }

    /// What the inode of an entry says. What the folder says of it is a hint for programs that look at names only; one
    /// changed byte there would hide all of `/var`.
    fn metadata(&self, folder: &Folder, entry: &DirEntry<'_>) -> Option<Metadata> {
        let fault = |error| self.fault(join(&folder.path, entry.name), error);
        match self.fs.metadata(entry.id) {
            Ok(metadata) => {
                let is_directory = |kind| if kind == FileKind::Directory { "a directory" } else { "a file" };
                let found = is_directory(metadata.kind);
                // A subfolder whose inode says otherwise cannot be entered, and hides what is in it too.
                if let Some(claimed) = entry.kind.map(is_directory).filter(|claimed| *claimed != found) {
                    fault(Fault::new("directory entry type", 0, claimed, found).into());
                }
                Some(metadata)
            }
            Err(error) => {
                fault(error);
                None
            }
        }
    }

    /// The subfolder to walk, unless it was met before or lies too deep.
    fn next(&self, folder: &Folder, name: &[u8], id: FileId) -> Option<Next> {
        let path = || join(&folder.path, name);
        let depth = folder.depth.saturating_add(1);
        if !self.is_new(id) {
            self.fault(path(), Fault::new("folder", 0, "one name", "a second name, or a cycle").into());
            return None;
        }
        if depth > self.limits.depth {
            self.fault(
                path(),
                FsError::Limit { what: "folders inside folders", cap: self.limits.depth.into() },
            );
            return None;
        }
        if folder.path.len().saturating_add(name.len()).saturating_add(1) > self.limits.path_bytes {
            let cap = u64::try_from(self.limits.path_bytes).unwrap_or(u64::MAX);
            self.fault(path(), FsError::Limit { what: "bytes of a path", cap });
            return None;
        }
        Some(Next { name: name.into(), id })
    }

    fn is_new(&self, id: FileId) -> bool {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).insert(id)
    }

    fn fault(&self, path: Vec<u8>, error: FsError) {
        let mut faults = self.faults.lock().unwrap_or_else(PoisonError::into_inner);
        faults.count = faults.count.saturating_add(1);
        faults.listed.push((path, error));
        // The first by path are kept, so that two walks keep the same.
        if faults.listed.len() >= self.limits.faults.saturating_mul(2).max(1) {
            faults.keep_first(self.limits.faults);
        }
    }
}

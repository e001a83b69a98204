//! A parallel walk as `scanner/src/walk.rs` does it: folders are tasks, each is entered once, each entry's metadata is
//! asked for. It keeps no names.

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use rayon::Scope;
use stillframe_fs::{FileId, FileKind, ReadOnlyFs};

/// Entries whose inodes are hinted at once, where the source wants hints.
const GATHERED: usize = 1024;

/// A walk that goes on.
pub(crate) struct Walk<'w> {
    fs: &'w dyn ReadOnlyFs,
    gathers: bool,
    pub(crate) entries: AtomicU64,
    pub(crate) faults: AtomicU64,
    seen: Mutex<HashSet<FileId>>,
    /// Regular files with content, one for each name.
    pub(crate) files: Mutex<Vec<FileId>>,
}

impl<'w> Walk<'w> {
    /// Walks all of `fs`, and gathers the regular files where that is wanted.
    pub(crate) fn all(fs: &'w dyn ReadOnlyFs, gathers: bool) -> Self {
        let walk = Self {
            fs,
            gathers,
            entries: AtomicU64::new(0),
            faults: AtomicU64::new(0),
            seen: Mutex::default(),
            files: Mutex::default(),
        };
        let root = fs.root();
        walk.seen.lock().unwrap().insert(root);
        rayon::scope(|scope| walk.folder(root, scope));
        walk
    }

    fn folder<'s>(&'s self, folder: FileId, scope: &Scope<'s>)
    where
        'w: 's,
    {
        let (mut below, mut files, mut gathered) = (Vec::new(), Vec::new(), Vec::new());
        let mut count = 0;
        let wants_hints = self.fs.wants_hints();
        let mut all = |gathered: &mut Vec<FileId>| {
            self.fs.will_ask(gathered);
            gathered.drain(..).for_each(|id| self.entry(id, &mut below, &mut files));
        };
        let read = self.fs.read_dir(folder, &mut |entry| {
            count += 1;
            gathered.push(entry.id);
            if !wants_hints || gathered.len() == GATHERED {
                all(&mut gathered);
            }
            ControlFlow::Continue(())
        });
        all(&mut gathered);
        self.entries.fetch_add(count, Ordering::Relaxed);
        if read.is_err() {
            self.faults.fetch_add(1, Ordering::Relaxed);
        }
        if !files.is_empty() {
            self.files.lock().unwrap().append(&mut files);
        }
        for folder in below {
            scope.spawn(move |scope| self.folder(folder, scope));
        }
    }

    fn entry(&self, id: FileId, below: &mut Vec<FileId>, files: &mut Vec<FileId>) {
        match self.fs.metadata(id) {
            Ok(metadata) if metadata.kind == FileKind::Directory => {
                if self.seen.lock().unwrap().insert(id) {
                    below.push(id);
                }
            }
            Ok(metadata) if metadata.kind == FileKind::File && self.gathers && metadata.size_bytes > 0 => {
                files.push(id);
            }
            Ok(_) => {}
            Err(_) => {
                self.faults.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

//! The same work, by the kernel.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use rayon::Scope;

use crate::{Outcome, PIECE_BYTES};

#[derive(Default)]
struct Walk {
    entries: AtomicU64,
    files: Mutex<Vec<(u64, PathBuf)>>,
}

impl Walk {
    fn folder<'s>(&'s self, folder: &Path, scope: &Scope<'s>) {
        let mut files = Vec::new();
        for entry in fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            self.entries.fetch_add(1, Ordering::Relaxed);
            let (path, metadata) = (entry.path(), entry.metadata().unwrap());
            if metadata.is_dir() {
                scope.spawn(move |scope| self.folder(&path, scope));
            } else if metadata.is_file() && metadata.len() > 0 {
                files.push((metadata.ino(), path));
            }
        }
        self.files.lock().unwrap().append(&mut files);
    }
}

pub(crate) fn run(folder: &Path) -> Outcome {
    let started = Instant::now();
    let walked = Walk::default();
    rayon::scope(|scope| walked.folder(folder, scope));
    let walk = started.elapsed();
    let mut files = walked.files.into_inner().unwrap();
    files.sort_unstable();
    files.dedup_by_key(|(inode, _)| *inode);
    let (next, bytes) = (AtomicUsize::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..rayon::current_num_threads() {
            scope.spawn(|| {
                let mut piece = vec![0; PIECE_BYTES];
                while let Some((_, path)) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let mut file = File::open(path).unwrap();
                    loop {
                        match file.read(&mut piece).unwrap() {
                            0 => break,
                            read => bytes.fetch_add(read as u64, Ordering::Relaxed),
                        };
                    }
                }
            });
        }
    });
    Outcome {
        walk,
        content: started.elapsed() - walk,
        entries: walked.entries.into_inner(),
        files: files.len() as u64,
        content_bytes: bytes.into_inner(),
        ..Outcome::default()
    }
}

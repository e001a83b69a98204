//! Walks an ext filesystem on an image with several threads: how long it takes and what it asks of the source.
//! usage: walk IMAGE [OFFSET-OF-THE-FILESYSTEM [THREADS [contents|direct]]]
#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::expect_used, reason = "a program for measuring")]

use std::collections::BTreeSet;
use std::ops::{ControlFlow, Range};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use stillframe_block::{
    BLOCK_BYTES, BlockCache, BlockSource, CachedSource, FileSource, ReadError, WindowSource,
};
use stillframe_ext::ExtFs;
use stillframe_fs::{FileId, FileKind, ReadOnlyFs};

/// Counts what is asked of the source below.
struct Asked {
    inner: Arc<dyn BlockSource>,
    reads: AtomicU64,
    bytes: AtomicU64,
    blocks: Mutex<BTreeSet<u64>>,
}

impl BlockSource for Asked {
    fn len_bytes(&self) -> u64 {
        self.inner.len_bytes()
    }

    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), ReadError> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        let len = u64::try_from(buffer.len()).unwrap_or(0);
        self.bytes.fetch_add(len, Ordering::Relaxed);
        let mut blocks = self.blocks.lock().unwrap();
        blocks.extend(offset / BLOCK_BYTES..offset.saturating_add(len).div_ceil(BLOCK_BYTES));
        drop(blocks);
        self.inner.read_exact_at(offset, buffer)
    }

    fn next_written(&self, offset: u64) -> Result<Option<Range<u64>>, ReadError> {
        self.inner.next_written(offset)
    }
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let image = arguments.next().expect("an image");
    let offset: u64 = arguments.next().map_or(0, |offset| offset.parse().expect("an offset"));
    let threads: usize = arguments.next().map_or(2, |threads| threads.parse().expect("a number"));
    let mode = arguments.next().unwrap_or_default();
    let disk: Arc<dyn BlockSource> = Arc::new(FileSource::open(image.as_ref()).expect("the image opens"));
    let len = disk.len_bytes();
    let below: Arc<dyn BlockSource> = if mode == "direct" {
        disk
    } else {
        Arc::new(CachedSource::new(disk, BlockCache::new(256 << 20), 0))
    };
    let volume = Arc::new(WindowSource::new(below, offset, len));
    let asked = Arc::new(Asked {
        inner: volume,
        reads: AtomicU64::new(0),
        bytes: AtomicU64::new(0),
        blocks: Mutex::default(),
    });
    let begin = Instant::now();
    let fs = ExtFs::open(asked.clone()).expect("the filesystem opens");
    let folders = Mutex::new(vec![fs.root()]);
    let (busy, files, content) = (AtomicUsize::new(0), AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let next = {
                        let mut folders = folders.lock().unwrap();
                        let next = folders.pop();
                        if next.is_some() {
                            busy.fetch_add(1, Ordering::SeqCst);
                        }
                        next
                    };
                    match next {
                        Some(folder) => {
                            let found = walk(&fs, folder, &files, &content, mode == "contents");
                            folders.lock().unwrap().extend(found);
                            busy.fetch_sub(1, Ordering::SeqCst);
                        }
                        None if busy.load(Ordering::SeqCst) == 0 => break,
                        None => std::thread::yield_now(),
                    }
                }
            });
        }
    });
    println!(
        "{:.3} s, {} entries, {} reads of {} bytes in {} blocks of 512 KiB, {} bytes of content",
        begin.elapsed().as_secs_f64(),
        files.load(Ordering::Relaxed),
        asked.reads.load(Ordering::Relaxed),
        asked.bytes.load(Ordering::Relaxed),
        asked.blocks.lock().unwrap().len(),
        content.load(Ordering::Relaxed),
    );
}

fn walk(fs: &ExtFs, folder: FileId, files: &AtomicU64, content: &AtomicU64, reads: bool) -> Vec<FileId> {
    let mut found = Vec::new();
    let mut entries = Vec::new();
    let _ = fs.read_dir(folder, &mut |entry| {
        entries.push(entry.id);
        ControlFlow::Continue(())
    });
    let mut buffer = vec![0; if reads { 1 << 20 } else { 0 }];
    for id in entries {
        files.fetch_add(1, Ordering::Relaxed);
        let Ok(metadata) = fs.metadata(id) else { continue };
        if metadata.kind == FileKind::Directory {
            found.push(id);
        }
        if reads && metadata.kind == FileKind::File {
            let Ok(mut file) = fs.open(id) else { continue };
            let mut at = 0;
            while let Ok(read @ 1..) = file.read_at(at, &mut buffer) {
                at = at.saturating_add(u64::try_from(read).unwrap_or(0));
            }
            content.fetch_add(at, Ordering::Relaxed);
        }
    }
    found
}

//! Our readers, over the sources that the program stacks.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use stillframe_block::{BlockCache, BlockSource, CachedSource, CountingSource, FileSource, WindowSource};
use stillframe_fs::{FileId, ReadOnlyFs};
use stillframe_partitions::{PartitionRole, Scheme, read_table};
use stillframe_probe::{Content, FsKind, probe};

use crate::walk::Walk;
use crate::{Outcome, PIECE_BYTES, Reads, Wanted};

/// The largest filesystem of a disk.
pub(crate) fn largest(disk: &Arc<dyn BlockSource>) -> (WindowSource, FsKind) {
    let table = read_table(&**disk).unwrap();
    let mut ranges = vec![(0, disk.len_bytes())];
    if table.scheme != Scheme::None {
        let partitions = table.partitions.iter().filter(|part| part.role != PartitionRole::Extended);
        ranges = partitions.map(|part| (part.start_bytes, part.len_bytes)).collect();
    }
    let found = ranges.into_iter().filter_map(|(start, len)| {
        let window = WindowSource::new(disk.clone(), start, len);
        match probe(&window).unwrap().content {
            Content::Filesystem(kind) => Some((window, kind)),
            _ => None,
        }
    });
    found.max_by_key(|(window, _)| window.len_bytes()).unwrap()
}

pub(crate) fn open(path: &Path) -> Arc<dyn BlockSource> {
    Arc::new(FileSource::open(path).unwrap())
}

pub(crate) fn run(wanted: &Wanted, reads_content: bool) -> Outcome {
    let image = Arc::new(CountingSource::new(open(&wanted.path)));
    let cached: Arc<dyn BlockSource> =
        Arc::new(CachedSource::new(image.clone(), BlockCache::new(wanted.cache_bytes), 0));
    let (window, kind) = largest(&cached);
    let volume: Arc<dyn BlockSource> = Arc::new(window);
    let asked = wanted.counts_asked.then(|| Arc::new(CountingSource::new(volume.clone())));
    let reads = || {
        let (below, above) = (image.counts(), asked.as_ref().map(|asked| asked.counts()).unwrap_or_default());
        Reads {
            requests: below.requests,
            bytes: below.bytes,
            blocks: below.distinct_blocks,
            asked_requests: above.requests,
            asked_bytes: above.bytes,
        }
    };
    let volume = asked.as_ref().map_or(volume, |asked| asked.clone());
    let started = Instant::now();
    let fs = stillframe_readers::open(kind, volume).unwrap();
    let walked = Walk::all(&*fs, reads_content);
    let walk = started.elapsed();
    let mut outcome = Outcome {
        walk,
        entries: walked.entries.into_inner(),
        faults: walked.faults.into_inner(),
        after_walk: reads(),
        ..Outcome::default()
    };
    if reads_content {
        let files = in_order(&*fs, walked.files.into_inner().unwrap());
        outcome.files = files.len() as u64;
        let (bytes, faults) = content(&*fs, &files, wanted.threads);
        outcome.content_bytes = bytes;
        outcome.faults += faults;
        outcome.content = started.elapsed() - walk;
        outcome.after_content = reads();
    }
    outcome
}

/// Each file once, by where its first byte lies; those that lie in their inodes first.
fn in_order(fs: &dyn ReadOnlyFs, mut files: Vec<FileId>) -> Vec<FileId> {
    use rayon::prelude::{IntoParallelIterator, ParallelIterator};
    files.sort_unstable();
    files.dedup();
    let place = |id: FileId| {
        let first = fs.open(id).ok().and_then(|mut file| file.extents(0..1).first().copied());
        (first.map(|extent| (extent.device, extent.start_bytes)), id)
    };
    let mut placed: Vec<_> = files.into_par_iter().map(place).collect();
    placed.sort_unstable();
    placed.into_iter().map(|(_, id)| id).collect()
}

/// Reads every byte, each thread the next file that none has taken; bytes and faults.
fn content(fs: &dyn ReadOnlyFs, files: &[FileId], threads: usize) -> (u64, u64) {
    let (next, bytes, faults) = (AtomicUsize::new(0), AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let mut piece = vec![0; PIECE_BYTES];
                while let Some(id) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
                    match whole(fs, *id, &mut piece) {
                        Some(len) => bytes.fetch_add(len, Ordering::Relaxed),
                        None => faults.fetch_add(1, Ordering::Relaxed),
                    };
                }
            });
        }
    });
    (bytes.into_inner(), faults.into_inner())
}

fn whole(fs: &dyn ReadOnlyFs, id: FileId, piece: &mut [u8]) -> Option<u64> {
    let mut file = fs.open(id).ok()?;
    let mut offset = 0;
    while offset < file.len_bytes() {
        match file.read_at(offset, piece).ok()? {
            0 => break,
            read => offset += read as u64,
        }
    }
    Some(offset)
}

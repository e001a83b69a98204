//! Reading many files in the order of the disk, with what comes next asked for before it is waited for.
//!
//! A source that fetches pays for each block and waits for it. So the files are taken in batches: what describes a batch is
//! asked for at once, its readers say where its content lies without reading it, and the files are read in the order in which
//! they lie, the next ones' blocks under way. While one batch is read the next one is planned. All threads go through a
//! batch together: were each given a part of it, blocks at the parts' ends would be fetched twice. All of it will be read:
//! nothing is guessed.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use rayon::prelude::*;
use stillframe_block::BLOCK_BYTES;
use stillframe_fs::{Extent, FileContent, FileId, ReadOnlyFs, in_reading_order};

/// How much of files is asked for that were not begun: half of what a source holds, beside what is asked for of those that
/// are.
const AHEAD_BYTES: u64 = 64 * BLOCK_BYTES;
/// What a file counts for at least: what names it is read too.
const LEAST_BYTES: u64 = 4096;
/// Of a longer file the start is planned; the rest is asked for as it is read.
const FILE_BYTES: u64 = 16 * BLOCK_BYTES;
/// So many files are planned at a time,
const BATCH_FILES: usize = 4096;
/// and so many extents of them are kept: crafted files have thousands each. Beyond, a file is asked for as it is read.
const BATCH_EXTENTS: usize = 1 << 18;
/// Set where a file was begun: to ask for it comes too late.
const BEGUN: u64 = u64::MAX;

/// Where the start of a file lies that will be read from its start.
pub(crate) fn extents(file: &mut dyn FileContent) -> Vec<Extent> {
    let len = file.len_bytes().min(FILE_BYTES);
    file.extents(0..len)
}

/// How the items of a plan are read.
pub(crate) struct Reading<'a, I, E, W> {
    /// The filesystem, where asking ahead does anything; where it does not, nothing is planned.
    pub(crate) ahead_on: Option<&'a dyn ReadOnlyFs>,
    /// The file of an item.
    pub(crate) id: I,
    /// Where its content lies; nothing where nothing of it will be read.
    pub(crate) extents: E,
    /// Reads it.
    pub(crate) work: W,
}

/// An item of a batch, and where it lies.
struct Planned<'t, T> {
    item: &'t T,
    place: usize,
    extents: Vec<Extent>,
}

impl<I, E, W> Reading<'_, I, E, W> {
    /// Reads all items on the threads of the pool, and gives what came of them in their order.
    pub(crate) fn run<T: Sync, R: Send>(&self, items: &[T]) -> Vec<R>
    where
        I: Fn(&T) -> FileId + Sync,
        E: Fn(&T) -> Vec<Extent> + Sync,
        W: Fn(&T) -> R + Sync,
    {
        let Some(fs) = self.ahead_on else { return items.par_iter().map(&self.work).collect() };
        let mut batches = items.chunks(BATCH_FILES);
        let mut first_place = 0_usize;
        let mut plan_next = || {
            let batch = batches.next()?;
            let planned = self.plan(fs, batch, first_place);
            first_place = first_place.saturating_add(batch.len());
            Some(planned)
        };
        let mut results: Vec<(usize, R)> = Vec::with_capacity(items.len());
        let mut planned = plan_next();
        while let Some(batch) = planned {
            let (read, next) = rayon::join(|| self.read(fs, &batch), &mut plan_next);
            results.extend(read);
            planned = next;
        }
        results.sort_by_key(|(place, _)| *place);
        results.into_iter().map(|(_, result)| result).collect()
    }

    /// The items of a batch in the order in which they lie on the disk.
    fn plan<'t, T: Sync>(
        &self,
        fs: &dyn ReadOnlyFs,
        batch: &'t [T],
        first_place: usize,
    ) -> Vec<Planned<'t, T>>
    where
        I: Fn(&T) -> FileId,
        E: Fn(&T) -> Vec<Extent> + Sync,
        Self: Sync,
    {
        fs.will_ask(&batch.iter().map(&self.id).collect::<Vec<_>>());
        let kept = AtomicUsize::new(0);
        let mut planned: Vec<Planned<'t, T>> = batch
            .par_iter()
            .enumerate()
            .map(|(index, item)| {
                let extents = if kept.load(Ordering::Relaxed) < BATCH_EXTENTS {
                    (self.extents)(item)
                } else {
                    Vec::new()
                };
                kept.fetch_add(extents.len(), Ordering::Relaxed);
                Planned { item, place: first_place.saturating_add(index), extents }
            })
            .collect();
        planned.sort_by_key(|one| (one.extents.first().copied(), one.place));
        planned
    }

    fn read<T: Sync, R: Send>(&self, fs: &dyn ReadOnlyFs, batch: &[Planned<'_, T>]) -> Vec<(usize, R)>
    where
        W: Fn(&T) -> R + Sync,
        Self: Sync,
    {
        let ahead = Ahead {
            asked: batch.iter().map(|_| AtomicU64::new(0)).collect(),
            bytes: AtomicU64::new(0),
            next: Mutex::new(0),
        };
        let one = |(index, planned): (usize, &Planned<'_, T>)| {
            ahead.begin(index);
            let next = ahead.next(index, batch);
            let extents = batch.get(next).unwrap_or_default().iter().flat_map(|one| &one.extents);
            let extents = in_reading_order(extents.copied().collect());
            if !extents.is_empty() {
                fs.prefetch(&extents);
            }
            (planned.place, (self.work)(planned.item))
        };
        batch.iter().enumerate().par_bridge().map(one).collect()
    }
}

/// Which items of a batch were asked for and not begun.
struct Ahead {
    asked: Vec<AtomicU64>,
    /// The sum of `asked`.
    bytes: AtomicU64,
    /// The first that was not asked for.
    next: Mutex<usize>,
}

impl Ahead {
    /// What to ask for, for the thread that does the item at `index`: as many as there is room for.
    fn next<T>(&self, index: usize, batch: &[Planned<'_, T>]) -> Range<usize> {
        if self.bytes.load(Ordering::Relaxed) >= AHEAD_BYTES {
            return 0..0;
        }
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        // The item itself too, where nobody asked for it yet: its extents may be many.
        let start = (*next).max(index);
        let mut end = start;
        for (planned, asked) in batch.iter().zip(&self.asked).skip(start) {
            if self.bytes.load(Ordering::Relaxed) >= AHEAD_BYTES {
                break;
            }
            let bytes = planned.extents.iter().map(Extent::len_bytes).fold(0_u64, u64::saturating_add);
            self.note(asked, bytes.clamp(LEAST_BYTES, FILE_BYTES.saturating_mul(2)));
            end = end.saturating_add(1);
        }
        *next = end;
        start..end
    }

    fn note(&self, asked: &AtomicU64, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        if asked.compare_exchange(0, bytes, Ordering::Relaxed, Ordering::Relaxed).is_err() {
            self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
    }

    fn begin(&self, index: usize) {
        let Some(asked) = self.asked.get(index) else { return };
        let bytes = asked.swap(BEGUN, Ordering::Relaxed);
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects, clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use std::ops::ControlFlow;

    use stillframe_fs::{DirEntry, FsDescription, FsError, Metadata};

    use super::*;

    /// Keeps what it is asked for ahead.
    struct Asked {
        description: FsDescription,
        looked: Mutex<Vec<FileId>>,
        prefetched: Mutex<Vec<Extent>>,
    }

    impl Default for Asked {
        fn default() -> Self {
            let description = FsDescription {
                kind: "made up",
                label: None,
                uuid: None,
                size_bytes: 0,
                dirty: None,
                reader: "a test",
                hidden: Vec::new(),
                notes: Vec::new(),
            };
            Self { description, looked: Mutex::default(), prefetched: Mutex::default() }
        }
    }

    impl ReadOnlyFs for Asked {
        fn description(&self) -> &FsDescription {
            &self.description
        }

        fn root(&self) -> FileId {
            FileId::new(0)
        }

        fn read_dir(
            &self,
            _: FileId,
            _: &mut dyn FnMut(DirEntry<'_>) -> ControlFlow<()>,
        ) -> Result<(), FsError> {
            Err(FsError::NotFound)
        }

        fn metadata(&self, _: FileId) -> Result<Metadata, FsError> {
            Err(FsError::NotFound)
        }

        fn open(&self, _: FileId) -> Result<Box<dyn FileContent + '_>, FsError> {
            Err(FsError::NotFound)
        }

        fn read_link(&self, _: FileId) -> Result<Vec<u8>, FsError> {
            Err(FsError::NotFound)
        }

        fn will_ask(&self, files: &[FileId]) {
            self.looked.lock().unwrap().extend(files);
        }

        fn prefetch(&self, extents: &[Extent]) {
            self.prefetched.lock().unwrap().extend(extents);
        }
    }

    /// Items that lie on the disk in an order of their own.
    fn extents_of(item: u64) -> Vec<Extent> {
        let start = (item * 7919 % 10_007) * 100_000;
        vec![Extent::new(start..start + 100_000)]
    }

    #[test]
    fn files_are_read_in_the_order_of_the_disk_and_asked_for_once_before() {
        let items: Vec<u64> = (0..10_000).collect();
        let (fs, order, most) = (Asked::default(), Mutex::new(Vec::new()), AtomicU64::new(0));
        let reading = Reading {
            ahead_on: Some(&fs),
            id: |item: &u64| FileId::new(*item),
            extents: |item: &u64| extents_of(*item),
            work: |item: &u64| {
                let asked: u64 = fs.prefetched.lock().unwrap().iter().map(Extent::len_bytes).sum();
                let mut order = order.lock().unwrap();
                most.fetch_max(
                    asked - (order.len() as u64).min(asked / 100_000) * 100_000,
                    Ordering::Relaxed,
                );
                order.push(*item);
                item * 2
            },
        };
        let one = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
        let doubled: Vec<u64> = one.install(|| reading.run(&items));
        assert!(doubled.iter().copied().eq((0..10_000).map(|item| item * 2)), "results are in order");
        let order = order.into_inner().unwrap();
        for batch in order.chunks(BATCH_FILES) {
            assert!(batch.is_sorted_by_key(|item| extents_of(*item).first().copied()));
        }
        let prefetched = fs.prefetched.into_inner().unwrap();
        let total: u64 = prefetched.iter().map(Extent::len_bytes).sum();
        assert_eq!(total, 10_000 * 100_000, "each extent is asked for once");
        assert!(prefetched.len() < 10_000, "neighbours are asked for together");
        let most = most.into_inner();
        assert!(most <= AHEAD_BYTES + 200_000 && most > AHEAD_BYTES / 2, "{most}");
        assert!(fs.looked.into_inner().unwrap().iter().copied().eq((0..10_000).map(FileId::new)));
    }

    #[test]
    fn many_threads_read_everything_once_and_nothing_is_planned_for_a_source_without_hints() {
        let items: Vec<u64> = (0..9_000).collect();
        let fs = Asked::default();
        let pool = rayon::ThreadPoolBuilder::new().num_threads(8).build().unwrap();
        let id = |item: &u64| FileId::new(*item);
        let reading = Reading {
            ahead_on: Some(&fs),
            id,
            extents: |item: &u64| extents_of(*item),
            work: |item: &u64| *item,
        };
        assert_eq!(pool.install(|| reading.run(&items)), items);
        let planned = AtomicUsize::new(0);
        let none = |_: &u64| {
            planned.fetch_add(1, Ordering::Relaxed);
            Vec::new()
        };
        let reading = Reading { ahead_on: None, id, extents: none, work: |item: &u64| *item };
        assert_eq!(pool.install(|| reading.run(&items)), items);
        assert_eq!(planned.into_inner(), 0);
    }

    #[test]
    fn crafted_files_in_many_pieces_fill_no_memory() {
        let items: Vec<u64> = (0..4_000).collect();
        let (fs, planned) = (Asked::default(), AtomicUsize::new(0));
        let many = |_: &u64| {
            let extents: Vec<Extent> = (0..4_096).map(|at| Extent::new(at * 10..at * 10 + 1)).collect();
            planned.fetch_add(extents.len(), Ordering::Relaxed);
            extents
        };
        let reading = Reading {
            ahead_on: Some(&fs),
            id: |item: &u64| FileId::new(*item),
            extents: many,
            work: |_: &u64| (),
        };
        assert_eq!(reading.run(&items).len(), 4_000);
        assert!(planned.into_inner() <= BATCH_EXTENTS + 64 * 4_096);
    }
}

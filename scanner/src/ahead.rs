//! Reading many files, each by one thread, with hints for those that come next.
//!
//! Small files share blocks: were each thread given a part of them, blocks at the parts' ends would be fetched twice, and
//! threads that wait for one block would leave others unasked for. So all threads go through the files together, in an
//! order close to that of the disk, and the files that come next are hinted. All of them will be read: nothing is guessed.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use rayon::prelude::*;
use stillframe_block::BLOCK_BYTES;
use stillframe_fs::FileContent;

/// How much of files is hinted that were not begun: half of what a source holds, beside what is hinted of those that are.
const AHEAD_BYTES: u64 = 64 * BLOCK_BYTES;
/// What a file counts for at least: what names it is read too.
const LEAST_BYTES: u64 = 4096;
/// A longer file is hinted as it is read.
const FILE_BYTES: u64 = 16 * BLOCK_BYTES;
/// So many files are looked at before they are hinted, and up to twice as many.
const LOOK_AHEAD: usize = 2048;
/// Set where a file was begun: a hint for it comes too late.
const BEGUN: u64 = u64::MAX;

/// Hints the start of a file that will be read soon; says how much that is.
pub(crate) fn hint(file: &mut dyn FileContent) -> u64 {
    let len = file.len_bytes().min(FILE_BYTES);
    file.will_read(0..len);
    len
}

/// Does `work` for each of `items` on the threads of the pool, and gives what came of them in their order. Where
/// `wants_hints`, `hint` is called for each a while before; it says how many bytes it hinted. And before that `look` is
/// called for many at once: what describes them must be here for them to be hinted.
pub(crate) fn map<T: Sync, R: Send>(
    items: &[T],
    wants_hints: bool,
    look: impl Fn(&[T]) + Sync,
    hint: impl Fn(&T) -> u64 + Sync,
    work: impl Fn(&T) -> R + Sync + Send,
) -> Vec<R> {
    if !wants_hints {
        return items.par_iter().map(work).collect();
    }
    let ahead = Ahead {
        hinted: items.iter().map(|_| AtomicU64::new(0)).collect(),
        bytes: AtomicU64::new(0),
        next: Mutex::new(0),
        looked: AtomicUsize::new(0),
    };
    let one = |(place, item): (usize, &T)| {
        ahead.begin(place);
        while let Some(next) = ahead.next(place) {
            if let Some(items) = ahead.to_look_at(next).and_then(|range| items.get(range)) {
                look(items);
            }
            if let Some(item) = items.get(next) {
                ahead.note(next, hint(item).max(LEAST_BYTES));
            }
        }
        (place, work(item))
    };
    let mut results: Vec<(usize, R)> = items.iter().enumerate().par_bridge().map(one).collect();
    results.sort_by_key(|(place, _)| *place);
    results.into_iter().map(|(_, result)| result).collect()
}

/// Which items were hinted and not begun.
struct Ahead {
    hinted: Vec<AtomicU64>,
    /// The sum of `hinted`.
    bytes: AtomicU64,
    /// The first that was not hinted.
    next: Mutex<usize>,
    /// The first that was not looked at.
    looked: AtomicUsize,
}

impl Ahead {
    /// The next one to hint for the thread that does the one at `place`.
    fn next(&self, place: usize) -> Option<usize> {
        if self.bytes.load(Ordering::Relaxed) >= AHEAD_BYTES {
            return None;
        }
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let item = (*next).max(place.saturating_add(1));
        *next = item.saturating_add(1).min(self.hinted.len());
        (item < self.hinted.len()).then_some(item)
    }

    /// What to look at when `item` is hinted, so that there is always a stretch ahead that was.
    fn to_look_at(&self, item: usize) -> Option<Range<usize>> {
        let until = item.saturating_add(LOOK_AHEAD.saturating_mul(2)).min(self.hinted.len());
        let is_due = |looked: usize| {
            let is_short = looked < item.saturating_add(LOOK_AHEAD).min(self.hinted.len());
            is_short.then_some(until)
        };
        let looked = self.looked.fetch_update(Ordering::Relaxed, Ordering::Relaxed, is_due).ok()?;
        Some(looked.max(item)..until)
    }

    fn note(&self, item: usize, bytes: u64) {
        let Some(hinted) = self.hinted.get(item) else { return };
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        if hinted.compare_exchange(0, bytes, Ordering::Relaxed, Ordering::Relaxed).is_err() {
            self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
    }

    fn begin(&self, item: usize) {
        let Some(hinted) = self.hinted.get(item) else { return };
        let bytes = hinted.swap(BEGUN, Ordering::Relaxed);
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn results_are_in_order_and_hints_stay_ahead_and_bounded() {
        let items: Vec<u64> = (0..5000).collect();
        let pool = rayon::ThreadPoolBuilder::new().num_threads(8).build().unwrap();
        let (hints, most, open) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
        let bytes = 100_000;
        let hint = |_: &u64| {
            hints.fetch_add(1, Ordering::SeqCst);
            most.fetch_max(open.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            bytes
        };
        let work = |item: &u64| {
            let _ =
                open.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |open| Some(open.saturating_sub(1)));
            item * 2
        };
        let looked: Mutex<Vec<u64>> = Mutex::default();
        let look = |items: &[u64]| looked.lock().unwrap().extend(items);
        let doubled = pool.install(|| map(&items, true, look, hint, work));
        assert!(doubled.iter().copied().eq((0..5000).map(|item| item * 2)));
        let (hints, most) = (hints.into_inner(), most.into_inner());
        assert!((1..5000).contains(&hints), "{hints} hints");
        assert!(most <= AHEAD_BYTES / bytes + 64, "{most} files were hinted and not begun");
        let none = |_: &u64| -> u64 { panic!("a hint that nobody wants") };
        assert_eq!(pool.install(|| map(&items, false, |_| panic!("nor a look"), none, work)), doubled);
        let mut looked = looked.into_inner().unwrap();
        looked.sort_unstable();
        assert!(looked.windows(2).all(|pair| pair[0] < pair[1]), "looked at twice");
        assert_eq!(looked.last(), Some(&4999));
    }
}

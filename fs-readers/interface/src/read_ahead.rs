use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use stillframe_block::BLOCK_BYTES;

use crate::FileContent;

/// How far ahead all files together are hinted that are streamed at once: 128 blocks, which at 1,000 a second is what is
/// under way while one takes an eighth of a second.
const AHEAD_BYTES: u64 = 128 * BLOCK_BYTES;
/// How far a file is hinted at its start. The distance grows with what was read, so that a file that nobody reads to its
/// end costs little.
const FIRST_BYTES: u64 = 32 * BLOCK_BYTES;
/// However many files are streamed, each is hinted so far.
const LEAST_BYTES: u64 = 2 * BLOCK_BYTES;
/// A file no longer than this is read with one or two reads: there is nothing to be ahead of.
const SHORT_BYTES: u64 = BLOCK_BYTES / 2;
/// The most extents that one hint names. A file that lies in more pieces than this is hinted up to there.
pub const HINT_EXTENTS_AT_MOST: usize = 4096;

/// Shares out how far ahead the files are hinted that are streamed at the same time, from their start towards their end.
#[derive(Debug, Default)]
pub struct ReadAhead {
    streams: AtomicU64,
}

impl ReadAhead {
    /// Begins the stream of a file of `len_bytes`.
    #[must_use]
    pub fn stream(&self, len_bytes: u64) -> Streamed<'_> {
        let share = (len_bytes > SHORT_BYTES).then_some(self);
        if share.is_some() {
            self.streams.fetch_add(1, Ordering::Relaxed);
        }
        Streamed { share, len_bytes, hinted: 0 }
    }

    fn ahead_bytes(&self) -> u64 {
        let streams = self.streams.load(Ordering::Relaxed).max(1);
        AHEAD_BYTES.checked_div(streams).unwrap_or(0).max(LEAST_BYTES)
    }
}

/// One file that is being streamed.
#[derive(Debug)]
pub struct Streamed<'a> {
    /// `None` where the file is too short for hints.
    share: Option<&'a ReadAhead>,
    len_bytes: u64,
    /// What was hinted so far.
    hinted: u64,
}

impl Streamed<'_> {
    /// To be called before each read with its offset: hints what comes at it and after it, up to the file's end.
    pub fn before_read(&mut self, file: &mut dyn FileContent, offset: u64) {
        let Some(share) = self.share else { return };
        let grown = offset.saturating_mul(2).saturating_add(FIRST_BYTES);
        let end = offset.saturating_add(share.ahead_bytes().min(grown)).min(self.len_bytes);
        let start = self.hinted.max(offset);
        // Block by block, and not a few bytes each time.
        let is_worth_it = end.saturating_sub(start) >= BLOCK_BYTES || end == self.len_bytes;
        if start < end && is_worth_it {
            self.hinted = end;
            file.will_read(start..end);
        }
    }
}

impl Drop for Streamed<'_> {
    fn drop(&mut self) {
        if let Some(share) = self.share {
            share.streams.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// Collects what a hint names: adds `range` of the source, joined with the last one where they touch. `false` where no
/// more are taken.
pub fn extent_hints(hints: &mut Vec<Range<u64>>, range: Range<u64>) -> bool {
    match hints.last_mut() {
        _ if range.is_empty() => {}
        Some(last) if last.end == range.start => last.end = range.end,
        _ => hints.push(range),
    }
    hints.len() < HINT_EXTENTS_AT_MOST
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects, reason = "a test may panic")]
mod tests {
    use super::*;
    use crate::FsError;

    /// A file that keeps the hints it was given.
    struct Hinted(u64, Vec<Range<u64>>);

    impl FileContent for Hinted {
        fn len_bytes(&self) -> u64 {
            self.0
        }

        fn read_at(&mut self, _: u64, buffer: &mut [u8]) -> Result<usize, FsError> {
            Ok(buffer.len())
        }

        fn will_read(&mut self, range: Range<u64>) {
            self.1.push(range);
        }
    }

    fn stream(share: &ReadAhead, len: u64) -> Vec<(u64, Range<u64>)> {
        let mut streamed = share.stream(len);
        let mut file = Hinted(len, Vec::new());
        let mut hints = Vec::new();
        for offset in (0..len).step_by(256 * 1024) {
            streamed.before_read(&mut file, offset);
            hints.extend(file.1.drain(..).map(|hint| (offset, hint)));
        }
        hints
    }

    #[test]
    fn a_long_file_is_hinted_once_from_its_start_to_its_end_and_never_beyond() {
        let share = ReadAhead::default();
        for len in [SHORT_BYTES + 1, 3 << 20, (300 << 20) + 77] {
            let hints = stream(&share, len);
            let mut at = 0;
            for (offset, hint) in &hints {
                assert_eq!(hint.start, at, "nothing is left out or hinted twice");
                assert!(hint.end <= len && hint.end - offset <= AHEAD_BYTES);
                at = hint.end;
            }
            assert_eq!(at, len);
        }
        assert_eq!(share.streams.load(Ordering::Relaxed), 0, "those that ended do not count");
    }

    #[test]
    fn the_distance_grows_to_all_there_is_and_a_file_that_is_left_early_cost_little() {
        let hints = stream(&ReadAhead::default(), 1 << 30);
        assert_eq!(hints[0], (0, 0..FIRST_BYTES));
        let most = hints.iter().map(|(offset, hint)| hint.end - offset).max().unwrap();
        assert_eq!(most, AHEAD_BYTES);
        let (reached, _) = hints.iter().find(|(offset, hint)| hint.end - offset == AHEAD_BYTES).unwrap();
        assert!(*reached <= 28 << 20, "{reached}");
    }

    #[test]
    fn many_files_share_the_distance_and_short_ones_take_none() {
        let share = ReadAhead::default();
        let others: Vec<_> = (0..31).map(|_| share.stream(1 << 30)).collect();
        let most = stream(&share, 100 << 20).iter().map(|(offset, hint)| hint.end - offset).max().unwrap();
        assert_eq!(most, AHEAD_BYTES / 32);
        assert!(stream(&share, SHORT_BYTES).is_empty());
        drop(others);
        assert_eq!(share.ahead_bytes(), AHEAD_BYTES);
    }

    #[test]
    fn extents_side_by_side_are_one_and_there_is_an_end_of_them() {
        let mut hints = Vec::new();
        for range in [0..10, 10..20, 30..30, 20..21, 40..50] {
            assert!(extent_hints(&mut hints, range));
        }
        assert_eq!(hints, [0..21, 40..50]);
        let taken = (0..u64::MAX).take_while(|at| extent_hints(&mut hints, at * 100 + 100..at * 100 + 101));
        assert_eq!(taken.count() + 3, HINT_EXTENTS_AT_MOST);
    }
}

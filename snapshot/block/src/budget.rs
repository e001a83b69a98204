use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::{BlockSource, ExhaustedBudget, ReadError};

/// What reading one volume may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// Reads that a filesystem reader may make.
    pub reads: u64,
    /// Bytes that it may ask for.
    pub bytes: u64,
    /// Time from when the source was made, or [`BudgetSource::restart_clock`], to the last read.
    pub time: Duration,
}

impl Default for Budget {
    /// Generous for a volume of many millions of files, and an end for a loop: 2^32 reads, 16 TiB, one hour.
    fn default() -> Self {
        Self { reads: 1 << 32, bytes: 16 << 40, time: Duration::from_secs(3600) }
    }
}

/// Ends the endless loop of a reader on a crafted volume: past the budget every read is an error, for good.
pub struct BudgetSource {
    inner: Arc<dyn BlockSource>,
    meter: Arc<Meter>,
}

/// What was spent. The devices of one filesystem share it.
struct Meter {
    budget: Budget,
    made: Instant,
    /// When the clock started, in milliseconds after `made`.
    started_ms: AtomicU64,
    reads: AtomicU64,
    bytes: AtomicU64,
    /// The limit that was reached first.
    exhausted: Mutex<Option<ExhaustedBudget>>,
    /// Set with `exhausted`: asked at every read.
    is_exhausted: AtomicBool,
}

impl BudgetSource {
    /// Starts the clock.
    #[must_use]
    pub fn new(inner: Arc<dyn BlockSource>, budget: Budget) -> Self {
        let meter = Meter {
            budget,
            made: Instant::now(),
            started_ms: AtomicU64::new(0),
            reads: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            exhausted: Mutex::new(None),
            is_exhausted: AtomicBool::new(false),
        };
        Self { inner, meter: Arc::new(meter) }
    }

    /// Another device of the same filesystem: what is read of it is charged to the same budget.
    #[must_use]
    pub fn and(&self, inner: Arc<dyn BlockSource>) -> Self {
        Self { inner, meter: self.meter.clone() }
    }

    /// Starts the clock anew. For a volume that was opened and waited while others were read: their time is not its own.
    /// A limit that was reached stays.
    pub fn restart_clock(&self) {
        self.meter.started_ms.store(milliseconds(self.meter.made.elapsed()), Ordering::Relaxed);
    }

    /// Begins a new budget of the same size. For a volume that was read, and on which something else lies that is read
    /// now: what that costs is its own.
    pub fn renew(&self) {
        let meter = &self.meter;
        meter.reads.store(0, Ordering::Relaxed);
        meter.bytes.store(0, Ordering::Relaxed);
        *meter.exhausted.lock().unwrap_or_else(PoisonError::into_inner) = None;
        meter.is_exhausted.store(false, Ordering::Relaxed);
        self.restart_clock();
    }

    /// The limit that was reached first, if one was. A reader may hide the cause of an error; this does not.
    #[must_use]
    pub fn exhausted(&self) -> Option<ExhaustedBudget> {
        self.meter.exhausted()
    }

    /// Counts as a read of nothing. For loops that may go long without one: the hole of a sparse file has no end that a
    /// read would meet.
    ///
    /// # Errors
    /// [`ReadError::Budget`] where the budget is used up.
    pub fn check(&self) -> Result<(), ReadError> {
        self.charge(0)
    }

    /// Remembers a limit of the source below: a reader may hide why it failed.
    fn note<T>(&self, answer: Result<T, ReadError>) -> Result<T, ReadError> {
        if let Err(ReadError::Budget(exhausted)) = &answer {
            self.meter.exhaust(*exhausted);
        }
        answer
    }

    fn charge(&self, len: usize) -> Result<(), ReadError> {
        self.meter.charge(len)
    }
}

impl Meter {
    fn waited(&self) -> Duration {
        Duration::from_millis(self.started_ms.load(Ordering::Relaxed))
    }

    fn charge(&self, len: usize) -> Result<(), ReadError> {
        let len = u64::try_from(len).unwrap_or(u64::MAX);
        let Budget { reads, bytes, time } = self.budget;
        let over = if self.reads.fetch_add(1, Ordering::Relaxed) >= reads {
            Some(ExhaustedBudget::Reads { cap: reads })
        } else if self.bytes.fetch_add(len, Ordering::Relaxed).saturating_add(len) > bytes {
            Some(ExhaustedBudget::Bytes { cap: bytes })
        } else if self.made.elapsed() > time.saturating_add(self.waited()) {
            Some(ExhaustedBudget::Deadline { seconds: time.as_secs() })
        } else {
            None
        };
        if let Some(over) = over {
            // The first cause stays; later reads meet it again.
            self.exhaust(over);
        }
        match self.exhausted() {
            Some(exhausted) => Err(ReadError::Budget(exhausted)),
            None => Ok(()),
        }
    }

    fn exhaust(&self, by: ExhaustedBudget) {
        self.exhausted.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(by);
        self.is_exhausted.store(true, Ordering::Relaxed);
    }

    fn exhausted(&self) -> Option<ExhaustedBudget> {
        let is_exhausted = self.is_exhausted.load(Ordering::Relaxed);
        is_exhausted.then(|| *self.exhausted.lock().unwrap_or_else(PoisonError::into_inner)).flatten()
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl BlockSource for BudgetSource {
    fn len_bytes(&self) -> u64 {
        self.inner.len_bytes()
    }

    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), ReadError> {
        self.charge(buffer.len())?;
        self.note(self.inner.read_exact_at(offset, buffer))
    }

    fn prefetch(&self, ranges: &[Range<u64>]) {
        // Past the budget nothing will be read.
        if self.exhausted().is_none() {
            self.inner.prefetch(ranges);
        }
    }

    fn wants_hints(&self) -> bool {
        self.inner.wants_hints()
    }

    fn next_written(&self, offset: u64) -> Result<Option<Range<u64>>, ReadError> {
        self.charge(0)?;
        self.note(self.inner.next_written(offset))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MemorySource;
    use crate::hints::Hints;

    #[test]
    fn devices_of_one_filesystem_share_its_budget() {
        let first = limited(Budget { reads: 2, ..Budget::default() });
        let second = first.and(Arc::new(MemorySource(vec![0; 4096])));
        let mut byte = [0];
        assert!(first.read_exact_at(0, &mut byte).is_ok() && second.read_exact_at(0, &mut byte).is_ok());
        assert!(second.read_exact_at(0, &mut byte).is_err());
        assert_eq!(first.exhausted(), Some(ExhaustedBudget::Reads { cap: 2 }));
        first.renew();
        assert!(second.read_exact_at(0, &mut byte).is_ok() && first.exhausted().is_none());
    }

    fn limited(budget: Budget) -> BudgetSource {
        BudgetSource::new(Arc::new(MemorySource(vec![0; 4096])), budget)
    }

    #[test]
    fn an_endless_loop_of_reads_ends() {
        let source = limited(Budget { reads: 1000, ..Budget::default() });
        let mut reads = 0;
        while source.read_exact_at(0, &mut [0; 0]).is_ok() {
            reads += 1;
        }
        assert_eq!(reads, 1000);
        assert_eq!(source.exhausted(), Some(ExhaustedBudget::Reads { cap: 1000 }));
    }

    #[test]
    fn a_volume_s_time_is_not_that_of_others() {
        let source = limited(Budget { time: Duration::from_millis(200), ..Budget::default() });
        std::thread::sleep(Duration::from_millis(300));
        source.restart_clock();
        source.read_exact_at(0, &mut [0; 1]).unwrap();
        std::thread::sleep(Duration::from_millis(300));
        assert!(source.read_exact_at(0, &mut [0; 1]).is_err());
        source.restart_clock();
        assert!(source.read_exact_at(0, &mut [0; 1]).is_err());
    }

    #[test]
    fn a_limit_of_the_source_below_is_remembered() {
        let inner = Arc::new(limited(Budget { reads: 1, ..Budget::default() }));
        let source = BudgetSource::new(inner, Budget::default());
        source.read_exact_at(0, &mut [0; 1]).unwrap();
        assert_eq!(source.exhausted(), None);
        assert!(source.read_exact_at(0, &mut [0; 1]).is_err());
        assert_eq!(source.exhausted(), Some(ExhaustedBudget::Reads { cap: 1 }));
    }

    #[test]
    fn bytes_and_time_are_limits_too_and_stay_reached() {
        let source = limited(Budget { bytes: 10, ..Budget::default() });
        source.read_exact_at(0, &mut [0; 10]).unwrap();
        assert!(source.read_exact_at(0, &mut [0; 1]).is_err());
        assert!(matches!(source.read_exact_at(0, &mut [0; 0]), Err(ReadError::Budget(_))));

        let source = limited(Budget { time: Duration::ZERO, ..Budget::default() });
        std::thread::sleep(Duration::from_millis(2));
        assert!(source.read_exact_at(0, &mut [0; 1]).is_err());
        assert_eq!(source.exhausted(), Some(ExhaustedBudget::Deadline { seconds: 0 }));
    }

    #[test]
    fn hints_are_passed_on_until_the_budget_is_used_up() {
        let disk = Arc::new(Hints::default());
        let source = BudgetSource::new(disk.clone(), Budget { reads: 1, ..Budget::default() });
        source.prefetch(&[7..9, 20..30]);
        assert_eq!((source.wants_hints(), disk.taken()), (true, vec![7..9, 20..30]));
        source.read_exact_at(0, &mut [0; 1]).unwrap();
        assert!(source.read_exact_at(0, &mut [0; 1]).is_err());
        source.prefetch(&[7..9, 20..30]);
        assert_eq!(disk.taken(), []);
    }
}

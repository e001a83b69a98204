use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use jiff::Timestamp;
use stillframe_block::BLOCK_BYTES;
use tokio::sync::{Semaphore, watch};

use super::SourceError;
use super::index::TokenPool;
use crate::clock::Clock;
use crate::cost::{NanoDollars, Prices};

/// Blocks of all of a scan's snapshots that may be on their way at once take so much memory: enough for 1,000 a second at
/// 100 ms.
const IN_FLIGHT_BYTES: u64 = 64 << 20;
/// And the tokens of all of them so much: some 20 full chunks, or 100 GiB.
const TOKEN_BYTES: u64 = 24 << 20;

/// What a scan may read and spend, and until when, shared by all its snapshots, and the switch that ends all reading.
#[derive(Debug)]
pub struct ReadLimit {
    max_blocks: Option<u64>,
    max_cost: Option<NanoDollars>,
    prices: Prices,
    blocks: AtomicU64,
    spent: AtomicU64,
    stopped: watch::Sender<bool>,
    ends: OnceLock<Ends>,
    pub(super) in_flight: Semaphore,
    pub(super) tokens: Arc<TokenPool>,
}

/// When no more is read.
struct Ends {
    at: Timestamp,
    /// How long that was when it was said.
    after: Duration,
    clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for Ends {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.at.fmt(out)
    }
}

impl ReadLimit {
    /// At most so many blocks, at most so much for calls; no limit where there is none.
    #[must_use]
    pub fn new(max_blocks: Option<u64>, max_cost: Option<NanoDollars>, prices: Prices) -> Arc<Self> {
        let (stopped, _) = watch::channel(false);
        let (blocks, spent) = (AtomicU64::new(0), AtomicU64::new(0));
        let in_flight = Semaphore::new(usize::try_from(IN_FLIGHT_BYTES / BLOCK_BYTES).unwrap_or(1));
        let (ends, tokens) = (OnceLock::new(), TokenPool::new(TOKEN_BYTES));
        Arc::new(Self { max_blocks, max_cost, prices, blocks, spent, stopped, ends, in_flight, tokens })
    }

    /// Ends all reading at that time of the calendar, which goes on while the machine sleeps. The first one said holds.
    pub fn end_at(&self, at: Timestamp, clock: Arc<dyn Clock>) {
        let after = Duration::try_from(at.duration_since(clock.now())).unwrap_or_default();
        // The first one stays.
        let _ = self.ends.set(Ends { at, after, clock });
    }

    /// How long reading was allowed, where that time is over.
    #[must_use]
    pub fn time_is_over(&self) -> Option<Duration> {
        self.ends.get().filter(|ends| ends.clock.now() >= ends.at).map(|ends| ends.after)
    }

    /// Ends all reading for good: reads that wait fail at once, with [`SourceError::Stopped`].
    pub fn stop(&self) {
        self.stopped.send_replace(true);
    }

    /// Whether reading was ended.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        *self.stopped.borrow()
    }

    /// Blocks read so far, cut and broken ones included, since they are billed.
    #[must_use]
    pub fn blocks(&self) -> u64 {
        self.blocks.load(Ordering::Relaxed)
    }

    /// Spent so far on reading and listing.
    #[must_use]
    pub fn spent(&self) -> NanoDollars {
        NanoDollars(self.spent.load(Ordering::Relaxed))
    }

    /// Waits until reading is ended.
    pub(super) async fn until_stopped(&self) {
        // The sender lives as long as `self`: this ends by the value alone.
        let _ = self.stopped.subscribe().wait_for(|stopped| *stopped).await;
    }

    pub(super) fn take_get(&self) -> Result<(), SourceError> {
        self.check_time()?;
        if let Some(max) = self.max_blocks {
            take(&self.blocks, 1, max).map_err(|()| SourceError::BlockLimit { max })?;
        } else {
            self.blocks.fetch_add(1, Ordering::Relaxed);
        }
        let spent = self.spend(self.prices.get);
        if spent.is_err() {
            self.blocks.fetch_sub(1, Ordering::Relaxed);
        }
        spent
    }

    /// A get that was refused costs nothing.
    pub(super) fn give_back_get(&self) {
        self.blocks.fetch_sub(1, Ordering::Relaxed);
        self.spent.fetch_sub(self.prices.get.0, Ordering::Relaxed);
    }

    pub(super) fn take_list(&self) -> Result<(), SourceError> {
        self.check_time()?;
        self.spend(self.prices.list)
    }

    fn check_time(&self) -> Result<(), SourceError> {
        if *self.stopped.borrow() {
            return Err(SourceError::Stopped);
        }
        self.time_is_over().map_or(Ok(()), |max| Err(SourceError::TimeLimit { max }))
    }

    pub(super) fn give_back_list(&self) {
        self.spent.fetch_sub(self.prices.list.0, Ordering::Relaxed);
    }

    fn spend(&self, price: NanoDollars) -> Result<(), SourceError> {
        match self.max_cost {
            Some(max) => take(&self.spent, price.0, max.0).map_err(|()| SourceError::CostLimit { max }),
            None => {
                self.spent.fetch_add(price.0, Ordering::Relaxed);
                Ok(())
            }
        }
    }
}

/// Adds `amount` unless that passes `max`.
fn take(counter: &AtomicU64, amount: u64, max: u64) -> Result<(), ()> {
    let add = |used: u64| used.checked_add(amount).filter(|sum| *sum <= max);
    counter.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add).map(|_| ()).map_err(|_| ())
}

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::watch;

use super::SourceError;
use crate::cost::{NanoDollars, Prices};

/// What a scan may read and spend, shared by all its snapshots, and the switch that ends all reading.
#[derive(Debug)]
pub struct ReadLimit {
    max_blocks: Option<u64>,
    max_cost: Option<NanoDollars>,
    prices: Prices,
    blocks: AtomicU64,
    spent: AtomicU64,
    stopped: watch::Sender<bool>,
}

impl ReadLimit {
    /// At most so many blocks, at most so much for calls; no limit where there is none.
    #[must_use]
    pub fn new(max_blocks: Option<u64>, max_cost: Option<NanoDollars>, prices: Prices) -> Arc<Self> {
        let (stopped, _) = watch::channel(false);
        let (blocks, spent) = (AtomicU64::new(0), AtomicU64::new(0));
        Arc::new(Self { max_blocks, max_cost, prices, blocks, spent, stopped })
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
        if *self.stopped.borrow() {
            return Err(SourceError::Stopped);
        }
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
        if *self.stopped.borrow() { Err(SourceError::Stopped) } else { self.spend(self.prices.list) }
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

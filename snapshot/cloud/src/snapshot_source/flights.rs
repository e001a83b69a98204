//! Blocks on their way: those that a hint asked for, queued, in flight, or waiting to be taken, bounded together; and
//! those that a reader is getting for itself, so that nobody gets them a second time.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::SourceError;
use super::fetch::BlockBytes;

/// What came of a flight; `None` while it is under way.
pub(super) type Landing = Option<Result<Option<BlockBytes>, SourceError>>;

/// A block that nobody took for so long makes room for others. Readers as slow as 2 MiB a second take all that is held
/// for them in this time.
pub(super) const STALE: Duration = Duration::from_secs(30);
/// Looking for stale blocks is done no more often than this.
const SWEEP_PAUSE: Duration = Duration::from_secs(1);
/// Blocks that may wait for their turn; hints beyond are dropped.
const QUEUE_AT_MOST: usize = 4096;

/// The state of all blocks on their way.
pub(super) struct Flights {
    slots: HashMap<u32, Slot>,
    queue: VecDeque<u32>,
    /// Flights that began when nobody waited for them.
    flying: usize,
    /// Flights that a reader waited for when they began.
    reading: usize,
    ready: usize,
    slots_at_most: usize,
    swept: Instant,
    closed: bool,
    /// Blocks that were read and never taken.
    pub(super) wasted: u64,
}

enum Slot {
    /// Waits for its turn; with a reader that waits for it, where there is one.
    Queued(Option<(watch::Sender<Landing>, watch::Receiver<Landing>)>),
    Flying {
        landing: watch::Receiver<Landing>,
        is_hinted: bool,
        claimed: bool,
        abort: Option<AbortHandle>,
    },
    Ready {
        bytes: BlockBytes,
        since: Instant,
    },
}

/// How a reader gets a block.
pub(super) enum Taken {
    /// Here it is.
    Ready(BlockBytes),
    /// It is under way, or will be in its turn.
    Flying(watch::Receiver<Landing>),
    /// Read it yourself, and say here what came of it: it counts as under way.
    Absent(watch::Sender<Landing>),
}

impl Flights {
    pub(super) fn new(slots_at_most: usize) -> Self {
        Self {
            slots: HashMap::new(),
            queue: VecDeque::new(),
            flying: 0,
            reading: 0,
            ready: 0,
            slots_at_most,
            swept: Instant::now(),
            closed: false,
            wasted: 0,
        }
    }

    /// Whether no more hints can be remembered.
    pub(super) fn is_full(&self) -> bool {
        self.closed || self.queue.len() >= QUEUE_AT_MOST
    }

    pub(super) fn queue(&mut self, block: u32) {
        if !self.is_full() && !self.slots.contains_key(&block) {
            self.slots.insert(block, Slot::Queued(None));
            self.queue.push_back(block);
        }
    }

    /// The next block to fetch, where `window` flights at once leave room for one. Readers' own flights are begun whatever
    /// the window, and count.
    pub(super) fn start(&mut self, window: usize) -> Option<(u32, watch::Sender<Landing>)> {
        if self.closed || self.queue.is_empty() || self.flying.saturating_add(self.reading) >= window {
            return None;
        }
        let has_room = self.has_room();
        let place = self.queue.iter().position(|block| match self.slots.get(block) {
            // What a reader waits for is taken from here as soon as it comes, and needs no room.
            Some(Slot::Queued(waiting)) => has_room || waiting.is_some(),
            _ => false,
        })?;
        let block = self.queue.remove(place)?;
        let waiting = match self.slots.remove(&block) {
            Some(Slot::Queued(waiting)) => waiting,
            _ => None,
        };
        let is_claimed = waiting.is_some();
        let (sender, landing) = waiting.unwrap_or_else(|| watch::channel(None));
        self.fly(block, landing, !is_claimed, is_claimed);
        Some((block, sender))
    }

    fn fly(&mut self, block: u32, landing: watch::Receiver<Landing>, is_hinted: bool, claimed: bool) {
        self.slots.insert(block, Slot::Flying { landing, is_hinted, claimed, abort: None });
        let count = if is_hinted { &mut self.flying } else { &mut self.reading };
        *count = count.saturating_add(1);
    }

    pub(super) fn started(&mut self, block: u32, task: AbortHandle) {
        if let Some(Slot::Flying { abort, .. }) = self.slots.get_mut(&block) {
            *abort = Some(task);
        }
    }

    /// A flight ended, and whoever waits for it has been told; its block is kept where nobody does.
    pub(super) fn landed(&mut self, block: u32, result: &Result<Option<BlockBytes>, SourceError>) {
        let Some(Slot::Flying { claimed, is_hinted, .. }) = self.slots.get(&block) else { return };
        let (claimed, is_hinted) = (*claimed, *is_hinted);
        let count = if is_hinted { &mut self.flying } else { &mut self.reading };
        *count = count.saturating_sub(1);
        match result {
            Ok(Some(bytes)) if !claimed && !self.closed => {
                self.ready = self.ready.saturating_add(1);
                self.slots.insert(block, Slot::Ready { bytes: bytes.clone(), since: Instant::now() });
            }
            _ => {
                self.slots.remove(&block);
            }
        }
    }

    /// The block, where it is here already.
    pub(super) fn take_ready(&mut self, block: u32) -> Option<BlockBytes> {
        let Some(Slot::Ready { bytes, .. }) = self.slots.get(&block) else { return None };
        let bytes = bytes.clone();
        self.slots.remove(&block);
        self.ready = self.ready.saturating_sub(1);
        Some(bytes)
    }

    pub(super) fn take(&mut self, block: u32) -> Taken {
        if let Some(bytes) = self.take_ready(block) {
            return Taken::Ready(bytes);
        }
        match self.slots.get_mut(&block) {
            Some(Slot::Flying { landing, claimed, .. }) => {
                *claimed = true;
                Taken::Flying(landing.clone())
            }
            // In the order of the hints: files that are read side by side share blocks, and would come to them at times
            // that lie far apart.
            Some(Slot::Queued(Some((_, landing)))) => Taken::Flying(landing.clone()),
            Some(Slot::Queued(waiting)) => {
                let (sender, landing) = watch::channel(None);
                *waiting = Some((sender, landing.clone()));
                Taken::Flying(landing)
            }
            Some(Slot::Ready { .. }) | None => {
                let (sender, landing) = watch::channel(None);
                self.fly(block, landing, false, true);
                Taken::Absent(sender)
            }
        }
    }

    /// Ends all flights.
    pub(super) fn close(&mut self) {
        self.closed = true;
        self.queue.clear();
        for slot in self.slots.values() {
            if let Slot::Flying { abort: Some(task), .. } = slot {
                task.abort();
            }
        }
        self.slots.clear();
    }

    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        self.flying.saturating_add(self.ready)
    }

    fn has_room(&mut self) -> bool {
        if self.flying.saturating_add(self.ready) < self.slots_at_most {
            return true;
        }
        if self.swept.elapsed() < SWEEP_PAUSE {
            return false;
        }
        self.swept = Instant::now();
        let before = self.slots.len();
        self.slots.retain(|_, slot| !matches!(slot, Slot::Ready { since, .. } if since.elapsed() > STALE));
        let dropped = before.saturating_sub(self.slots.len());
        self.ready = self.ready.saturating_sub(dropped);
        self.wasted = self.wasted.saturating_add(u64::try_from(dropped).unwrap_or(0));
        dropped > 0
    }
}

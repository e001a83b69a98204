//! Blocks that are read before they are asked for: queued, in flight, or waiting to be taken, bounded together.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::SourceError;
use super::fetch::BlockBytes;

/// What came of a flight; `None` while it is under way.
pub(super) type Landing = Option<Result<Option<BlockBytes>, SourceError>>;

/// A block that nobody took for so long makes room for others.
const STALE: Duration = Duration::from_secs(10);
/// Blocks that may wait for their turn; hints beyond are dropped.
const QUEUE_AT_MOST: usize = 4096;

/// The state of all hinted blocks.
pub(super) struct Flights {
    slots: HashMap<u32, Slot>,
    queue: VecDeque<u32>,
    flying: usize,
    ready: usize,
    slots_at_most: usize,
    closed: bool,
    /// Blocks that were read and never taken.
    pub(super) wasted: u64,
}

enum Slot {
    Queued,
    Flying { landing: watch::Receiver<Landing>, claimed: bool, abort: Option<AbortHandle> },
    Ready { bytes: BlockBytes, since: Instant },
}

/// How a reader gets a block.
pub(super) enum Taken {
    /// Here it is.
    Ready(BlockBytes),
    /// It is under way.
    Flying(watch::Receiver<Landing>),
    /// Read it yourself.
    Absent,
}

impl Flights {
    pub(super) fn new(slots_at_most: usize) -> Self {
        Self {
            slots: HashMap::new(),
            queue: VecDeque::new(),
            flying: 0,
            ready: 0,
            slots_at_most,
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
            self.slots.insert(block, Slot::Queued);
            self.queue.push_back(block);
        }
    }

    /// The next block to fetch, where `window` flights at once leave room for one.
    pub(super) fn start(&mut self, window: usize) -> Option<(u32, watch::Sender<Landing>)> {
        if self.closed || self.queue.is_empty() || self.flying >= window || !self.has_room() {
            return None;
        }
        while let Some(block) = self.queue.pop_front() {
            // One that a reader fetched itself has left the queue in all but name.
            if !matches!(self.slots.get(&block), Some(Slot::Queued)) {
                continue;
            }
            let (sender, landing) = watch::channel(None);
            self.slots.insert(block, Slot::Flying { landing, claimed: false, abort: None });
            self.flying = self.flying.saturating_add(1);
            return Some((block, sender));
        }
        None
    }

    pub(super) fn started(&mut self, block: u32, task: AbortHandle) {
        if let Some(Slot::Flying { abort, .. }) = self.slots.get_mut(&block) {
            *abort = Some(task);
        }
    }

    /// A flight ended; its block is kept unless a reader waits for it already.
    pub(super) fn landed(&mut self, block: u32, result: &Result<Option<BlockBytes>, SourceError>) {
        let Some(Slot::Flying { claimed, .. }) = self.slots.get(&block) else { return };
        let claimed = *claimed;
        self.flying = self.flying.saturating_sub(1);
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

    pub(super) fn take(&mut self, block: u32) -> Taken {
        match self.slots.get_mut(&block) {
            None => Taken::Absent,
            Some(Slot::Flying { landing, claimed, .. }) => {
                *claimed = true;
                Taken::Flying(landing.clone())
            }
            Some(Slot::Queued) => {
                self.slots.remove(&block);
                Taken::Absent
            }
            Some(Slot::Ready { bytes, .. }) => {
                let bytes = bytes.clone();
                self.slots.remove(&block);
                self.ready = self.ready.saturating_sub(1);
                Taken::Ready(bytes)
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
        let before = self.slots.len();
        self.slots.retain(|_, slot| !matches!(slot, Slot::Ready { since, .. } if since.elapsed() > STALE));
        let dropped = before.saturating_sub(self.slots.len());
        self.ready = self.ready.saturating_sub(dropped);
        self.wasted = self.wasted.saturating_add(u64::try_from(dropped).unwrap_or(0));
        dropped > 0
    }
}

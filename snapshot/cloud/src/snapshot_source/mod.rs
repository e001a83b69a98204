//! A snapshot as a disk, read block by block through the EBS direct APIs (`ListSnapshotBlocks`, `GetSnapshotBlock`:
//! <https://docs.aws.amazon.com/ebs/latest/userguide/ebs-accessing-snapshot.html>).
//!
//! A block has 512 KiB. What was never written is not listed, reads as zeros, and costs nothing. What was written is got
//! once for all who ask for it while it is on its way, whether by a hint or by a read (a [`stillframe_block::CachedSource`]
//! above keeps it for those who ask later), compared with its SHA-256, and tried again where it came broken. Not supported: blocks of another length, and the lists of changes between snapshots.
//!
//! Readers block; calls are made by a tokio runtime. A read hands its work to that runtime and waits, from any thread but
//! one of the runtime's own workers, which it would hold up.

mod error;
mod fetch;
mod flights;
mod index;
mod limit;
#[cfg(test)]
#[allow(clippy::arithmetic_side_effects, reason = "a test may panic")]
mod tests;

use std::ops::Range;
use std::sync::mpsc;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use stillframe_block::{BLOCK_BYTES, BlockSource, ReadError};
use tokio::runtime::Handle;
use tokio::sync::watch;

use crate::api::Blocks;
use crate::client::Caller;
use crate::limiter::Operation;

pub use error::SourceError;
use fetch::{BlockBytes, Fetch, Latency};
use flights::{Flights, Landing, Taken};
use index::{Index, NextWritten};
pub use limit::ReadLimit;

/// The largest volume that there is has 64 TiB.
const VOLUME_GIB_AT_MOST: u64 = 64 * 1024;
const BLOCKS_PER_GIB: u64 = (1 << 30) / BLOCK_BYTES;

/// How much memory a snapshot's source may take, beside one bit for each block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SourceMemory {
    /// For tokens of blocks. Those of all sources of a [`ReadLimit`] are bounded there.
    pub token_bytes: u64,
    /// For blocks that are read ahead, in flight and waiting to be taken. Blocks that readers wait for come on top: what is
    /// in flight of all sources of a [`ReadLimit`] is bounded there.
    pub buffer_bytes: u64,
}

impl Default for SourceMemory {
    /// 24 MiB of tokens, some 20 full chunks or 100 GiB; 64 MiB of blocks, enough for 1,000 a second at 100 ms.
    fn default() -> Self {
        Self { token_bytes: 24 << 20, buffer_bytes: 64 << 20 }
    }
}

/// A completed snapshot.
pub struct EbsSource {
    shared: Arc<Shared>,
}

struct Shared {
    fetch: Fetch,
    index: Index,
    flights: Mutex<Flights>,
    flights_at_most: usize,
    len_bytes: u64,
    runtime: Handle,
}

impl EbsSource {
    /// Opens `snapshot_id` with its first list of blocks; the others are asked for when they are needed. Must be called on
    /// the runtime that is to make the calls.
    ///
    /// # Errors
    /// [`SourceError`]: the snapshot cannot be listed, or what the service says of it cannot be.
    pub async fn open(
        caller: Caller,
        blocks: Arc<dyn Blocks>,
        snapshot_id: String,
        memory: SourceMemory,
        limit: Arc<ReadLimit>,
    ) -> Result<Self, SourceError> {
        let slots = usize::try_from(memory.buffer_bytes / BLOCK_BYTES).unwrap_or(1).clamp(1, 4096);
        let fetch = Fetch {
            caller,
            blocks,
            snapshot_id,
            limit,
            volume_gib: OnceLock::new(),
            latency: Latency::default(),
            ended: OnceLock::new(),
        };
        let first = fetch.list_page(0, None).await?;
        let found = first.volume_size_gib;
        if found == 0 || found > VOLUME_GIB_AT_MOST {
            return Err(SourceError::VolumeSize { found });
        }
        // At most 2^27 blocks.
        let len_blocks = u32::try_from(found.saturating_mul(BLOCKS_PER_GIB)).unwrap_or(u32::MAX);
        let index = Index::new(len_blocks, memory.token_bytes, &fetch.limit.tokens);
        index.absorb_first(&first)?;
        let shared = Shared {
            fetch,
            index,
            flights: Mutex::new(Flights::new(slots)),
            flights_at_most: slots,
            len_bytes: found.saturating_mul(1 << 30),
            runtime: Handle::current(),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Blocks that were read ahead and that nobody took: what read-ahead cost in vain.
    #[must_use]
    pub fn wasted_blocks(&self) -> u64 {
        self.shared.flights().wasted
    }

    /// Why no more of this snapshot can be read, where that is so: the first failure that a retry did not mend and that
    /// other blocks would meet too. A limit that was reached is not one, and neither is a single bad block.
    #[must_use]
    pub fn failure(&self) -> Option<SourceError> {
        self.shared.fetch.ended.get().cloned()
    }

    /// Fills `buffer` from the blocks at `offset`, for callers that are asynchronous themselves.
    ///
    /// # Errors
    /// As [`BlockSource::read_exact_at`].
    pub async fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<(), ReadError> {
        let (len, mut at) = (buffer.len(), offset);
        self.check_bounds(offset, len)?;
        self.read_ahead_of(offset, len);
        for part in parts(offset, buffer) {
            let bytes = self.shared.block(block_of(at)).await.map_err(|error| error.at(at, part.len()))?;
            at = at.saturating_add(fill(part, at, bytes.as_ref()));
        }
        Ok(())
    }

    fn check_bounds(&self, offset: u64, len: usize) -> Result<(), ReadError> {
        let end = u64::try_from(len).ok().and_then(|len| offset.checked_add(len));
        match end {
            Some(end) if end <= self.shared.len_bytes => Ok(()),
            _ => Err(ReadError::OutOfBounds { offset, len, source_len: self.shared.len_bytes }),
        }
    }

    /// A read of several blocks has them fetched together.
    fn read_ahead_of(&self, offset: u64, len: usize) {
        let end = offset.saturating_add(u64::try_from(len).unwrap_or(0));
        let second = offset.saturating_sub(offset % BLOCK_BYTES).saturating_add(BLOCK_BYTES);
        if second < end {
            self.prefetch(std::slice::from_ref(&(second..end)));
        }
    }

    fn block_here(&self, block: u32) -> Result<Option<BlockBytes>, SourceError> {
        if let NextWritten::Known(run) = self.shared.index.next_written(block)
            && run.is_none_or(|run| run.start != block)
        {
            return Ok(None);
        }
        if let Some(bytes) = Shared::take_ready(&self.shared, block) {
            return Ok(Some(bytes));
        }
        let shared = Arc::clone(&self.shared);
        self.wait_for(async move { shared.block(block).await })
    }

    /// Runs `work` on the runtime and waits for it on this thread, until reading is ended.
    fn wait_for<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, SourceError>> + Send + 'static,
    ) -> Result<T, SourceError> {
        let (sender, receiver) = mpsc::sync_channel(1);
        let limit = Arc::clone(&self.shared.fetch.limit);
        self.shared.runtime.spawn(async move {
            let done = tokio::select! {
                done = work => done,
                () = limit.until_stopped() => Err(SourceError::Stopped),
            };
            // Nobody waits any more where the receiver is gone.
            let _ = sender.send(done);
        });
        // The sender is dropped unsent where the runtime ends.
        receiver.recv().unwrap_or(Err(SourceError::Ended))
    }
}

impl Drop for EbsSource {
    fn drop(&mut self) {
        self.shared.flights().close();
    }
}

impl BlockSource for EbsSource {
    fn len_bytes(&self) -> u64 {
        self.shared.len_bytes
    }

    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), ReadError> {
        let (len, mut at) = (buffer.len(), offset);
        self.check_bounds(offset, len)?;
        self.read_ahead_of(offset, len);
        for part in parts(offset, buffer) {
            let bytes = self.block_here(block_of(at)).map_err(|error| error.at(at, part.len()))?;
            at = at.saturating_add(fill(part, at, bytes.as_ref()));
        }
        Ok(())
    }

    fn prefetch(&self, ranges: &[Range<u64>]) {
        {
            let mut flights = self.shared.flights();
            for range in ranges {
                let last = range.end.min(self.shared.len_bytes).div_ceil(BLOCK_BYTES);
                let mut block = block_of(range.start);
                while u64::from(block) < last && !flights.is_full() {
                    match self.shared.index.next_written(block) {
                        NextWritten::Known(None) => break,
                        NextWritten::Known(Some(run)) if run.start > block => {
                            block = run.start;
                            continue;
                        }
                        // The flight itself lists what is not listed.
                        NextWritten::Known(Some(_)) | NextWritten::Unlisted(_) => flights.queue(block),
                    }
                    block = block.saturating_add(1);
                }
            }
        }
        Shared::launch(&self.shared);
    }

    fn wants_hints(&self) -> bool {
        true
    }

    fn next_written(&self, offset: u64) -> Result<Option<Range<u64>>, ReadError> {
        if offset >= self.shared.len_bytes {
            return Ok(None);
        }
        let block = block_of(offset);
        let run = match self.shared.index.next_written(block) {
            NextWritten::Known(run) => run,
            NextWritten::Unlisted(_) => {
                let shared = Arc::clone(&self.shared);
                let work = async move { shared.fetch.next_written(&shared.index, block).await };
                self.wait_for(work).map_err(|error| error.at(offset, 0))?
            }
        };
        Ok(run.map(|run| {
            let start = u64::from(run.start).saturating_mul(BLOCK_BYTES).max(offset);
            start..u64::from(run.end).saturating_mul(BLOCK_BYTES).min(self.shared.len_bytes)
        }))
    }
}

impl Shared {
    /// The block, from a flight where one has it; `None` for zeros.
    async fn block(self: &Arc<Self>, block: u32) -> Result<Option<BlockBytes>, SourceError> {
        loop {
            let taken = self.flights().take(block);
            match taken {
                Taken::Ready(bytes) => {
                    Self::launch(self);
                    return Ok(Some(bytes));
                }
                Taken::Flying(mut landing) => {
                    // One that waits for its turn may have it now.
                    Self::launch(self);
                    let landed =
                        landing.wait_for(Option::is_some).await.ok().and_then(|landing| landing.clone());
                    if let Some(result) = landed {
                        return result;
                    }
                    // The flight was ended: whoever asks first begins another.
                }
                Taken::Absent(landing) => return Flight::new(self, block, landing).fly().await,
            }
        }
    }

    fn take_ready(shared: &Arc<Self>, block: u32) -> Option<BlockBytes> {
        let bytes = shared.flights().take_ready(block)?;
        Self::launch(shared);
        Some(bytes)
    }

    /// Starts as many flights as rate and latency can use.
    fn launch(shared: &Arc<Self>) {
        let window = shared.window();
        loop {
            let Some((block, landing)) = shared.flights().start(window) else { return };
            let flight = Flight::new(shared, block, landing);
            // The lock is not held: a runtime that has ended drops the flight here, which then lands.
            let task = shared.runtime.spawn(async move {
                // What came of it has been told.
                let _ = flight.fly().await;
            });
            shared.flights().started(block, task.abort_handle());
        }
    }

    /// Little's law: as many under way as begin while one lasts, and a quarter more so that none is waited for.
    fn window(&self) -> usize {
        let bucket = self.fetch.caller.limiter.bucket(&self.fetch.caller.place, Operation::Get);
        let Some(latency) = self.fetch.latency.mean() else { return self.flights_at_most.min(16) };
        let wanted = bucket.rate() * latency.as_secs_f64() * 1.25 + 2.0;
        // Seconds to count with: the conversion is checked, and there is none from a float to an integer that is.
        let wanted = std::time::Duration::try_from_secs_f64(wanted).unwrap_or_default().as_secs();
        usize::try_from(wanted).unwrap_or(usize::MAX).max(4).min(self.flights_at_most)
    }

    fn flights(&self) -> MutexGuard<'_, Flights> {
        self.flights.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A block on its way. It lands whichever way its task ends, so that its place is free again.
struct Flight {
    shared: Arc<Shared>,
    block: u32,
    landing: watch::Sender<Landing>,
    result: Result<Option<BlockBytes>, SourceError>,
}

impl Flight {
    fn new(shared: &Arc<Shared>, block: u32, landing: watch::Sender<Landing>) -> Self {
        Self { shared: Arc::clone(shared), block, landing, result: Err(SourceError::Ended) }
    }

    async fn fly(mut self) -> Result<Option<BlockBytes>, SourceError> {
        self.result = self.shared.fetch.block(&self.shared.index, self.block).await;
        let (shared, result) = (Arc::clone(&self.shared), self.result.clone());
        // Told before it lands: whoever comes between the two finds it.
        self.landing.send_replace(Some(result.clone()));
        drop(self);
        Shared::launch(&shared);
        result
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.shared.flights().landed(self.block, &self.result);
    }
}

/// Cuts `buffer`, which lies at `offset`, where blocks end.
fn parts(offset: u64, buffer: &mut [u8]) -> impl Iterator<Item = &mut [u8]> {
    let mut rest = buffer;
    let mut at = offset;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let left = usize::try_from(BLOCK_BYTES.saturating_sub(at % BLOCK_BYTES)).unwrap_or(usize::MAX);
        let take = rest.len().min(left);
        let (now, later) = std::mem::take(&mut rest).split_at_mut(take);
        rest = later;
        at = at.saturating_add(u64::try_from(take).unwrap_or(0));
        Some(now)
    })
}

/// Fills `part`, which lies at `at` within one block, and says how many bytes that were.
fn fill(part: &mut [u8], at: u64, bytes: Option<&BlockBytes>) -> u64 {
    let within = usize::try_from(at % BLOCK_BYTES).unwrap_or(0);
    match bytes.and_then(|bytes| bytes.get(within..)?.get(..part.len())) {
        Some(bytes) => part.copy_from_slice(bytes),
        // Never written. A block that was is always whole: its length is checked when it comes.
        None => part.fill(0),
    }
    u64::try_from(part.len()).unwrap_or(0)
}

fn block_of(offset: u64) -> u32 {
    u32::try_from(offset / BLOCK_BYTES).unwrap_or(u32::MAX)
}

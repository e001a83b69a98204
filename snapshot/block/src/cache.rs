use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use quick_cache::sync::{Cache, DefaultLifecycle};
use quick_cache::{DefaultHashBuilder, OptionsBuilder, Weighter};

use crate::{BlockBuffer, BlockSource, ReadError, check_bounds};

/// The block of the EBS direct APIs, which is also what a cache holds and what `io.blocks_fetched` counts.
pub const BLOCK_BYTES: u64 = 512 * 1024;
const BLOCK_BYTES_USIZE: usize = 512 * 1024;
/// Of one hint: 2 GiB, far more than any source reads ahead.
const HINTED_BLOCKS_AT_MOST: usize = 4096;

#[derive(Clone)]
enum Block {
    /// Known to be zeros, or never written. Takes no memory.
    Zeros,
    /// Not a slice, which would be copied once more to be shared.
    Bytes(Arc<BlockBuffer>),
}

#[derive(Clone)]
struct ByBytes;

impl Weighter<Key, Block> for ByBytes {
    fn weight(&self, _: &Key, block: &Block) -> u64 {
        match block {
            Block::Zeros => 64,
            Block::Bytes(bytes) => u64::try_from(bytes.len()).unwrap_or(u64::MAX),
        }
    }
}

/// Which disk, which block of it.
type Key = (u32, u64);

/// Blocks of all disks of a machine, bounded in bytes. A block that several threads want at once is read once.
pub struct BlockCache {
    blocks: Cache<Key, Block, ByBytes>,
}

impl BlockCache {
    /// A cache that holds at most `capacity_bytes` of blocks.
    #[must_use]
    pub fn new(capacity_bytes: u64) -> Arc<Self> {
        // Few shards: a shard holds whole blocks only, and a small cache cut into many would hold none.
        let options = OptionsBuilder::new()
            .shards(4)
            // Half for blocks that were wanted once: those next to each other in many files that are read at once are
            // wanted again soon, and with the default of 3 % they were gone by then.
            .hot_allocation(0.5)
            .estimated_items_capacity(usize::try_from(capacity_bytes / BLOCK_BYTES).unwrap_or(0).max(16))
            .weight_capacity(capacity_bytes.max(BLOCK_BYTES.saturating_mul(8)))
            .build();
        let blocks = match options {
            Ok(options) => Cache::with_options(
                options,
                ByBytes,
                DefaultHashBuilder::default(),
                DefaultLifecycle::default(),
            ),
            // `build` fails only where a capacity is missing, and both are given above.
            Err(_) => Cache::with_weighter(16, capacity_bytes, ByBytes),
        };
        Arc::new(Self { blocks })
    }
}

/// Serves reads of the source below from a [`BlockCache`].
pub struct CachedSource {
    inner: Arc<dyn BlockSource>,
    cache: Arc<BlockCache>,
    disk: u32,
    /// Whether `inner` makes use of hints. It does not change.
    wants_hints: bool,
    /// Blocks that a reader fetches just now, where `inner` wants hints: they are in the cache soon. Held while hints are
    /// given, so that a block is known at any moment to be here, in the cache, or with neither.
    fetching: Mutex<BTreeSet<u64>>,
}

/// A block that is being fetched, until it is in the cache.
struct Fetching<'a> {
    source: &'a CachedSource,
    index: u64,
}

impl Drop for Fetching<'_> {
    fn drop(&mut self) {
        self.source.fetching().remove(&self.index);
    }
}

impl CachedSource {
    /// Caches `inner` as disk number `disk`, which must be distinct for each source of one cache.
    #[must_use]
    pub fn new(inner: Arc<dyn BlockSource>, cache: Arc<BlockCache>, disk: u32) -> Self {
        let wants_hints = inner.wants_hints();
        Self { inner, cache, disk, wants_hints, fetching: Mutex::default() }
    }

    fn block(&self, index: u64) -> Result<Block, ReadError> {
        // Lives until the block is in the cache.
        let mut fetching = None;
        self.cache.blocks.get_or_insert_with(&(self.disk, index), || {
            if self.wants_hints {
                self.fetching().insert(index);
                fetching = Some(Fetching { source: self, index });
            }
            self.fetch(index)
        })
    }

    fn fetching(&self) -> MutexGuard<'_, BTreeSet<u64>> {
        self.fetching.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The parts of `ranges`, in whole blocks, that must be read from the source below.
    fn missing(&self, ranges: &[Range<u64>], fetching: &BTreeSet<u64>) -> Vec<Range<u64>> {
        let len = self.len_bytes();
        let mut missing: Vec<Range<u64>> = Vec::new();
        let blocks = ranges
            .iter()
            .filter(|range| range.start < range.end)
            .flat_map(|range| range.start / BLOCK_BYTES..range.end.min(len).div_ceil(BLOCK_BYTES));
        let mut last = None;
        for index in blocks.take(HINTED_BLOCKS_AT_MOST) {
            // The extents of a file may share a block.
            let is_here = last == Some(index)
                || fetching.contains(&index)
                || self.cache.blocks.contains_key(&(self.disk, index));
            last = Some(index);
            if is_here {
                continue;
            }
            let start = index.saturating_mul(BLOCK_BYTES);
            let end = start.saturating_add(BLOCK_BYTES).min(len);
            match missing.last_mut() {
                Some(run) if run.end == start => run.end = end,
                _ => missing.push(start..end),
            }
        }
        missing
    }

    fn fetch(&self, index: u64) -> Result<Block, ReadError> {
        let start = index.saturating_mul(BLOCK_BYTES);
        let end = start.saturating_add(BLOCK_BYTES).min(self.len_bytes());
        match self.inner.next_written(start)? {
            Some(written) if written.start < end => {}
            _ => return Ok(Block::Zeros),
        }
        let len = usize::try_from(end.saturating_sub(start)).unwrap_or(0);
        let mut bytes = BlockBuffer::zeros(len);
        self.inner.read_exact_at(start, &mut bytes)?;
        Ok(Block::Bytes(Arc::new(bytes)))
    }
}

impl BlockSource for CachedSource {
    fn len_bytes(&self) -> u64 {
        self.inner.len_bytes()
    }

    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), ReadError> {
        check_bounds(offset, buffer.len(), self.len_bytes())?;
        let mut at = offset;
        let mut rest = buffer;
        let within = usize::try_from(at % BLOCK_BYTES).unwrap_or(0);
        if self.wants_hints && within.saturating_add(rest.len()) > BLOCK_BYTES_USIZE {
            // Several blocks: fetched together and not one after another.
            let end = offset.saturating_add(u64::try_from(rest.len()).unwrap_or(0));
            self.prefetch(std::slice::from_ref(&(offset..end)));
        }
        while !rest.is_empty() {
            let within = usize::try_from(at % BLOCK_BYTES).unwrap_or(0);
            let take = rest.len().min(BLOCK_BYTES_USIZE.saturating_sub(within));
            let (now, later) = rest.split_at_mut(take);
            match self.block(at / BLOCK_BYTES)? {
                Block::Zeros => now.fill(0),
                Block::Bytes(bytes) => {
                    // The bounds were checked above and a block ends where the source does.
                    let part = bytes.get(within..).and_then(|rest| rest.get(..take));
                    now.copy_from_slice(part.ok_or(ReadError::OutOfBounds {
                        offset: at,
                        len: take,
                        source_len: self.len_bytes(),
                    })?);
                }
            }
            at = at.saturating_add(u64::try_from(take).unwrap_or(0));
            rest = later;
        }
        Ok(())
    }

    fn prefetch(&self, ranges: &[Range<u64>]) {
        if !self.wants_hints {
            return;
        }
        let fetching = self.fetching();
        let missing = self.missing(ranges, &fetching);
        if !missing.is_empty() {
            self.inner.prefetch(&missing);
        }
    }

    fn wants_hints(&self) -> bool {
        self.wants_hints
    }

    fn next_written(&self, offset: u64) -> Result<Option<Range<u64>>, ReadError> {
        self.inner.next_written(offset)
    }
}

#[cfg(test)]
#[allow(clippy::single_range_in_vec_init, reason = "hints are ranges, and often one")]
mod tests {
    use std::sync::Barrier;
    use std::thread;
    use std::time::Duration;

    use super::*;
    use crate::hints::Hints;
    use crate::{CountingSource, MemorySource, SparseMemorySource};

    fn disk(len: usize) -> Vec<u8> {
        (0..len).map(|i| u8::try_from(i % 251).unwrap()).collect()
    }

    #[test]
    fn reads_across_blocks_are_the_disk() {
        let bytes = disk(3 * BLOCK_BYTES_USIZE + 77);
        let cached = CachedSource::new(Arc::new(MemorySource(bytes.clone())), BlockCache::new(8 << 20), 0);
        let mut back = vec![0; bytes.len()];
        cached.read_exact_at(0, &mut back).unwrap();
        assert!(back == bytes);
        let mut part = vec![0; BLOCK_BYTES_USIZE + 2];
        cached.read_exact_at(BLOCK_BYTES - 1, &mut part).unwrap();
        assert!(part == bytes[BLOCK_BYTES_USIZE - 1..2 * BLOCK_BYTES_USIZE + 1]);
    }

    struct Slow(MemorySource);

    impl BlockSource for Slow {
        fn len_bytes(&self) -> u64 {
            self.0.len_bytes()
        }

        fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), ReadError> {
            thread::sleep(Duration::from_millis(30));
            self.0.read_exact_at(offset, buffer)
        }
    }

    #[test]
    fn a_block_wanted_by_many_is_read_once() {
        let counting = Arc::new(CountingSource::new(Arc::new(Slow(MemorySource(disk(1 << 20))))));
        let cached = CachedSource::new(counting.clone(), BlockCache::new(8 << 20), 0);
        let barrier = Barrier::new(8);
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    barrier.wait();
                    cached.read_exact_at(100, &mut [0; 10]).unwrap();
                });
            }
        });
        assert_eq!(counting.counts().requests, 1);
    }

    #[test]
    fn memory_stays_bounded() {
        let cache = BlockCache::new(8 << 20);
        let cached = CachedSource::new(Arc::new(MemorySource(disk(64 << 20))), cache.clone(), 0);
        for block in 0..128 {
            cached.read_exact_at(block * BLOCK_BYTES, &mut [0; 1]).unwrap();
        }
        assert!(cache.blocks.weight() <= 8 << 20, "{} bytes", cache.blocks.weight());
        assert!(cache.blocks.weight() >= 2 << 20, "{} bytes", cache.blocks.weight());
    }

    #[test]
    fn holes_cost_no_read() {
        let mut sparse = SparseMemorySource::default();
        sparse.set_len(1 << 40);
        sparse.set(1 << 39, 1);
        let counting = Arc::new(CountingSource::new(Arc::new(sparse)));
        let cached = CachedSource::new(counting.clone(), BlockCache::new(8 << 20), 0);
        let mut bytes = [9; 16];
        cached.read_exact_at(1 << 30, &mut bytes).unwrap();
        assert_eq!(bytes, [0; 16]);
        assert_eq!(counting.counts().requests, 0);
        cached.read_exact_at(1 << 39, &mut bytes).unwrap();
        assert_eq!((bytes[0], counting.counts().requests), (1, 1));
    }

    #[test]
    fn hints_are_whole_blocks_that_are_not_here() {
        let disk = Arc::new(Hints::default());
        let cached = CachedSource::new(disk.clone(), BlockCache::new(8 << 20), 0);
        cached.read_exact_at(2 * BLOCK_BYTES + 5, &mut [0; 1]).unwrap();
        assert_eq!(disk.taken(), [], "a read of one block needs no hint");
        cached.prefetch(&[BLOCK_BYTES + 7..4 * BLOCK_BYTES, 4 * BLOCK_BYTES - 1..4 * BLOCK_BYTES + 1, 9..9]);
        assert_eq!(disk.taken(), [BLOCK_BYTES..2 * BLOCK_BYTES, 3 * BLOCK_BYTES..5 * BLOCK_BYTES]);
        // Past the end, and more than anybody reads ahead.
        let len = disk.len_bytes();
        cached.prefetch(&[len - 1..len + 10, len + 5..u64::MAX]);
        assert_eq!(disk.taken(), [len - BLOCK_BYTES..len]);
        cached.prefetch(&[0..u64::MAX]);
        let blocks: u64 = disk.taken().iter().map(|hint| (hint.end - hint.start) / BLOCK_BYTES).sum();
        assert_eq!(blocks, 4095, "and one that is here");
    }

    #[test]
    fn a_read_of_several_blocks_has_them_fetched_together() {
        let disk = Arc::new(Hints::default());
        let cached = CachedSource::new(disk.clone(), BlockCache::new(8 << 20), 0);
        cached.read_exact_at(BLOCK_BYTES - 1, &mut [0; 2 + BLOCK_BYTES_USIZE]).unwrap();
        assert_eq!(disk.taken(), [0..3 * BLOCK_BYTES]);
        cached.read_exact_at(BLOCK_BYTES - 1, &mut [0; 2]).unwrap();
        assert_eq!(disk.taken(), [], "all of it is here");
    }

    #[test]
    fn a_block_that_is_on_its_way_is_not_hinted() {
        let disk = Arc::new(Hints::default());
        let cached = CachedSource::new(disk.clone(), BlockCache::new(8 << 20), 0);
        cached.fetching().insert(3);
        let on_its_way = Fetching { source: &cached, index: 3 };
        cached.prefetch(&[3 * BLOCK_BYTES..4 * BLOCK_BYTES]);
        assert_eq!(disk.taken(), []);
        drop(on_its_way);
        cached.prefetch(&[3 * BLOCK_BYTES..4 * BLOCK_BYTES]);
        assert_eq!(disk.taken(), [3 * BLOCK_BYTES..4 * BLOCK_BYTES]);
        assert!(cached.fetching().is_empty());
    }
}

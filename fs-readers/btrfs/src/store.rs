//! Nodes and data by logical address: copies on the device, checksums, and a small cache of nodes.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use stillframe_block::BlockSource;
use stillframe_bytes::Fault;
use stillframe_fs::{FsError, extent_hints};

use crate::chunks::ChunkMap;
use crate::node::Node;
use crate::superblock::{Superblock, Tree};
use crate::tree::Cursor;
use crate::{to_u64, to_usize};

/// A node is read and checked once for the many searches that pass through it. 8 MiB for each open filesystem, and
/// about as much again for the parsed keys.
const CACHE_BYTES: u64 = 8 << 20;

/// What all reading of an open filesystem goes through.
pub(crate) struct Store {
    source: Arc<dyn BlockSource>,
    pub(crate) superblock: Superblock,
    pub(crate) chunks: ChunkMap,
    /// Direct-mapped by address, so that a lock is held for a moment only.
    nodes: Vec<Mutex<Option<Arc<Node>>>>,
    bad_copies: AtomicU64,
}

impl Store {
    /// Reads the chunk tree, without which nothing is found.
    pub(crate) fn open(source: Arc<dyn BlockSource>, superblock: Superblock) -> Result<Self, FsError> {
        let chunks = ChunkMap::from_system_chunks(&superblock)?;
        let slots = CACHE_BYTES.checked_div(superblock.node_bytes).unwrap_or(0).max(1);
        let nodes = (0..slots).map(|_| Mutex::new(None)).collect();
        let mut store = Self { source, superblock, chunks, nodes, bad_copies: AtomicU64::new(0) };
        let mut all = store.chunks.clone();
        let mut cursor = Cursor::first(&store, store.superblock.chunk_tree)?;
        while let Some((key, item)) = cursor.item() {
            if key.kind == crate::node::CHUNK_ITEM {
                all.insert(&store.superblock, key.offset, &item)?;
            }
            cursor.advance()?;
        }
        all.check_complete()?;
        store.chunks = all;
        Ok(store)
    }

    pub(crate) fn len_bytes(&self) -> u64 {
        self.source.len_bytes()
    }

    /// Copies that failed their check while another one passed.
    pub(crate) fn bad_copies(&self) -> u64 {
        self.bad_copies.load(Ordering::Relaxed)
    }

    /// The node at `logical`, which must have this level and generation.
    pub(crate) fn node(&self, expected: Tree) -> Result<Arc<Node>, FsError> {
        let node = self.cached_node(expected.root)?;
        if node.level != expected.level {
            return Err(Fault::new("node level", node.logical, expected.level, node.level).into());
        }
        if node.generation != expected.generation {
            let (claimed, found) = (expected.generation, node.generation);
            return Err(Fault::new("node generation", node.logical, claimed, found).into());
        }
        Ok(node)
    }

    fn cached_node(&self, logical: u64) -> Result<Arc<Node>, FsError> {
        let number = logical.checked_div(self.superblock.node_bytes).unwrap_or(0);
        // Neighbours go to different slots, and so do nodes that lie a power of two apart.
        let mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
        let slot = to_usize(mixed).checked_rem(self.nodes.len()).and_then(|slot| self.nodes.get(slot));
        if let Some(slot) = slot {
            let held = slot.lock().unwrap_or_else(PoisonError::into_inner).clone();
            if let Some(node) = held.filter(|node| node.logical == logical) {
                return Ok(node);
            }
        }
        let node = Arc::new(self.read_node(logical)?);
        if let Some(slot) = slot {
            *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(node.clone());
        }
        Ok(node)
    }

    fn read_node(&self, logical: u64) -> Result<Node, FsError> {
        let len = self.superblock.node_bytes;
        if !logical.is_multiple_of(self.superblock.sector_bytes) {
            let what = "node address";
            return Err(Fault::new(what, logical, self.superblock.sector_bytes, logical).into());
        }
        self.try_copies(logical, len, |bytes| {
            Node::parse(&self.superblock, logical, bytes).map_err(FsError::from)
        })
    }

    /// Reads `len_bytes` of data at `logical` and gives each copy to `check`, until one passes. The range must not pass
    /// the end of its chunk.
    pub(crate) fn try_copies<T>(
        &self,
        logical: u64,
        len_bytes: u64,
        check: impl Fn(Vec<u8>) -> Result<T, FsError>,
    ) -> Result<T, FsError> {
        let (copies, left) = self.chunks.locate(logical)?;
        if left < len_bytes {
            return Err(Fault::new("logical range", logical, left, len_bytes).into());
        }
        let mut first_error = None;
        for place in copies {
            let mut bytes = vec![0; to_usize(len_bytes)];
            let outcome = match self.source.read_exact_at(place, &mut bytes) {
                Ok(()) => check(bytes),
                Err(error) => Err(error.into()),
            };
            match outcome {
                Ok(good) => {
                    if first_error.is_some() {
                        self.bad_copies.fetch_add(1, Ordering::Relaxed);
                    }
                    return Ok(good);
                }
                Err(error) if error.is_final() => return Err(error),
                Err(error) => {
                    first_error.get_or_insert(error);
                }
            }
        }
        Err(first_error.unwrap_or(FsError::Unsupported("btrfs over several devices")))
    }

    /// Whether [`Self::prefetch`] does anything.
    pub(crate) fn wants_hints(&self) -> bool {
        self.source.wants_hints()
    }

    /// A hint that these bytes of the device will be read.
    pub(crate) fn prefetch(&self, ranges: &[Range<u64>]) {
        self.source.prefetch(ranges);
    }

    /// Adds the places of `len_bytes` at `logical` to what a hint names: of the first copy, which is read before any
    /// other. `false` where no more are taken.
    pub(crate) fn add_hints(&self, hints: &mut Vec<Range<u64>>, logical: u64, len_bytes: u64) -> bool {
        let end = logical.saturating_add(len_bytes);
        let mut at = logical;
        while at < end {
            let Ok((mut copies, left)) = self.chunks.locate(at) else { return false };
            let len = left.min(end.saturating_sub(at));
            let Some(place) = copies.next().filter(|_| len > 0) else { return false };
            if !extent_hints(hints, place..place.saturating_add(len)) {
                return false;
            }
            at = at.saturating_add(len);
        }
        true
    }

    /// How much of `len_bytes` at `logical` lies in one chunk.
    pub(crate) fn contiguous(&self, logical: u64, len_bytes: u64) -> Result<u64, Fault> {
        Ok(self.chunks.locate(logical)?.1.min(len_bytes))
    }

    /// The bytes of `data` that a checksum covers, for each checksum.
    pub(crate) fn sectors<'a>(&self, data: &'a [u8]) -> impl Iterator<Item = (u64, &'a [u8])> + use<'a> {
        let sector_bytes = self.superblock.sector_bytes;
        data.chunks(to_usize(sector_bytes))
            .enumerate()
            .map(move |(index, sector)| (to_u64(index).saturating_mul(sector_bytes), sector))
    }
}

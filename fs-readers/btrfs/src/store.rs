//! Nodes and data by logical address: copies on the devices, checksums, and the nodes that were read last.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use stillframe_block::BlockSource;
use stillframe_bytes::{Fault, Structure};
use stillframe_fs::{Extent, FsError, HINT_EXTENTS_AT_MOST, prefetch_on};

use crate::chunks::{ChunkMap, MAX_TRIES, Place, Spot, Way};
use crate::devices::Devices;
use crate::node::{CHUNK_ITEM, DEV_ITEM, Key, Node};
use crate::nodes::NodeCache;
use crate::parity;
use crate::superblock::{MAX_LEVEL, Superblock, Tree};
use crate::tree::Cursor;
use crate::{to_u64, to_usize};

/// Says what is wrong with the sectors at an address.
type Check<'c> = dyn Fn(u64, &[u8]) -> Result<(), Fault> + 'c;

/// What all reading of an open filesystem goes through.
pub(crate) struct Store {
    pub(crate) devices: Devices,
    pub(crate) superblock: Superblock,
    chunks: ChunkMap,
    nodes: NodeCache,
    bad_copies: AtomicU64,
}

impl Store {
    /// Reads the chunk tree, without which nothing is found.
    pub(crate) fn open(sources: Vec<Arc<dyn BlockSource>>) -> Result<Self, FsError> {
        let (devices, superblock) = Devices::open(sources)?;
        let chunks = ChunkMap::from_system_chunks(&superblock, &devices)?;
        let nodes = NodeCache::new(superblock.node_bytes);
        let mut store = Self { devices, superblock, chunks, nodes, bad_copies: AtomicU64::new(0) };
        let mut all = store.chunks.clone();
        let mut cursor = Cursor::first(&store, store.superblock.chunk_tree)?;
        while let Some((key, item)) = cursor.item() {
            match key.kind {
                CHUNK_ITEM => {
                    all.insert(&store.superblock, &store.devices, key.offset, &item)?;
                }
                DEV_ITEM => check_own(&store.superblock, &item)?,
                _ => {}
            }
            cursor.advance()?;
        }
        store.chunks = all;
        Ok(store)
    }

    /// Copies that failed their check while another one passed.
    pub(crate) fn bad_copies(&self) -> u64 {
        self.bad_copies.load(Ordering::Relaxed)
    }

    /// The node at `logical`, which must have this level and generation.
    pub(crate) fn node(&self, expected: Tree) -> Result<Arc<Node>, FsError> {
        let node = self.nodes.node(expected.root, || self.read_node(expected))?;
        check_expected(&node, expected)?;
        Ok(node)
    }

    fn read_node(&self, expected: Tree) -> Result<Node, FsError> {
        let (logical, len) = (expected.root, to_usize(self.superblock.node_bytes));
        if !logical.is_multiple_of(self.superblock.sector_bytes) {
            let what = "node address";
            return Err(Fault::new(what, logical, self.superblock.sector_bytes, logical).into());
        }
        let mut outcome = Outcome::default();
        for number in 0..MAX_TRIES {
            // Most nodes are whole in the first way, and how many there are need not be known.
            if number > 0 && !self.has_way(logical, self.superblock.node_bytes, number)? {
                break;
            }
            let mut bytes = vec![0; len];
            let tried = self.read_nth_way(logical, &mut bytes, number).and_then(|()| {
                let node = Node::parse(&self.superblock, logical, bytes)?;
                check_expected(&node, expected)?;
                Ok(node)
            });
            match tried {
                Ok(node) => {
                    self.note(&outcome);
                    return Ok(node);
                }
                Err(error) => outcome.failed(error)?,
            }
        }
        Err(self.no_way(logical, outcome))
    }

    /// Whether a part of a range can be read in a way with this number.
    fn has_way(&self, logical: u64, len_bytes: u64, number: usize) -> Result<bool, Fault> {
        let end = logical.saturating_add(len_bytes);
        let mut at = logical;
        while at < end {
            let place = self.chunks.locate(at)?;
            if place.way(number).is_some() {
                return Ok(true);
            }
            at = at.saturating_add(place.left.max(1));
        }
        Ok(false)
    }

    /// Reads a range that may pass from one stripe to the next, each part in the way with this number, or the last that
    /// there is.
    fn read_nth_way(&self, logical: u64, buffer: &mut [u8], number: usize) -> Result<(), FsError> {
        let mut at = logical;
        let mut rest = buffer;
        while !rest.is_empty() {
            let place = self.chunks.locate(at)?;
            let (now, later) = rest.split_at_mut(to_usize(place.left).min(rest.len()));
            let Some(way) = place.way(number).or_else(|| place.ways().last()) else {
                return Err(missing(at, &place));
            };
            self.read_way(&way, now)?;
            at = at.saturating_add(to_u64(now.len()));
            rest = later;
        }
        Ok(())
    }

    fn read_way(&self, way: &Way, buffer: &mut [u8]) -> Result<(), FsError> {
        match way {
            Way::Copy(spot) => self.devices.read(spot.index, spot.offset, buffer),
            Way::Rebuilt(row) => parity::rebuild(&self.devices, row, buffer),
        }
    }

    /// Reads whole sectors; `check` says which of the sectors of a piece is not what it should be. What fails is read from
    /// another copy, sector by sector. Without `is_checked`, devices that missed something are not believed.
    pub(crate) fn read_data(
        &self,
        logical: u64,
        buffer: &mut [u8],
        is_checked: bool,
        check: &Check<'_>,
    ) -> Result<(), FsError> {
        let mut at = logical;
        let mut rest = buffer;
        while !rest.is_empty() {
            let place = self.chunks.locate(at)?;
            let (now, later) = rest.split_at_mut(to_usize(place.left).min(rest.len()));
            let first = place.ways().find(|way| is_checked || !way.is_stale());
            let is_good = match first.map(|way| self.read_way(&way, now)) {
                Some(Ok(())) => check(at, now).is_ok(),
                Some(Err(error)) if error.is_final() => return Err(error),
                _ => false,
            };
            if !is_good {
                self.read_sectors(at, now, is_checked, check)?;
            }
            at = at.saturating_add(to_u64(now.len()));
            rest = later;
        }
        Ok(())
    }

    /// Reads each sector in the first way that passes.
    fn read_sectors(
        &self,
        logical: u64,
        buffer: &mut [u8],
        is_checked: bool,
        check: &Check<'_>,
    ) -> Result<(), FsError> {
        let mut at = logical;
        for sector in buffer.chunks_mut(to_usize(self.superblock.sector_bytes)) {
            let place = self.chunks.locate(at)?;
            let mut outcome = Outcome::default();
            let mut is_read = false;
            let fits = to_u64(sector.len()) <= place.left;
            for way in place.ways().filter(|_| fits) {
                if !is_checked && way.is_stale() {
                    outcome
                        .failed(Fault::new("content of a stale device", at, "a checksum", "none").into())?;
                    continue;
                }
                let tried = self.read_way(&way, sector).and_then(|()| Ok(check(at, sector)?));
                match tried {
                    Ok(()) => {
                        is_read = true;
                        break;
                    }
                    Err(error) => outcome.failed(error)?,
                }
            }
            if !is_read {
                return Err(self.no_way(at, outcome));
            }
            self.note(&outcome);
            at = at.saturating_add(to_u64(sector.len()));
        }
        Ok(())
    }

    fn note(&self, outcome: &Outcome) {
        if outcome.first.is_some() {
            self.bad_copies.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Why there was no way: what the first failed with, or that there was none to begin with.
    fn no_way(&self, logical: u64, outcome: Outcome) -> FsError {
        outcome.first.unwrap_or_else(|| match self.chunks.locate(logical) {
            Ok(place) => missing(logical, &place),
            Err(fault) => fault.into(),
        })
    }

    /// Whether [`Self::prefetch`] does anything.
    pub(crate) fn wants_hints(&self) -> bool {
        self.devices.sources.iter().any(BlockSource::wants_hints)
    }

    /// A hint that these bytes of the devices will be read.
    pub(crate) fn prefetch(&self, extents: &[Extent]) {
        prefetch_on(&self.devices.sources, extents);
    }

    /// Adds the places of the nodes that searches for the keys from `first` to `last` will read next: of the first on the
    /// way that is not held yet, or of leaves. Reads nothing. At most so many nodes.
    pub(crate) fn add_nodes(
        &self,
        extents: &mut Vec<Extent>,
        tree: Tree,
        (first, last): (Key, Key),
        most: usize,
    ) {
        let mut logical = tree.root;
        for _ in 0..=MAX_LEVEL {
            let Some(node) = self.nodes.held(logical) else {
                self.add_extents(extents, logical, self.superblock.node_bytes);
                return;
            };
            let from = node.count_before(first, true).saturating_sub(1);
            if node.level == 1 {
                let leaves = (from..node.count_before(last, true)).take(most);
                for (leaf, _) in leaves.filter_map(|index| node.child(index)) {
                    if self.nodes.held(leaf).is_none() {
                        self.add_extents(extents, leaf, self.superblock.node_bytes);
                    }
                }
                return;
            }
            let Some((child, _)) = node.child(from) else { return };
            logical = child;
        }
    }

    /// Adds the places of `len_bytes` at `logical`: of the copy that is read before any other. `false` where no more are
    /// taken.
    pub(crate) fn add_extents(&self, extents: &mut Vec<Extent>, logical: u64, len_bytes: u64) -> bool {
        let end = logical.saturating_add(len_bytes);
        let mut at = logical;
        while at < end {
            let Ok(place) = self.chunks.locate(at) else { return false };
            let len = place.left.min(end.saturating_sub(at));
            if len == 0 {
                return false;
            }
            let of = |spot: &Spot| {
                let range = spot.offset..spot.offset.saturating_add(len);
                u32::try_from(spot.index).ok().map(|device| Extent::on(device, range))
            };
            let goes_on = match place.way(0) {
                Some(Way::Copy(spot)) => of(&spot).is_none_or(|extent| add_extent(extents, extent)),
                // All of the row is read.
                Some(Way::Rebuilt(row)) => {
                    row.read_units().filter_map(of).all(|extent| add_extent(extents, extent))
                }
                None => true,
            };
            if !goes_on {
                return false;
            }
            at = at.saturating_add(len);
        }
        true
    }
}

/// What was tried so far.
#[derive(Default)]
struct Outcome {
    first: Option<FsError>,
}

impl Outcome {
    /// Keeps the first error; one that ends all reading is given back.
    fn failed(&mut self, error: FsError) -> Result<(), FsError> {
        if error.is_final() {
            return Err(error);
        }
        self.first.get_or_insert(error);
        Ok(())
    }
}

fn missing(logical: u64, place: &Place<'_>) -> FsError {
    let device = place.missing().unwrap_or_default();
    Fault::new("device of a chunk", logical, device, "missing").into()
}

fn check_expected(node: &Node, expected: Tree) -> Result<(), Fault> {
    if node.level != expected.level {
        return Err(Fault::new("node level", node.logical, expected.level, node.level));
    }
    if node.generation != expected.generation {
        return Err(Fault::new("node generation", node.logical, expected.generation, node.generation));
    }
    Ok(())
}

/// Fails where the device item is that of a seed device, whose nodes have another UUID.
fn check_own(superblock: &Superblock, item: &Structure<'_>) -> Result<(), FsError> {
    let own = [superblock.filesystem_uuid, superblock.metadata_uuid];
    if own.contains(&item.array::<16>(82)?) {
        return Ok(());
    }
    Err(FsError::Unsupported("btrfs on a seed device"))
}

/// Adds an extent, joined with the last one where they touch.
fn add_extent(extents: &mut Vec<Extent>, extent: Extent) -> bool {
    match extents.last_mut() {
        _ if extent.is_empty() => {}
        Some(last) if (last.device, last.end_bytes) == (extent.device, extent.start_bytes) => {
            last.end_bytes = extent.end_bytes;
        }
        _ => extents.push(extent),
    }
    extents.len() < HINT_EXTENTS_AT_MOST
}

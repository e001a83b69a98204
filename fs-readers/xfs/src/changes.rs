//! What the log changes, laid over the volume where it is read.
//!
//! The log names pieces of buffers and of inodes. Each piece is kept once, in its newest form, and what of it counts is
//! decided when its place is read: a block that came to the disk after the log said so carries a later sequence number,
//! and stays. So opening a filesystem reads none of the blocks that its log changes.
//!
//! Checksums are made anew for what was changed, as the kernel does when it writes a replayed block.

use std::collections::{BTreeMap, BTreeSet};

use stillframe_block::{BlockSource, ReadError};
use stillframe_fs::FsError;

use crate::checksum::{seal, sequence_number, write_checksum};
use crate::inode::MAGIC as INODE_MAGIC;
use crate::superblock::Superblock;
use crate::volume::{part, part_mut, to_u64, to_usize};

/// The unit in which the log says what of a buffer changed.
pub(crate) const CHUNK_BYTES: usize = 128;
const CHUNK: u64 = 128;
/// 256 MiB of changed metadata: as much as the largest log can hold.
const MAX_CHUNKS: usize = 2 << 20;
/// 512 MiB of inodes.
const MAX_INODE_CHANGE_BYTES: usize = 512 << 20;
/// Runs of new inodes.
const MAX_NEW_INODES: usize = 1 << 20;
const MAX_INODE_BYTES: usize = 2048;
/// As far into a block as a sequence number lies: the superblock's.
const HEADER_BYTES: usize = 256;
const INODE_CRC_OFFSET: usize = 100;
/// `di_flushiter`, version 2 inodes only: how often the inode was written.
const FLUSH_COUNT_OFFSET: u64 = 30;
const FLUSH_COUNT_MOST: u64 = 0xffff;

/// Bytes of an inode, by their place in it, and when they were logged.
#[derive(Debug, Clone)]
pub(crate) struct Piece {
    /// Its transaction's sequence number, or what version 2 inodes have in place of one.
    pub(crate) order: u64,
    /// Which came later: a fork may lie where another lay before.
    place: u64,
    /// Each part as its place in the inode, its length, and itself: a log may change very many inodes.
    bytes: Box<[u8]>,
}

impl Piece {
    /// Parts of an inode, by their place in it; `None` where one ends past the longest inode.
    pub(crate) fn new(order: u64, parts: &[(usize, &[u8])]) -> Option<Self> {
        let mut bytes = Vec::with_capacity(parts.iter().map(|(_, part)| part.len().saturating_add(4)).sum());
        for (start, part) in parts {
            start.checked_add(part.len()).filter(|end| *end <= MAX_INODE_BYTES)?;
            bytes.extend(u16::try_from(*start).ok()?.to_le_bytes());
            bytes.extend(u16::try_from(part.len()).ok()?.to_le_bytes());
            bytes.extend_from_slice(part);
        }
        Some(Self { order, place: 0, bytes: bytes.into() })
    }

    /// The parts, by their place in the inode.
    pub(crate) fn parts(&self) -> impl Iterator<Item = (usize, &[u8])> {
        let mut rest = &*self.bytes;
        std::iter::from_fn(move || {
            let (start, after) = rest.split_first_chunk::<2>()?;
            let (len, after) = after.split_first_chunk::<2>()?;
            let (part, after) = after.split_at_checked(u16::from_le_bytes(*len).into())?;
            rest = after;
            Some((u16::from_le_bytes(*start).into(), part))
        })
    }
}

/// The newest that the log says of an inode.
#[derive(Debug, Clone)]
pub(crate) struct InodeChange {
    /// Start and length of the buffer that it lies in, as the log has them.
    pub(crate) cluster: (u64, u64),
    pub(crate) core: Piece,
    pub(crate) data: Option<Piece>,
    pub(crate) attributes: Option<Piece>,
}

impl InodeChange {
    /// What it takes in memory.
    fn held_bytes(&self) -> usize {
        let pieces = [Some(&self.core), self.data.as_ref(), self.attributes.as_ref()].into_iter().flatten();
        pieces.map(|piece| piece.bytes.len()).fold(size_of::<Self>(), usize::saturating_add)
    }

    /// What is known, the oldest first.
    pub(crate) fn pieces(&self) -> impl Iterator<Item = &Piece> {
        let mut pieces = [Some(&self.core), self.data.as_ref(), self.attributes.as_ref()];
        pieces.sort_by_key(|piece| piece.map(|piece| piece.place));
        pieces.into_iter().flatten()
    }
}

/// A change of a file's mapping that was begun: it is done on the extents when they are read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MappingChange {
    pub(crate) inode: u64,
    pub(crate) start_block: u64,
    pub(crate) file_block: u64,
    pub(crate) blocks: u64,
    pub(crate) is_added: bool,
    pub(crate) is_unwritten: bool,
    pub(crate) is_of_attributes: bool,
    pub(crate) is_realtime: bool,
}

#[derive(Debug, Clone, Copy)]
struct Chunk {
    order: u64,
    unit: u32,
    slot: u32,
}

/// A buffer of the log.
#[derive(Debug, Clone, Copy)]
struct Unit {
    start: u64,
    len: u64,
    newest: u64,
}

/// All that a log changes.
#[derive(Debug)]
pub(crate) struct Changes {
    has_checksums: bool,
    inode_bytes: u64,
    uuids: [[u8; 16]; 2],
    chunks: BTreeMap<u64, Chunk>,
    bytes: Vec<[u8; CHUNK_BYTES]>,
    unused: Vec<u32>,
    units: Vec<Unit>,
    unit_numbers: BTreeMap<(u64, u64), u32>,
    /// Runs of new inodes, start → end.
    new_inodes: BTreeMap<u64, u64>,
    inodes: BTreeMap<u64, InodeChange>,
    mappings: BTreeMap<u64, Vec<MappingChange>>,
    new_owners: BTreeSet<u64>,
    unfinished_exchanges: BTreeSet<u64>,
    unfinished_attributes: BTreeSet<u64>,
    inode_items: u64,
    /// By `inodes`.
    held_bytes: usize,
}

// ---- taking in what the log says -----------------------------------------------------------------------------------

impl Changes {
    pub(crate) fn new(superblock: &Superblock) -> Self {
        Self {
            has_checksums: superblock.has_checksums,
            inode_bytes: to_u64(superblock.inode_bytes),
            uuids: [superblock.metadata_uuid, superblock.uuid],
            chunks: BTreeMap::new(),
            bytes: Vec::new(),
            unused: Vec::new(),
            units: Vec::new(),
            unit_numbers: BTreeMap::new(),
            new_inodes: BTreeMap::new(),
            inodes: BTreeMap::new(),
            mappings: BTreeMap::new(),
            new_owners: BTreeSet::new(),
            unfinished_exchanges: BTreeSet::new(),
            unfinished_attributes: BTreeSet::new(),
            inode_items: 0,
            held_bytes: 0,
        }
    }

    /// The number of a buffer that is to be changed; `None` where a later change of it was taken in before.
    pub(crate) fn unit(&mut self, start: u64, len: u64, order: u64) -> Result<Option<u32>, FsError> {
        let next = self.units.len();
        let number = match self.unit_numbers.get(&(start, len)) {
            Some(number) => *number,
            None if next >= MAX_CHUNKS => return Err(too_much()),
            None => {
                let number = u32::try_from(next).map_err(|_| too_much())?;
                self.units.push(Unit { start, len, newest: 0 });
                self.unit_numbers.insert((start, len), number);
                number
            }
        };
        let unit = self.units.get_mut(to_usize(number.into()));
        Ok(unit.filter(|unit| unit.newest <= order).map(|unit| {
            unit.newest = order;
            number
        }))
    }

    /// Changes `CHUNK_BYTES` at `at`.
    pub(crate) fn insert_chunk(
        &mut self,
        unit: u32,
        at: u64,
        order: u64,
        bytes: &[u8],
    ) -> Result<(), FsError> {
        let Some(bytes) = bytes.first_chunk::<CHUNK_BYTES>() else {
            return Ok(());
        };
        let number = at / CHUNK;
        let slot = match self.chunks.get(&number) {
            Some(chunk) => chunk.slot,
            None => match self.unused.pop() {
                Some(slot) => slot,
                None if self.bytes.len() >= MAX_CHUNKS => return Err(too_much()),
                None => {
                    let slot = u32::try_from(self.bytes.len()).map_err(|_| too_much())?;
                    self.bytes.push([0; CHUNK_BYTES]);
                    slot
                }
            },
        };
        if let Some(kept) = self.bytes.get_mut(to_usize(slot.into())) {
            *kept = *bytes;
        }
        self.chunks.insert(number, Chunk { order, unit, slot });
        Ok(())
    }

    /// The buffer was given up: what the log said of it until here is void.
    pub(crate) fn cancel(&mut self, start: u64, len: u64) {
        let end = start.saturating_add(len);
        if let Some(number) = self.unit_numbers.get(&(start, len)).copied() {
            let range = start / CHUNK..end.div_ceil(CHUNK);
            let given_up: Vec<u64> = self
                .chunks
                .range(range)
                .filter(|(_, chunk)| chunk.unit == number)
                .map(|(number, _)| *number)
                .collect();
            for number in given_up {
                self.unused.extend(self.chunks.remove(&number).map(|chunk| chunk.slot));
            }
            if let Some(unit) = self.units.get_mut(to_usize(number.into())) {
                unit.newest = 0;
            }
        }
        let inodes: Vec<u64> = self
            .inodes
            .range(start..end)
            .filter(|(_, inode)| inode.cluster == (start, len))
            .map(|(at, _)| *at)
            .collect();
        inodes.into_iter().for_each(|at| self.forget_inode(at));
        self.cut_new_inodes(start, end);
    }

    fn cut_new_inodes(&mut self, start: u64, end: u64) {
        let overlapping: Vec<(u64, u64)> = self
            .new_inodes
            .range(..end)
            .rev()
            .map(|(from, to)| (*from, *to))
            .take_while(|(_, to)| *to > start)
            .collect();
        for (from, to) in overlapping {
            self.new_inodes.remove(&from);
            if from < start {
                self.new_inodes.insert(from, start);
            }
            if to > end {
                self.new_inodes.insert(end, to);
            }
        }
    }

    /// Inodes that are new and free.
    pub(crate) fn insert_new_inodes(&mut self, start: u64, len: u64) -> Result<(), FsError> {
        if self.new_inodes.len() >= MAX_NEW_INODES {
            return Err(too_much());
        }
        let end = start.saturating_add(len);
        self.cut_new_inodes(start, end);
        self.new_inodes.insert(start, end);
        self.forget_inodes(start, len);
        Ok(())
    }

    /// What the log said of inodes in these bytes is void.
    pub(crate) fn forget_inodes(&mut self, start: u64, len: u64) {
        let from = start.saturating_sub(self.inode_bytes.saturating_sub(1));
        let inodes: Vec<u64> =
            self.inodes.range(from..start.saturating_add(len)).map(|(at, _)| *at).collect();
        inodes.into_iter().for_each(|at| self.forget_inode(at));
    }

    fn forget_inode(&mut self, at: u64) {
        let held_bytes = self.inodes.remove(&at).map_or(0, |change| change.held_bytes());
        self.held_bytes = self.held_bytes.saturating_sub(held_bytes);
    }

    /// What is newest of an inode stands over what was known.
    pub(crate) fn insert_inode(
        &mut self,
        at: u64,
        mut change: InodeChange,
        flush_count: u16,
    ) -> Result<(), FsError> {
        self.held_bytes = self.held_bytes.saturating_add(change.held_bytes());
        if self.held_bytes > MAX_INODE_CHANGE_BYTES {
            let cap = to_u64(MAX_INODE_CHANGE_BYTES);
            return Err(FsError::Limit { what: "bytes of inodes that the log changes", cap });
        }
        self.inode_items = self.inode_items.saturating_add(1);
        let before = self.inodes.get(&at).map(|old| old.core.order);
        for piece in
            [Some(&mut change.core), change.data.as_mut(), change.attributes.as_mut()].into_iter().flatten()
        {
            piece.place = self.inode_items;
            if !self.has_checksums {
                piece.order = flush_order(before, flush_count.into());
            }
        }
        match self.inodes.get_mut(&at) {
            Some(old) if self.has_checksums && old.core.order > change.core.order => {
                self.held_bytes = self.held_bytes.saturating_sub(change.held_bytes());
            }
            Some(old) => {
                let before = old.held_bytes().saturating_add(change.held_bytes());
                old.cluster = change.cluster;
                old.core = change.core;
                old.data = change.data.or(old.data.take());
                old.attributes = change.attributes.or(old.attributes.take());
                self.held_bytes = self.held_bytes.saturating_sub(before).saturating_add(old.held_bytes());
            }
            None => {
                self.inodes.insert(at, change);
            }
        }
        Ok(())
    }

    pub(crate) fn add_mapping_change(&mut self, change: MappingChange) {
        self.mappings.entry(change.inode).or_default().push(change);
    }

    pub(crate) fn set_new_owner(&mut self, inode: u64) {
        self.new_owners.insert(inode);
    }

    pub(crate) fn set_unfinished_exchange(&mut self, inodes: &[u64]) {
        self.unfinished_exchanges.extend(inodes);
    }

    pub(crate) fn set_unfinished_attributes(&mut self, inode: u64) {
        self.unfinished_attributes.insert(inode);
    }
}

fn too_much() -> FsError {
    FsError::Limit { what: "pieces of metadata that the log changes", cap: to_u64(MAX_CHUNKS) }
}

/// Version 2 inodes: an item counts where it, or one before it, was logged at least as often flushed as the disk's
/// inode. So the most and the least of the counts so far are kept in one number.
fn flush_order(before: Option<u64>, count: u64) -> u64 {
    let (most, least) = before.map_or((count, count), |order| (order >> 16, order & FLUSH_COUNT_MOST));
    (most.max(count) << 16) | least.min(count)
}

// ---- what files ask ------------------------------------------------------------------------------------------------

impl Changes {
    /// What is to be done on the extents of an inode, in this order.
    pub(crate) fn mapping_changes(&self, inode: u64) -> &[MappingChange] {
        self.mappings.get(&inode).map_or(&[], Vec::as_slice)
    }

    /// Whether blocks of this inode's forks may still name another owner.
    pub(crate) fn has_new_owner(&self, inode: u64) -> bool {
        self.new_owners.contains(&inode)
    }

    pub(crate) fn has_unfinished_exchange(&self, inode: u64) -> bool {
        self.unfinished_exchanges.contains(&inode)
    }

    pub(crate) fn has_unfinished_attributes(&self, inode: u64) -> bool {
        self.unfinished_attributes.contains(&inode)
    }

    /// Whether the log names any buffer with bytes in this range.
    pub(crate) fn touches(&self, start: u64, len: u64) -> bool {
        self.chunks.range(start / CHUNK..start.saturating_add(len).div_ceil(CHUNK)).next().is_some()
    }

    /// Lays what changed over `buffer`, which was read from `source` at `offset`.
    pub(crate) fn patch(
        &self,
        source: &dyn BlockSource,
        offset: u64,
        buffer: &mut [u8],
    ) -> Result<(), ReadError> {
        let end = offset.saturating_add(to_u64(buffer.len()));
        let chunks = self.chunks.range(offset / CHUNK..end.div_ceil(CHUNK));
        let units: BTreeSet<u32> = chunks.map(|(_, chunk)| chunk.unit).collect();
        for number in units {
            self.patch_unit(source, number, offset, buffer)?;
        }
        self.clear_new_inodes(offset, buffer);
        let from = offset.saturating_sub(self.inode_bytes.saturating_sub(1));
        for (at, change) in self.inodes.range(from..end) {
            let len = to_usize(self.inode_bytes);
            match part_mut(buffer, at.wrapping_sub(offset), len) {
                Some(inode) if *at >= offset => self.patch_inode(*at, change, inode),
                _ => self.patch_cut_inode(source, *at, offset, buffer)?,
            }
        }
        Ok(())
    }

    fn patch_unit(
        &self,
        source: &dyn BlockSource,
        number: u32,
        offset: u64,
        buffer: &mut [u8],
    ) -> Result<(), ReadError> {
        let Some(unit) = self.units.get(to_usize(number.into())) else {
            return Ok(());
        };
        let end = offset.saturating_add(to_u64(buffer.len()));
        let unit_end = unit.start.saturating_add(unit.len);
        let on_disk = self.sequence_number_of(source, unit, offset, buffer)?;
        let range = unit.start.max(offset) / CHUNK..unit_end.min(end).div_ceil(CHUNK);
        let mut is_changed = false;
        for (place, chunk) in self.chunks.range(range).filter(|(_, chunk)| chunk.unit == number) {
            if on_disk.is_some_and(|on_disk| on_disk >= chunk.order) {
                continue;
            }
            is_changed = true;
            let start = place.saturating_mul(CHUNK);
            let from = start.max(offset);
            let len = to_usize(start.saturating_add(CHUNK).min(end).saturating_sub(from));
            let bytes = self.bytes.get(to_usize(chunk.slot.into()));
            let bytes = bytes.and_then(|bytes| part(bytes, from.saturating_sub(start), len));
            if let Some((into, bytes)) = part_mut(buffer, from.saturating_sub(offset), len).zip(bytes) {
                into.copy_from_slice(bytes);
            }
        }
        // Who reads a part of a buffer compares no checksum of it.
        if is_changed && self.has_checksums && unit.start >= offset && unit_end <= end {
            let whole = part_mut(buffer, unit.start.saturating_sub(offset), to_usize(unit.len));
            whole.into_iter().for_each(seal);
        }
        Ok(())
    }

    /// The sequence number of a buffer as it lies on the volume; `None` where it has none that counts.
    fn sequence_number_of(
        &self,
        source: &dyn BlockSource,
        unit: &Unit,
        offset: u64,
        buffer: &[u8],
    ) -> Result<Option<u64>, ReadError> {
        if !self.has_checksums {
            return Ok(None);
        }
        let len = HEADER_BYTES.min(to_usize(unit.len));
        let within = unit.start.checked_sub(offset);
        if let Some(header) = within.and_then(|within| part(buffer, within, len)) {
            return Ok(sequence_number(header, &self.uuids));
        }
        let mut header = vec![0; len];
        source.read_exact_at(unit.start, &mut header)?;
        Ok(sequence_number(&header, &self.uuids))
    }

    fn clear_new_inodes(&self, offset: u64, buffer: &mut [u8]) {
        let end = offset.saturating_add(to_u64(buffer.len()));
        let runs = self.new_inodes.range(..end).rev().take_while(|(_, to)| **to > offset);
        for (from, to) in runs {
            let (from, to) = ((*from).max(offset), (*to).min(end));
            let len = to_usize(to.saturating_sub(from));
            part_mut(buffer, from.saturating_sub(offset), len).into_iter().for_each(|bytes| bytes.fill(0));
        }
    }

    fn is_new_inode(&self, at: u64) -> bool {
        self.new_inodes.range(..=at).next_back().is_some_and(|(_, to)| *to > at)
    }

    /// Changes a whole inode. What is no inode is left as it is, and its reader says so.
    fn patch_inode(&self, at: u64, change: &InodeChange, inode: &mut [u8]) {
        let is_new = self.is_new_inode(at);
        if !is_new && !inode.starts_with(&INODE_MAGIC.to_be_bytes()) {
            return;
        }
        let field = |at: u64, len: usize| {
            let bytes = part(inode, at, len).unwrap_or_default();
            bytes.iter().fold(0_u64, |number, byte| (number << 8) | u64::from(*byte))
        };
        let on_disk = if self.has_checksums { field(112, 8) } else { field(FLUSH_COUNT_OFFSET, 2) };
        let has_checksums = self.has_checksums;
        let counts = |order: u64| {
            if is_new {
                true
            } else if has_checksums {
                on_disk == u64::MAX || on_disk <= order
            } else {
                let has_turned =
                    on_disk == FLUSH_COUNT_MOST && order & FLUSH_COUNT_MOST < FLUSH_COUNT_MOST / 2;
                order >> 16 >= on_disk || has_turned
            }
        };
        for piece in change.pieces().filter(|piece| counts(piece.order)) {
            for (start, bytes) in piece.parts() {
                if let Some(into) = part_mut(inode, to_u64(start), bytes.len()) {
                    into.copy_from_slice(bytes);
                }
            }
        }
        if self.has_checksums {
            write_checksum(inode, INODE_CRC_OFFSET);
        }
    }

    /// An inode of which the buffer holds a part is read whole.
    fn patch_cut_inode(
        &self,
        source: &dyn BlockSource,
        at: u64,
        offset: u64,
        buffer: &mut [u8],
    ) -> Result<(), ReadError> {
        let mut inode = vec![0; to_usize(self.inode_bytes)];
        source.read_exact_at(at, &mut inode)?;
        self.patch(source, at, &mut inode)?;
        let end = offset.saturating_add(to_u64(buffer.len()));
        let from = at.max(offset);
        let len = to_usize(at.saturating_add(self.inode_bytes).min(end).saturating_sub(from));
        let into = part_mut(buffer, from.saturating_sub(offset), len);
        if let Some((into, bytes)) = into.zip(part(&inode, from.saturating_sub(at), len)) {
            into.copy_from_slice(bytes);
        }
        Ok(())
    }
}

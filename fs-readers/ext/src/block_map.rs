//! Where the blocks of a file lie: extent trees (`filesystems/ext4/ifork.rst`, "Extent Tree") and the older map of
//! direct and indirect blocks ("Direct/Indirect Block Addressing").

use stillframe_bytes::{Fault, Quantity, Structure};
use stillframe_fs::FsError;

use crate::checksum::crc32c_raw;
use crate::fast_commit::Moved;
use crate::inode::Inode;
use crate::volume::Volume;

pub(crate) const EXTENT_MAGIC: u16 = 0xf30a;
const MAX_DEPTH: u16 = 5;
const ENTRY_BYTES: usize = 12;
/// A longer extent is one of this many blocks less that were allocated and never written: it reads as zeros.
const MAX_WRITTEN_LEN: u32 = 32_768;
const DIRECT_BLOCKS: u64 = 12;
/// One past the last block that a file can have: block numbers inside a file have 32 bits.
const FILE_BLOCKS_END: u64 = 1 << 32;

/// Consecutive blocks of a file that lie consecutively on the volume, or nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Run {
    /// Blocks from the one asked for; at least 1.
    pub(crate) len_blocks: u64,
    /// The first block on the volume; `None` for a hole or blocks never written.
    pub(crate) start: Option<u64>,
}

/// Finds blocks of one file. Keeps the last block of pointers, so that reading a file in order reads each once.
pub(crate) struct BlockMap<'a> {
    volume: &'a Volume,
    inode: &'a Inode,
    /// The last extent leaf, and the range of the file's blocks that it answers for.
    leaf: Option<(Vec<u8>, u64, u64, u64)>,
    /// The last block of pointers of each level of indirection, by its block number.
    pointers: [Option<(u64, Vec<u8>)>; 3],
}

impl<'a> BlockMap<'a> {
    pub(crate) const fn new(volume: &'a Volume, inode: &'a Inode) -> Self {
        Self { volume, inode, leaf: None, pointers: [None, None, None] }
    }

    /// The run that begins at `block` of the file.
    pub(crate) fn run(&mut self, block: u64) -> Result<Run, FsError> {
        let run = match self.inode.moved.as_deref().map_or(Moved::Not(u64::MAX), |moved| moved.run(block)) {
            Moved::Run(run) => run,
            Moved::Not(len_blocks) => {
                let run =
                    if self.inode.has_extents() { self.extent_run(block)? } else { self.mapped_run(block)? };
                Run { len_blocks: run.len_blocks.min(len_blocks), ..run }
            }
        };
        if let Some(start) = run.start {
            // Both ends must lie on the volume, then all between do.
            self.volume.block_at("first block of a run", start)?;
            let last = start.saturating_add(run.len_blocks.saturating_sub(1));
            self.volume.block_at("last block of a run", last)?;
        }
        Ok(run)
    }

    /// Whether a block of the volume is set aside for `block` of the file, written or not.
    pub(crate) fn holds(&mut self, block: u64) -> Result<bool, FsError> {
        let run = self.run(block)?;
        if run.start.is_some() || !self.inode.has_extents() {
            return Ok(run.start.is_some());
        }
        let is_moved = self.inode.moved.as_deref().is_some_and(|moved| moved.run(block) == Moved::Run(run));
        match &self.leaf {
            Some((leaf, at, first, end)) if !is_moved && (*first..*end).contains(&block) => {
                let s = Structure::new("extent leaf", *at, leaf);
                let Some(index) = last_entry_from(&s, block)? else { return Ok(false) };
                let extent = s.part("extent", entry_at(index), ENTRY_BYTES)?;
                let raw_len = u64::from(extent.u16_le(4)?);
                let unwritten = raw_len.saturating_sub(u64::from(MAX_WRITTEN_LEN));
                Ok(block.saturating_sub(u64::from(extent.u32_le(0)?)) < unwritten)
            }
            _ => Ok(false),
        }
    }

    fn extent_run(&mut self, block: u64) -> Result<Run, FsError> {
        if let Some((leaf, at, first, end)) = &self.leaf
            && (*first..*end).contains(&block)
        {
            return Ok(find_in_leaf(&Structure::new("extent leaf", *at, leaf), block, *end)?);
        }
        let root = self.inode.block_field()?;
        let mut node = root.bytes().to_vec();
        let mut at = root.at();
        let mut end = FILE_BLOCKS_END;
        let mut first = 0;
        let mut depth = None;
        loop {
            let s = Structure::new("extent node", at, &node);
            let found = check_header(&s, depth)?;
            check_order(&s, found)?;
            if found == 0 {
                let run = find_in_leaf(&s, block, end)?;
                self.leaf = Some((node, at, first, end));
                return Ok(run);
            }
            let Some(child) = find_child(&s, block)? else {
                // Before the first child: a hole up to it.
                let next = u64::from(s.u32_le(ENTRY_BYTES)?);
                return Ok(Run { len_blocks: next.saturating_sub(block).max(1), start: None });
            };
            first = child.first;
            end = end.min(child.end);
            depth = Some(found.saturating_sub(1));
            (at, node) = self.volume.read_block("extent node block", child.block)?;
            self.check_tail(at, &node)?;
        }
    }

    /// A node that is a block of its own ends in a checksum behind its last possible entry.
    fn check_tail(&self, at: u64, node: &[u8]) -> Result<(), Fault> {
        let Some(seed) = self.inode.checksum_seed else { return Ok(()) };
        let s = Structure::new("extent node", at, node);
        let tail = usize::from(s.u16_le(4)?).saturating_mul(ENTRY_BYTES).saturating_add(ENTRY_BYTES);
        let computed = crc32c_raw(seed, s.slice(0, tail)?);
        let stored = s.u32_le(tail)?;
        if stored == computed {
            return Ok(());
        }
        Err(s.fault(
            "extent node checksum",
            tail,
            Quantity::Hex(stored.into()),
            Quantity::Hex(computed.into()),
        ))
    }

    fn mapped_run(&mut self, block: u64) -> Result<Run, FsError> {
        let per_block = u64::try_from(self.volume.block_bytes() / 4).unwrap_or(256);
        let root = self.inode.block_field()?;
        if block < DIRECT_BLOCKS {
            return Ok(run_of_pointers(&root, block, DIRECT_BLOCKS)?);
        }
        // `below`: the blocks that one pointer of the level stands for.
        let mut offset = block.saturating_sub(DIRECT_BLOCKS);
        let mut below = 1;
        for level in 0..3_usize {
            let span = per_block.saturating_mul(below);
            if offset < span {
                let pointer = root.u32_le(DIRECT_BYTES.saturating_add(level.saturating_mul(4)))?;
                return self.follow(level, pointer, offset, below, per_block);
            }
            offset = offset.saturating_sub(span);
            below = span;
        }
        Err(Fault::new("file block number", self.inode.at, block, "no such level of indirection").into())
    }

    /// Goes down from a pointer to a block of pointers, each of which stands for `below` blocks.
    fn follow(
        &mut self,
        level: usize,
        pointer: u32,
        mut offset: u64,
        mut below: u64,
        per_block: u64,
    ) -> Result<Run, FsError> {
        let mut pointer = u64::from(pointer);
        for level in (0..=level).rev() {
            if pointer == 0 {
                // The hole covers all that this pointer stands for.
                let span = below.saturating_mul(per_block);
                return Ok(Run { len_blocks: span.saturating_sub(offset).max(1), start: None });
            }
            let (at, bytes) = self.pointer_block(level, pointer)?;
            let s = Structure::new("indirect block", at, bytes);
            let index = offset.checked_div(below).unwrap_or(0);
            if level == 0 {
                return Ok(run_of_pointers(&s, index, per_block)?);
            }
            offset = offset.checked_rem(below).unwrap_or(0);
            pointer = u64::from(s.u32_le(usize::try_from(index).unwrap_or(usize::MAX).saturating_mul(4))?);
            below = below.checked_div(per_block).unwrap_or(1).max(1);
            if pointer == 0 {
                let span = below.saturating_mul(per_block);
                return Ok(Run { len_blocks: span.saturating_sub(offset).max(1), start: None });
            }
        }
        Err(Fault::new("indirect block", self.inode.at, "a level of indirection", "none").into())
    }

    fn pointer_block(&mut self, level: usize, block: u64) -> Result<(u64, &[u8]), FsError> {
        let at = self.volume.block_at("indirect block", block)?;
        let slot = self.pointers.get_mut(level).ok_or(FsError::Unsupported("four levels of indirection"))?;
        if slot.as_ref().is_none_or(|(kept, _)| *kept != block) {
            *slot = Some((block, self.volume.read_block("indirect block", block)?.1));
        }
        Ok((at, slot.as_ref().map_or(&[], |(_, bytes)| bytes)))
    }
}

const DIRECT_BYTES: usize = 48;

/// The run at pointer `index` of `count` pointers.
fn run_of_pointers(pointers: &Structure<'_>, index: u64, count: u64) -> Result<Run, Fault> {
    let pointer =
        |index: u64| pointers.u32_le(usize::try_from(index).unwrap_or(usize::MAX).saturating_mul(4));
    let first = pointer(index)?;
    let mut len_blocks = 1;
    while index.saturating_add(len_blocks) < count {
        let next = u64::from(pointer(index.saturating_add(len_blocks))?);
        let expected = if first == 0 { 0 } else { u64::from(first).saturating_add(len_blocks) };
        if next != expected {
            break;
        }
        len_blocks = len_blocks.saturating_add(1);
    }
    Ok(Run { len_blocks, start: (first != 0).then_some(u64::from(first)) })
}

/// Checks a node's header and says its depth: 0 for a leaf. Each level down must be one less deep, so no tree is
/// followed for ever.
fn check_header(s: &Structure<'_>, expected_depth: Option<u16>) -> Result<u16, Fault> {
    let magic = s.u16_le(0)?;
    if magic != EXTENT_MAGIC {
        return Err(s.fault(
            "extent header magic",
            0,
            Quantity::Hex(EXTENT_MAGIC.into()),
            Quantity::Hex(magic.into()),
        ));
    }
    let (entries, max, depth) = (s.u16_le(2)?, s.u16_le(4)?, s.u16_le(6)?);
    let room = s.len().saturating_sub(ENTRY_BYTES) / ENTRY_BYTES;
    if entries > max || usize::from(max) > room {
        return Err(s.fault("extent entries", 2, usize::from(max).min(room), entries));
    }
    match expected_depth {
        Some(expected) if expected != depth => Err(s.fault("extent depth", 6, expected, depth)),
        None if depth > MAX_DEPTH => Err(s.fault("extent depth", 6, "at most 5", depth)),
        _ if depth > 0 && entries == 0 => Err(s.fault("extent index entries", 2, "at least 1", 0_u32)),
        _ => Ok(depth),
    }
}

/// Checks that entries are in order and that no extent is empty or reaches into the next: among others a search would
/// find a hole where the kernel finds damage.
fn check_order(s: &Structure<'_>, depth: u16) -> Result<(), Fault> {
    let mut end = 0_u64;
    for index in 0..usize::from(s.u16_le(2)?) {
        let at = entry_at(index);
        let first = u64::from(s.u32_le(at)?);
        let raw_len = if depth == 0 { u32::from(s.u16_le(at.saturating_add(4))?) } else { 1 };
        let len = if raw_len <= MAX_WRITTEN_LEN { raw_len } else { raw_len.saturating_sub(MAX_WRITTEN_LEN) };
        if first < end || len == 0 {
            return Err(s.fault("extent order", at, end, first));
        }
        end = first.saturating_add(len.into());
    }
    Ok(())
}

struct Child {
    block: u64,
    first: u64,
    /// The first block of the file that the next child answers for.
    end: u64,
}

/// The last child that begins at or before `block`.
fn find_child(s: &Structure<'_>, block: u64) -> Result<Option<Child>, Fault> {
    let Some(index) = last_entry_from(s, block)? else { return Ok(None) };
    let entry = s.part("extent index", entry_at(index), ENTRY_BYTES)?;
    let next = index.saturating_add(1);
    let end =
        if next < usize::from(s.u16_le(2)?) { u64::from(s.u32_le(entry_at(next))?) } else { FILE_BLOCKS_END };
    let child = u64::from(entry.u16_le(8)?) << 32 | u64::from(entry.u32_le(4)?);
    Ok(Some(Child { block: child, first: u64::from(entry.u32_le(0)?), end }))
}

/// The run at `block` in a leaf that answers for blocks up to `end`.
fn find_in_leaf(s: &Structure<'_>, block: u64, end: u64) -> Result<Run, Fault> {
    let entries = usize::from(s.u16_le(2)?);
    let index = last_entry_from(s, block)?;
    let next = index.map_or(0, |index| index.saturating_add(1));
    let next_start = if next < entries { u64::from(s.u32_le(entry_at(next))?) } else { end };
    if let Some(index) = index {
        let extent = s.part("extent", entry_at(index), ENTRY_BYTES)?;
        let first = u64::from(extent.u32_le(0)?);
        let raw_len = u32::from(extent.u16_le(4)?);
        let is_written = raw_len <= MAX_WRITTEN_LEN;
        let len = u64::from(if is_written { raw_len } else { raw_len.saturating_sub(MAX_WRITTEN_LEN) });
        let within = block.saturating_sub(first);
        if within < len {
            let start = u64::from(extent.u16_le(6)?) << 32 | u64::from(extent.u32_le(8)?);
            return Ok(Run {
                len_blocks: len.saturating_sub(within),
                start: is_written.then_some(start.saturating_add(within)),
            });
        }
    }
    Ok(Run { len_blocks: next_start.saturating_sub(block).max(1), start: None })
}

const fn entry_at(index: usize) -> usize {
    index.saturating_mul(ENTRY_BYTES).saturating_add(ENTRY_BYTES)
}

/// The index of the last entry whose first block is at or before `block`; entries are in order.
fn last_entry_from(s: &Structure<'_>, block: u64) -> Result<Option<usize>, Fault> {
    let (mut low, mut high) = (0, usize::from(s.u16_le(2)?));
    while low < high {
        let middle = low.midpoint(high);
        if u64::from(s.u32_le(entry_at(middle))?) <= block {
            low = middle.saturating_add(1);
        } else {
            high = middle;
        }
    }
    Ok(low.checked_sub(1))
}

#[cfg(test)]
#[expect(clippy::arithmetic_side_effects, reason = "offsets of a test's own bytes")]
mod tests {
    use super::*;

    fn leaf(extents: &[(u32, u16, u32)]) -> Vec<u8> {
        let mut node = vec![0; 60];
        node[0..2].copy_from_slice(&EXTENT_MAGIC.to_le_bytes());
        node[2..4].copy_from_slice(&u16::try_from(extents.len()).unwrap().to_le_bytes());
        node[4] = 4;
        for (index, (block, len, start)) in extents.iter().enumerate() {
            let at = entry_at(index);
            node[at..at + 4].copy_from_slice(&block.to_le_bytes());
            node[at + 4..at + 6].copy_from_slice(&len.to_le_bytes());
            node[at + 8..at + 12].copy_from_slice(&start.to_le_bytes());
        }
        node
    }

    #[test]
    fn holes_and_unwritten_extents_read_as_nothing() {
        let node = leaf(&[(2, 3, 100), (10, 0x8000 + 4, 200)]);
        let s = Structure::new("leaf", 0, &node);
        let run = |block| find_in_leaf(&s, block, 50).unwrap();
        assert_eq!(run(0), Run { len_blocks: 2, start: None });
        assert_eq!(run(3), Run { len_blocks: 2, start: Some(101) });
        assert_eq!(run(5), Run { len_blocks: 5, start: None });
        assert_eq!(run(11), Run { len_blocks: 3, start: None });
        assert_eq!(run(14), Run { len_blocks: 36, start: None });
    }

    #[test]
    fn empty_and_overlapping_extents_are_faults() {
        let check = |extents: &[_]| check_order(&Structure::new("leaf", 0, &leaf(extents)), 0);
        assert!(check(&[(2, 3, 100), (5, 0x8000 + 4, 200), (9, 0x8000, 300)]).is_ok());
        for extents in [[(2, 3, 100), (4, 1, 200)], [(2, 3, 100), (9, 0, 200)], [(9, 1, 100), (2, 1, 200)]] {
            assert!(check(&extents).is_err());
        }
    }

    #[test]
    fn a_header_that_claims_too_much_is_a_fault() {
        let mut node = leaf(&[(0, 1, 1)]);
        node[2] = 5;
        assert!(check_header(&Structure::new("leaf", 0, &node), None).is_err());
        node[4] = 9;
        assert!(check_header(&Structure::new("leaf", 0, &node), None).is_err());
        node[2] = 1;
        node[4] = 4;
        node[6] = 6;
        assert!(check_header(&Structure::new("leaf", 0, &node), None).is_err());
    }
}

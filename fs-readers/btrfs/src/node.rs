//! Tree nodes (On-disk format, "Header", "Item" and "Key pointer"), checked whole when they are read.

use stillframe_bytes::{Fault, Structure};

use crate::checksum::Checksum;
use crate::superblock::{CHECKSUM_FIELD_BYTES, Superblock};

/// Item kinds (On-disk format, "Key types").
pub(crate) const INODE_ITEM: u8 = 1;
pub(crate) const DIR_INDEX: u8 = 96;
pub(crate) const EXTENT_DATA: u8 = 108;
pub(crate) const EXTENT_CSUM: u8 = 128;
pub(crate) const ROOT_ITEM: u8 = 132;
pub(crate) const ROOT_BACKREF: u8 = 144;
pub(crate) const CHUNK_ITEM: u8 = 228;

const HEADER_BYTES: usize = 101;
const ITEM_BYTES: usize = 25;
const POINTER_BYTES: usize = 33;

/// What a tree is sorted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) object: u64,
    pub(crate) kind: u8,
    pub(crate) offset: u64,
}

impl Key {
    pub(crate) const fn new(object: u64, kind: u8, offset: u64) -> Self {
        Self { object, kind, offset }
    }

    pub(crate) fn parse(fields: &Structure<'_>, at: usize) -> Result<Self, Fault> {
        Ok(Self {
            object: fields.u64_le(at)?,
            kind: fields.u8(at.saturating_add(8))?,
            offset: fields.u64_le(at.saturating_add(9))?,
        })
    }
}

/// Where an item's data lies in its leaf, or which child a pointer names.
#[derive(Debug, Clone, Copy)]
enum Slot {
    Item { offset: usize, len: usize },
    Pointer { child: u64, generation: u64 },
}

/// One node, its keys parsed.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) logical: u64,
    pub(crate) level: u8,
    pub(crate) generation: u64,
    bytes: Vec<u8>,
    slots: Vec<(Key, Slot)>,
}

impl Node {
    /// Parses the node at `logical`. It must be of this filesystem, lie where it says, and be in order.
    pub(crate) fn parse(superblock: &Superblock, logical: u64, bytes: Vec<u8>) -> Result<Self, Fault> {
        let fields = Structure::new("node", logical, &bytes);
        check_header(superblock.checksum, superblock, &fields)?;
        let level = fields.u8(100)?;
        let generation = fields.u64_le(80)?;
        let count = usize::try_from(fields.u32_le(96)?).unwrap_or(usize::MAX);
        let entry = if level == 0 { ITEM_BYTES } else { POINTER_BYTES };
        let most = fields.len().saturating_sub(HEADER_BYTES).checked_div(entry).unwrap_or(0);
        if count > most || (level > 0 && count == 0) {
            return Err(fields.fault("node item count", 96, most, count));
        }
        let mut slots: Vec<(Key, Slot)> = Vec::with_capacity(count);
        let table_end = HEADER_BYTES.saturating_add(count.saturating_mul(entry));
        for index in 0..count {
            let at = HEADER_BYTES.saturating_add(index.saturating_mul(entry));
            let key = Key::parse(&fields, at)?;
            if slots.last().is_some_and(|(before, _)| *before >= key) {
                return Err(fields.fault("node key order", at, "ascending", "not ascending"));
            }
            let slot = if level == 0 {
                let offset = u32_as_len(fields.u32_le(at.saturating_add(17))?).saturating_add(HEADER_BYTES);
                let len = u32_as_len(fields.u32_le(at.saturating_add(21))?);
                if offset < table_end || offset.saturating_add(len) > fields.len() {
                    return Err(fields.fault("item offset", at.saturating_add(17), fields.len(), offset));
                }
                Slot::Item { offset, len }
            } else {
                let child = fields.u64_le(at.saturating_add(17))?;
                Slot::Pointer { child, generation: fields.u64_le(at.saturating_add(25))? }
            };
            slots.push((key, slot));
        }
        Ok(Self { logical, level, generation, bytes, slots })
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(crate) fn key(&self, index: usize) -> Option<Key> {
        self.slots.get(index).map(|(key, _)| *key)
    }

    pub(crate) fn last_key(&self) -> Option<Key> {
        self.slots.last().map(|(key, _)| *key)
    }

    /// How many keys are less than `key`, or not greater.
    pub(crate) fn count_before(&self, key: Key, or_equal: bool) -> usize {
        self.slots.partition_point(|(own, _)| if or_equal { *own <= key } else { *own < key })
    }

    /// A leaf's item.
    pub(crate) fn item(&self, index: usize) -> Option<(Key, Structure<'_>)> {
        match self.slots.get(index)? {
            (key, Slot::Item { offset, len }) => {
                let data = self.bytes.get(*offset..)?.get(..*len)?;
                let at = self.logical.saturating_add(u64::try_from(*offset).ok()?);
                Some((*key, Structure::new("item", at, data)))
            }
            (_, Slot::Pointer { .. }) => None,
        }
    }

    /// An inner node's child: address and generation.
    pub(crate) fn child(&self, index: usize) -> Option<(u64, u64)> {
        match self.slots.get(index)? {
            (_, Slot::Pointer { child, generation }) => Some((*child, *generation)),
            (_, Slot::Item { .. }) => None,
        }
    }
}

fn check_header(checksum: Checksum, superblock: &Superblock, fields: &Structure<'_>) -> Result<(), Fault> {
    let covered = fields.len().saturating_sub(CHECKSUM_FIELD_BYTES);
    let stored = fields.slice(0, CHECKSUM_FIELD_BYTES)?;
    if !checksum.matches(fields.slice(CHECKSUM_FIELD_BYTES, covered)?, stored) {
        return Err(fields.fault("node checksum", 0, "a match", "none"));
    }
    if fields.array::<16>(32)? != superblock.metadata_uuid {
        return Err(fields.fault("node UUID", 32, "this filesystem's", "another"));
    }
    let address = fields.u64_le(48)?;
    if address != fields.at() {
        return Err(fields.fault("node address", 48, fields.at(), address));
    }
    Ok(())
}

fn u32_as_len(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

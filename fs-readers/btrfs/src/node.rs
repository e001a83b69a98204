//! Tree nodes (On-disk format, "Header", "Item" and "Key pointer"), checked whole when they are read.

use stillframe_bytes::{Fault, Structure};

use crate::checksum::Checksum;
use crate::superblock::{CHECKSUM_FIELD_BYTES, Superblock};

/// Item kinds (On-disk format, "Key types").
pub(crate) const INODE_ITEM: u8 = 1;
pub(crate) const INODE_REF: u8 = 12;
pub(crate) const INODE_EXTREF: u8 = 13;
pub(crate) const XATTR_ITEM: u8 = 24;
pub(crate) const DIR_LOG_INDEX: u8 = 72;
pub(crate) const DIR_ITEM: u8 = 84;
pub(crate) const DIR_INDEX: u8 = 96;
pub(crate) const EXTENT_DATA: u8 = 108;
pub(crate) const EXTENT_CSUM: u8 = 128;
pub(crate) const ROOT_ITEM: u8 = 132;
pub(crate) const ROOT_BACKREF: u8 = 144;
pub(crate) const DEV_ITEM: u8 = 216;
pub(crate) const CHUNK_ITEM: u8 = 228;

pub(crate) const HEADER_BYTES: usize = 101;
pub(crate) const ITEM_BYTES: usize = 25;
const POINTER_BYTES: usize = 33;

/// What a tree is sorted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
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
        let bytes: [u8; 17] = fields.array(at)?;
        let ([object @ .., _, _, _, _, _, _, _, _, _], [_, _, _, _, _, _, _, _, kind, offset @ ..]) =
            (bytes, bytes);
        Ok(Self { object: u64::from_le_bytes(object), kind, offset: u64::from_le_bytes(offset) })
    }

    /// The key that comes before; `None` before the first.
    pub(crate) fn previous(self) -> Option<Self> {
        if let Some(offset) = self.offset.checked_sub(1) {
            return Some(Self { offset, ..self });
        }
        if let Some(kind) = self.kind.checked_sub(1) {
            return Some(Self { kind, offset: u64::MAX, ..self });
        }
        Some(Self::new(self.object.checked_sub(1)?, u8::MAX, u64::MAX))
    }

    /// The key that comes next; `None` after the last.
    pub(crate) fn next(self) -> Option<Self> {
        if let Some(offset) = self.offset.checked_add(1) {
            return Some(Self { offset, ..self });
        }
        if let Some(kind) = self.kind.checked_add(1) {
            return Some(Self { kind, offset: 0, ..self });
        }
        Some(Self::new(self.object.checked_add(1)?, 0, 0))
    }
}

/// One node. Its keys are in order, and its items lie inside it.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) logical: u64,
    pub(crate) level: u8,
    pub(crate) generation: u64,
    count: usize,
    bytes: Vec<u8>,
}

impl Node {
    /// Takes the node at `logical`. It must be of this filesystem, lie where it says, and be in order.
    pub(crate) fn parse(superblock: &Superblock, logical: u64, bytes: Vec<u8>) -> Result<Self, Fault> {
        let fields = Structure::new("node", logical, &bytes);
        check_header(superblock.checksum, superblock, &fields)?;
        let level = fields.u8(100)?;
        let generation = fields.u64_le(80)?;
        let count = u32_as_len(fields.u32_le(96)?);
        let entry = if level == 0 { ITEM_BYTES } else { POINTER_BYTES };
        let most = fields.len().saturating_sub(HEADER_BYTES).checked_div(entry).unwrap_or(0);
        if count > most || (level > 0 && count == 0) {
            return Err(fields.fault("node item count", 96, most, count));
        }
        let mut before: Option<Key> = None;
        let table_end = HEADER_BYTES.saturating_add(count.saturating_mul(entry));
        for index in 0..count {
            let at = HEADER_BYTES.saturating_add(index.saturating_mul(entry));
            let key = Key::parse(&fields, at)?;
            if before.is_some_and(|before| before >= key) {
                return Err(fields.fault("node key order", at, "ascending", "not ascending"));
            }
            before = Some(key);
            if level == 0 {
                let (offset, len) = item_place(&fields, at)?;
                if offset < table_end || offset.saturating_add(len) > fields.len() {
                    return Err(fields.fault("item offset", at.saturating_add(17), fields.len(), offset));
                }
            }
        }
        Ok(Self { logical, level, generation, count, bytes })
    }

    pub(crate) fn len(&self) -> usize {
        self.count
    }

    pub(crate) fn key(&self, index: usize) -> Option<Key> {
        Key::parse(&self.fields(), self.entry(index)?).ok()
    }

    pub(crate) fn last_key(&self) -> Option<Key> {
        self.key(self.count.checked_sub(1)?)
    }

    /// How many keys are less than `key`, or not greater.
    pub(crate) fn count_before(&self, key: Key, or_equal: bool) -> usize {
        let (mut low, mut high) = (0, self.count);
        while low < high {
            let middle = low.midpoint(high);
            let is_before = self.key(middle).is_some_and(|own| if or_equal { own <= key } else { own < key });
            if is_before {
                low = middle.saturating_add(1);
            } else {
                high = middle;
            }
        }
        low
    }

    /// A leaf's item.
    pub(crate) fn item(&self, index: usize) -> Option<(Key, Structure<'_>)> {
        if self.level != 0 {
            return None;
        }
        let fields = self.fields();
        let at = self.entry(index)?;
        let (offset, len) = item_place(&fields, at).ok()?;
        Some((Key::parse(&fields, at).ok()?, fields.part("item", offset, len).ok()?))
    }

    /// An inner node's child: address and generation.
    pub(crate) fn child(&self, index: usize) -> Option<(u64, u64)> {
        if self.level == 0 {
            return None;
        }
        let at = self.entry(index)?;
        let fields = self.fields();
        Some((fields.u64_le(at.saturating_add(17)).ok()?, fields.u64_le(at.saturating_add(25)).ok()?))
    }

    fn fields(&self) -> Structure<'_> {
        Structure::new("node", self.logical, &self.bytes)
    }

    fn entry(&self, index: usize) -> Option<usize> {
        let entry = if self.level == 0 { ITEM_BYTES } else { POINTER_BYTES };
        (index < self.count).then(|| HEADER_BYTES.saturating_add(index.saturating_mul(entry)))
    }
}

/// Where the data of the item whose entry is at `at` begins in the node, and how long it is.
fn item_place(fields: &Structure<'_>, at: usize) -> Result<(usize, usize), Fault> {
    let offset = u32_as_len(fields.u32_le(at.saturating_add(17))?).saturating_add(HEADER_BYTES);
    Ok((offset, u32_as_len(fields.u32_le(at.saturating_add(21))?)))
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

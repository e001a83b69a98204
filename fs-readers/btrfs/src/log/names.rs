//! Items that hold names (On-disk format, "Directory item", "Inode reference", "Extended inode reference"), and their
//! hashes.

use stillframe_bytes::{Fault, Structure};

use crate::node::{DIR_INDEX, DIR_ITEM, INODE_EXTREF, INODE_REF, Key};

/// Location, transaction, length of data, length of name, type.
pub(super) const ENTRY_HEAD_BYTES: usize = 30;

/// One entry of a directory, or one extended attribute: several with one hash share an item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) location: Key,
    pub(super) entry_type: u8,
    pub(super) name: Vec<u8>,
    bytes: Vec<u8>,
}

/// All entries of an item.
pub(super) fn entries(item: &[u8]) -> Result<Vec<Entry>, Fault> {
    let fields = Structure::new("directory item", 0, item);
    let mut entries = Vec::new();
    let mut at = 0_usize;
    while at < item.len() {
        let head = fields.rest("directory item", at)?;
        let (data_len, name_len) = (usize::from(head.u16_le(25)?), usize::from(head.u16_le(27)?));
        let len = ENTRY_HEAD_BYTES.saturating_add(data_len).saturating_add(name_len);
        entries.push(Entry {
            location: Key::parse(&head, 0)?,
            entry_type: head.u8(29)?,
            name: head.slice(ENTRY_HEAD_BYTES, name_len)?.to_vec(),
            bytes: head.slice(0, len)?.to_vec(),
        });
        at = at.saturating_add(len);
    }
    Ok(entries)
}

/// The item of these entries; `None` where there are none.
pub(super) fn item_of(entries: &[Entry]) -> Option<Vec<u8>> {
    (!entries.is_empty()).then(|| entries.iter().flat_map(|entry| entry.bytes.clone()).collect())
}

impl Entry {
    pub(super) fn new(location: Key, entry_type: u8, name: &[u8]) -> Self {
        let mut bytes = Vec::with_capacity(ENTRY_HEAD_BYTES.saturating_add(name.len()));
        bytes.extend(location.object.to_le_bytes());
        bytes.push(location.kind);
        bytes.extend(location.offset.to_le_bytes());
        bytes.extend([0; 10]);
        bytes.extend(u16::try_from(name.len()).unwrap_or(u16::MAX).to_le_bytes());
        bytes.push(entry_type);
        bytes.extend(name);
        Self { location, entry_type, name: name.to_vec(), bytes }
    }
}

/// Where an inode has a name: its folder, the entry's number there, and the name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reference {
    pub(super) parent: u64,
    pub(super) index: u64,
    pub(super) name: Vec<u8>,
}

/// All references of an item.
pub(super) fn references(key: Key, item: &[u8]) -> Result<Vec<Reference>, Fault> {
    let fields = Structure::new("inode reference", 0, item);
    let is_extended = key.kind == INODE_EXTREF;
    let mut references = Vec::new();
    let mut at = 0_usize;
    while at < item.len() {
        let (parent, after) =
            if is_extended { (fields.u64_le(at)?, at.saturating_add(8)) } else { (key.offset, at) };
        let len = usize::from(fields.u16_le(after.saturating_add(8))?);
        let start = after.saturating_add(10);
        let name = fields.slice(start, len)?.to_vec();
        references.push(Reference { parent, index: fields.u64_le(after)?, name });
        at = start.saturating_add(len);
    }
    Ok(references)
}

/// The item of these references; `None` where there are none.
pub(super) fn item_of_references(key: Key, references: &[Reference]) -> Option<Vec<u8>> {
    let mut item = Vec::new();
    for reference in references {
        if key.kind == INODE_EXTREF {
            item.extend(reference.parent.to_le_bytes());
        }
        item.extend(reference.index.to_le_bytes());
        item.extend(u16::try_from(reference.name.len()).unwrap_or(u16::MAX).to_le_bytes());
        item.extend(&reference.name);
    }
    (!references.is_empty()).then_some(item)
}

/// CRC-32C with the bits of the start value, and of the outcome, as they are.
fn raw_crc(start: u32, bytes: &[u8]) -> u32 {
    !crc32c::crc32c_append(!start, bytes)
}

/// Where an entry is by its name.
pub(super) fn by_name(directory: u64, name: &[u8]) -> Key {
    Key::new(directory, DIR_ITEM, raw_crc(!1, name).into())
}

/// Where an entry is by its number.
pub(super) fn by_index(directory: u64, index: u64) -> Key {
    Key::new(directory, DIR_INDEX, index)
}

/// Where an inode's names in `parent` are, and where one of them is that found no room there.
pub(super) fn reference_keys(inode: u64, parent: u64, name: &[u8]) -> [Key; 2] {
    let low = u32::try_from(parent & u64::from(u32::MAX)).unwrap_or(0);
    let hash = raw_crc(low, name);
    [Key::new(inode, INODE_REF, parent), Key::new(inode, INODE_EXTREF, hash.into())]
}

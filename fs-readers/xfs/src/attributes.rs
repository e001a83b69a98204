//! Extended attributes (XFS Algorithms & Data Structures, "Extended Attributes"): short form in the inode, one leaf, or
//! leaves below nodes. Long values have blocks of their own.
//!
//! Access control lists are kept among the attributes of root, and shown twice, as the kernel does: as they are, and
//! as `system.posix_acl_*` in the form of `getxattr(2)`. Links to parent folders are left out.

use std::collections::BTreeSet;

use stillframe_bytes::{Fault, Quantity, Structure};
use stillframe_fs::{FsError, XATTR_BYTES_AT_MOST, XATTRS_AT_MOST, Xattr};

use crate::checksum::checksum_matches;
use crate::extents::{self, Extent, Of};
use crate::inode::{Format, Inode};
use crate::superblock::Superblock;
use crate::volume::{SECTOR_BYTES, Volume, to_u64, to_usize};

/// Flags of an attribute.
const LOCAL: u8 = 1 << 0;
const ROOT: u8 = 1 << 1;
const SECURE: u8 = 1 << 2;
const PARENT: u8 = 1 << 3;
/// It was being made or removed: it does not exist.
const INCOMPLETE: u8 = 1 << 7;

const LEAF_V4: u16 = 0xfbee;
const LEAF_V5: u16 = 0x3bee;
const NODE_V4: u16 = 0xfebe;
const NODE_V5: u16 = 0x3ebe;
const CRC_OFFSET: usize = 12;
const SEQUENCE_NUMBER_OFFSET: usize = 24;
const ENTRY_BYTES: usize = 8;
/// Levels of nodes.
const MAX_LEVELS: u16 = 5;

const VALUE_MAGIC: u32 = 0x5841_524d;
const VALUE_HEADER_BYTES: usize = 56;
/// The longest value there can be.
const MAX_VALUE_BYTES: u32 = 64 * 1024;

/// Reads all attributes of `inode`.
pub(crate) fn read(volume: &Volume, superblock: &Superblock, inode: &Inode) -> Result<Vec<Xattr>, FsError> {
    let Some(fork) = &inode.attributes else {
        return Ok(Vec::new());
    };
    if volume.changes().is_some_and(|changes| changes.has_unfinished_attributes(inode.number)) {
        return Err(FsError::Unsupported("XFS attributes of which a change was not finished"));
    }
    let mut found = Found::default();
    if fork.format == Format::Local {
        read_short(inode, &fork.bytes, &mut found)?;
        return Ok(found.attributes);
    }
    let extents = extents::read_fork(volume, superblock, inode, fork, Of::Attributes)?;
    if !extents.is_empty() {
        let mut tree = Tree { volume, superblock, inode, extents, seen: BTreeSet::new(), found };
        tree.block(0, None)?;
        found = tree.found;
    }
    Ok(found.attributes)
}

/// The attributes so far, no more than are given of one file.
#[derive(Default)]
struct Found {
    attributes: Vec<Xattr>,
    bytes: usize,
}

impl Found {
    /// Makes room for a value before it is read.
    fn count(&mut self, len: usize) -> Result<(), FsError> {
        self.bytes = self.bytes.saturating_add(len);
        if self.bytes > XATTR_BYTES_AT_MOST {
            let cap = to_u64(XATTR_BYTES_AT_MOST);
            return Err(FsError::Limit { what: "bytes of extended attributes of one file", cap });
        }
        if self.attributes.len() >= XATTRS_AT_MOST {
            let cap = to_u64(XATTRS_AT_MOST);
            return Err(FsError::Limit { what: "extended attributes of one file", cap });
        }
        Ok(())
    }

    fn add(&mut self, fields: &Structure<'_>, flags: u8, name: &[u8], value: Vec<u8>) -> Result<(), FsError> {
        let prefix: &[u8] = match flags & (ROOT | SECURE) {
            0 => b"user.",
            ROOT => b"trusted.",
            SECURE => b"security.",
            both => return Err(fields.fault("attribute flags", 0, "one name space", both).into()),
        };
        if name.is_empty() || name.contains(&0) {
            return Err(fields.fault("attribute name", 0, "a name", "none, or NUL in it").into());
        }
        let list: Option<&[u8]> = match name {
            b"SGI_ACL_FILE" if flags & ROOT != 0 => Some(b"system.posix_acl_access"),
            b"SGI_ACL_DEFAULT" if flags & ROOT != 0 => Some(b"system.posix_acl_default"),
            _ => None,
        };
        if let Some(list) = list {
            let value = access_control_list(&Structure::new("access control list", fields.at(), &value))?;
            self.attributes.push(Xattr { name: list.to_vec(), value });
        }
        self.attributes.push(Xattr { name: [prefix, name].concat(), value });
        Ok(())
    }
}

/// The list as `getxattr(2)` gives it: version 2, then tag, permissions and number of each entry, little-endian.
fn access_control_list(list: &Structure<'_>) -> Result<Vec<u8>, Fault> {
    const USER: u32 = 0x02;
    const GROUP: u32 = 0x08;
    let count = to_usize(list.u32_be(0)?.into());
    let mut shown = 2_u32.to_le_bytes().to_vec();
    let entries = list.part("access control list entries", 4, count.saturating_mul(12))?;
    for start in (0..entries.len()).step_by(12) {
        let entry = entries.part("access control list entry", start, 12)?;
        let (tag, permissions) = (entry.u32_be(0)?, entry.u16_be(8)?);
        let number = if matches!(tag, USER | GROUP) { entry.u32_be(4)? } else { u32::MAX };
        let tag = u16::try_from(tag).map_err(|_| entry.fault("access control list tag", 0, 0x20_u8, tag))?;
        shown.extend(tag.to_le_bytes());
        shown.extend(permissions.to_le_bytes());
        shown.extend(number.to_le_bytes());
    }
    Ok(shown)
}

/// Short form: total size and count, then entries of name length, value length, flags, name and value.
fn read_short(inode: &Inode, fork: &[u8], found: &mut Found) -> Result<(), FsError> {
    let fork = Structure::new("short attributes", inode.at, fork);
    let fields = fork.part("short attributes", 0, fork.u16_be(0)?.into())?;
    let mut at = 4_usize;
    for _ in 0..fields.u8(2)? {
        let entry = fields.rest("short attribute", at)?;
        let (name_bytes, value_bytes) = (usize::from(entry.u8(0)?), usize::from(entry.u8(1)?));
        let flags = entry.u8(2)?;
        let name = entry.slice(3, name_bytes)?;
        let value = entry.slice(name_bytes.saturating_add(3), value_bytes)?;
        at = at.saturating_add(3).saturating_add(name_bytes).saturating_add(value_bytes);
        if flags & (PARENT | INCOMPLETE) == 0 {
            found.count(value.len())?;
            found.add(&entry, flags, name, value.to_vec())?;
        }
    }
    Ok(())
}

/// Leaves, and nodes above them.
struct Tree<'a> {
    volume: &'a Volume,
    superblock: &'a Superblock,
    inode: &'a Inode,
    extents: Vec<Extent>,
    /// Blocks that were read: none is read twice, so that the tree ends.
    seen: BTreeSet<u64>,
    found: Found,
}

impl Tree<'_> {
    /// Reads block `number` of the fork, a node of `level` or a leaf (0); what the root is, it says itself.
    fn block(&mut self, number: u64, level: Option<u16>) -> Result<(), FsError> {
        let at = self.place(number)?;
        if !self.seen.insert(number) {
            return Err(Fault::new("attribute block", at, "met once", "met again").into());
        }
        let mut bytes = vec![0; to_usize(self.superblock.block_bytes)];
        self.volume.read(at, &mut bytes)?;
        let block = Structure::new("attribute block", at, &bytes);
        let magic = block.u16_be(8)?;
        let (leaf, node) =
            if self.superblock.has_checksums { (LEAF_V5, NODE_V5) } else { (LEAF_V4, NODE_V4) };
        if magic != leaf && magic != node {
            let (claimed, found) = (Quantity::Hex(leaf.into()), Quantity::Hex(magic.into()));
            return Err(block.fault("attribute block magic", 8, claimed, found).into());
        }
        if self.superblock.has_checksums {
            self.check(&block)?;
            self.volume.check_sequence_number(&block, SEQUENCE_NUMBER_OFFSET)?;
        }
        if magic == leaf {
            return match level {
                None | Some(0) => self.leaf(&block),
                Some(level) => Err(block.fault("attribute block level", 8, level, 0_u8).into()),
            };
        }
        self.node(&block, level)
    }

    fn place(&self, number: u64) -> Result<u64, Fault> {
        let holder = self.extents.partition_point(|extent| extent.end() <= number);
        let extent = self.extents.get(holder);
        let extent = extent.filter(|extent| extent.file_block <= number && !extent.is_unwritten);
        let extent =
            extent.ok_or_else(|| Fault::new("attribute block", self.inode.at, "mapped", "a hole"))?;
        let within = number.saturating_sub(extent.file_block).saturating_mul(self.superblock.block_bytes);
        Ok(extent.volume_offset.saturating_add(within))
    }

    fn check(&self, block: &Structure<'_>) -> Result<(), Fault> {
        if !checksum_matches(block.bytes(), CRC_OFFSET) {
            return Err(block.fault("attribute block checksum", CRC_OFFSET, "a match", "none"));
        }
        let sector = block.u64_be(16)?;
        if sector.checked_mul(SECTOR_BYTES) != Some(block.at()) {
            return Err(block.fault("attribute block number", 16, block.at() / SECTOR_BYTES, sector));
        }
        self.check_owner(block, 48)
    }

    fn check_owner(&self, block: &Structure<'_>, offset: usize) -> Result<(), Fault> {
        let (own, owner) = (self.inode.number, block.u64_be(offset)?);
        if owner == own || self.volume.changes().is_some_and(|changes| changes.has_new_owner(own)) {
            return Ok(());
        }
        Err(block.fault("attribute block owner", offset, own, owner))
    }

    fn node(&mut self, block: &Structure<'_>, level: Option<u16>) -> Result<(), FsError> {
        let header = if self.superblock.has_checksums { 56 } else { 12 };
        let entries_at = if self.superblock.has_checksums { 64 } else { 16 };
        let count = usize::from(block.u16_be(header)?);
        let own_level = block.u16_be(header.saturating_add(2))?;
        let expected = level.unwrap_or(own_level);
        if own_level != expected || own_level == 0 || own_level > MAX_LEVELS {
            return Err(block
                .fault("attribute node level", header, expected.min(MAX_LEVELS), own_level)
                .into());
        }
        let entries = block.part("attribute node entries", entries_at, count.saturating_mul(ENTRY_BYTES))?;
        for start in (0..entries.len()).step_by(ENTRY_BYTES) {
            let child = entries.u32_be(start.saturating_add(4))?;
            self.block(child.into(), Some(own_level.saturating_sub(1)))?;
        }
        Ok(())
    }

    fn leaf(&mut self, block: &Structure<'_>) -> Result<(), FsError> {
        let (header, entries_at) = if self.superblock.has_checksums { (56, 80) } else { (12, 32) };
        let count = usize::from(block.u16_be(header)?);
        let entries = block.part("attribute entries", entries_at, count.saturating_mul(ENTRY_BYTES))?;
        for start in (0..entries.len()).step_by(ENTRY_BYTES) {
            let at = usize::from(entries.u16_be(start.saturating_add(4))?);
            let flags = entries.u8(start.saturating_add(6))?;
            if flags & (PARENT | INCOMPLETE) != 0 {
                continue;
            }
            let entry = block.rest("attribute", at)?;
            if flags & LOCAL != 0 {
                let value_bytes = usize::from(entry.u16_be(0)?);
                let name = entry.slice(3, entry.u8(2)?.into())?;
                let value = entry.slice(name.len().saturating_add(3), value_bytes)?;
                self.found.count(value.len())?;
                self.found.add(&entry, flags, name, value.to_vec())?;
            } else {
                let len = entry.u32_be(4)?;
                let name = entry.slice(9, entry.u8(8)?.into())?;
                if len > MAX_VALUE_BYTES {
                    return Err(entry.fault("attribute value length", 4, MAX_VALUE_BYTES, len).into());
                }
                self.found.count(to_usize(len.into()))?;
                let value = self.remote_value(entry.u32_be(0)?.into(), to_usize(len.into()))?;
                self.found.add(&entry, flags, name, value)?;
            }
        }
        Ok(())
    }

    /// A value in blocks of its own, each of which has a header in version 5.
    fn remote_value(&self, first: u64, len: usize) -> Result<Vec<u8>, FsError> {
        let mut value = Vec::new();
        let mut bytes = vec![0; to_usize(self.superblock.block_bytes)];
        for number in first.. {
            let left = len.saturating_sub(value.len());
            if left == 0 {
                break;
            }
            let at = self.place(number)?;
            self.volume.read(at, &mut bytes)?;
            let block = Structure::new("attribute value", at, &bytes);
            let mut text = block.bytes();
            if self.superblock.has_checksums {
                let len = self.check_value(&block, value.len())?;
                text = block.slice(VALUE_HEADER_BYTES, len)?;
                if text.is_empty() {
                    return Err(block.fault("attribute value length", 8, left, 0_u8).into());
                }
            }
            value.extend_from_slice(text.get(..left).unwrap_or(text));
        }
        Ok(value)
    }

    fn check_value(&self, block: &Structure<'_>, offset: usize) -> Result<usize, Fault> {
        let magic = block.u32_be(0)?;
        if magic != VALUE_MAGIC {
            let (claimed, found) = (Quantity::Hex(VALUE_MAGIC.into()), Quantity::Hex(magic.into()));
            return Err(block.fault("attribute value magic", 0, claimed, found));
        }
        if !checksum_matches(block.bytes(), CRC_OFFSET) {
            return Err(block.fault("attribute value checksum", CRC_OFFSET, "a match", "none"));
        }
        let own_offset = to_usize(block.u32_be(4)?.into());
        if own_offset != offset {
            return Err(block.fault("attribute value offset", 4, offset, own_offset));
        }
        self.check_owner(block, 32)?;
        Ok(to_usize(block.u32_be(8)?.into()))
    }
}

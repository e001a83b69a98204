//! Extended attributes: in the space behind an inode's fields, in one block that inodes may share (`i_file_acl`), and
//! values that are too long for both in inodes of their own (`ea_inode`).
//!
//! Kernel documentation: `filesystems/ext4/attributes.rst`. Left out, as `listxattr(2)` leaves them out: `system.data`
//! (inline data), the contexts of file encryption and verity, and Lustre's own.

use stillframe_bytes::{Fault, Quantity, Structure};
use stillframe_fs::{FsError, XATTR_BYTES_AT_MOST, XATTRS_AT_MOST, Xattr};

use crate::acl;
use crate::block_map::BlockMap;
use crate::checksum::crc32c_raw;
use crate::content::read_blocks;
use crate::inode::Inode;
use crate::volume::Volume;

pub(crate) const ATTRIBUTE_MAGIC: u32 = 0xea02_0000;
/// `system.` in an entry's name index.
pub(crate) const SYSTEM_INDEX: u8 = 7;
const ACCESS_INDEX: u8 = 2;
const DEFAULT_INDEX: u8 = 3;
const ENTRY_BYTES: usize = 16;
const BLOCK_HEADER_BYTES: usize = 32;
const BLOCK_CHECKSUM_AT: usize = 0x10;

/// One entry of a space of attributes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Entry<'a> {
    fields: Structure<'a>,
    pub(crate) index: u8,
    pub(crate) name: &'a [u8],
    value_at: usize,
    pub(crate) value_inode: u32,
    len_bytes: u32,
}

impl<'a> Entry<'a> {
    /// The value, of an entry that has no inode for it. Offsets count from the start of `space`.
    pub(crate) fn value(&self, space: &Structure<'a>) -> Result<&'a [u8], Fault> {
        if self.len_bytes == 0 {
            return Ok(&[]);
        }
        space.slice(self.value_at, usize::try_from(self.len_bytes).unwrap_or(usize::MAX))
    }
}

/// Calls `visit` for the entries that begin at `first` in `space`, to the four zeros that end them, or until it says
/// `false`; says where it stopped.
pub(crate) fn entries<'a>(
    space: &Structure<'a>,
    first: usize,
    mut visit: impl FnMut(Entry<'a>) -> Result<bool, FsError>,
) -> Result<usize, FsError> {
    let mut at = first;
    // What is too short for a name's end ends the list too: a space may be filled to its last byte.
    while space.len().saturating_sub(at) >= 4 && space.u32_le(at)? != 0 {
        let fields = space.part("attribute entry", at, ENTRY_BYTES)?;
        let name_len = usize::from(fields.u8(0)?);
        let name = space.slice(at.saturating_add(ENTRY_BYTES), name_len)?;
        if name.contains(&0) {
            return Err(fields.fault("attribute name", 0, "a name without NUL", name_len).into());
        }
        let entry = Entry {
            fields,
            index: fields.u8(1)?,
            name,
            value_at: usize::from(fields.u16_le(2)?),
            value_inode: fields.u32_le(4)?,
            len_bytes: fields.u32_le(8)?,
        };
        if !visit(entry)? {
            break;
        }
        at = at.saturating_add(ENTRY_BYTES).saturating_add(name_len.next_multiple_of(4));
    }
    Ok(at)
}

/// All attributes of `inode`.
pub(crate) fn read(volume: &Volume, inode: &Inode) -> Result<Vec<Xattr>, FsError> {
    let mut found = Found { volume, owner: inode, attributes: Vec::new(), len_bytes: 0 };
    if let Some(space) = inode.attribute_space()? {
        found.take(&space, 0)?;
    }
    let block = inode.attribute_block(&volume.superblock)?;
    if block != 0 {
        let (at, bytes) = volume.read_block("attribute block", block)?;
        let space = Structure::new("attribute block", at, &bytes);
        check_block(volume, block, &space)?;
        found.take(&space, BLOCK_HEADER_BYTES)?;
    }
    Ok(found.attributes)
}

fn check_block(volume: &Volume, block: u64, s: &Structure<'_>) -> Result<(), Fault> {
    let hex = |number: u32| Quantity::Hex(number.into());
    let magic = s.u32_le(0)?;
    if magic != ATTRIBUTE_MAGIC {
        return Err(s.fault("attribute block magic", 0, hex(ATTRIBUTE_MAGIC), hex(magic)));
    }
    if s.u32_le(8)? != 1 {
        return Err(s.fault("blocks of attributes", 8, 1_u32, s.u32_le(8)?));
    }
    let Some(seed) = volume.superblock.checksum_seed else { return Ok(()) };
    let crc = crc32c_raw(crc32c_raw(seed, &block.to_le_bytes()), s.slice(0, BLOCK_CHECKSUM_AT)?);
    let rest = s.rest("attribute block", BLOCK_CHECKSUM_AT.saturating_add(4))?;
    let computed = crc32c_raw(crc32c_raw(crc, &[0; 4]), rest.bytes());
    let stored = s.u32_le(BLOCK_CHECKSUM_AT)?;
    if stored == computed {
        return Ok(());
    }
    Err(s.fault("attribute block checksum", BLOCK_CHECKSUM_AT, hex(stored), hex(computed)))
}

struct Found<'a> {
    volume: &'a Volume,
    owner: &'a Inode,
    attributes: Vec<Xattr>,
    len_bytes: usize,
}

impl Found<'_> {
    fn take(&mut self, space: &Structure<'_>, first: usize) -> Result<(), FsError> {
        // Values lie behind all entries, or the kernel takes the whole space for damaged.
        let end = entries(space, first, |_| Ok(true))?.saturating_add(4);
        entries(space, first, |entry| {
            if entry.value_inode == 0 && entry.len_bytes != 0 && entry.value_at < end {
                return Err(entry.fields.fault("attribute value offset", 2, end, entry.value_at).into());
            }
            let Some(prefix) = prefix(entry.index) else { return Ok(true) };
            self.count(&entry)?;
            let value = match entry.value_inode {
                0 => entry.value(space)?.to_vec(),
                number => self.value_of_inode(&entry, number)?,
            };
            let value = match entry.index {
                ACCESS_INDEX | DEFAULT_INDEX => {
                    acl::as_shown(&Structure::new("access control list", entry.fields.at(), &value))?
                }
                _ => Some(value),
            };
            let name = [prefix, entry.name].concat();
            self.attributes.extend(value.map(|value| Xattr { name, value }));
            Ok(true)
        })
        .map(|_| ())
    }

    /// Counts an attribute before its value is read.
    fn count(&mut self, entry: &Entry<'_>) -> Result<(), FsError> {
        let limit = |what, cap| Err(FsError::Limit { what, cap: u64::try_from(cap).unwrap_or(u64::MAX) });
        if self.attributes.len() >= XATTRS_AT_MOST {
            return limit("extended attributes of a file", XATTRS_AT_MOST);
        }
        let len = usize::try_from(entry.len_bytes).unwrap_or(usize::MAX);
        self.len_bytes = self.len_bytes.saturating_add(len);
        if self.len_bytes > XATTR_BYTES_AT_MOST {
            return limit("bytes of extended attributes of a file", XATTR_BYTES_AT_MOST);
        }
        Ok(())
    }

    fn value_of_inode(&self, entry: &Entry<'_>, number: u32) -> Result<Vec<u8>, FsError> {
        let inode = self.volume.inode(number.into())?;
        if !inode.holds_attribute() {
            return Err(entry
                .fields
                .fault("attribute value inode", 4, "an inode that holds a value", number)
                .into());
        }
        if inode.size_bytes != u64::from(entry.len_bytes) {
            return Err(entry
                .fields
                .fault("attribute value size", 8, entry.len_bytes, inode.size_bytes)
                .into());
        }
        let mut value = vec![0; usize::try_from(entry.len_bytes).unwrap_or(0)];
        read_blocks(self.volume, &mut BlockMap::new(self.volume, &inode), 0, &mut value)?;
        // Lustre's older form has no hash, and names its owner in place of it.
        if inode.attribute_owner()? != (self.owner.number, self.owner.generation()?) {
            self.check_value(entry, &inode, &value)?;
        }
        Ok(value)
    }

    /// Compares a value with its hash, which the inode keeps, and the entry over the name and that.
    fn check_value(&self, entry: &Entry<'_>, inode: &Inode, value: &[u8]) -> Result<(), Fault> {
        let hex = |number: u32| Quantity::Hex(number.into());
        let computed = crc32c_raw(self.volume.superblock.attribute_seed, value);
        let stored = inode.attribute_hash()?;
        if stored != computed {
            return Err(Fault::new("attribute value hash", inode.at, hex(stored), hex(computed)));
        }
        let stored = entry.fields.u32_le(12)?;
        let hashes = [name_hash(entry.name, false), name_hash(entry.name, true)]
            .map(|hash| hash.rotate_left(16) ^ computed);
        if hashes.contains(&stored) {
            return Ok(());
        }
        Err(entry.fields.fault("attribute entry hash", 12, hex(stored), hex(hashes[0])))
    }
}

/// The hash of a name. On machines where a `char` has a sign, kernels have taken it along.
fn name_hash(name: &[u8], is_signed: bool) -> u32 {
    name.iter().fold(0_u32, |hash, byte| {
        let byte = if is_signed { i32::from(byte.cast_signed()).cast_unsigned() } else { u32::from(*byte) };
        hash.rotate_left(5) ^ byte
    })
}

/// What a name index stands for; `None` for what is not shown.
const fn prefix(index: u8) -> Option<&'static [u8]> {
    match index {
        1 => Some(b"user."),
        ACCESS_INDEX => Some(b"system.posix_acl_access"),
        DEFAULT_INDEX => Some(b"system.posix_acl_default"),
        4 => Some(b"trusted."),
        6 => Some(b"security."),
        8 => Some(b"system.richacl"),
        10 => Some(b"gnu."),
        _ => None,
    }
}

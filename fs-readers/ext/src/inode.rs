//! One inode. Kernel documentation: `filesystems/ext4/inodes.rst`, `attributes.rst`.

use std::sync::Arc;

use stillframe_bytes::{Fault, Quantity, Structure};
use stillframe_fs::{FileFlags, FileKind, FsError, Metadata, Timestamp};

use crate::attributes;
use crate::block_map::EXTENT_MAGIC;
use crate::checksum::crc32c_raw;
use crate::fast_commit::MovedBlocks;
use crate::superblock::{JournalBackup, Superblock, incompat};

/// Bits of `i_flags`.
pub(crate) mod flag {
    pub(super) const ENCRYPTED: u32 = 0x800;
    pub(super) const INDEX: u32 = 0x1000;
    pub(crate) const EXTENTS: u32 = 0x8_0000;
    pub(super) const EA_INODE: u32 = 0x20_0000;
    pub(crate) const CASEFOLD: u32 = 0x4000_0000;
    pub(crate) const INLINE_DATA: u32 = 0x1000_0000;
    pub(super) const PROJECT_INHERITED: u32 = 0x2000_0000;
    /// What the kernel shows of them: not those of AFS, of the file's own block count, of inodes that hold attributes,
    /// and of snapshots, and none that is not assigned.
    pub(super) const SHOWN: u32 = 0x725b_dfff;
}

pub(crate) const BLOCK_MAP_AT: usize = 0x28;
pub(crate) const BLOCK_MAP_BYTES: usize = 60;
/// The inode of ext2; larger ones have fields and attributes behind it.
const SMALL_INODE_BYTES: usize = 128;

#[derive(Debug, Clone)]
pub(crate) struct Inode {
    pub(crate) number: u64,
    /// Where it lies on the volume, in bytes.
    pub(crate) at: u64,
    pub(crate) mode: u32,
    pub(crate) size_bytes: u64,
    flags: u32,
    uid: u32,
    gid: u32,
    links: u32,
    modified: Timestamp,
    changed: Timestamp,
    bytes: Vec<u8>,
    /// Set where a link's target lies in the inode itself.
    pub(crate) is_fast_link: bool,
    /// What checksums of this inode's own blocks start from.
    pub(crate) checksum_seed: Option<u32>,
    /// Where fast commits put its blocks: before what the inode itself says.
    pub(crate) moved: Option<Arc<MovedBlocks>>,
}

impl Inode {
    /// Reads the inode `number` that lies at `at`, and compares it with its checksum.
    pub(crate) fn parse(
        superblock: &Superblock,
        number: u64,
        at: u64,
        bytes: Vec<u8>,
    ) -> Result<Self, FsError> {
        Self::parse_with(superblock, number, at, bytes, true)
    }

    /// As [`Self::parse`], of an inode that fast commits made: what they are has a checksum of its own.
    pub(crate) fn parse_changed(
        superblock: &Superblock,
        number: u64,
        at: u64,
        bytes: Vec<u8>,
        moved: Arc<MovedBlocks>,
    ) -> Result<Self, FsError> {
        let inode = Self::parse_with(superblock, number, at, bytes, false)?;
        Ok(Self { moved: Some(moved), ..inode })
    }

    fn parse_with(
        superblock: &Superblock,
        number: u64,
        at: u64,
        bytes: Vec<u8>,
        is_checked: bool,
    ) -> Result<Self, FsError> {
        let s = Structure::new("inode", at, &bytes);
        let generation = s.array::<4>(0x64)?;
        let checksum_seed = superblock.checksum_seed.map(|seed| {
            let number = u32::try_from(number).unwrap_or(u32::MAX).to_le_bytes();
            crc32c_raw(crc32c_raw(seed, &number), &generation)
        });
        let extra = if superblock.inode_bytes > 128 { usize::from(s.u16_le(0x80)?) } else { 0 };
        if let Some(seed) = checksum_seed.filter(|_| is_checked) {
            check(&s, seed, extra)?;
        }
        let mode = u32::from(s.u16_le(0)?);
        let has_high_size =
            FileKind::from_mode(mode) == FileKind::File || superblock.has_incompat(incompat::LARGEDIR);
        let size_high = if has_high_size { s.u32_le(0x6c)? } else { 0 };
        let mut inode = Self {
            number,
            at,
            mode,
            size_bytes: u64::from(size_high) << 32 | u64::from(s.u32_le(4)?),
            flags: s.u32_le(0x20)?,
            uid: u32::from(s.u16_le(0x78)?) << 16 | u32::from(s.u16_le(2)?),
            gid: u32::from(s.u16_le(0x7a)?) << 16 | u32::from(s.u16_le(0x18)?),
            links: u32::from(s.u16_le(0x1a)?),
            modified: time(&s, 0x10, 0x88, extra)?,
            changed: time(&s, 0xc, 0x84, extra)?,
            is_fast_link: false,
            bytes: Vec::new(),
            checksum_seed,
            moved: None,
        };
        inode.is_fast_link = is_fast_link(superblock, &s, inode.size_bytes)?;
        inode.bytes = bytes;
        // The kernel takes data as inline where the attribute is there, whatever the superblock's features say: by the
        // flag alone what lies in blocks could be hidden behind what lies in the inode.
        if inode.has_inline_data() && inode.system_data()?.is_none() {
            inode.flags &= !flag::INLINE_DATA;
        }
        Ok(inode)
    }

    /// An inode that has what the superblock keeps of the journal's: its block map and its size.
    pub(crate) fn of_journal_backup(backup: &JournalBackup) -> Self {
        let mut bytes = vec![0; BLOCK_MAP_AT];
        bytes.extend(backup.block_map);
        let has_extents = backup.block_map.starts_with(&EXTENT_MAGIC.to_le_bytes());
        Self {
            number: 0,
            at: 0,
            mode: 0o100_600,
            size_bytes: backup.size_bytes,
            flags: if has_extents { flag::EXTENTS } else { 0 },
            uid: 0,
            gid: 0,
            links: 1,
            modified: Timestamp { seconds: 0, nanoseconds: 0 },
            changed: Timestamp { seconds: 0, nanoseconds: 0 },
            is_fast_link: false,
            bytes,
            checksum_seed: None,
            moved: None,
        }
    }

    pub(crate) const fn kind(&self) -> FileKind {
        FileKind::from_mode(self.mode)
    }

    pub(crate) const fn is_encrypted(&self) -> bool {
        self.flags & flag::ENCRYPTED != 0
    }

    pub(crate) const fn is_indexed(&self) -> bool {
        self.flags & flag::INDEX != 0
    }

    pub(crate) const fn has_extents(&self) -> bool {
        self.flags & flag::EXTENTS != 0
    }

    pub(crate) const fn ignores_case(&self) -> bool {
        self.flags & flag::CASEFOLD != 0
    }

    pub(crate) const fn has_inline_data(&self) -> bool {
        self.flags & flag::INLINE_DATA != 0
    }

    /// Whether the flag is set, even where the data that it stands for is missing.
    pub(crate) fn claims_inline_data(&self) -> Result<bool, Fault> {
        Ok(Structure::new("inode", self.at, &self.bytes).u32_le(0x20)? & flag::INLINE_DATA != 0)
    }

    /// An inode that no name refers to was deleted: its blocks may be another file's by now.
    pub(crate) const fn is_deleted(&self) -> bool {
        self.links == 0
    }

    pub(crate) fn metadata(&self) -> Metadata {
        Metadata {
            kind: self.kind(),
            size_bytes: self.size_bytes,
            mode: Some(self.mode),
            uid: Some(self.uid),
            gid: Some(self.gid),
            modified: Some(self.modified),
            changed: Some(self.changed),
            links: Some(self.links),
            flags: Some(self.shown_flags()),
            encrypted: self.is_encrypted(),
        }
    }

    /// The flags as `FS_IOC_GETFLAGS` gives them. Projects are inherited from directories only.
    const fn shown_flags(&self) -> FileFlags {
        let of_file = if matches!(self.kind(), FileKind::File) { flag::PROJECT_INHERITED } else { 0 };
        FileFlags(self.flags & flag::SHOWN & !of_file)
    }

    /// `i_block`: the root of the extent tree, the block map, a short link's target, or the start of inline data.
    pub(crate) fn block_field(&self) -> Result<Structure<'_>, Fault> {
        Structure::new("inode", self.at, &self.bytes).part("i_block", BLOCK_MAP_AT, BLOCK_MAP_BYTES)
    }

    /// The two places of inline data: `i_block`, and the extended attribute `system.data` behind it.
    pub(crate) fn inline_data(&self) -> Result<(&[u8], &[u8]), FsError> {
        let first = Structure::new("inode", self.at, &self.bytes).slice(BLOCK_MAP_AT, BLOCK_MAP_BYTES)?;
        Ok((first, self.system_data()?.unwrap_or_default()))
    }

    /// The value of the attribute `system.data` in the inode's own attribute space.
    fn system_data(&self) -> Result<Option<&[u8]>, FsError> {
        let Some(space) = self.attribute_space()? else { return Ok(None) };
        let mut data = None;
        attributes::entries(&space, 0, |entry| {
            if entry.index != attributes::SYSTEM_INDEX || entry.name != b"data" {
                return Ok(true);
            }
            if entry.value_inode != 0 {
                return Err(
                    Fault::new("inline data value inode", space.at(), 0_u32, entry.value_inode).into()
                );
            }
            data = Some(entry.value(&space)?);
            Ok(false)
        })?;
        Ok(data)
    }

    /// What lies behind the inode's fields, from the first entry of attributes on; `None` where there are none.
    pub(crate) fn attribute_space(&self) -> Result<Option<Structure<'_>>, Fault> {
        let s = Structure::new("inode attributes", self.at, &self.bytes);
        if s.len() <= SMALL_INODE_BYTES {
            return Ok(None);
        }
        let extra = usize::from(s.u16_le(0x80)?);
        // The kernel looks for none where no field is in use, and takes what is out of line for damage.
        if extra == 0 {
            return Ok(None);
        }
        let Ok(body) = s.rest("inode attributes", SMALL_INODE_BYTES.saturating_add(extra)) else {
            return Ok(None);
        };
        if body.len() < 4 || body.u32_le(0)? != attributes::ATTRIBUTE_MAGIC {
            return Ok(None);
        }
        Ok(Some(body.rest("inode attributes", 4)?))
    }

    /// The block that holds attributes; 0 where there is none.
    pub(crate) fn attribute_block(&self, superblock: &Superblock) -> Result<u64, Fault> {
        let s = Structure::new("inode", self.at, &self.bytes);
        let high = if superblock.has_incompat(incompat::BITS_64) { s.u16_le(0x76)? } else { 0 };
        Ok(u64::from(high) << 32 | u64::from(s.u32_le(0x68)?))
    }

    /// Whether this inode is the value of an attribute, and no file.
    pub(crate) const fn holds_attribute(&self) -> bool {
        self.flags & flag::EA_INODE != 0
    }

    /// The hash of the value, which such an inode keeps in its time of access.
    pub(crate) fn attribute_hash(&self) -> Result<u32, Fault> {
        Structure::new("inode", self.at, &self.bytes).u32_le(8)
    }

    /// The number and generation of the file that Lustre's form of such an inode belongs to: in its time of modification.
    pub(crate) fn attribute_owner(&self) -> Result<(u64, u32), Fault> {
        let s = Structure::new("inode", self.at, &self.bytes);
        Ok((s.u32_le(0x10)?.into(), self.generation()?))
    }

    pub(crate) fn generation(&self) -> Result<u32, Fault> {
        Structure::new("inode", self.at, &self.bytes).u32_le(0x64)
    }
}

/// Where a link's target lies does not follow from its length: a short one may have a block. Links without blocks of
/// their own are fast, or, where the blocks of attributes are counted in a way of their own, those that fit.
fn is_fast_link(superblock: &Superblock, s: &Structure<'_>, size_bytes: u64) -> Result<bool, Fault> {
    const SECTOR_BYTES: u32 = 512;
    if superblock.has_incompat(incompat::EA_INODE) {
        return Ok((1..60).contains(&size_bytes));
    }
    let has_attribute_block = s.u32_le(0x68)? != 0 || s.u16_le(0x76)? != 0;
    let attributes = if has_attribute_block { superblock.cluster_bytes / SECTOR_BYTES } else { 0 };
    Ok(s.u32_le(0x1c)? == attributes)
}

/// Compares an inode with its checksum: 16 bits at 0x7c, 16 more at 0x82 where the inode is large enough.
fn check(s: &Structure<'_>, seed: u32, extra: usize) -> Result<(), Fault> {
    let has_high = extra >= 4;
    let mut crc = crc32c_raw(seed, s.slice(0, 0x7c)?);
    crc = crc32c_raw(crc, &[0, 0]);
    if has_high {
        crc = crc32c_raw(crc, s.slice(0x7e, 0x82 - 0x7e)?);
        crc = crc32c_raw(crc, &[0, 0]);
        crc = crc32c_raw(crc, s.rest("inode", 0x84)?.bytes());
    } else {
        crc = crc32c_raw(crc, s.rest("inode", 0x7e)?.bytes());
        crc &= 0xffff;
    }
    let high = if has_high { u32::from(s.u16_le(0x82)?) } else { 0 };
    let stored = high << 16 | u32::from(s.u16_le(0x7c)?);
    if stored == crc {
        return Ok(());
    }
    // A table that was never written is all zeros; the kernel reads such an inode as free, not as damaged.
    let what = if s.bytes().iter().all(|byte| *byte == 0) { "inode in use" } else { "inode checksum" };
    Err(s.fault(what, 0x7c, Quantity::Hex(stored.into()), Quantity::Hex(crc.into())))
}

/// A time: its seconds at `at`, and at `extra_at`, where the inode is large enough, the nanoseconds above two more bits of
/// the seconds.
fn time(s: &Structure<'_>, at: usize, extra_at: usize, extra: usize) -> Result<Timestamp, Fault> {
    let seconds = i64::from(s.i32_le(at)?);
    if extra < extra_at.saturating_sub(128).saturating_add(4) {
        return Ok(Timestamp { seconds, nanoseconds: 0 });
    }
    let more = s.u32_le(extra_at)?;
    let epochs = i64::from(more & 3) << 32;
    Ok(Timestamp { seconds: seconds.saturating_add(epochs), nanoseconds: (more >> 2).min(999_999_999) })
}

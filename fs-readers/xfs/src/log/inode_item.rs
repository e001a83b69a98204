//! Inodes in the log: the core in the byte order of the machine that wrote it, and those forks that changed (XFS
//! Algorithms & Data Structures, "Inode Log Item"). They become pieces of the inode as it lies on the disk.

use stillframe_bytes::{Fault, Quantity, Structure};

use super::transaction::Item;
use crate::changes::{InodeChange, Piece};
use crate::inode::{FLAG2_BIG_TIME, FLAG2_LARGE_EXTENT_COUNTS, MAGIC};
use crate::superblock::Superblock;
use crate::volume::{SECTOR_BYTES, to_u64, to_usize};

/// `ilf_fields`: what of the inode follows.
const DATA_LOCAL: u32 = 0x2;
const DATA_EXTENTS: u32 = 0x4;
const DATA_ROOT: u32 = 0x8;
const DEVICE: u32 = 0x10;
const ATTRIBUTE_LOCAL: u32 = 0x40;
const ATTRIBUTE_EXTENTS: u32 = 0x80;
const ATTRIBUTE_ROOT: u32 = 0x100;
const DATA_OWNER: u32 = 0x200;
const ATTRIBUTE_OWNER: u32 = 0x400;

const CORE_V2_BYTES: usize = 96;
const FORKS_V2_AT: usize = 100;
const CORE_V3_BYTES: usize = 176;
/// The format's header on machines of 64 bits, and on those of 32.
const HEADER_64_BYTES: usize = 56;

/// What one inode item says.
pub(super) struct Logged {
    pub(super) number: u64,
    /// Of the inode, in bytes.
    pub(super) at: u64,
    pub(super) change: InodeChange,
    /// The blocks of the forks' maps carry another owner until this is replayed.
    pub(super) has_new_owner: bool,
    /// Of version 2 inodes, in place of a sequence number.
    pub(super) flush_count: u16,
}

/// `order` goes with each piece.
pub(super) fn parse(superblock: &Superblock, item: &Item<'_>, order: u64) -> Result<Logged, Fault> {
    let header = item.region(0)?;
    let is_64 = header.len() >= HEADER_64_BYTES;
    let place = |wide: usize, narrow: usize| if is_64 { wide } else { narrow };
    let fields = header.u32_le(4)?;
    let number = header.u64_le(place(16, 12))?;
    let sector = header.u64_le(place(40, 36))?;
    let sectors = u64::from(header.u32_le(place(48, 44))?);
    let within = u64::from(header.u32_le(place(52, 48))?);
    let cluster = sector.checked_mul(SECTOR_BYTES).zip(sectors.checked_mul(SECTOR_BYTES));
    let inode_len = to_u64(superblock.inode_bytes);
    let at = cluster.and_then(|(start, len)| start.checked_add(within).filter(|_| within < len));
    // Inodes that overlap would be changed in circles.
    let at = at.filter(|at| at.is_multiple_of(inode_len));
    let (Some((cluster_start, cluster_len)), Some(at)) = (cluster, at) else {
        return Err(header.fault("log inode place", place(40, 36), "in its buffer", "outside"));
    };
    let core = Core::parse(superblock, &item.region(1)?)?;
    let inode_bytes = superblock.inode_bytes;
    let piece = |parts: &[(usize, &[u8])]| {
        let end = parts.iter().map(|(start, part)| start.saturating_add(part.len())).max().unwrap_or(0);
        let piece = Piece::new(order, parts).filter(|_| end <= inode_bytes);
        piece.ok_or_else(|| header.fault("log inode fork", 0, inode_bytes, end))
    };
    let fork = |region: &Structure<'_>, is_root: bool, start: usize, end: usize| {
        if is_root {
            piece(&root_parts(superblock, region, start, end)?)
        } else {
            piece(&[(start, region.bytes())])
        }
    };
    let attributes_at = core.attributes_at(inode_bytes);
    let mut next = 2;
    let mut data = None;
    if fields & (DATA_LOCAL | DATA_EXTENTS | DATA_ROOT) != 0 {
        let is_root = fields & DATA_ROOT != 0;
        data = Some(fork(&item.region(next)?, is_root, core.forks_at, attributes_at)?);
        next = 3;
    } else if fields & DEVICE != 0 {
        let device = header.u32_le(place(24, 20))?.to_be_bytes();
        data = Some(piece(&[(core.forks_at, &device)])?);
    }
    let mut attributes = None;
    if fields & (ATTRIBUTE_LOCAL | ATTRIBUTE_EXTENTS | ATTRIBUTE_ROOT) != 0 {
        let is_root = fields & ATTRIBUTE_ROOT != 0;
        attributes = Some(fork(&item.region(next)?, is_root, attributes_at, inode_bytes)?);
    }
    let cluster = (cluster_start, cluster_len);
    let change = InodeChange { cluster, core: piece(&core.parts())?, data, attributes };
    let has_new_owner = fields & (DATA_OWNER | ATTRIBUTE_OWNER) != 0;
    Ok(Logged { number, at, change, has_new_owner, flush_count: core.flush_count })
}

/// The core as the disk has it.
struct Core {
    bytes: Vec<u8>,
    forks_at: usize,
    fork_offset: usize,
    flush_count: u16,
}

impl Core {
    fn parse(superblock: &Superblock, logged: &Structure<'_>) -> Result<Self, Fault> {
        let magic = logged.u16_le(0)?;
        if magic != MAGIC {
            let (claimed, found) = (Quantity::Hex(MAGIC.into()), Quantity::Hex(magic.into()));
            return Err(logged.fault("log inode magic", 0, claimed, found));
        }
        let version = logged.u8(4)?;
        let has_v3 = superblock.has_checksums;
        if (version == 3) != has_v3 {
            return Err(logged.fault("log inode version", 4, if has_v3 { "3" } else { "1 or 2" }, version));
        }
        let mut bytes = logged.slice(0, if has_v3 { CORE_V3_BYTES } else { CORE_V2_BYTES })?.to_vec();
        let flags2 = if has_v3 { logged.u64_le(120)? } else { 0 };
        let flush_count = if has_v3 { 0 } else { logged.u16_le(30)? };
        let mut swap = |at: usize, len: usize| {
            if let Some(field) = bytes.get_mut(at..).and_then(|rest| rest.get_mut(..len)) {
                field.reverse();
            }
        };
        for (at, len) in [(0, 2), (2, 2), (6, 2), (8, 4), (12, 4), (16, 4), (20, 2), (22, 2)] {
            swap(at, len);
        }
        if flags2 & FLAG2_BIG_TIME == 0 {
            [32, 36, 40, 44, 48, 52].into_iter().for_each(|at| swap(at, 4));
        } else {
            [32, 40, 48].into_iter().for_each(|at| swap(at, 8));
        }
        if flags2 & FLAG2_LARGE_EXTENT_COUNTS == 0 {
            [(76, 4), (80, 2)].into_iter().for_each(|(at, len)| swap(at, len));
        } else {
            [(24, 8), (76, 4), (80, 2)].into_iter().for_each(|(at, len)| swap(at, len));
        }
        for (at, len) in [(56, 8), (64, 8), (72, 4), (84, 4), (88, 2), (90, 2), (92, 4)] {
            swap(at, len);
        }
        if has_v3 {
            let times: &[(usize, usize)] =
                if flags2 & FLAG2_BIG_TIME == 0 { &[(144, 4), (148, 4)] } else { &[(144, 8)] };
            let others = [(104, 8), (112, 8), (120, 8), (128, 4), (152, 8)];
            times.iter().chain(&others).for_each(|(at, len)| swap(*at, *len));
        }
        let forks_at = if has_v3 { CORE_V3_BYTES } else { FORKS_V2_AT };
        let fork_offset = usize::from(logged.u8(82)?).saturating_mul(8);
        if forks_at.saturating_add(fork_offset) > superblock.inode_bytes {
            return Err(logged.fault("log inode fork offset", 82, superblock.inode_bytes, fork_offset));
        }
        Ok(Self { bytes, forks_at, fork_offset, flush_count })
    }

    /// All but the list of unlinked inodes, which the log changes otherwise, and the checksum behind it.
    fn parts(&self) -> Vec<(usize, &[u8])> {
        let part = |from: usize, to: usize| (from, self.bytes.get(from..to).unwrap_or_default());
        if self.bytes.len() > CORE_V2_BYTES {
            vec![part(0, CORE_V2_BYTES), part(104, CORE_V3_BYTES)]
        } else {
            vec![part(0, CORE_V2_BYTES)]
        }
    }

    /// Where the attribute fork begins, or the inode ends.
    fn attributes_at(&self, inode_bytes: usize) -> usize {
        match self.fork_offset {
            0 => inode_bytes,
            offset => self.forks_at.saturating_add(offset),
        }
    }
}

/// The root of a block map: in the log as a block has it, in the inode without most of the header, and with room for
/// another number of keys.
fn root_parts<'a>(
    superblock: &Superblock,
    block: &Structure<'a>,
    start: usize,
    end: usize,
) -> Result<Vec<(usize, &'a [u8])>, Fault> {
    let header = if superblock.has_checksums { 72 } else { 24 };
    let count = usize::from(block.u16_be(6)?);
    let room = |bytes: usize, header: usize| bytes.saturating_sub(header) / 16;
    let (in_block, in_inode) = (room(block.len(), header), room(end.saturating_sub(start), 4));
    if count > in_block || count > in_inode {
        return Err(block.fault("log inode block map count", 6, in_block.min(in_inode), count));
    }
    let entries = |first: usize| block.slice(first, count.saturating_mul(8));
    let keys_at = start.saturating_add(4);
    Ok(vec![
        (start, block.slice(4, 4)?),
        (keys_at, entries(header)?),
        (
            keys_at.saturating_add(in_inode.saturating_mul(8)),
            entries(header.saturating_add(in_block.saturating_mul(8)))?,
        ),
    ])
}

/// A sector address of the log's items in bytes.
pub(super) fn bytes_of(item: &Structure<'_>, sectors: u64) -> Result<u64, Fault> {
    sectors
        .checked_mul(SECTOR_BYTES)
        .filter(|bytes| i64::try_from(*bytes).is_ok() && to_usize(*bytes) < usize::MAX)
        .ok_or_else(|| item.fault("log item sector", 0, "on the volume", sectors))
}

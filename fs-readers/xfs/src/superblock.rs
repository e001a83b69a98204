//! The superblock: geometry, features and names (XFS Algorithms & Data Structures, "Superblocks").
//!
//! Only the primary copy is read; the copies in the other allocation groups are for repair.

use stillframe_block::BlockSource;
use stillframe_bytes::{Fault, Quantity, Structure};
use stillframe_fs::FsError;

use crate::checksum::checksum_matches;
use crate::volume::{to_u64, to_usize};

const MAGIC: u32 = 0x5846_5342;
/// The largest sector, all of which a version 5 checksum covers.
const MAX_SECTOR_BYTES: usize = 32 * 1024;
const CRC_OFFSET: usize = 224;
pub(crate) const SEQUENCE_NUMBER_OFFSET: usize = 240;

/// `sb_versionnum` bits of version 4.
const VERSION_DIRECTORY_V2: u16 = 0x2000;
/// `sb_features2` bit of version 4.
const FEATURES2_FILE_TYPE: u32 = 0x200;

/// `sb_features_incompat` bits.
const INCOMPAT_FILE_TYPE: u32 = 1 << 0;
const INCOMPAT_METADATA_UUID: u32 = 1 << 2;
const INCOMPAT_NEEDS_REPAIR: u32 = 1 << 4;
const INCOMPAT_LARGE_EXTENT_COUNTS: u32 = 1 << 5;
/// File types, sparse inodes, metadata UUID, big timestamps, large extent counts, exchange-range, parent pointers and
/// the metadata directory tree: all that change what is read here, or nothing of it.
const INCOMPAT_KNOWN: u32 = 0x1ef;

/// The superblock's fields that reading needs, checked against each other and bounded.
#[derive(Debug, Clone)]
pub(crate) struct Superblock {
    pub(crate) block_bytes: u64,
    pub(crate) sector_bytes: u64,
    pub(crate) data_blocks: u64,
    ag_blocks: u64,
    pub(crate) ag_count: u64,
    ag_block_log: u32,
    pub(crate) inode_bytes: usize,
    inodes_per_block_log: u32,
    pub(crate) root_inode: u64,
    /// With checksums and self-describing metadata (version 5).
    pub(crate) has_checksums: bool,
    /// Directory entries say what they name.
    pub(crate) has_file_types: bool,
    pub(crate) has_large_extent_counts: bool,
    /// A directory block is one or more filesystem blocks.
    pub(crate) directory_block_blocks: u64,
    pub(crate) uuid: [u8; 16],
    /// The UUID that metadata carries: `uuid` unless it was changed later.
    pub(crate) metadata_uuid: [u8; 16],
    pub(crate) label: Vec<u8>,
    pub(crate) log_start: u64,
    pub(crate) log_blocks: u64,
    /// Of its last change; version 5 only.
    pub(crate) sequence_number: Option<u64>,
}

impl Superblock {
    /// Reads the primary superblock as it lies on the volume.
    pub(crate) fn read(source: &dyn BlockSource) -> Result<Self, FsError> {
        let len = source.len_bytes().min(to_u64(MAX_SECTOR_BYTES));
        let mut bytes = vec![0; to_usize(len)];
        source.read_exact_at(0, &mut bytes)?;
        Self::parse(&bytes)
    }

    /// Parses the superblock at the start of `bytes`, which hold a whole sector.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, FsError> {
        let fields = Structure::new("superblock", 0, bytes);
        expect(&fields, "superblock magic", 0, MAGIC.into(), fields.u32_be(0)?.into())?;
        let version = fields.u16_be(100)?;
        let has_checksums = match version & 0xf {
            5 => true,
            4 if version & VERSION_DIRECTORY_V2 != 0 => false,
            4 => return Err(FsError::Unsupported("XFS with version 1 directories")),
            1..=3 => return Err(FsError::Unsupported("XFS before version 4")),
            other => return Err(fields.fault("superblock version", 100, 5_u8, other).into()),
        };
        refuse_what_is_not_read_here(&fields)?;
        let geometry = Geometry::parse(&fields)?;
        let incompat = if has_checksums { checked_features(&fields, &geometry)? } else { 0 };
        let has_file_types = if has_checksums {
            incompat & INCOMPAT_FILE_TYPE != 0
        } else {
            fields.u32_be(200)? & FEATURES2_FILE_TYPE != 0
        };
        let uuid = fields.array(32)?;
        let metadata_uuid = if incompat & INCOMPAT_METADATA_UUID == 0 { uuid } else { fields.array(248)? };
        let label: [u8; 12] = fields.array(108)?;
        let label = label.split(|byte| *byte == 0).next().unwrap_or_default();
        let superblock = Self {
            block_bytes: geometry.block_bytes,
            sector_bytes: geometry.sector_bytes,
            data_blocks: fields.u64_be(8)?,
            ag_blocks: geometry.ag_blocks,
            ag_count: geometry.ag_count,
            ag_block_log: geometry.ag_block_log,
            inode_bytes: geometry.inode_bytes,
            inodes_per_block_log: geometry.inodes_per_block_log,
            root_inode: fields.u64_be(56)?,
            has_checksums,
            has_file_types,
            has_large_extent_counts: incompat & INCOMPAT_LARGE_EXTENT_COUNTS != 0,
            directory_block_blocks: geometry.directory_block_blocks,
            uuid,
            metadata_uuid,
            label: label.trim_ascii_end().to_vec(),
            log_start: fields.u64_be(48)?,
            log_blocks: fields.u32_be(96)?.into(),
            sequence_number: if has_checksums { Some(fields.u64_be(SEQUENCE_NUMBER_OFFSET)?) } else { None },
        };
        superblock.check_extent(&fields)?;
        Ok(superblock)
    }

    /// What the allocation groups hold together, and that the log lies in it.
    fn check_extent(&self, fields: &Structure<'_>) -> Result<(), Fault> {
        let most = self.ag_blocks.saturating_mul(self.ag_count);
        let least = self.ag_blocks.saturating_mul(self.ag_count.saturating_sub(1));
        if self.data_blocks > most || self.data_blocks <= least {
            return Err(fields.fault("superblock data blocks", 8, most, self.data_blocks));
        }
        if self.run_offset(self.log_start, self.log_blocks).is_none() {
            return Err(fields.fault("superblock log start", 48, self.data_blocks, self.log_start));
        }
        Ok(())
    }

    /// How long the filesystem says it is.
    pub(crate) fn len_bytes(&self) -> u64 {
        self.data_blocks.saturating_mul(self.block_bytes)
    }

    /// Bytes of one directory block: 64 KiB at most.
    pub(crate) fn directory_block_bytes(&self) -> u64 {
        self.directory_block_blocks.saturating_mul(self.block_bytes)
    }

    /// The offset in bytes of `blocks` blocks from filesystem block `start` on (group number and block in it), where
    /// all of them lie in the group.
    pub(crate) fn run_offset(&self, start: u64, blocks: u64) -> Option<u64> {
        let group = start.checked_shr(self.ag_block_log)?;
        let first = group.checked_mul(self.ag_blocks)?;
        let within = start.checked_sub(group.checked_shl(self.ag_block_log)?)?;
        let end = within.checked_add(blocks)?;
        let inside = blocks > 0 && group < self.ag_count && end <= self.ag_blocks;
        let block = first.checked_add(within)?;
        (inside && block.checked_add(blocks)? <= self.data_blocks)
            .then_some(block)?
            .checked_mul(self.block_bytes)
    }

    /// The offset in bytes of an inode: its number is made of the group, the block in it and the place in the block.
    pub(crate) fn inode_offset(&self, number: u64) -> Option<u64> {
        let block = number.checked_shr(self.inodes_per_block_log)?;
        let place = number.checked_sub(block.checked_shl(self.inodes_per_block_log)?)?;
        self.run_offset(block, 1)?.checked_add(place.checked_mul(to_u64(self.inode_bytes))?)
    }

    /// The offset in bytes of a block of an allocation group, which a log may have made after this superblock was written.
    pub(crate) fn group_offset(&self, group: u64, block: u64) -> Option<u64> {
        (block < self.ag_blocks).then_some(block)?;
        group.checked_mul(self.ag_blocks)?.checked_add(block)?.checked_mul(self.block_bytes)
    }

    /// The UUID as `blkid` writes it.
    pub(crate) fn uuid_text(&self) -> String {
        let mut text = String::with_capacity(36);
        for (index, byte) in self.uuid.iter().enumerate() {
            if matches!(index, 4 | 6 | 8 | 10) {
                text.push('-');
            }
            text.push_str(&format!("{byte:02x}"));
        }
        text
    }
}

/// Sizes, each bounded and a power of two, and their logarithms.
struct Geometry {
    block_bytes: u64,
    sector_bytes: u64,
    ag_blocks: u64,
    ag_count: u64,
    ag_block_log: u32,
    inode_bytes: usize,
    inodes_per_block_log: u32,
    directory_block_blocks: u64,
}

impl Geometry {
    fn parse(fields: &Structure<'_>) -> Result<Self, Fault> {
        let log_of = |what, offset: usize, log_offset: usize, size: u64, min: u64, max: u64| {
            let log = u32::from(fields.u8(log_offset)?);
            if !(min..=max).contains(&size) || 1_u64.checked_shl(log) != Some(size) {
                return Err(fields.fault(what, offset, max, size));
            }
            Ok(log)
        };
        let block_bytes = u64::from(fields.u32_be(4)?);
        let block_log = log_of("superblock block size", 4, 120, block_bytes, 512, 65536)?;
        let sector_bytes = u64::from(fields.u16_be(102)?);
        log_of("superblock sector size", 102, 121, sector_bytes, 512, 32768)?;
        let inode_bytes = u64::from(fields.u16_be(104)?);
        let inode_log = log_of("superblock inode size", 104, 122, inode_bytes, 256, 2048)?;
        let inodes_per_block_log = u32::from(fields.u8(123)?);
        if block_log.checked_sub(inode_log) != Some(inodes_per_block_log) {
            return Err(fields.fault("superblock inodes per block", 123, block_log, inodes_per_block_log));
        }
        let directory_log = u32::from(fields.u8(192)?);
        let directory_block_blocks = 1_u64.checked_shl(directory_log).unwrap_or(u64::MAX);
        if directory_log > 7 || directory_block_blocks.saturating_mul(block_bytes) > 65536 {
            return Err(fields.fault("superblock directory block size", 192, 65536_u32, directory_log));
        }
        let ag_blocks = u64::from(fields.u32_be(84)?);
        let ag_count = u64::from(fields.u32_be(88)?);
        let ag_block_log = u32::from(fields.u8(124)?);
        let fits = ag_block_log < 32 && 1_u64.checked_shl(ag_block_log).is_some_and(|most| ag_blocks <= most);
        if ag_blocks == 0 || ag_count == 0 || !fits {
            return Err(fields.fault("superblock allocation group blocks", 84, ag_block_log, ag_blocks));
        }
        Ok(Self {
            block_bytes,
            sector_bytes,
            ag_blocks,
            ag_count,
            ag_block_log,
            inode_bytes: to_usize(inode_bytes),
            inodes_per_block_log,
            directory_block_blocks,
        })
    }
}

fn refuse_what_is_not_read_here(fields: &Structure<'_>) -> Result<(), FsError> {
    if fields.u64_be(16)? != 0 {
        return Err(FsError::Unsupported("an XFS realtime device"));
    }
    if fields.u64_be(48)? == 0 {
        return Err(FsError::Unsupported("an external XFS log"));
    }
    if fields.u8(126)? != 0 {
        return Err(FsError::Unsupported("an XFS filesystem that is still being made"));
    }
    Ok(())
}

/// `sb_features_incompat` of version 5, after the checksum.
fn checked_features(fields: &Structure<'_>, geometry: &Geometry) -> Result<u32, FsError> {
    let sector = fields.slice(0, to_usize(geometry.sector_bytes))?;
    if !checksum_matches(sector, CRC_OFFSET) {
        return Err(fields.fault("superblock checksum", CRC_OFFSET, "a match", "none").into());
    }
    let incompat = fields.u32_be(216)?;
    if incompat & INCOMPAT_NEEDS_REPAIR != 0 {
        return Err(FsError::Unsupported("an XFS filesystem that needs repair"));
    }
    if incompat & !INCOMPAT_KNOWN != 0 {
        return Err(FsError::Unsupported("an unknown incompatible XFS feature"));
    }
    Ok(incompat)
}

fn expect(
    fields: &Structure<'_>,
    what: &'static str,
    offset: usize,
    claimed: u64,
    found: u64,
) -> Result<(), Fault> {
    if claimed == found {
        return Ok(());
    }
    Err(fields.fault(what, offset, Quantity::Hex(claimed), Quantity::Hex(found)))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// The geometry that `mkfs.xfs` 6.1 gives 300 MiB, by `xfs_db -c 'sb 0' -c print`.
    pub(crate) fn version_4() -> Vec<u8> {
        let mut bytes = vec![0; 512];
        let mut put = |at: usize, value: &[u8]| bytes[at..][..value.len()].copy_from_slice(value);
        put(0, b"XFSB");
        put(4, &4096_u32.to_be_bytes());
        put(8, &76800_u64.to_be_bytes());
        put(48, &65540_u64.to_be_bytes());
        put(56, &128_u64.to_be_bytes());
        put(84, &19200_u32.to_be_bytes());
        put(88, &4_u32.to_be_bytes());
        put(96, &1368_u32.to_be_bytes());
        put(100, &0xb4a4_u16.to_be_bytes());
        put(102, &512_u16.to_be_bytes());
        put(104, &512_u16.to_be_bytes());
        put(108, b"root\0\0\0\0\0\0\0\0");
        put(120, &[12, 9, 9, 3, 15]);
        put(200, &0x28a_u32.to_be_bytes());
        bytes
    }

    #[test]
    fn numbers_become_offsets() {
        let superblock = Superblock::parse(&version_4()).unwrap();
        assert_eq!(superblock.inode_offset(128), Some(16 * 4096));
        assert_eq!(superblock.inode_offset(131), Some(16 * 4096 + 3 * 512));
        // Group 1, block 2.
        assert_eq!(superblock.run_offset((1 << 15) + 2, 1), Some((19200 + 2) * 4096));
        assert_eq!(superblock.group_offset(1, 2), Some((19200 + 2) * 4096));
        assert_eq!(superblock.group_offset(1, 19200), None);
        // Past the group's end, past the last group, and none at all.
        assert_eq!(superblock.run_offset(19199, 2), None);
        assert_eq!(superblock.run_offset(4 << 15, 1), None);
        assert_eq!(superblock.run_offset(0, 0), None);
        assert_eq!(superblock.inode_offset(u64::MAX), None);
        assert_eq!(superblock.label, b"root");
    }

    #[test]
    fn sizes_that_do_not_fit_are_named() {
        for (at, value, what) in [
            (4, 0, "superblock block size"),
            (104, 0xff, "superblock inode size"),
            (120, 40, "superblock block size"),
            (123, 9, "superblock inodes per block"),
            (124, 200, "superblock allocation group blocks"),
            (192, 255, "superblock directory block size"),
            (8, 1, "superblock data blocks"),
            (88, 0xff, "superblock data blocks"),
            (48, 0xff, "superblock log start"),
        ] {
            let mut bytes = version_4();
            bytes[at] = value;
            if at == 4 {
                bytes[4..8].fill(0);
            }
            match Superblock::parse(&bytes) {
                Err(FsError::Corrupt(fault)) => assert_eq!(fault.what, what),
                other => panic!("{what}: {other:?}"),
            }
        }
        assert!(Superblock::parse(&version_4()[..200]).is_err());
    }
}

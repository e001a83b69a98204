//! The superblock: 1024 bytes at offset 1024, little-endian.
//!
//! Kernel documentation: `filesystems/ext4/super.rst`.

use stillframe_bytes::{Fault, Structure};
use stillframe_fs::FsError;

pub(crate) const SUPERBLOCK_AT: u64 = 1024;
pub(crate) const SUPERBLOCK_BYTES: usize = 1024;
const MAGIC: u16 = 0xef53;
const CHECKSUM_TYPE_CRC32C: u8 = 1;

/// Bits of `s_feature_compat`.
pub(crate) mod compat {
    pub(crate) const HAS_JOURNAL: u32 = 0x4;
    pub(crate) const SPARSE_SUPER2: u32 = 0x200;
    pub(crate) const FAST_COMMIT: u32 = 0x400;
}

/// Bits of `s_feature_incompat`.
pub(crate) mod incompat {
    pub(crate) const COMPRESSION: u32 = 0x1;
    pub(crate) const FILETYPE: u32 = 0x2;
    pub(crate) const RECOVER: u32 = 0x4;
    pub(crate) const JOURNAL_DEV: u32 = 0x8;
    pub(crate) const META_BG: u32 = 0x10;
    pub(crate) const EXTENTS: u32 = 0x40;
    pub(crate) const BITS_64: u32 = 0x80;
    pub(crate) const MMP: u32 = 0x100;
    pub(crate) const FLEX_BG: u32 = 0x200;
    pub(crate) const EA_INODE: u32 = 0x400;
    pub(crate) const CSUM_SEED: u32 = 0x2000;
    pub(crate) const LARGEDIR: u32 = 0x4000;
    pub(crate) const INLINE_DATA: u32 = 0x8000;
    pub(crate) const ENCRYPT: u32 = 0x1_0000;
    pub(crate) const CASEFOLD: u32 = 0x2_0000;
    /// What changes the layout in a way that this reader knows.
    pub(crate) const KNOWN: u32 = FILETYPE
        | RECOVER
        | META_BG
        | EXTENTS
        | BITS_64
        | MMP
        | FLEX_BG
        | EA_INODE
        | CSUM_SEED
        | LARGEDIR
        | INLINE_DATA
        | ENCRYPT
        | CASEFOLD;
}

/// Bits of `s_feature_ro_compat`.
pub(crate) mod ro_compat {
    pub(crate) const SPARSE_SUPER: u32 = 0x1;
    pub(crate) const HUGE_FILE: u32 = 0x8;
    pub(crate) const GDT_CSUM: u32 = 0x10;
    pub(crate) const DIR_NLINK: u32 = 0x20;
    pub(crate) const EXTRA_ISIZE: u32 = 0x40;
    pub(crate) const BIGALLOC: u32 = 0x200;
    pub(crate) const METADATA_CSUM: u32 = 0x400;
}

/// What of the superblock a reader needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Superblock {
    pub(crate) inodes_count: u32,
    pub(crate) blocks_count: u64,
    pub(crate) first_data_block: u32,
    pub(crate) block_bytes: u32,
    /// Blocks are given out in clusters of so many bytes; without `bigalloc` a cluster is a block.
    pub(crate) cluster_bytes: u32,
    pub(crate) blocks_per_group: u32,
    pub(crate) inodes_per_group: u32,
    pub(crate) inode_bytes: u16,
    pub(crate) descriptor_bytes: u16,
    pub(crate) first_meta_bg: u32,
    pub(crate) backup_groups: [u32; 2],
    pub(crate) compat: u32,
    pub(crate) incompat: u32,
    pub(crate) ro_compat: u32,
    pub(crate) uuid: [u8; 16],
    pub(crate) label: [u8; 16],
    pub(crate) journal_inode: u32,
    /// `s_jnl_blocks`: a copy of the journal inode's block map, and its size.
    pub(crate) journal_backup: Option<JournalBackup>,
    /// What every metadata checksum starts from; `None` without `metadata_csum`.
    pub(crate) checksum_seed: Option<u32>,
    /// What hashes of attribute values start from.
    pub(crate) attribute_seed: u32,
    /// Set where the superblock's own checksum is wrong.
    pub(crate) checksum_fault: Option<Fault>,
    /// The group whose copy this is, where the first superblock is damaged.
    pub(crate) copy_in_group: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct JournalBackup {
    pub(crate) block_map: [u8; 60],
    pub(crate) size_bytes: u64,
}

impl Superblock {
    /// Reads the 1024 bytes of a superblock that lies at `at`.
    pub(crate) fn parse(at: u64, bytes: &[u8]) -> Result<Self, FsError> {
        let s = Structure::new("superblock", at, bytes);
        let magic = s.u16_le(0x38)?;
        if magic != MAGIC {
            return Err(s.fault("superblock magic", 0x38, MAGIC, magic).into());
        }
        let is_dynamic = s.u32_le(0x4c)? != 0;
        // Revision 0 has no features; the kernel warns of those that are set all the same, and heeds them.
        let (compat, incompat, ro_compat) = (s.u32_le(0x5c)?, s.u32_le(0x60)?, s.u32_le(0x64)?);
        check_features(incompat)?;

        let is_64_bit = incompat & incompat::BITS_64 != 0;
        let blocks_high = if is_64_bit { s.u32_le(0x150)? } else { 0 };
        let mut superblock = Self {
            inodes_count: s.u32_le(0)?,
            blocks_count: u64::from(blocks_high) << 32 | u64::from(s.u32_le(4)?),
            first_data_block: s.u32_le(0x14)?,
            block_bytes: block_bytes(&s)?,
            cluster_bytes: if ro_compat & ro_compat::BIGALLOC == 0 {
                block_bytes(&s)?
            } else {
                1024_u32.checked_shl(s.u32_le(0x1c)?).unwrap_or(0)
            },
            blocks_per_group: s.u32_le(0x20)?,
            inodes_per_group: s.u32_le(0x28)?,
            inode_bytes: if is_dynamic { s.u16_le(0x58)? } else { 128 },
            descriptor_bytes: if is_64_bit { s.u16_le(0xfe)? } else { 32 },
            first_meta_bg: s.u32_le(0x104)?,
            backup_groups: [s.u32_le(0x24c)?, s.u32_le(0x250)?],
            compat,
            incompat,
            ro_compat,
            uuid: s.array(0x68)?,
            label: s.array(0x78)?,
            journal_inode: s.u32_le(0xe0)?,
            journal_backup: journal_backup(&s)?,
            checksum_seed: None,
            attribute_seed: seed(&s, incompat)?,
            checksum_fault: None,
            copy_in_group: None,
        };
        superblock.check_geometry(&s)?;
        if ro_compat & ro_compat::METADATA_CSUM != 0 {
            superblock.read_checksum(&s)?;
        }
        Ok(superblock)
    }

    fn check_geometry(&self, s: &Structure<'_>) -> Result<(), Fault> {
        let inode_bytes = u32::from(self.inode_bytes);
        if inode_bytes < 128 || inode_bytes > self.block_bytes || !inode_bytes.is_power_of_two() {
            return Err(s.fault(
                "inode size",
                0x58,
                "a power of two from 128 to the block size",
                inode_bytes,
            ));
        }
        let descriptor = u32::from(self.descriptor_bytes);
        let smallest = if self.incompat & incompat::BITS_64 == 0 { 32 } else { 64 };
        if descriptor < smallest || descriptor > self.block_bytes || !descriptor.is_power_of_two() {
            return Err(s.fault("group descriptor size", 0xfe, smallest, descriptor));
        }
        if self.inodes_per_group == 0 {
            return Err(s.fault("inodes per group", 0x28, "at least 1", 0_u32));
        }
        if self.blocks_per_group == 0 {
            return Err(s.fault("blocks per group", 0x20, "at least 1", 0_u32));
        }
        if self.blocks_count <= u64::from(self.first_data_block) {
            return Err(s.fault("block count", 4, "more than the first data block", self.blocks_count));
        }
        Ok(())
    }

    fn read_checksum(&mut self, s: &Structure<'_>) -> Result<(), FsError> {
        if s.u8(0x175)? != CHECKSUM_TYPE_CRC32C {
            return Err(FsError::Unsupported("a metadata checksum that is not crc32c"));
        }
        let stored = s.u32_le(0x3fc)?;
        let computed = !crc32c::crc32c(s.slice(0, 0x3fc)?);
        if stored != computed {
            self.checksum_fault = Some(s.fault(
                "superblock checksum",
                0x3fc,
                stillframe_bytes::Quantity::Hex(stored.into()),
                stillframe_bytes::Quantity::Hex(computed.into()),
            ));
        }
        self.checksum_seed = Some(seed(s, self.incompat)?);
        Ok(())
    }

    pub(crate) const fn has_incompat(&self, bit: u32) -> bool {
        self.incompat & bit != 0
    }

    /// Whether the journal must be replayed before anything else is read. A copy does not know: there the journal tells.
    pub(crate) const fn needs_recovery(&self) -> bool {
        let is_marked = self.has_incompat(incompat::RECOVER) || self.copy_in_group.is_some();
        is_marked && self.compat & compat::HAS_JOURNAL != 0
    }

    /// `ext2`, `ext3` or `ext4`, by the rule that `blkid` uses: the oldest that has all its features.
    pub(crate) const fn kind(&self) -> &'static str {
        let ext4_incompat =
            !(incompat::FILETYPE | incompat::RECOVER | incompat::META_BG | incompat::COMPRESSION);
        let ext4_ro = ro_compat::HUGE_FILE
            | ro_compat::GDT_CSUM
            | ro_compat::DIR_NLINK
            | ro_compat::EXTRA_ISIZE
            | ro_compat::BIGALLOC
            | ro_compat::METADATA_CSUM;
        if self.incompat & ext4_incompat != 0 || self.ro_compat & ext4_ro != 0 {
            "ext4"
        } else if self.compat & compat::HAS_JOURNAL != 0 {
            "ext3"
        } else {
            "ext2"
        }
    }

    /// Whether `group` keeps a copy of the superblock, behind which its descriptors begin.
    pub(crate) fn group_has_superblock(&self, group: u64) -> bool {
        if group == 0 {
            return true;
        }
        if self.compat & compat::SPARSE_SUPER2 != 0 {
            return self.backup_groups.iter().any(|backup| u64::from(*backup) == group);
        }
        if group == 1 || self.ro_compat & ro_compat::SPARSE_SUPER == 0 {
            return true;
        }
        [3_u64, 5, 7].into_iter().any(|base| is_power_of(group, base))
    }
}

fn is_power_of(number: u64, base: u64) -> bool {
    let mut power = base;
    while power < number {
        power = power.saturating_mul(base);
    }
    power == number
}

/// What checksums start from: the UUID's, or one that is written down so that the UUID can change.
fn seed(s: &Structure<'_>, incompat: u32) -> Result<u32, Fault> {
    if incompat & incompat::CSUM_SEED == 0 {
        return Ok(crate::checksum::crc32c_raw(u32::MAX, s.slice(0x68, 16)?));
    }
    s.u32_le(0x270)
}

fn block_bytes(s: &Structure<'_>) -> Result<u32, Fault> {
    let log = s.u32_le(0x18)?;
    if log > 6 {
        return Err(s.fault("block size (log2 - 10)", 0x18, "at most 6", log));
    }
    Ok(1024 << log)
}

fn check_features(incompat: u32) -> Result<(), FsError> {
    if incompat & incompat::JOURNAL_DEV != 0 {
        return Err(FsError::Unsupported("an external journal device"));
    }
    if incompat & incompat::COMPRESSION != 0 {
        return Err(FsError::Unsupported("ext2 compression"));
    }
    if incompat & !incompat::KNOWN != 0 {
        return Err(FsError::Unsupported("an unknown incompatible feature of ext4"));
    }
    Ok(())
}

fn journal_backup(s: &Structure<'_>) -> Result<Option<JournalBackup>, Fault> {
    const BACKUP_OF_BLOCKS: u8 = 1;
    if s.u8(0xfd)? != BACKUP_OF_BLOCKS {
        return Ok(None);
    }
    let size_bytes = u64::from(s.u32_le(0x10c + 60)?) << 32 | u64::from(s.u32_le(0x10c + 64)?);
    Ok(Some(JournalBackup { block_map: s.array(0x10c)?, size_bytes }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sparse_groups_are_powers() {
        let powers: Vec<u64> =
            (2..2500).filter(|group| [3, 5, 7].iter().any(|base| is_power_of(*group, *base))).collect();
        assert_eq!(powers, [3, 5, 7, 9, 25, 27, 49, 81, 125, 243, 343, 625, 729, 2187, 2401]);
    }

    #[test]
    fn a_short_or_foreign_superblock_is_a_fault() {
        assert!(matches!(Superblock::parse(SUPERBLOCK_AT, &[]), Err(FsError::Corrupt(_))));
        assert!(
            matches!(Superblock::parse(SUPERBLOCK_AT, &[0; 1024]), Err(FsError::Corrupt(fault)) if fault.at == 1024 + 0x38)
        );
    }
}

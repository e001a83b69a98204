//! The superblock: 96 bytes at the start (Squashfs Binary Format, "The Superblock").

use stillframe_block::BlockSource;
use stillframe_bytes::{Fault, Quantity, Structure};
use stillframe_fs::FsError;

use crate::compression::Compression;

const SUPERBLOCK_BYTES: usize = 96;
const MAGIC: u32 = 0x7371_7368;
const BLOCK_LOGS: std::ops::RangeInclusive<u16> = 12..=20;
/// What stands for a table that is not there.
const NO_TABLE: u64 = u64::MAX;

/// What the superblock says, checked.
#[derive(Debug, Clone)]
pub(crate) struct Superblock {
    pub(crate) compression: Compression,
    /// The length of a file's blocks but for its last one: 4 KiB to 1 MiB.
    pub(crate) block_bytes: u64,
    /// Where the filesystem ends; padding may follow.
    pub(crate) bytes_used: u64,
    /// The root directory's inode.
    pub(crate) root: u64,
    pub(crate) ids: u16,
    pub(crate) fragments: u32,
    pub(crate) inode_table: u64,
    pub(crate) directory_table: u64,
    pub(crate) id_table: u64,
    pub(crate) fragment_table: Option<u64>,
    pub(crate) xattr_table: Option<u64>,
}

impl Superblock {
    pub(crate) fn read(source: &dyn BlockSource) -> Result<Self, FsError> {
        let mut bytes = [0; SUPERBLOCK_BYTES];
        source.read_exact_at(0, &mut bytes)?;
        let superblock = Structure::new("squashfs superblock", 0, &bytes);
        let magic = superblock.u32_le(0)?;
        if magic.swap_bytes() == MAGIC {
            return Err(FsError::Unsupported("big-endian squashfs (before version 4)"));
        }
        if magic != MAGIC {
            let (claimed, found) = (Quantity::Hex(MAGIC.into()), Quantity::Hex(magic.into()));
            return Err(superblock.fault("squashfs magic", 0, claimed, found).into());
        }
        if superblock.u16_le(28)? != 4 {
            return Err(FsError::Unsupported("squashfs of a version other than 4"));
        }
        let compression = Compression::from_number(superblock.u16_le(20)?);
        let compression =
            compression.ok_or(FsError::Unsupported("squashfs with LZMA1 or an unknown compressor"))?;
        Ok(Self::parse(&superblock, compression)?)
    }

    fn parse(superblock: &Structure<'_>, compression: Compression) -> Result<Self, Fault> {
        let (block_bytes, block_log) = (superblock.u32_le(12)?, superblock.u16_le(22)?);
        let is_right =
            BLOCK_LOGS.contains(&block_log) && 1_u32.checked_shl(block_log.into()) == Some(block_bytes);
        if !is_right {
            return Err(superblock.fault("squashfs block size", 12, block_log, block_bytes));
        }
        let bytes_used = superblock.u64_le(40)?;
        let table = |what: &'static str, offset: usize| {
            let at = superblock.u64_le(offset)?;
            if at >= bytes_used { Err(superblock.fault(what, offset, bytes_used, at)) } else { Ok(at) }
        };
        let optional = |what: &'static str, offset: usize| match superblock.u64_le(offset)? {
            NO_TABLE => Ok(None),
            _ => table(what, offset).map(Some),
        };
        let inode_table = table("inode table", 64)?;
        let directory_table = table("directory table", 72)?;
        if directory_table <= inode_table {
            return Err(superblock.fault("directory table", 72, inode_table, directory_table));
        }
        let fragments = superblock.u32_le(16)?;
        Ok(Self {
            compression,
            block_bytes: block_bytes.into(),
            bytes_used,
            root: superblock.u64_le(32)?,
            ids: superblock.u16_le(26)?,
            fragments,
            inode_table,
            directory_table,
            id_table: table("id table", 48)?,
            fragment_table: if fragments == 0 { None } else { optional("fragment table", 80)? },
            xattr_table: optional("xattr table", 56)?,
        })
    }
}

//! Targets of symbolic links (XFS Algorithms & Data Structures, "Symbolic Links"): in the inode, or in blocks, each
//! extent of which begins with a header in version 5.

use stillframe_bytes::{Fault, Quantity, Structure};
use stillframe_fs::FsError;

use crate::checksum::checksum_matches;
use crate::extents;
use crate::inode::{Format, Inode};
use crate::superblock::Superblock;
use crate::volume::{Volume, to_usize};

/// The longest target there can be.
const MAX_TARGET_BYTES: u64 = 1024;
const MAGIC: u32 = 0x5853_4c4d;
const HEADER_BYTES: usize = 56;
const CRC_OFFSET: usize = 12;
const SEQUENCE_NUMBER_OFFSET: usize = 48;

pub(crate) fn read_target(
    volume: &Volume,
    superblock: &Superblock,
    inode: &Inode,
) -> Result<Vec<u8>, FsError> {
    if inode.size_bytes == 0 || inode.size_bytes > MAX_TARGET_BYTES {
        return Err(Fault::new("symbolic link length", inode.at, MAX_TARGET_BYTES, inode.size_bytes).into());
    }
    if inode.data.format == Format::Local {
        return Ok(inode.local_data()?.to_vec());
    }
    let len = to_usize(inode.size_bytes);
    let mut target = Vec::with_capacity(len);
    for extent in extents::read(volume, superblock, inode)? {
        let wanted = len.saturating_sub(target.len());
        if wanted == 0 {
            break;
        }
        // As much as the longest target can need, whatever the extent claims.
        let extent_bytes = extent.blocks.saturating_mul(superblock.block_bytes);
        if extent_bytes > 64 * 1024 || extent.is_unwritten {
            return Err(
                Fault::new("symbolic link extent", extent.volume_offset, 65536_u32, extent_bytes).into()
            );
        }
        let mut bytes = vec![0; to_usize(extent_bytes)];
        volume.read(extent.volume_offset, &mut bytes)?;
        let block = Structure::new("symbolic link block", extent.volume_offset, &bytes);
        let text = if superblock.has_checksums {
            let len = check_header(inode, &block, target.len())?;
            volume.check_sequence_number(&block, SEQUENCE_NUMBER_OFFSET)?;
            block.slice(HEADER_BYTES, len)?
        } else {
            block.bytes()
        };
        target.extend_from_slice(text.get(..wanted).unwrap_or(text));
    }
    if target.len() != len {
        return Err(Fault::new("symbolic link length", inode.at, len, target.len()).into());
    }
    Ok(target)
}

/// Checks a block's header; gives how many bytes of the target follow it.
fn check_header(inode: &Inode, block: &Structure<'_>, offset: usize) -> Result<usize, Fault> {
    let magic = block.u32_be(0)?;
    if magic != MAGIC {
        let (claimed, found) = (Quantity::Hex(MAGIC.into()), Quantity::Hex(magic.into()));
        return Err(block.fault("symbolic link magic", 0, claimed, found));
    }
    if !checksum_matches(block.bytes(), CRC_OFFSET) {
        return Err(block.fault("symbolic link checksum", CRC_OFFSET, "a match", "none"));
    }
    let owner = block.u64_be(32)?;
    if owner != inode.number {
        return Err(block.fault("symbolic link owner", 32, inode.number, owner));
    }
    let own_offset = to_usize(block.u32_be(4)?.into());
    if own_offset != offset {
        return Err(block.fault("symbolic link offset", 4, offset, own_offset));
    }
    Ok(to_usize(block.u32_be(8)?.into()))
}

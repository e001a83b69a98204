//! ext2/3/4 by a copy of its superblock, where nothing else is known on a volume: the first one was overwritten or is
//! damaged. Kernel documentation: `Documentation/filesystems/ext4/super.rst`, and the block groups in `overview.rst`.
//!
//! Groups 1 and 3 begin with a copy, in the places that `mke2fs(8)` gives them with blocks of 1, 2 and 4 KiB. A copy says
//! which group it begins and how long groups are, and so where it lies. One that says another place is of a disk image, of
//! a filesystem that began elsewhere, or chance.

use stillframe_block::{BlockSource, ReadError};
use stillframe_bytes::Structure;

use crate::view::ensure;

const SUPERBLOCK_BYTES: usize = 1024;
const BLOCK_SIZES: [u64; 3] = [1024, 2048, 4096];
const GROUPS: [u64; 2] = [1, 3];
const INCOMPAT_JOURNAL_DEV: u32 = 0x8;
const INCOMPAT_64BIT: u32 = 0x80;
const RO_COMPAT_METADATA_CSUM: u32 = 0x400;

/// Where the first copy lies that fits its place, in bytes.
pub(crate) fn find(volume: &dyn BlockSource) -> Result<Option<u64>, ReadError> {
    for block_bytes in BLOCK_SIZES {
        for group in GROUPS {
            // A group has as many blocks as a block of its bitmap has bits; with 1 KiB the first begins at block 1.
            let first = if block_bytes == 1024 { block_bytes } else { 0 };
            let at = group.saturating_mul(block_bytes).saturating_mul(block_bytes).saturating_mul(8);
            let at = at.saturating_add(first);
            let mut bytes = [0; SUPERBLOCK_BYTES];
            if at.saturating_add(block_bytes) > volume.len_bytes() {
                continue;
            }
            volume.read_exact_at(at, &mut bytes)?;
            let copy = Structure::new("ext superblock copy", at, &bytes);
            if fits(&copy, group, block_bytes, volume.len_bytes()).is_some() {
                return Ok(Some(at));
            }
        }
    }
    Ok(None)
}

fn fits(copy: &Structure<'_>, group: u64, block_bytes: u64, len_bytes: u64) -> Option<()> {
    let number = |offset| copy.u32_le(offset).ok();
    ensure(copy.u16_le(0x38).ok()? == 0xef53)?;
    ensure(1024_u64.checked_shl(number(0x18)?.min(32))? == block_bytes)?;
    // s_block_group_nr, s_blocks_per_group, s_first_data_block.
    ensure(u64::from(copy.u16_le(0x5a).ok()?) == group)?;
    let first_block = group.checked_mul(number(0x20)?.into())?.checked_add(number(0x14)?.into())?;
    ensure(first_block.checked_mul(block_bytes)? == copy.at())?;
    let incompat = number(0x60)?;
    ensure(incompat & INCOMPAT_JOURNAL_DEV == 0)?;
    let blocks_high = if incompat & INCOMPAT_64BIT == 0 { 0 } else { number(0x150)? };
    let blocks = (u64::from(blocks_high) << 32) | u64::from(number(4)?);
    ensure(blocks > first_block && blocks.checked_mul(block_bytes)? <= len_bytes)?;
    // s_inodes_count is what the groups hold together, of s_inodes_per_group each.
    let groups = blocks.checked_sub(number(0x14)?.into())?.div_ceil(number(0x20)?.into());
    ensure(number(0x28)? != 0 && groups.checked_mul(number(0x28)?.into())? == u64::from(number(0)?))?;
    let has_checksum = number(0x64)? & RO_COMPAT_METADATA_CSUM != 0;
    ensure(!has_checksum || number(0x3fc)? == !crc32c::crc32c(copy.slice(0, 0x3fc).ok()?))
}

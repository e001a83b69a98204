//! The copies of the superblock, for a volume whose first one is damaged.
//!
//! They begin groups 1, 3, 5, 7 and their powers, or the two groups that `sparse_super2` names. Where groups begin is what
//! the superblock says, so the places that `mke2fs(8)` gives them are tried, and a copy counts where it says of itself that
//! it lies there. Copies are written when a filesystem is made, resized or repaired: what the journal holds they do not
//! know.

use stillframe_block::BlockSource;
use stillframe_bytes::Structure;
use stillframe_fs::FsError;

use crate::superblock::{SUPERBLOCK_BYTES, Superblock};

const BLOCK_SIZES: [u64; 4] = [1024, 2048, 4096, 65_536];
const GROUPS: [u64; 8] = [1, 3, 5, 7, 9, 25, 27, 49];
/// How many blocks `bigalloc` gives out at once where it is not told.
const CLUSTER_BLOCKS: u64 = 16;

/// The first copy that is whole and in its place, and the group that it begins.
///
/// # Errors
/// What the source fails with.
pub(crate) fn find(source: &dyn BlockSource) -> Result<Option<Superblock>, FsError> {
    for (at, block_bytes) in places(source.len_bytes()) {
        let mut bytes = [0; SUPERBLOCK_BYTES];
        let end = at.saturating_add(u64::try_from(SUPERBLOCK_BYTES).unwrap_or(0));
        if end > source.len_bytes() {
            continue;
        }
        source.read_exact_at(at, &mut bytes)?;
        let Ok(superblock) = Superblock::parse(at, &bytes) else { continue };
        let group = u64::from(Structure::new("superblock copy", at, &bytes).u16_le(0x5a)?);
        if is_in_place(&superblock, group, at, block_bytes, source.len_bytes()) {
            return Ok(Some(Superblock { copy_in_group: Some(group), ..superblock }));
        }
    }
    Ok(None)
}

/// Where copies may lie, in bytes, and the block size that puts them there.
fn places(len_bytes: u64) -> impl Iterator<Item = (u64, u64)> {
    BLOCK_SIZES.into_iter().flat_map(move |block_bytes| {
        // A group has as many blocks as a block of its bitmap has bits.
        let group_bytes = block_bytes.saturating_mul(8).saturating_mul(block_bytes);
        let first = if block_bytes == 1024 { block_bytes } else { 0 };
        // `sparse_super2` keeps its second copy in the last group.
        let last = len_bytes.saturating_sub(first).saturating_sub(1).checked_div(group_bytes).unwrap_or(0);
        let large = [CLUSTER_BLOCKS, CLUSTER_BLOCKS.saturating_mul(3)];
        let groups = GROUPS.into_iter().chain(large).chain([last]).filter(|group| *group > 0);
        groups.map(move |group| (group.saturating_mul(group_bytes).saturating_add(first), block_bytes))
    })
}

fn is_in_place(superblock: &Superblock, group: u64, at: u64, block_bytes: u64, len_bytes: u64) -> bool {
    let first_block = group
        .saturating_mul(u64::from(superblock.blocks_per_group))
        .saturating_add(u64::from(superblock.first_data_block));
    group != 0
        && u64::from(superblock.block_bytes) == block_bytes
        && first_block.checked_mul(block_bytes) == Some(at)
        && superblock.checksum_fault.is_none()
        && superblock.group_has_superblock(group)
        && superblock.blocks_count > first_block
        && superblock.blocks_count.checked_mul(block_bytes).is_some_and(|end| end <= len_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_those_that_mke2fs_names() {
        let found: Vec<_> = places(1 << 30).collect();
        // As `mke2fs -n` lists them for 1 GiB.
        for (block, block_bytes) in [
            (8193, 1024),
            (24_577, 1024),
            (16_384, 2048),
            (49_152, 2048),
            (32_768, 4096),
            (98_304, 4096),
            (229_376, 4096),
        ] {
            assert!(found.contains(&(block * block_bytes, block_bytes)), "{block} {block_bytes}");
        }
        assert!(found.len() < 64);
    }
}

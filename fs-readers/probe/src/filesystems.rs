//! ext2/3/4, XFS, btrfs and Linux swap.
//!
//! Specifications: the kernel's `Documentation/filesystems/ext4/super.rst`, the XFS Filesystem Structure's chapter
//! "Superblocks", btrfs-progs' `Documentation/dev/On-disk-format.rst` ("Superblock"), the kernel's
//! `include/linux/swap.h` (`union swap_header`).

use crate::candidate::Candidate;
use crate::view::{View, ensure};
use crate::{Content, FsKind, SwapKind, UnsupportedKind};

const EXT_SUPERBLOCK_AT: u64 = 1024;
const EXT_INCOMPAT_JOURNAL_DEV: u32 = 0x8;
const EXT_INCOMPAT_64BIT: u32 = 0x80;
const EXT_RO_COMPAT_METADATA_CSUM: u32 = 0x400;

/// The superblock at 1 KiB: `s_magic`, and sizes that fit together.
pub(crate) fn ext(view: &View) -> Option<Candidate> {
    let superblock = view.structure("ext superblock", EXT_SUPERBLOCK_AT, 1024)?;
    let number = |offset| superblock.u32_le(offset).ok();
    ensure(superblock.u16_le(0x38).ok()? == 0xef53)?;
    let log_block_size = number(0x18)?;
    ensure(log_block_size <= 6)?;
    let block_bytes = 1024_u64.checked_shl(log_block_size)?;
    let incompat = number(0x60)?;
    let blocks_high = if incompat & EXT_INCOMPAT_64BIT == 0 { 0 } else { number(0x150)? };
    let blocks = (u64::from(blocks_high) << 32) | u64::from(number(0x4)?);
    // s_first_data_block is 1 with blocks of 1 KiB (0 with bigalloc) and 0 with larger ones.
    ensure(blocks != 0 && number(0x14)? <= 1)?;
    let checksum = number(0x3fc)?;
    let checksum_is_right = number(0x64)? & EXT_RO_COMPAT_METADATA_CSUM != 0
        && checksum == !crc32c::crc32c(superblock.slice(0, 0x3fc).ok()?);
    if incompat & EXT_INCOMPAT_JOURNAL_DEV != 0 {
        let journal = Candidate::new(Content::Unsupported(UnsupportedKind::ExtJournal), EXT_SUPERBLOCK_AT);
        return Some(journal);
    }
    // s_inodes_count, s_blocks_per_group, s_inodes_per_group.
    ensure(number(0)? != 0 && number(0x20)? != 0 && number(0x28)? != 0)?;
    let descriptors_at = block_bytes.max(2048);
    // mke2fs writes the superblock and the descriptors, and zeroes the boot block before them.
    Some(
        Candidate::new(Content::Filesystem(FsKind::Ext), EXT_SUPERBLOCK_AT)
            .certain(checksum_is_right || ext_descriptor_makes_sense(view, descriptors_at, blocks))
            .clears(0..descriptors_at.saturating_add(512))
            .ends_at(blocks.saturating_mul(block_bytes)),
    )
}

/// The first group's bitmaps and inode table lie inside the filesystem and apart from each other.
fn ext_descriptor_makes_sense(view: &View, at: u64, blocks: u64) -> bool {
    let Some(descriptor) = view.structure("ext group descriptor", at, 32) else { return false };
    let places: Vec<u64> =
        [0, 4, 8].iter().filter_map(|offset| descriptor.u32_le(*offset).ok()).map(u64::from).collect();
    let inside = places.iter().all(|place| (1..blocks).contains(place));
    let apart = match *places {
        [first, second, third] => first != second && second != third && first != third,
        _ => false,
    };
    inside && apart
}

/// `XFSB` at 0 with a block and sector size that agree with their logarithms.
pub(crate) fn xfs(view: &View) -> Option<Candidate> {
    let superblock = view.structure("XFS superblock", 0, 512)?;
    ensure(superblock.slice(0, 4).ok()? == b"XFSB")?;
    let block_bytes = superblock.u32_be(4).ok()?;
    let blocks = superblock.u64_be(8).ok()?;
    let block_log = superblock.u8(120).ok()?;
    ensure(
        (512..=65_536).contains(&block_bytes) && 1_u32.checked_shl(block_log.into()) == Some(block_bytes),
    )?;
    let sector_bytes = superblock.u16_be(102).ok()?;
    ensure(sector_bytes.is_power_of_two() && (512..=32_768).contains(&sector_bytes))?;
    ensure(blocks != 0 && superblock.u32_be(88).ok()? != 0 && superblock.u16_be(100).ok()? & 0xf <= 5)?;
    // mkfs.xfs zeroes 128 KiB on both ends before it writes.
    Some(
        Candidate::new(Content::Filesystem(FsKind::Xfs), 0)
            .certain(view.has(sector_bytes.into(), b"XAGF"))
            .clears(0..128 << 10)
            .ends_at(blocks.saturating_mul(block_bytes.into())),
    )
}

const BTRFS_SUPERBLOCK_AT: u64 = 64 << 10;

/// `_BHRfS_M` in the superblock at 64 KiB, which says where it lies.
pub(crate) fn btrfs(view: &View) -> Option<Candidate> {
    let superblock = view.structure("btrfs superblock", BTRFS_SUPERBLOCK_AT, 4096)?;
    ensure(superblock.slice(64, 8).ok()? == b"_BHRfS_M")?;
    ensure(superblock.u64_le(48).ok()? == BTRFS_SUPERBLOCK_AT)?;
    // Other checksums than CRC-32C need a cryptographic hash: 16 bytes of magic and place must do there.
    let certain = superblock.u16_le(196).ok()? != 0
        || superblock.u32_le(0).ok()? == crc32c::crc32c(superblock.slice(32, 4064).ok()?);
    // The size of this device (dev_item.total_bytes), not of the filesystem, which may have several. mkfs.btrfs zeroes
    // 2 MiB.
    Some(
        Candidate::new(Content::Filesystem(FsKind::Btrfs), BTRFS_SUPERBLOCK_AT)
            .certain(certain)
            .clears(0..2 << 20)
            .ends_at(superblock.u64_le(209).ok()?),
    )
}

const SWAP_HEADER_AT: u64 = 1024;
/// Signatures in the last ten bytes of the first page, and what they say.
const SWAP_SIGNATURES: [(&[u8], SwapKind); 7] = [
    (b"SWAPSPACE2", SwapKind::Swap),
    (b"SWAP-SPACE", SwapKind::Swap),
    (b"S1SUSPEND\0", SwapKind::Hibernation),
    (b"S2SUSPEND\0", SwapKind::Hibernation),
    (b"ULSUSPEND\0", SwapKind::Hibernation),
    (b"LINHIB0001", SwapKind::Hibernation),
    // TuxOnIce.
    (b"\xed\xc3\x02\xe9\x98\x56\xe5\x0c", SwapKind::Hibernation),
];

/// The signature at the end of a page of 4 to 64 KiB.
pub(crate) fn swap(view: &View) -> Option<Candidate> {
    let (at, kind) = [4096_u64, 8192, 16_384, 32_768, 65_536].iter().find_map(|page_bytes| {
        let at = page_bytes.checked_sub(10)?;
        let (_, kind) = SWAP_SIGNATURES.iter().find(|(magic, _)| view.has(at, magic))?;
        Some((at, *kind))
    })?;
    // The version in either byte order, then the last page's number. Swap of version 0 has no header.
    let header = view.structure("swap header", SWAP_HEADER_AT, 12)?;
    let version = header.u32_le(0).ok()?;
    let has_header = (version == 1 || version.swap_bytes() == 1) && header.u32_le(4).ok()? != 0;
    // mkswap writes the page's header, and zeroes the boot block unless told that it holds something.
    let swap = Candidate::new(Content::Swap(kind), at).certain(has_header);
    Some(swap.clears(SWAP_HEADER_AT..4096))
}

//! Filesystems and partition maps that are recognised and not read.
//!
//! Facts: the kernel's headers of each filesystem (`include/uapi/linux`, `fs/*`), ECMA-167 part 2,
//! Apple's Technical Note TN1150 and File System Reference ("Container Superblock").

use stillframe_bytes::Structure;

use crate::candidate::Candidate;
use crate::images::DESCRIPTORS_AT;
use crate::view::{View, ensure};
use crate::{Content, UnsupportedKind};

fn unsupported(kind: UnsupportedKind, at: u64) -> Candidate {
    Candidate::new(Content::Unsupported(kind), at).clears(at..at.saturating_add(512))
}

pub(crate) fn apfs(view: &View) -> Option<Candidate> {
    let superblock = view.structure("APFS container superblock", 0, 512)?;
    ensure(superblock.slice(32, 4).ok()? == b"NXSB")?;
    let block_bytes = superblock.u32_le(36).ok()?;
    ensure(block_bytes.is_power_of_two() && (4096..=65_536).contains(&block_bytes))?;
    let ends_at = superblock.u64_le(40).ok()?.saturating_mul(block_bytes.into());
    Some(unsupported(UnsupportedKind::Apfs, 32).clears(0..4096).ends_at(ends_at))
}

const BCACHEFS_MAGIC: [u8; 16] =
    [0xc6, 0x85, 0x73, 0xf6, 0x66, 0xce, 0x90, 0xa9, 0xd9, 0x6a, 0x60, 0xcf, 0x80, 0x3d, 0xf7, 0xef];

pub(crate) fn bcachefs(view: &View) -> Option<Candidate> {
    ensure(view.has(4096 + 24, &BCACHEFS_MAGIC))?;
    Some(unsupported(UnsupportedKind::Bcachefs, 4096))
}

pub(crate) fn erofs(view: &View) -> Option<Candidate> {
    let superblock = view.structure("EROFS superblock", 1024, 128)?;
    ensure(superblock.u32_le(0).ok()? == 0xe0f5_e1e2 && (9..=16).contains(&superblock.u8(12).ok()?))?;
    Some(unsupported(UnsupportedKind::Erofs, 1024).clears(0..2048))
}

/// Two copies of the superblock, in the first two blocks.
pub(crate) fn f2fs(view: &View) -> Option<Candidate> {
    [1024, 4096 + 1024].into_iter().find_map(|at| {
        let superblock = view.structure("F2FS superblock", at, 128)?;
        ensure(superblock.u32_le(0).ok()? == 0xf2f5_2010)?;
        ensure((12..=14).contains(&superblock.u32_le(16).ok()?) && superblock.u32_le(20).ok()? == 9)?;
        Some(unsupported(UnsupportedKind::F2fs, at).clears(0..4096))
    })
}

pub(crate) fn jfs(view: &View) -> Option<Candidate> {
    let superblock = view.structure("JFS superblock", 32 << 10, 128)?;
    ensure(superblock.slice(0, 4).ok()? == b"JFS1" && superblock.u32_le(4).ok()? <= 2)?;
    ensure(matches!(superblock.u32_le(16).ok()?, 512 | 1024 | 2048 | 4096))?;
    // mkfs.jfs zeroes what lies before its superblock.
    Some(unsupported(UnsupportedKind::Jfs, 32 << 10).clears(0..33 << 10))
}

/// A magic of two bytes, so the checksum decides.
pub(crate) fn nilfs2(view: &View) -> Option<Candidate> {
    let superblock = view.structure("NILFS2 superblock", 1024, 1024)?;
    ensure(superblock.u16_le(6).ok()? == 0x3434)?;
    let len = usize::from(superblock.u16_le(8).ok()?);
    let mut hasher = crc32fast::Hasher::new_with_initial(!superblock.u32_le(12).ok()?);
    hasher.update(superblock.slice(0, 16).ok()?);
    hasher.update(&[0; 4]);
    hasher.update(superblock.slice(20, len.checked_sub(20)?).ok()?);
    ensure(superblock.u32_le(16).ok()? == !hasher.finalize())?;
    Some(unsupported(UnsupportedKind::Nilfs2, 1024).clears(1024..2048))
}

pub(crate) fn gfs2(view: &View) -> Option<Candidate> {
    let superblock = view.structure("GFS2 superblock", 64 << 10, 64)?;
    ensure(superblock.u32_be(0).ok()? == 0x0116_1970)?;
    // Metadata type and format of a superblock.
    ensure(superblock.u32_be(4).ok()? == 1 && superblock.u32_be(16).ok()? == 100)?;
    Some(unsupported(UnsupportedKind::Gfs2, 64 << 10))
}

pub(crate) fn ocfs2(view: &View) -> Option<Candidate> {
    let at = [1024, 2048, 4096, 8192].into_iter().find(|at| view.has(*at, b"OCFSV2"))?;
    Some(unsupported(UnsupportedKind::Ocfs2, at))
}

pub(crate) fn reiserfs(view: &View) -> Option<Candidate> {
    let late = 64 << 10;
    if view.has(late, b"ReIsEr4") {
        return Some(unsupported(UnsupportedKind::Reiser4, late));
    }
    let is_late =
        [&b"ReIsErFs"[..], b"ReIsEr2Fs", b"ReIsEr3Fs"].iter().any(|magic| view.has(late + 52, magic));
    ensure(is_late || view.has((8 << 10) + 52, b"ReIsErFs"))?;
    Some(unsupported(UnsupportedKind::ReiserFs, if is_late { late } else { 8 << 10 }))
}

pub(crate) fn cramfs(view: &View) -> Option<Candidate> {
    if view.has(0, b"-rom1fs-") {
        return Some(unsupported(UnsupportedKind::Romfs, 0));
    }
    // The magic is in the machine's byte order, the name is not.
    [0, 512].into_iter().find_map(|at: u64| {
        let superblock = view.structure("cramfs superblock", at, 64)?;
        let magic = superblock.u32_le(0).ok()?;
        ensure(magic == 0x28cd_3d45 || magic.swap_bytes() == 0x28cd_3d45)?;
        ensure(superblock.slice(16, 16).ok()? == b"Compressed ROMFS")?;
        Some(unsupported(UnsupportedKind::Cramfs, at))
    })
}

/// HFS+ and HFSX by signature, version and block size; HFS by fields that fit together.
pub(crate) fn hfs(view: &View) -> Option<Candidate> {
    let header = view.structure("HFS volume header", 1024, 512)?;
    let block_bytes = header.u32_be(40).ok()?;
    match header.array::<4>(0).ok()? {
        [b'H', b'+', 0, 4] | [b'H', b'X', 0, 5] => {
            ensure(block_bytes.is_power_of_two() && block_bytes >= 512)?;
            let ends_at = u64::from(header.u32_be(44).ok()?).saturating_mul(block_bytes.into());
            Some(unsupported(UnsupportedKind::HfsPlus, 1024).clears(0..1536).ends_at(ends_at))
        }
        [b'B', b'D', ..] => {
            let allocation_bytes = header.u32_be(20).ok()?;
            ensure(allocation_bytes != 0 && allocation_bytes.is_multiple_of(512))?;
            ensure((1..=27).contains(&header.u8(36).ok()?))?;
            ensure(header.u16_be(34).ok()? <= header.u16_be(18).ok()?)?;
            Some(unsupported(UnsupportedKind::Hfs, 1024))
        }
        _ => None,
    }
}

/// Four places, two versions, either byte order: the block and fragment sizes must agree.
pub(crate) fn ufs(view: &View) -> Option<Candidate> {
    [0, 8 << 10, 64 << 10, 256 << 10].into_iter().find_map(|at| {
        let superblock = view.structure("UFS superblock", at, 1376)?;
        let is_magic = |magic| matches!(magic, 0x0001_1954 | 0x1954_0119);
        let (little, big) = (superblock.u32_le(1372).ok()?, superblock.u32_be(1372).ok()?);
        ensure(is_magic(little) || is_magic(big))?;
        let field =
            |offset| if is_magic(little) { superblock.u32_le(offset) } else { superblock.u32_be(offset) };
        let (block_bytes, fragment_bytes, fragments) = (field(48).ok()?, field(52).ok()?, field(56).ok()?);
        ensure(block_bytes.is_power_of_two() && (4096..=65_536).contains(&block_bytes))?;
        ensure(fragment_bytes.checked_mul(fragments) == Some(block_bytes))?;
        Some(unsupported(UnsupportedKind::Ufs, at))
    })
}

/// `NSR02` or `NSR03` among the volume recognition descriptors.
pub(crate) fn udf(view: &View) -> Option<Candidate> {
    let begins = |at: u64| view.has(at, b"BEA01") || view.has(at, b"CD001");
    ensure(begins(DESCRIPTORS_AT + 1))?;
    (0..32_u64).find_map(|index| {
        let at = index.checked_mul(2048)?.checked_add(DESCRIPTORS_AT)?.checked_add(1)?;
        ensure(view.has(at, b"NSR02") || view.has(at, b"NSR03"))?;
        Some(unsupported(UnsupportedKind::Udf, at))
    })
}

/// A magic of two bytes: the bitmaps must have room for what they map.
pub(crate) fn minix(view: &View) -> Option<Candidate> {
    let superblock = view.structure("Minix superblock", 1024, 32)?;
    let version_3 = superblock.u16_le(24).ok()? == 0x4d5a;
    let makes_sense = if version_3 {
        let block_bytes = superblock.u16_le(28).ok()?;
        ensure(block_bytes.is_power_of_two() && block_bytes >= 1024)?;
        let zones = superblock.u32_le(20).ok()?;
        minix_bitmaps_fit(&superblock, superblock.u32_le(0).ok()?, zones, 6, block_bytes.into())
    } else {
        let magic = superblock.u16_le(16).ok()?;
        let zones = match magic {
            0x137f | 0x138f => superblock.u16_le(2).ok()?.into(),
            0x2468 | 0x2478 => superblock.u32_le(20).ok()?,
            _ => return None,
        };
        minix_bitmaps_fit(&superblock, superblock.u16_le(0).ok()?.into(), zones, 4, 1024)
    };
    ensure(makes_sense?)?;
    // A weak magic stays behind every strong one.
    Some(unsupported(UnsupportedKind::Minix, 1024).certain(false))
}

/// `maps_at` is where the two bitmaps' lengths in blocks and the first data zone are.
fn minix_bitmaps_fit(
    superblock: &Structure<'_>,
    inodes: u32,
    zones: u32,
    maps_at: usize,
    block_bytes: u64,
) -> Option<bool> {
    let short = |index: usize| Some(u64::from(superblock.u16_le(maps_at.checked_add(index)?).ok()?));
    let (inode_map, zone_map, first_zone) = (short(0)?, short(2)?, short(4)?);
    let bits_per_block = block_bytes.checked_mul(8)?;
    let needs = |bits: u64| bits.div_ceil(bits_per_block);
    let data_zones = u64::from(zones).checked_sub(first_zone)?;
    Some(
        inodes != 0
            && data_zones != 0
            && (needs(inodes.into())..=needs(inodes.into()).checked_add(1)?).contains(&inode_map)
            && zone_map >= needs(data_zones)
            && zone_map <= needs(zones.into()).checked_add(1)?
            && first_zone > inode_map.checked_add(zone_map)?,
    )
}

/// Apple's map, a BSD disklabel, a Sun label: partition tables that are not read. Hybrid discs have one beside their
/// filesystem, which then goes before it.
pub(crate) fn partition_map(view: &View) -> Option<Candidate> {
    if view.has(0, b"ER") && view.has(512, b"PM") {
        return Some(unsupported(UnsupportedKind::ApplePartitionMap, 0).certain(false));
    }
    let bsd_magic = 0x8256_4557_u32.to_le_bytes();
    // In the second sector on a PC, in the first elsewhere; the magic stands twice.
    let places = [(512, 644), (0, 132), (64, 196)];
    if let Some((at, _)) =
        places.iter().find(|(first, second)| view.has(*first, &bsd_magic) && view.has(*second, &bsd_magic))
    {
        return Some(unsupported(UnsupportedKind::BsdDisklabel, *at).certain(false));
    }
    // Sun: the label's words, checksum included, cancel out.
    let sector = view.bytes(0, 512)?;
    ensure(view.has(508, &[0xda, 0xbe]))?;
    let parity = sector.chunks_exact(2).fold([0_u8; 2], |[high, low], word| match *word {
        [first, second] => [high ^ first, low ^ second],
        _ => [high, low],
    });
    ensure(parity == [0, 0])?;
    Some(unsupported(UnsupportedKind::SunLabel, 508).certain(false))
}

/// The volume's header at 1 MiB.
pub(crate) fn vmfs(view: &View) -> Option<Candidate> {
    let header = view.structure("VMFS volume header", 1 << 20, 512)?;
    ensure(header.u32_le(0).ok()? == 0xc001_d00d)?;
    Some(unsupported(UnsupportedKind::Vmfs, 1 << 20))
}

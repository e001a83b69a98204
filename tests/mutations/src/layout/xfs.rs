//! XFS version 5 (XFS Algorithms & Data Structures, "Metadata Integrity"): superblock, allocation group headers, inodes,
//! blocks of directories, attributes, symbolic links and B+trees, and records of the log.
//!
//! Each is told by its magic and by its checksum, which is right on a sound disk; a block that is longer than one block of
//! the filesystem is taken to lie in one piece.

use crate::covers::{Cover, Stored, Sum, crc32c_from};
use crate::disk::{Fields, bytes_at};
use crate::layout::Place;

struct Geometry {
    sector: u64,
    inode: u64,
    block: u64,
    directory_block: u64,
}

pub(super) fn covers(place: &Place<'_>) -> Vec<Cover> {
    let bytes = bytes_at(place.disk, place.start, 512);
    let superblock = Fields(&bytes);
    let geometry = Geometry {
        sector: superblock.u16_be(0x66).into(),
        inode: superblock.u16_be(0x68).into(),
        block: superblock.u32_be(4).into(),
        directory_block: u64::from(superblock.u32_be(4)) << superblock.u8(0xc0).min(8),
    };
    let sizes = [geometry.sector, geometry.inode, geometry.block];
    let are_sound = sizes.iter().all(|size| size.is_power_of_two() && (256..=65536).contains(size));
    if !superblock.is(0, b"XFSB") || superblock.u16_be(0x64) & 0xf != 5 || !are_sound {
        return Vec::new();
    }
    let mut covers = Vec::new();
    for at in place.written(geometry.inode.min(512)) {
        let head = bytes_at(place.disk, at, 512);
        if let Some((lengths, field)) = candidates(&Fields(&head), at - place.start, &geometry) {
            let cover = lengths.into_iter().find_map(|len| sound(place, at, len, field));
            covers.extend(cover);
        }
        if Fields(&head).is(0, &[0xfe, 0xed, 0xba, 0xbe]) {
            covers.extend(log_record(place, at, &Fields(&head)));
        }
    }
    covers
}

/// The lengths that what begins with `head` may have, and where its checksum would be.
fn candidates(head: &Fields<'_>, within: u64, geometry: &Geometry) -> Option<(Vec<u64>, u64)> {
    let Geometry { sector, inode, block, directory_block } = *geometry;
    let found = match head.0.get(..4)? {
        b"XFSB" => (vec![sector], 0xe0),
        b"XAGF" => (vec![sector], 216),
        b"XAGI" => (vec![sector], 312),
        b"XAFL" => (vec![sector], 32),
        [b'I', b'N', ..] if head.u8(4) == 3 && within.is_multiple_of(inode) => (vec![inode], 100),
        _ if !within.is_multiple_of(block) => return None,
        b"XDB3" | b"XDD3" | b"XDF3" => (vec![directory_block], 4),
        b"XARM" => (vec![block], 12),
        b"XSLM" => (vec![block, 2 * block, 3 * block], 12),
        b"BMA3" => (vec![block], 64),
        b"AB3B" | b"AB3C" | b"IAB3" | b"FIB3" | b"RMB3" | b"R3FC" => (vec![block], 52),
        _ => match head.u16_be(8) {
            0x3ebe | 0x3bee | 0x3df1 | 0x3dff => (vec![block, directory_block], 12),
            _ => return None,
        },
    };
    Some(found)
}

fn sound(place: &Place<'_>, at: u64, len: u64, field: u64) -> Option<Cover> {
    let cover = Cover::with_field(at..at + len, Stored::u32_le(at + field), Sum::Crc32c);
    (at + len <= place.end && is_right(place, &cover)).then_some(cover)
}

fn is_right(place: &Place<'_>, cover: &Cover) -> bool {
    let kept = bytes_at(place.disk, cover.stored[0].at, 4);
    (!crc32c_from(u32::MAX, &cover.content(place.disk))).to_le_bytes()[..] == kept
}

/// The header, with what counts as part of it where the record is longer than 32 KiB, and the record behind it. The size
/// of the header's structure differs between kernels of 32 and of 64 bits.
fn log_record(place: &Place<'_>, at: u64, header: &Fields<'_>) -> Option<Cover> {
    const CYCLE_BYTES: u64 = 32 << 10;
    let version = header.u32_be(8);
    let (len, size) = (u64::from(header.u32_be(12)), u64::from(header.u32_be(320)));
    let headers = if version & 2 != 0 && size > CYCLE_BYTES { size.div_ceil(CYCLE_BYTES).min(64) } else { 1 };
    let body = at + 512 * headers;
    [328, 324].into_iter().find_map(|structure| {
        let mut parts: Vec<_> = std::iter::once(at..at + structure).collect();
        parts.extend((1..headers).map(|more| at + 512 * more..at + 512 * more + 260));
        parts.push(body..body + len);
        let cover = Cover { parts, ..Cover::with_field(at..at, Stored::u32_le(at + 32), Sum::Crc32c) };
        (body + len <= place.end && is_right(place, &cover)).then_some(cover)
    })
}

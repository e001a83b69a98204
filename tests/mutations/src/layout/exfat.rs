//! exFAT (Microsoft's specification, 3.4, 6.3.3 and 7.2.2): both boot regions, entry sets of directories, the up-case table.

use crate::covers::{Cover, Stored, Sum};
use crate::disk::{Fields, bytes_at};
use crate::layout::Place;

const ENTRY_BYTES: u64 = 32;
const BOOT_SECTORS: u64 = 11;

pub(super) fn covers(place: &Place<'_>) -> Vec<Cover> {
    let bytes = bytes_at(place.disk, place.start, 512);
    let boot = Fields(&bytes);
    let (sector_shift, cluster_shift) = (boot.u8(108), boot.u8(109));
    if !boot.is(3, b"EXFAT   ") || !(9..=12).contains(&sector_shift) || cluster_shift > 25 - sector_shift {
        return Vec::new();
    }
    let sector_bytes = 1_u64 << sector_shift;
    let mut covers = Vec::new();
    for region in [0, 12] {
        let at = place.start + region * sector_bytes;
        let end = at + BOOT_SECTORS * sector_bytes;
        // The flags and the share in use change without the checksum.
        let parts = vec![at..at + 106, at + 108..at + 112, at + 113..end];
        let stored = Stored { len_bytes: 0, ..Stored::u32_le(end) };
        covers.push(Cover { parts, ..Cover::beside(at..end, stored, Sum::ExfatBoot(sector_bytes)) });
    }
    let heap = place.start + u64::from(boot.u32(88)) * sector_bytes;
    let cluster = |number: u32| heap + (u64::from(number.max(2)) - 2) * (sector_bytes << cluster_shift);
    for at in place.written(ENTRY_BYTES).into_iter().filter(|at| *at >= heap) {
        let bytes = bytes_at(place.disk, at, ENTRY_BYTES);
        let entry = Fields(&bytes);
        match entry.u8(0) {
            0x85 => covers.extend(entry_set(place, at, entry.u8(1))),
            0x82 => {
                let table = cluster(entry.u32(20));
                let table = table..table.saturating_add(entry.u64(24));
                let is_on_disk = table.end <= place.end && table.end - table.start <= 1 << 20;
                if is_on_disk
                    && table_sum(&bytes_at(place.disk, table.start, table.end - table.start)) == entry.u32(4)
                {
                    covers.push(Cover::beside(table, Stored::u32_le(at + 4), Sum::ExfatTable));
                }
            }
            _ => {}
        }
    }
    covers
}

fn entry_set(place: &Place<'_>, at: u64, others: u8) -> Option<Cover> {
    let end = at + ENTRY_BYTES * (1 + u64::from(others));
    let stored = Stored::u16_le(at + 2, 0);
    let cover =
        Cover { parts: vec![at..at + 2, at + 4..end], ..Cover::beside(at..end, stored, Sum::ExfatSet) };
    let is_right =
        || set_sum(&cover.content(place.disk)).to_le_bytes()[..] == bytes_at(place.disk, at + 2, 2);
    (end <= place.end && is_right()).then_some(cover)
}

pub(crate) fn set_sum(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |sum: u16, byte| sum.rotate_right(1).wrapping_add(u16::from(*byte)))
}

pub(crate) fn table_sum(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0, |sum: u32, byte| sum.rotate_right(1).wrapping_add(u32::from(*byte)))
}

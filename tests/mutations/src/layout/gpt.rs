//! GPT (UEFI 2.10, 5.3): both headers, and the entries that each names.

use stillframe_block::BlockSource;

use crate::covers::{Cover, Stored, Sum};
use crate::disk::{Fields, bytes_at};

pub(super) fn covers(disk: &dyn BlockSource) -> Vec<Cover> {
    let mut covers = Vec::new();
    for sector_bytes in [512, 4096] {
        let last = disk.len_bytes().saturating_sub(sector_bytes) / sector_bytes * sector_bytes;
        for header_at in [sector_bytes, last] {
            covers.extend(of_header(disk, header_at, sector_bytes));
        }
    }
    covers
}

fn of_header(disk: &dyn BlockSource, at: u64, sector_bytes: u64) -> Vec<Cover> {
    let bytes = bytes_at(disk, at, 512);
    let header = Fields(&bytes);
    let header_len = u64::from(header.u32(12));
    if !header.is(0, b"EFI PART") || !(92..=512).contains(&header_len) {
        return Vec::new();
    }
    let entries_at = header.u64(72).saturating_mul(sector_bytes);
    let entries_len = u64::from(header.u32(80)) * u64::from(header.u32(84));
    let mut covers = vec![Cover::with_field(at..at + header_len, Stored::u32_le(at + 16), Sum::Crc32)];
    if entries_len <= 1 << 20 && entries_at.saturating_add(entries_len) <= disk.len_bytes() {
        let entries = entries_at..entries_at + entries_len;
        covers.push(Cover::beside(entries, Stored::u32_le(at + 88), Sum::Crc32));
    }
    covers
}

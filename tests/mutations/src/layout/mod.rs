//! What is covered by a checksum on a sound disk, found by its magic and its place, or by a checksum that is right.

use std::ops::Range;

use stillframe_block::BlockSource;

use crate::covers::Cover;

mod btrfs;
pub(crate) mod btrfs_sums;
pub(crate) mod exfat;
mod ext;
mod gpt;
mod jbd2;
mod xfs;

/// One filesystem of a disk, and the offsets of its pages that hold something.
pub(crate) struct Place<'a> {
    pub(crate) disk: &'a dyn BlockSource,
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) pages: Vec<u64>,
}

impl Place<'_> {
    /// The offsets from the disk's start of the parts, `len` bytes long each, that may hold something.
    pub(crate) fn written(&self, len: u64) -> Vec<u64> {
        let part = |at: u64| at - (at - self.start) % len;
        let parts = self.pages.iter().flat_map(|page| {
            let first = part((*page).max(self.start));
            (first..(page + 4096).min(self.end)).step_by(len as usize)
        });
        let mut parts: Vec<u64> = parts.filter(|at| at + len <= self.end).collect();
        parts.sort_unstable();
        parts.dedup();
        parts
    }
}

pub(crate) fn covers(disk: &dyn BlockSource, pages: &[u64], volumes: &[(Range<u64>, String)]) -> Vec<Cover> {
    let mut covers = gpt::covers(disk);
    for (range, kind) in volumes {
        let within = |page: &&u64| **page + 4096 > range.start && **page < range.end;
        let end = range.end.min(disk.len_bytes());
        let pages = pages.iter().filter(within).copied().collect();
        let place = Place { disk, start: range.start, end, pages };
        covers.extend(match kind.as_str() {
            kind if kind.starts_with("ext") => [ext::covers(&place), jbd2::covers(&place)].concat(),
            "xfs" => xfs::covers(&place),
            "btrfs" => btrfs::covers(&place),
            "exfat" => exfat::covers(&place),
            _ => Vec::new(),
        });
    }
    covers
}

use stillframe_bytes::Fault;
use stillframe_fs::{FileFlags, FsDescription};

use crate::exercise::{Listing, Row};
use crate::golden::{Golden, Volume};

/// What a filesystem's checksums guard: a change that none of them agrees with is never believed there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guarded {
    /// Every byte that a reader tells of, but the contents of files that btrfs writes in place.
    All,
    /// All but the contents of files.
    Metadata,
    /// All but the contents of files and the targets of links that have a block of their own.
    MetadataButTargets,
}

impl Guarded {
    /// What is guarded on this volume of a golden disk; `None` where too little is. On ext4 and XFS it is not where there is a
    /// journal to replay: a damaged end of one looks as if the machine had stopped before.
    #[must_use]
    pub fn on(golden: &Golden, volume: &Volume, description: &FsDescription) -> Option<Self> {
        let in_volume = |at: u64| volume.holds(at);
        let has_sums = golden.covers.all().iter().any(|cover| in_volume(cover.bounds().start));
        match description.kind {
            "btrfs" => Some(Self::All),
            "xfs" if has_sums && description.dirty == Some(false) => Some(Self::Metadata),
            "ext4" if has_sums && description.dirty == Some(false) => Some(Self::MetadataButTargets),
            _ => None,
        }
    }
}

/// What of a mutant's listing is neither what the golden disk has nor an error: paths, and the words for what differs.
/// Nothing where the reader has said that it went by another copy of the superblock, which may be older.
#[must_use]
pub fn differing(
    golden: &Listing,
    mutant: &Listing,
    faults: &[Fault],
    guarded: Guarded,
) -> Vec<(Vec<u8>, &'static str)> {
    if faults.iter().any(|fault| fault.what.starts_with("superblock")) {
        return Vec::new();
    }
    let differs = |path: &Vec<u8>, row: &Row| {
        let Some(truth) = golden.get(path) else { return Some("a name that was not there") };
        let is_content = |one: &Option<_>, truth: &Option<_>| one.is_some() && one != truth;
        // What btrfs writes in place has no checksum.
        let flags = truth.metadata.as_ref().and_then(|metadata| metadata.flags).unwrap_or_default();
        let has_sums = guarded == Guarded::All && !flags.contains(FileFlags::NO_COPY_ON_WRITE);
        if row.id != truth.id {
            Some("another file")
        } else if row.metadata.is_some() && row.metadata != truth.metadata {
            Some("metadata")
        } else if guarded != Guarded::MetadataButTargets && row.target.is_some() && row.target != truth.target
        {
            Some("the target of a link")
        } else if row.xattrs.is_some() && row.xattrs != truth.xattrs {
            Some("extended attributes")
        } else if has_sums
            && row.content.iter().zip(&truth.content).any(|(one, truth)| is_content(one, truth))
        {
            Some("content")
        } else {
            None
        }
    };
    mutant.iter().filter_map(|(path, row)| Some((path.clone(), differs(path, row)?))).collect()
}

use stillframe_probe::FsKind;

use crate::exercise::{Listing, Row};

/// Whether every byte that a reader of this kind tells of is behind a checksum, so that a change that no checksum agrees
/// with is never believed.
#[must_use]
pub fn is_checked_whole(kind: FsKind) -> bool {
    kind == FsKind::Btrfs
}

/// What of a mutant's listing is neither what the golden disk has nor an error: paths, and the words for what differs.
#[must_use]
pub fn differing(golden: &Listing, mutant: &Listing) -> Vec<(Vec<u8>, &'static str)> {
    let differs = |path: &Vec<u8>, row: &Row| {
        let Some(truth) = golden.get(path) else { return Some("a name that was not there") };
        if row.id != truth.id {
            Some("another file")
        } else if row.metadata.is_some() && row.metadata != truth.metadata {
            Some("metadata")
        } else if row.target.is_some() && row.target != truth.target {
            Some("the target of a link")
        } else if row.xattrs.is_some() && row.xattrs != truth.xattrs {
            Some("extended attributes")
        } else if row.content.iter().zip(&truth.content).any(|(one, truth)| one.is_some() && one != truth) {
            Some("content")
        } else {
            None
        }
    };
    mutant.iter().filter_map(|(path, row)| Some((path.clone(), differs(path, row)?))).collect()
}

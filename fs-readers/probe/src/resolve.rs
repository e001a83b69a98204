//! Which of several signatures is alive.
//!
//! Three rules, in this order:
//!
//! 1. A superblock at the volume's end (md 0.90 and 1.0, Intel Matrix, DDF) leaves the start to the array's content. It
//!    is alive unless what begins at the start says that it reaches over it and ends inside the volume: then that was
//!    made on the whole volume later. What ends before it, or claims more than the volume holds (striped arrays), is the
//!    array's content.
//! 2. What has a checksum or a second structure in its place goes before what has a magic only: making a format over
//!    another often leaves the old magic and destroys what lies behind it.
//! 3. The tools that make a format overwrite a known region. A signature that stands in such a region was written later
//!    than the format that would have cleared it. `mkfs.btrfs` zeroes the first 2 MiB, for one: a valid ext superblock
//!    beside a btrfs superblock is the younger.

use crate::candidate::Candidate;
use crate::{Content, Detail, Probe};

/// Picks from `candidates`, which come in the order of [`crate::CHECKS`].
pub(crate) fn resolve(candidates: Vec<Candidate>, len_bytes: u64) -> Option<Probe> {
    let chosen = trailing(&candidates, len_bytes).or_else(|| leading(&candidates))?;
    let mut others: Vec<Content> = Vec::new();
    let mut winner = None;
    for (index, candidate) in candidates.into_iter().enumerate() {
        if index == chosen {
            winner = Some(candidate);
        } else if !others.contains(&candidate.content) {
            others.push(candidate.content);
        }
    }
    let winner = winner?;
    others.retain(|other| *other != winner.content);
    Some(Probe {
        content: winner.content,
        detail: Detail { uuid: winner.uuid },
        signature_at: winner.at,
        others,
    })
}

fn trailing(candidates: &[Candidate], len_bytes: u64) -> Option<usize> {
    let leading_is_certain = candidates.iter().any(|candidate| !candidate.trailing && candidate.certain);
    candidates.iter().position(|end| {
        let covered = candidates
            .iter()
            .filter(|start| !start.trailing && start.certain)
            .filter_map(|start| start.ends_at)
            .any(|ends_at| end.at < ends_at && ends_at <= len_bytes);
        end.trailing && !covered && (end.certain || !leading_is_certain)
    })
}

fn leading(candidates: &[Candidate]) -> Option<usize> {
    let in_play: Vec<(usize, &Candidate)> =
        candidates.iter().enumerate().filter(|(_, candidate)| !candidate.trailing).collect();
    let any_certain = in_play.iter().any(|(_, candidate)| candidate.certain);
    let in_play: Vec<_> =
        in_play.into_iter().filter(|(_, candidate)| candidate.certain || !any_certain).collect();
    let youngest = in_play.iter().find(|(index, candidate)| {
        !in_play
            .iter()
            .any(|(other_index, other)| index != other_index && candidate.clears.contains(&other.at))
    });
    youngest.or_else(|| in_play.first()).map(|(index, _)| *index)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{FsKind, MdVersion, MemberKind};

    const EXT: Content = Content::Filesystem(FsKind::Ext);
    const BTRFS: Content = Content::Filesystem(FsKind::Btrfs);
    const MD: Content = Content::Member(MemberKind::Md(MdVersion::V1_0));

    fn chosen(candidates: &[Candidate]) -> Content {
        resolve(candidates.to_vec(), 1000).unwrap().content
    }

    #[test]
    fn what_would_have_been_cleared_is_younger() {
        let ext = Candidate::new(EXT, 10).clears(0..20);
        let btrfs = Candidate::new(BTRFS, 64).clears(0..200);
        assert_eq!(chosen(&[btrfs.clone(), ext.clone()]), EXT);
        assert_eq!(chosen(&[btrfs.clone(), ext.certain(false)]), BTRFS);
    }

    #[test]
    fn signatures_that_clear_each_other_fall_back_to_the_order() {
        let first = Candidate::new(EXT, 10).clears(0..200);
        let second = Candidate::new(BTRFS, 64).clears(0..200);
        assert_eq!(chosen(&[first, second]), EXT);
    }

    #[test]
    fn a_trailing_superblock_is_alive_unless_something_reaches_over_it() {
        let md = Candidate::new(MD, 900).trailing();
        let ext = Candidate::new(EXT, 10);
        assert_eq!(chosen(&[md.clone(), ext.clone().ends_at(900)]), MD);
        assert_eq!(chosen(&[md.clone(), ext.clone().ends_at(990)]), EXT);
        assert_eq!(chosen(&[md.clone(), ext.clone().ends_at(3000)]), MD);
        assert_eq!(chosen(&[md.certain(false), ext.ends_at(900)]), EXT);
    }
}

//! Superblocks of Linux md arrays.
//!
//! Specification: the kernel's `include/uapi/linux/raid/md_p.h` (`mdp_super_t`, `struct mdp_superblock_1`).

use stillframe_bytes::Structure;

use crate::candidate::Candidate;
use crate::view::{View, ensure};
use crate::{Content, MdVersion, MemberKind};

const MAGIC: u32 = 0xa92b_4efc;
const RESERVED_0_90: u64 = 64 << 10;
const SUPERBLOCK_0_90_BYTES: usize = 4096;
const SUPERBLOCK_1_BYTES: usize = 256;
/// `max_dev` is at most what fits behind the superblock in a page.
const DEVICE_ROLES_CAP: u32 = (4096 - 256) / 2;

/// 64 KiB from the end, rounded down to 64 KiB. Written in the machine's own byte order.
pub(crate) fn version_0_90(view: &View) -> Option<Candidate> {
    let at = (view.len_bytes() / RESERVED_0_90).checked_sub(1)?.checked_mul(RESERVED_0_90)?;
    let superblock = view.structure("md 0.90 superblock", at, SUPERBLOCK_0_90_BYTES)?;
    let little = superblock.u32_le(0).ok()? == MAGIC;
    ensure(little || superblock.u32_be(0).ok()? == MAGIC)?;
    let word = |offset| if little { superblock.u32_le(offset).ok() } else { superblock.u32_be(offset).ok() };
    // Minor version 91 is an array that is being reshaped.
    ensure(word(4)? == 0 && matches!(word(8)?, 90 | 91))?;
    let checksum_at = 152;
    let sum = (0..SUPERBLOCK_0_90_BYTES)
        .step_by(4)
        .filter(|offset| *offset != checksum_at)
        .filter_map(word)
        .fold(0_u64, |sum, word| sum.saturating_add(word.into()));
    Some(member(MdVersion::V0_90, at).certain(folded(sum) == word(checksum_at)?).trailing())
}

/// 8 KiB from the end, rounded down to 4 KiB.
pub(crate) fn version_1_0(view: &View) -> Option<Candidate> {
    let at = (view.len_bytes() / 512).checked_sub(16)?.checked_div(8)?.checked_mul(4096)?;
    version_1(view, MdVersion::V1_0, at).map(Candidate::trailing)
}

/// At the start.
pub(crate) fn version_1_1(view: &View) -> Option<Candidate> {
    version_1(view, MdVersion::V1_1, 0)
}

/// 4 KiB after the start.
pub(crate) fn version_1_2(view: &View) -> Option<Candidate> {
    version_1(view, MdVersion::V1_2, 4096)
}

fn version_1(view: &View, version: MdVersion, at: u64) -> Option<Candidate> {
    let superblock = view.structure("md superblock", at, SUPERBLOCK_1_BYTES)?;
    ensure(superblock.u32_le(0).ok()? == MAGIC && superblock.u32_le(4).ok()? == 1)?;
    // It says where it lies, in sectors: a copy inside something else is none.
    ensure(superblock.u64_le(144).ok()? == at / 512)?;
    Some(member(version, at).certain(version_1_checksum_is_right(view, &superblock).unwrap_or(false)))
}

fn version_1_checksum_is_right(view: &View, superblock: &Structure<'_>) -> Option<bool> {
    let device_roles = superblock.u32_le(220).ok()?;
    ensure(device_roles <= DEVICE_ROLES_CAP)?;
    let len = SUPERBLOCK_1_BYTES.saturating_add(usize::try_from(device_roles).ok()?.saturating_mul(2));
    let whole = view.structure("md superblock", superblock.at(), len)?;
    let sum = whole
        .bytes()
        .chunks(4)
        .enumerate()
        .filter(|(index, _)| *index != 216 / 4)
        .map(|(_, chunk)| chunk.iter().rev().fold(0_u64, |word, byte| (word << 8) | u64::from(*byte)))
        .fold(0_u64, u64::saturating_add);
    Some(folded(sum) == superblock.u32_le(216).ok()?)
}

fn member(version: MdVersion, at: u64) -> Candidate {
    let len = u64::try_from(SUPERBLOCK_1_BYTES).unwrap_or(0);
    Candidate::new(Content::Member(MemberKind::Md(version)), at).clears(at..at.saturating_add(len))
}

/// The sum's halves, added.
fn folded(sum: u64) -> u32 {
    let low = u32::try_from(sum & 0xffff_ffff).unwrap_or(0);
    low.wrapping_add(u32::try_from(sum >> 32).unwrap_or(0))
}

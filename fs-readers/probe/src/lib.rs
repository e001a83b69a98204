//! What lies on a partition or a whole disk, judged by its content and never by a partition's type or name.
//!
//! Reads the first 260 KiB and the last 128 KiB, and the sector at 1 MiB where those hold no signature. Each format is
//! described in the module that looks for it: `filesystems`, `boot_sectors`, `encryption`, `md`, `members`,
//! `images`, `other_filesystems`, `boot_code`. A magic of two or four bytes proves nothing, so each check also asks whether the
//! fields around it make sense; where the format has a checksum or a second structure in reach, that makes the finding
//! certain.
//!
//! A disk that has lived long holds signatures of what it was before. `resolve` says which one is alive.
//!
//! Where nothing is recognised, six more places are read for a copy of an ext superblock (`ext_copies`): a volume whose
//! first one is gone is not lost.
//!
//! Not supported: finding other filesystems by their backup superblocks when the first one is gone, and what looks like
//! random bytes by design (plain dm-crypt, VeraCrypt), which is [`Content::Unknown`] with `looks_random`.

mod boot_code;
mod boot_sectors;
mod candidate;
mod content;
mod emptiness;
mod encryption;
mod ext_copies;
mod filesystems;
mod images;
mod md;
mod members;
mod other_filesystems;
mod resolve;
mod view;

pub use content::{
    BootCodeKind, Content, EncryptionKind, FsKind, MdVersion, MemberKind, SwapKind, UnsupportedKind,
};
use stillframe_block::{BlockSource, ReadError};

use crate::candidate::Candidate;
use crate::view::View;

/// What a volume holds, and what else left a signature on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// What it holds.
    pub content: Content,
    /// What no reader will tell, since none opens it.
    pub detail: Detail,
    /// Where the signature lies, in bytes from the volume's start; 0 where there is none.
    pub signature_at: u64,
    /// Other signatures, in the order of their weight: leftovers of what the volume held before, or (below a RAID
    /// member whose superblock lies at the end) what the array holds.
    pub others: Vec<Content>,
}

/// What is known of a container that no reader opens.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Detail {
    /// LUKS: the UUID as `blkid` writes it. LVM2: the physical volume's.
    pub uuid: Option<String>,
}

/// What `volume` holds.
///
/// # Errors
/// What the source fails with. Nothing on the volume is an error.
pub fn identify(volume: &dyn BlockSource) -> Result<Content, ReadError> {
    Ok(probe(volume)?.content)
}

/// What `volume` holds, with its details and the other signatures on it.
///
/// Where there is no signature it looks for a copy of an ext superblock, which does not count for [`recognise`]: whether
/// a table of partitions is one is not for a leftover inside them to say. Without that it reads on to the first byte that is not zero: holes of a sparse volume cost nothing, but
/// zeros that were written are read.
///
/// # Errors
/// What the source fails with.
pub fn probe(volume: &dyn BlockSource) -> Result<Probe, ReadError> {
    if let Some(found) = recognise(volume)? {
        return Ok(found);
    }
    if let Some(at) = ext_copies::find(volume)? {
        let content = Content::Filesystem(FsKind::Ext);
        return Ok(Probe { content, detail: Detail::default(), signature_at: at, others: Vec::new() });
    }
    let content = emptiness::content_without_signature(volume)?;
    Ok(Probe { content, detail: Detail::default(), signature_at: 0, others: Vec::new() })
}

/// As [`probe`] for what has a signature; `None`, after a bounded number of reads, for all else.
///
/// # Errors
/// What the source fails with.
pub fn recognise(volume: &dyn BlockSource) -> Result<Option<Probe>, ReadError> {
    let view = View::read(volume)?;
    let mut candidates: Vec<Candidate> = CHECKS.iter().filter_map(|check| check(&view)).collect();
    if candidates.is_empty() {
        let far = view.with_far_sector(volume)?;
        candidates.extend(other_filesystems::vmfs(&far));
    }
    Ok(resolve::resolve(candidates, view.len_bytes()))
}

type Check = fn(&View) -> Option<Candidate>;

/// Everything that is looked for. The order is the last word where evidence does not say which of two signatures is
/// alive: containers before filesystems (their content begins somewhere else), what has a strong signature before what
/// has a weak one.
const CHECKS: &[Check] = &[
    encryption::luks,
    encryption::bitlocker,
    encryption::core_storage,
    md::version_0_90,
    md::version_1_0,
    md::version_1_1,
    md::version_1_2,
    members::intel_matrix,
    members::ddf,
    members::lvm2,
    members::bcache,
    members::zfs,
    members::storage_spaces,
    members::logical_disk_manager,
    members::by_signature,
    filesystems::ext,
    filesystems::xfs,
    filesystems::btrfs,
    boot_sectors::ntfs,
    boot_sectors::exfat,
    boot_sectors::refs,
    boot_sectors::fat,
    filesystems::swap,
    other_filesystems::apfs,
    other_filesystems::bcachefs,
    images::squashfs,
    other_filesystems::erofs,
    other_filesystems::f2fs,
    other_filesystems::jfs,
    other_filesystems::nilfs2,
    other_filesystems::gfs2,
    other_filesystems::ocfs2,
    other_filesystems::reiserfs,
    other_filesystems::cramfs,
    other_filesystems::hfs,
    other_filesystems::ufs,
    images::iso9660,
    other_filesystems::udf,
    other_filesystems::minix,
    other_filesystems::partition_map,
    boot_code::grub_core,
    boot_code::chrome_os_kernel,
    boot_code::powerpc_elf,
];

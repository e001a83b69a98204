//! Filesystems that are written once, as a whole: squashfs and ISO 9660.
//!
//! Specifications: the Squashfs Binary Format's "The Superblock", ECMA-119 section 8.

use crate::candidate::Candidate;
use crate::view::{View, ensure};
use crate::{Content, FsKind, UnsupportedKind};

/// Where volume descriptors of optical formats begin.
pub(crate) const DESCRIPTORS_AT: u64 = 32 << 10;
const SQUASHFS_SUPERBLOCK_BYTES: u64 = 96;

/// What the superblock says that it covers was written as a whole, whatever made it.
pub(crate) fn squashfs(view: &View) -> Option<Candidate> {
    let superblock = view.structure("squashfs superblock", 0, 96)?;
    let (major, is_little) = match superblock.array::<4>(0).ok()? {
        [b'h', b's', b'q', b's'] => (superblock.u16_le(28).ok()?, true),
        [b's', b'q', b's', b'h'] => (superblock.u16_be(28).ok()?, false),
        _ => return None,
    };
    ensure((1..=4).contains(&major))?;
    if major < 4 || !is_little {
        let old = Content::Unsupported(UnsupportedKind::OldSquashfs);
        // Before version 4 the length lies elsewhere.
        return Some(Candidate::new(old, 0).clears(0..SQUASHFS_SUPERBLOCK_BYTES));
    }
    let len = superblock.u64_le(40).ok()?;
    Some(Candidate::new(Content::Filesystem(FsKind::Squashfs), 0).clears(0..len))
}

/// A volume descriptor of version 1, or High Sierra's.
///
/// It goes before UDF where a disc has both: its tree is read, and its reader names the other one.
pub(crate) fn iso9660(view: &View) -> Option<Candidate> {
    let is_high_sierra = view.has(DESCRIPTORS_AT + 9, b"CDROM\x01");
    ensure(is_high_sierra || view.has(DESCRIPTORS_AT + 1, b"CD001\x01"))?;
    let content = if is_high_sierra {
        Content::Unsupported(UnsupportedKind::HighSierra)
    } else {
        Content::Filesystem(FsKind::Iso9660)
    };
    // An image is written from its first byte, with zeros or boot code in the system area.
    Some(Candidate::new(content, DESCRIPTORS_AT).clears(0..DESCRIPTORS_AT))
}

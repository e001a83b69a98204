//! Images that were changed to mislead: what the kernel sees of them is seen here too, or an error tells.
#![allow(clippy::arithmetic_side_effects, clippy::unwrap_used, reason = "tests over golden images")]

use std::ops::ControlFlow;
use std::sync::Arc;

use stillframe_block::{BlockSource, SparseMemorySource};
use stillframe_ext::open;
use stillframe_fs::{FileId, ReadOnlyFs, read_whole};

const INODE_FLAGS: u64 = 0x20;

fn number(image: &SparseMemorySource, at: u64) -> u64 {
    let mut bytes = [0; 4];
    image.read_exact_at(at, &mut bytes).unwrap();
    u32::from_le_bytes(bytes).into()
}

fn put(image: &mut SparseMemorySource, at: u64, bytes: &[u8]) {
    for (at, byte) in (at..).zip(bytes) {
        image.set(at, *byte);
    }
}

/// Where `inode` of the first group lies on an image without metadata checksums.
fn inode_at(image: &SparseMemorySource, inode: u64) -> u64 {
    let block_bytes = 1024 << number(image, 1024 + 0x18);
    let descriptors = if block_bytes == 1024 { 2048 } else { block_bytes };
    let inode_bytes = number(image, 1024 + 0x58) & 0xffff;
    number(image, descriptors + 8) * block_bytes + (inode - 1) * inode_bytes
}

fn entries(fs: &dyn ReadOnlyFs, folder: FileId) -> Vec<(Vec<u8>, FileId)> {
    let mut entries = Vec::new();
    fs.read_dir(folder, &mut |entry| {
        entries.push((entry.name.to_vec(), entry.id));
        ControlFlow::Continue(())
    })
    .unwrap();
    entries
}

fn find(fs: &dyn ReadOnlyFs, path: &str) -> FileId {
    path.split('/').fold(fs.root(), |folder, name| {
        entries(fs, folder).into_iter().find(|(found, _)| found == name.as_bytes()).unwrap().1
    })
}

fn set_flag(image: &mut SparseMemorySource, inode: u64, flag: u64) {
    let at = inode_at(image, inode) + INODE_FLAGS;
    let flags = u32::try_from(number(image, at) | flag).unwrap();
    put(image, at, &flags.to_le_bytes());
}

/// The kernel replays the journal of a filesystem that calls itself revision 0 and sets the feature all the same.
#[test]
fn a_journal_counts_whatever_the_revision_says() {
    let mut image = stillframe_fixtures::golden("ext3-dirty");
    put(&mut image, 1024 + 0x4c, &[0; 4]);
    let fs = open(Arc::new(image)).unwrap();
    assert_eq!(fs.description().dirty, Some(true));
    assert_eq!(fs.description().notes, ["journal replayed"]);
    find(&*fs, "journal-only/moved.conf");
}

/// A log whose blocks are all one revocation block would otherwise be kept in memory once for each.
#[test]
fn a_journal_that_repeats_one_block_for_ever_ends() {
    let mut image = stillframe_fixtures::golden("ext3-dirty");
    let map = inode_at(&image, 8) + 0x28;
    let first = number(&image, map) + 1;
    let len_blocks = u32::try_from(12 + 256 + 256 * 256 + 256 * 256 * 256_u64).unwrap();
    let sequence = u32::try_from(number(&image, number(&image, map) * 1024 + 0x18)).unwrap();
    let block = |index: u64| u32::try_from(first + index).unwrap().to_le_bytes();
    let header = [0xc03b_3998, 5, u32::from_be(sequence), 1024].map(u32::to_be_bytes).concat();
    put(&mut image, first * 1024, &header);
    for index in 1..4 {
        put(&mut image, (first + index) * 1024, &block(index - 1).repeat(256));
    }
    put(&mut image, map + 4, &block(0).repeat(11));
    put(&mut image, map + 48, &[block(1), block(2), block(3)].concat());
    let size = u64::from(len_blocks) * 1024;
    for (at, part) in [(4, size & 0xffff_ffff), (0x6c, size >> 32)] {
        put(&mut image, map - 0x28 + at, &u32::try_from(part).unwrap().to_le_bytes());
    }
    put(&mut image, (first - 1) * 1024 + 0x10, &len_blocks.to_be_bytes());
    let fs = open(Arc::new(image)).unwrap();
    assert!(fs.faults().iter().any(|fault| fault.what == "journal blocks"), "{:?}", fs.faults());
}

/// Without the attribute that holds the rest, the kernel takes the blocks of such a folder.
#[test]
fn a_flag_does_not_hide_the_blocks_of_a_folder() {
    let mut image = stillframe_fixtures::golden("ext3-dirty");
    let before = open(Arc::new(image.clone())).unwrap();
    let folder = find(&*before, "in-place");
    set_flag(&mut image, folder.number, 0x1000_0000);
    let after = open(Arc::new(image)).unwrap();
    assert_eq!(entries(&*after, folder), entries(&*before, folder));
    assert!(!entries(&*after, folder).is_empty());
}

/// `chattr +c` sets a flag that means nothing without the feature, which no kernel but that of e2compr takes.
#[test]
fn a_file_that_asks_to_be_compressed_is_read() {
    let mut image = stillframe_fixtures::golden("ext2-sparse");
    let before = open(Arc::new(image.clone())).unwrap();
    let root = entries(&*before, before.root());
    let content =
        |fs: &dyn ReadOnlyFs, id| fs.open(id).and_then(|mut file| read_whole(&mut *file, 1 << 20)).ok();
    let (id, bytes) = root.into_iter().find_map(|(_, id)| Some((id, content(&*before, id)?))).unwrap();
    set_flag(&mut image, id.number, 4);
    let after = open(Arc::new(image)).unwrap();
    assert_eq!(content(&*after, id), Some(bytes));
}

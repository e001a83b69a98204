//! Volumes whose first superblock is gone or damaged: a copy serves, the journal is replayed, and a fault tells.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests over images that the tests make or that lie beside their listing"
)]

mod support;

use std::collections::BTreeSet;
use std::sync::Arc;

use stillframe_block::SparseMemorySource;
use stillframe_ext::{ExtFs, open};
use stillframe_fixtures::{expected, golden};
use stillframe_fs::{FsError, read_whole};

use support::{HOSTNAME, mke2fs, tree};

fn clear(image: &mut SparseMemorySource, range: std::ops::Range<u64>) {
    range.for_each(|at| image.set(at, 0));
}

const NOTE: &str = "the first superblock is damaged; a backup was read";

/// Copies know nothing of the journal; the journal itself tells that it must be replayed.
#[test]
fn a_running_machines_disk_is_read_as_with_its_first_superblock() {
    for (name, notes) in [
        ("ext4-fast-commit-1k", &[NOTE, "journal replayed", "fast commits replayed"][..]),
        ("ext4-fast-commit-stale", &[NOTE, "journal replayed"]),
        ("ext4-htree", &[NOTE]),
    ] {
        let mut image = golden(name);
        clear(&mut image, 1024..2048);
        let fs = open(Arc::new(image)).unwrap();
        assert_eq!(fs.description().notes, notes, "{name}");
        assert_eq!(fs.description().dirty, Some(notes.len() > 1), "{name}");
        let expected: BTreeSet<_> = expected(name).into_iter().map(|entry| entry.path).collect();
        assert_eq!(tree(&*fs).into_keys().collect::<BTreeSet<_>>(), expected, "{name}");
        let faults = fs.faults();
        assert_eq!(faults.iter().map(|fault| fault.what).collect::<Vec<_>>(), ["superblock magic"], "{name}");
    }
}

#[test]
fn a_damaged_field_is_as_bad_as_none() {
    // Block size, inode size, size of descriptors, inodes in a group.
    for (at, bytes) in [(0x18, &[9][..]), (0x58, &[1]), (0xfe, &[3]), (0x28, &[0; 4])] {
        let mut image = golden("ext4-fast-commit-1k");
        (1024 + at..).zip(bytes).for_each(|(at, byte)| image.set(at, *byte));
        let fs = open(Arc::new(image)).unwrap();
        assert_eq!(fs.description().notes.first(), Some(&NOTE), "{at:#x}");
    }
}

#[test]
fn a_volume_without_a_copy_is_named_and_not_guessed() {
    let mut image = golden("ext4-fast-commit-plain");
    clear(&mut image, 1024..2048);
    let Err(FsError::Corrupt(fault)) = ExtFs::open(Arc::new(image)) else { panic!("it has one group") };
    assert_eq!(fault.what, "superblock magic");
}

/// The superblock is gone, and the first group descriptors behind it.
#[test]
fn the_descriptors_behind_a_copy_serve_too() {
    for (mib, options) in [
        (20_u64, &["-b", "1024"][..]),
        (70, &["-b", "2048", "-O", "^metadata_csum,uninit_bg"]),
        (140, &["-b", "4096"]),
        (140, &["-b", "4096", "-O", "^metadata_csum,^64bit,^uninit_bg"]),
        (300, &["-b", "4096", "-O", "sparse_super2,^resize_inode"]),
        (20, &["-b", "1024", "-O", "^has_journal,^extent,^metadata_csum,^64bit,^flex_bg"]),
    ] {
        let mut image = mke2fs(mib, options);
        let block_bytes = options[1].parse::<u64>().unwrap();
        clear(&mut image, 0..(2 * block_bytes).max(3072));
        let fs = open(Arc::new(image)).unwrap();
        assert_eq!(fs.description().notes, [NOTE], "{options:?}");
        let files = tree(&*fs);
        let hostname = files[b"/etc/hostname".as_slice()];
        assert_eq!(read_whole(&mut *fs.open(hostname).unwrap(), 100).unwrap(), HOSTNAME, "{options:?}");
    }
}

//! What `mke2fs` can switch on: nothing of it is refused, and what cannot be read has a name.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "tests over images that the tests make"
)]

mod support;

use std::sync::Arc;

use stillframe_ext::open;
use stillframe_fixtures::golden;
use stillframe_fs::read_whole;

use support::{HOSTNAME, mke2fs, tree};

#[test]
fn no_feature_of_mke2fs_is_refused() {
    for features in [
        "mmp",
        "orphan_file",
        "project,quota",
        "verity",
        "stable_inodes",
        "metadata_csum_seed,metadata_csum",
        "encrypt",
        "large_dir",
        "casefold",
        "sparse_super2,^resize_inode",
        "ea_inode",
        "uninit_bg,^metadata_csum",
        "bigalloc",
        "meta_bg,^resize_inode",
        "^has_journal",
        "^extent,^64bit,^flex_bg",
        "mmp,orphan_file,project,quota,verity,large_dir,inline_data,fast_commit",
    ] {
        let fs = open(Arc::new(mke2fs(64, &["-O", features]))).unwrap();
        let files = tree(&*fs);
        let hostname = fs.open(files[b"/etc/hostname".as_slice()]);
        assert_eq!(read_whole(&mut *hostname.unwrap(), 100).unwrap(), HOSTNAME, "{features}");
        assert!(fs.faults().is_empty(), "{features}: {:?}", fs.faults());
    }
}

/// `s_journal_inum` is 0 where the journal is on another device.
#[test]
fn a_journal_that_lies_elsewhere_is_named() {
    let mut image = golden("ext3-dirty");
    image.set(1024 + 0xe0, 0);
    let fs = open(Arc::new(image)).unwrap();
    let faults: Vec<_> = fs.faults().iter().map(ToString::to_string).collect();
    assert!(faults.iter().any(|fault| fault.contains("an external journal")), "{faults:?}");
    assert!(!tree(&*fs).is_empty());
}

#[test]
fn the_device_of_a_journal_is_named() {
    let mut image = golden("ext4-journal");
    image.set(1024 + 0x60, 8);
    let error = open(Arc::new(image)).err().unwrap();
    assert_eq!(error.to_string(), "an external journal device is not supported");
}

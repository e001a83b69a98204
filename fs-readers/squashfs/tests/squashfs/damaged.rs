//! The golden disks, changed where it matters.

use stillframe_fs::{FileId, FsError};

use crate::support::{Tally, mutations, use_all};
use crate::volume::{PARTITIONS, bytes, open, open_bytes, sparse};

/// What the superblock with `bytes` at `at` is refused for.
fn refused(at: usize, changed: &[u8]) -> FsError {
    let mut image = bytes(6);
    image[at..at + changed.len()].copy_from_slice(changed);
    open_bytes(image).map(|_| ()).unwrap_err()
}

#[test]
fn impossible_superblocks_are_refused_and_other_versions_named() {
    let all_set = [0xFF; 8];
    let changes: [(usize, &[u8]); 9] = [
        (0, b"hsqt"),
        (12, &[0, 0, 0, 0]),
        (22, &[12, 0]),
        (22, &[200, 0]),
        (40, &[10, 0, 0, 0, 0, 0, 0, 0]),
        (48, &all_set),
        (64, &all_set),
        (72, &all_set),
        (72, &[0; 8]),
    ];
    for (at, changed) in changes {
        assert!(matches!(refused(at, changed), FsError::Corrupt(_)), "{at} {changed:?}");
    }
    for (at, changed) in [(0, &b"sqsh"[..]), (28, &[3, 0]), (20, &[2, 0]), (20, &[7, 0])] {
        assert!(matches!(refused(at, changed), FsError::Unsupported(_)), "{at} {changed:?}");
    }
}

/// Where `needle` lies first.
fn position(haystack: &[u8], needle: &[u8]) -> usize {
    haystack.windows(needle.len()).position(|window| window == needle).unwrap()
}

/// Partition 6 is stored as it is, so that inodes can be changed in place. Where the inode of `etc/hostname` is, which
/// has the one time of its kind.
fn inode(image: &[u8]) -> usize {
    let modified = position(image, &4_000_000_000_u32.to_le_bytes());
    modified - 8
}

/// What reading `etc/hostname` gives once its inode was changed.
fn read_changed(at: usize, changed: &[u8]) -> Result<Vec<u8>, FsError> {
    let mut image = bytes(6);
    let start = inode(&image) + at;
    image[start..start + changed.len()].copy_from_slice(changed);
    crate::support::content(&*open_bytes(image).unwrap(), "etc/hostname")
}

fn fault(outcome: Result<Vec<u8>, FsError>) -> &'static str {
    match outcome {
        Err(FsError::Corrupt(fault)) => fault.what,
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_inode_that_claims_what_is_not_there_is_a_fault() {
    assert_eq!(read_changed(0, &[9]).unwrap(), b"small\n", "an extended file, since it has attributes");
    assert_eq!(fault(read_changed(0, &[15, 0])), "inode type");
    // The size, then the fragment's number and offset.
    assert_eq!(fault(read_changed(16 + 8, &(1_u64 << 62).to_le_bytes())), "file size in blocks");
    assert_eq!(fault(read_changed(16 + 8, &u64::MAX.to_le_bytes())), "file size in bytes");
    assert_eq!(fault(read_changed(16 + 28, &77_u32.to_le_bytes())), "number of a fragment");
    assert_eq!(fault(read_changed(16 + 32, &9_000_u32.to_le_bytes())), "content of a block in bytes");
}

#[test]
fn attributes_and_owners_that_are_not_there_are_faults() {
    let changed = |at: usize, changed: &[u8]| {
        let mut image = bytes(6);
        let start = inode(&image) + at;
        image[start..start + changed.len()].copy_from_slice(changed);
        let fs = open_bytes(image).unwrap();
        let id = crate::support::find(&*fs, "etc/hostname");
        (fs.metadata(id).map(|_| ()), fs.xattrs(id).map(|xattrs| xattrs.len()))
    };
    assert!(matches!(changed(0, &[9]), (Ok(()), Ok(2))));
    assert!(
        matches!(changed(4, &[99, 0]), (Err(FsError::Corrupt(fault)), _) if fault.what == "number of an owner")
    );
    let (_, xattrs) = changed(16 + 36, &500_u32.to_le_bytes());
    assert!(matches!(xattrs, Err(FsError::Corrupt(fault)) if fault.what == "number of an xattr row"));
    let (_, none) = changed(16 + 36, &u32::MAX.to_le_bytes());
    assert_eq!(none.unwrap(), 0);
}

#[test]
fn files_that_are_not_there_are_faults() {
    let fs = open_bytes(bytes(1)).unwrap();
    for number in [u64::MAX, 1 << 47, 8191, 0xFFFF, 3 << 16] {
        assert!(fs.metadata(FileId::new(number)).is_err(), "{number:#x}");
    }
    assert!(matches!(fs.metadata(FileId { tree: 1, number: 0 }), Err(FsError::NotFound)));
}

#[test]
fn changed_bytes_are_errors_and_nothing_worse() {
    let mut all = Tally::default();
    for number in 1..=PARTITIONS {
        let tally = mutations(&sparse(&bytes(number)), 0..40, open, |_| {});
        all.refused += tally.refused;
        all.failed += tally.failed;
    }
    assert!(all.refused > 0 && all.refused < 200, "{all:?}");
    assert!(all.failed > 100, "{all:?}");
}

#[test]
fn a_cut_image_is_an_error() {
    let whole = bytes(5);
    for len in [0, 10, 95, 96, 500, 5000, 20_000] {
        if let Ok(fs) = open_bytes(whole[..len].to_vec()) {
            assert_eq!(fs.faults()[0].what, "volume length", "{len}");
            assert!(use_all(&*fs) > 0, "{len}");
        }
    }
}

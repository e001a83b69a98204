//! The golden disks.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use stillframe_fixtures::{expected, golden};
use stillframe_fs::{FileKind, FsError, ReadOnlyFs};

use crate::support::{assert_listed, find, list, read_all, walk};
use crate::volume::{PARTITIONS, open, partition};

#[test]
fn every_file_is_as_the_kernel_lists_it() {
    let rows = expected("squashfs-forms");
    for number in 1..=PARTITIONS {
        let fs = open(Arc::new(partition(number))).unwrap();
        assert_listed(&*fs, &rows, &format!("p{number}"));
        assert_eq!((fs.description().kind, fs.description().dirty), ("squashfs", None));
    }
    let snap = open(Arc::new(golden("squashfs-snap"))).unwrap();
    assert_listed(&*snap, &expected("squashfs-snap"), "whole");
}

/// Rows of the listing of attributes: path, name, value in hex.
fn xattr_rows(label: &str) -> BTreeSet<String> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/golden/squashfs-forms.xattrs.tsv");
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().filter_map(|row| row.strip_prefix(&format!("{label}\t"))).map(str::to_owned).collect()
}

fn found_xattrs(fs: &dyn ReadOnlyFs) -> BTreeSet<String> {
    let mut rows = BTreeSet::new();
    for (path, id) in walk(fs) {
        for xattr in fs.xattrs(id).unwrap() {
            let hex: String = xattr.value.iter().map(|byte| format!("{byte:02x}")).collect();
            let text = |bytes| String::from_utf8(bytes).unwrap();
            rows.insert(format!("{}\t{}\t{hex}", text(path.clone()), text(xattr.name)));
        }
    }
    rows
}

#[test]
fn attributes_are_as_getfattr_shows_them() {
    for number in 1..=PARTITIONS {
        let rows = xattr_rows(&format!("p{number}"));
        assert!(rows.len() >= 9);
        assert_eq!(found_xattrs(&*open(Arc::new(partition(number))).unwrap()), rows, "p{number}");
    }
    assert!(found_xattrs(&*open(Arc::new(golden("squashfs-snap"))).unwrap()).is_empty());
}

#[test]
fn hard_links_are_one_file_and_links_have_their_targets() {
    let fs = open(Arc::new(partition(1))).unwrap();
    let first = find(&*fs, "data/noise.bin");
    assert_eq!(find(&*fs, "data/second-name.bin"), first);
    assert_eq!(fs.metadata(first).unwrap().links, Some(2));
    assert_eq!(fs.read_link(find(&*fs, "data/short-link")).unwrap(), b"text.conf");
    let long = format!("{}end", "a-rather-long-target/".repeat(8));
    assert_eq!(fs.read_link(find(&*fs, "data/long-link")).unwrap(), long.as_bytes());
    assert_eq!(fs.metadata(find(&*fs, "etc/hostname")).unwrap().modified.unwrap().seconds, 4_000_000_000);
}

#[test]
fn a_file_reads_at_any_offset_and_in_any_order() {
    for number in 1..=PARTITIONS {
        let fs = open(Arc::new(partition(number))).unwrap();
        let id = find(&*fs, "data/mixed.bin");
        let whole = read_all(&mut *fs.open(id).unwrap()).unwrap();
        let mut file = fs.open(id).unwrap();
        let mut offsets: Vec<usize> = (0..whole.len() + 5000).step_by(37_777).collect();
        offsets.reverse();
        offsets.extend([0, whole.len() - 1, 4095, whole.len() / 2, whole.len(), usize::MAX / 2]);
        for offset in offsets {
            let mut bytes = vec![0xAA; 9000];
            let read = file.read_at(offset as u64, &mut bytes).unwrap();
            let rest = whole.get(offset..).unwrap_or_default();
            assert_eq!(&bytes[..read], &rest[..rest.len().min(9000)], "p{number} {offset}");
        }
    }
}

#[test]
fn a_block_list_of_many_checkpoints_is_walked_in_any_order() {
    // 20 MiB of holes in blocks of 4 KiB.
    let fs = open(Arc::new(partition(1))).unwrap();
    let id = find(&*fs, "data/nothing-but-hole");
    let mut file = fs.open(id).unwrap();
    assert_eq!(file.len_bytes(), 20 << 20);
    for offset in [19 << 20, 0, 10 << 20, (20 << 20) - 1, 4 << 20, 17 << 20] {
        let mut bytes = [1; 1];
        assert_eq!((file.read_at(offset, &mut bytes).unwrap(), bytes), (1, [0]), "{offset}");
    }
    assert_eq!(file.extents(0..u64::MAX), []);
}

#[test]
fn kinds_of_nodes_are_told_apart() {
    let fs = open(Arc::new(partition(2))).unwrap();
    let kinds: BTreeMap<_, _> =
        list(&*fs, find(&*fs, "nodes")).unwrap().into_iter().map(|(name, _, kind)| (name, kind)).collect();
    let kind = |name: &str| kinds[name.as_bytes()];
    assert_eq!(kind("block"), Some(FileKind::BlockDevice));
    assert_eq!(kind("character"), Some(FileKind::CharacterDevice));
    assert_eq!(kind("fifo"), Some(FileKind::Fifo));
    assert_eq!(kind("socket"), Some(FileKind::Socket));
    assert!(matches!(fs.open(find(&*fs, "nodes/fifo")), Err(FsError::NotAFile)));
    assert!(matches!(fs.read_link(find(&*fs, "nodes/fifo")), Err(FsError::NotFound)));
    assert!(matches!(list(&*fs, find(&*fs, "nodes/fifo")), Err(FsError::NotADirectory)));
}

#[test]
fn many_threads_read_one_filesystem() {
    let fs = open(Arc::new(partition(3))).unwrap();
    let paths = walk(&*fs);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for id in paths.values().filter(|id| fs.metadata(**id).unwrap().kind == FileKind::File) {
                    read_all(&mut *fs.open(*id).unwrap()).unwrap();
                }
            });
        }
    });
}

//! The golden disks.

use std::sync::Arc;

use stillframe_fixtures::{expected, golden};
use stillframe_fs::{FileId, FileKind, FsError};

use crate::support::{assert_listed, content, find, list, mutations, read_all};
use crate::volume::{Volume, open};

#[test]
fn every_file_is_as_exfat_fuse_lists_it() {
    for (name, label, uuid, size) in
        [("exfat-forms", "Étiquette", "5F17-FA70", 8 << 20), ("exfat-4k", "FOURK", "ABCD-0123", 64 << 20)]
    {
        let fs = open(Arc::new(golden(name))).unwrap();
        assert_listed(&*fs, &expected(name), "whole");
        let description = fs.description();
        assert_eq!(description.label.as_deref(), Some(label.as_bytes()));
        assert_eq!(description.uuid.as_deref(), Some(uuid));
        assert_eq!((description.size_bytes, description.dirty), (size, Some(false)));
        assert!(description.notes.is_empty());
    }
}

#[test]
fn a_file_in_pieces_reads_at_any_offset() {
    let fs = open(Arc::new(golden("exfat-forms"))).unwrap();
    for name in ["first in pieces.bin", "deep/contiguous.bin", "partly.bin"] {
        let id = find(&*fs, name);
        let whole = read_all(&mut *fs.open(id).unwrap()).unwrap();
        let mut file = fs.open(id).unwrap();
        for (offset, len) in
            [(0, 1), (511, 2), (4_999, 10), (5000, 18_000), (19_999, 5), (23_999, 10), (1 << 40, 5)]
        {
            let mut bytes = vec![0xAA; len];
            let read = file.read_at(offset, &mut bytes).unwrap();
            let rest = whole.get(offset as usize..).unwrap_or_default();
            assert_eq!(&bytes[..read], &rest[..rest.len().min(len)], "{name} {offset}");
        }
    }
}

#[test]
fn the_forms_that_the_recipe_means_to_make_are_there() {
    let fs = open(Arc::new(golden("exfat-forms"))).unwrap();
    let extents = |path: &str| fs.open(find(&*fs, path)).unwrap().extents(0..u64::MAX);
    assert!(extents("first in pieces.bin").len() > 4);
    assert_eq!(extents("deep/contiguous.bin").len(), 1);
    // What is not valid is read from nowhere.
    assert_eq!(extents("partly.bin").iter().map(|extent| extent.len_bytes()).sum::<u64>(), 5000);
    let volume = Volume::golden("exfat-forms");
    assert_eq!(volume.stream_flags("deep/contiguous.bin") & 2, 2, "no chain");
    assert_eq!(volume.stream_flags("first in pieces.bin") & 2, 0, "a chain");
    assert!(volume.size("many") > 512, "more than one cluster of a directory");
}

#[test]
fn the_wrong_kind_of_file_is_refused() {
    let fs = open(Arc::new(golden("exfat-forms"))).unwrap();
    assert!(matches!(list(&*fs, find(&*fs, "plain.txt")), Err(FsError::NotADirectory)));
    assert!(matches!(fs.open(find(&*fs, "deep")), Err(FsError::NotAFile)));
    assert!(matches!(fs.open(fs.root()), Err(FsError::NotAFile)));
    for odd in [7, 512, 1 << 40, u64::MAX - 31] {
        assert!(matches!(fs.metadata(FileId::new(odd)), Err(FsError::NotFound)), "{odd}");
    }
    let plain = find(&*fs, "plain.txt");
    // The stream extension is no file.
    assert!(matches!(fs.metadata(FileId::new(plain.number + 32)), Err(FsError::NotFound)));
    assert_eq!(fs.metadata(fs.root()).unwrap().kind, FileKind::Directory);
    assert_eq!(content(&*fs, "EMPTY").unwrap(), b"");
}

#[test]
fn changed_bytes_are_errors_and_nothing_worse() {
    for name in ["exfat-forms", "exfat-4k"] {
        let tally = mutations(&golden(name), 0..100, stillframe_exfat::open, |_| {});
        assert!(tally.refused < 100, "{name}: {tally:?}");
        assert!(tally.failed > 3, "{name}: {tally:?}");
    }
    // With the checksums made right, what they cover is parsed.
    let tally = mutations(&golden("exfat-forms"), 0..120, stillframe_exfat::open, Volume::mend);
    assert!(tally.failed > 20, "{tally:?}");
}

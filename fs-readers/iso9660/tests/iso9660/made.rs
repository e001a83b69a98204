//! The golden disks.

use std::sync::Arc;

use stillframe_fixtures::{expected, golden};
use stillframe_fs::{FileId, FsError};

use crate::support::{assert_listed, content, find, list, read_all, walk};
use crate::volume::{JOLIET, PLAIN, ROCK_RIDGE, SECTIONS, bytes, open, open_bytes};

#[test]
fn every_file_is_as_xorriso_extracts_it() {
    let rows = expected("iso-forms");
    for number in 1..=5 {
        let fs = open_bytes(bytes(number)).unwrap();
        let label = format!("p{number}");
        assert!(rows.iter().any(|row| row.filesystem == label));
        assert_listed(&*fs, &rows, &label);
    }
    let labels = [ROCK_RIDGE, JOLIET, PLAIN, SECTIONS, 5].map(|number| {
        let fs = open_bytes(bytes(number)).unwrap();
        (String::from_utf8(fs.description().label.clone().unwrap()).unwrap(), fs.description().notes.clone())
    });
    let shown: Vec<_> = labels.iter().map(|(label, notes)| (label.as_str(), &notes[..])).collect();
    let rock_ridge: &[&str] = &["Rock Ridge"];
    assert_eq!(
        shown,
        [
            ("FORMS", rock_ridge),
            ("JOLIET", &["Joliet"]),
            ("PLAIN", &[]),
            ("MULTI", &[]),
            ("XORRISO", rock_ridge)
        ]
    );
}

#[test]
fn the_seed_of_cloud_init_is_read() {
    let fs = open(Arc::new(golden("cloud-init-seed"))).unwrap();
    assert_listed(&*fs, &expected("cloud-init-seed"), "whole");
    assert_eq!(fs.description().label.as_deref(), Some(&b"cidata"[..]));
    // Both trees are there; Rock Ridge goes first.
    assert_eq!(fs.description().notes, ["Rock Ridge"]);
    assert!(content(&*fs, "user-data").unwrap().starts_with(b"#cloud-config\n"));
}

#[test]
fn links_have_their_targets_and_moved_folders_are_where_they_belong() {
    let fs = open_bytes(bytes(ROCK_RIDGE)).unwrap();
    let target = |path: &str| String::from_utf8(fs.read_link(find(&*fs, path)).unwrap()).unwrap();
    assert_eq!(target("names/absolute"), "/usr/./lib/../lib");
    assert_eq!(target("names/upwards"), "../..");
    let long = format!("{}/{}/x", "component-".repeat(9), "second-".repeat(14));
    assert_eq!(target("names/long-components"), long);
    assert_eq!(target("data/long-link"), format!("{}end", "a-rather-long-target/".repeat(8)));
    assert_eq!(content(&*fs, "data/deep/a/b/c/d/e/f/g/h/bottom.txt").unwrap(), b"at the bottom\n");
    assert!(list(&*fs, find(&*fs, "rr_moved")).unwrap().is_empty());
    let fs = open_bytes(bytes(5)).unwrap();
    let target = fs.read_link(find(&*fs, "data/long-component")).unwrap();
    assert_eq!(String::from_utf8(target).unwrap(), format!("{}/x", "component-".repeat(24)));
}

#[test]
fn sections_are_one_file() {
    let fs = open_bytes(bytes(SECTIONS)).unwrap();
    let id = find(&*fs, "multia.bin");
    let whole = read_all(&mut *fs.open(id).unwrap()).unwrap();
    assert_eq!((whole.len(), fs.metadata(id).unwrap().size_bytes), (11_144, 11_144));
    let mut file = fs.open(id).unwrap();
    for (offset, len) in [(6143, 2), (0, 11_144), (6144, 10), (11_143, 5), (20_000, 1)] {
        let mut bytes = vec![0; len];
        let read = file.read_at(offset, &mut bytes).unwrap();
        let rest = whole.get(offset as usize..).unwrap_or_default();
        assert_eq!(&bytes[..read], &rest[..rest.len().min(len)], "{offset}");
    }
}

#[test]
fn the_wrong_kind_of_file_is_refused() {
    let fs = open_bytes(bytes(ROCK_RIDGE)).unwrap();
    assert!(matches!(list(&*fs, find(&*fs, "etc/hostname")), Err(FsError::NotADirectory)));
    for path in ["etc", "names/fifo", "names/upwards"] {
        assert!(matches!(fs.open(find(&*fs, path)), Err(FsError::NotAFile)), "{path}");
    }
    assert!(matches!(fs.read_link(find(&*fs, "etc/hostname")), Err(FsError::NotFound)));
    for odd in [0, 7, (1 << 40) + 34, u64::MAX] {
        assert!(matches!(fs.metadata(FileId::new(odd)), Err(FsError::NotFound)), "{odd}");
    }
    let nowhere = fs.metadata(FileId::new(u64::MAX - 2047));
    assert!(matches!(nowhere, Err(FsError::Corrupt(fault)) if fault.what == "directory's own record"));
    assert!(walk(&*fs).len() > 150);
}

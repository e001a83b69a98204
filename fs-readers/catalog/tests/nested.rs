//! A filesystem in a file of another: a snap on ext4, as a machine with snaps has it.
#![allow(clippy::arithmetic_side_effects, clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

use std::ops::ControlFlow;
use std::process::Command;
use std::sync::Arc;

use sha2::{Digest, Sha256};
use stillframe_block::FileSource;
use stillframe_fs::{ContentSource, FileId, FileKind, ReadOnlyFs, read_whole};
use stillframe_probe::{Content, FsKind, identify};

fn find(fs: &dyn ReadOnlyFs, path: &[u8]) -> FileId {
    path.split(|byte| *byte == b'/').filter(|name| !name.is_empty()).fold(fs.root(), |folder, name| {
        let mut found = None;
        fs.read_dir(folder, &mut |entry| {
            found = (entry.name == name).then_some(entry.id);
            if found.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })
        .unwrap();
        found.unwrap_or_else(|| panic!("{}", name.escape_ascii()))
    })
}

#[test]
fn a_snap_on_ext4_is_read_through_the_file_that_it_lies_in() {
    let place = tempfile::tempdir().unwrap();
    let tree = place.path().join("tree");
    let snaps = tree.join("var/lib/snapd/snaps");
    std::fs::create_dir_all(&snaps).unwrap();
    stillframe_fixtures::write_sparse("squashfs-snap", &snaps.join("fixture_1.snap"));
    let image = place.path().join("image");
    let made =
        Command::new("mke2fs").args(["-q", "-t", "ext4", "-d"]).arg(&tree).arg(&image).arg("16M").status();
    assert!(made.unwrap().success());

    let volume = Arc::new(FileSource::open(&image).unwrap());
    let outer: Arc<dyn ReadOnlyFs> = stillframe_readers::open(FsKind::Ext, volume).unwrap().into();
    let snap = find(&*outer, b"var/lib/snapd/snaps/fixture_1.snap");
    let source = Arc::new(ContentSource::new(outer, snap).unwrap());
    assert_eq!(identify(&source).unwrap(), Content::Filesystem(FsKind::Squashfs));
    let inner = stillframe_readers::open(FsKind::Squashfs, source).unwrap();
    let expected = stillframe_fixtures::expected("squashfs-snap");
    assert!(expected.len() > 8);
    for entry in &expected {
        let id = find(&*inner, &entry.path);
        let metadata = inner.metadata(id).unwrap();
        assert_eq!(metadata.kind.letter(), entry.kind, "{}", entry.path.escape_ascii());
        if metadata.kind == FileKind::File {
            let content = read_whole(&mut *inner.open(id).unwrap(), 1 << 20).unwrap();
            assert_eq!(Sha256::digest(content)[..], entry.sha256.unwrap(), "{}", entry.path.escape_ascii());
        }
    }
}

//! Volumes whose first superblock is gone or damaged: a copy serves, the journal is replayed, and a fault tells.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::unwrap_used,
    clippy::panic,
    reason = "tests over images that the tests make or that lie beside their listing"
)]

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use stillframe_block::SparseMemorySource;
use stillframe_ext::{ExtFs, open};
use stillframe_fixtures::{expected, golden};
use stillframe_fs::{FileId, FileKind, FsError, ReadOnlyFs, read_whole};

fn clear(image: &mut SparseMemorySource, range: std::ops::Range<u64>) {
    range.for_each(|at| image.set(at, 0));
}

fn paths(fs: &dyn ReadOnlyFs, folder: FileId, path: &[u8], found: &mut BTreeSet<Vec<u8>>) {
    let mut entries = Vec::new();
    fs.read_dir(folder, &mut |entry| {
        entries.push((entry.name.to_vec(), entry.id));
        ControlFlow::Continue(())
    })
    .unwrap();
    for (name, id) in entries {
        let path = [path, b"/", &name].concat();
        if fs.metadata(id).unwrap().kind == FileKind::Directory {
            paths(fs, id, &path, found);
        }
        found.insert(path);
    }
}

fn all_paths(fs: &dyn ReadOnlyFs) -> BTreeSet<Vec<u8>> {
    let mut found = BTreeSet::new();
    paths(fs, fs.root(), b"", &mut found);
    found
}

const NOTE: &str = "the first superblock is damaged; a copy was read";

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
        assert_eq!(all_paths(&*fs), expected, "{name}");
        let faults = fs.faults();
        assert!(
            faults.iter().all(|fault| fault.what == "superblock magic") && faults.len() == 1,
            "{name}: {faults:?}"
        );
    }
}

#[test]
fn a_damaged_field_is_as_bad_as_none() {
    // Block size, inode size, size of descriptors, inodes in a group.
    for (at, byte) in [(0x18, 9), (0x58, 1), (0xfe, 3), (0x28, 0)] {
        let mut image = golden("ext4-fast-commit-1k");
        image.set(1024 + at, byte);
        if at == 0x28 {
            clear(&mut image, 1024 + at..1024 + at + 4);
        }
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

/// What `mke2fs` makes of a folder, with its first 64 KiB zeroed: the group descriptors are gone too.
#[test]
fn the_descriptors_behind_a_copy_serve_too() {
    let folder = std::env::temp_dir().join(format!("stillframe-ext-{}", std::process::id()));
    let tree = folder.join("tree");
    std::fs::create_dir_all(tree.join("etc")).unwrap();
    std::fs::write(tree.join("etc/hostname"), "a copy\n").unwrap();
    for (number, (mib, options)) in [
        (20_u64, &["-b", "1024"][..]),
        (70, &["-b", "2048", "-O", "^metadata_csum,uninit_bg"]),
        (140, &["-b", "4096"]),
        (140, &["-b", "4096", "-O", "^metadata_csum,^64bit,^uninit_bg"]),
        (300, &["-b", "4096", "-O", "sparse_super2,^resize_inode"]),
        (20, &["-b", "1024", "-O", "^has_journal,^extent,^metadata_csum,^64bit,^flex_bg"]),
    ]
    .into_iter()
    .enumerate()
    {
        let path: PathBuf = folder.join(format!("image-{number}"));
        std::fs::File::create(&path).unwrap().set_len(mib << 20).unwrap();
        let search_path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
        let made = Command::new("mke2fs")
            .args(["-q", "-F", "-t", "ext4", "-N", "512", "-d"])
            .arg(&tree)
            .args(options)
            .arg(&path)
            .env("PATH", search_path)
            .output();
        assert!(made.unwrap().status.success(), "{options:?}");
        let mut image = SparseMemorySource::from_reader(std::fs::File::open(&path).unwrap()).unwrap();
        std::fs::remove_file(&path).unwrap();
        let block_bytes = options.get(1).unwrap().parse::<u64>().unwrap();
        // The superblock and the first block of descriptors.
        clear(&mut image, 0..(2 * block_bytes).max(3072));
        let fs = open(Arc::new(image)).unwrap();
        assert_eq!(fs.description().notes, [NOTE], "{options:?}");
        let found = all_paths(&*fs);
        assert!(found.contains(b"/etc/hostname".as_slice()), "{options:?}: {found:?}");
        let mut hostname = None;
        let etc = fs.root();
        fs.read_dir(etc, &mut |entry| {
            if entry.name == b"etc" {
                hostname = Some(entry.id);
            }
            ControlFlow::Continue(())
        })
        .unwrap();
        let mut file = None;
        fs.read_dir(hostname.unwrap(), &mut |entry| {
            file = Some(entry.id);
            ControlFlow::Continue(())
        })
        .unwrap();
        assert_eq!(read_whole(&mut *fs.open(file.unwrap()).unwrap(), 100).unwrap(), b"a copy\n");
    }
    std::fs::remove_dir_all(folder).unwrap();
}

//! ext without its first superblock: known by a copy, and by nothing that only looks like one.

use std::path::{Path, PathBuf};

use stillframe_block::{BlockSource, SparseMemorySource};
use stillframe_probe::{Content, FsKind, probe, recognise};

use crate::tools::{Images, MIB, read_at, run, text};

const EXT: Content = Content::Filesystem(FsKind::Ext);

/// A filesystem of `mib` MiB whose first 64 KiB are zeros.
fn beheaded(images: &Images, mib: u64, arguments: &[&str]) -> PathBuf {
    let path = images.blank("image", mib * MIB);
    let mut arguments = [&["-q", "-F"], arguments].concat();
    arguments.push(text(&path));
    run("mkfs.ext4", &arguments);
    crate::tools::write_at(&path, 0, &[0; 64 << 10]);
    path
}

fn disk(path: &Path) -> SparseMemorySource {
    SparseMemorySource::from_reader(std::fs::File::open(path).unwrap()).unwrap()
}

/// The forms of ext that have a copy in reach, and where mke2fs puts it.
const FORMS: [(u64, &[&str], u64); 5] = [
    (16, &["-b", "1024"], 8193 * 1024),
    (40, &["-b", "2048"], 16_384 * 2048),
    (160, &["-b", "4096"], 32_768 * 4096),
    (160, &["-b", "4096", "-O", "^metadata_csum,^64bit"], 32_768 * 4096),
    (40, &["-b", "1024", "-O", "sparse_super2,^resize_inode"], 8193 * 1024),
];

#[test]
fn a_copy_in_its_place_is_ext() {
    let images = Images::new();
    for (mib, arguments, at) in FORMS {
        let path = beheaded(&images, mib, arguments);
        let disk = disk(&path);
        let found = probe(&disk).unwrap();
        assert_eq!((found.content, found.signature_at), (EXT, at), "{arguments:?}");
        assert_eq!(recognise(&disk).unwrap(), None, "{arguments:?}");
    }
}

#[test]
fn what_does_not_fit_its_place_is_nothing() {
    let images = Images::new();
    let (mib, arguments, at) = FORMS[3];
    let path = beheaded(&images, mib, arguments);
    let whole = disk(&path);
    let is_ext = |disk: &SparseMemorySource| probe(disk).unwrap().content == EXT;
    assert!(is_ext(&whole));
    // Magic, block size, group, blocks in a group, inodes, the first block: one wrong byte in each.
    for field in [0x38, 0x18, 0x5a, 0x20, 0x21, 0x00, 0x28, 0x14, 0x07] {
        let mut changed = whole.clone();
        let mut byte = [0];
        changed.read_exact_at(at + field, &mut byte).unwrap();
        changed.set(at + field, byte[0] ^ 0x40);
        assert!(!is_ext(&changed), "{field:#x}");
    }
    // The same copy one block further, in the place of group 3, and on a volume that is shorter than it says.
    let superblock = read_at(&path, at, 1024);
    for (len, place) in [(mib * MIB, at + 4096), (500 * MIB, 3 * at), (mib * MIB - 4096, at)] {
        let moved = images.blank("moved", len);
        crate::tools::write_at(&moved, place, &superblock);
        assert!(!is_ext(&disk(&moved)), "{len} {place}");
    }
}

#[test]
fn a_copy_with_a_wrong_checksum_is_nothing() {
    let images = Images::new();
    let (mib, arguments, at) = FORMS[0];
    let mut disk = disk(&beheaded(&images, mib, arguments));
    assert_eq!(probe(&disk).unwrap().content, EXT);
    let mut byte = [0];
    disk.read_exact_at(at + 0x78, &mut byte).unwrap();
    disk.set(at + 0x78, byte[0] ^ 1);
    assert_ne!(probe(&disk).unwrap().content, EXT);
}

//! A second opinion on ext: the crate `ext4-view` reads each image that it opens, and both must see the same.
#![allow(clippy::unwrap_used, clippy::arithmetic_side_effects, reason = "a test fails by panicking")]

use std::error::Error;
use std::path::Path;
use std::sync::Arc;

use ext4_view::{Ext4, Ext4Error, Ext4Read, FileType, PathBuf};
use sha2::{Digest, Sha256};
use stillframe_block::BlockSource;
use stillframe_fixtures::golden_names;
use stillframe_probe::FsKind;

use crate::harness::{Place, corpora};
use crate::listing::{Entry, Listing, assert_only, corpus_image, differences, listed, volumes};

/// Golden images that the crate does not open, and what it says.
const REFUSED: [(&str, &str); 18] = [
    ("ext3-dirty", "missing required journal features: 18"),
    ("ext4-casefold", "unsupported features: IncompatibleFeatures(0x20000)"),
    ("ext4-ea-inode", "unsupported features: IncompatibleFeatures(LARGE_EXTENDED_ATTRIBUTES_IN_INODES)"),
    ("ext4-fast-commit", "unsupported journal features: 32"),
    ("ext4-fast-commit-1k", "unsupported journal features: 32"),
    ("ext4-fast-commit-inline", "unsupported features: IncompatibleFeatures(DATA_IN_INODE)"),
    ("ext4-fast-commit-plain", "missing required journal features: 16"),
    ("ext4-fast-commit-stale", "unsupported journal features: 32"),
    ("ext4-fast-commit-torn", "unsupported journal features: 32"),
    ("ext4-inline-data", "unsupported features: IncompatibleFeatures(DATA_IN_INODE)"),
    ("ext4-journal", "journal contains an escaped data block"),
    ("ext4-journal-async", "missing required journal features: 18"),
    ("ext4-journal-csum-v2", "missing required journal features: 16"),
    ("ext4-journal-escaped", "missing required journal features: 18"),
    ("ext4-journal-wrapped", "missing required journal features: 18"),
    ("ext4-large-dir", "unsupported features: IncompatibleFeatures(LARGE_DIRECTORIES)"),
    ("ext4-meta-bg", "unsupported features: IncompatibleFeatures(META_BLOCK_GROUPS)"),
    (
        "ext4-xattrs",
        "unsupported features: IncompatibleFeatures(LARGE_EXTENDED_ATTRIBUTES_IN_INODES | DATA_IN_INODE)",
    ),
];

const HOLE: &str = "a hole over an indirect block, which the crate reads as block 0";
const BEFORE_1970: &str = "a time before 1970, which the crate calls invalid";
const AFTER_2038: &str = "a time past 2038, which the crate calls invalid";
const ENCRYPTED: &str = "encrypted, for the crate as for us";

/// What the crate cannot read of what it opens, and why: image, path.
const UNREADABLE: [(&str, &str, &str); 11] = [
    ("debian-gpt-ext4", "/etc/cron.d/backup", BEFORE_1970),
    ("debian-gpt-ext4", "/home/bob/projects/main.c", AFTER_2038),
    ("debian-gpt-ext4", "/srv/odd/dangling-link", BEFORE_1970),
    ("ext2-sparse", "/data/sparse.bin", HOLE),
    ("ext2-sparse", "/every-level", HOLE),
    ("ext2-sparse", "/hole-over-double", HOLE),
    ("ext2-sparse", "/hole-over-indirect", HOLE),
    ("ext2-sparse", "/hole-to-the-end", HOLE),
    ("ext4-encrypt", "/locked", ENCRYPTED),
    ("mbr-logical", "/data/sparse.bin", HOLE),
    ("test_disk1.bin", "/encrypted_dir", ENCRYPTED),
];

struct Source(Arc<dyn BlockSource>);

impl Ext4Read for Source {
    fn read(
        &mut self,
        start_byte: u64,
        dst: &mut [u8],
    ) -> Result<(), Box<dyn Error + Send + Sync + 'static>> {
        Ok(self.0.read_exact_at(start_byte, dst)?)
    }
}

/// What the crate lists, and the paths that it cannot read.
#[derive(Default)]
struct Seen {
    listing: Listing,
    unreadable: Vec<String>,
}

impl Seen {
    fn folder(&mut self, filesystem: &str, fs: &Ext4, folder: &PathBuf) -> Result<(), Ext4Error> {
        for entry in fs.read_dir(folder)? {
            let entry = entry?;
            let path = entry.path();
            if !matches!(entry.file_name().as_ref(), b"." | b"..")
                && self.entry(filesystem, fs, &path).is_err()
            {
                self.unreadable.push(path.display().to_string());
            }
        }
        Ok(())
    }

    fn entry(&mut self, filesystem: &str, fs: &Ext4, path: &PathBuf) -> Result<(), Ext4Error> {
        let metadata = fs.symlink_metadata(path)?;
        let kind = match metadata.file_type() {
            FileType::Regular => 'f',
            FileType::Directory => 'd',
            FileType::Symlink => 'l',
            FileType::BlockDevice => 'b',
            FileType::CharacterDevice => 'c',
            FileType::Fifo => 'p',
            FileType::Socket => 's',
        };
        let sha256 = (kind == 'f').then(|| sha256(fs, path)).transpose()?;
        let size_bytes = matches!(kind, 'f' | 'l').then(|| metadata.len());
        let key = (filesystem.to_owned(), path.as_ref().to_vec());
        self.listing.insert(key, Entry { kind, size_bytes, sha256 });
        if kind == 'd' { self.folder(filesystem, fs, path) } else { Ok(()) }
    }
}

fn sha256(fs: &Ext4, path: &PathBuf) -> Result<String, Ext4Error> {
    let mut file = fs.open(path)?;
    let mut hash = Sha256::new();
    let mut piece = vec![0; 64 * 1024];
    loop {
        let read = file.read_bytes(&mut piece)?;
        if read == 0 {
            break;
        }
        hash.update(piece.get(..read).unwrap());
    }
    Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Compares all ext filesystems of an image; says how many entries were the same.
fn compare(place: &Place, image: &str, file: &Path) -> usize {
    let (found, _) = listed(place, &[file]);
    let (mut compared, mut unreadable) = (0, Vec::new());
    for volume in volumes(file).into_iter().filter(|volume| volume.kind == FsKind::Ext) {
        let fs = match Ext4::load(Box::new(Source(volume.source))) {
            Ok(fs) => fs,
            Err(error) => {
                let refusal = REFUSED.iter().find(|(refused, _)| *refused == image);
                assert!(refusal.is_some_and(|(_, why)| error.to_string().ends_with(why)), "{image}: {error}");
                continue;
            }
        };
        assert!(
            REFUSED.iter().all(|(refused, _)| *refused != image),
            "{image} is opened: take it off the list"
        );
        let mut seen = Seen::default();
        seen.folder(&volume.short_name, &fs, &PathBuf::new("/")).unwrap();

        // What the crate cannot read is ours alone, whole folders of it too.
        let is_readable = |path: &[u8]| {
            !seen.unreadable.iter().any(|unreadable| {
                path.strip_prefix(unreadable.as_bytes())
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
            })
        };
        let readable: Listing = found
            .iter()
            .filter(|((filesystem, path), _)| *filesystem == volume.short_name && is_readable(path))
            .map(|(key, entry)| (key.clone(), entry.clone()))
            .collect();
        seen.listing.retain(|(_, path), _| is_readable(path));
        assert_only(image, &[], &differences(&seen.listing, &readable));
        compared += readable.len();
        unreadable.extend(seen.unreadable);
    }
    let known = UNREADABLE.iter().filter(|known| known.0 == image);
    unreadable.sort();
    assert_eq!(unreadable, known.map(|(_, path, _)| *path).collect::<Vec<_>>(), "{image}");
    compared
}

#[test]
fn both_readers_see_the_same_on_every_golden_image() {
    let mut compared = 0;
    for name in golden_names() {
        let place = Place::new();
        compared += compare(&place, &name, &place.golden(&name));
    }
    assert!(compared > 3_700, "only {compared} entries were compared");
}

#[test]
fn both_readers_see_the_same_on_the_images_of_others() {
    let Some(corpora) = corpora() else { return };
    let mut compared = 0;
    for image in [
        "dissect-extfs/ext4.bin.gz",
        "dissect-extfs/ext4_sparse.bin.gz",
        "dissect-extfs/ext4_symlink_test.bin.gz",
        "ext4-view/test_disk1.bin.zst",
        "ext4-view/test_disk_4k_block_journal.bin.zst",
    ] {
        let place = Place::new();
        let file = corpus_image(&place, &corpora.join("fs").join(image));
        compared += compare(&place, file.file_name().unwrap().to_str().unwrap(), &file);
    }
    assert!(compared > 11_700, "only {compared} entries were compared");
}

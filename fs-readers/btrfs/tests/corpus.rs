//! Images that others made, with listings that others made of them; damaged ones; and another reader's view.
#![allow(missing_docs, dead_code, reason = "a test; its helpers serve other tests too")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "test data is ours")]
#![allow(clippy::print_stderr, reason = "a test that cannot run says so")]

#[path = "../../xfs/tests/tree/mod.rs"]
mod tree;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lambutter::{BlockRead, Btrfs, Path};
use stillframe_block::{BlockSource, Budget, BudgetSource};
use stillframe_btrfs::{open, open_devices};
use stillframe_fs::FsError;

fn corpora() -> Option<PathBuf> {
    let corpora = std::env::var_os("STILLFRAME_CORPORA").map(PathBuf::from);
    if corpora.is_none() {
        eprintln!("STILLFRAME_CORPORA is not set: not tested");
    }
    corpora.map(|corpora| corpora.join("fs"))
}

#[test]
fn corpus_images_read_as_expected() {
    let Some(corpora) = corpora() else {
        return;
    };
    // The name of the image, that of its listing, and whether the listing takes each subvolume by itself.
    for (image, rows, by_subvolume) in [
        ("btrfs-compression.bin.gz", "btrfs-compression.bin.gz", false),
        ("btrfs-default.bin.gz", "btrfs-default.bin.gz", false),
        ("btrfs-raid1-1.bin.gz", "btrfs-raid1", false),
        ("btrfs-raid1-2.bin.gz", "btrfs-raid1", false),
        ("btrfs-sparse.bin.gz", "btrfs-sparse.bin.gz", true),
        ("btrfs-subvolume.bin.gz", "btrfs-subvolume.bin.gz", true),
        ("btrfs-subvolume-custom-default.bin.gz", "btrfs-subvolume-custom-default.bin.gz", true),
        ("btrfs-subvolume-nested.bin.gz", "btrfs-subvolume-nested.bin.gz", true),
        ("btrfs-subvolume-snapshot.bin.gz", "btrfs-subvolume-snapshot.bin.gz", true),
    ] {
        let source = tree::decompressed("gzip", &corpora.join("dissect-btrfs").join(image));
        let fs = open(Arc::new(source)).unwrap_or_else(|error| panic!("{image}: {error}"));
        let (listing, errors) = tree::read_all(&*fs);
        assert!(errors.is_empty(), "{image}: {errors:?}");
        let rows = tree::expected_rows(&corpora.join(format!("expected/dissect-btrfs/{rows}.tsv")));
        let is_top = |row: &Vec<String>| row[4].starts_with("subvol=5");
        let rows: Vec<_> = rows.into_iter().filter(|row| !by_subvolume || is_top(row)).collect();
        tree::assert_rows(&listing, &rows, image);
        assert_eq!(listing.len(), rows.len(), "{image}");
    }
}

#[test]
fn sets_read_as_expected_and_parts_of_them_as_far_as_they_go() {
    let Some(corpora) = corpora() else {
        return;
    };
    for (set, names) in [("raid0", ["raid0-1", "raid0-2"]), ("raid1", ["raid1-2", "raid1-1"])] {
        let device = |name: &&str| -> Arc<dyn BlockSource> {
            let path = corpora.join(format!("dissect-btrfs/btrfs-{name}.bin.gz"));
            Arc::new(tree::decompressed("gzip", &path))
        };
        let devices: Vec<_> = names.iter().map(device).collect();
        let fs = open_devices(devices.clone()).unwrap();
        assert_eq!(fs.faults(), [], "{set}");
        let (listing, errors) = tree::read_all(&*fs);
        assert!(errors.is_empty(), "{set}: {errors:?}");
        let rows = tree::expected_rows(&corpora.join(format!("expected/dissect-btrfs/btrfs-{set}.tsv")));
        tree::assert_rows(&listing, &rows, set);
        for alone in devices {
            let Ok(fs) = open(alone) else {
                assert_eq!(set, "raid0");
                continue;
            };
            assert!(fs.description().notes.contains(&"one of 2 devices is missing"));
            let (part, errors) = tree::read_all(&*fs);
            assert_eq!(errors.is_empty(), set == "raid1", "{set}: {errors:?}");
            assert!(part.iter().all(|(path, facts)| listing.get(path) == Some(facts)));
            assert!(errors.iter().all(|(_, error)| error.to_string().contains("found missing")));
        }
    }
}

#[test]
fn fuzzed_images_end() {
    let Some(corpora) = corpora() else {
        return;
    };
    let mut outcomes = Vec::new();
    for entry in std::fs::read_dir(corpora.join("btrfs-progs-fuzz")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "xz") {
            continue;
        }
        let source: Arc<dyn BlockSource> = Arc::new(tree::decompressed("xz", &path));
        let budget = Budget { reads: 200_000, bytes: 4 << 30, time: Duration::from_secs(5) };
        let started = Instant::now();
        let outcome = open(Arc::new(BudgetSource::new(source, budget))).map(|fs| {
            let (listing, errors) = tree::read_all(&*fs);
            (listing.len(), errors.len())
        });
        assert!(started.elapsed() < Duration::from_secs(10), "{}", path.display());
        outcomes.push((path.file_name().unwrap().to_owned(), outcome));
    }
    outcomes.sort_by(|one, other| one.0.cmp(&other.0));
    assert_eq!(outcomes.len(), 17);
    // Damage in what finds everything else is told at open; elsewhere the rest is read.
    let mut opened = Vec::new();
    for (name, outcome) in &outcomes {
        match outcome {
            Ok((files, errors)) => opened.push((name.to_str().unwrap(), *files, *errors)),
            Err(error) => assert!(matches!(error, FsError::Corrupt(_)), "{}: {error}", name.display()),
        }
    }
    let expected = [
        ("bko-155201-wrong-chunk-item-in-root-tree.raw.xz", 0, 0),
        ("bko-161821.raw.xz", 0, 1),
        ("bko-172861.raw.xz", 0, 1),
        ("superblock-total-bytes-0.raw.xz", 9, 0),
        ("sys-chunk-stripe-len-bogus.raw.xz", 9, 0),
    ];
    assert_eq!(opened, expected);
}

struct Reader(Arc<dyn BlockSource>);

impl BlockRead for Reader {
    type Error = stillframe_block::ReadError;

    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> Result<(), Self::Error> {
        self.0.read_exact_at(offset, buffer)
    }
}

/// Everything that lambutter lists under `path`, with its content.
fn other_reader(fs: &mut Btrfs<Reader>, path: &[u8], found: &mut Vec<(Vec<u8>, u32, Vec<u8>)>) {
    let folder = if path.is_empty() { &b"/"[..] } else { path };
    for entry in fs.read_dir(Path::new(folder).unwrap()).unwrap() {
        let path = [path, b"/", &entry.name].concat();
        let metadata = fs.metadata(&entry.inode).unwrap();
        let content = if metadata.is_file() {
            let mut content = fs.read_file(Path::new(&path).unwrap()).unwrap();
            content.truncate(tree::HASHED_BYTES);
            tree::hex(&<sha2::Sha256 as sha2::Digest>::digest(content))
        } else {
            Vec::new()
        };
        found.push((path.clone(), metadata.mode & 0o7777, content));
        if metadata.is_dir() {
            other_reader(fs, &path, found);
        }
    }
}

/// Images of btrfs-progs that come without a listing, as another reader sees them.
#[test]
fn another_reader_sees_the_same() {
    let Some(corpora) = corpora() else {
        return;
    };
    let mut files = 0;
    for image in [
        "fsck-tests/018-leaf-crossing-stripes/default_case.raw.xz",
        "fsck-tests/028-unaligned-super-dev-sizes/dev_and_super_mismatch_unaligned.raw.xz",
        "fsck-tests/040-compressed-nodatasum/compressed_extent_without_csum.raw.xz",
        "fsck-tests/055-super-num-devs-mismatch/default.raw.xz",
        "misc-tests/025-zstd-compression/compress.raw.xz",
        "misc-tests/069-btrfstune-resume-bgt/half-converted-bgt.raw.xz",
    ] {
        let path = corpora.join("btrfs-progs").join(image);
        let source: Arc<dyn BlockSource> = Arc::new(tree::decompressed("xz", &path));
        let fs = open(source.clone()).unwrap_or_else(|error| panic!("{image}: {error}"));
        let (listing, errors) = tree::read_all(&*fs);
        assert!(errors.is_empty(), "{image}: {errors:?}");
        let len = source.len_bytes();
        let mut other = Btrfs::open_subvol_id(Reader(source), len, 5).unwrap();
        let mut found = Vec::new();
        other_reader(&mut other, b"", &mut found);
        assert_eq!(found.len(), listing.len(), "{image}");
        for (path, mode, content) in found {
            let facts = &listing[&path];
            assert_eq!(facts.mode, mode, "{image}");
            if facts.kind == 'f' {
                files += 1;
                assert_eq!(facts.content, content, "{image}: {}", String::from_utf8_lossy(&path));
            }
        }
    }
    assert!(files > 3, "{files} files compared");
}

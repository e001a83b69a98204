//! Golden XFS images: names, contents, owners, times, links, flags and extended attributes as the kernel shows them.
#![allow(missing_docs, dead_code, reason = "a test; its helpers serve other tests too")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "test data is ours")]

mod tree;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use sha2::{Digest, Sha256};
use stillframe_block::{BlockSource, CountingSource, SparseMemorySource};
use stillframe_fixtures::{expected, golden, golden_names, unescaped};
use stillframe_fs::{FileContent, FileId, FileKind, Metadata, ReadOnlyFs};

type Files = BTreeMap<Vec<u8>, (FileId, Metadata)>;

fn files(fs: &dyn ReadOnlyFs) -> Files {
    let mut files = Files::new();
    let mut folders = vec![(Vec::new(), fs.root())];
    while let Some((path, folder)) = folders.pop() {
        fs.read_dir(folder, &mut |entry| {
            let path = [&path[..], b"/", entry.name].concat();
            let metadata = fs.metadata(entry.id).unwrap();
            assert!(entry.kind.is_none_or(|kind| kind == metadata.kind), "{}", path.escape_ascii());
            if metadata.kind == FileKind::Directory {
                folders.push((path.clone(), entry.id));
            }
            assert!(files.insert(path, (entry.id, metadata)).is_none());
            ControlFlow::Continue(())
        })
        .unwrap();
    }
    files
}

fn images() -> impl Iterator<Item = (String, Box<dyn ReadOnlyFs>)> {
    golden_names().into_iter().filter(|name| name.starts_with("xfs-")).map(|name| {
        let fs = stillframe_xfs::open(Arc::new(golden(&name))).unwrap();
        (name, fs)
    })
}

/// The rows of a list beside a golden image, without the filesystem's name.
fn rows(image: &str, list: &str) -> Vec<Vec<String>> {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/golden");
    let text = std::fs::read_to_string(golden.join(format!("{image}.{list}.tsv"))).unwrap_or_default();
    text.lines().map(|line| line.split('\t').skip(1).map(str::to_owned).collect()).collect()
}

fn content(file: &mut dyn FileContent) -> Vec<u8> {
    let mut content = vec![0; usize::try_from(file.len_bytes()).unwrap()];
    let read = file.read_at(0, &mut content).unwrap();
    assert_eq!(read, content.len());
    content
}

#[test]
fn names_contents_and_owners_are_what_the_kernel_shows() {
    let mut seen = BTreeSet::new();
    for (name, fs) in images() {
        let mut files = files(&*fs);
        for entry in expected(&name) {
            let shown = format!("{name}: {}", entry.path.escape_ascii());
            let (id, metadata) = files.remove(&entry.path).unwrap_or_else(|| panic!("{shown} is missing"));
            assert_eq!(metadata.kind.letter(), entry.kind, "{shown}");
            assert_eq!(metadata.mode.map(|mode| mode & 0o7777), entry.mode, "{shown}");
            assert_eq!((metadata.uid, metadata.gid), (entry.uid, entry.gid), "{shown}");
            assert_eq!(metadata.modified.map(|time| time.seconds), entry.modified_seconds, "{shown}");
            if let Some(size) = entry.size_bytes {
                assert_eq!(metadata.size_bytes, size, "{shown}");
            }
            if let Some(sum) = entry.sha256 {
                let content = content(&mut *fs.open(id).unwrap());
                assert!(*Sha256::digest(&content) == sum, "{shown}");
            }
        }
        assert!(files.is_empty(), "{name}: {:?}", files.keys().map(|path| path.escape_ascii().to_string()));
        assert!(fs.faults().is_empty(), "{name}");
        let is_dirty = name.starts_with("xfs-log-") || name == "xfs-dirty";
        assert_eq!(fs.description().dirty, Some(is_dirty), "{name}");
        seen.insert(name);
    }
    assert!(seen.len() >= 9, "{seen:?}");
}

#[test]
fn inode_numbers_links_times_and_flags_are_what_the_kernel_shows() {
    let mut compared = 0;
    for (name, fs) in images() {
        let files = files(&*fs);
        for row in rows(&name, "inodes").iter().filter(|row| row[0] != "/") {
            let (id, metadata) = &files[&unescaped(&row[0]).unwrap()];
            let changed = metadata.changed.unwrap();
            let found = [
                id.number.to_string(),
                metadata.links.unwrap().to_string(),
                format!("{}.{:09}", changed.seconds, changed.nanoseconds),
                format!("{:#x}", metadata.flags.unwrap().0),
            ];
            for (found, expected) in found.iter().zip(&row[1..]).filter(|(_, expected)| *expected != "-") {
                assert_eq!(found, expected, "{name}: {row:?}");
            }
            compared += 1;
        }
    }
    assert!(compared > 1000, "{compared}");
}

#[test]
fn extended_attributes_are_what_the_kernel_shows() {
    let mut compared = 0;
    for (name, fs) in images() {
        let listed = rows(&name, "xattrs");
        let mut expected = BTreeMap::<_, BTreeSet<_>>::new();
        for row in &listed {
            let of_file = expected.entry(unescaped(&row[0]).unwrap()).or_default();
            of_file.insert((unescaped(&row[1]).unwrap(), row[2].clone()));
        }
        for (path, (id, _)) in files(&*fs) {
            let attributes = fs.xattrs(id).unwrap();
            if listed.is_empty() {
                continue;
            }
            let found: BTreeSet<_> = attributes
                .into_iter()
                .map(|attribute| (attribute.name, String::from_utf8(tree::hex(&attribute.value)).unwrap()))
                .collect();
            compared += found.len();
            assert!(found == expected.remove(&path).unwrap_or_default(), "{name}: {}", path.escape_ascii());
        }
        expected.remove(&b"/"[..]);
        assert!(expected.is_empty(), "{name}: {:?}", expected.keys());
    }
    assert!(compared > 800, "{compared}");
}

/// What the extents of a file hold on the disk is the file, but for holes and for what lies in the inode.
#[test]
fn extents_hold_the_content() {
    let mut compared = 0_u64;
    for name in ["xfs-forms", "xfs-1k", "xfs-log-4k"] {
        let disk = golden(name);
        let fs = stillframe_xfs::open(Arc::new(disk.clone())).unwrap();
        for (path, (id, metadata)) in files(&*fs) {
            if metadata.kind != FileKind::File || metadata.size_bytes > 4 << 20 {
                continue;
            }
            let mut file = fs.open(id).unwrap();
            let mut left: Vec<u8> = content(&mut *file).into_iter().filter(|byte| *byte != 0).collect();
            let mut held = Vec::new();
            for extent in file.extents(0..metadata.size_bytes) {
                let mut bytes = vec![0; usize::try_from(extent.len_bytes()).unwrap()];
                disk.read_exact_at(extent.start_bytes, &mut bytes).unwrap();
                held.extend(bytes.into_iter().filter(|byte| *byte != 0));
                compared += extent.len_bytes();
            }
            left.retain(|byte| *byte != 0);
            assert!(left == held, "{name}: {}", path.escape_ascii());
        }
    }
    assert!(compared > 500_000, "{compared}");
}

/// Where the log begins and ends, in bytes, by the superblock.
fn log_of(disk: &SparseMemorySource) -> std::ops::Range<u64> {
    let mut sector = [0; 512];
    disk.read_exact_at(0, &mut sector).unwrap();
    let number =
        |at: usize, len: usize| sector[at..at + len].iter().fold(0, |all, byte| all << 8 | u64::from(*byte));
    let (block, group_blocks, log) = (number(4, 4), number(84, 4), number(48, 8));
    let group_log = number(124, 1);
    let start = ((log >> group_log) * group_blocks + (log & ((1 << group_log) - 1))) * block;
    start..start + number(96, 4) * block
}

/// Opening reads the part of the log that counts, once, and of the rest a few sectors.
#[test]
fn a_log_is_read_once_and_nothing_that_it_changes() {
    for name in golden_names().into_iter().filter(|name| name.starts_with("xfs-log-") || name == "xfs-dirty")
    {
        let disk = golden(&name);
        let log = log_of(&disk);
        let source = Arc::new(CountingSource::new(Arc::new(disk)));
        stillframe_xfs::open(source.clone()).unwrap();
        let counts = source.counts();
        // The search for the head reads up to 9 of the largest buffers, and single sectors.
        let most = log.end - log.start + 9 * (256 << 10) + 64 * 512;
        assert!(counts.bytes < most && counts.requests < 60, "{name}: {counts:?}, at most {most}");
    }
}

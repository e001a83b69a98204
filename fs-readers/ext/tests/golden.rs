//! Every golden ext image: names, contents, modes, owners, times, inode numbers, links and flags as the kernel has them.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests over golden images"
)]

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use sha2::{Digest, Sha256};
use stillframe_block::BlockSource;
use stillframe_ext::{ExtFs, open};
use stillframe_fixtures::{expected, golden, golden_names, unescaped};
use stillframe_fs::{Extent, FileId, FileKind, FsError, Metadata, ReadOnlyFs, read_whole};

type Files = BTreeMap<Vec<u8>, (FileId, Metadata)>;

fn walk(fs: &dyn ReadOnlyFs, folder: FileId, path: &[u8], files: &mut Files) {
    let mut entries = Vec::new();
    let end = fs.read_dir(folder, &mut |entry| {
        entries.push((entry.name.to_vec(), entry.id, entry.kind));
        ControlFlow::Continue(())
    });
    if !matches!(end, Err(FsError::Encrypted(_))) {
        end.unwrap();
    }
    for (name, id, kind) in entries {
        let path = [path, b"/", &name].concat();
        let metadata = fs.metadata(id).unwrap_or_else(|error| panic!("{}: {error}", path.escape_ascii()));
        assert!(kind.is_none_or(|kind| kind == metadata.kind), "{}", path.escape_ascii());
        if metadata.kind == FileKind::Directory {
            walk(fs, id, &path, files);
        }
        assert!(
            files.insert(path.clone(), (id, metadata)).is_none(),
            "{} is there twice",
            path.escape_ascii()
        );
    }
}

/// The golden images that are one ext filesystem.
fn images() -> Vec<(String, Arc<dyn BlockSource>)> {
    let names = golden_names().into_iter().filter(|name| name.starts_with("ext"));
    names.map(|name| (name.clone(), Arc::new(golden(&name)) as Arc<dyn BlockSource>)).collect()
}

fn files(fs: &dyn ReadOnlyFs) -> Files {
    let mut files = Files::new();
    walk(fs, fs.root(), b"", &mut files);
    files
}

#[test]
fn names_contents_and_owners_are_what_the_kernel_shows() {
    for (name, image) in images() {
        let fs = open(image).unwrap();
        assert_eq!(fs.description().reader, "stillframe-ext", "{name}");
        let mut files = files(&*fs);
        for entry in expected(&name) {
            let shown = format!("{name}: {}", entry.path.escape_ascii());
            if name == "ext4-encrypt" && entry.path.starts_with(b"/locked/") {
                continue;
            }
            let (id, metadata) = files.remove(&entry.path).unwrap_or_else(|| panic!("{shown} is missing"));
            assert_eq!(metadata.kind.letter(), entry.kind, "{shown}");
            assert_eq!(metadata.mode.map(|mode| mode & 0o7777), entry.mode, "{shown}");
            assert_eq!((metadata.uid, metadata.gid), (entry.uid, entry.gid), "{shown}");
            if let Some(size) = entry.size_bytes {
                assert_eq!(metadata.size_bytes, size, "{shown}");
            }
            if let Some(seconds) = entry.modified_seconds {
                assert_eq!(metadata.modified.unwrap().seconds, seconds, "{shown}");
            }
            // The longest are sparse, and take long to hash; the end-to-end tests do.
            if let Some(sha256) = entry.sha256.filter(|_| metadata.size_bytes < 8 << 20) {
                let content = read_whole(&mut *fs.open(id).unwrap(), 8 << 20).unwrap();
                assert!(*Sha256::digest(&content) == sha256, "{shown}");
            }
        }
        assert!(
            files.is_empty(),
            "{name}: {:?}",
            files.keys().map(|path| path.escape_ascii().to_string()).collect::<Vec<_>>()
        );
        assert!(fs.faults().is_empty(), "{name}: {:?}", fs.faults());
    }
}

/// The rows of a list that lies beside a golden image, without the filesystem's name.
fn rows(image: &str, list: &str) -> Option<Vec<Vec<String>>> {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/golden");
    let text = std::fs::read_to_string(golden.join(format!("{image}.{list}.tsv"))).ok()?;
    Some(text.lines().map(|line| line.split('\t').skip(1).map(str::to_owned).collect()).collect())
}

#[test]
fn inode_numbers_links_times_and_flags_are_what_the_kernel_shows() {
    let mut compared = 0;
    for (name, image) in images() {
        let Some(rows) = rows(&name, "inodes") else { continue };
        let fs = open(image).unwrap();
        let files = files(&*fs);
        for row in rows.iter().filter(|row| row[0] != "/") {
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
    assert!(compared > 400, "{compared}");
}

/// Without the fast commits another tree is seen: the disks are what their names say.
#[test]
fn what_only_fast_commits_tell_is_seen() {
    for name in [
        "ext4-fast-commit",
        "ext4-fast-commit-1k",
        "ext4-fast-commit-plain",
        "ext4-fast-commit-inline",
        "ext4-fast-commit-torn",
    ] {
        let fs = ExtFs::open(Arc::new(golden(name))).unwrap();
        assert_eq!(fs.description().notes, ["journal replayed", "fast commits replayed"], "{name}");
    }
    let stale = ExtFs::open(Arc::new(golden("ext4-fast-commit-stale"))).unwrap();
    assert_eq!(stale.description().notes, ["journal replayed"]);
}

#[test]
fn extended_attributes_are_what_the_kernel_shows() {
    let mut compared = 0;
    for (name, image) in images() {
        let Some(rows) = rows(&name, "xattrs") else { continue };
        let fs = open(image).unwrap();
        let mut expected = BTreeMap::<_, Vec<_>>::new();
        for row in &rows {
            let of_file = expected.entry(unescaped(&row[0]).unwrap()).or_default();
            of_file.push((unescaped(&row[1]).unwrap(), row[2].clone()));
        }
        let mut files = files(&*fs);
        files.insert(b"/".to_vec(), (fs.root(), fs.metadata(fs.root()).unwrap()));
        for (path, (id, _)) in files {
            let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
            let found = fs.xattrs(id).unwrap();
            let mut found: Vec<_> = found.into_iter().map(|found| (found.name, hex(&found.value))).collect();
            found.sort();
            let mut expected = expected.remove(&path).unwrap_or_default();
            expected.sort();
            assert!(found == expected, "{name}: {}: {found:?}, not {expected:?}", path.escape_ascii());
            compared += found.len();
        }
        assert!(expected.is_empty(), "{name}: {expected:?}");
    }
    assert!(compared > 60, "{compared}");
}

/// Of files without holes the extents are all there is; nothing of these images is in their journal.
#[test]
fn extents_are_where_the_content_lies() {
    let (mut dense, mut with_holes, mut inline) = (0, 0, 0);
    for name in ["ext4-extents", "ext2-sparse", "ext4-bigalloc", "ext4-inline-data", "ext4-fast-commit-stale"]
    {
        let image = Arc::new(golden(name));
        let fs = open(image.clone()).unwrap();
        for (path, (id, metadata)) in files(&*fs) {
            let Ok(mut file) = fs.open(id) else { continue };
            let extents = file.extents(0..u64::MAX);
            let len: u64 = extents.iter().map(Extent::len_bytes).sum();
            let shown = format!("{name}: {}", path.escape_ascii());
            assert!(extents.iter().all(|extent| extent.device == 0) && len <= metadata.size_bytes, "{shown}");
            if len < metadata.size_bytes {
                with_holes += 1;
                inline += usize::from(extents.is_empty() && metadata.size_bytes < 200);
                continue;
            }
            let mut bytes = Vec::new();
            for extent in extents {
                let start = bytes.len();
                bytes.resize(start + usize::try_from(extent.len_bytes()).unwrap(), 0);
                image.read_exact_at(extent.start_bytes, &mut bytes[start..]).unwrap();
            }
            assert!(bytes == read_whole(&mut *file, 8 << 20).unwrap(), "{shown}");
            dense += usize::from(!bytes.is_empty());
        }
    }
    assert!(dense > 40 && with_holes > 5 && inline > 5, "{dense} {with_holes} {inline}");
}

//! Images that others made: a journal with fast commits, and the damaged ones that `e2fsck(8)` is tested with.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::arithmetic_side_effects,
    clippy::print_stderr,
    reason = "tests over images of others; one that cannot run says so"
)]

mod support;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest, Sha256};
use stillframe_block::{Budget, BudgetSource, SparseMemorySource};
use stillframe_ext::{ExtFs, open};
use stillframe_fs::{ReadOnlyFs, read_whole};

use support::{entries, tree};

fn e2fsprogs() -> Option<PathBuf> {
    let corpora = std::env::var_os("STILLFRAME_CORPORA").map(PathBuf::from);
    if corpora.is_none() {
        eprintln!("STILLFRAME_CORPORA is not set: not tested");
    }
    corpora.map(|corpora| corpora.join("fs/e2fsprogs"))
}

fn decompressed(path: &Path) -> SparseMemorySource {
    let output = Command::new("gzip").arg("-cd").arg(path).output().unwrap();
    assert!(output.status.success(), "{}", path.display());
    SparseMemorySource::from_reader(&*output.stdout).unwrap()
}

/// What debugfs lists of it after e2fsck has replayed it, and the kernel's contents.
#[test]
fn fast_commits_that_e2fsprogs_recovers_are_recovered() {
    let Some(folder) = e2fsprogs() else { return };
    let fs = open(Arc::new(decompressed(&folder.join("j_recover_fast_commit/image.gz")))).unwrap();
    let mut listed = Vec::new();
    for (path, id) in tree(&*fs) {
        let content = fs.open(id).map(|mut file| read_whole(&mut *file, 1 << 20).unwrap());
        let start = content.map(|content| {
            Sha256::digest(&content).iter().take(4).fold(0, |all, byte| all << 8 | u32::from(*byte))
        });
        listed.push((String::from_utf8(path).unwrap(), id.number, start.ok()));
    }
    let expected = [
        ("/a", 12, None),
        ("/a/data", 13, Some(0x8a39_d2ab)),
        ("/a/new", 14, Some(0xf2ca_1bb6)),
        ("/lost+found", 11, None),
    ];
    assert_eq!(listed, expected.map(|(path, inode, sum)| (path.to_owned(), inode, sum)));
    assert!(fs.faults().is_empty(), "{:?}", fs.faults());
}

#[test]
fn the_damaged_images_of_e2fsck_end() {
    let Some(folder) = e2fsprogs() else { return };
    let (mut opened, mut files, mut attributes) = (0, 0, 0);
    for folder in std::fs::read_dir(folder).unwrap() {
        let path = folder.unwrap().path().join("image.gz");
        if !path.exists() {
            continue;
        }
        let budget = Budget { reads: 2_000_000, bytes: 4 << 30, time: Duration::from_secs(120) };
        let source = Arc::new(BudgetSource::new(Arc::new(decompressed(&path)), budget));
        let Ok(fs) = ExtFs::open(source.clone()) else { continue };
        opened += 1;
        let mut folders = vec![fs.root()];
        let mut seen = BTreeSet::new();
        while let Some(folder) = folders.pop() {
            for (_, id) in entries(&fs, folder).unwrap_or_default() {
                if !seen.insert(id) {
                    continue;
                }
                folders.push(id);
                files += usize::from(fs.metadata(id).is_ok());
                attributes += fs.xattrs(id).map_or(0, |found| found.len());
                let Ok(mut file) = fs.open(id) else { continue };
                let _ = file.extents(0..u64::MAX);
                let _ = file.read_at(file.len_bytes() / 2, &mut [0; 4096]);
            }
        }
        assert!(source.exhausted().is_none(), "{}", path.display());
    }
    assert!(
        opened > 60 && files > 200 && attributes > 5,
        "{opened} opened, {files} files, {attributes} attributes"
    );
}

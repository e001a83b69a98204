//! Images and listings of other projects, where the variable `STILLFRAME_CORPORA` says they are.

use std::path::{Path, PathBuf};
use std::process::Command;

use stillframe_fs::FileKind;

use crate::support::{open, read_all, sha256, walk};

fn corpora() -> Option<PathBuf> {
    let folder = std::env::var_os("STILLFRAME_CORPORA").map(PathBuf::from);
    if folder.is_none() {
        eprintln!("skipped: STILLFRAME_CORPORA is not set");
    }
    folder
}

fn unpacked(tool: &str, path: &Path) -> Vec<u8> {
    let output = Command::new(tool).arg("-dc").arg(path).output().unwrap();
    assert!(output.status.success(), "{tool} {}", path.display());
    output.stdout
}

/// Compares with rows of path, kind, size, SHA-256.
fn compare(image: Vec<u8>, listing: &Path) -> usize {
    let fs = open(image);
    let mut found = Vec::new();
    for (path, entry) in walk(&*fs) {
        let path = String::from_utf8(path).unwrap();
        let metadata = fs.metadata(entry.id).unwrap();
        let mut row =
            |path: String, kind, size: u64, hash| found.push(format!("/{path}\t{kind}\t{size}\t{hash}"));
        match entry.kind {
            FileKind::Directory => row(path.clone(), "d", 0, "-".to_owned()),
            _ => {
                let content = read_all(&mut *fs.open(entry.id).unwrap()).unwrap();
                row(path.clone(), "f", metadata.size_bytes, sha256(&content));
            }
        }
        for stream in fs.alternate_streams(entry.id).unwrap() {
            let content = read_all(&mut *fs.open_stream(entry.id, &stream.name).unwrap()).unwrap();
            let name = String::from_utf8(stream.name).unwrap();
            row(format!("{path}:{name}"), "f", stream.size_bytes, sha256(&content));
        }
    }
    let empty = sha256(b"");
    let listing = std::fs::read_to_string(listing).unwrap();
    let mut expected: Vec<_> = listing
        .lines()
        .map(|line| match line.split('\t').collect::<Vec<_>>()[..] {
            [path, "f-nodata", ..] => format!("{path}\tf\t0\t{empty}"),
            [path, kind, size, hash, ..] => format!("{path}\t{kind}\t{size}\t{hash}"),
            _ => panic!("short row"),
        })
        .collect();
    // It has no unnamed $DATA, and the listing left that row out.
    if !expected.iter().any(|row| row.starts_with("/$Secure\t")) {
        expected.push(format!("/$Secure\tf\t0\t{empty}"));
    }
    found.sort();
    expected.sort();
    let missing: Vec<_> = expected.iter().filter(|row| found.binary_search(row).is_err()).collect();
    let extra: Vec<_> = found.iter().filter(|row| expected.binary_search(row).is_err()).collect();
    assert!(missing.is_empty() && extra.is_empty(), "missing: {missing:#?}\nextra: {extra:#?}");
    expected.len()
}

#[test]
fn the_image_of_the_ntfs_crate() {
    let Some(corpora) = corpora() else { return };
    let image = unpacked("xz", &corpora.join("fs/ntfs-rs/testfs1.xz"));
    assert_eq!(compare(image, &corpora.join("fs/expected/ntfs-rs/testfs1.tsv")), 534);
}

#[test]
fn an_image_that_windows_made() {
    let Some(corpora) = corpora() else { return };
    let image = unpacked("gzip", &corpora.join("fs/dissect-ntfs/ntfs.bin.gz"));
    assert_eq!(compare(image, &corpora.join("fs/expected/dissect-ntfs/ntfs.bin.tsv")), 2086);
}

#[test]
fn owners_are_those_that_sleuthkit_names() {
    let Some(corpora) = corpora() else { return };
    let image = unpacked("gzip", &corpora.join("fs/dissect-ntfs/ntfs.bin.gz"));
    let file = std::env::temp_dir().join(format!("stillframe-ntfs-owners-{}", std::process::id()));
    std::fs::write(&file, &image).unwrap();
    let fs = open(image);
    let mut compared = 0;
    for (path, entry) in walk(&*fs).into_iter().step_by(7) {
        let record = (entry.id.number & 0xFFFF_FFFF_FFFF).to_string();
        let output = Command::new("istat").args(["-f", "ntfs"]).arg(&file).arg(&record).output().unwrap();
        let told = String::from_utf8_lossy(&output.stdout).into_owned();
        let Some(line) = told.lines().find(|line| line.starts_with("Security ID:")) else { continue };
        let Some((_, owner)) = line.split_once('(') else { continue };
        let owners = fs.owners(entry.id).unwrap().unwrap();
        let shown = owners.owner.map_or_else(String::new, |owner| owner.to_string());
        assert_eq!(format!("{shown})"), owner, "{}", path.escape_ascii());
        compared += 1;
    }
    std::fs::remove_file(&file).unwrap();
    assert!(compared > 250, "{compared}");
}

#[test]
fn a_volume_that_windows_did_not_unmount_is_dirty() {
    let Some(corpora) = corpora() else { return };
    let mut image = unpacked("gzip", &corpora.join("fs/dissect-ntfs/ntfs.bin.gz"));
    assert_eq!(open(image.clone()).description().dirty, Some(false));
    let pages: Vec<_> =
        (0..image.len()).step_by(4096).filter(|at| image[*at..].starts_with(b"RSTR")).collect();
    assert_eq!(pages.len(), 2);
    for page in pages {
        let area = page + usize::from(image[page + 0x18]);
        assert_eq!(image[area + 0x0E], 2);
        image[area + 0x0E] = 0;
    }
    let fs = open(image);
    assert_eq!(fs.description().dirty, Some(true));
    assert_eq!(fs.description().notes, ["transaction log not replayed"]);
}

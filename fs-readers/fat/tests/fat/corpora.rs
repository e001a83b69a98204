//! Images and listings of other projects, where the variable `STILLFRAME_CORPORA` says they are.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use stillframe_block::MemorySource;
use stillframe_fs::FsError;

use crate::made::rows;
use crate::support::{open, open_source};

fn corpora() -> Option<PathBuf> {
    let folder = std::env::var_os("STILLFRAME_CORPORA").map(PathBuf::from);
    if folder.is_none() {
        eprintln!("skipped: STILLFRAME_CORPORA is not set");
    }
    folder
}

fn unpacked(path: &Path) -> Vec<u8> {
    let output = Command::new("xz").arg("-dc").arg(path).output().unwrap();
    assert!(output.status.success(), "{}", path.display());
    output.stdout
}

#[test]
fn images_of_dissect() {
    let Some(corpora) = corpora() else { return };
    for (name, label) in [("fat12", "VOLLAB1"), ("fat32", "LABFAT32")] {
        let fs = open(unpacked(&corpora.join(format!("fs/dissect-fat/{name}.bin.xz"))));
        assert_eq!(fs.description().label.as_deref(), Some(label.as_bytes()));
        let listing =
            std::fs::read_to_string(corpora.join(format!("fs/expected/dissect-fat/{name}.tsv"))).unwrap();
        let mut expected: Vec<_> = listing
            .lines()
            .map(|row| row.trim_start_matches('/').trim_end().to_owned())
            // dissect lists the label as a file.
            .filter(|row| !row.starts_with(label))
            .collect();
        expected.sort();
        assert_eq!(expected.len(), 4);
        assert_eq!(rows(&*fs), expected, "{name}");
    }
}

#[test]
fn exfat_is_named() {
    let Some(corpora) = corpora() else { return };
    let image = unpacked(&corpora.join("fs/dissect-fat/exfat4m.bin.xz"));
    let opened = open_source(Arc::new(MemorySource(image)));
    assert!(matches!(opened, Err(FsError::Unsupported("exFAT"))));
}

//! An image of another project, where the variable `STILLFRAME_CORPORA` says it is.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use stillframe_block::MemorySource;

use crate::support::{content, find, walk};
use crate::volume::open;

/// What Windows wrote; exfat-fuse shows two empty files and a folder, of one second.
#[test]
fn an_image_of_dissect() {
    let Some(corpora) = std::env::var_os("STILLFRAME_CORPORA").map(PathBuf::from) else {
        eprintln!("skipped: STILLFRAME_CORPORA is not set");
        return;
    };
    let output =
        Command::new("xz").arg("-dc").arg(corpora.join("fs/dissect-fat/exfat4m.bin.xz")).output().unwrap();
    assert!(output.status.success());
    let fs = open(Arc::new(MemorySource(output.stdout))).unwrap();
    assert_eq!(fs.description().uuid.as_deref(), Some("E795-29BB"));
    let names: Vec<_> = walk(&*fs).into_keys().collect();
    assert_eq!(names, [&b"/file.txt"[..], b"/subdir", b"/subdir/sub.txt"]);
    for path in ["file.txt", "subdir/sub.txt"] {
        assert_eq!(content(&*fs, path).unwrap(), b"");
        assert_eq!(fs.metadata(find(&*fs, path)).unwrap().modified.unwrap().seconds, 1_736_714_913);
    }
    assert_eq!(fs.faults(), []);
}

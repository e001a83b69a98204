//! Images of other projects, where the variable `STILLFRAME_CORPORA` says they are.

use std::path::PathBuf;
use std::process::Command;

use sha2::{Digest, Sha256};

use crate::support::{content, find, walk};
use crate::volume::open_bytes;

/// Plain names; sums and times as xorriso extracts them.
#[test]
fn an_image_of_dfvfs() {
    let Some(corpora) = std::env::var_os("STILLFRAME_CORPORA").map(PathBuf::from) else {
        eprintln!("skipped: STILLFRAME_CORPORA is not set");
        return;
    };
    let output = Command::new("xz").arg("-dc").arg(corpora.join("fs/dfvfs/iso9660.raw.xz")).output().unwrap();
    assert!(output.status.success());
    let fs = open_bytes(output.stdout).unwrap();
    let names: Vec<_> = walk(&*fs).into_keys().map(|path| String::from_utf8(path).unwrap()).collect();
    assert_eq!(
        names,
        ["/a_directory", "/a_directory/a_file", "/a_directory/another_file", "/lost_found", "/passwords.txt"]
    );
    let sums = [
        ("passwords.txt", "02a2a6af"),
        ("a_directory/another_file", "c7fbc0e8"),
        ("a_directory/a_file", "4a49638d"),
    ];
    for (path, sum) in sums {
        let digest: String =
            Sha256::digest(content(&*fs, path).unwrap()).iter().map(|byte| format!("{byte:02x}")).collect();
        assert!(digest.starts_with(sum), "{path}");
        assert_eq!(fs.metadata(find(&*fs, path)).unwrap().modified.unwrap().seconds, 1_626_962_852, "{path}");
    }
    assert_eq!(fs.description().label.as_deref(), Some(&b"CDROM"[..]));
    assert_eq!(fs.faults(), []);
}

/// Cut behind its descriptors.
#[test]
fn descriptors_without_a_volume() {
    let Some(corpora) = std::env::var_os("STILLFRAME_CORPORA").map(PathBuf::from) else {
        eprintln!("skipped: STILLFRAME_CORPORA is not set");
        return;
    };
    let image =
        std::fs::read(corpora.join("fs/go-diskfs/filesystem/iso9660/testdata/volrecords.iso")).unwrap();
    assert!(open_bytes(image).is_err());
}

//! A subvolume's path by its references is the path on which a walk meets it.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test fails by panicking, and says what it skips"
)]

use std::collections::BTreeMap;
use std::io::Read;
use std::ops::ControlFlow;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use stillframe_block::MemorySource;
use stillframe_fs::{FileId, FileKind, ReadOnlyFs};

/// The path of each subvolume that a walk meets.
fn walked(fs: &dyn ReadOnlyFs) -> BTreeMap<u64, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders: Vec<(Vec<u8>, FileId)> = vec![(Vec::new(), fs.root())];
    while let Some((path, id)) = folders.pop() {
        fs.read_dir(id, &mut |entry| {
            let below = [&path, b"/".as_slice(), entry.name].concat();
            if entry.id.tree != id.tree {
                found.insert(entry.id.tree, below.clone());
            }
            if entry.kind == Some(FileKind::Directory) {
                folders.push((below, entry.id));
            }
            ControlFlow::Continue(())
        })
        .unwrap();
    }
    found
}

fn check(name: &str, image: Vec<u8>) -> usize {
    let fs = stillframe_btrfs::open(Arc::new(MemorySource(image))).unwrap();
    // A snapshot leaves empty folders where other subvolumes were entered; they are no subvolumes.
    let met: BTreeMap<u64, Vec<u8>> =
        walked(&*fs).into_iter().filter(|(number, _)| *number >= 256 && *number < u64::MAX - 255).collect();
    for (number, path) in &met {
        let shown = path.escape_ascii().to_string();
        assert_eq!(fs.subvolume_path(*number).unwrap().as_ref(), Some(path), "{name} {number} {shown}");
    }
    assert_eq!(fs.subvolume_path(5).unwrap(), Some(Vec::new()), "{name}");
    assert_eq!(fs.subvolume_path(99_999).unwrap(), None, "{name}");
    let default = fs.default_root().tree;
    assert!(default == 5 || met.contains_key(&default), "{name}: {default}");
    met.len()
}

#[test]
fn paths_are_those_of_the_walk() {
    let Some(corpora) = std::env::var_os("STILLFRAME_CORPORA") else {
        eprintln!("skipped: STILLFRAME_CORPORA is not set");
        return;
    };
    let folder = Path::new(&corpora).join("fs/dissect-btrfs");
    let mut subvolumes = 0;
    for name in ["subvolume", "subvolume-custom-default", "subvolume-nested", "subvolume-snapshot", "default"]
    {
        let path = folder.join(format!("btrfs-{name}.bin.gz"));
        let mut child = Command::new("gzip").arg("-dc").arg(&path).stdout(Stdio::piped()).spawn().unwrap();
        let mut image = Vec::new();
        child.stdout.take().unwrap().read_to_end(&mut image).unwrap();
        assert!(child.wait().unwrap().success(), "{}", path.display());
        subvolumes += check(name, image);
    }
    assert!(subvolumes >= 6, "{subvolumes}");
}

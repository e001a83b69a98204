//! A dirty log as the crate `lamxfs` replays it.
#![allow(missing_docs, reason = "a test")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "test data is ours")]

use std::ops::ControlFlow;
use std::sync::Arc;

use lamxfs::{BlockRead, Path, Xfs};
use stillframe_block::{BlockSource, ReadError, SparseMemorySource};
use stillframe_fixtures::golden;
use stillframe_fs::{FileId, FileKind, ReadOnlyFs, read_whole};

struct Disk(SparseMemorySource);

impl BlockRead for Disk {
    type Error = ReadError;

    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> Result<(), ReadError> {
        self.0.read_exact_at(offset, buffer)
    }
}

fn compare(ours: &dyn ReadOnlyFs, theirs: &mut Xfs<Disk>, path: &[u8], folder: FileId, compared: &mut usize) {
    let mut names = Vec::new();
    ours.read_dir(folder, &mut |entry| {
        names.push((entry.name.to_vec(), entry.id));
        ControlFlow::Continue(())
    })
    .unwrap();
    for (name, id) in names {
        let path = [path, b"/", &name].concat();
        let metadata = ours.metadata(id).unwrap();
        let shown = path.escape_ascii().to_string();
        match metadata.kind {
            FileKind::Directory => compare(ours, theirs, &path, id, compared),
            FileKind::File => {
                let content = read_whole(&mut *ours.open(id).unwrap(), 4 << 20).unwrap();
                assert!(theirs.read_file(Path::new(&path)).unwrap() == content, "{shown}");
            }
            FileKind::Symlink => {
                assert!(
                    theirs.read_link(Path::new(&path)).unwrap() == ours.read_link(id).unwrap(),
                    "{shown}"
                );
            }
            _ => {}
        }
        *compared += 1;
    }
}

#[test]
fn another_replay_shows_the_same() {
    for name in ["xfs-dirty", "xfs-log-4k", "xfs-log-wrapped"] {
        let disk = golden(name);
        let len = disk.len_bytes();
        let ours = stillframe_xfs::open(Arc::new(disk.clone())).unwrap();
        let mut theirs = Xfs::open(Disk(disk), len).unwrap();
        let mut compared = 0;
        compare(&*ours, &mut theirs, b"", ours.root(), &mut compared);
        assert!(compared > 100, "{name}: {compared}");
    }
}

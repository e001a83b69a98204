//! What several tests do: make a filesystem, and go through one.
#![allow(dead_code, reason = "not every test uses all of it")]

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use stillframe_block::SparseMemorySource;
use stillframe_fs::{FileId, FileKind, FsError, ReadOnlyFs};

/// The bytes of `/etc/hostname` on a filesystem that [`mke2fs`] made.
pub(crate) const HOSTNAME: &[u8] = b"as the test wrote it\n";

/// An ext4 of `mib` MiB with one file, made by `mke2fs` with `options`.
pub(crate) fn mke2fs(mib: u64, options: &[&str]) -> SparseMemorySource {
    static MADE: AtomicU32 = AtomicU32::new(0);
    let number = MADE.fetch_add(1, Ordering::Relaxed);
    let folder = std::env::temp_dir().join(format!("stillframe-ext-{}-{number}", std::process::id()));
    std::fs::create_dir_all(folder.join("tree/etc")).unwrap();
    std::fs::write(folder.join("tree/etc/hostname"), HOSTNAME).unwrap();
    let path = folder.join("image");
    std::fs::File::create(&path).unwrap().set_len(mib << 20).unwrap();
    let search_path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    let made = Command::new("mke2fs")
        .args(["-q", "-F", "-t", "ext4", "-N", "512", "-d"])
        .arg(folder.join("tree"))
        .args(options)
        .arg(&path)
        .env("PATH", search_path)
        .output()
        .unwrap_or_else(|error| panic!("mke2fs is needed by this test: {error}"));
    assert!(made.status.success(), "{options:?}: {}", String::from_utf8_lossy(&made.stderr));
    let image = SparseMemorySource::from_reader(std::fs::File::open(&path).unwrap()).unwrap();
    std::fs::remove_dir_all(folder).unwrap();
    image
}

pub(crate) fn entries(fs: &dyn ReadOnlyFs, folder: FileId) -> Result<Vec<(Vec<u8>, FileId)>, FsError> {
    let mut entries = Vec::new();
    fs.read_dir(folder, &mut |entry| {
        entries.push((entry.name.to_vec(), entry.id));
        ControlFlow::Continue(())
    })?;
    Ok(entries)
}

/// Every file by its path. Fails where a directory cannot be read.
pub(crate) fn tree(fs: &dyn ReadOnlyFs) -> BTreeMap<Vec<u8>, FileId> {
    let mut found = BTreeMap::new();
    let mut folders = vec![(Vec::new(), fs.root())];
    while let Some((path, folder)) = folders.pop() {
        for (name, id) in entries(fs, folder).unwrap() {
            let path = [&*path, b"/", &*name].concat();
            if fs.metadata(id).unwrap().kind == FileKind::Directory {
                folders.push((path.clone(), id));
            }
            found.insert(path, id);
        }
    }
    found
}

//! What the fuzz targets share: a golden disk changed as the fuzzer says, and a reader driven over all of it.
//!
//! A fuzzer finds no superblock by chance. So the targets of filesystems take a golden image and use the fuzzer's bytes as
//! changes to it, five for each: two choose a written page, two the place in it, one is the new byte.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use stillframe_block::{BlockSource, Budget, BudgetSource, SparseMemorySource};
use stillframe_fs::{FileId, FileKind, FsError, MemoryContent, ReadOnlyFs, read_full};
use stillframe_probe::FsKind;

/// The golden disk called `name` with the changes in `data`.
pub fn patched(name: &str, data: &[u8]) -> SparseMemorySource {
    type Goldens = Mutex<HashMap<String, (SparseMemorySource, Vec<u64>)>>;
    static GOLDENS: OnceLock<Goldens> = OnceLock::new();
    let mut goldens = GOLDENS.get_or_init(Mutex::default).lock().unwrap();
    let (golden, pages) = goldens.entry(name.to_owned()).or_insert_with(|| {
        let disk = stillframe_fixtures::golden(name);
        let pages = disk.written_pages().collect();
        (disk, pages)
    });
    let mut disk = golden.clone();
    for change in data.chunks_exact(5).take(64) {
        let page = pages[usize::from(u16::from_le_bytes([change[0], change[1]])) % pages.len()];
        let within = u64::from(u16::from_le_bytes([change[2], change[3]]) % 4096);
        disk.set(page + within, change[4]);
    }
    disk
}

/// Opens the filesystem on `disk`, lists every folder and reads every file, all within a small budget.
pub fn read_all(kind: FsKind, disk: impl BlockSource + 'static) {
    let budget = Budget { reads: 20_000, bytes: 64 << 20, time: Duration::from_secs(2) };
    let source = Arc::new(BudgetSource::new(Arc::new(disk), budget));
    let Ok(fs) = stillframe_readers::open(kind, source.clone()) else { return };
    let mut folders = vec![fs.root()];
    let mut seen = 0;
    while let Some(folder) = folders.pop() {
        let mut entries: Vec<FileId> = Vec::new();
        let _ = fs.read_dir(folder, &mut |entry| {
            assert!(!entry.name.is_empty() && !entry.name.contains(&b'/') && !entry.name.contains(&0));
            entries.push(entry.id);
            if entries.len() < 5000 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        });
        for entry in entries {
            seen += 1;
            if seen > 5000 || source.exhausted().is_some() {
                return;
            }
            if read_one(&*fs, entry).is_ok_and(|kind| kind == FileKind::Directory) && folders.len() < 1000 {
                folders.push(entry);
            }
        }
    }
    let _ = fs.faults();
}

fn read_one(fs: &dyn ReadOnlyFs, file: FileId) -> Result<FileKind, FsError> {
    let kind = fs.metadata(file)?.kind;
    let _ = fs.read_link(file);
    let mut piece = vec![0; 64 << 10];
    if let Ok(mut content) = fs.open(file) {
        // The start, and the end: what lies between is more of the same.
        let len = content.len_bytes();
        for offset in [0, len / 2, len.saturating_sub(100), len] {
            let _ = read_full(&mut *content, offset, &mut piece);
        }
    }
    for stream in fs.alternate_streams(file)? {
        let mut content = fs.open_stream(file, &stream.name)?;
        read_full(&mut *content, 0, &mut piece)?;
    }
    Ok(kind)
}

/// `data` as a file.
pub fn file(data: &[u8]) -> MemoryContent {
    MemoryContent(data.to_vec())
}

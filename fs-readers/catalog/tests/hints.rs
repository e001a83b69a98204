//! What a reader hints is what it reads: on the golden images, each file's hints lie inside what reading it asks of the
//! disk, and hold all of its content.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::reversed_empty_ranges,
    reason = "a test may panic, and a hint may be nonsense"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::ops::{ControlFlow, Range};
use std::sync::{Arc, Mutex};

use stillframe_block::{BlockSource, ReadError, SparseMemorySource, WindowSource};
use stillframe_fs::{FileContent, FileId, FileKind, ReadOnlyFs, read_full};
use stillframe_probe::FsKind;

const KINDS: [FsKind; 8] = [
    FsKind::Ext,
    FsKind::Xfs,
    FsKind::Btrfs,
    FsKind::Ntfs,
    FsKind::Fat,
    FsKind::ExFat,
    FsKind::Squashfs,
    FsKind::Iso9660,
];
const FILES_AT_MOST: usize = 60;
const FILE_BYTES_AT_MOST: u64 = 16 << 20;
/// All sectors of this size, on which every filesystem's blocks begin.
const UNIT: u64 = 512;

/// A disk that keeps what it is asked for.
struct Recorder {
    disk: SparseMemorySource,
    reads: Mutex<BTreeSet<u64>>,
    hints: Mutex<BTreeSet<u64>>,
}

fn units(range: Range<u64>) -> Range<u64> {
    if range.is_empty() { 0..0 } else { range.start / UNIT..range.end.div_ceil(UNIT) }
}

impl Recorder {
    fn taken(&self) -> (BTreeSet<u64>, BTreeSet<u64>) {
        let take = |set: &Mutex<BTreeSet<u64>>| std::mem::take(&mut *set.lock().unwrap());
        (take(&self.reads), take(&self.hints))
    }
}

impl BlockSource for Recorder {
    fn len_bytes(&self) -> u64 {
        self.disk.len_bytes()
    }

    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), ReadError> {
        let len = u64::try_from(buffer.len()).unwrap();
        self.reads.lock().unwrap().extend(units(offset..offset + len));
        self.disk.read_exact_at(offset, buffer)
    }

    fn prefetch(&self, ranges: &[Range<u64>]) {
        for range in ranges {
            assert!(range.start <= range.end && range.end <= self.len_bytes(), "{range:?}");
            self.hints.lock().unwrap().extend(units(range.clone()));
        }
    }

    fn wants_hints(&self) -> bool {
        true
    }
}

fn list(fs: &dyn ReadOnlyFs, folder: FileId, files: &mut Vec<FileId>, depth: usize) {
    let mut folders = Vec::new();
    // Images with damaged folders are among them.
    let _ = fs.read_dir(folder, &mut |entry| {
        match entry.kind {
            Some(FileKind::File) => files.push(entry.id),
            Some(FileKind::Directory) if depth < 20 => folders.push(entry.id),
            _ => {}
        }
        if files.len() < FILES_AT_MOST { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    });
    for folder in folders {
        if files.len() < FILES_AT_MOST {
            list(fs, folder, files, depth + 1);
        }
    }
}

fn read(file: &mut dyn FileContent, range: &Range<u64>) -> bool {
    let mut bytes = vec![0; usize::try_from(range.end - range.start).unwrap()];
    read_full(file, range.start, &mut bytes).is_ok()
}

/// Compares hints and reads of one range of a file; says how many bytes were hinted.
fn check(name: &str, fs: &dyn ReadOnlyFs, disk: &Recorder, id: FileId, range: &Range<u64>) -> u64 {
    // Once for the caches of the reader, so that what follows is content alone.
    let Ok(mut file) = fs.open(id) else { return 0 };
    if !read(&mut *file, range) {
        return 0;
    }
    let Ok(mut file) = fs.open(id) else { return 0 };
    disk.taken();
    file.will_read(range.clone());
    let (looked_up, hinted) = disk.taken();
    read(&mut *file, range);
    let (read, _) = disk.taken();
    let vain: Vec<_> = hinted.difference(&read).take(5).collect();
    assert!(vain.is_empty(), "{name} {id:?} {range:?}: hinted and not read, in sectors: {vain:?}");
    let missed: Vec<_> = read.iter().filter(|at| !hinted.contains(at) && !looked_up.contains(at)).collect();
    assert!(missed.is_empty(), "{name} {id:?} {range:?}: read and not hinted: {:?}", missed.first());
    u64::try_from(hinted.len()).unwrap() * UNIT
}

#[test]
fn hints_name_what_is_read_and_nothing_else() {
    let mut hinted: BTreeMap<&str, u64> = BTreeMap::new();
    for name in stillframe_fixtures::golden_names() {
        let disk = Arc::new(Recorder {
            disk: stillframe_fixtures::golden(&name),
            reads: Mutex::default(),
            hints: Mutex::default(),
        });
        let len = disk.len_bytes();
        // Whole disks, and the first partition where tools put it.
        for (start, kind) in [0, 1 << 20].into_iter().flat_map(|start| KINDS.map(|kind| (start, kind))) {
            let volume: Arc<dyn BlockSource> = Arc::new(WindowSource::new(disk.clone(), start, len));
            let Ok(fs) = stillframe_readers::open(kind, volume) else { continue };
            let mut files = Vec::new();
            list(&*fs, fs.root(), &mut files, 0);
            for id in files {
                let Ok(size) = fs.open(id).map(|file| file.len_bytes()) else { continue };
                let size = size.min(FILE_BYTES_AT_MOST);
                for range in [0..size, size / 3..size / 3 * 2] {
                    *hinted.entry(kind.name()).or_default() += check(&name, &*fs, &disk, id, &range);
                }
            }
        }
    }
    for kind in KINDS.map(FsKind::name) {
        assert!(hinted.get(kind).is_some_and(|bytes| *bytes >= 4096), "{kind}: {hinted:?}");
    }
}

/// Disks with random bytes changed: no hint panics or names what is not there, and none goes on for long.
#[test]
fn hints_on_damaged_disks_end() {
    let mut seed = 1_u64;
    let mut random = move |below: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % below
    };
    let mut hinted_files = 0;
    let images = [("whole-disk-ext4", FsKind::Ext), ("ext2-sparse", FsKind::Ext), ("xfs-forms", FsKind::Xfs)];
    for (name, kind) in images.into_iter().chain([("btrfs-zstd", FsKind::Btrfs)]) {
        let golden = stillframe_fixtures::golden(name);
        let pages: Vec<u64> = golden.written_pages().collect();
        for _ in 0..8 {
            let mut disk = golden.clone();
            for _ in 0..pages.len() / 4 {
                let page = pages[usize::try_from(random(u64::try_from(pages.len()).unwrap())).unwrap()];
                // Not the superblocks, without which there is nothing to open.
                if page > 128 * 1024 {
                    disk.set(page + random(4096), u8::try_from(random(256)).unwrap());
                }
            }
            let disk = Arc::new(Recorder { disk, reads: Mutex::default(), hints: Mutex::default() });
            let Ok(fs) = stillframe_readers::open(kind, disk.clone()) else { continue };
            let mut files = Vec::new();
            list(&*fs, fs.root(), &mut files, 0);
            for id in files {
                let Ok(mut file) = fs.open(id) else { continue };
                hinted_files += 1;
                for range in [0..u64::MAX, u64::MAX - 5..u64::MAX, 9_000..5, 4_095..70_000] {
                    file.will_read(range);
                }
            }
        }
    }
    assert!(hinted_files > 100, "{hinted_files} files could be opened");
}

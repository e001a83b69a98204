//! Golden disks: several devices, log trees, attributes; as the kernel shows them.
#![allow(missing_docs, dead_code, reason = "a test; its helpers serve other tests too")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "test data is ours")]

#[path = "../../xfs/tests/tree/mod.rs"]
mod tree;

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use stillframe_block::{BlockSource, Budget, BudgetSource, SparseMemorySource, WindowSource};
use stillframe_btrfs::{device, open, open_devices};
use stillframe_fixtures::{expected, golden, unescaped};
use stillframe_fs::{FileId, ReadOnlyFs};

/// Of the partitions of the disks with several devices (`fixtures/recipes/btrfs-devices.sh`).
const DEVICE_BYTES: u64 = 128 << 20;
/// How many devices each of them has, and how many of those may be missing.
const SETS: [(&str, usize, usize); 5] = [
    ("btrfs-raid0", 2, 0),
    ("btrfs-raid10", 4, 1),
    ("btrfs-raid5", 3, 1),
    ("btrfs-raid6", 4, 2),
    ("btrfs-converted", 2, 0),
];

type Devices = Vec<Arc<dyn BlockSource>>;

fn devices(disk: SparseMemorySource, count: usize) -> Devices {
    let disk: Arc<dyn BlockSource> = Arc::new(disk);
    let window = |number: usize| -> Arc<dyn BlockSource> {
        let start = (1 << 20) + u64::try_from(number).unwrap() * DEVICE_BYTES;
        Arc::new(WindowSource::new(disk.clone(), start, DEVICE_BYTES))
    };
    (0..count).map(window).collect()
}

fn ids(fs: &dyn ReadOnlyFs) -> BTreeMap<Vec<u8>, FileId> {
    let mut found = BTreeMap::new();
    let mut folders = vec![(Vec::new(), fs.root())];
    while let Some((path, folder)) = folders.pop() {
        let visit = &mut |entry: stillframe_fs::DirEntry<'_>| {
            let path = [&path[..], b"/", entry.name].concat();
            if entry.kind == Some(stillframe_fs::FileKind::Directory) {
                folders.push((path.clone(), entry.id));
            }
            found.insert(path, entry.id);
            ControlFlow::Continue(())
        };
        fs.read_dir(folder, visit).unwrap();
    }
    found
}

/// Compares all that could be read with the listing; says how much it was.
fn assert_right(listing: &tree::Listing, name: &str) -> usize {
    let rows: BTreeMap<_, _> = expected(name).into_iter().map(|row| (row.path.clone(), row)).collect();
    for (path, found) in listing {
        let shown = String::from_utf8_lossy(path);
        let row = rows.get(path).unwrap_or_else(|| panic!("{name}: {shown} is not there"));
        assert_eq!(found.kind, row.kind, "{name}: {shown}");
        if let Some(sum) = row.sha256 {
            assert_eq!(found.content, tree::hex(&sum), "{name}: {shown}");
        }
        if let Some(size) = row.size_bytes {
            assert_eq!(found.size_bytes, size, "{name}: {shown}");
        }
        assert_eq!(
            (Some(found.mode), Some(found.uid), Some(found.gid)),
            (row.mode, row.uid, row.gid),
            "{shown}"
        );
        if let Some(modified) = row.modified_seconds {
            assert_eq!(found.modified.0, modified, "{name}: {shown}");
        }
    }
    rows.len()
}

fn assert_whole(fs: &dyn ReadOnlyFs, name: &str) {
    let (listing, errors) = tree::read_all(fs);
    assert!(errors.is_empty(), "{name}: {errors:?}");
    assert_eq!(assert_right(&listing, name), listing.len(), "{name}");
}

/// The rows of a listing that `stillframe_fixtures` has no type for, without the filesystem.
fn rows(name: &str, suffix: &str) -> Vec<Vec<String>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/golden");
    let text = std::fs::read_to_string(folder.join(format!("{name}.{suffix}.tsv"))).unwrap();
    text.lines().map(|line| line.split('\t').skip(1).map(str::to_owned).collect()).collect()
}

#[test]
fn each_profile_reads_as_the_kernel_shows_it_in_any_order_of_devices() {
    for (name, count, _) in SETS {
        let mut devices = devices(golden(name), count);
        let first = device(&*devices[0]).unwrap();
        assert_eq!((first.number, first.devices), (1, u64::try_from(count).unwrap()));
        for (number, one) in (1..).zip(&devices) {
            let one = device(&**one).unwrap();
            assert_eq!(
                (one.number, one.filesystem, one.generation),
                (number, first.filesystem, first.generation)
            );
        }
        devices.rotate_left(1);
        devices.swap(0, count - 1);
        let fs = open_devices(devices).unwrap();
        assert_eq!(fs.faults(), [], "{name}");
        assert_whole(&*fs, name);
    }
}

#[test]
fn a_missing_device_is_told_and_made_up_for_where_that_can_be() {
    for (name, count, spare) in SETS {
        let all = devices(golden(name), count);
        for missing in 0..count {
            let mut left = all.clone();
            left.remove(missing);
            if spare == 2 {
                left.remove((missing + 1) % (count - 1));
            }
            let Ok(fs) = open_devices(left) else {
                panic!("{name} without {missing}: what finds everything is in copies");
            };
            assert_eq!(fs.faults()[0].what, "btrfs devices");
            assert!(fs.description().notes.iter().any(|note| note.ends_with("missing")));
            if spare > 0 {
                assert_whole(&*fs, name);
                continue;
            }
            let (listing, errors) = tree::read_all(&*fs);
            assert_right(&listing, name);
            assert!(
                errors.iter().all(|(_, error)| error.to_string().contains("found missing")),
                "{errors:?}"
            );
            assert!(!errors.is_empty() || name == "btrfs-converted", "{name}");
        }
    }
}

#[test]
fn bad_sectors_of_a_device_are_read_from_elsewhere() {
    for (name, count, spare) in SETS.into_iter().filter(|(.., spare)| *spare > 0) {
        let mut disk = golden(name);
        // All but the superblocks, and the file whose content nothing speaks for.
        let bad = (1 << 20) + DEVICE_BYTES..(1 << 20) + 2 * DEVICE_BYTES;
        let is_superblock = |page: u64| [64 << 10, 64 << 20].contains(&(page - bad.start));
        let pages: Vec<u64> = disk.written_pages().filter(|page| bad.contains(page)).collect();
        for page in pages.into_iter().filter(|page| !is_superblock(*page)) {
            for at in [17, 18, 2000] {
                disk.set(page + at, 0xa5);
            }
        }
        let fs = open_devices(devices(disk, count)).unwrap();
        let (mut listing, errors) = tree::read_all(&*fs);
        assert!(errors.is_empty(), "{name}: {errors:?}");
        listing.remove(&b"/stripes/no-checksums.txt"[..]).unwrap();
        assert_right(&listing, name);
        assert_eq!(fs.faults()[0].what, "copies with a bad checksum", "{name} {spare}");
    }
}

#[test]
fn what_missed_transactions_is_told_and_not_believed() {
    let name = "btrfs-stale";
    let [current, stale] = <[_; 2]>::try_from(devices(golden(name), 2)).ok().unwrap();
    for devices in [vec![current.clone(), stale.clone()], vec![stale.clone(), current.clone()]] {
        let fs = open_devices(devices).unwrap();
        assert_eq!(fs.faults()[0].what, "device generation");
        assert_whole(&*fs, name);
    }
    // Alone it is what it was.
    let fs = open(stale.clone()).unwrap();
    let old = ids(&*fs);
    assert!(old.contains_key(&b"/empty/entry-7"[..]) && !old.contains_key(&b"/later.txt"[..]));
    let fs = open_devices(vec![current.clone(), current.clone(), stale]).unwrap();
    assert_eq!(fs.faults()[0].what, "device number");
    assert_whole(&*fs, name);
    let other = devices(golden("btrfs-raid0"), 1).remove(0);
    assert!(open_devices(vec![current, other]).is_err());
    assert!(open_devices(Vec::new()).is_err());
}

#[test]
fn what_lies_where_extents_say_is_the_content() {
    for (name, count, _) in SETS {
        let devices = devices(golden(name), count);
        let fs = open_devices(devices.clone()).unwrap();
        let ids = ids(&*fs);
        for path in ["/stripes/long.txt", "/stripes/noise.bin", "/stripes/no-checksums.txt"] {
            let mut file = fs.open(ids[path.as_bytes()]).unwrap();
            let mut content = vec![0; usize::try_from(file.len_bytes()).unwrap()];
            file.read_at(0, &mut content).unwrap();
            let mut placed = Vec::new();
            for extent in file.extents(0..u64::MAX) {
                let mut bytes = vec![0; usize::try_from(extent.len_bytes()).unwrap()];
                let source = &devices[usize::try_from(extent.device).unwrap()];
                source.read_exact_at(extent.start_bytes, &mut bytes).unwrap();
                placed.extend(bytes);
            }
            placed.truncate(content.len());
            assert!(placed == content, "{name}: {path}");
        }
    }
}

#[test]
fn the_default_subvolume_is_named() {
    let fs = open_devices(devices(golden("btrfs-converted"), 2)).unwrap();
    assert_eq!(fs.default_root(), ids(&*fs)[&b"/systems/current"[..]]);
    assert!(fs.description().notes.contains(&"another subvolume than the top level is mounted by default"));
    let fs = open(Arc::new(golden("btrfs-fsync"))).unwrap();
    assert_eq!(fs.default_root(), fs.root());
}

#[test]
fn a_log_is_replayed_as_the_kernel_does() {
    for name in ["btrfs-fsync", "btrfs-log-names", "btrfs-log-content"] {
        let fs = open(Arc::new(golden(name))).unwrap();
        assert_eq!(fs.faults(), []);
        assert_eq!(
            (fs.description().dirty, &fs.description().notes[..]),
            (Some(true), &["log tree replayed"][..])
        );
        let (mut listing, errors) = tree::read_all(&*fs);
        assert!(errors.is_empty(), "{name}: {errors:?}");
        if name == "btrfs-fsync" {
            // The kernel gave these the time at which the listing was made.
            for folder in ["/folder", "/subvolume"] {
                listing.remove(folder.as_bytes()).unwrap();
            }
        }
        let count = listing.len() + if name == "btrfs-fsync" { 2 } else { 0 };
        assert_eq!(assert_right(&listing, name), count, "{name}");
    }
}

#[test]
fn attributes_links_times_and_flags_are_as_the_kernel_shows_them() {
    let mut with_flags = 0;
    for name in ["btrfs-attributes", "btrfs-log-names", "btrfs-log-content"] {
        let fs = open(Arc::new(golden(name))).unwrap();
        let mut ids = ids(&*fs);
        ids.insert(b"/".to_vec(), fs.root());
        let rewritten: Vec<_> = expected(name)
            .into_iter()
            .filter(|row| row.modified_seconds.is_none())
            .map(|row| row.path)
            .collect();
        let inodes = rows(name, "inodes");
        assert_eq!(inodes.len(), ids.len());
        for row in inodes {
            let path = unescaped(&row[0]).unwrap();
            let metadata = fs.metadata(ids[&path]).unwrap();
            if metadata.kind != stillframe_fs::FileKind::Directory {
                assert_eq!(metadata.links.unwrap().to_string(), row[2], "{name}: {}", row[0]);
            }
            let changed = metadata.changed.unwrap();
            if !rewritten.contains(&path) && (path != b"/" || name == "btrfs-attributes") {
                let changed = format!("{}.{:09}", changed.seconds, changed.nanoseconds);
                assert_eq!(changed, row[3], "{name}: {}", row[0]);
            }
            if row[4] != "-" {
                assert_eq!(format!("{:#x}", metadata.flags.unwrap().0), row[4], "{name}: {}", row[0]);
                with_flags += usize::from(row[4] != "0x0");
            }
        }
        let mut found = Vec::new();
        for (path, id) in &ids {
            for attribute in fs.xattrs(*id).unwrap() {
                let value = String::from_utf8(tree::hex(&attribute.value)).unwrap();
                found.push((path.clone(), attribute.name, value));
            }
        }
        let expected = rows(name, "xattrs").into_iter();
        let mut expected: Vec<_> = expected
            .map(|row| (unescaped(&row[0]).unwrap(), unescaped(&row[1]).unwrap(), row[2].clone()))
            .collect();
        found.sort();
        expected.sort();
        assert_eq!(found, expected, "{name}");
    }
    assert!(with_flags >= 9, "{with_flags} files with flags");
}

/// Nodes of the disk with their checksum type, found by the UUID that each carries.
fn nodes(disk: &SparseMemorySource) -> Vec<u64> {
    let mut superblock = vec![0; 4096];
    let start = if disk.len_bytes() > DEVICE_BYTES { 1 << 20 } else { 0 };
    disk.read_exact_at(start + (64 << 10), &mut superblock).unwrap();
    let mut found = Vec::new();
    for page in disk.written_pages() {
        let mut head = [0; 112];
        disk.read_exact_at(page, &mut head).unwrap();
        if head[32..48] == superblock[32..48] && head[64..72] != *b"_BHRfS_M" && page % 16384 == 0 {
            found.push(page);
        }
    }
    found
}

fn reseal(disk: &mut SparseMemorySource, at: u64, len: usize) {
    let mut bytes = vec![0; len];
    disk.read_exact_at(at, &mut bytes).unwrap();
    for (at, byte) in (at..).zip(crc32c::crc32c(&bytes[32..]).to_le_bytes()) {
        disk.set(at, byte);
    }
}

/// Damage behind matching checksums, in all copies alike or in one: it ends, soon, and in no panic.
#[test]
fn damage_of_sets_and_logs_ends() {
    let mut state = 0x5eed_0077_u64;
    for (name, count) in
        [("btrfs-raid6", 4), ("btrfs-converted", 2), ("btrfs-log-names", 1), ("btrfs-log-content", 1)]
    {
        let disk = golden(name);
        // The newest nodes last: log trees are written behind all others.
        let nodes = nodes(&disk);
        let mut outcomes = [0, 0, 0];
        for mutation in 0..if count == 1 { 60 } else { 20 } {
            let mut damaged = disk.clone();
            for _ in 0..3 {
                let node = nodes[usize::try_from(tree::next(&mut state)).unwrap() % nodes.len()];
                for _ in 0..3 {
                    let within = if tree::next(&mut state).is_multiple_of(2) { 600 } else { 16384 };
                    let at = 48 + tree::next(&mut state) % (within - 48);
                    damaged.set(node + at, u8::try_from(tree::next(&mut state) % 256).unwrap());
                }
                reseal(&mut damaged, node, 16384);
            }
            if mutation % 3 == 0 {
                let start = if count == 1 { 0 } else { 1 << 20 };
                let at = start + (64 << 10);
                let field = 811 + tree::next(&mut state) % 300;
                damaged.set(at + field, u8::try_from(tree::next(&mut state) % 256).unwrap());
                reseal(&mut damaged, at, 4096);
            }
            let sources = if count == 1 {
                vec![Arc::new(damaged) as Arc<dyn BlockSource>]
            } else {
                devices(damaged, count)
            };
            let budget = Budget { reads: 100_000, bytes: 2 << 30, time: Duration::from_secs(5) };
            let limited = sources
                .into_iter()
                .map(|source| -> Arc<dyn BlockSource> { Arc::new(BudgetSource::new(source, budget)) });
            let started = Instant::now();
            match open_devices(limited.collect()) {
                Ok(fs) => {
                    let (_, errors) = tree::read_all(&*fs);
                    outcomes[usize::from(errors.is_empty() && fs.faults().is_empty())] += 1;
                }
                Err(_) => outcomes[2] += 1,
            }
            assert!(
                started.elapsed() < Duration::from_secs(20),
                "{name} {mutation}: {:?}",
                started.elapsed()
            );
        }
        assert!(outcomes[0] > 3, "{name}: {outcomes:?}: too few to say anything");
    }
}

/// A disk that keeps what it is told and asked.
struct Recorder {
    disk: SparseMemorySource,
    hints: std::sync::Mutex<Vec<std::ops::Range<u64>>>,
    unannounced: std::sync::atomic::AtomicU64,
}

impl BlockSource for Recorder {
    fn len_bytes(&self) -> u64 {
        self.disk.len_bytes()
    }

    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), stillframe_block::ReadError> {
        let hints = self.hints.lock().unwrap();
        if !hints.iter().any(|hint| hint.contains(&offset)) {
            self.unannounced.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
        self.disk.read_exact_at(offset, buffer)
    }

    fn prefetch(&self, ranges: &[std::ops::Range<u64>]) {
        self.hints.lock().unwrap().extend_from_slice(ranges);
    }

    fn wants_hints(&self) -> bool {
        true
    }
}

/// A walk that says what it will ask for reads few nodes that were not named before.
#[test]
fn nodes_are_named_before_they_are_read() {
    let disk = golden("btrfs-zstd");
    let unannounced = std::sync::atomic::AtomicU64::new(0);
    let disk = Arc::new(Recorder { disk, hints: std::sync::Mutex::default(), unannounced });
    let fs = open(disk.clone()).unwrap();
    let count = || disk.unannounced.load(std::sync::atomic::Ordering::Relaxed);
    let opened = count();
    let mut folders = vec![fs.root()];
    let mut files = 0;
    while let Some(folder) = folders.pop() {
        let mut entries = Vec::new();
        let visit = &mut |entry: stillframe_fs::DirEntry<'_>| {
            entries.push(entry.id);
            ControlFlow::Continue(())
        };
        fs.read_dir(folder, visit).unwrap();
        fs.will_ask(&entries);
        for id in entries {
            files += 1;
            if fs.metadata(id).unwrap().kind == stillframe_fs::FileKind::Directory {
                folders.push(id);
            }
        }
    }
    let named: u64 = disk.hints.lock().unwrap().iter().map(|hint| (hint.end - hint.start) / 16384).sum();
    // The roots of the five subvolumes, and what their first folder lies in.
    assert!(count() - opened <= 10 && named >= 10, "{files} files: {} of {named}", count() - opened);
}

//! Images with bytes changed by seed: no panic leaves the reader, and it ends.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use stillframe_block::{BlockSource, Budget, BudgetSource, MemorySource, ReadError};
use stillframe_fs::{FileKind, ReadOnlyFs};

use crate::support::{golden, image, list, open, open_source, walk};

const MUTATIONS: u64 = 300;

fn random(state: &mut u64) -> usize {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*state >> 33) as usize
}

/// The offsets of FILE and INDX records and of the boot sector.
fn structures(image: &[u8]) -> Vec<usize> {
    let sectors = (0..image.len()).step_by(512);
    sectors.filter(|at| *at == 0 || matches!(&image[*at..*at + 4], b"FILE" | b"INDX")).collect()
}

/// Uses every method on whatever is there. Says how many calls failed.
fn use_all(fs: &dyn ReadOnlyFs) -> usize {
    let mut failed = 0;
    let mut directories = vec![fs.root()];
    let mut seen = std::collections::HashSet::new();
    while let Some(directory) = directories.pop() {
        let Ok(entries) = list(fs, directory) else {
            failed += 1;
            continue;
        };
        for (_, id, kind) in entries.into_iter().filter(|entry| seen.insert(entry.1)) {
            failed += usize::from(fs.metadata(id).is_err());
            if kind == Some(FileKind::Symlink) {
                failed += usize::from(fs.read_link(id).is_err());
            }
            failed += usize::from(fs.owners(id).is_err());
            let mut bytes = vec![0; 8192];
            match fs.open(id) {
                Ok(mut file) => {
                    assert!(file.extents(0..u64::MAX).len() <= stillframe_fs::HINT_EXTENTS_AT_MOST);
                    for offset in [0, 66_000, file.len_bytes().saturating_sub(100)] {
                        failed += usize::from(file.read_at(offset, &mut bytes).is_err());
                    }
                }
                Err(_) => failed += usize::from(kind == Some(FileKind::File)),
            }
            for stream in fs.alternate_streams(id).unwrap_or_default().into_iter().take(20) {
                match fs.open_stream(id, &stream.name) {
                    Ok(mut file) => failed += usize::from(file.read_at(0, &mut bytes).is_err()),
                    Err(_) => failed += 1,
                }
            }
            if kind == Some(FileKind::Directory) {
                directories.push(id);
            }
        }
    }
    failed
}

#[test]
fn changed_bytes_are_errors_and_nothing_worse() {
    let original = image("files");
    let places = structures(&original);
    let budget = Budget { reads: 100_000, bytes: 1 << 30, time: Duration::from_secs(10) };
    let (mut refused, mut failed) = (0, 0);
    for seed in 0..MUTATIONS {
        let mut state = seed;
        let mut image = original.clone();
        for _ in 0..1 + seed % 8 {
            // Half of them in the boot sector and the volume's own records, on which all depends.
            let place = if random(&mut state).is_multiple_of(2) {
                random(&mut state) % 8
            } else {
                random(&mut state)
            };
            let at = places[place % places.len()] + random(&mut state) % 505;
            image[at] = match random(&mut state) % 4 {
                0 => 0,
                1 => 0xFF,
                2 => image[at] ^ (1 << (random(&mut state) % 8)),
                _ => random(&mut state).to_le_bytes()[0],
            };
        }
        let source = Arc::new(BudgetSource::new(Arc::new(MemorySource(image)), budget));
        match open_source(source.clone()) {
            Ok(fs) => failed += use_all(&*fs),
            Err(_) => refused += 1,
        }
        assert_eq!(source.exhausted(), None, "seed {seed}");
    }
    // Both happen, or the changes missed.
    assert!(refused > 5 && refused < MUTATIONS / 2, "{refused} volumes refused");
    assert!(failed > 50, "{failed} calls failed");
}

/// A disk with some bytes changed, without a copy of it.
struct Changed {
    disk: Arc<MemorySource>,
    changes: Vec<(u64, u8)>,
}

impl BlockSource for Changed {
    fn len_bytes(&self) -> u64 {
        self.disk.len_bytes()
    }

    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), ReadError> {
        self.disk.read_exact_at(offset, buffer)?;
        for (at, byte) in &self.changes {
            if let Some(place) = at.checked_sub(offset).and_then(|at| buffer.get_mut(at as usize)) {
                *place = *byte;
            }
        }
        Ok(())
    }
}

/// Changes bytes at some of `places`, uses all there is, and says how many calls failed on how many of the disks.
fn changed(image: Vec<u8>, places: &[Range<u64>], turns: u64) -> (usize, usize) {
    let disk = Arc::new(MemorySource(image));
    let budget = Budget { reads: 100_000, bytes: 1 << 30, time: Duration::from_secs(30) };
    let (mut failed, mut disks) = (0, 0);
    for seed in 0..turns {
        let mut state = seed;
        let change = |_| {
            let place = &places[random(&mut state) % places.len()];
            let at = place.start + random(&mut state) as u64 % (place.end - place.start);
            let old = disk.0[at as usize];
            let new = [0, 0xFF, old ^ (1 << (random(&mut state) % 8)), old.wrapping_add(1)];
            (at, new[random(&mut state) % 4])
        };
        let changes = (0..1 + seed % 6).map(change).collect();
        let source = Arc::new(BudgetSource::new(Arc::new(Changed { disk: disk.clone(), changes }), budget));
        let fs = open_source(source.clone()).unwrap();
        let more = use_all(&*fs);
        assert_eq!(source.exhausted(), None, "seed {seed}");
        (failed, disks) = (failed + more, disks + usize::from(more > 0));
    }
    (failed, disks)
}

#[test]
fn changed_chunk_tables_chunks_and_reparse_points_are_errors_and_nothing_worse() {
    let image = golden("ntfs-wof");
    let fs = open(image.clone());
    let mut places = Vec::new();
    for (path, entry) in
        walk(&*fs).iter().filter(|(path, entry)| path[0] != b'$' && entry.kind == FileKind::File)
    {
        let mut file = fs.open(entry.id).unwrap();
        let Some(first) = file.extents(0..u64::MAX).first().copied() else { continue };
        // The table lies before the first chunk; in the first bytes of a chunk are its codes.
        let table = first.start_bytes.saturating_sub(64)..first.start_bytes;
        places.extend([table, first.start_bytes..first.start_bytes + 300.min(first.len_bytes())]);
        assert!(!path.is_empty());
    }
    let tags = (0..image.len()).step_by(8).filter(|at| image[*at..].starts_with(&[0x17, 0, 0, 0x80, 0x10]));
    places.extend(tags.map(|at| at as u64..at as u64 + 24));
    assert!(places.len() > 120, "{}", places.len());
    let (failed, disks) = changed(image, &places, 30);
    assert!(failed > 30 && disks > 15, "{failed} calls failed on {disks} disks");
}

#[test]
fn changed_descriptors_and_their_index_are_errors_and_nothing_worse() {
    let image = golden("ntfs-metadata");
    // $SDS: what begins with a hash, an id and an offset in it. $SII: nodes of the index.
    let field = |at: usize| u32::from_le_bytes(image[at..at + 4].try_into().unwrap());
    let is_descriptor = |at: &usize| {
        let id = field(at + 4);
        (256..800).contains(&id) && field(at + 12) == 0 && (40..2000).contains(&field(at + 16))
    };
    let descriptors =
        (0..image.len() - 20).step_by(16).filter(is_descriptor).map(|at| at as u64..at as u64 + 60);
    let mut places: Vec<_> = descriptors.step_by(5).collect();
    assert!(places.len() > 150, "{}", places.len());
    let nodes = (0..image.len()).step_by(4096).filter(|at| image[*at..].starts_with(b"INDX"));
    places.extend(nodes.flat_map(|at| (0..20).map(move |_| at as u64 + 0x18..at as u64 + 500)));
    let (failed, disks) = changed(image.clone(), &places, 20);
    assert!(failed > 10 && disks > 5, "{failed} calls failed on {disks} disks");
}

#[test]
fn a_cut_image_is_an_error() {
    let whole = image("files");
    for len in [0, 3, 511, 512, 5000, 20_000, 300_000, whole.len() / 2] {
        let source = Arc::new(MemorySource(whole[..len].to_vec()));
        if let Ok(fs) = open_source(source) {
            assert!(use_all(&*fs) > 0, "{len}");
        }
    }
}

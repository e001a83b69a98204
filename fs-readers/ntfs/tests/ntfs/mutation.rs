//! Images with bytes changed by seed: no panic leaves the reader, and it ends.

use std::sync::Arc;
use std::time::Duration;

use stillframe_block::{Budget, BudgetSource, MemorySource};
use stillframe_fs::{FileKind, ReadOnlyFs};

use crate::support::{image, list, open_source};

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
            let mut bytes = vec![0; 8192];
            match fs.open(id) {
                Ok(mut file) => {
                    for offset in [0, 66_000, file.len_bytes().saturating_sub(100)] {
                        failed += usize::from(file.read_at(offset, &mut bytes).is_err());
                    }
                }
                Err(_) => failed += usize::from(kind == Some(FileKind::File)),
            }
            for stream in fs.alternate_streams(id).unwrap_or_default() {
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

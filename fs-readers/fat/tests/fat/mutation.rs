//! Images with bytes changed by seed: no panic leaves the reader, and it ends.

use std::sync::Arc;
use std::time::Duration;

use stillframe_block::{Budget, BudgetSource, MemorySource};
use stillframe_fs::{FileKind, ReadOnlyFs};

use crate::support::{image, list, open_source};

const MUTATIONS: u64 = 300;
/// What the walk of a mutated volume may take: directories on a cycle of the tree are seen anew each time.
const DIRECTORIES: usize = 200;

fn random(state: &mut u64) -> usize {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*state >> 33) as usize
}

/// Uses every method on whatever is there. Says how many calls failed.
fn use_all(fs: &dyn ReadOnlyFs) -> usize {
    let mut failed = 0;
    let mut directories = vec![fs.root()];
    let mut seen = std::collections::HashSet::new();
    while let Some(directory) = directories.pop().filter(|_| seen.len() < 100 * DIRECTORIES) {
        let Ok(entries) = list(fs, directory) else {
            failed += 1;
            continue;
        };
        for (_, id, kind) in entries.into_iter().filter(|entry| seen.insert(entry.1)) {
            assert_eq!(fs.metadata(id).map(|metadata| metadata.kind).ok(), kind);
            if kind == Some(FileKind::Directory) {
                directories.push(id);
                continue;
            }
            match fs.open(id) {
                Ok(mut file) => failed += usize::from(file.read_at(600, &mut [0; 8192]).is_err()),
                Err(_) => failed += 1,
            }
        }
    }
    failed
}

#[test]
fn changed_bytes_are_errors_and_nothing_worse() {
    let mut fat32 = image("fat32");
    fat32.truncate(4 << 20);
    fat32[32..36].copy_from_slice(&8192_u32.to_le_bytes());
    // The length of what is changed most: the boot sector, the FATs and some of the directories.
    let originals = [(image("fat12"), 40_000), (image("fat16"), 60_000), (fat32, 700_000)];
    let (mut refused, mut failed) = (0, 0);
    for seed in 0..MUTATIONS {
        let (original, structures) = &originals[seed as usize % originals.len()];
        let mut state = seed;
        let mut image = original.clone();
        for _ in 0..1 + seed % 20 {
            let reach = match random(&mut state) % 8 {
                0 => 64,
                1..=5 => *structures,
                _ => image.len(),
            };
            let at = random(&mut state) % reach;
            image[at] = match random(&mut state) % 4 {
                0 => 0,
                1 => 0xFF,
                2 => image[at] ^ (1 << (random(&mut state) % 8)),
                _ => random(&mut state).to_le_bytes()[0],
            };
        }
        let budget = Budget { reads: 100_000, bytes: 1 << 30, time: Duration::from_secs(10) };
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
    let whole = image("fat12");
    for len in [0, 10, 511, 512, 4000, 9000, 30_000] {
        if let Ok(fs) = open_source(Arc::new(MemorySource(whole[..len].to_vec()))) {
            assert!(use_all(&*fs) > 0, "{len}");
        }
    }
}

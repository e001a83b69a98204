//! What the fuzz targets share: a golden disk changed as the fuzzer says, and a reader driven over all of it.
//!
//! A fuzzer finds no superblock by chance, nor a checksum. So the targets of filesystems take a golden image and use the
//! fuzzer's bytes as changes to it: the first byte chooses the golden, the second which checksums are made right, and eight
//! are a change: two choose a written page, two the place in it and how many bytes are written, four are the bytes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use stillframe_block::{BlockSource, Budget, BudgetSource};
use stillframe_fixtures::golden_names;
use stillframe_fs::MemoryContent;
use stillframe_mutations::{Depth, Golden, MAX_WRITTEN_BYTES, Mutant, Opened, read_all};
use stillframe_probe::FsKind;

const CHANGES_AT_MOST: usize = 64;
const ENTRIES_AT_MOST: usize = 300;

/// What one run may cost.
fn budget() -> Budget {
    Budget { reads: 20_000, bytes: 64 << 20, time: Duration::from_secs(2) }
}

/// The golden disk called `name`, decoded once.
fn golden(name: &str) -> Arc<Golden> {
    static GOLDENS: OnceLock<Mutex<HashMap<String, Arc<Golden>>>> = OnceLock::new();
    let mut goldens = GOLDENS.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner);
    goldens.entry(name.to_owned()).or_insert_with(|| Arc::new(Golden::open(name))).clone()
}

/// The golden disk called `name` with the changes in `data`.
pub fn patched(name: &str, depth: Depth, data: &[u8]) -> Mutant {
    let golden = golden(name);
    let mut mutant = golden.mutant();
    for change in data.chunks_exact(8).take(CHANGES_AT_MOST) {
        let page = golden.pages[usize::from(u16::from_le_bytes([change[0], change[1]])) % golden.pages.len()];
        let place = u16::from_le_bytes([change[2], change[3]]);
        let width = [1, 1, 2, 4][usize::from(place >> 14)];
        let at = page + u64::from(place % 4096);
        golden.covers.write(&mut mutant, at, &change[4..4 + width], depth);
    }
    mutant
}

/// The small golden disks whose names begin with `prefix`, in order.
fn goldens_of(prefix: &str) -> Vec<String> {
    static NAMES: OnceLock<Vec<String>> = OnceLock::new();
    let names = NAMES.get_or_init(|| {
        let wanted = golden_names().into_iter().filter(|name| name.starts_with(prefix));
        wanted.filter(|name| golden(name).written_bytes() <= MAX_WRITTEN_BYTES).collect()
    });
    names.clone()
}

/// A golden disk whose name begins with `prefix`, changed as `data` says, and all of its filesystems read. A target has
/// one prefix.
pub fn mutated(prefix: &str, data: &[u8]) {
    let [choice, depth, changes @ ..] = data else { return };
    let names = goldens_of(prefix);
    assert!(!names.is_empty(), "no golden disk is called {prefix}…");
    let name = &names[usize::from(*choice) % names.len()];
    let depth = [Depth::None, Depth::Metadata, Depth::Metadata, Depth::Data][usize::from(depth % 4)];
    let disk: Arc<dyn BlockSource> = Arc::new(patched(name, depth, changes));
    for volume in &golden(name).volumes {
        if let Ok(opened) = volume.open(disk.clone(), budget()) {
            read_all(&opened, ENTRIES_AT_MOST);
        }
    }
}

/// Opens the filesystem on `disk`, lists every folder and reads every file, all within a small budget.
pub fn read(kind: FsKind, disk: impl BlockSource + 'static) {
    let source = Arc::new(BudgetSource::new(Arc::new(disk), budget()));
    if let Ok(fs) = stillframe_readers::open(kind, source.clone()) {
        read_all(&Opened { source, fs }, ENTRIES_AT_MOST);
    }
}

/// To be done before the first input: the golden disks whose names begin with `prefix` are decoded, which is no input's
/// time.
pub fn prepare(prefix: &str) {
    goldens_of(prefix);
    only_ours();
}

/// Lets panics of other projects' crates be caught by the readers on them, as they are in the program; without this the
/// fuzzer ends at any panic. One that no reader catches ends it still.
fn only_ours() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if !panic.location().is_some_and(|place| place.file().contains("/registry/src/")) {
            before(panic);
        }
    }));
}

/// `data` as a file.
pub fn file(data: &[u8]) -> MemoryContent {
    MemoryContent(data.to_vec())
}

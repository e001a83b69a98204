//! Images that `mkfs.btrfs` fills from a folder, compared with the folder and with another reader.
#![allow(missing_docs, dead_code, reason = "a test; its helpers serve other tests too")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "test data is ours")]
#![allow(clippy::print_stderr, reason = "a test that cannot run says so")]

#[path = "../../xfs/tests/tree/mod.rs"]
mod tree;

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use stillframe_block::{BlockSource, Budget, BudgetSource, SparseMemorySource};
use stillframe_btrfs::open;
use stillframe_fs::FsError;

const UUID: &str = "01234567-89ab-cdef-0123-456789abcdef";
const SUPERBLOCK: u64 = 64 << 10;

/// Makes an image with `options`.
fn make(options: &[&str]) -> (tree::Listing, SparseMemorySource) {
    assert!(tree::has_program("mkfs.btrfs"), "mkfs.btrfs is not installed: `tests/setup.sh` installs it");
    let scratch = tempfile::tempdir().unwrap();
    let root = scratch.path().join("root");
    tree::fill(&root);
    std::fs::hard_link(root.join("sizes/noise500"), root.join("links/hard")).unwrap();
    let fifo = Command::new("mkfifo").arg("-m").arg("640").arg(root.join("links/fifo")).status();
    assert!(fifo.unwrap().success());
    let image = scratch.path().join("image");
    std::fs::File::create(&image).unwrap().set_len(128 << 20).unwrap();
    let mut command = Command::new("mkfs.btrfs");
    command
        .args(["-q", "-U", UUID, "-L", "some label"])
        .args(options)
        .arg("--rootdir")
        .arg(&root)
        .arg(&image);
    let made = command.output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    (tree::of_folder(&root), tree::image(&image))
}

/// What the tool that makes the image changes: some versions cut times to seconds, or count hard links otherwise.
fn as_made(path: &[u8], expected: &tree::Facts, found: &tree::Facts) -> tree::Facts {
    let mut facts = expected.clone();
    if found.modified.1 == 0 {
        facts.modified.1 = 0;
    }
    if path == b"/links/hard" || path == b"/sizes/noise500" {
        facts.links = found.links;
    }
    facts
}

fn assert_all_right(listing: &tree::Listing, expected: &tree::Listing) {
    for (path, found) in listing {
        let name = String::from_utf8_lossy(path);
        let facts = expected.get(path).unwrap_or_else(|| panic!("{name} is not in the folder"));
        assert_eq!(*found, as_made(path, facts, found), "{name}");
    }
}

fn assert_same(listing: &tree::Listing, expected: &tree::Listing) {
    assert_all_right(listing, expected);
    assert_eq!(listing.len(), expected.len());
}

fn check(options: &[&str]) {
    let (expected, source) = make(options);
    let fs = open(Arc::new(source)).unwrap();
    let (listing, errors) = tree::read_all(&*fs);
    assert!(errors.is_empty(), "{errors:?}");
    assert_eq!(fs.faults(), []);
    assert_same(&listing, &expected);
    let description = fs.description();
    assert_eq!(description.uuid.as_deref(), Some(UUID));
    assert_eq!(description.label.as_deref(), Some(&b"some label"[..]));
    assert_eq!(description.dirty, Some(false));
}

#[test]
fn the_default_reads_as_its_folder() {
    check(&[]);
}

#[test]
fn small_nodes_and_xxhash_read_as_their_folder() {
    check(&["-n", "4096", "--csum", "xxhash"]);
}

#[test]
fn mixed_groups_and_sha256_read_as_their_folder() {
    check(&["-M", "-n", "4096", "--csum", "sha256"]);
}

#[test]
fn large_nodes_without_gaps_for_holes_read_as_their_folder() {
    check(&["-n", "65536", "-O", "^no-holes"]);
}

#[test]
fn blake2_reads_as_its_folder() {
    check(&["--csum", "blake2"]);
}

#[test]
fn nothing_is_no_filesystem() {
    assert!(open(Arc::new(SparseMemorySource::default())).is_err());
}

/// Changes a field of the superblock and its checksum.
fn with_superblock(source: &SparseMemorySource, at: u64, value: &[u8]) -> SparseMemorySource {
    let mut changed = source.clone();
    for (at, byte) in (SUPERBLOCK + at..).zip(value) {
        changed.set(at, *byte);
    }
    reseal(&mut changed, SUPERBLOCK, 4096);
    changed
}

fn reseal(source: &mut SparseMemorySource, at: u64, len: usize) {
    let mut bytes = vec![0; len];
    source.read_exact_at(at, &mut bytes).unwrap();
    for (at, byte) in (at..).zip(crc32c::crc32c(&bytes[32..]).to_le_bytes()) {
        source.set(at, byte);
    }
}

#[test]
fn a_log_tree_is_told_and_features_are_refused() {
    let (expected, source) = make(&[]);
    let fs = open(Arc::new(with_superblock(&source, 96, &[0, 0, 8]))).unwrap();
    assert_eq!(fs.description().dirty, Some(true));
    // There is nothing at its address: what was committed is shown, and that it is not all is told.
    assert_eq!(fs.faults()[0].to_string(), "log tree at 0x80000: claimed replayed, found not applied");
    assert_same(&tree::read_all(&*fs).0, &expected);
    for (incompat, name) in [
        (1_u64 << 12, "zoned btrfs is not supported"),
        (1 << 14, "btrfs RAID stripe tree is not supported"),
        (1 << 40, "an unknown incompatible btrfs feature is not supported"),
    ] {
        let changed = with_superblock(&source, 188, &incompat.to_le_bytes());
        assert_eq!(open(Arc::new(changed)).err().unwrap().to_string(), name);
    }
    // Sizes that would be allocated, or divided by.
    for (at, value) in [(148, 0_u32), (148, 1 << 30), (144, 0), (144, 3), (160, 1 << 31)] {
        let mut alone = with_superblock(&source, at, &value.to_le_bytes());
        alone.set((64 << 20) + 64, 0);
        assert!(matches!(open(Arc::new(alone)), Err(FsError::Corrupt(_))));
    }
    // The first copy damaged: the second one serves.
    let mut damaged = source.clone();
    damaged.set(SUPERBLOCK + 64, 0);
    let fs = open(Arc::new(damaged)).unwrap();
    assert_eq!(fs.faults()[0].what, "superblock magic");
    let note = "read by a copy of the superblock, which knows no log tree";
    assert_eq!(fs.description().notes, [note]);
    assert_same(&tree::read_all(&*fs).0, &expected);
}

/// Nodes by logical address: where their copies lie. The device holds no other thing with the UUID at this place.
fn nodes(source: &SparseMemorySource, node_bytes: u64) -> BTreeMap<u64, Vec<u64>> {
    let uuid = [1, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef, 1, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef];
    let mut nodes: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    for page in source.written_pages() {
        let mut head = [0; 72];
        source.read_exact_at(page, &mut head).unwrap();
        if head[32..48] == uuid && &head[64..72] != b"_BHRfS_M" && page % node_bytes == 0 {
            let logical = u64::from_le_bytes(head[48..56].try_into().unwrap());
            nodes.entry(logical).or_default().push(page);
        }
    }
    nodes
}

#[test]
fn a_bad_copy_gives_way_to_the_other() {
    let (expected, mut source) = make(&["-d", "dup"]);
    let mut damaged = 0;
    for copies in nodes(&source, 16384).values().filter(|copies| copies.len() == 2) {
        source.set(copies[0] + 16_000, 0xa5);
        damaged += 1;
    }
    assert!(damaged > 20, "{damaged} nodes have two copies");
    let fs = open(Arc::new(source.clone())).unwrap();
    let (listing, errors) = tree::read_all(&*fs);
    assert!(errors.is_empty(), "{errors:?}");
    assert_same(&listing, &expected);
    assert_eq!(fs.faults()[0].what, "copies with a bad checksum");
    // Both copies bad: an error, and nothing wrong beside it.
    for copies in nodes(&source, 16384).values().filter(|copies| copies.len() == 2).skip(6).step_by(3) {
        source.set(copies[1] + 16_000, 0xa6);
    }
    if let Ok(fs) = open(Arc::new(source)) {
        let (listing, errors) = tree::read_all(&*fs);
        assert!(!errors.is_empty());
        assert_all_right(&listing, &expected);
    }
}

#[test]
fn damaged_content_is_an_error_and_not_content() {
    let (expected, source) = make(&["-m", "single", "-d", "single"]);
    let metadata = nodes(&source, 16384);
    let is_node = |page: &u64| metadata.values().flatten().any(|node| (*node..*node + 16384).contains(page));
    let is_superblock = |page: &u64| [64 << 10, 64 << 20].contains(page);
    let mut damaged = source.clone();
    let content: Vec<u64> =
        source.written_pages().filter(|page| !is_node(page) && !is_superblock(page)).collect();
    for page in content.iter().step_by(5) {
        damaged.set(page + 77, 0x5a);
        damaged.set(page + 78, 0xa5);
    }
    let fs = open(Arc::new(damaged)).unwrap();
    let (listing, errors) = tree::read_all(&*fs);
    assert!(errors.len() > 5, "{errors:?}");
    assert_all_right(&listing, &expected);
    assert_eq!(listing.len() + errors.len(), expected.len());
}

/// Whatever comes of damage must be an error or a listing, soon. Checksums are made to match again, so that what is
/// behind them is reached.
#[test]
fn damage_ends_in_errors() {
    let (_, source) = make(&["-m", "single"]);
    let nodes: Vec<u64> = nodes(&source, 16384).into_values().flatten().collect();
    assert!(nodes.len() > 30, "{} nodes", nodes.len());
    let mut state = 0x5eed_0002_u64;
    let (mut opened, mut failed) = (0, 0);
    for mutation in 0..60 {
        let mut damaged = source.clone();
        for _ in 0..4 {
            let node = nodes[usize::try_from(tree::next(&mut state)).unwrap() % nodes.len()];
            for _ in 0..3 {
                // Header and item table; or anywhere.
                let within = if tree::next(&mut state).is_multiple_of(2) { 600 } else { 16384 };
                let at = 32 + tree::next(&mut state) % (within - 32);
                damaged.set(node + at, u8::try_from(tree::next(&mut state) % 256).unwrap());
            }
            if mutation % 5 != 0 {
                reseal(&mut damaged, node, 16384);
            }
        }
        if mutation % 4 == 0 {
            let at = SUPERBLOCK + 80 + tree::next(&mut state) % 120;
            damaged.set(at, u8::try_from(tree::next(&mut state) % 256).unwrap());
            reseal(&mut damaged, SUPERBLOCK, 4096);
        }
        let budget = Budget { reads: 200_000, bytes: 4 << 30, time: Duration::from_secs(5) };
        let limited: Arc<dyn BlockSource> = Arc::new(BudgetSource::new(Arc::new(damaged), budget));
        let started = Instant::now();
        if let Ok(fs) = open(limited) {
            opened += 1;
            failed += tree::read_all(&*fs).1.len();
        }
        assert!(started.elapsed() < Duration::from_secs(20), "mutation {mutation}: {:?}", started.elapsed());
    }
    assert!(opened > 20 && failed > 100, "{opened} opened, {failed} errors: too few to say anything");
}

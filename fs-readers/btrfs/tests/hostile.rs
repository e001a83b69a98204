//! Trees that no kernel writes: what they claim ends soon, in what is right or in an error with a name. An image of
//! `mkfs.btrfs` gets other leaves, with checksums that match.
#![allow(missing_docs, reason = "a test")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "test data is ours")]

use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use stillframe_block::MemorySource;
use stillframe_fs::{FsError, ReadOnlyFs};

const SUPERBLOCK: usize = 64 << 10;
const INODE_ITEM: u8 = 1;
const INODE_REF: u8 = 12;
const DIR_ITEM: u8 = 84;
const DIR_INDEX: u8 = 96;
const ROOT_ITEM: u8 = 132;
const ROOT_BACKREF: u8 = 144;
const LOG_OBJECT: u64 = u64::MAX - 5;
const ROOT: u64 = 256;

type Item = ((u64, u8, u64), Vec<u8>);

struct Image {
    bytes: Vec<u8>,
    node_bytes: usize,
    /// What is added to a logical address of metadata.
    delta: usize,
    /// Logical addresses.
    root_tree: u64,
    fs_tree: u64,
    /// Where nothing is yet.
    free: u64,
    generation: u64,
}

impl Image {
    fn new(node_bytes: usize) -> Self {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("image");
        std::fs::File::create(&path).unwrap().set_len(128 << 20).unwrap();
        let mut command = Command::new("mkfs.btrfs");
        let size = node_bytes.to_string();
        command.args(["-q", "-m", "single", "-d", "single", "-n", &size]).arg(&path);
        let made = command.output().expect("`tests/setup.sh` installs mkfs.btrfs");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let bytes = std::fs::read(&path).unwrap();
        let root_tree = number(&bytes, SUPERBLOCK + 80);
        let uuid = &bytes[SUPERBLOCK + 32..SUPERBLOCK + 48];
        let lies_at = (0..bytes.len()).step_by(4096).find(|at| {
            *at != SUPERBLOCK && &bytes[at + 32..at + 48] == uuid && number(&bytes, at + 48) == root_tree
        });
        let delta = lies_at.unwrap().wrapping_sub(usize::try_from(root_tree).unwrap());
        let generation = number(&bytes, SUPERBLOCK + 72);
        let free = root_tree + (2 << 20);
        let mut image = Self { bytes, node_bytes, delta, root_tree, fs_tree: 0, free, generation };
        let items = image.items(root_tree);
        let (_, root) = items.iter().find(|(key, _)| (key.0, key.1) == (5, ROOT_ITEM)).unwrap();
        image.fs_tree = number(root, 176);
        image
    }

    fn at(&self, logical: u64) -> usize {
        usize::try_from(logical).unwrap().wrapping_add(self.delta)
    }

    fn items(&self, leaf: u64) -> Vec<Item> {
        let node = &self.bytes[self.at(leaf)..][..self.node_bytes];
        assert_eq!(node[100], 0, "a leaf");
        let count = usize::from(node[96]);
        let item = |entry: usize| {
            let place = |at: usize| u32::from_le_bytes(node[at..at + 4].try_into().unwrap()) as usize;
            let (offset, len) = (place(entry + 17) + 101, place(entry + 21));
            let key = (number(node, entry), node[entry + 8], number(node, entry + 9));
            (key, node[offset..offset + len].to_vec())
        };
        (0..count).map(|index| item(101 + 25 * index)).collect()
    }

    /// Writes a node of a tree.
    fn write(&mut self, logical: u64, (owner, generation, level): (u64, u64, u8), count: usize, body: &[u8]) {
        let template = self.at(self.fs_tree);
        let mut node = self.bytes[template..template + 101].to_vec();
        node[48..56].copy_from_slice(&logical.to_le_bytes());
        node[80..88].copy_from_slice(&generation.to_le_bytes());
        node[88..96].copy_from_slice(&owner.to_le_bytes());
        node[96..100].copy_from_slice(&u32::try_from(count).unwrap().to_le_bytes());
        node[100] = level;
        node.extend(body);
        node.resize(self.node_bytes, 0);
        seal(&mut node);
        let at = self.at(logical);
        self.bytes[at..at + node.len()].copy_from_slice(&node);
    }

    fn leaf(&mut self, logical: u64, owner: u64, generation: u64, mut items: Vec<Item>) {
        items.sort();
        let mut body = vec![0; self.node_bytes - 101];
        let mut end = body.len();
        for (index, ((object, kind, offset), item)) in items.iter().enumerate() {
            end -= item.len();
            assert!(end >= 25 * items.len(), "items fit in a leaf");
            body[end..end + item.len()].copy_from_slice(item);
            let place = [end, item.len()].map(|number| u32::try_from(number).unwrap().to_le_bytes()).concat();
            let entry = [&object.to_le_bytes()[..], &[*kind], &offset.to_le_bytes(), &place].concat();
            body[25 * index..25 * (index + 1)].copy_from_slice(&entry);
        }
        self.write(logical, (owner, generation, 0), items.len(), &body);
    }

    fn add_to_fs_tree(&mut self, items: Vec<Item>) {
        let node = self.at(self.fs_tree);
        let generation = number(&self.bytes, node + 80);
        let all = [self.items(self.fs_tree), items].concat();
        self.leaf(self.fs_tree, 5, generation, all);
    }

    /// Makes these leaves the log of the top-level subvolume.
    fn set_log(&mut self, leaves: Vec<Vec<Item>>) {
        let generation = self.generation + 1;
        let step = u64::try_from(self.node_bytes).unwrap();
        let (top, log) = (self.free, self.free + step);
        let mut pointers = Vec::new();
        let count = leaves.len();
        for (logical, leaf) in (1..).map(|index| log + index * step).zip(leaves) {
            let (object, kind, offset) = leaf.iter().map(|(key, _)| *key).min().unwrap();
            let key = [&object.to_le_bytes()[..], &[kind], &offset.to_le_bytes()].concat();
            pointers.extend([&key[..], &logical.to_le_bytes(), &generation.to_le_bytes()].concat());
            self.leaf(logical, LOG_OBJECT, generation, leaf);
        }
        self.write(log, (LOG_OBJECT, generation, 1), count, &pointers);
        let items = self.items(self.root_tree);
        let (_, root) = items.iter().find(|(key, _)| (key.0, key.1) == (5, ROOT_ITEM)).unwrap();
        let mut root = root.clone();
        root[160..168].copy_from_slice(&generation.to_le_bytes());
        root[176..184].copy_from_slice(&log.to_le_bytes());
        root[238] = 1;
        self.leaf(top, LOG_OBJECT, generation, vec![((LOG_OBJECT, ROOT_ITEM, 5), root)]);
        self.bytes[SUPERBLOCK + 96..SUPERBLOCK + 104].copy_from_slice(&top.to_le_bytes());
        self.bytes[SUPERBLOCK + 200] = 0;
        seal(&mut self.bytes[SUPERBLOCK..SUPERBLOCK + 4096]);
    }

    /// An inode item as that of the root directory is, with one name.
    fn inode(&self, object: u64, mode: u32) -> Item {
        let items = self.items(self.fs_tree);
        let (_, root) = items.iter().find(|(key, _)| *key == (ROOT, INODE_ITEM, 0)).unwrap();
        let mut inode = root.clone();
        inode[16..24].fill(0);
        inode[40..44].copy_from_slice(&1_u32.to_le_bytes());
        inode[52..56].copy_from_slice(&mode.to_le_bytes());
        ((object, INODE_ITEM, 0), inode)
    }

    /// Opens it; that must be soon.
    fn open(self) -> Result<Box<dyn ReadOnlyFs>, FsError> {
        let source = Arc::new(MemorySource(self.bytes));
        let started = Instant::now();
        let fs = stillframe_btrfs::open(source);
        assert!(started.elapsed() < Duration::from_secs(60), "{:?}", started.elapsed());
        fs
    }

    fn fault_of_log(self) -> String {
        self.open().unwrap().faults()[1].what.to_owned()
    }
}

fn number(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

fn seal(bytes: &mut [u8]) {
    let checksum = crc32c::crc32c(&bytes[32..]).to_le_bytes();
    bytes[..4].copy_from_slice(&checksum);
}

/// The names of an inode in one directory.
fn references(inode: u64, parent: u64, names: impl Iterator<Item = (u64, Vec<u8>)>) -> Item {
    let one = |(index, name): (u64, Vec<u8>)| {
        [&index.to_le_bytes()[..], &u16::try_from(name.len()).unwrap().to_le_bytes(), &name].concat()
    };
    ((inode, INODE_REF, parent), names.flat_map(one).collect())
}

fn names(count: u64, first: u64) -> impl Iterator<Item = (u64, Vec<u8>)> {
    (first..first + count).map(|number| (number + 2, format!("{number:05}").into_bytes()))
}

/// Distinct names whose items of a directory have one key: CRC-32C can be led anywhere by the last four bytes.
fn colliding(count: u64) -> impl Iterator<Item = (u64, Vec<u8>)> {
    let table: Vec<u32> = (0..256)
        .map(|byte| (0..8).fold(byte, |crc: u32, _| (crc >> 1) ^ (0x82f6_3b78 * (crc & 1))))
        .collect();
    (0..count).map(move |number| {
        let mut name = format!("{number:04}").into_bytes();
        let state = !crc32c::crc32c_append(1, &name);
        let mut back = 0x1234_5678_u32;
        for _ in 0..4 {
            let byte = table.iter().position(|entry| entry >> 24 == back >> 24).unwrap();
            back = ((back ^ table[byte]) << 8) | u32::try_from(byte).unwrap();
        }
        name.extend((back ^ state).to_le_bytes());
        (number + 2, name)
    })
}

fn entry(inode: u64, name: &[u8]) -> Vec<u8> {
    let len = u16::try_from(name.len()).unwrap().to_le_bytes();
    [&inode.to_le_bytes()[..], &[INODE_ITEM], &[0; 18], &len, &[1], name].concat()
}

#[test]
fn very_many_names_of_one_inode_are_replayed_soon() {
    for (node_bytes, count) in [(16384, 900), (65536, 4000)] {
        let mut image = Image::new(node_bytes);
        let file = image.inode(257, 0o100_644);
        image.add_to_fs_tree(vec![file.clone(), references(257, ROOT, names(count, 0))]);
        image.set_log(vec![vec![file, references(257, ROOT, names(count, 0))]]);
        let fs = image.open().unwrap();
        assert_eq!((fs.faults(), &fs.description().notes[..]), (vec![], &["log tree replayed"][..]));
        let mut found = 0_u64;
        fs.read_dir(fs.root(), &mut |entry| {
            assert_eq!(entry.id.number, 257);
            found += 1;
            std::ops::ControlFlow::Continue(())
        })
        .unwrap();
        let links = fs.metadata(stillframe_fs::FileId { tree: 5, number: 257 }).unwrap().links;
        assert_eq!((found, links), (count, Some(u32::try_from(count).unwrap())));
    }
}

#[test]
fn names_with_one_hash_that_outgrow_a_leaf_are_a_fault() {
    for (count, fault) in [(420, None), (435, Some("directory item length"))] {
        let mut image = Image::new(16384);
        let log = vec![image.inode(257, 0o100_644), references(257, ROOT, colliding(count))];
        image.set_log(vec![log]);
        let fs = image.open().unwrap();
        assert_eq!(fs.faults().get(1).map(|fault| fault.what), fault, "{count} names");
    }
}

#[test]
fn what_is_gone_over_again_and_again_ends_at_a_limit() {
    let mut image = Image::new(65536);
    let leaves = (0..20).map(|number| {
        let (folder, file) = (1000 + number, 2000 + number);
        let folder_item = image.inode(folder, 0o040_755);
        (folder_item, vec![image.inode(file, 0o100_644), references(file, folder, colliding(1650))])
    });
    let (folders, files): (Vec<_>, Vec<_>) = leaves.unzip();
    image.set_log([vec![folders], files].concat());
    assert_eq!(image.fault_of_log(), "steps of replaying log trees");
}

#[test]
fn changes_of_a_log_take_bounded_memory() {
    let mut image = Image::new(65536);
    let files = (0..24).map(|number| {
        let file = 1000 + number;
        vec![image.inode(file, 0o100_644), references(file, ROOT, names(4000, 4000 * number))]
    });
    let files = files.collect();
    image.set_log(files);
    assert_eq!(image.fault_of_log(), "bytes of replayed log trees");
}

#[test]
fn what_many_gone_directories_had_is_counted() {
    let mut image = Image::new(65536);
    let file = 5000;
    let mut committed = vec![image.inode(file, 0o100_644)];
    let mut logged = Vec::new();
    for folder in 1000..1130_u64 {
        let hash = !crc32c::crc32c_append(1, b"x");
        logged.push(image.inode(folder, 0o040_755));
        committed.push(image.inode(folder, 0o040_755));
        committed.push(((folder, DIR_ITEM, hash.into()), entry(file, b"x")));
        committed.push(((folder, DIR_INDEX, 2), entry(file, b"x")));
        committed.push(references(file, folder, std::iter::once((2, b"x".to_vec()))));
    }
    committed.push(references(file, ROOT, std::iter::once((2, b"stays".to_vec()))));
    image.add_to_fs_tree(committed);
    image.set_log(vec![logged]);
    let fs = image.open().unwrap();
    assert_eq!(fs.faults(), []);
    let links = |number| fs.metadata(stillframe_fs::FileId { tree: 5, number }).unwrap().links;
    assert_eq!((links(file), links(1000), links(1129)), (Some(1), Some(0), Some(0)));
}

#[test]
fn names_of_a_subvolume_path_are_checked() {
    for (name, is_right) in [("right", true), ("", false), ("..", false), ("a/b", false), ("a\0b", false)] {
        let mut image = Image::new(16384);
        let len = u16::try_from(name.len()).unwrap().to_le_bytes();
        let back = [&ROOT.to_le_bytes()[..], &[0; 8], &len, name.as_bytes()].concat();
        let generation = number(&image.bytes, image.at(image.root_tree) + 80);
        let mut items = image.items(image.root_tree);
        items.push(((ROOT, ROOT_BACKREF, 5), back));
        image.leaf(image.root_tree, 1, generation, items);
        match image.open().unwrap().subvolume_path(ROOT) {
            Ok(path) => assert_eq!((path, is_right), (Some(b"/right".to_vec()), true)),
            Err(FsError::Corrupt(fault)) => {
                assert_eq!((fault.what, is_right), ("root reference name", false), "{name:?}");
            }
            Err(error) => panic!("{name:?}: {error}"),
        }
    }
}

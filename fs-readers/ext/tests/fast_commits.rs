//! Fast commits that were made to mislead, on filesystems that `mke2fs(8)` made. What is expected is what the kernel does
//! with such tags (`filesystems/ext4/journal.rst`; the order of its checks is told at each test).
#![allow(
    clippy::arithmetic_side_effects,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests over images made here"
)]

mod support;

use std::sync::Arc;
use std::time::Duration;

use stillframe_block::{BlockSource, Budget, BudgetSource, SparseMemorySource};
use stillframe_ext::ExtFs;
use stillframe_fs::{FileId, ReadOnlyFs};

use support::{entries, mke2fs};

const BLOCK_BYTES: usize = 4096;
const SEQUENCE: u32 = 7;
const WHOLE: [&str; 2] = ["journal replayed", "fast commits replayed"];
const IN_PART: [&str; 2] = ["journal replayed", "fast commits replayed in part"];
const ADD_RANGE: u8 = 1;
const DEL_RANGE: u8 = 2;
const CREAT: u8 = 3;
const LINK: u8 = 4;
const UNLINK: u8 = 5;
const INODE: u8 = 6;
const ROOT: u32 = 2;
/// An inode that is free.
const FREE: u32 = 300;

fn read(image: &SparseMemorySource, at: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    image.read_exact_at(at, &mut bytes).unwrap();
    bytes
}

fn write(image: &mut SparseMemorySource, at: u64, bytes: &[u8]) {
    (at..).zip(bytes).for_each(|(at, byte)| image.set(at, *byte));
}

fn number(image: &SparseMemorySource, at: u64) -> u32 {
    u32::from_le_bytes(read(image, at, 4).try_into().unwrap())
}

/// The kernel's crc32c: without inversions.
fn crc(seed: u32, bytes: &[u8]) -> u32 {
    !crc32c::crc32c_append(!seed, bytes)
}

/// A filesystem of 4 KiB blocks without metadata checksums.
struct Disk {
    image: SparseMemorySource,
    inode_bytes: usize,
    etc: u32,
    hostname: u32,
}

impl Disk {
    fn new(options: &[&str]) -> Self {
        let own = ["-b", "4096", "-O", "fast_commit,^metadata_csum", "-J", "size=16"];
        let image = mke2fs(80, &[&own, options].concat());
        let inode_bytes = (number(&image, 1024 + 0x58) & 0xffff) as usize;
        let fs = ExtFs::open(Arc::new(image.clone())).unwrap();
        let find = |folder, name: &[u8]| {
            entries(&fs, folder).unwrap().into_iter().find(|(found, _)| found == name).unwrap().1
        };
        let etc = find(fs.root(), b"etc");
        let hostname = find(etc, b"hostname");
        let number = |id: FileId| u32::try_from(id.number).unwrap();
        Self { image, inode_bytes, etc: number(etc), hostname: number(hostname) }
    }

    /// All inodes used here are of the first group.
    fn inode_at(&self, inode: u32) -> u64 {
        let table = u64::from(number(&self.image, BLOCK_BYTES as u64 + 8));
        table * BLOCK_BYTES as u64 + u64::from(inode - 1) * self.inode_bytes as u64
    }

    fn inode_bytes(&self, inode: u32) -> Vec<u8> {
        read(&self.image, self.inode_at(inode), self.inode_bytes)
    }

    /// Puts one fast commit of `tags` behind an empty journal.
    fn commit(&self, tags: impl IntoIterator<Item = Vec<u8>>) -> SparseMemorySource {
        let mut area = tag(9, &[&[0; 4], &SEQUENCE.to_le_bytes()]);
        let tail_bytes = 12;
        for tag in tags {
            let left = BLOCK_BYTES - area.len() % BLOCK_BYTES;
            if left < tag.len() + tail_bytes + 4 {
                let pad = u16::try_from(left - 4).unwrap().to_le_bytes();
                area.extend([&[7, 0], &pad[..]].concat());
                area.resize(area.len() + left - 4, 0);
            }
            area.extend(tag);
        }
        let len = u16::try_from(BLOCK_BYTES - area.len() % BLOCK_BYTES - 4).unwrap().to_le_bytes();
        area.extend([&[8, 0], &len[..], &SEQUENCE.to_le_bytes()].concat());
        let sum = crc(0, &area);
        area.extend(sum.to_le_bytes());
        area.resize(area.len().next_multiple_of(BLOCK_BYTES), 0);
        self.with_area(&area)
    }

    /// Where the blocks of the journal lie, in bytes.
    fn journal_blocks(&self) -> Vec<u64> {
        let root = self.inode_at(8) + 0x28;
        let entries = u64::from(number(&self.image, root) >> 16);
        let of_extent = |index: u64| {
            let extent = root + 12 + index * 12;
            let (len, start) = (number(&self.image, extent + 4) & 0xffff, number(&self.image, extent + 8));
            (0..u64::from(len)).map(move |block| (u64::from(start) + block) * BLOCK_BYTES as u64)
        };
        (0..entries).flat_map(of_extent).collect()
    }

    fn with_area(&self, area: &[u8]) -> SparseMemorySource {
        let mut image = self.image.clone();
        let blocks = self.journal_blocks();
        let journal = blocks[0];
        let len_blocks = u32::from_be_bytes(read(&image, journal + 0x10, 4).try_into().unwrap());
        assert_eq!(blocks.len(), len_blocks as usize, "the journal's extents are in its inode");
        let area_blocks = u32::try_from(area.len() / BLOCK_BYTES).unwrap() + 1;
        for (at, value) in
            [(0x14, 1), (0x18, SEQUENCE), (0x1c, 1), (0x24, 0), (0x28, 0x20), (0x54, area_blocks)]
        {
            write(&mut image, journal + at, &u32::to_be_bytes(value));
        }
        let first = (len_blocks - area_blocks + 1) as usize;
        for (at, block) in blocks[first..].iter().zip(area.chunks(BLOCK_BYTES)) {
            write(&mut image, *at, block);
        }
        let features = number(&image, 1024 + 0x60) | 4;
        write(&mut image, 1024 + 0x60, &features.to_le_bytes());
        image
    }
}

fn tag(kind: u8, parts: &[&[u8]]) -> Vec<u8> {
    let value = parts.concat();
    [&[kind, 0], &u16::try_from(value.len()).unwrap().to_le_bytes()[..], &value].concat()
}

fn name(kind: u8, parent: u32, inode: u32, name: &[u8]) -> Vec<u8> {
    tag(kind, &[&parent.to_le_bytes(), &inode.to_le_bytes(), name])
}

fn range(kind: u8, numbers: &[u32]) -> Vec<u8> {
    tag(kind, &[&numbers.iter().copied().flat_map(u32::to_le_bytes).collect::<Vec<_>>()])
}

fn names(fs: &ExtFs, folder: u32) -> Vec<Vec<u8>> {
    let mut names: Vec<_> =
        entries(fs, FileId::new(folder.into())).unwrap().into_iter().map(|(name, _)| name).collect();
    names.sort();
    names
}

fn links(fs: &ExtFs, inode: u32) -> Option<u32> {
    fs.metadata(FileId::new(inode.into())).unwrap().links
}

fn faults(fs: &ExtFs) -> Vec<&'static str> {
    fs.faults().iter().map(|fault| fault.what).collect()
}

/// The kernel appends the first block of a new directory, and refuses where there is one: nothing else changes.
#[test]
fn a_directory_in_place_is_not_made_anew() {
    for options in [&[][..], &["-O", "fast_commit,^metadata_csum,inline_data"]] {
        let disk = Disk::new(options);
        let before = disk.inode_bytes(disk.etc);
        for tags in [
            vec![name(CREAT, ROOT, disk.etc, b"etc")],
            vec![tag(INODE, &[&disk.etc.to_le_bytes(), &before]), name(CREAT, ROOT, disk.etc, b"etc")],
            vec![name(CREAT, ROOT, disk.etc, b"other")],
            vec![name(LINK, disk.etc, disk.hostname, b"more"), name(CREAT, ROOT, disk.etc, b"etc")],
        ] {
            let is_linked = tags[0][0] == LINK;
            let fs = ExtFs::open(Arc::new(disk.commit(tags))).unwrap();
            let expected = if is_linked { vec![&b"hostname"[..], b"more"] } else { vec![&b"hostname"[..]] };
            assert_eq!(names(&fs, disk.etc), expected, "{options:?}");
            assert_eq!(names(&fs, ROOT), [&b"etc"[..], b"lost+found"], "{options:?}");
            assert_eq!(links(&fs, disk.etc), Some(2), "{options:?}");
            assert_eq!(faults(&fs), ["directory that a fast commit makes"], "{options:?}");
            assert_eq!(fs.description().notes, IN_PART);
        }
    }
}

/// One that is new has no block yet; once it is made it has one, and so has one for which a block was set aside.
#[test]
fn a_directory_is_made_once() {
    let disk = Disk::new(&[]);
    let inode = tag(INODE, &[&FREE.to_le_bytes(), &disk.inode_bytes(disk.etc)]);
    let create = |called: &[u8]| name(CREAT, ROOT, FREE, called);
    let within = name(LINK, FREE, disk.hostname, b"link");
    let fs = ExtFs::open(Arc::new(disk.commit([inode.clone(), create(b"new"), within.clone()]))).unwrap();
    assert_eq!(names(&fs, ROOT), [&b"etc"[..], b"lost+found", b"new"]);
    assert_eq!(names(&fs, FREE), [b"link"]);
    assert_eq!((fs.description().notes.as_slice(), faults(&fs)), (&WHOLE[..], vec![]));

    let twice = [inode.clone(), create(b"new"), within, create(b"twice")];
    let fs = ExtFs::open(Arc::new(disk.commit(twice))).unwrap();
    assert_eq!(names(&fs, ROOT), [&b"etc"[..], b"lost+found", b"new"]);
    assert_eq!(names(&fs, FREE), [b"link"]);
    assert_eq!(faults(&fs), ["directory that a fast commit makes"]);

    // Removed, its inode may be another directory's.
    let again =
        [inode.clone(), create(b"new"), name(UNLINK, ROOT, FREE, b"new"), inode.clone(), create(b"again")];
    let fs = ExtFs::open(Arc::new(disk.commit(again))).unwrap();
    assert_eq!(names(&fs, ROOT), [&b"again"[..], b"etc", b"lost+found"]);
    assert_eq!((fs.description().notes.as_slice(), faults(&fs)), (&WHOLE[..], vec![]));

    // An extent of 0x8001 blocks is one of one block that was never written.
    for (numbers, is_new) in [([FREE, 0, 0x8001, 5000], false), ([FREE, 1, 0x8001, 5000], true)] {
        let tags = [inode.clone(), range(ADD_RANGE, &numbers), create(b"new")];
        let fs = ExtFs::open(Arc::new(disk.commit(tags))).unwrap();
        assert_eq!(names(&fs, ROOT).contains(&b"new".to_vec()), is_new);
    }
}

/// The kernel gives the mount up where the inode of a new name is not in use, and reads nothing behind it.
#[test]
fn the_replay_ends_where_the_kernels_does() {
    let disk = Disk::new(&[]);
    let link = |called: &[u8]| name(LINK, disk.etc, disk.hostname, called);
    let whole = ExtFs::open(Arc::new(disk.commit([link(b"1"), link(b"2")]))).unwrap();
    assert_eq!(names(&whole, disk.etc), [&b"1"[..], b"2", b"hostname"]);
    assert_eq!((whole.description().notes.as_slice(), faults(&whole)), (&WHOLE[..], vec![]));
    for inode in [FREE, ROOT, 8, u32::MAX] {
        let tags = [link(b"1"), name(CREAT, disk.etc, inode, b"none"), link(b"2")];
        let fs = ExtFs::open(Arc::new(disk.commit(tags))).unwrap();
        assert_eq!(names(&fs, disk.etc), [&b"1"[..], b"hostname"], "{inode}");
        assert_eq!(fs.description().notes, IN_PART);
        assert!(faults(&fs).contains(&"inode of a fast commit"), "{:?}", fs.faults());
    }
    // Other tags of such an inode it passes over.
    let fs = ExtFs::open(Arc::new(disk.commit([name(LINK, disk.etc, FREE, b"none"), link(b"2")]))).unwrap();
    assert_eq!(names(&fs, disk.etc), [&b"2"[..], b"hostname"]);
    assert_eq!(fs.description().notes, WHOLE);
}

/// A tag is small, and what is kept of it is not.
#[test]
fn what_tags_take_in_memory_is_bounded() {
    let disk = Disk::new(&[]);
    let tags = (0..300_000).map(|_| name(LINK, disk.etc, disk.hostname, b"x"));
    let fs = ExtFs::open(Arc::new(disk.commit(tags))).unwrap();
    let told: Vec<_> = fs.faults().iter().map(ToString::to_string).collect();
    assert!(told.iter().any(|fault| fault.contains("bytes in memory of fast commits")), "{told:?}");
    assert_eq!(names(&fs, disk.etc), [b"hostname"]);

    let tags = (0..270_000).map(|index| range(DEL_RANGE, &[disk.hostname, index * 2 + 9, 1]));
    let fs = ExtFs::open(Arc::new(disk.commit(tags))).unwrap();
    assert_eq!(faults(&fs), ["bytes in memory of what fast commits change"]);
    assert_eq!(fs.description().notes, IN_PART);
}

/// Many tags of one large inode read it once.
#[test]
fn a_tag_does_not_read_the_whole_inode_again() {
    let disk = Disk::new(&["-I", "4096"]);
    let tags = (0..200_000).map(|_| name(LINK, disk.etc, disk.hostname, b"hostname"));
    let image = disk.commit(tags);
    let budget = Budget { reads: 4000, bytes: 32 << 20, time: Duration::from_secs(60) };
    let source = Arc::new(BudgetSource::new(Arc::new(image), budget));
    let fs = ExtFs::open(source.clone()).unwrap();
    assert!(source.exhausted().is_none(), "{:?}", source.exhausted());
    assert_eq!((fs.description().notes.as_slice(), faults(&fs)), (&WHOLE[..], vec![]));
    assert_eq!(names(&fs, disk.etc), [b"hostname"]);
}

/// A directory that claims to be large is not searched for a name.
#[test]
fn a_search_is_bounded() {
    let mut disk = Disk::new(&[]);
    let size = disk.inode_at(disk.etc) + 4;
    write(&mut disk.image, size, &(1_u32 << 30).to_le_bytes());
    let fs = ExtFs::open(Arc::new(disk.commit([name(LINK, disk.etc, disk.hostname, b"x")]))).unwrap();
    assert_eq!(faults(&fs), ["bytes of directories that fast commits change"]);
    assert_eq!(fs.description().notes, IN_PART);
}

/// So many damaged changes are told one by one, and then no more.
#[test]
fn changes_left_out_are_counted() {
    let disk = Disk::new(&[]);
    let tags = (0..60_000).map(|_| name(LINK, disk.etc, disk.hostname, b"a/b"));
    let fs = ExtFs::open(Arc::new(disk.commit(tags))).unwrap();
    assert_eq!(faults(&fs), ["name of a fast commit", "fast commits left out"]);
    assert_eq!(fs.description().notes, IN_PART);
}

//! Images that `mkfs.xfs` fills from a prototype file, compared with the folder that the prototype names.
#![allow(missing_docs, dead_code, reason = "a test; its helpers serve other tests too")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "test data is ours")]
#![allow(clippy::print_stderr, reason = "a test that cannot run says so")]

mod tree;

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use stillframe_block::{BlockSource, Budget, BudgetSource, SparseMemorySource};
use stillframe_xfs::open;
use tree::Listing;

/// What a prototype file can say of `folder`: names without blanks only.
fn prototype(folder: &Path, text: &mut String) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let (path, metadata) = (entry.path(), entry.path().symlink_metadata().unwrap());
        let name = entry.file_name().into_string().unwrap();
        let mode = metadata.mode() & 0o777;
        let (uid, gid) = (1000 + metadata.len() % 7, 70_000 + metadata.len() % 5);
        if metadata.is_dir() {
            writeln!(text, "{name} d--{mode:03o} {uid} {gid}").unwrap();
            prototype(&path, text);
            text.push_str("$\n");
        } else if metadata.is_symlink() {
            let target = std::fs::read_link(&path).unwrap();
            writeln!(text, "{name} l--{mode:03o} {uid} {gid} {}", target.display()).unwrap();
        } else {
            let special = if metadata.len() == 4097 { "-ug" } else { "---" };
            writeln!(text, "{name} {special}{mode:03o} {uid} {gid} {}", path.display()).unwrap();
        }
    }
}

/// Makes an image with `options`.
fn make(options: &[&str]) -> (tempfile::TempDir, SparseMemorySource) {
    assert!(tree::has_program("mkfs.xfs"), "mkfs.xfs is not installed: `tests/setup.sh` installs it");
    let scratch = tempfile::tempdir().unwrap();
    let root = scratch.path().join("root");
    tree::fill(&root);
    std::fs::remove_file(root.join(OsStr::from_bytes(b"links/not \xff UTF-8"))).unwrap();
    if !options.contains(&"crc=0") {
        // This tool writes long version 5 links without their headers, and the kernel calls them corrupt.
        for len in [400, 800, 1023] {
            std::fs::remove_file(root.join(format!("links/link{len}"))).unwrap();
        }
    }
    let mut text = String::from("boot\n0 0\nd--755 3 4\n");
    prototype(&root, &mut text);
    text.push_str(
        "devices d--700 0 0\nblock b--660 0 6 8 1\ncharacter c--666 0 0 1 3\nfifo p--644 9 9\n$\n$\n",
    );
    let proto_path = scratch.path().join("prototype");
    std::fs::write(&proto_path, text).unwrap();
    let image = scratch.path().join("image");
    std::fs::File::create(&image).unwrap().set_len(320 << 20).unwrap();
    let made =
        Command::new("mkfs.xfs").args(options).arg("-p").arg(&proto_path).arg(&image).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let source = tree::image(&image);
    (scratch, source)
}

/// Compares all that the prototype says. Times are those of the making.
fn assert_same(listing: &Listing, root: &Path) {
    let expected = tree::of_folder(root);
    let devices = listing.iter().filter(|(path, _)| path.starts_with(b"/devices"));
    let devices: Vec<_> = devices.map(|(_, facts)| (facts.kind, facts.mode, facts.uid, facts.gid)).collect();
    assert_eq!(devices, [('d', 0o700, 0, 0), ('b', 0o660, 0, 6), ('c', 0o666, 0, 0), ('p', 0o644, 9, 9)]);
    assert_eq!(listing.len(), expected.len() + 4);
    let now = i64::try_from(std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs()).unwrap();
    for (path, facts) in expected {
        let name = String::from_utf8_lossy(&path).into_owned();
        let found = listing.get(&path).unwrap_or_else(|| panic!("{name} is missing"));
        assert_eq!((found.kind, found.size_bytes), (facts.kind, facts.size_bytes), "{name}");
        assert_eq!(found.content, facts.content, "{name}");
        let special = if facts.kind == 'f' && facts.size_bytes == 4097 { 0o6000 } else { 0 };
        assert_eq!(found.mode, (facts.mode & 0o777) | special, "{name}");
        let len = root.join(OsStr::from_bytes(&path[1..])).symlink_metadata().unwrap().len();
        assert_eq!(u64::from(found.uid), 1000 + len % 7, "{name}");
        assert_eq!(u64::from(found.gid), 70_000 + len % 5, "{name}");
        assert_eq!(found.links, facts.links, "{name}");
        assert!((now - 600..=now + 1).contains(&found.modified.0), "{name}: {:?}", found.modified);
    }
}

fn check(options: &[&str]) {
    let (scratch, source) = make(options);
    let fs = open(Arc::new(source)).unwrap();
    let (listing, errors) = tree::read_all(&*fs);
    assert!(errors.is_empty(), "{errors:?}");
    assert!(fs.faults().is_empty());
    assert_same(&listing, &scratch.path().join("root"));
    let description = fs.description();
    assert_eq!(description.uuid.as_deref(), Some("01234567-89ab-cdef-0123-456789abcdef"));
    assert_eq!(description.label.as_deref(), Some(&b"twelve chars"[..]));
    assert_eq!((description.dirty, description.size_bytes), (Some(false), 320 << 20));
}

const NAMES: [&str; 4] = ["-m", "uuid=01234567-89ab-cdef-0123-456789abcdef", "-L", "twelve chars"];

#[test]
fn version_5_reads_as_its_prototype() {
    check(&NAMES);
}

#[test]
fn version_5_with_small_blocks_and_large_directory_blocks_reads_as_its_prototype() {
    let options = ["-b", "size=1024", "-n", "size=8192", "-m", "bigtime=0,inobtcount=0", "-i", "nrext64=1"];
    check(&[&NAMES[..], &options].concat());
}

#[test]
fn version_4_reads_as_its_prototype() {
    check(&[&NAMES[..], &["-m", "crc=0"]].concat());
}

#[test]
fn version_4_without_file_types_and_with_small_blocks_reads_as_its_prototype() {
    check(&[&NAMES[..], &["-m", "crc=0", "-b", "size=512", "-n", "ftype=0"]].concat());
}

#[test]
fn what_is_not_supported_is_named() {
    let (_scratch, mut source) = make(&["-m", "crc=0"]);
    let named = |source: &SparseMemorySource| open(Arc::new(source.clone())).err().unwrap().to_string();
    source.set(23, 1);
    assert_eq!(named(&source), "an XFS realtime device is not supported");
    source.set(23, 0);
    source.set(126, 1);
    assert_eq!(named(&source), "an XFS filesystem that is still being made is not supported");
    source.set(126, 0);
    source.set_len(100 << 20);
    assert!(open(Arc::new(source)).is_err());
    assert!(open(Arc::new(SparseMemorySource::default())).is_err());
}

/// Damages a page of metadata: inodes, a directory block, a block map block. Version 5 checksums are made to match
/// again half of the time, so that what is behind them is reached.
fn damage(source: &mut SparseMemorySource, page: u64, state: &mut u64) {
    let mut bytes = vec![0; 4096];
    source.read_exact_at(page, &mut bytes).unwrap();
    let (len, crc) = match &bytes[..4] {
        [b'I', b'N', ..] => (512, 100),
        b"XDB3" | b"XDD3" => (4096, 4),
        _ => (4096, 64),
    };
    let seal = bytes[..4] != *b"XFSB" && tree::next(state).is_multiple_of(2);
    let start = usize::try_from(tree::next(state)).unwrap() % 4096 / len * len;
    for _ in 0..3 {
        // The first bytes say the most.
        let within = usize::try_from(tree::next(state)).unwrap() % if len == 512 { 240 } else { 300 };
        bytes[start + within] = u8::try_from(tree::next(state) % 256).unwrap();
    }
    let is_v5 = bytes[3] == b'3' || (len == 512 && bytes[start + 4] == 3);
    if seal && is_v5 {
        let block = &mut bytes[start..start + len];
        block[crc..crc + 4].fill(0);
        let sum = crc32c::crc32c(block);
        block[crc..crc + 4].copy_from_slice(&sum.to_le_bytes());
    }
    for (at, byte) in (page..).zip(bytes) {
        source.set(at, byte);
    }
}

/// Whatever comes of damage must be an error or a listing, soon.
fn mutate(options: &[&str]) {
    let (_scratch, source) = make(options);
    let is_metadata = |page: &u64| {
        let mut magic = [0; 4];
        source.read_exact_at(*page, &mut magic).unwrap();
        magic.starts_with(b"IN") || magic.starts_with(b"XD") || magic.starts_with(b"BMA")
    };
    let metadata: Vec<u64> = source.written_pages().filter(is_metadata).collect();
    assert!(metadata.len() > 200, "{} pages", metadata.len());
    let mut state = 0x5eed_0001_u64;
    let (mut opened, mut failed) = (0, 0);
    for mutation in 0..60 {
        let mut damaged = source.clone();
        for _ in 0..8 {
            let page = metadata[usize::try_from(tree::next(&mut state)).unwrap() % metadata.len()];
            damage(&mut damaged, page, &mut state);
        }
        // The superblock and the root directory's inode decide whether anything else is read at all.
        if mutation % 6 == 0 {
            damage(&mut damaged, metadata[0], &mut state);
        }
        if mutation % 12 == 0 {
            damage(&mut damaged, 0, &mut state);
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

#[test]
fn damage_of_version_5_ends_in_errors() {
    mutate(&[]);
}

#[test]
fn damage_of_version_4_ends_in_errors() {
    mutate(&["-m", "crc=0"]);
}

//! The golden disks, changed where it matters.

use stillframe_block::SparseMemorySource;
use stillframe_fs::FsError;

use crate::support::{Tally, content, find, list, mutations, use_all, walk};
use crate::volume::{JOLIET, PLAIN, ROCK_RIDGE, SECTIONS, bytes, open, open_bytes, position};

const PRIMARY: usize = 32 << 10;

/// The image with `changed` at `at`.
fn changed(number: usize, at: usize, changed: &[u8]) -> Vec<u8> {
    let mut image = bytes(number);
    image[at..at + changed.len()].copy_from_slice(changed);
    image
}

#[test]
fn impossible_descriptors_are_refused() {
    for (at, bytes) in
        [(PRIMARY + 1, &b"CD002"[..]), (PRIMARY, &[9]), (PRIMARY + 128, &[0, 4, 1, 1]), (PRIMARY + 129, &[7])]
    {
        let opened = open_bytes(changed(PLAIN, at, bytes)).map(|_| ());
        assert!(opened.is_err(), "{at} {bytes:?}");
    }
}

#[test]
fn udf_beside_is_a_fault() {
    let mut image = bytes(PLAIN);
    let end = position(&image, b"\xffCD001");
    // Behind the terminator, where genisoimage leaves a version descriptor of its own.
    image[end + 2048..end + 2048 + 6].copy_from_slice(b"\0BEA01");
    image[end + 4096..end + 4096 + 6].copy_from_slice(b"\0NSR02");
    let fs = open_bytes(image).unwrap();
    assert_eq!(fs.faults()[0].what, "UDF beside ISO 9660");
    let without = position(&bytes(PLAIN), b"MAKEFILE");
    assert!(without > 0 && list(&*fs, fs.root()).is_ok());
}

/// Where the record of the name lies.
fn record(image: &[u8], name: &[u8]) -> usize {
    position(image, name) - 33
}

#[test]
fn what_is_not_read_is_named() {
    let at = record(&bytes(PLAIN), b"README.TXT;1");
    let opened = |image: Vec<u8>, path: &str| {
        let fs = open_bytes(image).unwrap();
        content(&*fs, path).unwrap_err()
    };
    let interleaved = changed(PLAIN, at + 26, &[1, 1]);
    assert!(matches!(opened(interleaved, "readme.txt"), FsError::Unsupported("an interleaved file")));
    let elsewhere = changed(PLAIN, at + 28, &[2, 0]);
    assert!(matches!(
        opened(elsewhere, "readme.txt"),
        FsError::Unsupported("a file on another volume of the set")
    ));
    // The times of a file become what says that it is compressed, or has holes.
    let rock_ridge = bytes(ROCK_RIDGE);
    let start = record(&rock_ridge, b"HOSTNAME");
    let times = start + position(&rock_ridge[start..], b"TF\x1a\x01");
    let mut image = rock_ridge.clone();
    image[times..times + 16].copy_from_slice(b"ZF\x1a\x01pz\x04\x0f\x39\x30\0\0\0\0\x30\x39");
    let fs = open_bytes(image.clone()).unwrap();
    assert_eq!(fs.metadata(find(&*fs, "etc/hostname")).unwrap().size_bytes, 12_345);
    assert!(matches!(opened(image, "etc/hostname"), FsError::Unsupported("zisofs compression")));
    let mut image = rock_ridge;
    image[times..times + 2].copy_from_slice(b"SF");
    assert!(matches!(opened(image, "etc/hostname"), FsError::Unsupported("a sparse file of Rock Ridge")));
}

fn root_fault(image: Vec<u8>) -> Result<(), &'static str> {
    let fs = open_bytes(image).unwrap();
    match list(&*fs, fs.root()) {
        Ok(_) => Ok(()),
        Err(FsError::Corrupt(fault)) => Err(fault.what),
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn damaged_records_are_faults() {
    let at = record(&bytes(PLAIN), b"MAKEFILE.;1");
    assert_eq!(root_fault(bytes(PLAIN)), Ok(()));
    assert_eq!(root_fault(changed(PLAIN, at, &[20])), Err("directory record length"));
    assert_eq!(root_fault(changed(PLAIN, at + 32, &[200])), Err("directory record"));
    assert_eq!(root_fault(changed(PLAIN, at + 33, &[0x2e, 0x2e, 0x3b, 0x31])), Ok(()));
    assert_eq!(root_fault(changed(PLAIN, at + 33, &[0])), Err("file name"));
    // The last one of the directory goes on, and nothing follows.
    let last = record(&bytes(SECTIONS), b"OTHER.TXT;1");
    assert_eq!(root_fault(changed(SECTIONS, last + 25, &[0x80])), Err("sections of a file"));
}

#[test]
fn continuations_on_a_cycle_end_and_say_so() {
    let image = bytes(ROCK_RIDGE);
    let mut cycles = image.clone();
    // Each continuation becomes one that continues itself: its first entry points to where it lies.
    let at = position(&image, b"CE\x1c\x01");
    let block = u32::from_le_bytes(image[at + 4..at + 8].try_into().unwrap()) as usize;
    let offset = u32::from_le_bytes(image[at + 12..at + 16].try_into().unwrap()) as usize;
    let place = block * 2048 + offset;
    let mut entry = image[at..at + 28].to_vec();
    entry[20..24].copy_from_slice(&28_u32.to_le_bytes());
    cycles[place..place + 28].copy_from_slice(&entry);
    cycles[place + 28..place + 32].fill(0);
    let opened = open_bytes(cycles).map(|_| ());
    let error = opened.unwrap_err();
    assert!(
        matches!(error, FsError::Corrupt(fault) if fault.what == "continuation areas of a record"),
        "{error}"
    );
    let mut long = image;
    long[at + 20..at + 24].copy_from_slice(&u32::MAX.to_le_bytes());
    let opened = open_bytes(long).map(|_| ());
    assert!(matches!(opened, Err(FsError::Corrupt(fault)) if fault.what == "continuation area in bytes"));
}

#[test]
fn changed_bytes_are_errors_and_nothing_worse() {
    let mut all = Tally::default();
    for number in [ROCK_RIDGE, JOLIET, PLAIN, SECTIONS, 5] {
        let disk = SparseMemorySource::from_reader(&bytes(number)[..]).unwrap();
        let tally = mutations(&disk, 0..150, open, |_| {});
        all.refused += tally.refused;
        all.failed += tally.failed;
    }
    assert!(all.refused > 0 && all.refused < 375, "{all:?}");
    assert!(all.failed > 50, "{all:?}");
}

#[test]
fn a_cut_image_is_an_error() {
    let whole = bytes(ROCK_RIDGE);
    let files = walk(&*open_bytes(whole.clone()).unwrap()).len();
    for len in [0, 10, 33_000, 40_000, 60_000, 100_000, 200_000] {
        if let Ok(fs) = open_bytes(whole[..len].to_vec()) {
            assert_eq!(fs.faults()[0].what, "volume length", "{len}");
            assert!(use_all(&*fs) > 0, "{len} of {files} files");
        }
    }
}

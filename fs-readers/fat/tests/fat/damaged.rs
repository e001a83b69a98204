//! Images of `testdata` that are changed where it matters.

use std::sync::Arc;

use stillframe_block::MemorySource;
use stillframe_fs::{FsError, ReadOnlyFs};

use crate::support::{find, image, list, open, open_source, read_all, walk};

fn u16_at(image: &[u8], at: usize) -> usize {
    u16::from_le_bytes([image[at], image[at + 1]]).into()
}

/// Where the first FAT of `fat16` begins.
fn table(image: &[u8]) -> usize {
    u16_at(image, 14) * u16_at(image, 11)
}

/// The first cluster in the directory entry of `path`, and where the entry is.
fn first_cluster(fs: &dyn ReadOnlyFs, image: &[u8], path: &str) -> (usize, usize) {
    let entry = find(fs, path).number as usize;
    (u16_at(image, entry + 26), entry)
}

fn set_next(image: &mut [u8], cluster: usize, next: usize) {
    let at = table(image) + cluster * 2;
    image[at..at + 2].copy_from_slice(&(next as u16).to_le_bytes());
}

fn next(image: &[u8], cluster: usize) -> usize {
    u16_at(image, table(image) + cluster * 2)
}

/// What is wrong with `path` when its chain is changed by `change`.
fn fault_of(path: &str, change: impl FnOnce(&mut Vec<u8>, usize)) -> Result<&'static str, FsError> {
    let mut image = image("fat16");
    let (first, _) = first_cluster(&*open(image.clone()), &image, path);
    change(&mut image, first);
    let fs = open(image);
    match fs.open(find(&*fs, path)) {
        Ok(_) => Ok("opened"),
        Err(FsError::Corrupt(fault)) => Ok(fault.what),
        Err(error) => Err(error),
    }
}

#[test]
fn chains_that_do_not_hold_the_file_are_faults() {
    let path = "dir/pieces.bin";
    let cycle = |image: &mut Vec<u8>, first| {
        let second = next(image, first);
        set_next(image, second, first);
    };
    assert_eq!(fault_of(path, cycle).unwrap(), "cluster chain");
    assert_eq!(fault_of(path, |image, first| set_next(image, first, first)).unwrap(), "cluster chain");
    assert_eq!(
        fault_of(path, |image, first| set_next(image, first, 0xFFFF)).unwrap(),
        "cluster chain length"
    );
    for bad in [0, 1, 0xFFF0, 0xFFF7] {
        assert_eq!(
            fault_of(path, |image, first| set_next(image, first, bad)).unwrap(),
            "cluster chain",
            "{bad}"
        );
    }
}

#[test]
fn a_cycle_behind_the_content_is_a_fault_too() {
    // One cluster of content: which one comes first cannot be told once it is on a cycle.
    let cycle = |image: &mut Vec<u8>, first| set_next(image, first, first);
    assert_eq!(fault_of("SHORT.TXT", cycle).unwrap(), "cluster chain");
}

#[test]
fn a_chain_ends_where_the_image_is_cut() {
    let path = "dir/pieces.bin";
    let mut image = image("fat16");
    let id = find(&*open(image.clone()), path);
    let (first, entry) = first_cluster(&*open(image.clone()), &image, path);
    let data_at = table(&image)
        + usize::from(image[16]) * u16_at(&image, 22) * u16_at(&image, 11)
        + u16_at(&image, 17) * 32;
    let cluster_len = usize::from(image[13]) * u16_at(&image, 11);
    // A cluster of the volume, and none of the image.
    set_next(&mut image, first, 4000);
    image.truncate(entry.max(data_at + (first - 1) * cluster_len) + cluster_len);
    assert!(data_at + 3998 * cluster_len > image.len());
    let opened = open(image).open(id).map(|_| ());
    assert!(matches!(opened, Err(FsError::Corrupt(fault)) if fault.what == "cluster chain"));
}

#[test]
fn clusters_allocated_ahead_do_no_harm() {
    let mut image = image("fat16");
    let fs = open(image.clone());
    let (first, entry) = first_cluster(&*fs, &image, "NUMBERS");
    let content = read_all(&mut *fs.open(find(&*fs, "NUMBERS")).unwrap()).unwrap();
    image[entry + 28..entry + 32].copy_from_slice(&1500_u32.to_le_bytes());
    assert!(next(&image, first) < 0xFFF8);
    let fs = open(image);
    let cut = read_all(&mut *fs.open(find(&*fs, "NUMBERS")).unwrap()).unwrap();
    assert_eq!(cut, content[..1500]);
}

#[test]
fn a_directory_on_a_cycle_lists_each_entry_once_and_says_so() {
    let mut image = image("fat16");
    let fs = open(image.clone());
    let (first, _) = first_cluster(&*fs, &image, "dir/many");
    let third = next(&image, next(&image, first));
    set_next(&mut image, third, first);
    let fs = open(image);
    let mut names = Vec::new();
    let error = fs.read_dir(find(&*fs, "dir/many"), &mut |entry| {
        names.push(entry.name.to_vec());
        std::ops::ControlFlow::Continue(())
    });
    assert!(matches!(error, Err(FsError::Corrupt(fault)) if fault.what == "directory's cluster chain"));
    let listed = names.len();
    names.sort();
    names.dedup();
    assert!(listed > 5 && names.len() == listed);
}

#[test]
fn a_directory_without_a_cluster_is_a_fault() {
    let mut image = image("fat16");
    let (_, entry) = first_cluster(&*open(image.clone()), &image, "dir");
    image[entry + 26..entry + 28].fill(0);
    let fs = open(image);
    assert!(matches!(list(&*fs, find(&*fs, "dir")), Err(FsError::Corrupt(_))));
}

#[test]
fn an_orphaned_long_name_gives_way_to_the_short_one() {
    let mut image = image("fat16");
    let entry = find(&*open(image.clone()), "A rather long name, with spaces.text").number as usize;
    // The checksum in the long entry just before.
    image[entry - 32 + 13] ^= 1;
    let names: Vec<_> = walk(&*open(image)).into_keys().collect();
    assert!(names.contains(&b"ARATHE~1.TEX".to_vec()));
    assert!(!names.iter().any(|name| name.starts_with(b"A rather")));
}

#[test]
fn a_name_with_a_separator_is_refused() {
    let mut image = image("fat16");
    let entry = find(&*open(image.clone()), "SHORT.TXT").number as usize;
    image[entry + 2] = b'/';
    let fs = open(image);
    let error = list(&*fs, fs.root()).unwrap_err();
    assert!(matches!(error, FsError::Corrupt(fault) if fault.what == "file name"));
}

#[test]
fn the_dirty_marks_are_seen() {
    let mut image = image("fat16");
    let at = table(&image) + 3;
    image[at] &= 0x7F;
    assert_eq!(open(image.clone()).description().dirty, Some(true));
    image[at] |= 0x80;
    image[37] |= 1;
    assert_eq!(open(image).description().dirty, Some(true));
}

#[test]
fn impossible_boot_sectors_are_refused() {
    let original = image("fat16");
    let changes: [(usize, &[u8]); 8] = [
        (11, &[0, 0]),
        (11, &[1, 2]),
        (13, &[0]),
        (13, &[3]),
        (14, &[0, 0]),
        (16, &[0]),
        (19, &[9, 0]),
        (510, &[0]),
    ];
    for (at, bytes) in changes {
        let mut image = original.clone();
        image[at..at + bytes.len()].copy_from_slice(bytes);
        let opened = open_source(Arc::new(MemorySource(image)));
        assert!(matches!(opened, Err(FsError::Corrupt(_))), "{at} {bytes:?}");
    }
    let mut exfat = original;
    exfat[3..11].copy_from_slice(b"EXFAT   ");
    assert!(matches!(open_source(Arc::new(MemorySource(exfat))), Err(FsError::Unsupported("exFAT"))));
}

//! What a hostile disk would say: records that claim each other, indexes without end; and the MFT's damaged start.

use std::sync::Arc;
use std::time::{Duration, Instant};

use stillframe_block::MemorySource;
use stillframe_fs::{FsError, ReadOnlyFs};

use crate::damaged::{attribute, contents, record_at, split_mft, u32_at, undo_update_sequence, write_record};
use crate::support::{find, image, list, open, open_source, read_all, walk};

/// Where the copy of the MFT's first records lies.
fn mirror_at(image: &[u8]) -> usize {
    let cluster = u64::from_le_bytes(image[0x38..0x40].try_into().unwrap());
    (cluster * u64::from(image[0x0D]) * 512) as usize
}

fn fault_of<T>(result: Result<T, FsError>) -> &'static str {
    match result {
        Err(FsError::Corrupt(fault)) => fault.what,
        Err(other) => panic!("{other}"),
        Ok(_) => "none",
    }
}

#[test]
fn the_first_records_are_read_from_their_copy_where_they_are_damaged() {
    for name in ["files", "scattered-mft"] {
        let whole = image(name);
        let fs = open(whole.clone());
        let (before, files, label) = (walk(&*fs).len(), contents(&whole), fs.description().label.clone());
        // A record that was cut off, ones that are none, and all at once.
        for damage in [&[(0, 510)][..], &[(0, 0)], &[(3, 1022)], &[(1, 1)], &[(0, 3), (1, 3), (2, 3), (3, 3)]]
        {
            let mut image = whole.clone();
            for (number, at) in damage {
                let at = record_at(&image, *number) + at;
                image[at] ^= 0x55;
            }
            let fs = open(image.clone());
            assert_eq!(fs.description().label, label, "{name} {damage:?}");
            assert_eq!((walk(&*fs).len(), contents(&image)), (before, files.clone()), "{name} {damage:?}");
            let told = fs.faults();
            assert_eq!(told.len(), open(whole.clone()).faults().len() + damage.len(), "{name} {damage:?}");
            assert!(
                told.iter().any(|fault| fault.at == record_at(&image, damage[0].0) as u64 || damage[0].1 > 3)
            );
            // The copy of the first is damaged, too.
            let copy = mirror_at(&image) + 511;
            image[copy] ^= 0x55;
            let opened = open_source(Arc::new(MemorySource(image)));
            assert_eq!(opened.is_err(), damage[0].0 == 0, "{name} {damage:?}");
        }
    }
}

#[test]
fn a_copy_is_not_looked_at_where_the_records_are_whole() {
    let mut image = image("files");
    let before = walk(&*open(image.clone())).len();
    let copy = mirror_at(&image);
    image[copy..copy + 4096].fill(0xEE);
    let fs = open(image);
    assert_eq!((walk(&*fs).len(), fs.faults().len()), (before, 0));
    // Other records have none.
    let mut image = crate::support::image("files");
    let root = record_at(&image, 5);
    image[root] = 0;
    assert_eq!(fault_of(open_source(Arc::new(MemorySource(image)))), "file record signature");
}

/// An attribute list in its record that names an attribute of type `kind` in the file record `reference`.
fn list_of(kind: u8, reference: u64) -> Vec<u8> {
    let mut list = vec![0; 0x18 + 32];
    (list[0], list[4], list[0x0E]) = (0x20, 0x18 + 32, 99);
    (list[0x10], list[0x14]) = (32, 0x18);
    (list[0x18], list[0x1C], list[0x1F]) = (kind, 32, 26);
    list[0x28..0x30].copy_from_slice(&reference.to_le_bytes());
    list
}

#[test]
fn attribute_lists_that_name_each_others_files_are_refused() {
    let mut image = image("files");
    let fs = open(image.clone());
    let [one, other] = ["clusters", "resident"].map(|path| find(&*fs, path));
    for (file, named) in [(one, other), (other, one)] {
        let record = record_at(&image, file.number);
        undo_update_sequence(&mut image, record);
        let standard = image[attribute(&image, record, 0x10)].to_vec();
        write_record(&mut image, record, &[standard, list_of(0x80, named.number)]);
    }
    let fs = open(image.clone());
    for file in [one, other] {
        assert_eq!(fault_of(fs.open(file)), "attribute list reference");
        assert_eq!(fault_of(fs.metadata(file)), "attribute list reference");
    }
    // Nor does a record become another file's because it says so.
    let record = record_at(&image, other.number);
    image[record + 0x20..record + 0x28].copy_from_slice(&(one.number ^ 1 << 48).to_le_bytes());
    let fs = open(image);
    assert!(matches!(fs.metadata(other), Err(FsError::NotFound)));
    assert_eq!(fault_of(fs.open(one)), "attribute list reference");
}

#[test]
fn the_list_of_a_record_that_is_no_base_is_not_followed() {
    let whole = image("scattered-mft");
    let before = contents(&whole);
    let mut image = split_mft(whole);
    let extension = record_at(&image, 15);
    undo_update_sequence(&mut image, extension);
    let data = image[attribute(&image, extension, 0x80)].to_vec();
    // Back to the base, and itself not readable: 48 bytes of entries in a value of 32.
    let mut list = list_of(0x80, 1 << 48);
    list[0x1C] = 48;
    write_record(&mut image, extension, &[list, data]);
    assert_eq!(contents(&image), before);
}

/// The directory `many` of an image whose boot sector claims 2^45 clusters: its index claims 2^44, and its $BITMAP
/// has the run `bitmap_run` and was written up to `initialized`.
fn endless_index(bitmap_run: &[u8], initialized: u64) -> (Box<dyn ReadOnlyFs>, stillframe_fs::FileId) {
    let mut image = image("files");
    let many = find(&*open(image.clone()), "many");
    // Its record lies in the MFT's second run, and has its number in it.
    let number = (many.number & 0xFFFF_FFFF) as usize;
    let mut records = (0..image.len()).step_by(1024).filter(|at| image[*at..*at + 4] == *b"FILE");
    let record = records.find(|at| u32_at(&image, at + 0x2C) == number).unwrap();
    image[0x28..0x30].copy_from_slice(&(8_u64 << 45).to_le_bytes());
    undo_update_sequence(&mut image, record);
    let standard = image[attribute(&image, record, 0x10)].to_vec();
    let root = image[attribute(&image, record, 0x90)].to_vec();
    let clusters = 1_u64 << 44;
    let extent = |kind: u8, run: &[u8], size: u64, initialized: u64| {
        let mut bytes = vec![0; 0x40];
        (bytes[0], bytes[8], bytes[9], bytes[0x0A], bytes[0x20]) = (kind, 1, 4, 0x40, 0x48);
        bytes[0x18..0x20].copy_from_slice(&(clusters - 1).to_le_bytes());
        for (at, number) in [(0x28, size), (0x30, size), (0x38, initialized)] {
            bytes[at..at + 8].copy_from_slice(&number.to_le_bytes());
        }
        bytes.extend_from_slice(b"$\0I\x003\x000\0");
        bytes.extend_from_slice(run);
        bytes.resize(bytes.len().next_multiple_of(8) + 8, 0);
        bytes[4] = bytes.len() as u8;
        bytes
    };
    let all = [&[0x18][..], &clusters.to_le_bytes(), &[0]].concat();
    let allocation = extent(0xA0, &all, clusters * 4096, clusters * 4096);
    let bitmap = extent(0xB0, bitmap_run, clusters / 8, initialized);
    write_record(&mut image, record, &[standard, root, allocation, bitmap]);
    (open(image), many)
}

#[test]
fn an_index_without_end_costs_reads_or_is_refused() {
    let started = Instant::now();
    let clusters = 1_u64 << 44;
    // 2^41 bytes of zeros in a hole.
    let (fs, many) = endless_index(&[&[0x08][..], &clusters.to_le_bytes()].concat(), clusters / 8);
    assert_eq!(fault_of(list(&*fs, many)), "index $BITMAP data runs");
    // As many that were never written: none of the records is used.
    let run = [&[0x18][..], &clusters.to_le_bytes(), &[0]].concat();
    let (fs, many) = endless_index(&run, 0);
    list(&*fs, many).unwrap();
    // As many in clusters that the disk does not have: a read fails where it ends.
    let (fs, many) = endless_index(&run, clusters / 8);
    assert!(list(&*fs, many).is_err());
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
    let file = find(&*fs, "resident");
    assert!(!read_all(&mut *fs.open(file).unwrap()).unwrap().is_empty());
}

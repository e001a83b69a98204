//! Images of `testdata` that are changed where it matters.

use std::ops::Range;

use stillframe_fs::FsError;

use crate::support::{Entry, find, image, list, open, open_source, read_all, walk};

const CLUSTER: usize = 4096;

/// Where record `number` of the MFT lies, in an image whose MFT is in one piece.
pub(crate) fn record_at(image: &[u8], number: u64) -> usize {
    let mft = u64::from_le_bytes(image[0x30..0x38].try_into().unwrap());
    (mft * u64::from(image[0x0D]) * 512 + (number & 0xFFFF_FFFF) * 1024) as usize
}

pub(crate) fn u16_at(image: &[u8], at: usize) -> usize {
    u16::from_le_bytes(image[at..at + 2].try_into().unwrap()).into()
}

pub(crate) fn u32_at(image: &[u8], at: usize) -> usize {
    u32::from_le_bytes(image[at..at + 4].try_into().unwrap()) as usize
}

/// The attribute of this type in the record at `record`. None of those looked for crosses a sector's end.
pub(crate) fn attribute(image: &[u8], record: usize, kind: u32) -> Range<usize> {
    let mut at = record + u16_at(image, record + 0x14);
    while u32_at(image, at) != kind as usize {
        assert_ne!(u32_at(image, at), 0xFFFF_FFFF, "no attribute {kind:#x}");
        at += u32_at(image, at + 4);
    }
    at..at + u32_at(image, at + 4)
}

fn record_of(image: &[u8], path: &str) -> usize {
    record_at(image, find(&*open(image.to_vec()), path).number)
}

#[test]
fn an_encrypted_file_is_not_read() {
    let mut image = image("files");
    let path = "clusters";
    let record = record_of(&image, path);
    let data = attribute(&image, record, 0x80).start;
    image[data + 0x0D] |= 0x40;
    let fs = open(image.clone());
    let id = find(&*fs, path);
    assert!(fs.metadata(id).unwrap().encrypted);
    assert!(matches!(fs.open(id), Err(FsError::Encrypted("EFS"))));
    image[data + 0x0D] &= !0x40;
    // And where only the file's own attributes say so.
    let standard = attribute(&image, record, 0x10).start;
    image[standard + 0x18 + 0x21] |= 0x40;
    let fs = open(image);
    assert!(fs.metadata(id).unwrap().encrypted);
    assert!(matches!(fs.open(id), Err(FsError::Encrypted("EFS"))));
}

#[test]
fn what_was_never_written_reads_as_zeros() {
    for (path, initialized) in [("clusters", 5000), ("compressed/numbers", 100_000)] {
        let mut image = image("files");
        let whole =
            read_all(&mut *open(image.clone()).open(find(&*open(image.clone()), path)).unwrap()).unwrap();
        let data = attribute(&image, record_of(&image, path), 0x80).start;
        image[data + 0x38..data + 0x40].copy_from_slice(&u64::to_le_bytes(initialized));
        let fs = open(image);
        let content = read_all(&mut *fs.open(find(&*fs, path)).unwrap()).unwrap();
        let (written, rest) = content.split_at(initialized as usize);
        assert_eq!(written, &whole[..written.len()], "{path}");
        assert!(rest.iter().all(|byte| *byte == 0) && content.len() == whole.len(), "{path}");
    }
}

#[test]
fn a_damaged_compression_unit_gives_no_bytes() {
    let mut image = image("files");
    let record = record_of(&image, "compressed/numbers");
    let data = attribute(&image, record, 0x80);
    let runs = data.start + u16_at(&image, data.start + 0x20);
    // A run of one byte of length and two of position.
    assert_eq!(image[runs], 0x21);
    let cluster = u16_at(&image, runs + 2);
    image[cluster * CLUSTER + 1] &= 0x8F;
    let fs = open(image);
    let mut file = fs.open(find(&*fs, "compressed/numbers")).unwrap();
    let error = file.read_at(10, &mut [0; 10]).unwrap_err();
    assert!(matches!(error, FsError::Corrupt(fault) if fault.what == "LZNT1 chunk signature"), "{error}");
    // Other units are read all the same.
    assert_eq!(file.read_at(70_000, &mut [0; 10]).unwrap(), 10);
}

#[test]
fn runs_shorter_than_the_file_are_a_fault() {
    let mut image = image("files");
    let data = attribute(&image, record_of(&image, "clusters"), 0x80).start;
    image[data + 0x32] = 1;
    let fs = open(image);
    assert!(matches!(fs.open(find(&*fs, "clusters")), Err(FsError::Corrupt(_))));
}

/// The index records of the directory `many`, by their place in the image.
fn index_records(image: &[u8]) -> Vec<usize> {
    let starts = (0..image.len()).step_by(CLUSTER).filter(|at| &image[*at..*at + 4] == b"INDX");
    starts.filter(|at| image[*at..*at + CLUSTER].windows(8).any(|name| name == b"f\0i\0l\0e\0")).collect()
}

#[test]
fn nodes_that_refer_to_each_other_in_a_circle_are_each_read_once() {
    let mut image = image("files");
    let before = walk(&*open(image.clone())).len();
    for node in index_records(&image) {
        let mut entry = node + 0x18 + u32_at(&image, node + 0x18);
        loop {
            let (len, flags) = (u16_at(&image, entry + 8), image[entry + 12]);
            if flags & 1 != 0 && len >= 24 {
                image[entry + len - 8..entry + len].fill(0);
            }
            if flags & 2 != 0 {
                break;
            }
            entry += len;
        }
    }
    assert_eq!(walk(&*open(image)).len(), before);
}

#[test]
fn a_damaged_node_hides_only_its_own_entries() {
    let mut image = image("files");
    let fs = open(image.clone());
    let directory = find(&*fs, "many");
    let whole = list(&*fs, directory).unwrap().len();
    let node = *index_records(&image).last().unwrap();
    image[node + CLUSTER - 1] ^= 0x55;
    let fs = open(image);
    let mut seen = 0;
    let error = fs.read_dir(directory, &mut |_| {
        seen += 1;
        std::ops::ControlFlow::Continue(())
    });
    assert!(matches!(error, Err(FsError::Corrupt(fault)) if fault.what == "update sequence number"));
    assert!(seen > whole / 2 && seen < whole, "{seen} of {whole}");
}

#[test]
fn a_name_with_a_separator_is_refused() {
    let mut image = image("files");
    for node in index_records(&image) {
        let entry = node + 0x18 + u32_at(&image, node + 0x18);
        if image[entry + 12] & 2 == 0 {
            image[entry + 0x10 + 0x42] = b'/';
        }
    }
    let fs = open(image);
    let error = list(&*fs, find(&*fs, "many")).unwrap_err();
    assert!(matches!(error, FsError::Corrupt(fault) if fault.what == "file name"), "{error}");
}

#[test]
fn an_mft_whose_record_has_an_attribute_list() {
    let image = image("scattered-mft");
    let before = contents(&image);
    let split = split_mft(image);
    let fs = open(split.clone());
    assert!(fs.metadata(fs.root()).is_ok());
    assert_eq!(contents(&split), before);
    // Without its continuation the MFT ends early, and the reader says so.
    let mut cut = split;
    let list = attribute(&cut, record_at(&cut, 0), 0x20).start;
    cut[list + 0x18 + 4 * 32 + 0x10] = 16;
    assert!(open_source(std::sync::Arc::new(stillframe_block::MemorySource(cut))).is_err());
}

pub(crate) fn contents(image: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let fs = open(image.to_vec());
    let paths = walk(&*fs).into_iter().filter(|(path, _)| path.starts_with(b"file"));
    paths.map(|(path, Entry { id, .. })| (path, read_all(&mut *fs.open(id).unwrap()).unwrap())).collect()
}

/// Moves the second half of the MFT's data runs to record 15, as Windows does when its own record is full.
pub(crate) fn split_mft(mut image: Vec<u8>) -> Vec<u8> {
    let base = record_at(&image, 0);
    let extension = record_at(&image, 15);
    for record in [base, extension] {
        undo_update_sequence(&mut image, record);
    }
    let header = |image: &[u8], kind| image[attribute(image, base, kind)].to_vec();
    let (standard, name, data, bitmap) =
        (header(&image, 0x10), header(&image, 0x30), header(&image, 0x80), header(&image, 0xB0));
    let runs = decoded(&data[u16_at(&data, 0x20)..]);
    let (first, second) = runs.split_at(runs.len() / 2);
    let middle: u64 = first.iter().map(|(clusters, _)| clusters).sum();
    let base_reference = u64::from(image[base + 0x10] as u16) << 48;
    let extension_reference = 1 << 48 | 15;
    let mut entries = Vec::new();
    let rows = [
        (&standard, 0, base_reference),
        (&name, 0, base_reference),
        (&data, 0, base_reference),
        (&bitmap, 0, base_reference),
        (&data, middle, extension_reference),
    ];
    for (attribute, vcn, reference) in rows {
        entries.extend_from_slice(&attribute[..4]);
        entries.extend_from_slice(&[32, 0, 0, 26]);
        entries.extend_from_slice(&u64::to_le_bytes(vcn));
        entries.extend_from_slice(&u64::to_le_bytes(reference));
        // The instance of the continuation is its own record's.
        let instance = if reference == extension_reference { [7, 0] } else { [attribute[14], attribute[15]] };
        entries.extend_from_slice(&instance);
        entries.extend_from_slice(&[0; 6]);
    }
    let mut list = vec![0_u8; 0x18];
    list[0] = 0x20;
    list[0x0E] = 99;
    list[0x10..0x14].copy_from_slice(&(entries.len() as u32).to_le_bytes());
    list[0x14] = 0x18;
    list.extend(entries);
    let total = list.len() as u32;
    list[4..8].copy_from_slice(&total.to_le_bytes());
    write_record(&mut image, base, &[standard, list, name, with_runs(&data, first, 0, middle), bitmap]);
    let end = middle + second.iter().map(|(clusters, _)| clusters).sum::<u64>();
    let mut continuation = with_runs(&data, second, middle, end);
    continuation[14] = 7;
    write_record(&mut image, extension, &[continuation]);
    image[extension + 0x10] = 1;
    image[extension + 0x16] = 1;
    image[extension + 0x20..extension + 0x28].copy_from_slice(&base_reference.to_le_bytes());
    image
}

pub(crate) fn undo_update_sequence(image: &mut [u8], record: usize) {
    let at = record + u16_at(image, record + 4);
    for sector in 0..2 {
        let end = record + sector * 512 + 510;
        image.copy_within(at + 2 + sector * 2..at + 4 + sector * 2, end);
    }
}

pub(crate) fn write_record(image: &mut [u8], record: usize, attributes: &[Vec<u8>]) {
    let mut at = record + u16_at(image, record + 0x14);
    image[at..record + 1024].fill(0);
    for attribute in attributes {
        image[at..at + attribute.len()].copy_from_slice(attribute);
        at += attribute.len();
    }
    image[at..at + 4].fill(0xFF);
    let used = (at + 8 - record) as u32;
    image[record + 0x18..record + 0x1C].copy_from_slice(&used.to_le_bytes());
    let sequence = record + u16_at(image, record + 4);
    for sector in 0..2 {
        let end = record + sector * 512 + 510;
        image.copy_within(end..end + 2, sequence + 2 + sector * 2);
        image.copy_within(sequence..sequence + 2, end);
    }
}

/// The runs as (clusters, first cluster on the volume).
fn decoded(mut pairs: &[u8]) -> Vec<(u64, i64)> {
    let (mut runs, mut position) = (Vec::new(), 0_i64);
    while let [header, rest @ ..] = pairs
        && *header != 0
    {
        let (count, delta) = (usize::from(header & 15), usize::from(header >> 4));
        let number =
            |bytes: &[u8]| bytes.iter().rev().fold(0_i64, |number, byte| number << 8 | i64::from(*byte));
        let shift = 64 - 8 * delta as u32;
        position += number(&rest[count..count + delta]) << shift >> shift;
        runs.push((number(&rest[..count]) as u64, position));
        pairs = &rest[count + delta..];
    }
    runs
}

/// The attribute with other runs.
fn with_runs(data: &[u8], runs: &[(u64, i64)], lowest: u64, end: u64) -> Vec<u8> {
    let mut attribute = data[..0x40].to_vec();
    attribute[0x10..0x18].copy_from_slice(&lowest.to_le_bytes());
    attribute[0x18..0x20].copy_from_slice(&(end - 1).to_le_bytes());
    attribute[0x20..0x22].copy_from_slice(&0x40_u16.to_le_bytes());
    let mut previous = 0;
    for (clusters, position) in runs {
        attribute.push(0x22);
        attribute.extend_from_slice(&(*clusters as u16).to_le_bytes());
        attribute.extend_from_slice(&((position - previous) as i16).to_le_bytes());
        previous = *position;
    }
    attribute.push(0);
    attribute.resize(attribute.len().next_multiple_of(8), 0);
    let len = attribute.len() as u32;
    attribute[4..8].copy_from_slice(&len.to_le_bytes());
    attribute
}

//! Owners, times of change, attribute lists and special files: `ntfs-metadata`, as ntfs-3g lists it.

use std::path::PathBuf;

use stillframe_bytes::Fault;
use stillframe_fixtures::{expected, unescaped};
use stillframe_fs::{FsError, ReadOnlyFs};

use crate::damaged::{attribute, record_at, u16_at, u32_at};
use crate::support::{find, golden, open, read_all, sha256, walk};

const NAME: &str = "ntfs-metadata";

#[test]
fn owners_and_times_of_change_are_those_that_the_driver_shows() {
    let fs = open(golden(NAME));
    let paths = walk(&*fs);
    let listing =
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/golden/ntfs-metadata.owners.tsv");
    let mut rows = 0;
    for row in std::fs::read_to_string(listing).unwrap().lines() {
        let fields: Vec<_> = row.split('\t').collect();
        let [_, path, owner, group, changed] = fields[..] else { panic!("short row") };
        let path = path.strip_prefix('/').unwrap();
        let id = if path.is_empty() { fs.root() } else { paths[path.as_bytes()].id };
        let found = fs.owners(id).unwrap().unwrap();
        assert_eq!(found.owner.unwrap().to_string(), owner, "{path}");
        assert_eq!(found.group.unwrap().to_string(), group, "{path}");
        let time = fs.metadata(id).unwrap().changed.unwrap();
        assert_eq!(format!("{}.{:09}", time.seconds, time.nanoseconds), changed, "{path}");
        rows += 1;
    }
    assert_eq!(rows, 512);
    // Of the volume's own files the MFT has no descriptor as mkntfs makes it.
    assert_eq!(fs.owners(find(&*fs, "$MFT")).unwrap(), None);
}

#[test]
fn files_streams_and_special_files_are_those_that_the_driver_shows() {
    let fs = open(golden(NAME));
    let paths = walk(&*fs);
    let (mut rows, mut streams) = (0, 0);
    for row in expected(NAME) {
        let path = String::from_utf8(row.path.clone()).unwrap();
        let path = path.strip_prefix('/').unwrap();
        let hex = row.sha256.map(|hash| hash.iter().map(|byte| format!("{byte:02x}")).collect::<String>());
        if let Some((file, name)) = path.split_once(':') {
            let id = paths[file.as_bytes()].id;
            let mut stream = fs.open_stream(id, name.as_bytes()).unwrap();
            assert_eq!(Some(sha256(&read_all(&mut *stream).unwrap())), hex, "{path}");
            streams += 1;
            continue;
        }
        let entry = &paths[&unescaped(path).unwrap()];
        assert_eq!(entry.kind.letter(), row.kind, "{path}");
        let metadata = fs.metadata(entry.id).unwrap();
        assert_eq!(metadata.modified.unwrap().seconds, row.modified_seconds.unwrap(), "{path}");
        if row.kind == 'f' {
            assert_eq!(Some(metadata.size_bytes), row.size_bytes, "{path}");
            assert_eq!(Some(sha256(&read_all(&mut *fs.open(entry.id).unwrap()).unwrap())), hex, "{path}");
        }
        rows += 1;
    }
    assert_eq!((rows, streams), (511, 440));
    for (path, count) in [("streams/40", 40), ("streams/400", 400)] {
        assert_eq!(fs.alternate_streams(find(&*fs, path)).unwrap().len(), count);
    }
    assert_eq!(fs.read_link(find(&*fs, "special/link")).unwrap(), b"../own/file");
}

/// Where the descriptors of $SDS with this owner lie in the image: the one, and its copy.
fn descriptors(image: &[u8], owner: &[u32]) -> Vec<usize> {
    let parts = owner.iter().flat_map(|part| part.to_le_bytes());
    let sid: Vec<u8> = [1, owner.len() as u8, 0, 0, 0, 0, 0, 5].into_iter().chain(parts).collect();
    (0..image.len()).step_by(4).filter(|at| image[*at..].starts_with(&sid)).collect()
}

fn fault(fs: &dyn ReadOnlyFs, path: &str) -> Fault {
    match fs.owners(find(fs, path)) {
        Err(FsError::Corrupt(fault)) => fault,
        other => panic!("{other:?}"),
    }
}

#[test]
fn of_a_damaged_descriptor_the_copy_counts_and_of_two_the_first_is_told() {
    let mut image = golden(NAME);
    // shared/13: a SID of its own.
    let owner = [21, 13 * 7919, u32::MAX, 13, 1013];
    let places = descriptors(&image, &owner);
    let [first, copy] = places[..] else { panic!("{places:?}") };
    let path = "shared/13";
    let before = open(image.clone()).owners(find(&*open(image.clone()), path)).unwrap();
    for place in [first, copy] {
        image[place + 9] ^= 1;
        let fs = open(image.clone());
        assert_eq!(fs.owners(find(&*fs, path)).unwrap(), before);
        image[place + 9] ^= 1;
    }
    image[first + 9] ^= 1;
    image[copy + 9] ^= 1;
    let fs = open(image);
    assert_eq!(fault(&*fs, path).what, "security descriptor hash");
    // Others are read all the same.
    fs.owners(find(&*fs, "shared/14")).unwrap().unwrap();
}

#[test]
fn an_id_that_the_index_does_not_have_is_a_fault() {
    let mut image = golden(NAME);
    let fs = open(image.clone());
    for (path, id, what) in [("shared/13", 1_u32 << 31, "security id"), ("shared/14", 1, "security id")] {
        let record = record_at(&image, find(&*fs, path).number);
        let standard = attribute(&image, record, 0x10).start;
        image[standard + 0x18 + 0x34..][..4].copy_from_slice(&id.to_le_bytes());
        let fs = open(image.clone());
        assert_eq!(fault(&*fs, path).what, what);
    }
}

#[test]
fn a_tree_whose_node_is_its_own_child_ends() {
    let mut image = golden(NAME);
    // All nodes of $SII: their children become the node itself.
    let nodes: Vec<_> =
        (0..image.len()).step_by(4096).filter(|at| image[*at..].starts_with(b"INDX")).collect();
    let mut changed = 0;
    for node in nodes {
        let first = node + 0x18 + u32_at(&image, node + 0x18);
        // $SII: a key of 4 bytes, data of 20.
        if (u16_at(&image, first + 2), u16_at(&image, first + 10)) != (20, 4) {
            continue;
        }
        let mut entry = first;
        while image[entry + 12] & 2 == 0 {
            // No id is found, and none is smaller.
            image[entry + 16..entry + 20].fill(0);
            entry += u16_at(&image, entry + 8);
        }
        let len = u16_at(&image, entry + 8);
        if len >= 24 {
            image.copy_within(node + 0x10..node + 0x18, entry + len - 8);
            changed += 1;
        }
    }
    assert!(changed > 0);
    let fs = open(image);
    assert_eq!(fault(&*fs, "shared/400").what, "$SII depth");
}

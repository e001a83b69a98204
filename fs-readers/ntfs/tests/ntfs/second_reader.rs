//! The `ntfs` crate reads the same names and bytes, where it can: no compression, no MFT in an attribute list.

use std::collections::BTreeMap;
use std::io::Cursor;

use ntfs::structured_values::NtfsFileNamespace;
use ntfs::{Ntfs, NtfsReadSeek};
use stillframe_fs::FileKind;

use crate::support::{golden, image, open, read_all, walk};

/// Every path with the number of its record and, where the crate gives one that is not compressed, its content.
fn by_the_crate(image: &[u8]) -> BTreeMap<String, (u64, Option<Vec<u8>>)> {
    let mut disk = Cursor::new(image);
    let ntfs = Ntfs::new(&mut disk).unwrap();
    let mut found = BTreeMap::new();
    let mut directories = vec![(String::new(), 5)];
    while let Some((folder, number)) = directories.pop() {
        let directory = ntfs.file(&mut disk, number).unwrap();
        let index = directory.directory_index(&mut disk).unwrap();
        let mut entries = index.entries();
        while let Some(entry) = entries.next(&mut disk) {
            let entry = entry.unwrap();
            let key = entry.key().unwrap().unwrap();
            let Ok(name) = key.name().to_string() else { continue };
            if key.namespace() == NtfsFileNamespace::Dos || name == "." {
                continue;
            }
            let number = entry.file_reference().file_record_number();
            let path = format!("{folder}{name}");
            if key.is_directory() {
                directories.push((format!("{path}/"), number));
                found.insert(path, (number, None));
                continue;
            }
            let file = ntfs.file(&mut disk, number).unwrap();
            let content = file.data(&mut disk, "").map(|data| {
                let data = data.unwrap();
                let attribute = data.to_attribute().unwrap();
                let is_plain = !attribute.flags().contains(ntfs::NtfsAttributeFlags::COMPRESSED);
                (is_plain && attribute.value_length() < 1 << 22).then(|| {
                    let mut bytes = vec![0; attribute.value_length() as usize];
                    attribute.value(&mut disk).unwrap().read_exact(&mut disk, &mut bytes).unwrap();
                    bytes
                })
            });
            found.insert(path, (number, content.flatten()));
        }
    }
    found
}

#[test]
fn names_records_and_bytes_are_those_that_the_crate_reads() {
    for (name, image, least) in [
        ("files", image("files"), 220),
        ("metadata", golden("ntfs-metadata"), 500),
        ("streams", golden("ntfs-streams"), 30),
    ] {
        let theirs = by_the_crate(&image);
        let fs = open(image);
        let mut ours = walk(&*fs);
        // Names that are no UTF-16 are no strings of the crate.
        ours.retain(|path, _| std::str::from_utf8(path).is_ok());
        let paths: Vec<_> = ours.keys().map(|path| String::from_utf8(path.clone()).unwrap()).collect();
        assert_eq!(paths, theirs.keys().cloned().collect::<Vec<_>>(), "{name}");
        let mut compared = 0;
        for ((path, (number, content)), entry) in theirs.into_iter().zip(ours.values()) {
            assert_eq!(entry.id.number & 0xFFFF_FFFF_FFFF, number, "{name} {path}");
            // It takes cluster 0, where $Boot lies, for a hole, and knows extents of one attribute by a number that
            // differs from record to record.
            if path == "$Boot" || path == "scattered" {
                continue;
            }
            let (FileKind::File, Some(content)) = (entry.kind, content) else { continue };
            let Ok(mut file) = fs.open(entry.id) else { continue };
            assert!(read_all(&mut *file).unwrap() == content, "{name} {path}");
            compared += 1;
        }
        assert!(compared >= least, "{name}: {compared} files");
    }
}

//! Images that `testdata/make.sh` made with mkfs.vfat and mtools, and what mtools read back.

use std::io::{Read, Seek, SeekFrom, Write};

use stillframe_fs::{FileId, FileKind, FsError, ReadOnlyFs};

use crate::support::{find, image, list, open, read_all, sha256, testdata, walk};

/// Rows of path, kind, size, SHA-256.
pub(crate) fn rows(fs: &dyn ReadOnlyFs) -> Vec<String> {
    let mut rows: Vec<_> = walk(fs)
        .into_iter()
        .map(|(path, entry)| {
            let path = String::from_utf8(path).unwrap();
            if entry.kind == FileKind::Directory {
                return format!("{path}\td\t0\t-");
            }
            let size = fs.metadata(entry.id).unwrap().size_bytes;
            let hash = sha256(&read_all(&mut *fs.open(entry.id).unwrap()).unwrap());
            format!("{path}\tf\t{size}\t{hash}")
        })
        .collect();
    rows.sort();
    rows
}

pub(crate) fn expected(name: &str) -> Vec<String> {
    let listing = std::fs::read_to_string(testdata(&format!("{name}.tsv"))).unwrap();
    let mut rows: Vec<_> = listing.lines().map(str::to_owned).collect();
    rows.sort();
    assert!(rows.len() > 300);
    rows
}

#[test]
fn every_file_is_as_mtools_reads_it() {
    let volumes = [
        ("fat12", "TWELVE", "1234-ABC2"),
        ("fat16", "SIX TEEN", "1234-ABC6"),
        ("fat32", "THIRTYTWO", "1234-ABC2"),
    ];
    for (name, label, uuid) in volumes {
        let fs = open(image(name));
        assert_eq!(rows(&*fs), expected(name), "{name}");
        let description = fs.description();
        assert_eq!(description.label.as_deref(), Some(label.as_bytes()));
        assert_eq!(description.uuid.as_deref(), Some(uuid));
        assert_eq!(description.dirty, Some(false));
        assert_eq!(fs.faults(), []);
    }
}

#[test]
fn fat32_with_too_few_clusters_is_fat32() {
    let mut image = image("fat32");
    image.truncate(20 << 20);
    let sectors = (image.len() as u32 / 512).to_le_bytes();
    image[32..36].copy_from_slice(&sectors);
    assert_eq!(rows(&*open(image)), expected("fat32"));
}

#[test]
fn a_file_in_pieces_reads_at_any_offset() {
    let fs = open(image("fat16"));
    let id = find(&*fs, "dir/pieces.bin");
    let whole = read_all(&mut *fs.open(id).unwrap()).unwrap();
    let mut file = fs.open(id).unwrap();
    for (offset, len) in [(0, 1), (1023, 2), (39_999, 10), (5000, 20_000), (40_000, 5), (1 << 40, 5)] {
        let mut bytes = vec![0; len];
        let read = file.read_at(offset, &mut bytes).unwrap();
        let rest = whole.get(offset as usize..).unwrap_or_default();
        assert_eq!(&bytes[..read], &rest[..rest.len().min(len)], "{offset}");
    }
}

#[test]
fn the_wrong_kind_of_file_is_refused() {
    let fs = open(image("fat12"));
    assert!(matches!(list(&*fs, find(&*fs, "NUMBERS")), Err(FsError::NotADirectory)));
    assert!(matches!(fs.open(find(&*fs, "dir")), Err(FsError::NotAFile)));
    assert!(matches!(fs.open(fs.root()), Err(FsError::NotAFile)));
    assert!(matches!(fs.metadata(FileId::new(7)), Err(FsError::NotFound)));
    assert!(matches!(fs.metadata(FileId::new(u64::MAX - 31)), Err(FsError::Read(_))));
    assert_eq!(fs.metadata(fs.root()).unwrap().kind, FileKind::Directory);
}

/// A second opinion on names and content, from a reader with other authors.
#[test]
fn the_fatfs_crate_agrees() {
    for name in ["fat12", "fat16", "fat32"] {
        let fs =
            fatfs::FileSystem::new(Unwritable(std::io::Cursor::new(image(name))), fatfs::FsOptions::new())
                .unwrap();
        let mut rows = Vec::new();
        let mut directories = vec![(String::new(), fs.root_dir())];
        while let Some((path, directory)) = directories.pop() {
            for entry in directory.iter().map(Result::unwrap) {
                let name = entry.file_name();
                if name == "." || name == ".." {
                    continue;
                }
                let path = if path.is_empty() { name } else { format!("{path}/{name}") };
                if entry.is_dir() {
                    rows.push(format!("{path}\td\t0\t-"));
                    directories.push((path, entry.to_dir()));
                } else {
                    let mut content = Vec::new();
                    entry.to_file().read_to_end(&mut content).unwrap();
                    rows.push(format!("{path}\tf\t{}\t{}", entry.len(), sha256(&content)));
                }
            }
        }
        rows.sort();
        // The crate knows no code page and writes a replacement for other letters of short names.
        let ascii = |rows: Vec<String>| -> Vec<String> {
            rows.into_iter().filter(|row| !row.starts_with(|c: char| !c.is_ascii())).collect()
        };
        assert_eq!(ascii(self::rows(&*open(image(name)))), ascii(rows), "{name}");
    }
}

struct Unwritable(std::io::Cursor<Vec<u8>>);

impl Read for Unwritable {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Seek for Unwritable {
    fn seek(&mut self, to: SeekFrom) -> std::io::Result<u64> {
        self.0.seek(to)
    }
}

impl Write for Unwritable {
    fn write(&mut self, _bytes: &[u8]) -> std::io::Result<usize> {
        Err(std::io::ErrorKind::PermissionDenied.into())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

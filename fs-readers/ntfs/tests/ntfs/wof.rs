//! Files behind the Windows Overlay Filter: `ntfs-wof`, whose files wimlib compressed and whose listing is that of the
//! files before.

use std::ops::Range;
use std::sync::{Arc, Mutex};

use sha2::{Digest, Sha256};
use stillframe_block::{BlockSource, MemorySource, ReadError};
use stillframe_fixtures::expected;
use stillframe_fs::{FileId, FsError, ReadOnlyFs};

use crate::support::{find, golden, open, open_source, read_all, walk};

const NAME: &str = "ntfs-wof";
const COMPRESSED_DATA: &[u8] = b"WofCompressedData";

fn digest(content: &[u8]) -> [u8; 32] {
    Sha256::digest(content).into()
}

#[test]
fn every_file_is_what_it_was_before_it_was_compressed() {
    let fs = open(golden(NAME));
    let paths = walk(&*fs);
    let (mut files, mut folders, mut streams) = (0, 0, 0);
    for row in expected(NAME) {
        let path = String::from_utf8(row.path.clone()).unwrap();
        let path = path.strip_prefix('/').unwrap();
        if let Some((file, name)) = path.split_once(':') {
            let file = paths[file.as_bytes()].id;
            let content = read_all(&mut *fs.open_stream(file, name.as_bytes()).unwrap()).unwrap();
            assert_eq!(Some(digest(&content)), row.sha256, "{path}");
            streams += 1;
            continue;
        }
        let entry = paths.get(path.as_bytes()).unwrap_or_else(|| panic!("{path} is missing"));
        assert_eq!(entry.kind.letter(), row.kind, "{path}");
        let metadata = fs.metadata(entry.id).unwrap();
        assert_eq!(metadata.modified.unwrap().seconds, row.modified_seconds.unwrap(), "{path}");
        if row.kind != 'f' {
            folders += 1;
            continue;
        }
        assert_eq!(Some(metadata.size_bytes), row.size_bytes, "{path}");
        let content = read_all(&mut *fs.open(entry.id).unwrap()).unwrap();
        assert_eq!(Some(digest(&content)), row.sha256, "{path}");
        // Windows shows neither the name of the compressed stream nor its bytes.
        let shown = fs.alternate_streams(entry.id).unwrap();
        assert!(shown.iter().all(|stream| stream.name == b"another"), "{path}");
        assert!(matches!(fs.open_stream(entry.id, COMPRESSED_DATA), Err(FsError::NotFound)), "{path}");
        files += 1;
    }
    assert_eq!((files, folders, streams), (76, 4, 4));
    assert_eq!(fs.faults(), []);
}

#[test]
fn reads_at_any_offset_agree_with_one_read() {
    let fs = open(golden(NAME));
    for path in ["lzx/mixed", "xpress4k/long-text", "xpress16k/code.exe"] {
        let id = find(&*fs, path);
        let whole = read_all(&mut *fs.open(id).unwrap()).unwrap();
        let mut file = fs.open(id).unwrap();
        let mut state = 5_u64;
        for _ in 0..200 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let offset = (state >> 20) as usize % (whole.len() + 10);
            let mut bytes = vec![0xAA; (state >> 48) as usize];
            let read = file.read_at(offset as u64, &mut bytes).unwrap();
            let expected = whole.get(offset..).unwrap_or_default();
            assert_eq!(&bytes[..read], &expected[..expected.len().min(bytes.len())], "{path} at {offset}");
        }
        assert_eq!(file.read_at(u64::MAX, &mut [0; 4]).unwrap(), 0);
    }
}

/// A disk that keeps what it is asked for.
struct Recorder(MemorySource, Mutex<Vec<Range<u64>>>);

impl BlockSource for Recorder {
    fn len_bytes(&self) -> u64 {
        self.0.len_bytes()
    }

    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), ReadError> {
        self.1.lock().unwrap().push(offset..offset + buffer.len() as u64);
        self.0.read_exact_at(offset, buffer)
    }
}

#[test]
fn extents_are_what_a_read_asks_for() {
    let source = Arc::new(Recorder(MemorySource(golden(NAME)), Mutex::default()));
    let fs = open_source(source.clone()).unwrap();
    for (path, range) in
        [("lzx/mixed", 40_000..150_000), ("xpress8k/long-text", 0..2_000_000), ("xpress4k/zeros", 5000..5001)]
    {
        let mut file = fs.open(find(&*fs, path)).unwrap();
        let extents = file.extents(range.clone());
        let told: u64 = extents.iter().map(stillframe_fs::Extent::len_bytes).sum();
        source.1.lock().unwrap().clear();
        file.read_at(range.start, &mut vec![0; (range.end - range.start) as usize]).unwrap();
        let reads = std::mem::take(&mut *source.1.lock().unwrap());
        let inside = |read: &Range<u64>| {
            extents.iter().any(|e| e.start_bytes <= read.start && read.end <= e.end_bytes)
        };
        // What tells where chunks lie was read before, or lies in the stream too.
        let asked: u64 = reads.iter().filter(|read| inside(read)).map(|read| read.end - read.start).sum();
        assert_eq!(asked, told, "{path}");
        assert!(file.extents(u64::MAX - 1..u64::MAX).is_empty() && file.extents(9..9).is_empty());
    }
}

/// The image with `new` in place of the 16 bytes of a file's reparse data, `what` in words of the error.
fn reparsed(path: &str, new: [u32; 4]) -> (Box<dyn ReadOnlyFs>, FileId) {
    let mut image = golden(NAME);
    let id = find(&*open(image.clone()), path);
    let record = crate::damaged::record_at(&image, id.number);
    let point = crate::damaged::attribute(&image, record, 0xC0).start;
    let data = point + 0x18 + 8;
    image[data..data + 16].copy_from_slice(&new.map(u32::to_le_bytes).concat());
    (open(image), id)
}

#[test]
fn what_windows_does_not_have_is_named() {
    for (data, what) in [
        ([1, 1, 1, 0], "a file in a WIM archive (WOF)"),
        ([1, 3, 1, 0], "a WOF provider other than files and WIM archives"),
        ([2, 2, 1, 0], "a WOF provider other than files and WIM archives"),
        ([1, 2, 2, 0], "WOF compression of another version"),
        ([1, 2, 1, 4], "WOF compression by another algorithm"),
    ] {
        let (fs, id) = reparsed("xpress4k/text-300", data);
        assert!(matches!(fs.open(id), Err(FsError::Unsupported(found)) if found == what), "{what}");
    }
    // Another algorithm than that of the chunks gives no bytes.
    for algorithm in [0, 1, 2] {
        let (fs, id) = reparsed("xpress16k/long-text", [1, 2, 1, algorithm]);
        let content = fs.open(id).and_then(|mut file| read_all(&mut *file));
        assert!(matches!(content, Err(FsError::Corrupt(_))), "{algorithm}");
    }
}

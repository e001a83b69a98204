//! What is hinted is what will be read: file records before they are asked for, and content.

use std::ops::Range;
use std::sync::{Arc, Mutex};

use stillframe_block::{BlockSource, MemorySource, ReadError};
use stillframe_fs::{Extent, FileKind};

use crate::support::{find, golden, image, list, open_source, read_all, walk};

/// A disk that wants hints, and keeps them and what it is asked for.
struct Recorder {
    disk: MemorySource,
    reads: Mutex<Vec<Range<u64>>>,
    hints: Mutex<Vec<Range<u64>>>,
}

impl Recorder {
    fn new(image: Vec<u8>) -> Arc<Self> {
        Arc::new(Self { disk: MemorySource(image), reads: Mutex::default(), hints: Mutex::default() })
    }

    fn taken(&self) -> (Vec<Range<u64>>, Vec<Range<u64>>) {
        let take = |ranges: &Mutex<Vec<Range<u64>>>| std::mem::take(&mut *ranges.lock().unwrap());
        (take(&self.reads), take(&self.hints))
    }
}

impl BlockSource for Recorder {
    fn len_bytes(&self) -> u64 {
        self.disk.len_bytes()
    }

    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), ReadError> {
        self.reads.lock().unwrap().push(offset..offset + buffer.len() as u64);
        self.disk.read_exact_at(offset, buffer)
    }

    fn prefetch(&self, ranges: &[Range<u64>]) {
        self.hints.lock().unwrap().extend_from_slice(ranges);
    }

    fn wants_hints(&self) -> bool {
        true
    }
}

#[test]
fn records_are_hinted_before_they_are_asked_for_and_read_once() {
    let source = Recorder::new(golden("ntfs-metadata"));
    let fs = open_source(source.clone()).unwrap();
    assert!(fs.wants_hints());
    let files: Vec<_> = list(&*fs, find(&*fs, "shared")).unwrap().into_iter().map(|entry| entry.1).collect();
    assert_eq!(files.len(), 500);
    source.taken();
    fs.will_ask(&files);
    let (reads, hints) = source.taken();
    assert!(reads.is_empty() && !hints.is_empty());
    for file in &files {
        fs.metadata(*file).unwrap();
    }
    let (reads, _) = source.taken();
    let all: u64 = hints.iter().map(|hint| hint.end - hint.start).sum();
    let inside =
        |read: &Range<u64>| hints.iter().any(|hint| hint.start <= read.start && read.end <= hint.end);
    assert!(reads.iter().all(inside));
    assert_eq!(reads.iter().map(|read| read.end - read.start).sum::<u64>(), all);
    assert!(reads.len() < files.len() / 10, "{} reads", reads.len());
    // What is at hand is not hinted again.
    fs.will_ask(&files);
    assert!(source.taken().1.is_empty());
    fs.prefetch(&[Extent::new(5..9), Extent::new(20..30)]);
    assert_eq!(source.taken().1, [5..9, 20..30]);
}

#[test]
fn extents_hold_the_bytes_of_the_file() {
    let source = Recorder::new(image("files"));
    let fs = open_source(source.clone()).unwrap();
    let mut compared = 0;
    for (path, entry) in walk(&*fs) {
        if entry.kind != FileKind::File || path[0] == b'$' {
            continue;
        }
        let Ok(mut file) = fs.open(entry.id) else { continue };
        let content = read_all(&mut *file).unwrap();
        let extents = file.extents(0..content.len() as u64);
        source.taken();
        file.will_read(0..content.len() as u64);
        let told: Vec<_> = extents.iter().map(Extent::range).collect();
        assert_eq!(source.taken(), (Vec::new(), told), "{}", path.escape_ascii());
        let len: u64 = extents.iter().map(Extent::len_bytes).sum();
        let is_compressed = path.starts_with(b"compressed/");
        if is_compressed || len < content.len() as u64 {
            // Compressed, with holes, or in the file record.
            assert!(len < content.len().next_multiple_of(65536) as u64 + 1, "{}", path.escape_ascii());
            continue;
        }
        let stored: Vec<u8> = extents
            .iter()
            .flat_map(|extent| source.disk.0[extent.start_bytes as usize..extent.end_bytes as usize].to_vec())
            .collect();
        assert!(stored == content, "{}", path.escape_ascii());
        compared += usize::from(!content.is_empty());
    }
    assert!(compared >= 1, "{compared} files in clusters");
    let sparse = find(&*fs, "sparse");
    let extents = fs.open(sparse).unwrap().extents(0..u64::MAX);
    // Its start, its middle and its end, each in a cluster; the last ends with the file.
    assert_eq!(extents.iter().map(Extent::len_bytes).collect::<Vec<_>>(), [4096, 4096, 600_003 % 4096]);
    assert!(fs.open(find(&*fs, "resident")).unwrap().extents(0..9).is_empty());
}

//! The same work by the crate `ntfs` alone, on one thread and on the image file itself.

use std::collections::HashSet;
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use ntfs::indexes::NtfsFileNameIndex;
use ntfs::structured_values::NtfsFileNamespace;
use ntfs::{Ntfs, NtfsReadSeek};
use stillframe_block::BlockSource;

use crate::image::{largest, open};
use crate::{Outcome, PIECE_BYTES};

/// A part of a file.
struct Part {
    file: BufReader<File>,
    start: u64,
}

impl Read for Part {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.file.read(buffer)
    }
}

impl Seek for Part {
    fn seek(&mut self, to: SeekFrom) -> std::io::Result<u64> {
        let now = self.file.stream_position()?;
        let target = match to {
            SeekFrom::Start(at) => self.start + at,
            SeekFrom::Current(by) => now.checked_add_signed(by).unwrap(),
            SeekFrom::End(_) => panic!("the crate does not seek from the end"),
        };
        // Within the buffer nothing is thrown away.
        let by = i64::try_from(i128::from(target) - i128::from(now)).unwrap();
        self.file.seek_relative(by)?;
        Ok(target - self.start)
    }
}

pub(crate) fn run(path: &Path) -> Outcome {
    let disk: Arc<dyn BlockSource> = open(path);
    let (start, _, _) = largest(&disk);
    let mut part = Part { file: BufReader::with_capacity(4096, File::open(path).unwrap()), start };
    part.seek(SeekFrom::Start(0)).unwrap();
    let started = Instant::now();
    let ntfs = Ntfs::new(&mut part).unwrap();
    let root = ntfs.root_directory(&mut part).unwrap();
    let (mut folders, mut seen) = (vec![root.file_record_number()], HashSet::new());
    let (mut entries, mut files) = (0, Vec::new());
    while let Some(number) = folders.pop() {
        let folder = ntfs.file(&mut part, number).unwrap();
        let index = folder.directory_index(&mut part).unwrap();
        let mut listed = index.entries();
        while let Some(entry) = next(&mut listed, &mut part) {
            let (number, is_folder, is_long) = entry;
            // Its own files, and names of eight letters beside the long ones.
            if number < 24 || !is_long {
                continue;
            }
            entries += 1;
            let record = ntfs.file(&mut part, number).unwrap();
            record.info().unwrap();
            if is_folder {
                folders.push(number);
            } else if seen.insert(number) {
                files.push(number);
            }
        }
    }
    let walk = started.elapsed();
    let content_bytes = content(&ntfs, &mut part, &mut files);
    Outcome {
        walk,
        content: started.elapsed() - walk,
        entries,
        files: files.len() as u64,
        content_bytes,
        ..Outcome::default()
    }
}

type Listed<'n, 'f> = ntfs::NtfsIndexEntries<'n, 'f, 'f, NtfsFileNameIndex>;

/// The next entry of a folder: file record, whether it is a folder, and whether the name is more than one for DOS.
fn next(listed: &mut Listed<'_, '_>, part: &mut Part) -> Option<(u64, bool, bool)> {
    let entry = listed.next(part)?.unwrap();
    let key = entry.key().unwrap().unwrap();
    let is_long = key.namespace() != NtfsFileNamespace::Dos;
    Some((entry.file_reference().file_record_number(), key.is_directory(), is_long))
}

fn content(ntfs: &Ntfs, part: &mut Part, files: &mut Vec<u64>) -> u64 {
    files.sort_unstable();
    let mut piece = vec![0; PIECE_BYTES];
    let mut bytes = 0;
    for number in files {
        let record = ntfs.file(part, *number).unwrap();
        let Some(item) = record.data(part, "") else { continue };
        let item = item.unwrap();
        let attribute = item.to_attribute().unwrap();
        let mut value = attribute.value(part).unwrap();
        loop {
            match value.read(part, &mut piece).unwrap() {
                0 => break,
                read => bytes += read as u64,
            }
        }
    }
    bytes
}

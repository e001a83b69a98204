//! The same work by the crate `ntfs` alone, on one thread and on the image file itself.

use std::collections::HashSet;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use ntfs::indexes::NtfsFileNameIndex;
use ntfs::structured_values::NtfsFileNamespace;
use ntfs::{Ntfs, NtfsReadSeek};
use stillframe_block::{BlockSource, WindowSource};

use crate::image::{largest, open};
use crate::{Outcome, PIECE_BYTES};

/// The volume for a crate that wants to seek: long reads go to the source, short ones to the page that was read last.
struct Cursor {
    volume: WindowSource,
    at: u64,
    page_at: Option<u64>,
    page: Vec<u8>,
}

const PAGE_BYTES: usize = 4096;

impl Read for Cursor {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let left = usize::try_from(self.volume.len_bytes().saturating_sub(self.at)).unwrap();
        let within = usize::try_from(self.at % PAGE_BYTES as u64).unwrap();
        let len = if buffer.len() >= PAGE_BYTES {
            let len = buffer.len().min(left);
            self.volume.read_exact_at(self.at, &mut buffer[..len]).unwrap();
            len
        } else {
            let page_at = self.at - within as u64;
            if self.page_at != Some(page_at) {
                let there = PAGE_BYTES.min(left + within);
                self.volume.read_exact_at(page_at, &mut self.page[..there]).unwrap();
                self.page_at = Some(page_at);
            }
            let len = buffer.len().min(left).min(PAGE_BYTES - within);
            buffer[..len].copy_from_slice(&self.page[within..within + len]);
            len
        };
        self.at += len as u64;
        Ok(len)
    }
}

impl Seek for Cursor {
    fn seek(&mut self, to: SeekFrom) -> std::io::Result<u64> {
        self.at = match to {
            SeekFrom::Start(at) => at,
            SeekFrom::Current(by) => self.at.checked_add_signed(by).unwrap(),
            SeekFrom::End(_) => panic!("the crate does not seek from the end"),
        };
        Ok(self.at)
    }
}

pub(crate) fn run(path: &Path) -> Outcome {
    let disk: Arc<dyn BlockSource> = open(path);
    let (volume, _) = largest(&disk);
    let mut cursor = Cursor { volume, at: 0, page_at: None, page: vec![0; PAGE_BYTES] };
    let started = Instant::now();
    let ntfs = Ntfs::new(&mut cursor).unwrap();
    let root = ntfs.root_directory(&mut cursor).unwrap();
    let (mut folders, mut seen) = (vec![root.file_record_number()], HashSet::new());
    let (mut entries, mut files) = (0, Vec::new());
    while let Some(number) = folders.pop() {
        let folder = ntfs.file(&mut cursor, number).unwrap();
        let index = folder.directory_index(&mut cursor).unwrap();
        let mut listed = index.entries();
        while let Some(entry) = next(&mut listed, &mut cursor) {
            let (number, is_folder, is_long) = entry;
            // Its own files, and names of eight letters beside the long ones.
            if number < 24 || !is_long {
                continue;
            }
            entries += 1;
            let record = ntfs.file(&mut cursor, number).unwrap();
            record.info().unwrap();
            if is_folder {
                folders.push(number);
            } else if seen.insert(number) {
                files.push(number);
            }
        }
    }
    let walk = started.elapsed();
    let content_bytes = content(&ntfs, &mut cursor, &mut files);
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
fn next(listed: &mut Listed<'_, '_>, cursor: &mut Cursor) -> Option<(u64, bool, bool)> {
    let entry = listed.next(cursor)?.unwrap();
    let key = entry.key().unwrap().unwrap();
    let is_long = key.namespace() != NtfsFileNamespace::Dos;
    Some((entry.file_reference().file_record_number(), key.is_directory(), is_long))
}

fn content(ntfs: &Ntfs, cursor: &mut Cursor, files: &mut Vec<u64>) -> u64 {
    files.sort_unstable();
    let mut piece = vec![0; PIECE_BYTES];
    let mut bytes = 0;
    for number in files {
        let record = ntfs.file(cursor, *number).unwrap();
        let Some(item) = record.data(cursor, "") else { continue };
        let item = item.unwrap();
        let attribute = item.to_attribute().unwrap();
        let mut value = attribute.value(cursor).unwrap();
        loop {
            match value.read(cursor, &mut piece).unwrap() {
                0 => break,
                read => bytes += read as u64,
            }
        }
    }
    bytes
}

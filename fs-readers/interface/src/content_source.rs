//! A file as a disk: a snap, an image of a disk, a container's layer lies in another filesystem and holds one itself.

use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use stillframe_block::{BlockSource, ReadError};

use crate::{FileContent, FileId, FsError, ReadOnlyFs, read_full};

/// What is read of the file at once. Filesystems ask for a few bytes here and there, and to open a file costs more than
/// to read this much of it.
const PIECE_BYTES: u64 = 64 << 10;
/// 4 MiB.
const KEPT_PIECES: usize = 64;

/// The content of a file as a source, which a filesystem inside it is opened on.
///
/// The file is opened anew for what is not kept, so that any number of threads read it. Its budget is the one below the
/// outer filesystem. Files may be nested in files without end: who opens what is inside bounds the depth.
pub struct ContentSource {
    fs: Arc<dyn ReadOnlyFs>,
    file: FileId,
    len_bytes: u64,
    /// Pieces by their index, the one used last in front.
    kept: Mutex<VecDeque<(u64, Arc<[u8]>)>>,
}

impl ContentSource {
    /// The content of the regular file `file` of `fs`.
    ///
    /// # Errors
    /// Where it cannot be opened.
    pub fn new(fs: Arc<dyn ReadOnlyFs>, file: FileId) -> Result<Self, FsError> {
        let len_bytes = fs.open(file)?.len_bytes();
        Ok(Self { fs, file, len_bytes, kept: Mutex::default() })
    }

    fn kept_piece(&self, index: u64) -> Option<Arc<[u8]>> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let entry =
            kept.iter().position(|(kept, _)| *kept == index).and_then(|position| kept.remove(position))?;
        let piece = Arc::clone(&entry.1);
        kept.push_front(entry);
        Some(piece)
    }

    /// Reads piece `index`. No lock is held meanwhile: no thread waits for another's source.
    fn read_piece(&self, index: u64, file: &mut dyn FileContent) -> Result<Arc<[u8]>, FsError> {
        let start = index.saturating_mul(PIECE_BYTES);
        let len = self.len_bytes.saturating_sub(start).min(PIECE_BYTES);
        let mut bytes = vec![0; usize::try_from(len).unwrap_or(0)];
        let read = read_full(file, start, &mut bytes)?;
        if read < bytes.len() {
            return Err(FsError::Reader {
                reader: "content source",
                what: "the file ended before its length",
            });
        }
        let piece: Arc<[u8]> = bytes.into();
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if !kept.iter().any(|(kept, _)| *kept == index) {
            kept.push_front((index, Arc::clone(&piece)));
            kept.truncate(KEPT_PIECES);
        }
        Ok(piece)
    }

    fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<(), FsError> {
        let mut file = None;
        let mut rest = buffer;
        let mut offset = offset;
        while !rest.is_empty() {
            let index = offset / PIECE_BYTES;
            let piece = match self.kept_piece(index) {
                Some(piece) => piece,
                None => {
                    let file = match &mut file {
                        Some(file) => file,
                        unopened => unopened.insert(self.fs.open(self.file)?),
                    };
                    self.read_piece(index, &mut **file)?
                }
            };
            let within = usize::try_from(offset % PIECE_BYTES).unwrap_or(usize::MAX);
            let part = piece.get(within..).unwrap_or_default();
            let take = part.len().min(rest.len());
            let (now, later) = rest.split_at_mut(take);
            match part.get(..take) {
                Some(part) if take > 0 => now.copy_from_slice(part),
                _ => return Err(FsError::NotFound),
            }
            offset = offset.saturating_add(u64::try_from(take).unwrap_or(u64::MAX));
            rest = later;
        }
        Ok(())
    }
}

impl BlockSource for ContentSource {
    fn len_bytes(&self) -> u64 {
        self.len_bytes
    }

    /// Fails with the outer filesystem's error inside an [`io::Error`], but for a budget, which stays one.
    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), ReadError> {
        let len = buffer.len();
        let end = u64::try_from(len).ok().and_then(|len| offset.checked_add(len));
        if end.is_none_or(|end| end > self.len_bytes) {
            return Err(ReadError::OutOfBounds { offset, len, source_len: self.len_bytes });
        }
        self.read(offset, buffer).map_err(|error| match error {
            FsError::Read(ReadError::Budget(budget)) => ReadError::Budget(budget),
            error => ReadError::Io { offset, len, source: Arc::new(io::Error::other(error)) },
        })
    }

    fn prefetch(&self, ranges: &[Range<u64>]) {
        // What cannot be opened is met by the read.
        let Ok(mut file) = self.fs.open(self.file) else { return };
        for range in ranges {
            let end = range.end.min(self.len_bytes);
            if range.start < end {
                file.will_read(range.start..end);
            }
        }
    }

    fn wants_hints(&self) -> bool {
        self.fs.wants_hints()
    }
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects, clippy::cast_possible_truncation, reason = "a test may panic")]
mod tests {
    use std::ops::ControlFlow;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use stillframe_block::ExhaustedBudget;
    use stillframe_bytes::Fault;

    use super::*;
    use crate::{DirEntry, FsDescription, Metadata};

    const LEN: u64 = 10 * PIECE_BYTES + 77;
    const DAMAGED: u64 = 8 * PIECE_BYTES + 5;
    const SPENT: u64 = 9 * PIECE_BYTES + 5;

    /// One file, whose bytes count modulo 251. One of them is damaged, and for one the budget is spent.
    struct OneFile(AtomicUsize);

    struct Content;

    impl FileContent for Content {
        fn len_bytes(&self) -> u64 {
            LEN
        }

        fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> Result<usize, FsError> {
            // Short reads, as streams may give them.
            let len = (LEN.saturating_sub(offset) as usize).min(buffer.len()).min(1000);
            let range = offset..offset + len as u64;
            if range.contains(&DAMAGED) {
                return Err(Fault::new("content", DAMAGED, "whole", "damaged").into());
            }
            if range.contains(&SPENT) {
                return Err(FsError::Read(ReadError::Budget(ExhaustedBudget::Reads { cap: 7 })));
            }
            for (at, byte) in range.zip(buffer) {
                *byte = (at % 251) as u8;
            }
            Ok(len)
        }
    }

    impl ReadOnlyFs for OneFile {
        fn description(&self) -> &FsDescription {
            panic!("not asked for")
        }

        fn root(&self) -> FileId {
            FileId::new(1)
        }

        fn read_dir(
            &self,
            _: FileId,
            _: &mut dyn FnMut(DirEntry<'_>) -> ControlFlow<()>,
        ) -> Result<(), FsError> {
            Ok(())
        }

        fn metadata(&self, _: FileId) -> Result<Metadata, FsError> {
            Err(FsError::NotFound)
        }

        fn open(&self, file: FileId) -> Result<Box<dyn FileContent + '_>, FsError> {
            self.0.fetch_add(1, Ordering::Relaxed);
            if file == FileId::new(2) { Ok(Box::new(Content)) } else { Err(FsError::NotAFile) }
        }

        fn read_link(&self, _: FileId) -> Result<Vec<u8>, FsError> {
            Err(FsError::NotFound)
        }
    }

    fn source() -> (Arc<OneFile>, ContentSource) {
        let fs = Arc::new(OneFile(AtomicUsize::new(0)));
        let source = ContentSource::new(Arc::clone(&fs) as Arc<dyn ReadOnlyFs>, FileId::new(2)).unwrap();
        (fs, source)
    }

    #[test]
    fn bytes_are_those_of_the_file_wherever_a_read_begins_and_ends() {
        let (_, source) = source();
        assert_eq!(source.len_bytes(), LEN);
        let ranges = [
            (0, 1),
            (PIECE_BYTES - 1, 2),
            (5, 3 * PIECE_BYTES),
            (LEN - 3, 3),
            (LEN, 0),
            (2 * PIECE_BYTES, 500),
        ];
        for (offset, len) in ranges {
            let mut bytes = vec![0xFF; len as usize];
            source.read_exact_at(offset, &mut bytes).unwrap();
            let expected: Vec<u8> = (offset..offset + len).map(|at| (at % 251) as u8).collect();
            assert!(bytes == expected, "{len} at {offset}");
        }
    }

    #[test]
    fn what_is_kept_is_not_read_again_and_what_is_kept_is_bounded() {
        let (fs, source) = source();
        for _ in 0..50 {
            source.read_exact_at(100, &mut [0; 900]).unwrap();
        }
        assert_eq!(fs.0.load(Ordering::Relaxed), 2, "once for the length, once for the piece");
        source.kept.lock().unwrap().extend((100..400).map(|index| (index, Arc::from([]))));
        source.read_exact_at(3 * PIECE_BYTES, &mut [0; 9]).unwrap();
        assert_eq!(source.kept.lock().unwrap().len(), KEPT_PIECES);
    }

    #[test]
    fn errors_keep_their_cause() {
        let (fs, source) = source();
        let mut bytes = [0; 10];
        let past = source.read_exact_at(LEN - 9, &mut bytes).unwrap_err();
        assert!(matches!(past, ReadError::OutOfBounds { source_len: LEN, .. }));
        assert!(source.read_exact_at(u64::MAX, &mut bytes).is_err());
        let spent = source.read_exact_at(SPENT, &mut bytes).unwrap_err();
        assert!(matches!(spent, ReadError::Budget(ExhaustedBudget::Reads { cap: 7 })));
        let damaged = source.read_exact_at(DAMAGED, &mut bytes).unwrap_err();
        let ReadError::Io { source: cause, .. } = damaged else { panic!("{damaged}") };
        let cause = cause.get_ref().unwrap().downcast_ref::<FsError>().unwrap();
        assert!(matches!(cause, FsError::Corrupt(fault) if fault.at == DAMAGED));
        assert!(matches!(ContentSource::new(fs, FileId::new(3)).map(|_| ()), Err(FsError::NotAFile)));
    }

    #[test]
    fn hints_that_pass_the_end_are_cut() {
        let (_, source) = source();
        source.prefetch(&[0..u64::MAX, LEN..LEN + 5, 7..9]);
        assert!(!source.wants_hints());
    }
}

use std::ops::Range;
use std::sync::Arc;

use stillframe_block::{BlockSource, ReadError};

use crate::{Extent, FileId, FsError, ReadOnlyFs, in_reading_order, read_full};

/// The content of a file as a disk, so that a filesystem that lies in a file of another one can be opened: a snap, an
/// image that is mounted with `loop`.
///
/// The file is opened for each read, since content belongs to one thread and a source to all; what describes a file is
/// kept by its reader.
pub struct ContentSource {
    fs: Arc<dyn ReadOnlyFs>,
    file: FileId,
    len_bytes: u64,
}

impl ContentSource {
    /// The content of a regular file of `fs`.
    ///
    /// # Errors
    /// What the reader fails with when it opens the file.
    pub fn open(fs: Arc<dyn ReadOnlyFs>, file: FileId) -> Result<Self, FsError> {
        let len_bytes = fs.open(file)?.len_bytes();
        Ok(Self { fs, file, len_bytes })
    }

    fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<(), FsError> {
        let mut content = self.fs.open(self.file)?;
        let wanted = buffer.len();
        let read = read_full(&mut *content, offset, buffer)?;
        if read == wanted {
            return Ok(());
        }
        Err(stillframe_bytes::Fault::new("file length", offset, wanted, read).into())
    }
}

impl BlockSource for ContentSource {
    fn len_bytes(&self) -> u64 {
        self.len_bytes
    }

    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), ReadError> {
        let len = u64::try_from(buffer.len()).unwrap_or(u64::MAX);
        if offset.checked_add(len).is_none_or(|end| end > self.len_bytes) {
            return Err(ReadError::OutOfBounds { offset, len: buffer.len(), source_len: self.len_bytes });
        }
        self.read(offset, buffer).map_err(|error| match error {
            FsError::Read(error) => error,
            // Damage of the filesystem beneath is to the one above what a bad sector is.
            other => {
                ReadError::Io { offset, len: buffer.len(), source: Arc::new(std::io::Error::other(other)) }
            }
        })
    }

    fn prefetch(&self, ranges: &[Range<u64>]) {
        // What goes wrong here goes wrong again when it is read.
        let Ok(mut content) = self.fs.open(self.file) else { return };
        let extents: Vec<Extent> = ranges
            .iter()
            .filter(|range| range.start < self.len_bytes)
            .flat_map(|range| content.extents(range.start..range.end.min(self.len_bytes)))
            .collect();
        self.fs.prefetch(&in_reading_order(extents));
    }

    fn wants_hints(&self) -> bool {
        self.fs.wants_hints()
    }
}

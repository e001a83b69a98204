use std::fs::File;
use std::io::{self, ErrorKind};
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileExt, FileTypeExt};
use std::path::{Path, PathBuf};

use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;

use crate::{BlockSource, OpenError, ReadError, check_bounds};

/// A raw image file or a block device, opened for reading only.
#[derive(Debug)]
pub struct FileSource {
    file: File,
    path: PathBuf,
    len_bytes: u64,
}

impl FileSource {
    /// Opens `path` for reading.
    ///
    /// # Errors
    /// [`OpenError`] where the path is missing, is no file or device, or may not be read.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        let unreadable = |source: io::Error| match source.kind() {
            ErrorKind::NotFound => OpenError::Missing { path: path.to_owned() },
            _ => OpenError::Unreadable { path: path.to_owned(), source },
        };
        let not_a_disk = |what| OpenError::NotADisk { path: path.to_owned(), what };
        // Looked at before it is opened: opening a FIFO would wait for its writer.
        let kind = std::fs::metadata(path).map_err(unreadable)?.file_type();
        if kind.is_dir() {
            return Err(not_a_disk("a directory"));
        }
        if !kind.is_file() && !kind.is_block_device() {
            return Err(not_a_disk("a pipe, socket or character device"));
        }
        let file = File::open(path).map_err(unreadable)?;
        // A device's metadata says length 0; its end can only be sought.
        let len_bytes = seek(&file, SeekFrom::End(0)).map_err(|error| unreadable(error.into()))?;
        Ok(Self { file, path: path.to_owned(), len_bytes })
    }

    /// What another process opened for reading.
    ///
    /// # Errors
    /// It cannot be sought in.
    pub fn from_descriptor(descriptor: OwnedFd) -> io::Result<Self> {
        let file = File::from(descriptor);
        let len_bytes = seek(&file, SeekFrom::End(0))?;
        Ok(Self { file, path: PathBuf::new(), len_bytes })
    }

    /// The path as given. Empty where another process opened it.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl AsFd for FileSource {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl BlockSource for FileSource {
    fn len_bytes(&self) -> u64 {
        self.len_bytes
    }

    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), ReadError> {
        check_bounds(offset, buffer.len(), self.len_bytes)?;
        self.file.read_exact_at(buffer, offset).map_err(|error| ReadError::io(offset, buffer.len(), error))
    }

    fn next_written(&self, offset: u64) -> Result<Option<Range<u64>>, ReadError> {
        if offset >= self.len_bytes {
            return Ok(None);
        }
        let start = match seek(&self.file, SeekFrom::Data(offset)) {
            Ok(start) => start,
            Err(Errno::NXIO) => return Ok(None),
            // Devices and some filesystems keep no map of holes: all of it may be written.
            Err(_) => return Ok(Some(offset..self.len_bytes)),
        };
        let end = seek(&self.file, SeekFrom::Hole(start)).unwrap_or(self.len_bytes);
        Ok(Some(start..end.min(self.len_bytes)))
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Seek, Write};

    use super::*;

    #[test]
    fn holes_are_known_without_reading() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(16 << 20).unwrap();
        file.seek(io::SeekFrom::Start(8 << 20)).unwrap();
        file.write_all(&[7; 4096]).unwrap();
        let source = FileSource::open(file.path()).unwrap();
        let written = source.next_written(0).unwrap().unwrap();
        assert_eq!(written, (8 << 20)..(8 << 20) + 4096);
        assert_eq!(source.next_written(written.end).unwrap(), None);
        let mut bytes = [1; 8];
        source.read_exact_at(4 << 20, &mut bytes).unwrap();
        assert_eq!(bytes, [0; 8]);
    }

    #[test]
    fn what_is_no_disk_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        assert!(matches!(FileSource::open(folder.path()), Err(OpenError::NotADisk { .. })));
        assert!(matches!(FileSource::open(&folder.path().join("none")), Err(OpenError::Missing { .. })));
        assert!(matches!(FileSource::open(Path::new("/dev/null")), Err(OpenError::NotADisk { .. })));
    }

    #[test]
    fn a_read_past_the_end_is_an_error() {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(100).unwrap();
        let source = FileSource::open(file.path()).unwrap();
        let error = source.read_exact_at(96, &mut [0; 8]).unwrap_err();
        assert!(matches!(error, ReadError::OutOfBounds { source_len: 100, .. }));
        assert!(source.read_exact_at(u64::MAX, &mut [0; 8]).is_err());
    }
}

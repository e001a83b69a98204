use std::io;
use std::path::PathBuf;
use std::sync::Arc;

/// Why bytes could not be read.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ReadError {
    /// The range passes the source's end.
    #[error("{len} bytes at {offset:#x} pass the end at {source_len:#x}")]
    OutOfBounds {
        /// Where the read starts, in bytes.
        offset: u64,
        /// How many bytes were asked for.
        len: usize,
        /// The length of the source, in bytes.
        source_len: u64,
    },
    /// The source below failed.
    #[error("reading {len} bytes at {offset:#x} failed")]
    Io {
        /// Where the read starts, in bytes.
        offset: u64,
        /// How many bytes were asked for.
        len: usize,
        /// What the operating system said.
        #[source]
        source: Arc<io::Error>,
    },
    /// A limit set for this volume, or for the whole scan, was reached.
    #[error("{0}")]
    Budget(ExhaustedBudget),
}

impl ReadError {
    pub(crate) fn io(offset: u64, len: usize, source: io::Error) -> Self {
        Self::Io { offset, len, source: Arc::new(source) }
    }
}

impl From<ReadError> for io::Error {
    /// Keeps the [`ReadError`] inside, so that it can be found again behind a crate that speaks `std::io` only.
    fn from(error: ReadError) -> Self {
        let kind = match error {
            ReadError::OutOfBounds { .. } => io::ErrorKind::UnexpectedEof,
            ReadError::Io { .. } | ReadError::Budget(_) => io::ErrorKind::Other,
        };
        io::Error::new(kind, error)
    }
}

/// Which limit of a [`crate::Budget`] was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ExhaustedBudget {
    /// Too many reads.
    #[error("the budget of {cap} reads is used up")]
    Reads {
        /// The limit.
        cap: u64,
    },
    /// Too many bytes.
    #[error("the budget of {cap} bytes is used up")]
    Bytes {
        /// The limit.
        cap: u64,
    },
    /// Too much time.
    #[error("the time limit of {seconds} s has passed")]
    Deadline {
        /// The limit.
        seconds: u64,
    },
    /// Too many blocks, of all disks of the scan together.
    #[error("the scan's limit of {cap} blocks is used up")]
    Blocks {
        /// The limit.
        cap: u64,
    },
    /// Too much money, for all disks of the scan together.
    #[error("the scan's limit of {nano_dollars} billionths of a dollar is used up")]
    Cost {
        /// The limit, in billionths of a dollar.
        nano_dollars: u64,
    },
}

/// Why an image file or device could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// There is nothing at this path.
    #[error("{} does not exist", path.display())]
    Missing {
        /// The path as given.
        path: PathBuf,
    },
    /// The path is neither a regular file nor a block device.
    #[error("{} is {what}, not a disk image", path.display())]
    NotADisk {
        /// The path as given.
        path: PathBuf,
        /// What it is.
        what: &'static str,
    },
    /// The operating system refused.
    #[error("{} cannot be read", path.display())]
    Unreadable {
        /// The path as given.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
}

use std::io;

use stillframe_block::ReadError;
use stillframe_bytes::Fault;

/// Why a filesystem, directory or file could not be read.
#[derive(Debug, Clone, thiserror::Error)]
pub enum FsError {
    /// The source below failed, or its budget ran out.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A structure is damaged or was made to mislead.
    #[error(transparent)]
    Corrupt(#[from] Fault),
    /// The format allows it and this reader does not know it: a feature, compression, or kind of file.
    #[error("{0} is not supported")]
    Unsupported(&'static str),
    /// The content is encrypted and we have no key.
    #[error("encrypted ({0})")]
    Encrypted(&'static str),
    /// There is no such file.
    #[error("not found")]
    NotFound,
    /// A directory operation on something else.
    #[error("not a directory")]
    NotADirectory,
    /// A content operation on something else.
    #[error("not a regular file")]
    NotAFile,
    /// More than this program is willing to handle.
    #[error("more than {cap} ({what})")]
    Limit {
        /// What was counted, with its unit.
        what: &'static str,
        /// The limit.
        cap: u64,
    },
    /// A reader that we did not write gave up, with no more to say than this.
    #[error("{reader} could not read this: {what}")]
    Reader {
        /// Its name.
        reader: &'static str,
        /// The kind of its error, in words of ours.
        what: &'static str,
    },
}

impl FsError {
    /// Finds the block layer's error inside an `io::Error` that a crate handed back.
    #[must_use]
    pub fn from_io(error: &io::Error, reader: &'static str) -> Self {
        match error.get_ref().and_then(|inner| inner.downcast_ref::<ReadError>()) {
            Some(read) => Self::Read(read.clone()),
            None => Self::Reader { reader, what: "input or output failed" },
        }
    }

    /// Whether this ends all reading of the volume, and not of one file.
    #[must_use]
    pub fn is_final(&self) -> bool {
        matches!(self, Self::Read(ReadError::Budget(_)))
    }
}

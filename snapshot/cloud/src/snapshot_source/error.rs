use std::io;
use std::sync::Arc;
use std::time::Duration;

use stillframe_block::{ExhaustedBudget, ReadError};

use crate::api::{ApiError, ErrorKind};
use crate::cost::NanoDollars;
use crate::retry::Transient;

/// Why a snapshot's bytes could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    /// A call failed, after retries where they help.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// Blocks of another length than the service has: no service that we know.
    #[error("the service says that a block has {found} bytes; 524288 are expected")]
    BlockSize {
        /// What it says.
        found: u64,
    },
    /// The volume has no size, one beyond what block numbers reach, or another one than before.
    #[error("the service says that the volume has {found} GiB, which cannot be")]
    VolumeSize {
        /// What it says.
        found: u64,
    },
    /// The list of blocks cannot be: beyond the end, out of order over pages, or without an end.
    #[error("the list of blocks cannot be trusted: {what}")]
    List {
        /// What is wrong with it.
        what: &'static str,
    },
    /// A block's length is not what was announced.
    #[error("block {block} has {found} bytes; 524288 are expected")]
    Length {
        /// Its index.
        block: u32,
        /// Bytes that came.
        found: u64,
    },
    /// A block's bytes are not those of its checksum.
    #[error("block {block} is not what its checksum says")]
    Checksum {
        /// Its index.
        block: u32,
    },
    /// A block's checksum is missing or of an algorithm that we do not know.
    #[error("block {block} has no SHA-256 checksum")]
    NoChecksum {
        /// Its index.
        block: u32,
    },
    /// No more blocks may be read.
    #[error("the limit of {max} blocks is reached")]
    BlockLimit {
        /// The limit.
        max: u64,
    },
    /// No more may be spent.
    #[error("the limit of {max} is reached")]
    CostLimit {
        /// The limit.
        max: NanoDollars,
    },
    /// The scan's snapshots will expire, and anyone may then delete them.
    #[error("the time limit of {} s is reached", max.as_secs())]
    TimeLimit {
        /// The limit.
        max: Duration,
    },
    /// The scan is being ended.
    #[error("the scan was stopped")]
    Stopped,
    /// The runtime that makes the calls has ended.
    #[error("no more calls are made")]
    Ended,
}

impl SourceError {
    /// The one inside a [`ReadError`], where one is. Limits are not: they are [`ReadError::Budget`].
    #[must_use]
    pub fn of(error: &ReadError) -> Option<&Self> {
        match error {
            ReadError::Io { source, .. } => source.get_ref()?.downcast_ref(),
            ReadError::OutOfBounds { .. } | ReadError::Budget(_) => None,
        }
    }

    /// For readers: where it was met, or which limit of the operator's is reached.
    pub(super) fn at(self, offset: u64, len: usize) -> ReadError {
        match self {
            Self::BlockLimit { max } => ReadError::Budget(ExhaustedBudget::Blocks { cap: max }),
            Self::CostLimit { max } => ReadError::Budget(ExhaustedBudget::Cost { nano_dollars: max.0 }),
            Self::TimeLimit { max } => {
                ReadError::Budget(ExhaustedBudget::Deadline { seconds: max.as_secs() })
            }
            other => ReadError::Io { offset, len, source: Arc::new(io::Error::other(other)) },
        }
    }

    /// Whether no other block of the snapshot would fare better, so that asking again only costs: the snapshot is gone, we
    /// may not, or the service does not answer, after all retries.
    pub(super) fn ends_reading(&self) -> bool {
        match self {
            Self::Api(error) => !matches!(error.kind, ErrorKind::Invalid | ErrorKind::InvalidToken),
            _ => false,
        }
    }

    pub(super) fn is_stale_token(&self) -> bool {
        matches!(self, Self::Api(error) if error.kind == ErrorKind::InvalidToken)
    }
}

impl Transient for SourceError {
    fn is_transient(&self) -> bool {
        match self {
            Self::Api(error) => error.is_transient(),
            Self::Length { .. } | Self::Checksum { .. } | Self::NoChecksum { .. } => true,
            Self::BlockSize { .. }
            | Self::VolumeSize { .. }
            | Self::List { .. }
            | Self::BlockLimit { .. }
            | Self::CostLimit { .. }
            | Self::TimeLimit { .. }
            | Self::Stopped
            | Self::Ended => false,
        }
    }
}

//! Where a disk's bytes come from.
//!
//! Everything that can be read at an offset is a [`BlockSource`]: an image file, a window on another source, bytes in
//! memory, a cache. Readers know only this trait, so one that works on a file works over a snapshot too.
//!
//! A scan stacks them: [`FileSource`] → [`CountingSource`] → [`CachedSource`] → [`WindowSource`] (a partition) →
//! [`BudgetSource`] (a limit for one volume) → a reader.

mod budget;
mod buffer;
mod cache;
mod counting;
mod error;
mod file;
#[cfg(test)]
mod hints;
mod memory;
mod window;

use std::ops::Range;
use std::sync::Arc;

pub use budget::{Budget, BudgetSource};
pub use buffer::BlockBuffer;
pub use cache::{BLOCK_BYTES, BlockCache, CachedSource};
pub use counting::{CountingSource, ReadCounts};
pub use error::{ExhaustedBudget, OpenError, ReadError};
pub use file::FileSource;
pub use memory::{MemorySource, SparseMemorySource};
pub use window::WindowSource;

/// A disk, or a part of one, that can be read at any offset by any number of threads.
pub trait BlockSource: Send + Sync {
    /// The length in bytes. It does not change while the source is in use.
    fn len_bytes(&self) -> u64;

    /// Fills `buffer` with the bytes at `offset`.
    ///
    /// # Errors
    /// [`ReadError::OutOfBounds`] where the range passes the end (nothing is read then), [`ReadError::Io`] where the
    /// source below fails, [`ReadError::Budget`] where a budget ran out.
    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), ReadError>;

    /// A hint that these ranges will be read soon. May do nothing; what passes the end is ignored.
    fn prefetch(&self, _ranges: &[Range<u64>]) {}

    /// Whether [`Self::prefetch`] does anything. Where it does not, nobody needs to find out what will be read.
    fn wants_hints(&self) -> bool {
        false
    }

    /// The first range at or after `offset` that may hold a non-zero byte; `None` where only zeros follow. What lies
    /// between `offset` and the range's start is known to be zeros without reading it.
    ///
    /// # Errors
    /// [`ReadError::Io`] where the source cannot tell.
    fn next_written(&self, offset: u64) -> Result<Option<Range<u64>>, ReadError> {
        let len = self.len_bytes();
        Ok((offset < len).then_some(offset..len))
    }
}

impl<S: BlockSource + ?Sized> BlockSource for Arc<S> {
    fn len_bytes(&self) -> u64 {
        (**self).len_bytes()
    }

    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), ReadError> {
        (**self).read_exact_at(offset, buffer)
    }

    fn prefetch(&self, ranges: &[Range<u64>]) {
        (**self).prefetch(ranges);
    }

    fn wants_hints(&self) -> bool {
        (**self).wants_hints()
    }

    fn next_written(&self, offset: u64) -> Result<Option<Range<u64>>, ReadError> {
        (**self).next_written(offset)
    }
}

/// Checks that `offset..offset + len` lies inside a source of `source_len` bytes.
pub(crate) fn check_bounds(offset: u64, len: usize, source_len: u64) -> Result<(), ReadError> {
    let end = u64::try_from(len).ok().and_then(|len| offset.checked_add(len));
    match end {
        Some(end) if end <= source_len => Ok(()),
        _ => Err(ReadError::OutOfBounds { offset, len, source_len }),
    }
}

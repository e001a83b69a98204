use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, PoisonError};

use crate::BLOCK_BYTES;

/// Buffers that are kept for the next block, at most: 16 MiB.
const FREE_AT_MOST: usize = 32;
const BLOCK_BYTES_USIZE: usize = 512 * 1024;
static ZEROS: [u8; 64 * 1024] = [0; 64 * 1024];

/// Of the whole process: blocks that one cache drops are the next one's memory.
static FREE: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());

/// The bytes of a block. When it is dropped its memory is kept for the next one: given back to the system's allocator by
/// one thread and asked for by another, 512 KiB at a time, it lay in an arena for each thread, and a process took twice the
/// memory that it used.
#[derive(Debug, Default)]
pub struct BlockBuffer(Vec<u8>);

impl BlockBuffer {
    /// No bytes, and room for a block.
    #[must_use]
    pub fn empty() -> Self {
        let free = FREE.lock().unwrap_or_else(PoisonError::into_inner).pop();
        Self(free.unwrap_or_else(|| Vec::with_capacity(BLOCK_BYTES_USIZE)))
    }

    /// `len` zeros, to be filled.
    #[must_use]
    pub fn zeros(len: usize) -> Self {
        let mut buffer = Self::empty();
        // Copied and not `resize`d, which without optimization sets one byte at a time: milliseconds a block in tests.
        while let Some(left) = len.checked_sub(buffer.0.len()).filter(|left| *left > 0) {
            buffer.0.extend_from_slice(ZEROS.get(..left).unwrap_or(&ZEROS));
        }
        buffer
    }

    /// The bytes, no longer a buffer of ours. Until they are [`BlockBuffer::from`] again their memory is the allocator's.
    #[must_use]
    pub fn into_vec(mut self) -> Vec<u8> {
        std::mem::take(&mut self.0)
    }
}

impl From<Vec<u8>> for BlockBuffer {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }
}

impl Deref for BlockBuffer {
    type Target = Vec<u8>;

    fn deref(&self) -> &Vec<u8> {
        &self.0
    }
}

impl DerefMut for BlockBuffer {
    fn deref_mut(&mut self) -> &mut Vec<u8> {
        &mut self.0
    }
}

impl Drop for BlockBuffer {
    fn drop(&mut self) {
        // Buffers of another size are of no use to a block.
        let is_block = u64::try_from(self.0.capacity()).is_ok_and(|capacity| capacity == BLOCK_BYTES);
        if !is_block {
            return;
        }
        let mut bytes = std::mem::take(&mut self.0);
        bytes.clear();
        let mut free = FREE.lock().unwrap_or_else(PoisonError::into_inner);
        if free.len() < FREE_AT_MOST {
            free.push(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_used_again_and_clean() {
        let mut first = BlockBuffer::zeros(BLOCK_BYTES_USIZE);
        first.fill(7);
        drop(first);
        for _ in 0..100 {
            let again = BlockBuffer::zeros(1000);
            assert_eq!(again.len(), 1000);
            assert!(again.iter().all(|byte| *byte == 0));
        }
        // Other tests of this process take and give too, so only the bound can be told.
        let many: Vec<_> = (0..200).map(|_| BlockBuffer::empty()).collect();
        drop(many);
        assert!(FREE.lock().unwrap().len() <= FREE_AT_MOST);
        assert!(
            FREE.lock().unwrap().iter().all(|free| free.is_empty() && free.capacity() == BLOCK_BYTES_USIZE)
        );
        assert_eq!(BlockBuffer::from(vec![1, 2]).into_vec(), [1, 2]);
    }
}

use stillframe_bytes::Fault;
use stillframe_fs::FsError;

use super::{length_of, offset_of};

/// The bytes of one rpm header, wherever they lie. They are read from front to back.
pub(super) trait Blob {
    /// How many bytes the database says it has.
    fn len_bytes(&self) -> u64;

    /// Fills `buffer` with what is at `offset`, which is not before the end of the read before.
    fn read_exact(&mut self, offset: u64, buffer: &mut [u8]) -> Result<(), FsError>;
}

/// Bytes that lie in pieces of which each names the next.
pub(super) trait Pieces {
    /// Replaces `piece` by the next one, which is not empty; `false` where there is none.
    fn next_piece(&mut self, piece: &mut Vec<u8>) -> Result<bool, FsError>;
}

/// A [`Blob`] of [`Pieces`].
pub(super) struct Chain<P> {
    pieces: P,
    what: &'static str,
    at: u64,
    len_bytes: u64,
    piece: Vec<u8>,
    piece_offset: u64,
}

impl<P: Pieces> Chain<P> {
    /// `len_bytes` of `pieces`, after those of `first`. `what` and `at` name it in faults.
    pub(super) fn new(what: &'static str, at: u64, len_bytes: u64, first: &[u8], pieces: P) -> Self {
        Self { pieces, what, at, len_bytes, piece: first.to_vec(), piece_offset: 0 }
    }
}

impl<P: Pieces> Blob for Chain<P> {
    fn len_bytes(&self) -> u64 {
        self.len_bytes
    }

    fn read_exact(&mut self, offset: u64, buffer: &mut [u8]) -> Result<(), FsError> {
        let ends = offset.saturating_add(offset_of(buffer.len()));
        if ends > self.len_bytes || offset < self.piece_offset {
            return Err(Fault::new(self.what, self.at, ends, self.len_bytes).into());
        }
        let mut filled = 0_usize;
        while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            let position = offset.saturating_add(offset_of(filled));
            let within = length_of(position.saturating_sub(self.piece_offset));
            let from = self.piece.get(within..).unwrap_or_default();
            if from.is_empty() {
                let piece_end = self.piece_offset.saturating_add(offset_of(self.piece.len()));
                if !self.pieces.next_piece(&mut self.piece)? {
                    self.piece.clear();
                    return Err(Fault::new(self.what, self.at, self.len_bytes, piece_end).into());
                }
                self.piece_offset = piece_end;
                continue;
            }
            let len = from.len().min(rest.len());
            if let (Some(into), Some(from)) = (rest.get_mut(..len), from.get(..len)) {
                into.copy_from_slice(from);
            }
            filled = filled.saturating_add(len);
        }
        Ok(())
    }
}

/// A [`Blob`] in memory, `at` bytes into the file.
pub(super) struct Inline<'a> {
    pub(super) at: u64,
    pub(super) bytes: &'a [u8],
}

impl Blob for Inline<'_> {
    fn len_bytes(&self) -> u64 {
        offset_of(self.bytes.len())
    }

    fn read_exact(&mut self, offset: u64, buffer: &mut [u8]) -> Result<(), FsError> {
        let from = self.bytes.get(length_of(offset)..).and_then(|rest| rest.get(..buffer.len()));
        let Some(from) = from else {
            let ends = offset.saturating_add(offset_of(buffer.len()));
            return Err(Fault::new("rpm header", self.at, ends, self.bytes.len()).into());
        };
        buffer.copy_from_slice(from);
        Ok(())
    }
}

/// The part of another [`Blob`] from `start` on.
pub(super) struct Tail<'b, B> {
    pub(super) blob: &'b mut B,
    pub(super) start: u64,
    pub(super) len_bytes: u64,
}

impl<B: Blob> Blob for Tail<'_, B> {
    fn len_bytes(&self) -> u64 {
        self.len_bytes
    }

    fn read_exact(&mut self, offset: u64, buffer: &mut [u8]) -> Result<(), FsError> {
        self.blob.read_exact(self.start.saturating_add(offset), buffer)
    }
}

/// Pages that were used. Every page of these databases has one use, so a page that is met again ends a cycle or is
/// claimed twice; this also bounds the work for a database by its size.
#[derive(Default)]
pub(super) struct PageSet {
    words: Vec<u64>,
}

/// 16 million pages: 64 GiB of the usual size, and 2 MiB for the set.
pub(super) const MAX_PAGES: u32 = 1 << 24;

/// How many pages of a tree may wait to be read: the children of one page on each level, and never near this many.
pub(super) const MAX_PAGES_WAITING: usize = 1 << 20;

impl PageSet {
    /// Marks `page`; `false` where it was marked, or is no page that a database of ours can have.
    pub(super) fn insert(&mut self, page: u32) -> bool {
        if page >= MAX_PAGES {
            return false;
        }
        let index = length_of(page / u64::BITS);
        if self.words.len() <= index {
            self.words.resize(index.saturating_add(1), 0);
        }
        let bit = 1_u64.wrapping_shl(page % u64::BITS);
        let Some(word) = self.words.get_mut(index) else { return false };
        let is_new = *word & bit == 0;
        *word |= bit;
        is_new
    }
}

#[cfg(test)]
#[allow(
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    reason = "tests compute with numbers of their own"
)]
mod tests {
    use super::*;

    struct Two(u8);

    impl Pieces for Two {
        fn next_piece(&mut self, piece: &mut Vec<u8>) -> Result<bool, FsError> {
            self.0 += 1;
            *piece = vec![self.0; 4];
            Ok(self.0 <= 2)
        }
    }

    #[test]
    fn pieces_are_joined_and_skipped() {
        let mut chain = Chain::new("test", 0, 11, &[9, 9], Two(0));
        let mut buffer = [0; 3];
        chain.read_exact(1, &mut buffer).unwrap();
        assert_eq!(buffer, [9, 1, 1]);
        chain.read_exact(5, &mut buffer).unwrap();
        assert_eq!(buffer, [1, 2, 2]);
        assert!(chain.read_exact(9, &mut buffer).is_err(), "past the length");
        assert!(chain.read_exact(10, &mut buffer[..1]).is_err(), "past the pieces");
    }

    #[test]
    fn a_page_is_new_once() {
        let mut pages = PageSet::default();
        assert!(pages.insert(0) && pages.insert(63) && pages.insert(64));
        assert!(!pages.insert(63) && !pages.insert(MAX_PAGES) && !pages.insert(u32::MAX));
    }
}

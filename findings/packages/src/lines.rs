//! Lines of a text file of any size, read in pieces.

use std::ops::ControlFlow;

use stillframe_fs::{FileContent, FsError, read_full};

use crate::{length_of, offset_of};

/// How much of a line is kept: more than the fields that are wanted can have.
pub(crate) const MAX_LINE_BYTES: usize = 1024;

const PIECE_BYTES: usize = 256 << 10;

/// One line, without its line feed.
#[derive(Clone, Copy)]
pub(crate) struct Line<'a> {
    /// Where it begins in the file.
    pub(crate) at: u64,
    /// Its bytes, [`MAX_LINE_BYTES`] at most.
    pub(crate) bytes: &'a [u8],
    /// Whether it is longer than that.
    pub(crate) is_cut: bool,
}

/// Calls `visit` for each line of the first `cap_bytes` of `file` until it breaks. A last line without line feed is a
/// line.
///
/// # Errors
/// What `file` fails with; [`FsError::Limit`] where it is longer than `cap_bytes`, after the lines before.
pub(crate) fn visit_lines(
    file: &mut dyn FileContent,
    cap_bytes: u64,
    visit: &mut dyn FnMut(Line<'_>) -> ControlFlow<()>,
) -> Result<(), FsError> {
    let mut piece = vec![0; length_of(file.len_bytes().saturating_add(1)).min(PIECE_BYTES)];
    let mut begun = Begun::default();
    let mut offset = 0_u64;
    loop {
        let read = read_full(file, offset, &mut piece)?;
        let within_cap = length_of(cap_bytes.saturating_sub(offset)).min(read);
        let mut at = offset;
        for part in piece.get(..within_cap).unwrap_or_default().split_inclusive(|byte| *byte == b'\n') {
            let flow = match part.split_last() {
                Some((b'\n', line)) => begun.end(at, line, visit),
                _ => begun.extend(at, part),
            };
            if flow.is_break() {
                return Ok(());
            }
            at = at.saturating_add(offset_of(part.len()));
        }
        if within_cap < read {
            return Err(FsError::Limit { what: "package database in bytes", cap: cap_bytes });
        }
        if read < piece.len() {
            if begun.len > 0 {
                // The end of the file ends the last line; there is nothing after it to break off.
                let _ = begun.end(at, &[], visit);
            }
            return Ok(());
        }
        offset = offset.saturating_add(offset_of(read));
    }
}

/// A line that a former piece began.
#[derive(Default)]
struct Begun {
    at: u64,
    bytes: Vec<u8>,
    len: u64,
}

impl Begun {
    fn extend(&mut self, at: u64, part: &[u8]) -> ControlFlow<()> {
        if self.len == 0 {
            self.at = at;
        }
        self.len = self.len.saturating_add(offset_of(part.len()));
        let room = MAX_LINE_BYTES.saturating_sub(self.bytes.len());
        self.bytes.extend_from_slice(part.get(..room).unwrap_or(part));
        ControlFlow::Continue(())
    }

    fn end(
        &mut self,
        at: u64,
        part: &[u8],
        visit: &mut dyn FnMut(Line<'_>) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        if self.len == 0 {
            let is_cut = part.len() > MAX_LINE_BYTES;
            return visit(Line { at, bytes: part.get(..MAX_LINE_BYTES).unwrap_or(part), is_cut });
        }
        let _ = self.extend(at, part);
        let is_cut = self.len > offset_of(MAX_LINE_BYTES);
        let flow = visit(Line { at: self.at, bytes: &self.bytes, is_cut });
        self.bytes.clear();
        self.len = 0;
        flow
    }
}

#[cfg(test)]
#[allow(
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    reason = "tests compute with numbers of their own"
)]
mod tests {
    use stillframe_fs::MemoryContent;

    use super::*;

    type Seen = Vec<(u64, Vec<u8>, bool)>;

    fn lines(content: Vec<u8>, cap_bytes: u64) -> (Seen, Result<(), FsError>) {
        let mut seen = Seen::new();
        let result = visit_lines(&mut MemoryContent(content), cap_bytes, &mut |line| {
            seen.push((line.at, line.bytes.to_vec(), line.is_cut));
            ControlFlow::Continue(())
        });
        (seen, result)
    }

    #[test]
    fn lines_keep_their_place() {
        let (seen, result) = lines(b"a\n\nbc".to_vec(), 100);
        assert!(result.is_ok());
        assert_eq!(seen, [(0, b"a".to_vec(), false), (2, vec![], false), (3, b"bc".to_vec(), false)]);
        assert!(lines(Vec::new(), 100).0.is_empty());
    }

    #[test]
    fn lines_cross_pieces() {
        // Every length of the first line that lets the second one cross the end of a piece.
        for before in PIECE_BYTES - 6..PIECE_BYTES + 2 {
            let mut content = vec![b'x'; before];
            content.extend_from_slice(b"\nhello\nlast");
            let (seen, result) = lines(content, u64::MAX);
            assert!(result.is_ok());
            assert_eq!(seen.len(), 3);
            assert_eq!((seen[0].0, seen[0].1.len(), seen[0].2), (0, MAX_LINE_BYTES, true));
            assert_eq!(seen[1], (before as u64 + 1, b"hello".to_vec(), false), "{before}");
            assert_eq!(seen[2], (before as u64 + 7, b"last".to_vec(), false));
        }
    }

    #[test]
    fn a_long_file_is_cut_with_an_error() {
        let (seen, result) = lines(b"a\nb\nc\nd\n".to_vec(), 4);
        assert_eq!(seen.len(), 2);
        assert!(matches!(result, Err(FsError::Limit { cap: 4, .. })));
    }
}

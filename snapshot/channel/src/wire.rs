//! Questions and answers as bytes. Both processes are the same program on the same machine; numbers are little-endian so
//! that a dump reads the same everywhere.

use std::io::{self, IoSlice, Read, Write};
use std::ops::Range;
use std::sync::Arc;

use stillframe_block::{ExhaustedBudget, ReadError};

const QUESTION_BYTES: usize = 16;
const ANSWER_BYTES: usize = 24;

/// What a parser asks of a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    /// `len` bytes at `offset`.
    Read,
    /// The first range at or after `offset` that was written.
    NextWritten,
    /// Nothing: `len` ranges follow that will be read soon.
    Hint,
}

/// A question: 1 byte what, 1 byte 0, 2 bytes disk, 4 bytes length, 8 bytes offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Question {
    pub(crate) asked: Asked,
    pub(crate) disk: u16,
    pub(crate) len: u32,
    pub(crate) offset: u64,
}

impl Question {
    pub(crate) fn write(self, to: &mut impl Write) -> io::Result<()> {
        let mut bytes = Vec::with_capacity(QUESTION_BYTES);
        let asked = match self.asked {
            Asked::Read => 1,
            Asked::NextWritten => 2,
            Asked::Hint => 3,
        };
        bytes.extend_from_slice(&[asked, 0]);
        bytes.extend_from_slice(&self.disk.to_le_bytes());
        bytes.extend_from_slice(&self.len.to_le_bytes());
        bytes.extend_from_slice(&self.offset.to_le_bytes());
        to.write_all(&bytes)
    }

    /// `None` where the lane was closed between two questions, and `Err` of [`io::ErrorKind::InvalidData`] where this is no
    /// question.
    pub(crate) fn read(from: &mut impl Read) -> io::Result<Option<Self>> {
        let mut what = [0; 1];
        if from.read(&mut what)? == 0 {
            return Ok(None);
        }
        let asked = match what {
            [1] => Asked::Read,
            [2] => Asked::NextWritten,
            [3] => Asked::Hint,
            _ => return Err(io::ErrorKind::InvalidData.into()),
        };
        let mut zero = [0; 1];
        let mut disk = [0; 2];
        let mut len = [0; 4];
        let mut offset = [0; 8];
        for field in [&mut zero[..], &mut disk, &mut len, &mut offset] {
            from.read_exact(field)?;
        }
        let (disk, len) = (u16::from_le_bytes(disk), u32::from_le_bytes(len));
        Ok(Some(Self { asked, disk, len, offset: u64::from_le_bytes(offset) }))
    }
}

/// An answer: 8 bytes status, 16 bytes of two numbers. The bytes of a read follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Answer {
    status: u64,
    numbers: [u64; 2],
}

impl Answer {
    pub(crate) const BYTES_FOLLOW: Self = Self { status: 0, numbers: [0, 0] };

    pub(crate) fn next_written(range: Option<Range<u64>>) -> Self {
        match range {
            Some(range) => Self { status: 1, numbers: [range.start, range.end] },
            None => Self { status: 2, numbers: [0, 0] },
        }
    }

    pub(crate) const fn failed(error: &ReadError) -> Self {
        let (status, numbers) = match error {
            ReadError::OutOfBounds { source_len, .. } => (3, [*source_len, 0]),
            ReadError::Io { .. } => (4, [0, 0]),
            ReadError::Budget(ExhaustedBudget::Reads { cap }) => (5, [*cap, 0]),
            ReadError::Budget(ExhaustedBudget::Bytes { cap }) => (6, [*cap, 0]),
            ReadError::Budget(ExhaustedBudget::Deadline { seconds }) => (7, [*seconds, 0]),
            ReadError::Budget(ExhaustedBudget::Blocks { cap }) => (8, [*cap, 0]),
            ReadError::Budget(ExhaustedBudget::Cost { nano_dollars }) => (9, [*nano_dollars, 0]),
        };
        Self { status, numbers }
    }

    pub(crate) fn write(self, to: &mut impl Write) -> io::Result<()> {
        to.write_all(&self.bytes())
    }

    /// The answer and the bytes of a read in one piece: of two pieces the first would wake a reader that then waits again.
    pub(crate) fn write_with(self, data: &[u8], to: &mut impl Write) -> io::Result<()> {
        let answer = self.bytes();
        let written = to.write_vectored(&[IoSlice::new(&answer), IoSlice::new(data)])?;
        to.write_all(answer.get(written..).unwrap_or_default())?;
        to.write_all(data.get(written.saturating_sub(answer.len())..).unwrap_or_default())
    }

    fn bytes(self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(ANSWER_BYTES);
        let [first, second] = self.numbers;
        for number in [self.status, first, second] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        bytes
    }

    pub(crate) fn read(from: &mut impl Read) -> io::Result<Self> {
        let mut numbers = [0_u64; 3];
        for number in &mut numbers {
            let mut bytes = [0; 8];
            from.read_exact(&mut bytes)?;
            *number = u64::from_le_bytes(bytes);
        }
        let [status, first, second] = numbers;
        Ok(Self { status, numbers: [first, second] })
    }

    /// The error of a question about `len` bytes at `offset`, where this is one.
    pub(crate) fn error(self, offset: u64, len: usize) -> Option<ReadError> {
        let [number, _] = self.numbers;
        Some(match self.status {
            0..=2 => return None,
            3 => ReadError::OutOfBounds { offset, len, source_len: number },
            5 => ReadError::Budget(ExhaustedBudget::Reads { cap: number }),
            6 => ReadError::Budget(ExhaustedBudget::Bytes { cap: number }),
            7 => ReadError::Budget(ExhaustedBudget::Deadline { seconds: number }),
            8 => ReadError::Budget(ExhaustedBudget::Blocks { cap: number }),
            9 => ReadError::Budget(ExhaustedBudget::Cost { nano_dollars: number }),
            _ => ReadError::Io {
                offset,
                len,
                source: Arc::new(io::Error::other("the disk could not be read")),
            },
        })
    }

    pub(crate) fn range(self) -> Option<Range<u64>> {
        let [start, end] = self.numbers;
        (self.status == 1).then_some(start..end)
    }
}

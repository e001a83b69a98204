use std::io::{self, BufReader, Read};
use std::ops::Range;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, PoisonError};

use stillframe_block::{BlockSource, ReadError};

use crate::wire::{Answer, Asked, Question};
use crate::{MAX_HINTED_RANGES, MAX_READ_BYTES};

/// Questions are short: one read of the socket gets all of one.
const QUESTION_BUFFER_BYTES: usize = 4096;

/// The disks that are served, in the order of their numbers.
pub type Served = [Arc<dyn BlockSource>];

/// The other side of a lane sent what no parser of ours sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Misuse(pub &'static str);

/// Answers the questions of one lane until the other side closes it.
///
/// # Errors
/// [`Misuse`], at which the lane is closed.
pub fn serve(lane: &UnixStream, disks: &Served) -> Result<(), Misuse> {
    let mut questions = BufReader::with_capacity(QUESTION_BUFFER_BYTES, lane);
    let result = loop {
        match Question::read(&mut questions) {
            Ok(Some(question)) => match answer(question, &mut questions, lane, disks) {
                Ok(Ok(())) => {}
                Ok(Err(misuse)) => break Err(misuse),
                // The other side is gone: whoever watches it knows why.
                Err(_) => break Ok(()),
            },
            Ok(None) => break Ok(()),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                break Err(Misuse("it asked for something that no disk can answer"));
            }
            Err(_) => break Ok(()),
        }
    };
    let _ = lane.shutdown(std::net::Shutdown::Both);
    result
}

fn answer(
    question: Question,
    questions: &mut impl Read,
    mut lane: &UnixStream,
    disks: &Served,
) -> io::Result<Result<(), Misuse>> {
    let Some(disk) = disks.get(usize::from(question.disk)) else {
        return Ok(Err(Misuse("it asked for a disk that is not its own")));
    };
    match question.asked {
        Asked::Read if question.len > MAX_READ_BYTES => {
            return Ok(Err(Misuse("it asked for more bytes at once than are served")));
        }
        Asked::Hint if question.len > MAX_HINTED_RANGES => {
            return Ok(Err(Misuse("it sent a longer hint than is taken")));
        }
        Asked::Read => {
            let mut bytes = Buffer::of(usize::try_from(question.len).unwrap_or(0));
            match disk.read_exact_at(question.offset, &mut bytes.0) {
                Ok(()) => Answer::BYTES_FOLLOW.write_with(&bytes.0, &mut lane)?,
                Err(error) => Answer::failed(&error).write(&mut lane)?,
            }
        }
        Asked::NextWritten => {
            let answer = disk.next_written(question.offset);
            answer
                .map_or_else(|error: ReadError| Answer::failed(&error), Answer::next_written)
                .write(&mut lane)?;
        }
        Asked::Hint => {
            let ranges = (0..question.len).map(|_| range(questions)).collect::<io::Result<Vec<_>>>()?;
            disk.prefetch(&ranges);
        }
    }
    Ok(Ok(()))
}

/// Buffers that are kept for the next answers of all lanes, at most.
const FREE_AT_MOST: usize = 8;
static FREE: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());

/// Room for an answer. What an earlier one left in it is not wiped: only what was read into it as a whole is sent.
struct Buffer(Vec<u8>);

impl Buffer {
    fn of(len: usize) -> Self {
        let mut bytes = FREE.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default();
        bytes.resize(len, 0);
        Self(bytes)
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let mut free = FREE.lock().unwrap_or_else(PoisonError::into_inner);
        if free.len() < FREE_AT_MOST {
            free.push(std::mem::take(&mut self.0));
        }
    }
}

fn range(from: &mut impl Read) -> io::Result<Range<u64>> {
    let mut start = [0; 8];
    let mut end = [0; 8];
    from.read_exact(&mut start)?;
    from.read_exact(&mut end)?;
    Ok(u64::from_le_bytes(start)..u64::from_le_bytes(end))
}

use std::io::{self, Read};
use std::ops::Range;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use stillframe_block::{BlockSource, ReadError};

use crate::wire::{Answer, Asked, Question};
use crate::{MAX_HINTED_RANGES, MAX_READ_BYTES};

/// The lanes to the process that reads, shared by all disks. There should be as many as threads that read.
pub struct Lanes {
    free: Mutex<Vec<UnixStream>>,
    freed: Condvar,
    count: usize,
}

impl Lanes {
    /// The parser's ends of the lanes.
    #[must_use]
    pub fn new(lanes: Vec<UnixStream>) -> Arc<Self> {
        let count = lanes.len();
        Arc::new(Self { free: Mutex::new(lanes), freed: Condvar::new(), count })
    }

    /// Does `work` on a free lane. One that fails is dropped: what comes on it next belongs to another question.
    fn on_a_lane<T>(&self, work: impl FnOnce(&mut UnixStream) -> io::Result<T>) -> io::Result<T> {
        if self.count == 0 {
            return Err(io::ErrorKind::NotConnected.into());
        }
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let mut lane = loop {
            match free.pop() {
                Some(lane) => break lane,
                None => free = self.freed.wait(free).unwrap_or_else(PoisonError::into_inner),
            }
        };
        drop(free);
        let result = work(&mut lane);
        if result.is_err() {
            // The other side is gone or talks of something else; every later question meets that again.
            let _ = lane.shutdown(std::net::Shutdown::Both);
        }
        self.free.lock().unwrap_or_else(PoisonError::into_inner).push(lane);
        self.freed.notify_one();
        result
    }
}

/// A disk that another process reads.
pub struct ChannelSource {
    lanes: Arc<Lanes>,
    disk: u16,
    len_bytes: u64,
    wants_hints: bool,
}

impl ChannelSource {
    /// Disk number `disk` of those that are served. `wants_hints` says what the served source says.
    #[must_use]
    pub const fn new(lanes: Arc<Lanes>, disk: u16, len_bytes: u64, wants_hints: bool) -> Self {
        Self { lanes, disk, len_bytes, wants_hints }
    }

    fn question(&self, asked: Asked, len: u32, offset: u64) -> Question {
        Question { asked, disk: self.disk, len, offset }
    }

    fn read_piece(&self, offset: u64, piece: &mut [u8]) -> Result<(), ReadError> {
        let len = piece.len();
        let failed = |source: io::Error| ReadError::Io { offset, len, source: Arc::new(source) };
        let asked = u32::try_from(len).map_err(|_| failed(io::ErrorKind::InvalidInput.into()))?;
        let answer = self.lanes.on_a_lane(|lane| {
            self.question(Asked::Read, asked, offset).write(lane)?;
            let answer = Answer::read(lane)?;
            if answer == Answer::BYTES_FOLLOW {
                lane.read_exact(piece)?;
            }
            Ok(answer)
        });
        match answer.map_err(failed)?.error(offset, len) {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }
}

impl BlockSource for ChannelSource {
    fn len_bytes(&self) -> u64 {
        self.len_bytes
    }

    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), ReadError> {
        let len = buffer.len();
        let end = u64::try_from(len).ok().and_then(|len| offset.checked_add(len));
        if end.is_none_or(|end| end > self.len_bytes) {
            return Err(ReadError::OutOfBounds { offset, len, source_len: self.len_bytes });
        }
        let most = usize::try_from(MAX_READ_BYTES).unwrap_or(usize::MAX);
        let mut at = offset;
        for piece in buffer.chunks_mut(most) {
            self.read_piece(at, piece)?;
            at = at.saturating_add(u64::try_from(piece.len()).unwrap_or(u64::MAX));
        }
        Ok(())
    }

    fn prefetch(&self, ranges: &[Range<u64>]) {
        let most = usize::try_from(MAX_HINTED_RANGES).unwrap_or(usize::MAX);
        let ranges = ranges.get(..most).unwrap_or(ranges);
        let Ok(count) = u32::try_from(ranges.len()) else { return };
        if !self.wants_hints || count == 0 {
            return;
        }
        // Where it fails, the reads that it was for fail too, and tell.
        let _ = self.lanes.on_a_lane(|lane| {
            let mut bytes = Vec::new();
            self.question(Asked::Hint, count, 0).write(&mut bytes)?;
            for range in ranges {
                bytes.extend_from_slice(&range.start.to_le_bytes());
                bytes.extend_from_slice(&range.end.to_le_bytes());
            }
            io::Write::write_all(lane, &bytes)
        });
    }

    fn wants_hints(&self) -> bool {
        self.wants_hints
    }

    fn next_written(&self, offset: u64) -> Result<Option<Range<u64>>, ReadError> {
        let failed = |source: io::Error| ReadError::Io { offset, len: 0, source: Arc::new(source) };
        let answer = self.lanes.on_a_lane(|lane| {
            self.question(Asked::NextWritten, 0, offset).write(lane)?;
            Answer::read(lane)
        });
        let answer = answer.map_err(failed)?;
        match answer.error(offset, 0) {
            Some(error) => Err(error),
            None => Ok(answer.range().filter(|range| range.start < self.len_bytes)),
        }
    }
}

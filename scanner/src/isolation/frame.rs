//! Messages on a socket: four bytes of length, little-endian, then so many bytes of JSON.

use std::io::{self, ErrorKind, Read, Write};

use serde::Serialize;
use serde::de::DeserializeOwned;

/// The longest message that is taken, in bytes: the report of a machine with every package of a large distribution is a
/// third of it.
pub(super) const MAX_MESSAGE_BYTES: u32 = 128 << 20;
const PIECE_BYTES: usize = 64 * 1024;

/// Why a message could not be taken.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum FrameError {
    /// The other side is gone.
    Closed,
    /// It announces more bytes than are taken.
    TooLong,
    /// It is no message.
    Malformed,
}

/// Writes one message.
pub(super) fn write(to: &mut impl Write, message: &impl Serialize) -> io::Result<()> {
    // The length goes first and is known last.
    let mut bytes = vec![0; 4];
    serde_json::to_writer(&mut bytes, message)?;
    let len = bytes.len().saturating_sub(4);
    let len =
        u32::try_from(len).ok().filter(|len| *len <= MAX_MESSAGE_BYTES).ok_or(ErrorKind::FileTooLarge)?;
    if let Some(start) = bytes.get_mut(..4) {
        start.copy_from_slice(&len.to_le_bytes());
    }
    to.write_all(&bytes)
}

/// Takes messages from a stream as they come, and waits no longer than the stream does.
pub(super) struct Messages<R> {
    from: R,
    /// What came and was not taken yet.
    pending: Vec<u8>,
    piece: Vec<u8>,
    /// All bytes that came.
    pub(super) received: u64,
    /// The length of the message that was taken last.
    pub(super) taken_bytes: u64,
}

impl<R: Read> Messages<R> {
    pub(super) fn new(from: R) -> Self {
        Self { from, pending: Vec::new(), piece: vec![0; PIECE_BYTES], received: 0, taken_bytes: 0 }
    }

    /// The next message; `None` where it did not come in the time that the stream waits. What is not whole is kept: no
    /// more memory is taken than bytes have come.
    pub(super) fn next<M: DeserializeOwned>(&mut self) -> Result<Option<M>, FrameError> {
        loop {
            if let Some(message) = self.take()? {
                return serde_json::from_slice(&message).map(Some).map_err(|_| FrameError::Malformed);
            }
            match self.from.read(&mut self.piece) {
                Ok(0) => return Err(FrameError::Closed),
                Ok(read) => {
                    self.pending.extend_from_slice(self.piece.get(..read).unwrap_or_default());
                    self.received = self.received.saturating_add(u64::try_from(read).unwrap_or(u64::MAX));
                }
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    return Ok(None);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return Err(FrameError::Closed),
            }
        }
    }

    /// The bytes of a message that is here as a whole.
    fn take(&mut self) -> Result<Option<Vec<u8>>, FrameError> {
        let Some(len) = self.pending.first_chunk().map(|len| u32::from_le_bytes(*len)) else {
            return Ok(None);
        };
        if len > MAX_MESSAGE_BYTES {
            return Err(FrameError::TooLong);
        }
        let end = usize::try_from(len).unwrap_or(usize::MAX).saturating_add(4);
        if self.pending.len() < end {
            return Ok(None);
        }
        let later = self.pending.split_off(end);
        let mut message = std::mem::replace(&mut self.pending, later);
        message.drain(..4);
        self.taken_bytes = len.into();
        Ok(Some(message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(messages: &[&str]) -> Vec<u8> {
        let mut bytes = Vec::new();
        messages.iter().for_each(|message| write(&mut bytes, message).unwrap());
        bytes
    }

    /// Gives its bytes in pieces of one, and says in between that nothing came.
    struct Slow<'a>(&'a [u8], bool);

    impl Read for Slow<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.1 = !self.1;
            match (self.1, self.0.split_first()) {
                (true, _) => Err(ErrorKind::WouldBlock.into()),
                (false, None) => Ok(0),
                (false, Some((first, rest))) => {
                    buffer[0] = *first;
                    self.0 = rest;
                    Ok(1)
                }
            }
        }
    }

    #[test]
    fn messages_come_whole_however_they_are_cut() {
        let bytes = frames(&["one", "", "zwölf"]);
        let mut messages = Messages::new(Slow(&bytes, false));
        let mut taken = Vec::new();
        let end = loop {
            match messages.next::<String>() {
                Ok(Some(message)) => taken.push(message),
                Ok(None) => {}
                Err(error) => break error,
            }
        };
        assert_eq!(
            (taken, end),
            (vec!["one".to_owned(), String::new(), "zwölf".to_owned()], FrameError::Closed)
        );
        assert_eq!(messages.received, u64::try_from(bytes.len()).unwrap());
    }

    #[test]
    fn a_length_is_not_believed() {
        let four_gib = u32::MAX.to_le_bytes();
        assert_eq!(Messages::new(&four_gib[..]).next::<String>(), Err(FrameError::TooLong));
        let claims_more = [&1_000_000_u32.to_le_bytes()[..], b"\"x\""].concat();
        let mut messages = Messages::new(&claims_more[..]);
        assert_eq!(messages.next::<String>(), Err(FrameError::Closed));
        assert!(messages.pending.capacity() < 1000);
    }

    #[test]
    fn what_is_no_message_is_malformed() {
        let wrong = [&5_u32.to_le_bytes()[..], b"{\"a\":"].concat();
        assert_eq!(Messages::new(&wrong[..]).next::<String>(), Err(FrameError::Malformed));
        let deep = "[".repeat(100_000);
        let bytes = [&u32::try_from(deep.len()).unwrap().to_le_bytes()[..], deep.as_bytes()].concat();
        assert_eq!(Messages::new(&bytes[..]).next::<String>(), Err(FrameError::Malformed));
    }
}

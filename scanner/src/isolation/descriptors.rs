//! Descriptors that go from one process to another beside a socket's bytes: `unix(7)`, `SCM_RIGHTS`.

use std::io::{self, ErrorKind, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};

/// The kernel takes 253 with one message.
const AT_ONCE: usize = 64;
const SPACE: usize = rustix::cmsg_space!(ScmRights(AT_ONCE));

/// Sends them in order, each message of them with one byte.
pub(super) fn send(socket: &UnixStream, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    for some in descriptors.chunks(AT_ONCE) {
        let mut space = [MaybeUninit::uninit(); SPACE];
        let mut beside = SendAncillaryBuffer::new(&mut space);
        if !beside.push(SendAncillaryMessage::ScmRights(some)) {
            return Err(ErrorKind::InvalidInput.into());
        }
        sendmsg(socket, &[IoSlice::new(&[0])], &mut beside, SendFlags::NOSIGNAL)?;
    }
    Ok(())
}

/// Receives `count` of them. They are not inherited by what this process starts.
pub(super) fn receive(socket: &UnixStream, count: usize) -> io::Result<Vec<OwnedFd>> {
    let mut received = Vec::new();
    while received.len() < count {
        let mut space = [MaybeUninit::uninit(); SPACE];
        let mut beside = RecvAncillaryBuffer::new(&mut space);
        let mut byte = [0];
        let message =
            recvmsg(socket, &mut [IoSliceMut::new(&mut byte)], &mut beside, RecvFlags::CMSG_CLOEXEC)?;
        let before = received.len();
        for part in beside.drain() {
            if let RecvAncillaryMessage::ScmRights(descriptors) = part {
                received.extend(descriptors);
            }
        }
        if message.bytes == 0 || received.len() == before {
            return Err(ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(received)
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{Read, Seek, Write};
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn more_descriptors_than_fit_into_a_message_arrive_in_order() {
        let (one, other) = UnixStream::pair().unwrap();
        let files: Vec<File> = (0..150)
            .map(|number| {
                let mut file = tempfile::tempfile().unwrap();
                write!(file, "{number}").unwrap();
                file.rewind().unwrap();
                file
            })
            .collect();
        let descriptors: Vec<_> = files.iter().map(AsFd::as_fd).collect();
        send(&one, &descriptors).unwrap();
        for (number, descriptor) in receive(&other, 150).unwrap().into_iter().enumerate() {
            let mut text = String::new();
            File::from(descriptor).read_to_string(&mut text).unwrap();
            assert_eq!(text, number.to_string());
        }
        drop(one);
        assert!(receive(&other, 1).is_err());
    }
}

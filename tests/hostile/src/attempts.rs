//! What a reader tries that an attacker has taken over. Whoever succeeds says `BREACH`; whoever is refused says so.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::process::Command;

use rustix::process::{Resource, Rlimit, setrlimit};
use stillframe_scanner::isolation::{Confined, Message};

/// Tries; `false` where there is no such attempt.
pub(crate) fn make(what: &str, confined: &Confined) -> bool {
    let (what, with) = what.split_once(' ').unwrap_or((what, ""));
    let made: Result<String, String> = match what {
        "read" => File::open(with).map_err(said).and_then(|mut file| {
            let mut text = String::new();
            file.read_to_string(&mut text).map(|_| text).map_err(said)
        }),
        "write" => OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .open(with)
            .map_err(said)
            .and_then(|mut file| file.write_all(b"x").map(|()| "written".to_owned()).map_err(said)),
        "list" => std::fs::read_dir(with).map(|entries| format!("{} entries", entries.count())).map_err(said),
        "environment" => {
            match std::env::vars_os().map(|(name, _)| name.to_string_lossy().into_owned()).collect::<Vec<_>>()
            {
                names if names.is_empty() => Err("it is empty".to_owned()),
                names => Ok(names.join(" ")),
            }
        }
        "connect" => TcpStream::connect(with).map(|_| "connected".to_owned()).map_err(said),
        "listen" => TcpListener::bind(with).map(|_| "bound".to_owned()).map_err(said),
        "send" => UdpSocket::bind("0.0.0.0:0")
            .and_then(|socket| socket.send_to(b"x", with))
            .map(|_| "sent".to_owned())
            .map_err(said),
        "run" => Command::new(with).status().map(|status| status.to_string()).map_err(said),
        "trace" => {
            let parent =
                nix::unistd::Pid::from_raw(rustix::process::getppid().unwrap().as_raw_nonzero().get());
            nix::sys::ptrace::attach(parent)
                .map(|()| "attached".to_owned())
                .map_err(|error| error.to_string())
        }
        "kill" => {
            let parent = rustix::process::getppid().unwrap();
            rustix::process::kill_process(parent, rustix::process::Signal::TERM)
                .map(|()| "killed".to_owned())
                .map_err(said)
        }
        "raise" => {
            let all = Rlimit { current: None, maximum: None };
            setrlimit(Resource::As, all).map(|()| "raised".to_owned()).map_err(said)
        }
        "oob" => rustix::net::send(&confined.control, b"x", rustix::net::SendFlags::OOB)
            .map(|_| "sent out of turn".to_owned())
            .map_err(said),
        "peek" => {
            let mut byte = [0_u8];
            let flags = rustix::net::RecvFlags::PEEK | rustix::net::RecvFlags::DONTWAIT;
            rustix::net::recv(&confined.control, &mut byte, flags).map(|_| "looked".to_owned()).map_err(said)
        }
        "namespace" => nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWUSER)
            .map(|()| "a namespace of its own".to_owned())
            .map_err(said),
        "descriptors" => descriptor(9),
        "thread" => {
            // Threads are allowed, and that they are is what makes the refusals above mean something.
            let done = std::thread::spawn(|| "a thread ran".to_owned()).join();
            Ok(done.unwrap())
        }
        _ => return false,
    };
    let line = match made {
        Ok(what) => format!("BREACH {what}"),
        Err(why) => format!("refused: {why}"),
    };
    let _ = confined.say(&Message::Log { level: 1, line });
    true
}

fn said(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// Whether this descriptor is open: closing it says.
fn descriptor(number: i32) -> Result<String, String> {
    match nix::unistd::close(number) {
        Ok(()) => Ok(format!("descriptor {number} was open")),
        Err(_) => Err(format!("descriptor {number} is not open")),
    }
}

//! From inside the confinement: each attempt fails, by an error or by the end of the process, and the scan says which.

use std::net::{TcpListener, UdpSocket};

use crate::offline::Machine;

/// How an attempt ended: by an error with this in it, or with the process.
enum Refused {
    With(&'static str),
    Killed,
}

fn attempt(what: &str, refused: &Refused) {
    attempt_on(&Machine::new(), what, refused);
}

fn attempt_on(machine: &Machine, what: &str, refused: &Refused) {
    let scanned = machine.scan(&format!("confined={what}"));
    assert!(!scanned.err.contains("BREACH"), "{what}: {}", scanned.err);
    assert_eq!(scanned.code, 2, "{what}");
    assert_eq!(scanned.report["scan"]["complete"], false, "{what}");
    let (status, reason) = scanned.status("disk", "disk0");
    assert_eq!(status, "failed");
    match refused {
        Refused::With(words) => {
            assert!(
                scanned.err.contains("refused: ") && scanned.err.contains(words),
                "{what}: {}",
                scanned.err
            );
        }
        Refused::Killed => {
            assert!(reason.ends_with("it made a system call that it may not make"), "{what}: {reason}");
            assert!(!scanned.err.contains("refused: "), "{what}: {}", scanned.err);
        }
    }
}

const DENIED: Refused = Refused::With("Permission denied");

#[test]
fn an_attempt_that_is_allowed_succeeds() {
    // So that the tests below cannot pass by not being tried.
    let scanned = Machine::new().scan("confined=thread");
    assert!(scanned.err.contains("BREACH a thread ran"), "{}", scanned.err);
}

#[test]
fn reading_the_password_file() {
    attempt("read /etc/passwd", &DENIED);
}

#[test]
fn reading_proc() {
    attempt("read /proc/self/environ", &DENIED);
    attempt("read /proc/self/maps", &DENIED);
    attempt("list /proc", &DENIED);
}

#[test]
fn reading_the_state_file() {
    let machine = Machine::new();
    let state = machine.folder.path().join("state/stillframe");
    // There is something to read: the key of fingerprints.
    let _ = machine.scan("");
    let files: Vec<_> = std::fs::read_dir(&state).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(!files.is_empty());
    for file in files {
        attempt_on(&machine, &format!("read {}", file.display()), &DENIED);
    }
    attempt_on(&machine, &format!("list {}", state.display()), &DENIED);
}

#[test]
fn reading_the_image_by_its_path() {
    let machine = Machine::new();
    let path = machine.image(0).display().to_string();
    attempt_on(&machine, &format!("read {path}"), &DENIED);
}

#[test]
fn reading_the_environment() {
    attempt("environment", &Refused::With("it is empty"));
}

#[test]
fn connecting_to_loopback() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    attempt(&format!("connect {}", listener.local_addr().unwrap()), &Refused::Killed);
    listener.set_nonblocking(true).unwrap();
    assert!(listener.accept().is_err(), "somebody connected");
}

#[test]
fn connecting_to_the_metadata_service() {
    attempt("connect 169.254.169.254:80", &Refused::Killed);
}

#[test]
fn listening() {
    attempt("listen 127.0.0.1:0", &Refused::Killed);
}

#[test]
fn sending_a_datagram() {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    attempt(&format!("send {}", socket.local_addr().unwrap()), &Refused::Killed);
    socket.set_nonblocking(true).unwrap();
    assert!(socket.recv(&mut [0; 8]).is_err(), "something came");
}

#[test]
fn running_a_program_and_making_a_process() {
    attempt("run /bin/true", &Refused::Killed);
}

#[test]
fn writing_anywhere() {
    let machine = Machine::new();
    let path = machine.folder.path().join("written");
    attempt_on(&machine, &format!("write {}", path.display()), &DENIED);
    assert!(!path.exists());
    attempt_on(&machine, "write /dev/shm/stillframe-hostile", &DENIED);
    let image = machine.image(0).display().to_string();
    let before = std::fs::metadata(&image).unwrap().modified().unwrap();
    attempt_on(&machine, &format!("write {image}"), &DENIED);
    assert_eq!(std::fs::metadata(&image).unwrap().modified().unwrap(), before);
}

#[test]
fn tracing_the_parent() {
    attempt("trace", &Refused::Killed);
}

#[test]
fn signalling_the_parent() {
    attempt("kill", &Refused::Killed);
}

#[test]
fn raising_limits() {
    attempt("raise", &Refused::Killed);
}

#[test]
fn descriptors_that_the_parent_was_given_are_not_passed_on() {
    // Descriptor 9, as a shell leaves it open, is a file that says BREACH.
    let machine = Machine::new();
    let secret = machine.folder.path().join("secret");
    std::fs::write(&secret, "top secret").unwrap();
    let script = format!("exec 9<{}; exec \"$@\"", secret.display());
    let output = std::process::Command::new("sh")
        .args(["-c", &script, "sh", crate::PROGRAM, "scan", "image", "--format", "json"])
        .arg(machine.image(0))
        .env("HOSTILE", "confined=descriptors")
        .env("XDG_STATE_HOME", machine.folder.path().join("state"))
        .output()
        .unwrap();
    let err = String::from_utf8(output.stderr).unwrap();
    assert!(err.contains("refused: descriptor 9 is not open"), "{err}");
}

//! From inside the confinement: each attempt fails, by an error or by the end of the process, and the scan says which.

use std::net::{TcpListener, UdpSocket};
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, TargetArch};

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
    let output = Command::new("sh")
        .args(["-c", &script, "sh", crate::PROGRAM, "scan", "image", "--format", "json"])
        .arg(machine.image(0))
        .env("HOSTILE", "confined=descriptors")
        .env("XDG_STATE_HOME", machine.folder.path().join("state"))
        .output()
        .unwrap();
    let err = String::from_utf8(output.stderr).unwrap();
    assert!(err.contains("refused: descriptor 9 is not open"), "{err}");
}

#[test]
fn speaking_out_of_turn() {
    attempt("oob", &Refused::Killed);
    attempt("peek", &Refused::Killed);
}

#[test]
fn making_a_namespace() {
    attempt("namespace", &Refused::Killed);
}

#[test]
fn a_reader_has_no_capabilities_and_ends_first_where_memory_is_short() {
    let machine = Machine::patient();
    let mut command = machine.command("confined=sleep", &["scan", "image"]);
    let mut parent =
        command.arg(machine.image(0)).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let of =
        |pid: &str, file: &str| std::fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
    let until = Instant::now() + Duration::from_secs(20);
    let (reader, status) = loop {
        assert!(Instant::now() < until, "no reader is confined");
        // Any of its threads may have started it.
        let mut children = String::new();
        for task in std::fs::read_dir(format!("/proc/{}/task", parent.id())).unwrap().flatten() {
            children += &std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
        }
        let found = children.split_whitespace().map(|pid| (pid.to_owned(), of(pid, "status")));
        if let Some(found) = found.into_iter().find(|(_, status)| status.contains("Seccomp_filters:\t3")) {
            break found;
        }
        thread::sleep(Duration::from_millis(5));
    };
    for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
        assert!(status.contains(&format!("{set}:\t0000000000000000")), "{status}");
    }
    assert_eq!(of(&reader, "oom_score_adj").trim(), "1000");
    assert_ne!(of(&parent.id().to_string(), "oom_score_adj").trim(), "1000");
    parent.kill().unwrap();
    parent.wait().unwrap();
    // And it does not outlive its parent: what was dropped did not take that along.
    while std::path::Path::new(&format!("/proc/{reader}")).exists() {
        assert!(!of(&reader, "status").is_empty() || Instant::now() < until);
        if of(&reader, "status").contains("State:\tZ") {
            break;
        }
        assert!(Instant::now() < until, "the reader lives on");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Runs it where these calls are answered with an error, as a container's filter does.
fn contained(mut command: Command, calls: &'static [i64]) -> Output {
    let running = thread::spawn(move || {
        let rules = calls.iter().map(|call| (*call, Vec::new())).collect();
        let answer = SeccompAction::Errno(libc::EPERM.unsigned_abs());
        let machine = TargetArch::try_from(std::env::consts::ARCH).unwrap();
        let filter = SeccompFilter::new(rules, SeccompAction::Allow, answer, machine).unwrap();
        // For this thread, and what it starts.
        seccompiler::apply_filter(&BpfProgram::try_from(filter).unwrap()).unwrap();
        command.output().unwrap()
    });
    running.join().unwrap()
}

#[test]
fn in_a_container_that_refuses_auto_reads_and_required_says_what_is_missing() {
    const CALLS: &[i64] = &[libc::SYS_landlock_restrict_self, libc::SYS_seccomp];
    let machine = Machine::patient();
    let scan = |sandbox: &str, calls| {
        let mut command = machine.command("", &["scan", "image", "--format", "json", "--sandbox", sandbox]);
        command.arg(machine.image(0));
        let output = contained(command, calls);
        let report = serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap_or_default();
        (output.status.code(), report, String::from_utf8(output.stderr).unwrap())
    };
    let (code, report, err) = scan("auto", CALLS);
    assert_eq!((code, &report["scan"]["complete"]), (Some(0), &true.into()), "{err}");
    let isolation = &report["scan"]["isolation"];
    assert_eq!(
        (&isolation["landlock_abi"], &isolation["seccomp"]),
        (&serde_json::Value::Null, &false.into())
    );
    let missing: [(&'static [i64], &str); 3] = [
        (CALLS, "neither Landlock nor a filter of system calls"),
        (&CALLS[..1], "no Landlock"),
        (&CALLS[1..], "cannot filter system calls"),
    ];
    for (calls, words) in missing {
        let (code, report, err) = scan("required", calls);
        assert_eq!((code, report), (Some(2), serde_json::Value::Null));
        assert!(err.contains(words), "{words}: {err}");
    }
}

#[test]
fn the_doctor_says_what_would_happen() {
    let machine = Machine::patient();
    let said = |output: &Output, what: &str| {
        let out = String::from_utf8(output.stdout.clone()).unwrap();
        let line = out.lines().find_map(|line| line.strip_prefix(what)).map(|line| line.trim().to_owned());
        line.unwrap_or_else(|| panic!("no {what}: {out}"))
    };
    let whole = machine.command("", &["doctor"]).output().unwrap();
    assert_eq!(whole.status.code(), Some(0));
    assert!(said(&whole, "starts").starts_with("the process that reads disks, within "));
    for what in ["images", "snapshots"] {
        assert_eq!(said(&whole, what), "read by a confined process");
    }
    let less = contained(machine.command("", &["doctor"]), &[libc::SYS_seccomp]);
    assert_eq!(less.status.code(), Some(2));
    assert!(said(&less, "Landlock").starts_with("yes"));
    assert!(said(&less, "seccomp").starts_with("no"));
    assert!(said(&less, "starts").starts_with("the process that reads disks, within "));
    assert_eq!(
        said(&less, "images"),
        "read by a process that is less confined, without a filter of system calls"
    );
    let refused = said(&less, "snapshots");
    assert!(refused.starts_with("not read, unless with --sandbox auto or off: "), "{refused}");
    assert!(refused.ends_with("this kernel cannot filter system calls"), "{refused}");
    // A process that starts and does nothing reads nothing.
    let dies = machine.command("conclude=abort", &["doctor"]).output().unwrap();
    assert_eq!(dies.status.code(), Some(2));
    for what in ["starts", "images", "snapshots"] {
        assert!(said(&dies, what).contains("ends before it has read any"));
    }
}

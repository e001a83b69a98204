//! A process that confines itself, and what the kernel says of it from outside.
//!
//! This program is both: the test, and, where the environment gives it a part, the process.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::exit,
    reason = "a test fails by panicking, and says how far it is"
)]

use std::collections::BTreeMap;
use std::fs::read_to_string;
use std::hint::black_box;
use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;

use rustix::thread::{CapabilitySet, capabilities, remove_capability_from_bounding_set};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, TargetArch};
use stillframe_confinement::{Limits, Parent, confine};

const PART: &str = "STILLFRAME_PART";
const LIMITS: Limits = Limits { address_space_bytes: 1 << 30, cpu_seconds: 1, descriptors: 16 };
/// The signals of `signal(7)`.
const SIGXCPU: i32 = 24;

fn main() {
    match std::env::var(PART).as_deref() {
        Ok("spin") => spin(),
        Ok("wait") => wait(),
        _ => {}
    }
    let tests: &[(&str, fn())] = &[
        ("a_confined_process_has_no_capability_and_is_the_first_to_end", no_capability),
        ("processor_time_that_is_used_up_is_told_by_its_signal", processor_time),
        ("memory_is_locked_where_all_of_it_may_be", memory),
        ("who_may_lock_little_can_still_allocate", little_memory),
        ("what_a_container_refuses_is_absent", in_a_container),
    ];
    for (name, test) in tests {
        test();
        println!("test {name} ... ok");
    }
}

// The parts.

fn spin() -> ! {
    confine(&LIMITS, Parent::now()).unwrap();
    loop {
        black_box(0);
    }
}

fn wait() {
    let enforced = confine(&LIMITS, Parent::now()).unwrap();
    // As a reader does: threads, and memory that grows.
    let filled = thread::spawn(|| (0..256).map(|_| vec![1_u8; 1 << 18]).collect::<Vec<_>>());
    assert_eq!(filled.join().unwrap().len(), 256);
    println!("{enforced:?}");
    let _ = std::io::stdin().read_line(&mut String::new());
    std::process::exit(0);
}

fn part(name: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.env(PART, name);
    command
}

/// A process that is confined and waits.
struct Waiting {
    process: Child,
    enforced: String,
}

impl Waiting {
    fn start(mut command: Command) -> Self {
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut enforced = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut enforced).unwrap();
        assert!(enforced.starts_with("Enforced"), "{enforced:?}: {:?}", process.wait());
        Self { process, enforced: enforced.trim_end().to_owned() }
    }

    fn of_proc(&self, file: &str) -> String {
        read_to_string(format!("/proc/{}/{file}", self.process.id())).unwrap()
    }

    /// A line of `/proc/PID/status`.
    fn status(&self, name: &str) -> String {
        let status = self.of_proc("status");
        let line = status.lines().find_map(|line| line.strip_prefix(&format!("{name}:")));
        line.unwrap().trim().to_owned()
    }

    fn end(mut self) -> ExitStatus {
        drop(self.process.stdin.take());
        self.process.wait().unwrap()
    }
}

fn may(one: CapabilitySet) -> bool {
    capabilities(None).unwrap().effective.contains(one)
}

// The tests.

fn no_capability() {
    let waiting = Waiting::start(part("wait"));
    let none = "0000000000000000";
    for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
        assert_eq!(waiting.status(set), none, "{set}");
    }
    // Who may not take from this set starts with nothing that it would give back.
    if may(CapabilitySet::SETPCAP) {
        assert_eq!(waiting.status("CapBnd"), none);
    }
    assert_eq!((waiting.status("NoNewPrivs"), waiting.status("Seccomp")), ("1".into(), "2".into()));
    assert_eq!(waiting.of_proc("oom_score_adj").trim(), "1000");
    let limits = waiting.of_proc("limits");
    let limits: BTreeMap<_, Vec<_>> = limits
        .lines()
        .map(|line| line.split_at(26))
        .map(|(name, of)| (name.trim(), of.split_whitespace().collect()))
        .collect();
    assert_eq!(limits["Max cpu time"], ["1", "2", "seconds"]);
    assert_eq!(limits["Max address space"], ["1073741824", "1073741824", "bytes"]);
    assert_eq!(limits["Max core file size"], ["0", "0", "bytes"]);
    assert!(waiting.end().success());
}

fn processor_time() {
    let status = part("spin").status().unwrap();
    assert_eq!(status.signal(), Some(SIGXCPU), "{status}");
}

fn memory() {
    let waiting = Waiting::start(part("wait"));
    let is_locked = waiting.status("VmLck") != "0 kB";
    assert_eq!(waiting.enforced.contains("memory_locked: true"), is_locked, "{}", waiting.enforced);
    if may(CapabilitySet::SYS_RESOURCE | CapabilitySet::IPC_LOCK) {
        assert!(is_locked);
    }
    assert!(waiting.end().success());
}

/// Root of a container may pass the limit of locked memory, and not lift it.
fn little_memory() {
    let little = || {
        if may(CapabilitySet::SETPCAP) {
            remove_capability_from_bounding_set(CapabilitySet::SYS_RESOURCE).unwrap();
        }
        let mut command = Command::new("sh");
        command.args(["-c", "ulimit -l 8192 && exec \"$0\""]).arg(std::env::current_exe().unwrap());
        command.env(PART, "wait");
        let waiting = Waiting::start(command);
        assert!(waiting.enforced.contains("memory_locked: false"), "{}", waiting.enforced);
        assert!(waiting.end().success());
    };
    // What a thread drops is dropped for what it starts alone.
    thread::spawn(little).join().unwrap();
}

fn in_a_container() {
    let whole = Waiting::start(part("wait")).enforced;
    assert!(whole.contains("landlock_abi: Some(") && whole.contains("seccomp: true"), "{whole}");
    let both: &[i64] = &[libc::SYS_landlock_restrict_self, libc::SYS_seccomp];
    for errno in [libc::EPERM, libc::ENOSYS, libc::EINVAL, libc::EOPNOTSUPP] {
        let none = refused(both, errno);
        assert!(none.contains("landlock_abi: None, seccomp: false"), "{errno}: {none}");
    }
    let filtered = refused(&[libc::SYS_landlock_create_ruleset], libc::EPERM);
    assert!(filtered.contains("landlock_abi: None, seccomp: true"), "{filtered}");
    let filtered = refused(&[libc::SYS_landlock_restrict_self], libc::EPERM);
    assert!(filtered.contains("landlock_abi: None, seccomp: true"), "{filtered}");
    let landlocked = refused(&[libc::SYS_seccomp], libc::EPERM);
    assert!(
        landlocked.contains("landlock_abi: Some(") && landlocked.contains("seccomp: false"),
        "{landlocked}"
    );
    // What is there and fails is an error.
    let failing = thread::spawn(|| {
        refuse(&[libc::SYS_seccomp], libc::ENOMEM);
        part("wait").stderr(Stdio::null()).stdin(Stdio::null()).status().unwrap()
    });
    assert_eq!(failing.join().unwrap().code(), Some(101));
}

/// What a process says of its confinement where these calls are answered by an error.
fn refused(calls: &'static [i64], errno: i32) -> String {
    let starting = thread::spawn(move || {
        refuse(calls, errno);
        Waiting::start(part("wait")).enforced
    });
    starting.join().unwrap()
}

/// As a container's filter does. This thread, and what it starts.
fn refuse(calls: &[i64], errno: i32) {
    let rules = calls.iter().map(|call| (*call, Vec::new())).collect();
    let answer = SeccompAction::Errno(errno.unsigned_abs());
    let machine = TargetArch::try_from(std::env::consts::ARCH).unwrap();
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, answer, machine).unwrap();
    seccompiler::apply_filter(&BpfProgram::try_from(filter).unwrap()).unwrap();
}

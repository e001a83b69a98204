//! Limits and attributes of the process: `getrlimit(2)`, `prctl(2)`, `mlockall(2)`.

use rustix::mm::{MlockAllFlags, mlockall};
use rustix::process::{
    DumpableBehavior, Pid, Resource, Rlimit, Signal, getppid, getrlimit, set_dumpable_behavior,
    set_parent_process_death_signal, setrlimit,
};
use rustix::thread::set_no_new_privs;

use crate::Error;

/// What a confined process may use at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Address space, in bytes. More than the memory that it uses: threads and allocators reserve much that they never touch.
    pub address_space_bytes: u64,
    /// Processor time of all threads, in seconds.
    pub cpu_seconds: u64,
    /// Descriptors that may be open.
    pub descriptors: u64,
}

pub(crate) fn set(limits: &Limits) -> Result<(), Error> {
    let all = [
        (Resource::As, limits.address_space_bytes, "the limit of address space"),
        (Resource::Cpu, limits.cpu_seconds, "the limit of processor time"),
        (Resource::Nofile, limits.descriptors, "the limit of descriptors"),
        (Resource::Fsize, 0, "the limit of file size"),
        (Resource::Core, 0, "the limit of core dumps"),
    ];
    for (resource, wanted, what) in all {
        // Never above what this process was given.
        let most = getrlimit(resource).maximum.map_or(wanted, |most| most.min(wanted));
        let limit = Rlimit { current: Some(most), maximum: Some(most) };
        setrlimit(resource, limit).map_err(|error| attribute(what, error))?;
    }
    Ok(())
}

/// The process that started this one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parent(Option<Pid>);

impl Parent {
    /// The one that it has now.
    #[must_use]
    pub fn now() -> Self {
        Self(getppid())
    }
}

/// The kernel ends this process when the thread that started it ends. One that has ended before gives no signal.
pub(crate) fn die_with_parent(parent: Parent) -> Result<(), Error> {
    set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(|error| attribute("the signal of the parent's end", error))?;
    if Parent::now() == parent { Ok(()) } else { Err(Error::Orphan) }
}

/// No privileges by any file; no core dump, no reading of this process's memory by others of its user.
pub(crate) fn hide_memory() -> Result<(), Error> {
    set_no_new_privs(true).map_err(|error| attribute("no new privileges", error))?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(|error| attribute("no core dumps", error))
}

/// Keeps all memory of this process from swap, from when it is first used. Where the user may lock little, that is not
/// done: half of it locked would end in failing allocations.
pub(crate) fn lock_memory() -> bool {
    lockable_bytes().is_none()
        && mlockall(MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT).is_ok()
}

/// `None` where there is no limit, or this process has the capability to pass it (`capabilities(7)`, `CAP_IPC_LOCK`).
pub(crate) fn lockable_bytes() -> Option<u64> {
    const IPC_LOCK: u64 = 1 << 14;
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let effective = effective.and_then(|set| u64::from_str_radix(set.trim(), 16).ok()).unwrap_or(0);
    if effective & IPC_LOCK != 0 { None } else { getrlimit(Resource::Memlock).current }
}

fn attribute(what: &'static str, error: rustix::io::Errno) -> Error {
    Error::Attribute { what, source: error.into() }
}

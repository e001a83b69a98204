//! Limits and attributes of the process: `getrlimit(2)`, `prctl(2)`, `mlockall(2)`.

use rustix::mm::{MlockAllFlags, mlockall};
use rustix::process::{
    DumpableBehavior, Pid, Resource, Rlimit, Signal, getppid, getrlimit, set_dumpable_behavior,
    set_parent_process_death_signal, setrlimit,
};
use rustix::thread::{CapabilitySet, set_no_new_privs};

use crate::{Error, capabilities};

/// What a confined process may use at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Address space, in bytes. More than the memory that it uses: threads and allocators reserve much that they never touch.
    pub address_space_bytes: u64,
    /// Processor time of all threads, in seconds. Then `SIGXCPU` ends it, and a second later, if that did not, `SIGKILL`.
    pub cpu_seconds: u64,
    /// Descriptors that may be open.
    pub descriptors: u64,
}

pub(crate) fn set(limits: &Limits) -> Result<(), Error> {
    // At the hard limit of processor time the kernel would kill without saying of what.
    let killed_at = limits.cpu_seconds.saturating_add(1);
    let all = [
        (Resource::As, limits.address_space_bytes, 0, "the limit of address space"),
        (Resource::Cpu, killed_at, 1, "the limit of processor time"),
        (Resource::Nofile, limits.descriptors, 0, "the limit of descriptors"),
        (Resource::Fsize, 0, 0, "the limit of file size"),
        (Resource::Core, 0, 0, "the limit of core dumps"),
    ];
    for (resource, wanted, told_before, what) in all {
        // Never above what this process was given.
        let most = getrlimit(resource).maximum.map_or(wanted, |most| most.min(wanted));
        let limit = Rlimit { current: Some(most.saturating_sub(told_before)), maximum: Some(most) };
        setrlimit(resource, limit).map_err(|error| attribute(what, error))?;
    }
    Ok(())
}

/// Where memory is short the kernel ends this process before any other: it is started anew, and the parent, which purges
/// snapshots, is not. Where that cannot be said the kernel still takes who has most. See `proc_pid_oom_score_adj(5)`.
pub(crate) fn end_before_others() {
    let _ = std::fs::write("/proc/self/oom_score_adj", "1000");
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

/// Keeps all memory of this process from swap, from when it is first used. Where the user may lock less than the process
/// may have, that is not done: allocations would fail.
///
/// No capability may be counted on for what is allocated later: it is gone by then. So the limit is lifted first.
pub(crate) fn lock_memory() -> bool {
    let unlimited = Rlimit { current: None, maximum: None };
    if setrlimit(Resource::Memlock, unlimited).is_err() {
        let maximum = getrlimit(Resource::Memlock).maximum;
        let _ = setrlimit(Resource::Memlock, Rlimit { current: maximum, maximum });
    }
    let is_enough = match (getrlimit(Resource::Memlock).current, getrlimit(Resource::As).current) {
        (None, _) => true,
        (Some(lockable), Some(all)) => lockable >= all,
        (Some(_), None) => false,
    };
    is_enough && mlockall(MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT).is_ok()
}

/// `None` where there is no limit, or this process has the capability to lift it (`capabilities(7)`, `CAP_SYS_RESOURCE`).
pub(crate) fn lockable_bytes() -> Option<u64> {
    if capabilities::has(CapabilitySet::SYS_RESOURCE) { None } else { getrlimit(Resource::Memlock).maximum }
}

fn attribute(what: &'static str, error: rustix::io::Errno) -> Error {
    Error::Attribute { what, source: error.into() }
}

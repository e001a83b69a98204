//! Takes everything from a process that it does not need to read disks.
//!
//! [`confine`] is called once, before the first byte of a disk is read, and cannot be undone: no capabilities and no new
//! privileges; limits on memory, processor time, file size and descriptors; the first to end where the machine's memory is
//! short; no core dumps; memory kept from swap where that is allowed; Landlock with no path, port, abstract socket or signal
//! allowed; and a list of the system calls that remain ([`calls`]). What is left is to read and write descriptors that are
//! open, memory, threads and time.
//!
//! Landlock: `Documentation/userspace-api/landlock.rst` of the kernel. seccomp: `seccomp(2)`, actions by
//! `Documentation/userspace-api/seccomp_filter.rst`. Both are Linux's; there is no confinement elsewhere.

pub mod calls;
mod capabilities;
mod landlocked;
mod limits;

pub use limits::{Limits, Parent};

/// What the kernel enforces on this process from now on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Enforced {
    /// The version of Landlock's interface; `None` where the kernel has none, it is switched off, or kept from this process
    /// by a filter that was there before, as containers have them.
    pub landlock_abi: Option<u32>,
    /// Whether system calls are filtered.
    pub seccomp: bool,
    /// Whether memory is kept from swap.
    pub memory_locked: bool,
}

impl Enforced {
    /// Whether everything is in place that the promise rests on.
    #[must_use]
    pub const fn is_whole(&self) -> bool {
        self.landlock_abi.is_some() && self.seccomp
    }
}

/// Why a process could not be confined as far as the kernel allows.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A limit or attribute could not be set.
    #[error("{what} could not be set")]
    Attribute {
        /// Which.
        what: &'static str,
        /// What the kernel said.
        #[source]
        source: std::io::Error,
    },
    /// The parent has ended.
    #[error("the parent has ended")]
    Orphan,
    /// There are other threads, which would not be restricted.
    #[error("the process has more than one thread")]
    Threads,
    /// Landlock is there and refused.
    #[error("Landlock could not be set up")]
    Landlock(#[source] Box<landlock::RulesetError>),
    /// The filter could not be made, or the kernel is there and refused it.
    #[error("the filter of system calls could not be set up")]
    Seccomp(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Confines this process, all its threads and those to come. To be called while it has one thread. `parent` is the parent
/// that this process had when it began: it ends with that one.
///
/// # Errors
/// [`Error`] where the kernel refuses what it has, or there are other threads. What it has not is left out, and told by [`Enforced`].
pub fn confine(limits: &Limits, parent: Parent) -> Result<Enforced, Error> {
    // Landlock restricts this thread and those that it starts: another would be free.
    let threads = std::fs::read_dir("/proc/self/task").map(Iterator::count);
    if threads.map_err(|source| Error::Attribute { what: "the list of threads", source })? > 1 {
        return Err(Error::Threads);
    }
    // Looked at while files can still be opened.
    let can_filter = calls::is_known();
    limits::die_with_parent(parent)?;
    limits::end_before_others();
    limits::set(limits)?;
    // Before its capability is gone.
    let memory_locked = limits::lock_memory();
    capabilities::drop_all()?;
    limits::hide_memory()?;
    let landlock_abi = landlocked::restrict()?;
    let seccomp = can_filter && calls::filter()?;
    Ok(Enforced { landlock_abi, seccomp, memory_locked })
}

/// Whether the kernel says that it has not what was asked for, or another filter of system calls says so: what is answered
/// for a call that is not there or not allowed, or for an action that is not known.
fn is_absent(error: &(dyn std::error::Error + 'static)) -> bool {
    std::iter::successors(Some(error), |error| error.source())
        .find_map(|error| error.downcast_ref::<std::io::Error>())
        .and_then(std::io::Error::raw_os_error)
        .is_some_and(|errno| [libc::EPERM, libc::ENOSYS, libc::EINVAL, libc::EOPNOTSUPP].contains(&errno))
}

/// Closes all descriptors but the first three, whoever left them open.
///
/// To be called first of all in a process: what it opens later must stay.
///
/// # Errors
/// The list of descriptors cannot be read: then nobody knows what is open.
pub fn close_inherited() -> Result<(), Error> {
    let failed = |source| Error::Attribute { what: "the list of open descriptors", source };
    let mut open = Vec::new();
    for entry in std::fs::read_dir("/proc/self/fd").map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        open.extend(name.to_str().and_then(|name| name.parse::<i32>().ok()).filter(|number| *number > 2));
    }
    // One of them was the list itself, which is closed by now.
    for number in open {
        let _ = nix::unistd::close(number);
    }
    Ok(())
}

/// What the kernel of this machine can enforce, for a report on the machine. Nothing is enforced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Available {
    /// The kernel's release, as `uname -r` prints it.
    pub kernel: String,
    /// The version of Landlock's interface.
    pub landlock_abi: Option<u32>,
    /// Whether system calls can be filtered, with the action that ends a process.
    pub seccomp: bool,
    /// How much memory this user may keep from swap, in bytes; `None` where there is no limit, or it can be lifted.
    pub lockable_bytes: Option<u64>,
}

/// Looks at the kernel.
#[must_use]
pub fn available() -> Available {
    Available {
        kernel: kernel(),
        landlock_abi: landlocked::abi(),
        seccomp: calls::is_available(),
        lockable_bytes: limits::lockable_bytes(),
    }
}

/// The kernel's release, as `uname -r` prints it.
#[must_use]
pub fn kernel() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
}

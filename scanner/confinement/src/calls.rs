//! The system calls that a confined process may make. Any other ends it by `SIGSYS`, at once and with all its threads.
//!
//! Two filters, since one has one action: of the actions of all filters the strictest counts. The first answers those calls
//! with an error that libraries make on their own and do well without ([`ANSWERED`]); the second ends the process on all
//! that is not in the list.

use std::collections::BTreeMap;

use libc::c_long;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch,
};

use crate::Error;

/// Reading and writing what is open, memory, threads, time: by any arguments.
const ALLOWED: &[c_long] = &[
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_pread64,
    libc::SYS_preadv,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_lseek,
    libc::SYS_fstat,
    libc::SYS_close,
    // Sockets that are open.
    libc::SYS_sendto,
    libc::SYS_recvfrom,
    libc::SYS_shutdown,
    libc::SYS_ppoll,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_poll,
    // Memory. Pages that can be executed are refused below.
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_brk,
    libc::SYS_madvise,
    // Threads.
    libc::SYS_futex,
    libc::SYS_set_robust_list,
    libc::SYS_rseq,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_gettid,
    libc::SYS_getpid,
    libc::SYS_membarrier,
    // Signals of this process to itself: a stack that ends, an abort.
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_restart_syscall,
    // Time and chance.
    libc::SYS_clock_gettime,
    libc::SYS_clock_getres,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_gettimeofday,
    libc::SYS_getrandom,
    // The end.
    libc::SYS_exit,
    libc::SYS_exit_group,
];

/// Answered with an error: `clone3`, whose flags a filter cannot see, so that the C library takes `clone`; `statx`, instead
/// of which Rust's library takes `fstat`; and the opening of files by the C library, which looks for the number of
/// processors in `/sys` when it makes an arena.
const ANSWERED: &[(c_long, i32)] = &[
    (libc::SYS_clone3, libc::ENOSYS),
    (libc::SYS_statx, libc::ENOSYS),
    (libc::SYS_openat, libc::EACCES),
    (libc::SYS_openat2, libc::EACCES),
    (libc::SYS_faccessat, libc::EACCES),
    (libc::SYS_faccessat2, libc::EACCES),
    (libc::SYS_readlinkat, libc::EACCES),
    (libc::SYS_newfstatat, libc::EACCES),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_open, libc::EACCES),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_access, libc::EACCES),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_stat, libc::EACCES),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_readlink, libc::EACCES),
];

/// `PR_SET_NAME`: how a thread is called.
const NAME_A_THREAD: u64 = 15;
/// `PR_SET_VMA`: newer C libraries name the memory that they reserve.
const NAME_MEMORY: u64 = 0x5356_4d41;

/// Puts all filters in force for all threads.
pub(crate) fn filter() -> Result<(), Error> {
    for program in answering()?.iter().chain([&ending()?]) {
        seccompiler::apply_filter_all_threads(program).map_err(failed)?;
    }
    Ok(())
}

/// Whether the kernel knows the action that ends a process (`/proc/sys/kernel/seccomp/actions_avail`).
pub(crate) fn is_available() -> bool {
    std::fs::read_to_string("/proc/sys/kernel/seccomp/actions_avail")
        .is_ok_and(|actions| actions.split_whitespace().any(|action| action == "kill_process"))
}

/// One filter for each error.
fn answering() -> Result<Vec<BpfProgram>, Error> {
    [libc::ENOSYS, libc::EACCES]
        .into_iter()
        .map(|errno| {
            let calls = ANSWERED.iter().filter(|(_, answer)| *answer == errno);
            let rules = calls.map(|(call, _)| (*call, Vec::new())).collect();
            let answer = SeccompAction::Errno(errno.unsigned_abs());
            compile(rules, SeccompAction::Allow, answer)
        })
        .collect()
}

fn ending() -> Result<BpfProgram, Error> {
    let mut rules: BTreeMap<c_long, Vec<SeccompRule>> =
        ALLOWED.iter().map(|call| (*call, Vec::new())).collect();
    // What the first filters answer never gets here with another result: the strictest action counts, and that of this
    // filter must not be it.
    rules.extend(ANSWERED.iter().map(|(call, _)| (*call, Vec::new())));
    let executable = u64::from(libc::PROT_EXEC.unsigned_abs());
    for call in [libc::SYS_mmap, libc::SYS_mprotect] {
        rules.insert(call, vec![rule(vec![word(2, SeccompCmpOp::MaskedEq(executable), 0)?])?]);
    }
    let thread = u64::from(libc::CLONE_THREAD.unsigned_abs());
    rules.insert(libc::SYS_clone, vec![rule(vec![word(0, SeccompCmpOp::MaskedEq(thread), thread)?])?]);
    let of_a_file = [libc::F_GETFD, libc::F_GETFL]
        .map(|command| word(1, SeccompCmpOp::Eq, u64::from(command.unsigned_abs())));
    rules.insert(libc::SYS_fcntl, one_of(of_a_file)?);
    let names = [NAME_A_THREAD, NAME_MEMORY].map(|option| word(0, SeccompCmpOp::Eq, option));
    rules.insert(libc::SYS_prctl, one_of(names)?);
    // Signals to this process alone.
    let own = rustix::process::getpid().as_raw_nonzero().get().unsigned_abs();
    rules.insert(libc::SYS_tgkill, one_of([word(0, SeccompCmpOp::Eq, u64::from(own))])?);
    compile(rules, SeccompAction::KillProcess, SeccompAction::Allow)
}

fn one_of<const N: usize>(
    conditions: [Result<SeccompCondition, Error>; N],
) -> Result<Vec<SeccompRule>, Error> {
    conditions.into_iter().map(|condition| rule(vec![condition?])).collect()
}

fn rule(conditions: Vec<SeccompCondition>) -> Result<SeccompRule, Error> {
    SeccompRule::new(conditions).map_err(failed)
}

/// A condition on the lower half of an argument: the flags and numbers above are `int`s.
fn word(argument: u8, operator: SeccompCmpOp, value: u64) -> Result<SeccompCondition, Error> {
    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, operator, value).map_err(failed)
}

fn compile(
    rules: BTreeMap<c_long, Vec<SeccompRule>>,
    otherwise: SeccompAction,
    matched: SeccompAction,
) -> Result<BpfProgram, Error> {
    let machine = TargetArch::try_from(std::env::consts::ARCH).map_err(failed)?;
    SeccompFilter::new(rules, otherwise, matched, machine).and_then(BpfProgram::try_from).map_err(failed)
}

fn failed(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::Seccomp(Box::new(error))
}

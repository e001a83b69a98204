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

use crate::{Error, is_absent};

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
    // Sockets that are open; what is sent and received is looked at below.
    libc::SYS_shutdown,
    libc::SYS_ppoll,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_poll,
    // Memory. Pages that can be executed, and most advice, are refused below.
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_brk,
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

/// A thread as the C library starts it, and nothing that has namespaces or memory of its own.
const THREAD: i32 = libc::CLONE_VM
    | libc::CLONE_FS
    | libc::CLONE_FILES
    | libc::CLONE_SIGHAND
    | libc::CLONE_THREAD
    | libc::CLONE_SYSVSEM
    | libc::CLONE_SETTLS
    | libc::CLONE_PARENT_SETTID
    | libc::CLONE_CHILD_CLEARTID;

/// What C libraries say of memory that they free or reserve. Other advice reaches further than this process: it poisons
/// pages of the machine (`MADV_HWPOISON`), or shares them with other processes (`MADV_MERGEABLE`).
const ADVICE: &[i32] = &[
    libc::MADV_DONTNEED,
    libc::MADV_FREE,
    libc::MADV_HUGEPAGE,
    libc::MADV_NOHUGEPAGE,
    GUARD_A_STACK,
    FREE_A_GUARD,
];
/// `MADV_GUARD_INSTALL` and `MADV_GUARD_REMOVE`: stacks of threads of newer C libraries.
const GUARD_A_STACK: i32 = 102;
const FREE_A_GUARD: i32 = 103;

/// Flags of what is sent and received: no message out of its turn (`MSG_OOB`).
const MESSAGES: [i32; 2] = [0, libc::MSG_NOSIGNAL];

/// Puts all filters in force for all threads; `false` where the kernel has none, or another filter keeps them from us.
pub(crate) fn filter() -> Result<bool, Error> {
    for program in answering()?.iter().chain([&ending()?]) {
        match seccompiler::apply_filter_all_threads(program) {
            Ok(()) => {}
            Err(error) if is_absent(&error) => return Ok(false),
            Err(error) => return Err(failed(error)),
        }
    }
    Ok(true)
}

/// Whether the kernel knows the action that ends a process (`/proc/sys/kernel/seccomp/actions_avail`).
pub(crate) fn is_known() -> bool {
    std::fs::read_to_string("/proc/sys/kernel/seccomp/actions_avail")
        .is_ok_and(|actions| actions.split_whitespace().any(|action| action == "kill_process"))
}

/// Whether this process could filter calls. Tried by a thread that answers itself nothing that anybody needs and ends.
pub(crate) fn is_available() -> bool {
    let trying = || answering().is_ok_and(|all| all.iter().all(|one| seccompiler::apply_filter(one).is_ok()));
    is_known() && std::thread::spawn(trying).join().unwrap_or(false)
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
    let executable = SeccompCmpOp::MaskedEq(number(libc::PROT_EXEC));
    for call in [libc::SYS_mmap, libc::SYS_mprotect] {
        rules.insert(call, vec![rule(vec![word(2, executable.clone(), 0)?])?]);
    }
    rules.insert(libc::SYS_madvise, one_of(2, ADVICE.iter().copied().map(number))?);
    // The whole argument, that is as wide as an address; it is the first one on both machines.
    rules.insert(libc::SYS_clone, vec![rule(vec![whole(0, number(THREAD))?])?]);
    for call in [libc::SYS_sendto, libc::SYS_recvfrom] {
        // With nobody's address: to whom the socket is connected.
        let with = |flags| rule(vec![word(3, SeccompCmpOp::Eq, number(flags))?, whole(4, 0)?]);
        rules.insert(call, MESSAGES.into_iter().map(with).collect::<Result<_, _>>()?);
    }
    rules.insert(libc::SYS_fcntl, one_of(1, [libc::F_GETFD, libc::F_GETFL].map(number))?);
    rules.insert(libc::SYS_prctl, one_of(0, [NAME_A_THREAD, NAME_MEMORY])?);
    // Signals to this process alone.
    let own = rustix::process::getpid().as_raw_nonzero().get();
    rules.insert(libc::SYS_tgkill, one_of(0, [number(own)])?);
    compile(rules, SeccompAction::KillProcess, SeccompAction::Allow)
}

/// The constants are `int`s that are not negative.
fn number(constant: i32) -> u64 {
    u64::from(constant.unsigned_abs())
}

/// The argument is one of these.
fn one_of(argument: u8, values: impl IntoIterator<Item = u64>) -> Result<Vec<SeccompRule>, Error> {
    values.into_iter().map(|value| rule(vec![word(argument, SeccompCmpOp::Eq, value)?])).collect()
}

fn rule(conditions: Vec<SeccompCondition>) -> Result<SeccompRule, Error> {
    SeccompRule::new(conditions).map_err(failed)
}

/// A condition on the lower half of an argument: the flags and numbers above are `int`s.
fn word(argument: u8, operator: SeccompCmpOp, value: u64) -> Result<SeccompCondition, Error> {
    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, operator, value).map_err(failed)
}

/// All of an argument is this.
fn whole(argument: u8, value: u64) -> Result<SeccompCondition, Error> {
    SeccompCondition::new(argument, SeccompCmpArgLen::Qword, SeccompCmpOp::Eq, value).map_err(failed)
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

#[cfg(test)]
mod tests {
    use seccompiler::sock_filter;

    use super::*;

    /// What the filters of this machine answer, by the kernel's definition of the few instructions that they are made of
    /// (`Documentation/networking/filter.rst`). `None` where the program is none.
    fn answer(program: &[sock_filter], call: c_long, arguments: [u64; 6]) -> Option<u32> {
        let machine: u32 = if cfg!(target_arch = "aarch64") { 0xc000_00b7 } else { 0xc000_003e };
        let mut data = Vec::new();
        data.extend(u32::try_from(call).unwrap().to_le_bytes());
        data.extend(machine.to_le_bytes());
        data.extend([0; 8]);
        data.extend(arguments.iter().flat_map(|argument| argument.to_le_bytes()));
        let (mut next, mut held) = (0_usize, 0_u32);
        loop {
            let sock_filter { code, jt, jf, k } = program.get(next)?;
            next = next.checked_add(1)?;
            let mut jump = |is_so| next = next.wrapping_add(usize::from(if is_so { *jt } else { *jf }));
            match code {
                0x20 => {
                    let from = usize::try_from(*k).ok()?;
                    held = u32::from_le_bytes(data.get(from..)?.first_chunk().copied()?);
                }
                0x54 => held &= k,
                0x05 => next = next.checked_add(usize::try_from(*k).ok()?)?,
                0x15 => jump(held == *k),
                0x25 => jump(held > *k),
                0x35 => jump(held >= *k),
                0x45 => jump(held & k != 0),
                0x06 => return Some(*k),
                _ => return None,
            }
        }
    }

    const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
    const KILL: u32 = libc::SECCOMP_RET_KILL_PROCESS;

    fn ends(call: c_long, arguments: [u64; 6]) -> bool {
        match answer(&ending().unwrap(), call, arguments) {
            Some(ALLOW) => false,
            Some(KILL) => true,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn memory_is_freed_and_no_page_of_the_machine_poisoned() {
        let advise = |advice: i32| ends(libc::SYS_madvise, [0, 4096, number(advice), 0, 0, 0]);
        for advice in [libc::MADV_DONTNEED, libc::MADV_FREE, libc::MADV_HUGEPAGE, libc::MADV_NOHUGEPAGE] {
            assert!(!advise(advice), "{advice}");
        }
        // The numbers of `mman-common.h`, of both machines.
        let others =
            [("HWPOISON", 100), ("SOFT_OFFLINE", 101), ("MERGEABLE", 12), ("REMOVE", 9), ("PAGEOUT", 21)];
        for (name, advice) in others {
            assert!(advise(advice), "{name}");
        }
    }

    #[test]
    fn threads_are_started_and_nothing_else() {
        let start = |flags: u64| ends(libc::SYS_clone, [flags, 0, 0, 0, 0, 0]);
        // What `strace` shows of a thread's start.
        let thread = 0x003d_0f00;
        assert!(!start(thread));
        let more =
            [libc::CLONE_NEWUSER, libc::CLONE_NEWNS, libc::CLONE_NEWNET, libc::CLONE_PTRACE, libc::SIGCHLD];
        for flag in more {
            assert!(start(thread | number(flag)), "{flag:#x}");
        }
        assert!(start(thread | 1 << 32));
        assert!(start(number(libc::SIGCHLD)));
        for missing in [libc::CLONE_VM, libc::CLONE_SIGHAND, libc::CLONE_FS, libc::CLONE_FILES] {
            assert!(start(thread & !number(missing)), "{missing:#x}");
        }
        assert!(ends(libc::SYS_unshare, [number(libc::CLONE_NEWUSER), 0, 0, 0, 0, 0]));
        assert!(ends(libc::SYS_setns, [0; 6]));
    }

    #[test]
    fn messages_go_in_turn_and_to_whom_the_socket_is_connected() {
        for call in [libc::SYS_sendto, libc::SYS_recvfrom] {
            let with = |flags: i32, address: u64| ends(call, [3, 0, 1, number(flags), address, 0]);
            assert!(!with(0, 0));
            assert!(!with(libc::MSG_NOSIGNAL, 0));
            for flags in
                [libc::MSG_OOB, libc::MSG_OOB | libc::MSG_NOSIGNAL, libc::MSG_PEEK, libc::MSG_ZEROCOPY]
            {
                assert!(with(flags, 0), "{flags:#x}");
            }
            assert!(with(libc::MSG_NOSIGNAL, 0x7fff_0000_0000));
        }
        assert!(ends(libc::SYS_sendmsg, [0; 6]));
    }

    #[test]
    fn pages_are_not_executed() {
        let anonymous = number(libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        let map =
            |protection: i32| ends(libc::SYS_mmap, [0, 4096, number(protection), anonymous, u64::MAX, 0]);
        assert!(!map(libc::PROT_READ | libc::PROT_WRITE));
        assert!(map(libc::PROT_READ | libc::PROT_EXEC));
        assert!(ends(libc::SYS_mprotect, [0, 4096, number(libc::PROT_EXEC), 0, 0, 0]));
    }

    #[test]
    fn what_is_answered_is_not_ended() {
        for (call, errno) in ANSWERED {
            assert!(!ends(*call, [0; 6]), "{call}");
            let answers: Vec<_> =
                answering().unwrap().iter().filter_map(|program| answer(program, *call, [0; 6])).collect();
            assert!(
                answers.contains(&(libc::SECCOMP_RET_ERRNO | errno.unsigned_abs())),
                "{call}: {answers:x?}"
            );
        }
    }
}

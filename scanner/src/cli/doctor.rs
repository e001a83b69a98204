//! `stillframe doctor`: how far this machine can confine the process that reads disks.

use std::time::{Duration, Instant};

use stillframe_block::Budget;
use stillframe_confinement::available;

use super::arguments::Global;
use super::failure::Failure;
use super::output::printed;
use super::{EXIT_CLEAN, EXIT_INCOMPLETE};
use crate::isolation::{self, IsolationError, Sandbox, Supervision};
use crate::progress::Progress;

/// Starts that are timed; the middle one is told.
const STARTS: usize = 5;

/// Looks at the kernel, starts the process as a scan would, and says what came of it.
pub(super) fn show(global: &Global) -> Result<u8, Failure> {
    let kernel = available();
    let landlock = match kernel.landlock_abi {
        Some(version) => format!("yes, interface {version}"),
        None => "no: this kernel has none, or it is switched off (lsm=)".to_owned(),
    };
    let seccomp = if kernel.seccomp { "yes" } else { "no: this kernel cannot filter system calls" };
    let memory = match kernel.lockable_bytes {
        None => "kept from swap".to_owned(),
        Some(bytes) => format!("may be swapped: this user may lock {} MiB (ulimit -l)", bytes >> 20),
    };
    let start = time();
    let started = match &start {
        Ok(time) => format!("yes, within {:.1} ms", time.as_secs_f64() * 1000.0),
        Err(error) => format!("no: {error}"),
    };
    let is_whole = start.is_ok();
    let images =
        if is_whole { "read by a confined process" } else { "read with less than that (--sandbox auto)" };
    let snapshots =
        if is_whole { "read by a confined process" } else { "refused, unless --sandbox auto or off" };
    let lines = [
        ("kernel", kernel.kernel.as_str()),
        ("Landlock", &landlock),
        ("seccomp", seccomp),
        ("memory", &memory),
        ("starts", &started),
        ("images", images),
        ("snapshots", snapshots),
    ];
    printed(|out| lines.iter().try_for_each(|(what, found)| writeln!(out, "{what:<11}{found}")))?;
    let _ = global;
    Ok(if is_whole { EXIT_CLEAN } else { EXIT_INCOMPLETE })
}

/// How long it takes to start the process, confine it and hear of its end; it has no disk to read.
fn time() -> Result<Duration, IsolationError> {
    let progress = Progress::default();
    let supervision = Supervision {
        sandbox: Sandbox::Required,
        threads: 2,
        cache_bytes: 1 << 20,
        progress: &progress,
        is_wanted: &|| true,
        worker: &isolation::Worker::default(),
    };
    let mut times = Vec::new();
    for _ in 0..STARTS {
        let begun = Instant::now();
        isolation::survey(&[], Budget::default(), &supervision)?;
        times.push(begun.elapsed());
    }
    times.sort_unstable();
    Ok(times.get(STARTS / 2).copied().unwrap_or_default())
}

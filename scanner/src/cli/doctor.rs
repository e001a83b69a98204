//! `stillframe doctor`: how far this machine can confine the process that reads disks.

use std::time::{Duration, Instant};

use stillframe_block::Budget;
use stillframe_confinement::{Available, available};
use stillframe_model::{FingerprintKey, Isolation, KEY_BYTES};

use super::arguments::Global;
use super::failure::{Failure, with_causes};
use super::output::printed;
use super::{EXIT_CLEAN, EXIT_INCOMPLETE};
use crate::isolation::{self, IsolationError, Sandbox, Supervision};
use crate::progress::Progress;
use crate::scan::ScanOptions;

/// Starts that are timed; the middle one is told.
const STARTS: usize = 5;

/// Why the process that reads disks does not do what it is started for.
enum Unable {
    Refused(IsolationError),
    /// It ended by itself.
    Died,
}

impl std::fmt::Display for Unable {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Refused(error) => to.write_str(&with_causes(error)),
            Self::Died => {
                to.write_str("the process that reads disks ends before it has read any (-v logs of what)")
            }
        }
    }
}

/// Starts the process as a scan would, in both ways that confine it, and says what came of it.
pub(super) fn show(global: &Global) -> Result<u8, Failure> {
    let kernel = available();
    let required = start(global, Sandbox::Required);
    let auto = start(global, Sandbox::Auto);
    // What was in force in a process counts for more than what the kernel has.
    let enforced = required.as_ref().or(auto.as_ref()).ok();
    let starts = match enforced {
        Some(_) => match time(global) {
            Ok(time) => format!("the process that reads disks, within {:.1} ms", time.as_secs_f64() * 1000.0),
            Err(error) => format!("nothing: {}", with_causes(&error)),
        },
        None => format!("nothing: {}", auto.as_ref().err().map(Unable::to_string).unwrap_or_default()),
    };
    let lines = [
        ("kernel", kernel.kernel.clone()),
        ("Landlock", landlock(&kernel, enforced)),
        ("seccomp", seccomp(&kernel, enforced).to_owned()),
        ("memory", memory(&kernel, enforced)),
        ("starts", starts),
        ("images", images(&auto)),
        ("snapshots", snapshots(&required, &auto)),
    ];
    printed(|out| lines.iter().try_for_each(|(what, found)| writeln!(out, "{what:<11}{found}")))?;
    Ok(if required.is_ok() { EXIT_CLEAN } else { EXIT_INCOMPLETE })
}

fn landlock(kernel: &Available, enforced: Option<&Isolation>) -> String {
    match enforced.map_or(kernel.landlock_abi, |enforced| enforced.landlock_abi) {
        Some(version) => format!("yes, interface {version}"),
        None => "no: this kernel has none, it is switched off (lsm=), or a container refuses it".to_owned(),
    }
}

fn seccomp(kernel: &Available, enforced: Option<&Isolation>) -> &'static str {
    if enforced.map_or(kernel.seccomp, |enforced| enforced.seccomp) {
        "yes"
    } else {
        "no: this kernel cannot filter system calls, or a container refuses it"
    }
}

fn memory(kernel: &Available, enforced: Option<&Isolation>) -> String {
    match (enforced.is_some_and(|enforced| enforced.memory_locked), kernel.lockable_bytes) {
        (true, _) => "kept from swap".to_owned(),
        (false, Some(bytes)) => format!("may be swapped: this user may lock {} MiB (ulimit -l)", bytes >> 20),
        (false, None) => "may be swapped".to_owned(),
    }
}

/// What becomes of image files, which are read with `--sandbox auto` unless something else is said.
fn images(auto: &Result<Isolation, Unable>) -> String {
    match auto {
        Ok(enforced) => match lacking(enforced) {
            None => CONFINED.to_owned(),
            Some(what) => format!("read by a process that is less confined, without {what}"),
        },
        Err(Unable::Refused(IsolationError::Start(_))) => {
            "read by this process itself, which is not confined".to_owned()
        }
        Err(error) => format!("not read, unless with --sandbox off: {error}"),
    }
}

/// What becomes of snapshots, which are read with `--sandbox required` unless something else is said.
fn snapshots(required: &Result<Isolation, Unable>, auto: &Result<Isolation, Unable>) -> String {
    let other = if auto.is_ok() { "auto or off" } else { "off" };
    match required {
        Ok(_) => CONFINED.to_owned(),
        Err(error) => format!("not read, unless with --sandbox {other}: {error}"),
    }
}

const CONFINED: &str = "read by a confined process";

fn lacking(enforced: &Isolation) -> Option<&'static str> {
    match (enforced.landlock_abi, enforced.seccomp) {
        (Some(_), true) => None,
        (None, true) => Some("Landlock"),
        (Some(_), false) => Some("a filter of system calls"),
        (None, false) => Some("Landlock and a filter of system calls"),
    }
}

/// What confines the process that is to scan a machine that has no disks.
fn start(global: &Global, sandbox: Sandbox) -> Result<Isolation, Unable> {
    // There is nothing that a fingerprint is made of.
    let options = ScanOptions::new(FingerprintKey::new([0; KEY_BYTES]));
    let progress = Progress::default();
    let report = isolation::scan(&[], &options, &supervision(global, sandbox, &progress));
    let isolation = report.map_err(Unable::Refused)?.scan.isolation;
    isolation.filter(|isolation| isolation.deaths == 0).ok_or(Unable::Died)
}

/// How long it takes to start the process, confine it and hear of its end; it has no disk to read.
fn time(global: &Global) -> Result<Duration, IsolationError> {
    let progress = Progress::default();
    let supervision = supervision(global, Sandbox::Auto, &progress);
    let mut times = Vec::new();
    for _ in 0..STARTS {
        let begun = Instant::now();
        isolation::survey(&[], Budget::default(), &supervision)?;
        times.push(begun.elapsed());
    }
    times.sort_unstable();
    Ok(times.get(STARTS / 2).copied().unwrap_or_default())
}

fn supervision<'a>(global: &'a Global, sandbox: Sandbox, progress: &'a Progress) -> Supervision<'a> {
    Supervision {
        sandbox,
        threads: 2,
        cache_bytes: 1 << 20,
        progress,
        is_wanted: &|| true,
        worker: &global.worker,
    }
}

use std::collections::BTreeSet;
use std::io::{self, IsTerminal, Write};
use std::num::NonZero;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use stillframe_model::{Coverage, FingerprintKey, Report, Status};
use stillframe_reports::{Options, write_coverage};

use super::arguments::{
    Arguments, Command, Disks, FilesArguments, Global, ImageArguments, LayoutArguments, Reading,
    ScanArguments, ScanTarget,
};
use super::cloud;
use super::cloud::arguments::{AwsCommand, SnapshotsCommand};
use super::cloud::disks::{Looked, Remote};
use super::doctor;
use super::failure::Failure;
use super::output::{OnTerminal, printed, report, to_stdout, use_color, width};
use super::watch::watch;
use super::{EXIT_CLEAN, EXIT_FINDINGS, EXIT_INCOMPLETE};
use crate::cloud::READERS;
use crate::files::{FilesOptions, files};
use crate::isolation::{self, Bytes, IsolationError, Sandbox, Supervision, Target};
use crate::progress::{Measured, Progress};
use crate::scan::ScanOptions;
use crate::{Disk, key};

/// Runs a command and says the exit code.
pub(super) fn run(arguments: Arguments) -> Result<u8, Failure> {
    let global = arguments.global;
    match arguments.command {
        Command::Scan(ScanTarget::Image(image)) => scan_image(&global, &image),
        Command::Scan(ScanTarget::Instance(arguments)) => cloud::scan::instance(&global, &arguments),
        Command::Scan(ScanTarget::Snapshot(arguments)) => cloud::scan::snapshot(&global, &arguments),
        Command::Instances(arguments) => cloud::instances::list(&global, &arguments),
        Command::Snapshots(SnapshotsCommand::List(arguments)) => cloud::leftovers::list(&global, &arguments),
        Command::Snapshots(SnapshotsCommand::Purge(arguments)) => {
            cloud::leftovers::purge(&global, &arguments)
        }
        Command::Aws(AwsCommand::Policy(arguments)) => cloud::account::policy(&global, &arguments),
        Command::Aws(AwsCommand::Preflight(arguments)) => cloud::account::preflight(&global, &arguments),
        Command::Aws(AwsCommand::Audit(arguments)) => cloud::audit::audit(&global, &arguments),
        Command::Layout(arguments) => layout(&global, &arguments),
        Command::Files(arguments) => list_files(&global, &arguments),
        Command::Doctor => doctor::show(&global),
        Command::Completions { shell } => completions(shell),
        Command::Man { folder } => manual(&folder),
    }
}

fn open(disks: &Disks) -> Result<Vec<Target>, Failure> {
    let mut met = BTreeSet::new();
    for path in &disks.paths {
        // What cannot be looked at fails below, with its reason.
        if let Ok(found) = std::fs::metadata(path)
            && !met.insert((found.dev(), found.ino()))
        {
            return Err(Failure::named_twice(path.display()));
        }
    }
    Target::open_all(&disks.paths).map_err(|error| Failure::open(&error))
}

/// How disks are read by another process. Those of a cloud are read only while `wanted` says so, and on threads of which
/// many wait for the network.
fn supervision<'a>(
    global: &'a Global,
    reading: &Reading,
    progress: &'a Progress,
    wanted: Option<&'a (dyn Fn() -> bool + Sync)>,
) -> Supervision<'a> {
    let sandbox = if wanted.is_some() { Sandbox::Required } else { Sandbox::Auto };
    // As many as the library would take, which the other process must not find out for itself.
    let cores = std::thread::available_parallelism().map_or(2, NonZero::get);
    Supervision {
        sandbox: reading.sandbox.unwrap_or(sandbox),
        threads: if wanted.is_some() { READERS } else { cores },
        cache_bytes: reading.cache_bytes(),
        progress,
        is_wanted: wanted.unwrap_or(&|| true),
        worker: &global.worker,
    }
}

/// Has disks read by another process, or in this one where that is wished or nothing else can be done.
fn isolated<T: Send>(
    targets: &[Target],
    supervision: &Supervision<'_>,
    elsewhere: impl FnOnce() -> Result<T, IsolationError>,
    here: impl FnOnce(&[Disk]) -> Result<T, Failure> + Send,
) -> Result<T, Failure> {
    if supervision.sandbox != Sandbox::Off {
        match elsewhere() {
            Ok(done) => return Ok(done),
            Err(IsolationError::Start(error)) if supervision.sandbox == Sandbox::Auto => {
                tracing::warn!(%error, "no other process can be started: disks are read by this one");
            }
            Err(error) => return Err(Failure::isolation(&error)),
        }
    }
    let disks = Target::disks(targets, supervision.cache_bytes);
    if targets.iter().all(|target| matches!(target.bytes, Bytes::File(_))) {
        supervision.progress.measure(bytes_of(&disks));
    }
    let pool = rayon::ThreadPoolBuilder::new().num_threads(supervision.threads).build().map_err(|error| {
        Failure::new(
            format!("the program cannot start its threads: {error}"),
            "raise the limit of processes (ulimit -u)",
        )
    })?;
    pool.install(|| here(&disks))
}

fn scan_image(global: &Global, arguments: &ImageArguments) -> Result<u8, Failure> {
    let targets = open(&arguments.disks)?;
    let wanted = &arguments.scan;
    let mut options = ScanOptions::new(fingerprint_key(wanted.fingerprint_key_file.as_deref())?);
    options.scanners.clone_from(&wanted.scanners);
    options.budget = arguments.disks.reading.budget();
    options.excluded.clone_from(&wanted.exclude);
    options.show_user_paths = wanted.show_user_paths;
    let progress = Progress::default();
    let supervision = supervision(global, &arguments.disks.reading, &progress, None);
    let made = watch(global, &progress, || {
        let elsewhere = || isolation::scan(&targets, &options, &supervision);
        isolated(&targets, &supervision, elsewhere, |disks| Ok(crate::scan(disks, &options, &progress)))
    })?;
    check_excluded(wanted, &made)?;
    write_report(global, wanted, &made, wanted.output.as_deref())?;
    let has_findings = wanted.fail_on.is_some_and(|threshold| made.has_findings_from(threshold));
    Ok(exit_code(made.is_complete(), has_findings))
}

/// What was excluded must be there, or what was meant would have been read.
pub(super) fn check_excluded(wanted: &ScanArguments, made: &Report) -> Result<(), Failure> {
    // Of a disk that could not be looked at nobody knows what is on it.
    let is_met = |name: &&String| {
        let disk = name.split('/').next().unwrap_or(name);
        made.coverage.iter().any(|row| {
            row.name.as_str() == name.as_str() || (row.name.as_str() == disk && row.status == Status::Failed)
        })
    };
    match wanted.exclude.iter().find(|name| !is_met(name)) {
        Some(unknown) => Err(Failure::no_such_volume(unknown)),
        None => Ok(()),
    }
}

pub(super) fn write_report(
    global: &Global,
    wanted: &ScanArguments,
    made: &Report,
    output: Option<&Path>,
) -> Result<(), Failure> {
    let written = Options {
        color: use_color(global, output.is_some()),
        width: width(),
        verbose: global.verbose > 0,
        list_packages: wanted.list_packages,
    };
    report(made, wanted.format, &written, output)
}

fn bytes_of(disks: &[Disk]) -> impl Fn() -> Measured + Send + Sync + 'static {
    let counters: Vec<_> = disks.iter().map(Disk::counter).collect();
    move || Measured { bytes: counters.iter().map(|counter| counter.counts().bytes).sum(), note: None }
}

pub(super) const fn exit_code(is_complete: bool, has_findings: bool) -> u8 {
    match (is_complete, has_findings) {
        (false, _) => EXIT_INCOMPLETE,
        (true, true) => EXIT_FINDINGS,
        (true, false) => EXIT_CLEAN,
    }
}

pub(super) fn fingerprint_key(given: Option<&Path>) -> Result<FingerprintKey, Failure> {
    let key = match given {
        Some(path) => key::load(path),
        None => key::state_directory().and_then(|state| key::load_or_make(&state)),
    };
    key.map_err(|error| Failure::key(&error))
}

fn layout(global: &Global, arguments: &LayoutArguments) -> Result<u8, Failure> {
    let budget = arguments.disks.reading.budget();
    let progress = Progress::default();
    let looked = with_targets(&arguments.disks, &arguments.remote, &progress, |targets, wanted| {
        let supervision = supervision(global, &arguments.disks.reading, &progress, wanted);
        let elsewhere = || isolation::survey(targets, budget, &supervision);
        isolated(targets, &supervision, elsewhere, |disks| Ok(crate::scan::survey(disks, budget)))
    })?;
    let coverage = looked.value;
    let options =
        Options { color: use_color(global, false), width: width(), verbose: true, list_packages: false };
    let is_complete = looked.is_whole && coverage.iter().all(Coverage::is_complete);
    to_stdout(|out| {
        write_coverage(&coverage, &options, out).map_err(|error| (error.kind(), Failure::write(None, &error)))
    })?;
    Ok(exit_code(is_complete, false))
}

fn list_files(global: &Global, arguments: &FilesArguments) -> Result<u8, Failure> {
    let budget = arguments.disks.reading.budget();
    let options = FilesOptions { sha256: arguments.hash.is_some(), budget };
    let progress = Progress::default();
    let looked = watch(global, &progress, || {
        with_targets(&arguments.disks, &arguments.remote, &progress, |targets, wanted| {
            let supervision = supervision(global, &arguments.disks.reading, &progress, wanted);
            listed(targets, &supervision, options, &progress)
        })
    })?;
    let unread: Vec<Coverage> = looked.value.into_iter().filter(|row| !row.is_complete()).collect();
    if !unread.is_empty() {
        // The listing stands whether or not anybody hears of what is missing from it.
        let options = Options { verbose: global.verbose > 0, ..Options::default() };
        let _ = write_coverage(&unread, &options, &mut io::stderr().lock());
    }
    Ok(exit_code(looked.is_whole && unread.is_empty(), false))
}

/// Prints the list; gives the rows of the ledger.
fn listed(
    targets: &[Target],
    supervision: &Supervision<'_>,
    options: FilesOptions,
    progress: &Progress,
) -> Result<Vec<Coverage>, Failure> {
    let mut written = Ok(());
    let elsewhere = || {
        let mut rows = Ok(Vec::new());
        written = to_out(|out| match isolation::files(targets, options, supervision, out) {
            Err(IsolationError::Write(error)) => Err(error),
            other => {
                rows = other;
                Ok(())
            }
        });
        rows
    };
    let here = |disks: &[Disk]| {
        let mut rows = Vec::new();
        to_out(|out| {
            rows = files(disks, options, progress, out)?;
            Ok(())
        })?;
        Ok(rows)
    };
    let rows = isolated(targets, supervision, elsewhere, here);
    written.and(rows)
}

/// Writes lines to standard output. A terminal is not drawn on.
fn to_out(write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<(), Failure> {
    printed(|out| if io::stdout().is_terminal() { write(&mut OnTerminal(out)) } else { write(out) })
}

/// Runs `work` on image files, or on snapshots where the paths are their ids. Of these it is told while they are wanted.
fn with_targets<T: Send>(
    disks: &Disks,
    remote: &Remote,
    progress: &Progress,
    work: impl FnOnce(&[Target], Option<&(dyn Fn() -> bool + Sync)>) -> Result<T, Failure> + Send,
) -> Result<Looked<T>, Failure> {
    if let Some(ids) = cloud::disks::snapshot_ids(&disks.paths) {
        return cloud::disks::with_snapshots(remote, &ids, progress, |targets, wanted| {
            work(targets, Some(wanted))
        });
    }
    Ok(Looked { value: work(&open(disks)?, None)?, is_whole: true })
}

fn completions(shell: clap_complete::Shell) -> Result<u8, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut super::command(), "stillframe", &mut script);
    printed(|out| out.write_all(&script))?;
    Ok(EXIT_CLEAN)
}

fn manual(folder: &Path) -> Result<u8, Failure> {
    let failed = |error: io::Error| Failure::manual(folder, &error);
    std::fs::create_dir_all(folder).map_err(failed)?;
    clap_mangen::generate_to(super::command(), folder).map_err(failed)?;
    Ok(EXIT_CLEAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_read_wins_over_findings() {
        assert_eq!(exit_code(true, false), 0);
        assert_eq!(exit_code(true, true), 1);
        assert_eq!(exit_code(false, true), 2);
        assert_eq!(exit_code(false, false), 2);
    }
}

use std::io::{self, IsTerminal, Write};
use std::path::Path;

use stillframe_model::{Coverage, FingerprintKey};
use stillframe_reports::{Options, write_coverage};

use super::arguments::{
    Arguments, Command, Disks, FilesArguments, Global, ImageArguments, LayoutArguments, ScanTarget,
};
use super::failure::Failure;
use super::output::{OnTerminal, report, to_stdout, use_color, width};
use super::watch::watch;
use super::{EXIT_CLEAN, EXIT_FINDINGS, EXIT_INCOMPLETE};
use crate::files::{FilesOptions, files};
use crate::progress::Progress;
use crate::scan::ScanOptions;
use crate::{Disk, key};

/// Runs a command and says the exit code.
pub(super) fn run(arguments: Arguments) -> Result<u8, Failure> {
    let global = arguments.global;
    match arguments.command {
        Command::Scan(ScanTarget::Image(image)) => scan_image(&global, &image),
        Command::Layout(arguments) => layout(&global, &arguments),
        Command::Files(arguments) => list_files(&global, &arguments),
        Command::Completions { shell } => completions(shell),
        Command::Man { folder } => manual(&folder),
    }
}

fn open(disks: &Disks) -> Result<Vec<Disk>, Failure> {
    Disk::open_all(&disks.paths, disks.cache.saturating_mul(1 << 20)).map_err(|error| Failure::open(&error))
}

fn scan_image(global: &Global, arguments: &ImageArguments) -> Result<u8, Failure> {
    let disks = open(&arguments.disks)?;
    let wanted = &arguments.scan;
    let mut options = ScanOptions::new(fingerprint_key(wanted.fingerprint_key_file.as_deref())?);
    options.scanners.clone_from(&wanted.scanners);
    options.budget = arguments.disks.budget();
    options.excluded.clone_from(&wanted.exclude);
    options.show_user_paths = wanted.show_user_paths;
    let progress = Progress::default();
    let made = watch(global, &disks, &progress, || crate::scan(&disks, &options, &progress));
    let is_met = |name: &&String| made.coverage.iter().any(|row| row.name.as_str() == name.as_str());
    if let Some(unknown) = wanted.exclude.iter().find(|name| !is_met(name)) {
        return Err(Failure::no_such_volume(unknown));
    }
    let written = Options {
        color: use_color(global, wanted.output.is_some()),
        width: width(),
        verbose: global.verbose > 0,
        list_packages: wanted.list_packages,
    };
    report(&made, wanted.format, &written, wanted.output.as_deref())?;
    let has_findings = wanted.fail_on.is_some_and(|threshold| made.has_findings_from(threshold));
    Ok(exit_code(made.is_complete(), has_findings))
}

const fn exit_code(is_complete: bool, has_findings: bool) -> u8 {
    match (is_complete, has_findings) {
        (false, _) => EXIT_INCOMPLETE,
        (true, true) => EXIT_FINDINGS,
        (true, false) => EXIT_CLEAN,
    }
}

fn fingerprint_key(given: Option<&Path>) -> Result<FingerprintKey, Failure> {
    let key = match given {
        Some(path) => key::load(path),
        None => key::state_directory().and_then(|state| key::load_or_make(&state)),
    };
    key.map_err(|error| Failure::key(&error))
}

fn layout(global: &Global, arguments: &LayoutArguments) -> Result<u8, Failure> {
    let disks = open(&arguments.disks)?;
    let coverage = crate::scan::survey(&disks, arguments.disks.budget());
    let options =
        Options { color: use_color(global, false), width: width(), verbose: true, list_packages: false };
    let is_complete = coverage.iter().all(Coverage::is_complete);
    to_stdout(|out| {
        write_coverage(&coverage, &options, out).map_err(|error| (error.kind(), Failure::write(None, &error)))
    })?;
    Ok(exit_code(is_complete, false))
}

fn list_files(global: &Global, arguments: &FilesArguments) -> Result<u8, Failure> {
    let disks = open(&arguments.disks)?;
    let options = FilesOptions { sha256: arguments.hash.is_some(), budget: arguments.disks.budget() };
    let progress = Progress::default();
    let mut coverage = Vec::new();
    watch(global, &disks, &progress, || {
        printed(|out| {
            coverage = if io::stdout().is_terminal() {
                files(&disks, options, &progress, &mut OnTerminal(out))?
            } else {
                files(&disks, options, &progress, out)?
            };
            Ok(())
        })
    })?;
    let unread: Vec<Coverage> = coverage.into_iter().filter(|row| !row.is_complete()).collect();
    if !unread.is_empty() {
        // The listing stands whether or not anybody hears of what is missing from it.
        let options = Options { verbose: global.verbose > 0, ..Options::default() };
        let _ = write_coverage(&unread, &options, &mut io::stderr().lock());
    }
    Ok(exit_code(unread.is_empty(), false))
}

fn printed(write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<(), Failure> {
    to_stdout(|out| write(out).map_err(|error| (error.kind(), Failure::write(None, &error))))
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

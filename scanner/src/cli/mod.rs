//! The command line. The only place that prints.

mod arguments;
mod cloud;
mod commands;
mod doctor;
mod failure;
mod logging;
mod output;
mod watch;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};

pub use arguments::Arguments;
use failure::Failure;

use crate::isolation::{self, Behaviour, Worker};

/// Complete, and nothing at or above `--fail-on`.
const EXIT_CLEAN: u8 = 0;
/// Findings at or above `--fail-on`.
const EXIT_FINDINGS: u8 = 1;
/// An error, or something that was not read. Wins over findings.
const EXIT_INCOMPLETE: u8 = 2;

/// Runs the program, or does the work of the process that reads disks where it was started as that.
#[must_use]
pub fn main() -> ExitCode {
    main_with(&Behaviour::HONEST, Worker::default())
}

/// The same, with readers that behave otherwise: for tests.
#[must_use]
pub fn main_with(behaviour: &Behaviour<'_>, worker: Worker) -> ExitCode {
    silence_panics();
    if isolation::is_worker() {
        return isolation::worker(behaviour);
    }
    let arguments = match Arguments::try_parse() {
        Ok(mut arguments) => {
            arguments.global.worker = worker;
            arguments
        }
        Err(error) if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) => {
            // A closed pipe is no failure of `--help`.
            let _ = error.print();
            return ExitCode::from(EXIT_CLEAN);
        }
        Err(error) if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            Failure::no_command().print();
            return ExitCode::from(EXIT_INCOMPLETE);
        }
        Err(error) => {
            Failure::usage(&error).print();
            return ExitCode::from(EXIT_INCOMPLETE);
        }
    };
    logging::start(&arguments.global);
    // A panic outside every boundary is an error of ours, and has an exit code that says so.
    let ended = catch_unwind(AssertUnwindSafe(|| commands::run(arguments)));
    match ended.unwrap_or_else(|_| Err(Failure::panicked())) {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            failure.print();
            ExitCode::from(EXIT_INCOMPLETE)
        }
    }
}

/// A panic inside a boundary becomes a row of the ledger. Its message may quote the disk, so only its place in the
/// source is logged.
fn silence_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(|place| format!("{}:{}", place.file(), place.line()));
        tracing::warn!(
            at = place.unwrap_or_default(),
            "a reader or detector panicked; the ledger says on what"
        );
    }));
}

/// The command as clap knows it, for completions and man pages.
#[must_use]
pub fn command() -> clap::Command {
    Arguments::command()
}

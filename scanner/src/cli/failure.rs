use std::io::Write;
use std::path::Path;

use stillframe_block::OpenError;

use crate::isolation::IsolationError;
use crate::key::KeyFileError;

/// An error as the operator sees it: what is wrong, and how to mend it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Failure {
    error: String,
    hint: String,
}

impl Failure {
    pub(super) fn new(error: impl std::fmt::Display, hint: impl Into<String>) -> Self {
        Self { error: error.to_string(), hint: hint.into() }
    }

    /// The same, of these places: `in eu-west-3, us-east-1: …`.
    pub(super) fn within(self, places: &[String]) -> Self {
        Self { error: format!("in {}: {}", places.join(", "), self.error), ..self }
    }

    /// The same disk twice: what is on it would be counted twice.
    pub(super) fn named_twice(name: impl std::fmt::Display) -> Self {
        Self::new(format!("{name} is named twice"), "name each disk once")
    }

    /// A command line that clap does not take, in one line and not in its several.
    pub(super) fn usage(error: &clap::Error) -> Self {
        let text = error.render().to_string();
        let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        let first = lines.next().unwrap_or_default();
        // What a list of missing arguments or a tip says follows in lines of its own.
        let mut error = first.strip_prefix("error: ").unwrap_or(first).to_owned();
        let mut hint = None;
        for line in lines {
            if let Some(tip) = line.strip_prefix("tip: ") {
                hint = hint.or(Some(tip.to_owned()));
            } else if error.ends_with(':') {
                error = format!("{error} {line}");
            }
        }
        Self {
            error,
            hint: hint.unwrap_or_else(|| "`stillframe --help` lists commands and options".to_owned()),
        }
    }

    pub(super) fn no_command() -> Self {
        Self::new(
            "no command is given",
            "`stillframe scan image PATH` scans a disk; `stillframe --help` lists the others",
        )
    }

    /// Another process should have read the disks.
    pub(super) fn isolation(error: &IsolationError) -> Self {
        Self::new(with_causes(error), isolation_hint(error))
    }

    /// `--exclude` of something that is not on the disks: what was meant would be read.
    pub(super) fn no_such_volume(name: &str) -> Self {
        Self::new(
            format!("there is no disk or partition called {name} to exclude"),
            "`stillframe layout PATH` lists them: disk0, disk0/p1",
        )
    }

    pub(super) fn manual(folder: &Path, error: &std::io::Error) -> Self {
        Self::new(
            format!("the manual pages cannot be written to {}: {error}", folder.display()),
            "name a folder that can be written; it is made where it is missing",
        )
    }

    pub(super) fn open(error: &OpenError) -> Self {
        let is_snapshot = |path: &Path| path.to_str().is_some_and(|path| path.starts_with("snap-"));
        let hint = match error {
            OpenError::Missing { path } if is_snapshot(path) => {
                "`stillframe scan snapshot` reads EBS snapshots; their ids have 8 to 32 hexadecimal digits"
            }
            OpenError::Missing { .. } => "check the path; a relative one counts from the current folder",
            OpenError::NotADisk { .. } => "give a raw disk image or a block device",
            OpenError::Unreadable { .. } => "check its permissions, or run as a user who may read it",
        };
        Self::new(with_causes(error), hint)
    }

    pub(super) fn key(error: &KeyFileError) -> Self {
        let hint = match error {
            KeyFileError::Unreadable { .. } => "check the path and its permissions".to_owned(),
            KeyFileError::NotAKey { path, .. } => {
                format!("write 64 hexadecimal digits to it, or remove {} to have one made", path.display())
            }
            KeyFileError::Exposed { path } => format!("chmod 600 {}", path.display()),
            KeyFileError::Unwritable { .. } => {
                "set XDG_STATE_HOME to a folder that can be written, or give --fingerprint-key-file"
                    .to_owned()
            }
            KeyFileError::NoStateDirectory => "set XDG_STATE_HOME, or give --fingerprint-key-file".to_owned(),
        };
        Self::new(with_causes(error), hint)
    }

    pub(super) fn write(path: Option<&Path>, error: &dyn std::error::Error) -> Self {
        let target = path.map_or_else(|| "standard output".to_owned(), |path| path.display().to_string());
        Self::new(
            format!("the report cannot be written to {target}: {}", with_causes(error)),
            "check that the folder exists, can be written and has room; --output names another file",
        )
    }

    pub(super) fn panicked() -> Self {
        Self::new("the program itself failed, and no report was made", "report it with what -v logs of it")
    }

    /// Writes `error:` and `hint:` to standard error.
    pub(super) fn print(&self) {
        // Nothing is left to do where standard error is closed.
        let _ = writeln!(std::io::stderr().lock(), "error: {}\nhint: {}", self.error, self.hint);
    }
}

pub(super) fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

pub(super) const fn isolation_hint(error: &IsolationError) -> &'static str {
    match error {
        IsolationError::NotConfined { .. } => {
            "`stillframe doctor` shows what this kernel has; --sandbox auto reads with what there is"
        }
        IsolationError::Start(_) => {
            "check that /proc is mounted, and the limits of processes and memory (ulimit -a); `stillframe doctor` tries it"
        }
        IsolationError::Stopped | IsolationError::Write(_) => "scan again",
    }
}

//! Disks are parsed by a process that can do nothing else.
//!
//! Whoever owns a machine writes its disks, and may want the scanner's credentials. So the process that has them never
//! parses a byte of a disk: it starts itself once more, as a worker ([`worker`]), with an empty environment and no
//! descriptors but a socket for what it has to say, files opened for reading, and lanes to ask for blocks of snapshots
//! ([`stillframe_channel`]). Before the worker reads the first byte it takes everything else from itself
//! ([`stillframe_confinement`]).
//!
//! The parent ([`supervise`]) does not trust what the worker says: messages are bounded and typed ([`message`], [`frame`]),
//! and what a report may name is checked ([`accept`]). A worker that dies, loops or lies costs the volume that it was
//! reading: that gets a row of the ledger, and another worker goes on with the rest.
//!
//! `docs/threat-model.md` says what this keeps out and what it does not.

mod accept;
mod child;
mod death;
mod descriptors;
mod frame;
mod keep;
mod log;
mod message;
mod parent;

use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use stillframe_block::{BlockCache, BlockSource, Budget, FileSource, OpenError};
use stillframe_model::{Coverage, Report};

pub use child::{Behaviour, Confined, is_worker, worker};
pub use death::Death;
pub use message::{Done, Message, StepTold};

use crate::Disk;
use crate::files::FilesOptions;
use crate::progress::Progress;
use crate::scan::ScanOptions;
use message::Job;

/// Whether disks are parsed by a confined process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Sandbox {
    /// Always, by all that confines; where the kernel lacks some of it, nothing is read.
    Required,
    /// By all that the kernel has, and in this process where no other can be started.
    Auto,
    /// In this process.
    Off,
}

/// A disk to be parsed by another process.
pub struct Target {
    /// Which of the machine's disks it is. Others may be missing, which nobody could open.
    pub number: u32,
    /// The image's file name, or the snapshot's id. The process that parses does not hear of it.
    pub label: String,
    /// The name under which a cloud attached it to the machine: `/dev/sdf`.
    pub attached_as: Option<String>,
    /// Its bytes.
    pub bytes: Bytes,
}

/// Where the bytes of a [`Target`] are.
pub enum Bytes {
    /// In a file: the other process reads it through a descriptor of its own.
    File(Arc<FileSource>),
    /// Elsewhere: this process reads them, and the other asks for them.
    Here(Arc<dyn BlockSource>),
}

impl Target {
    /// Opens image files or block devices as the disks of one machine.
    ///
    /// # Errors
    /// [`OpenError`] for the first that cannot be opened.
    pub fn open_all(paths: &[impl AsRef<Path>]) -> Result<Vec<Self>, OpenError> {
        let open = |number: u32, path: &Path| {
            let label = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
            let bytes = Bytes::File(Arc::new(FileSource::open(path)?));
            Ok(Self { number, label, attached_as: None, bytes })
        };
        (0..).zip(paths).map(|(number, path)| open(number, path.as_ref())).collect()
    }

    /// The disks to parse in this process.
    #[must_use]
    pub fn disks(targets: &[Self], cache_bytes: u64) -> Vec<Disk> {
        let cache = BlockCache::new(cache_bytes);
        let disk = |target: &Self| {
            let source: Arc<dyn BlockSource> = match &target.bytes {
                Bytes::File(file) => file.clone(),
                Bytes::Here(source) => source.clone(),
            };
            Disk::new(target.number, target.label.clone(), source, &cache)
                .attached_as(target.attached_as.clone())
        };
        targets.iter().map(disk).collect()
    }
}

/// How the process that parses is run and watched.
pub struct Supervision<'a> {
    /// By what it is confined.
    pub sandbox: Sandbox,
    /// Threads that parse.
    pub threads: usize,
    /// Memory for blocks that were read, in bytes.
    pub cache_bytes: u64,
    /// Moved as it goes on.
    pub progress: &'a Progress,
    /// Asked now and then; where it says no, the process is ended.
    pub is_wanted: &'a (dyn Fn() -> bool + Sync),
    /// The program that is started.
    pub worker: &'a Worker,
}

/// The program that parses: this one, with other arguments.
#[derive(Debug, Clone)]
pub struct Worker {
    /// What it is given beside the word that makes it a worker.
    pub arguments: Vec<String>,
    /// How long it may say nothing.
    pub silence: Duration,
    /// How much longer than its volume's budget a step may take.
    pub grace: Duration,
}

impl Default for Worker {
    fn default() -> Self {
        Self { arguments: Vec::new(), silence: Duration::from_secs(60), grace: Duration::from_secs(30) }
    }
}

/// Why disks could not be parsed by another process.
#[derive(Debug, thiserror::Error)]
pub enum IsolationError {
    /// It could not be started.
    #[error("the process that reads disks cannot be started")]
    Start(#[source] io::Error),
    /// It could not be confined as far as was required; nothing was read.
    #[error("the process that reads disks cannot be confined: {what}")]
    NotConfined {
        /// What is missing.
        what: String,
    },
    /// Nobody wants the result any more.
    #[error("it was stopped")]
    Stopped,
    /// What it lists could not be written.
    #[error("the list cannot be written")]
    Write(#[source] io::Error),
}

/// Scans the disks of one machine.
///
/// # Errors
/// [`IsolationError`]; what the process dies of is in the report.
pub fn scan(
    targets: &[Target],
    options: &ScanOptions,
    supervision: &Supervision<'_>,
) -> Result<Report, IsolationError> {
    let job = Job::scan(options);
    let ended = parent::run(targets, &job, options.budget, supervision, &mut io::sink())?;
    Ok(accept::report(ended, targets, options))
}

/// Looks at the disks without walking them.
///
/// # Errors
/// [`IsolationError`].
pub fn survey(
    targets: &[Target],
    budget: Budget,
    supervision: &Supervision<'_>,
) -> Result<Vec<Coverage>, IsolationError> {
    let ended = parent::run(targets, &Job::survey(budget), budget, supervision, &mut io::sink())?;
    Ok(accept::rows(ended, targets))
}

/// Lists the files of the disks to `out`.
///
/// # Errors
/// [`IsolationError`].
pub fn files(
    targets: &[Target],
    options: FilesOptions,
    supervision: &Supervision<'_>,
    out: &mut dyn Write,
) -> Result<Vec<Coverage>, IsolationError> {
    let ended = parent::run(targets, &Job::files(options), options.budget, supervision, out)?;
    Ok(accept::rows(ended, targets))
}

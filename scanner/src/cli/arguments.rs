use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use stillframe_model::{Scanner, Severity};
use stillframe_reports::Format;

use super::cloud::arguments::{
    AwsCommand, InstanceArguments, InstancesArguments, SnapshotArguments, SnapshotsCommand,
};
use super::cloud::disks::Remote;
use crate::isolation::{Sandbox, Worker};

/// Reads the disks of a machine from the side and says what is on them, and what could not be read.
///
/// No agent, no mount, no write. What leaves is metadata: no byte of any file's content.
#[derive(Debug, Parser)]
#[command(name = "stillframe", version, propagate_version = true, max_term_width = 100)]
pub struct Arguments {
    /// Options of every command.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Options of every command.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Options of every command")]
pub struct Global {
    /// Say nothing but the result and errors
    #[arg(long, short, global = true)]
    pub quiet: bool,
    /// Log more to standard error; twice for details
    #[arg(long, short, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// How log lines are written
    #[arg(long, global = true, value_enum, default_value_t = LogFormat::Text, value_name = "FORMAT")]
    pub log_format: LogFormat,
    /// When to use colour; NO_COLOR is honoured
    #[arg(long, global = true, value_enum, default_value_t = Color::Auto, value_name = "WHEN")]
    pub color: Color,
    /// How this program is started as the process that reads disks.
    #[arg(skip)]
    pub worker: Worker,
}

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// When to use colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Color {
    /// On a terminal.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Scan a machine and report what is on it
    #[command(subcommand)]
    Scan(ScanTarget),
    /// List the instances of a region, and what a scan of each would read
    Instances(InstancesArguments),
    /// Find and delete snapshots that scans left behind
    #[command(subcommand)]
    Snapshots(SnapshotsCommand),
    /// What AWS must allow, and whether it does
    #[command(subcommand)]
    Aws(AwsCommand),
    /// Show disks, partitions and filesystems of images or EBS snapshots, and what a scan would read
    Layout(LayoutArguments),
    /// List every file of images or EBS snapshots, for comparison with other readers
    Files(FilesArguments),
    /// Show how far this machine can confine the process that reads disks
    Doctor,
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Write the manual pages into a folder
    Man {
        /// The folder
        folder: PathBuf,
    },
}

/// What to scan.
#[derive(Debug, Subcommand)]
pub enum ScanTarget {
    /// Scan disk images; several are the disks of one machine
    Image(ImageArguments),
    /// Take snapshots of a running instance's disks, read them in their region, and delete them
    Instance(Box<InstanceArguments>),
    /// Read EBS snapshots that are there; several are the disks of one machine
    Snapshot(Box<SnapshotArguments>),
}

/// The disks to read.
#[derive(Debug, Clone, Args)]
pub struct Disks {
    /// Raw disk images or block devices; several are the disks of one machine
    #[arg(required = true, value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    /// How they are read.
    #[command(flatten)]
    pub reading: Reading,
}

/// How disks are read.
#[derive(Debug, Clone, Args)]
pub struct Reading {
    /// Memory for blocks that were read, in MiB
    #[arg(long, default_value_t = 48, value_name = "MIB", value_parser = clap::value_parser!(u64).range(4..=65536))]
    pub cache: u64,
    /// The longest that reading one volume may take, in seconds
    #[arg(long, default_value_t = 3600, value_name = "SECONDS")]
    pub volume_deadline: u64,
    /// Whether disks are read by a confined process: as far as this kernel can (the default for files), required (the
    /// default for snapshots), or off
    #[arg(long, value_enum, value_name = "MODE")]
    pub sandbox: Option<Sandbox>,
}

impl Reading {
    /// The memory in bytes.
    #[must_use]
    pub fn cache_bytes(&self) -> u64 {
        self.cache.saturating_mul(1 << 20)
    }

    /// What reading one volume may cost.
    #[must_use]
    pub fn budget(&self) -> stillframe_block::Budget {
        stillframe_block::Budget { time: Duration::from_secs(self.volume_deadline), ..Default::default() }
    }
}

/// `stillframe scan image`.
#[derive(Debug, Args)]
pub struct ImageArguments {
    /// The disks.
    #[command(flatten)]
    pub disks: Disks,
    /// How the scan is done and reported.
    #[command(flatten)]
    pub scan: ScanArguments,
}

/// Options of every scan.
#[derive(Debug, Clone, Args)]
pub struct ScanArguments {
    /// How the report is written: table, json, jsonl, cyclonedx
    #[arg(long, short, default_value = "table", value_name = "FORMAT", value_parser = format)]
    pub format: Format,
    /// Write the report to a file instead of standard output
    #[arg(long, short, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// What to look for, separated by commas
    #[arg(long, value_delimiter = ',', default_value = "inventory", value_name = "LIST", value_parser = scanner)]
    pub scanners: Vec<Scanner>,
    /// End with code 1 where a finding is at or above this severity: info, low, medium, high, critical
    #[arg(long, value_name = "SEVERITY", value_parser = severity)]
    pub fail_on: Option<Severity>,
    /// Do not read a disk or partition, named as the ledger does: disk0/p3
    #[arg(long, value_name = "VOLUME")]
    pub exclude: Vec<String>,
    /// Show people's names in paths under home folders
    #[arg(long)]
    pub show_user_paths: bool,
    /// The key of fingerprints; made in the state directory where none is given
    #[arg(long, value_name = "FILE")]
    pub fingerprint_key_file: Option<PathBuf>,
    /// List every package in the table
    #[arg(long)]
    pub list_packages: bool,
}

/// `stillframe layout`.
#[derive(Debug, Args)]
pub struct LayoutArguments {
    /// The disks.
    #[command(flatten)]
    pub disks: Disks,
    /// Where snapshots are.
    #[command(flatten)]
    pub remote: Remote,
}

/// `stillframe files`.
#[derive(Debug, Args)]
pub struct FilesArguments {
    /// The disks.
    #[command(flatten)]
    pub disks: Disks,
    /// Read every regular file and print its hash
    #[arg(long, value_name = "HASH")]
    pub hash: Option<Hash>,
    /// Where snapshots are.
    #[command(flatten)]
    pub remote: Remote,
}

/// A hash of files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Hash {
    /// SHA-256.
    Sha256,
}

fn format(name: &str) -> Result<Format, String> {
    Format::named(name).ok_or_else(|| {
        let known: Vec<_> = Format::ALL.iter().map(|format| format.name()).collect();
        format!("known formats are {}", known.join(", "))
    })
}

fn scanner(name: &str) -> Result<Scanner, String> {
    Scanner::ALL.iter().copied().find(|scanner| scanner.name() == name).ok_or_else(|| {
        let known: Vec<_> = Scanner::ALL.iter().map(|scanner| scanner.name()).collect();
        format!("known scanners are {}", known.join(", "))
    })
}

fn severity(name: &str) -> Result<Severity, String> {
    Severity::ALL
        .iter()
        .copied()
        .find(|severity| severity.name() == name)
        .ok_or_else(|| "known severities are info, low, medium, high, critical".to_owned())
}

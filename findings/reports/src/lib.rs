//! Writers over the report: one model, many formats.
//!
//! | format | for |
//! | --- | --- |
//! | `table` | a person at a terminal |
//! | `json` | a program: one document, the model as it is, described by `docs/report.schema.json` |
//! | `jsonl` | a log pipeline: one record a line |
//! | `cyclonedx` | whatever reads a software bill of materials |
//!
//! To add one: a module in `formats/` named as the format is, a variant of [`Format`] and its lines below. A test fails
//! when a module there has no variant.
//!
//! Nothing here reads a disk, and nothing here decides what may leave: the model did. Every format says whether the
//! scan was complete.

// This crate reads no disk. What it computes with are widths, counts and sizes of lines that it lays out itself.
#![allow(
    clippy::arithmetic_side_effects,
    reason = "lengths and columns of lines laid out here; no byte of a disk"
)]

use std::fmt;
use std::io::{self, BufWriter, Write};

use stillframe_model::{Coverage, Report};

mod formats;
mod schema;
mod words;

pub use schema::schema;

/// A format that a report can be written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// For a person.
    Table,
    /// One JSON document, `stillframe/report/1`.
    Json,
    /// JSON Lines, one record a line.
    Jsonl,
    /// CycloneDX 1.6 JSON.
    Cyclonedx,
}

impl Format {
    /// Every format, the default first.
    pub const ALL: [Self; 4] = [Self::Table, Self::Json, Self::Jsonl, Self::Cyclonedx];

    /// Its name on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Table => "table",
            Self::Json => "json",
            Self::Jsonl => "jsonl",
            Self::Cyclonedx => "cyclonedx",
        }
    }

    /// What it is, in a few words for a help text.
    #[must_use]
    pub const fn about(self) -> &'static str {
        match self {
            Self::Table => "A summary to read",
            Self::Json => "One JSON document with everything",
            Self::Jsonl => "JSON Lines: one record a line",
            Self::Cyclonedx => "CycloneDX 1.6 JSON: a bill of materials",
        }
    }

    /// The format of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.name() == name)
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How the table looks. The other formats always hold everything and are the same everywhere.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Options {
    /// Whether to use colour.
    pub color: bool,
    /// The columns of the terminal; 80 where there is none. Less than [`Options::MIN_WIDTH`] is taken as that.
    pub width: Option<u16>,
    /// Every row, fault and place, where the table would list the first few and count the others.
    pub verbose: bool,
    /// Every package, where the table would count them.
    pub list_packages: bool,
}

impl Options {
    /// The narrowest table.
    pub const MIN_WIDTH: u16 = 24;
    /// The width where no terminal tells one.
    pub const DEFAULT_WIDTH: u16 = 80;
}

/// Why a report was not written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// The output does not take it: a full disk, a closed pipe.
    #[error("the report could not be written")]
    Output(#[source] io::Error),
}

impl WriteError {
    /// What went wrong, as the system tells it: a reader that went away is `BrokenPipe`.
    #[must_use]
    pub fn kind(&self) -> io::ErrorKind {
        match self {
            Self::Output(error) => error.kind(),
        }
    }
}

/// Writes `report` to `out`, and flushes it.
///
/// # Errors
/// [`WriteError::Output`] where `out` fails.
pub fn write(
    report: &Report,
    format: Format,
    options: &Options,
    out: &mut dyn Write,
) -> Result<(), WriteError> {
    let mut out = BufWriter::new(out);
    let written = match format {
        Format::Table => formats::table::write(report, options, &mut out),
        Format::Json => formats::json::write(report, &mut out),
        Format::Jsonl => formats::jsonl::write(report, &mut out),
        Format::Cyclonedx => formats::cyclonedx::write(report, &mut out),
    };
    written.and_then(|()| out.flush()).map_err(WriteError::Output)
}

/// Writes rows of the ledger as the table shows them: first what was not read, then all.
///
/// # Errors
/// [`WriteError::Output`] where `out` fails.
pub fn write_coverage(rows: &[Coverage], options: &Options, out: &mut dyn Write) -> Result<(), WriteError> {
    formats::table::write_coverage(rows, options, out).and_then(|()| out.flush()).map_err(WriteError::Output)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    #[test]
    fn every_writer_is_registered() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/formats");
        let modules: BTreeSet<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
            .filter(|module| module != "mod")
            .collect();
        let registered: BTreeSet<String> = Format::ALL.map(|format| format.to_string()).into();
        assert_eq!(modules, registered);
    }

    #[test]
    fn a_format_is_found_by_its_name() {
        for format in Format::ALL {
            assert_eq!(Format::named(format.name()), Some(format));
            assert!(!format.about().is_empty());
        }
        assert_eq!(Format::named("yaml"), None);
    }
}

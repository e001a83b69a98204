//! The writers over sample reports: each format against its own schema, the table against golden text.
//!
//! `STILLFRAME_BLESS=1 cargo test -p stillframe-reports` renews the golden files and `docs/report.schema.json`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "tests"
)]

mod cyclonedx;
mod golden;
mod json;
mod jsonl;
mod samples;
mod table;

use std::io::{self, ErrorKind, Write};

use stillframe_model::Report;
use stillframe_reports::{Format, Options, write};

/// What `format` makes of `report`.
fn written(report: &Report, format: Format, options: &Options) -> String {
    let mut out = Vec::new();
    write(report, format, options, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

/// Takes `left` bytes, then nothing: a pipe whose reader went away.
struct Pipe {
    left: usize,
}

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(self.left);
        self.left -= taken;
        if taken == 0 { Err(ErrorKind::BrokenPipe.into()) } else { Ok(taken) }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn an_output_that_fails_is_told() {
    let report = samples::complete();
    for format in Format::ALL {
        let length = written(&report, format, &Options::default()).len();
        for left in [0, 1, length / 2, length - 1] {
            let error = write(&report, format, &Options::default(), &mut Pipe { left }).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::BrokenPipe, "{format} after {left} bytes");
        }
        write(&report, format, &Options::default(), &mut Pipe { left: length }).unwrap();
    }
}

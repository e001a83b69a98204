//! The report as JSON Lines (jsonlines.org): one record a line, each an object of its own.
//!
//! Every line begins with `type` and `scan_id`, so that lines of many scans can lie in one file and a line that was
//! parted from its neighbours still says where it belongs. The other members are those that the JSON report has for
//! the same thing; `docs/report.schema.json` describes them under `$defs`.
//!
//! | `type` | lines | members |
//! | --- | --- | --- |
//! | `scan` | one, the first | `schema`, then those of `scan` |
//! | `machine` | one | `machine` |
//! | `coverage` | one a row | an item of `coverage` |
//! | `package` | one each | an item of `packages` |
//! | `finding` | one each | an item of `findings` |
//! | `snapshot` | one each | an item of `snapshots` |
//! | `cloud` | one, where the disks are in a cloud | `cloud` |
//! | `io` | one, the last | `io` |
//!
//! A stream without its `io` line was cut short.

use std::io::{self, Write};

use serde::Serialize;
use stillframe_model::{DiskText, Label, Report, Scan};

pub(crate) fn write(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    let mut lines = Lines { out, scan_id: &report.scan.id };
    lines.push("scan", &ScanMembers { schema: &report.schema, scan: &report.scan })?;
    lines.push("machine", &report.machine)?;
    lines.push_all("coverage", &report.coverage)?;
    lines.push_all("package", &report.packages)?;
    lines.push_all("finding", &report.findings)?;
    lines.push_all("snapshot", &report.snapshots)?;
    lines.push_all("cloud", report.cloud.as_slice())?;
    lines.push("io", &report.io)
}

struct Lines<'a> {
    out: &'a mut dyn Write,
    scan_id: &'a DiskText,
}

impl Lines<'_> {
    fn push_all<T: Serialize>(&mut self, record: &'static str, items: &[T]) -> io::Result<()> {
        items.iter().try_for_each(|item| self.push(record, item))
    }

    fn push<T: Serialize>(&mut self, record: &'static str, members: &T) -> io::Result<()> {
        serde_json::to_writer(&mut *self.out, &Line { record, scan_id: self.scan_id, members })?;
        self.out.write_all(b"\n")
    }
}

#[derive(Serialize)]
struct Line<'a, T> {
    #[serde(rename = "type")]
    record: &'static str,
    scan_id: &'a DiskText,
    #[serde(flatten)]
    members: &'a T,
}

#[derive(Serialize)]
struct ScanMembers<'a> {
    schema: &'a Label,
    #[serde(flatten)]
    scan: &'a Scan,
}

//! The report as one JSON document: the model as serde writes it, indented. `docs/report.schema.json` describes it.

use std::io::{self, Write};

use stillframe_model::Report;

pub(crate) fn write(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, report)?;
    out.write_all(b"\n")
}

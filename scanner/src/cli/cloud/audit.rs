//! `stillframe aws audit`: whether the audit log holds together.

use std::io;

use serde_json::json;
use stillframe_cloud::audit::{BrokenLog, verify};

use super::super::EXIT_CLEAN;
use super::super::arguments::Global;
use super::super::failure::Failure;
use super::super::output::printed;
use super::arguments::{AuditArguments, ListFormat};
use super::counted;
use super::instances::write_json;
use crate::key;

/// `stillframe aws audit`.
pub(in crate::cli) fn audit(_: &Global, arguments: &AuditArguments) -> Result<u8, Failure> {
    let path = match &arguments.file {
        Some(path) => path.clone(),
        None => key::state_directory().map_err(|error| Failure::key(&error))?.join("audit.jsonl"),
    };
    let found = verify(&path).map_err(|error| match error {
        BrokenLog::Unreadable(error) if error.kind() == io::ErrorKind::NotFound => Failure::new(
            format!("there is no audit log at {}", path.display()),
            "the first call that changes or reads something makes it; XDG_STATE_HOME may have been another",
        ),
        BrokenLog::Unreadable(error) => Failure::new(
            format!("the audit log {} cannot be read: {error}", path.display()),
            "name a log that you may read",
        ),
        BrokenLog::Line { line } => Failure::new(
            format!("line {line} of {} does not follow from the lines before it", path.display()),
            match line {
                1 => "compare it with CloudTrail by the request ids".to_owned(),
                line => format!(
                    "lines 1 to {} are as they were written; compare the others with CloudTrail by the request ids",
                    line.saturating_sub(1)
                ),
            },
        ),
    })?;
    printed(|out| match arguments.format {
        ListFormat::Table => {
            let lines = counted(usize::try_from(found.lines).unwrap_or(usize::MAX), "line", "lines");
            writeln!(out, "{}: {lines}, as they were written", path.display())?;
            if found.torn > 0 {
                let torn = usize::try_from(found.torn).unwrap_or(usize::MAX);
                writeln!(
                    out,
                    "{} by a process that was killed",
                    counted(torn, "line was torn", "lines were torn")
                )?;
            }
            writeln!(out, "last hash {}", found.last_hash)
        }
        ListFormat::Json => {
            write_json(out, &json!({"lines": found.lines, "torn": found.torn, "last_hash": found.last_hash}))
        }
    })?;
    Ok(EXIT_CLEAN)
}

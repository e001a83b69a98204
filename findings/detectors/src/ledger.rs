//! Errors of the layers below as rows and faults of the coverage ledger.

use stillframe_block::{ExhaustedBudget, ReadError};
use stillframe_bytes::{Fault, Quantity};
use stillframe_fs::FsError;
use stillframe_model::{Label, Reason, RowFault, ShownPath, Status, Value};

/// A fault of a structure, as the ledger lists it.
#[must_use]
pub fn row_fault(fault: &Fault, path: Option<ShownPath>) -> RowFault {
    let value = |quantity| match quantity {
        Quantity::Number(number) => Value::Number(number),
        Quantity::Hex(number) => Value::hex(number),
        Quantity::Text(words) => Value::Words(Label::new(words)),
    };
    RowFault {
        what: Label::new(fault.what),
        path,
        at: Some(fault.at),
        claimed: Some(value(fault.claimed)),
        found: Some(value(fault.found)),
    }
}

/// An error of a reader, as the ledger lists it.
#[must_use]
pub fn error_fault(error: &FsError, path: Option<ShownPath>) -> RowFault {
    let words = |what: &'static str| RowFault {
        what: Label::new(what),
        path: None,
        at: None,
        claimed: None,
        found: None,
    };
    let mismatch = |claimed, found| RowFault {
        claimed: Some(Value::Words(Label::new(claimed))),
        found: Some(Value::Words(Label::new(found))),
        ..words("directory entry")
    };
    let fault = match error {
        FsError::Corrupt(fault) => return row_fault(fault, path),
        FsError::Read(ReadError::OutOfBounds { offset, len, source_len }) => RowFault {
            at: Some(*offset),
            claimed: Some(Value::Number(offset.saturating_add(u64::try_from(*len).unwrap_or(u64::MAX)))),
            found: Some(Value::Number(*source_len)),
            ..words("data past the end of the volume")
        },
        FsError::Read(ReadError::Io { offset, .. }) => {
            RowFault { at: Some(*offset), ..words("the disk could not be read") }
        }
        FsError::Read(ReadError::Budget(exhausted)) => {
            RowFault { found: budget(*exhausted), ..words(budget_words(*exhausted)) }
        }
        FsError::Unsupported(what) => {
            RowFault { found: Some(Value::Words(Label::new(what))), ..words("not supported") }
        }
        FsError::Encrypted(kind) => {
            RowFault { found: Some(Value::Words(Label::new(kind))), ..words("encrypted") }
        }
        FsError::Limit { what, cap } => RowFault {
            claimed: Some(Value::Number(*cap)),
            found: Some(Value::Words(Label::new("more"))),
            ..words(what)
        },
        FsError::Reader { what, .. } => words(what),
        FsError::NotFound => mismatch("a file", "none"),
        FsError::NotADirectory => mismatch("a directory", "something else"),
        FsError::NotAFile => mismatch("a regular file", "something else"),
    };
    RowFault { path, ..fault }
}

/// Which limit was reached.
#[must_use]
pub const fn budget_words(exhausted: ExhaustedBudget) -> &'static str {
    match exhausted {
        ExhaustedBudget::Reads { .. } | ExhaustedBudget::Bytes { .. } | ExhaustedBudget::Deadline { .. } => {
            "the limit for this volume is used up"
        }
        ExhaustedBudget::Blocks { .. } => "the limit of blocks for this scan is used up",
        ExhaustedBudget::Cost { .. } => "the limit of cost for this scan is used up",
    }
}

/// The limit of the volume. Those of the whole scan stand in the report's part about the cloud.
fn budget(exhausted: ExhaustedBudget) -> Option<Value> {
    match exhausted {
        ExhaustedBudget::Reads { cap } | ExhaustedBudget::Bytes { cap } => Some(Value::Number(cap)),
        ExhaustedBudget::Deadline { seconds } => Some(Value::Number(seconds)),
        ExhaustedBudget::Blocks { .. } | ExhaustedBudget::Cost { .. } => None,
    }
}

/// How a volume that could not be opened stands in the ledger.
#[must_use]
pub fn open_failure(error: &FsError) -> (Status, Reason) {
    match error {
        FsError::Unsupported(what) => (Status::Unsupported, Reason::words(what)),
        FsError::Encrypted(kind) => (Status::Encrypted, Reason::words(kind)),
        FsError::Read(ReadError::Budget(exhausted)) => {
            (Status::Partial, Reason::words(budget_words(*exhausted)))
        }
        FsError::Read(ReadError::Io { .. }) => (Status::Partial, Reason::words("the disk could not be read")),
        FsError::Reader { what, .. } => {
            (Status::Corrupt, Reason::because("the filesystem cannot be opened", what))
        }
        _ => (Status::Corrupt, Reason::words("the filesystem cannot be opened")),
    }
}

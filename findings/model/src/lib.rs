//! What may leave a scan: findings, packages, the coverage ledger, the report.
//!
//! Raw data, personal data and business data never leave, and the types here see to it. A [`Finding`] has no field
//! that can hold bytes or free text of a file. What the program says are [`Label`]s, words of its own source. What a
//! disk says is a number, a [`DiskText`] (bounded, escaped, and used only for names: of hosts, packages, releases,
//! volumes) or a [`ShownPath`]. What was matched lives in [`Sensitive`], which cannot be shown, logged or serialised.
//!
//! This crate knows no disk, no filesystem and no cloud.

mod coverage;
mod evidence;
mod finding;
mod fingerprint;
mod location;
mod machine;
mod package;
mod path;
mod purl;
mod report;
mod sensitive;
mod text;

pub use coverage::{Coverage, CoverageKind, Reason, RowFault, Status, Value, VolumeFacts};
pub use evidence::{Evidence, State};
pub use finding::{Finding, FindingId, FindingKind, Rule, Severity};
pub use fingerprint::{Domain, Fingerprint, FingerprintKey, KEY_BYTES, KeyError, KeyId};
pub use location::Location;
pub use machine::{Kernel, Machine, OperatingSystem};
pub use package::{Package, PackageKind};
pub use path::{PathView, ShownPath, escape_path};
pub use purl::Purl;
pub use report::{
    CloudCalls, CloudCost, CloudLimits, CloudUse, DataLocality, Io, Isolation, REPORT_SCHEMA, Report, Scan,
    Scanner, SnapshotFate, SnapshotReceipt, Tool,
};
pub use sensitive::Sensitive;
pub use text::{DiskText, Label, MAX_TEXT_CHARS};

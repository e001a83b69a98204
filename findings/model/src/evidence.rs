use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{DiskText, Fingerprint, Label};

/// What a finding rests on. Every shape is closed: a number, a state, a name and version of a package, a keyed
/// fingerprint. None can hold bytes of a file.
///
/// ```compile_fail
/// use stillframe_model::Evidence;
/// let evidence = Evidence::Line { number: 3, text: "password = hunter2" };
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Evidence {
    /// Where in the file.
    ByteSpan {
        /// First byte.
        offset: u64,
        /// Length in bytes.
        len_bytes: u64,
    },
    /// On which line, from 1.
    Line {
        /// The line.
        number: u64,
    },
    /// How many.
    Count {
        /// Of what.
        what: Label,
        /// The number.
        count: u64,
    },
    /// The permission bits of a Unix mode.
    Mode {
        /// The bits, octal in the table and a number here.
        bits: u32,
    },
    /// The owner's number.
    Owner {
        /// The uid.
        uid: u32,
    },
    /// An installed package.
    Package {
        /// Its name.
        name: DiskText,
        /// The installed version.
        version: DiskText,
    },
    /// A setting.
    Setting {
        /// Its name.
        name: Label,
        /// What it should be.
        required: State,
        /// What it is.
        found: State,
    },
    /// The keyed fingerprint of what was matched.
    Fingerprint {
        /// The fingerprint.
        fingerprint: Fingerprint,
    },
}

/// The state of a setting.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum State {
    /// A number.
    Number(i64),
    /// One of the words that the rule knows.
    Word(Label),
}

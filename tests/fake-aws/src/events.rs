//! The log of what was asked and what came of it, and counters.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// One call. Its effect, if any, was had before the event was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Its place in the log, from 1.
    pub number: u64,
    /// When, on the fake's clock, in milliseconds since 1970.
    pub at_ms: u64,
    /// The account that the caller acted in.
    pub account: String,
    /// The region that the request was signed for.
    pub region: String,
    /// `CreateSnapshots`, `GetSnapshotBlock`, ….
    pub operation: String,
    /// What it was about: the ids that were given, and those that were created.
    pub resources: Vec<String>,
    /// `ok`, or the code of the refusal.
    pub effect: String,
    /// The faults of the plan that befell it.
    pub faults: Vec<String>,
    /// The HTTP status; 0 where no reply was sent.
    pub status: u16,
    /// The id that the reply carries.
    pub request_id: String,
}

/// Counts since the world began.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Calls by operation, refused ones too.
    pub calls: BTreeMap<String, u64>,
    /// Refusals by code.
    pub refusals: BTreeMap<String, u64>,
    /// Calls of `GetSnapshotBlock`.
    pub gets: u64,
    /// Calls of `ListSnapshotBlocks` and `ListChangedBlocks`.
    pub lists: u64,
    /// Bytes of blocks that were sent, or were to be.
    pub block_bytes: u64,
    /// Refusals as too fast, by the quotas or the plan.
    pub throttles: u64,
    /// Faults of the plan.
    pub faults: u64,
    /// The most snapshots that were pending at once, in one account and region.
    pub max_pending: u64,
    /// Calls that are being answered.
    pub in_flight: u64,
    /// The most of them at once.
    pub max_in_flight: u64,
    /// Whether the world is held still at an event.
    pub held: bool,
    /// The number of the last event.
    pub events: u64,
}

/// The codes that mean "too fast".
pub(crate) fn is_throttle(code: &str) -> bool {
    matches!(
        code,
        "RequestLimitExceeded" | "RequestThrottledException" | "ThrottlingException" | "Throttling"
    )
}

//! Readers that misbehave, and what becomes of the scan, of the machine that scans, and of the snapshots.
#![allow(unreachable_pub, reason = "nothing of a test's program is reached from outside")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a test fails by panicking"
)]

/// The program that is tested.
const PROGRAM: &str = env!("CARGO_BIN_EXE_stillframe-hostile");

mod attempts;
mod deaths;
#[path = "../../cloud/harness.rs"]
#[allow(dead_code, reason = "shared with the tests of the cloud, which use more of it")]
mod harness;
mod instances;
mod lies;
mod offline;

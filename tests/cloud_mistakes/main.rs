//! What people and other tools do wrong in the cloud, and what the program says of it. Belongs to the scanner's package,
//! so that it runs its binary.
#![allow(unreachable_pub, reason = "nothing of a test's program is reached from outside")]
#![allow(dead_code, reason = "the harness is shared with the other tests of the cloud")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a test fails by panicking"
)]

/// The program that is tested.
const PROGRAM: &str = env!("CARGO_BIN_EXE_stillframe");

mod accounts;
mod bad_input;
#[path = "../cloud/harness.rs"]
mod harness;
mod limits;
mod locality;
mod records;
mod roles;
mod said;
mod selection;

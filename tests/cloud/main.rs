//! The whole program against the fake of AWS. Belongs to the scanner's package, so that it runs its binary.
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
const PROGRAM: &str = env!("CARGO_BIN_EXE_stillframe");

mod faults;
mod harness;
mod kill;
mod leftovers;
mod minutes;
mod scans;
mod signals;
mod whole;

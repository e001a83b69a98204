//! Volumes that genisoimage and xorriso made and xorriso extracted, as they are and changed where it matters.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "test code over images it knows; a skipped test says so"
)]

mod corpora;
mod damaged;
mod made;
#[path = "../../../exfat/tests/support/mod.rs"]
mod support;
mod volume;

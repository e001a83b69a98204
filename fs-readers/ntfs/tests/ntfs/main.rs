//! Volumes that other tools made and listed.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "test code over images it knows; a skipped test says so"
)]

mod corpora;
mod damaged;
mod hints;
mod hostile;
mod made;
mod metadata;
mod mutation;
mod second_reader;
mod support;
mod wof;

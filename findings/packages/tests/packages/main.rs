//! Package databases compared with what their own tools say, with published expected values, and under damage.
#![allow(clippy::print_stderr, reason = "a test that cannot run says so")]
#![allow(
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    reason = "tests compute with numbers of their own"
)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "a test fails by panicking, in the functions that it calls too"
)]

mod corpora;
mod dpkg_tool;
mod hostile;
mod mutation;
mod rpm_tools;
mod support;
mod wal;

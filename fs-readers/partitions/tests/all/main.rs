//! Partition tables that other tools made, read by this crate and by them.
//!
//! The truth is `sfdisk --json` and `partx` (512-byte sectors) and `fdisk -b 4096` on images that `sfdisk`, `sgdisk` and
//! `fdisk` make at test time, and the corpora of real images where `STILLFRAME_CORPORA` names their folder.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::print_stderr,
    reason = "tests read their own images and fail by panicking"
)]

mod corpora;
mod damaged;
mod judged;
mod made;
mod mutated;
mod tools;

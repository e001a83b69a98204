//! What the probe says of volumes that other tools made.
//!
//! The truth is `blkid` on images that the formats' own tools make at test time, and the corpora of real images where
//! `STILLFRAME_CORPORA` names their folder.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    clippy::print_stderr,
    reason = "tests read their own images and fail by panicking"
)]

mod corpora;
mod ext_copies;
mod leftovers;
mod made;
mod near_misses;
mod superblocks;
mod tools;

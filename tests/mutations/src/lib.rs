//! Golden disks changed by seed, with their checksums made right again, and read in full.
//!
//! A change of one byte behind a checksum tests the checksum and nothing else. So [`Covers`] finds what is covered on a
//! sound disk and where its checksum is kept, and [`Covers::write`] makes each right again after a change, and those that
//! cover that one. [`Golden`] makes mutants of an image by number, always the same; [`read_all`] asks a reader everything
//! that the trait offers; the program `mutate` does both many times over in processes of its own, and says what it met.
//!
//! For tests only, and for the fuzz targets.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    clippy::indexing_slicing,
    clippy::expect_used,
    clippy::panic,
    reason = "dev-only: layouts are those of our own golden disks, dice are ours, and a mistake should end the test"
)]

mod covers;
mod dice;
mod disk;
mod exercise;
mod golden;
mod layout;
mod operations;
mod truth;

pub use covers::{Cover, Covers, Depth, Stored, Sum};
pub use dice::Dice;
pub use disk::{Disk, Mutant};
pub use exercise::{Answer, ENTRIES, Listing, Row, Sample, read_all, read_all_into, small_budget};
pub use golden::{Golden, MAX_WRITTEN_BYTES, Opened, Refreshed, Volume, volumes};
pub use truth::{Guarded, differing};

//! Tests across the wings: whole disks through the whole program. They belong to the scanner's package, so that they
//! run its binary.

mod disks;
mod harness;
mod hostile;
mod listing;
mod listings;

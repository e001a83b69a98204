//! Tests across the wings: whole disks through the whole program. They belong to the scanner's package, so that they
//! run its binary.
#![allow(unreachable_pub, reason = "nothing of a test's program is reached from outside")]

mod canary;
mod command_line;
mod corpora;
mod crafted;
mod disks;
mod harness;
mod hostile;
mod listing;
mod listings;
mod mutation;
mod one_tree;
mod packages;
mod purl;
mod releases;
mod reports;
mod second_reader;
mod shapes;
mod walk;

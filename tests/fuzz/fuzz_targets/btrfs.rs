//! The reader of btrfs, its log tree, and those on several devices, over changed golden disks.
#![no_main]

use libfuzzer_sys::fuzz_target;
use stillframe_fuzz::{mutated, prepare};

fuzz_target!(
    init: prepare("btrfs"),
    |data: &[u8]| mutated("btrfs", data)
);

//! The reader of XFS, and its log on those that were not unmounted, over changed golden disks.
#![no_main]

use libfuzzer_sys::fuzz_target;
use stillframe_fuzz::{mutated, prepare};

fuzz_target!(
    init: prepare("xfs"),
    |data: &[u8]| mutated("xfs", data)
);

//! The reader of exFAT, over changed golden disks.
#![no_main]

use libfuzzer_sys::fuzz_target;
use stillframe_fuzz::{mutated, prepare};

fuzz_target!(
    init: prepare("exfat"),
    |data: &[u8]| mutated("exfat", data)
);

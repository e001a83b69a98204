//! The reader of NTFS, its streams, and what it compresses, over changed golden disks.
#![no_main]

use libfuzzer_sys::fuzz_target;
use stillframe_fuzz::{mutated, prepare};

fuzz_target!(
    init: prepare("ntfs"),
    |data: &[u8]| mutated("ntfs", data)
);

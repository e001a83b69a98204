//! The reader of squashfs with each of its compressors, over changed golden disks.
#![no_main]

use libfuzzer_sys::fuzz_target;
use stillframe_fuzz::{mutated, prepare};

fuzz_target!(
    init: prepare("squashfs"),
    |data: &[u8]| mutated("squashfs", data)
);

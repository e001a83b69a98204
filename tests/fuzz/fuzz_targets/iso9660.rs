//! The reader of ISO 9660 with Rock Ridge and Joliet, over changed golden disks.
#![no_main]

use libfuzzer_sys::fuzz_target;
use stillframe_fuzz::{mutated, prepare};

fuzz_target!(
    init: prepare("iso"),
    |data: &[u8]| mutated("iso", data)
);

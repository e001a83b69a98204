//! The reader of btrfs, its log tree, and those on several devices, over changed golden disks.
#![no_main]

use libfuzzer_sys::fuzz_target;
use stillframe_fuzz::{mutated, only_ours};

fuzz_target!(
    init: only_ours(),
    |data: &[u8]| mutated("btrfs", data)
);

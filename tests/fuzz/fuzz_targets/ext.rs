//! The reader of ext2, ext3 and ext4, their journals and fast commits, and extended attributes, over changed golden disks.
#![no_main]

use libfuzzer_sys::fuzz_target;
use stillframe_fuzz::{mutated, prepare};

fuzz_target!(
    init: prepare("ext"),
    |data: &[u8]| mutated("ext", data)
);

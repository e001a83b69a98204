//! What a volume holds, by its content.
#![no_main]

use libfuzzer_sys::fuzz_target;
use stillframe_block::MemorySource;
use stillframe_probe::probe;

fuzz_target!(|data: &[u8]| {
    let _ = probe(&MemorySource(data.to_vec()));
    // Signatures lie up to 64 KiB in: the same bytes behind a hole.
    let mut behind = vec![0; 64 << 10];
    behind.extend(data);
    let _ = probe(&MemorySource(behind));
});

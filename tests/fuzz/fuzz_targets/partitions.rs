//! Partition tables over a changed disk with logical partitions or a GPT, and over the fuzzer's bytes alone.
#![no_main]

use libfuzzer_sys::fuzz_target;
use stillframe_block::MemorySource;
use stillframe_fuzz::patched;
use stillframe_mutations::Depth;
use stillframe_partitions::read_table;

fuzz_target!(|data: &[u8]| {
    let _ = read_table(&MemorySource(data.to_vec()));
    for golden in ["mbr-logical", "gpt-4k", "gpt-backup"] {
        let _ = read_table(&patched(golden, Depth::Metadata, data));
    }
});

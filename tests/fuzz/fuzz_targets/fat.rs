//! The reader of FAT over the fuzzer's bytes: the format is simple enough for a fuzzer to find.
#![no_main]

use libfuzzer_sys::fuzz_target;
use stillframe_block::MemorySource;
use stillframe_probe::FsKind;

fuzz_target!(|data: &[u8]| {
    // Volumes are whole sectors long, and small ones are FAT12.
    let mut volume = data.to_vec();
    volume.resize(data.len().next_multiple_of(512), 0);
    stillframe_fuzz::read_all(FsKind::Fat, MemorySource(volume));
});

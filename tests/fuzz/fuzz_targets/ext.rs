//! The reader of ext over changed golden disks; the first byte chooses one.
#![no_main]

use libfuzzer_sys::fuzz_target;
use stillframe_fuzz::{patched, read_all};
use stillframe_probe::FsKind;

const GOLDENS: &[&str] = &[
    "ext4-extents",
    "ext3-dirty",
    "ext4-journal-csum-v2",
    "ext4-inline-data",
    "ext4-htree",
    "ext4-fast-commit",
    "ext2-sparse",
];

fuzz_target!(|data: &[u8]| {
    let Some((choice, changes)) = data.split_first() else { return };
    read_all(FsKind::Ext, patched(GOLDENS[usize::from(*choice) % GOLDENS.len()], changes));
});

//! The reader of ntfs over changed golden disks; the first byte chooses one.
#![no_main]

use libfuzzer_sys::fuzz_target;
use stillframe_fuzz::{patched, read_all};
use stillframe_probe::FsKind;

const GOLDENS: &[&str] = &["ntfs-streams"];

fuzz_target!(|data: &[u8]| {
    let Some((choice, changes)) = data.split_first() else { return };
    read_all(FsKind::Ntfs, patched(GOLDENS[usize::from(*choice) % GOLDENS.len()], changes));
});

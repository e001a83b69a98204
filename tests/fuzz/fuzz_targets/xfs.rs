//! The reader of xfs over changed golden disks; the first byte chooses one.
#![no_main]

use libfuzzer_sys::fuzz_target;
use stillframe_fuzz::{patched, read_all};
use stillframe_probe::FsKind;

const GOLDENS: &[&str] = &["xfs-1k", "xfs-dirty", "xfs-forms", "xfs-v4"];

fuzz_target!(|data: &[u8]| {
    let Some((choice, changes)) = data.split_first() else { return };
    read_all(FsKind::Xfs, patched(GOLDENS[usize::from(*choice) % GOLDENS.len()], changes));
});

//! dpkg's status file, and the files of `status.d`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use stillframe_fuzz::file;
use stillframe_packages::dpkg;

fuzz_target!(|data: &[u8]| {
    let _ = dpkg::read(&mut file(data));
    let _ = dpkg::read_status_d(&mut file(data));
});

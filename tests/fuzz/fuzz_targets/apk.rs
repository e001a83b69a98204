//! apk's list of installed packages.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let _ = stillframe_packages::apk::read(&mut stillframe_fuzz::file(data));
});

//! A report of another process, read back: what is read is written again as it was.
#![no_main]

use libfuzzer_sys::fuzz_target;
use stillframe_model::Report;

fuzz_target!(|data: &[u8]| {
    let Ok(report) = serde_json::from_slice::<Report>(data) else { return };
    let text = serde_json::to_string(&report).unwrap();
    assert_eq!(serde_json::from_str::<Report>(&text).unwrap(), report);
});

//! The three databases of rpm. The first byte chooses one, the next two where a write-ahead log begins.
#![no_main]

use libfuzzer_sys::fuzz_target;
use stillframe_fuzz::file;
use stillframe_packages::rpm;

const BERKELEY: &[u8] = &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x61, 0x15, 6, 0, 9, 0, 0, 0, 0, 2, 0, 0, 0, 8];
const NDB: &[u8] = b"RpmP\0\0\0\0";
const SQLITE: &[u8] = b"SQLite format 3\0\x02\0\x01\x01\0\x40\x20\x20";

fuzz_target!(|data: &[u8]| {
    let [choice, low, high, rest @ ..] = data else { return };
    let beginning = [BERKELEY, NDB, SQLITE, &[]][usize::from(choice % 4)];
    let middle = usize::from(u16::from_le_bytes([*low, *high])).min(rest.len());
    let (database, log) = rest.split_at(middle);
    let _ = rpm::read(&mut file(&[beginning, database].concat()), Some(&mut file(log)));
    let _ = rpm::read(&mut file(&[beginning, rest].concat()), None);
});

//! The partitions of the golden disks.

use std::sync::Arc;

use stillframe_block::{BlockSource, MemorySource};
use stillframe_fixtures::golden;
use stillframe_fs::{FsError, ReadOnlyFs};

pub(crate) const ROCK_RIDGE: usize = 1;
pub(crate) const JOLIET: usize = 2;
pub(crate) const PLAIN: usize = 3;
pub(crate) const SECTIONS: usize = 4;
const MIB: u64 = 1 << 20;

pub(crate) fn open(source: Arc<dyn BlockSource>) -> Result<Box<dyn ReadOnlyFs>, FsError> {
    stillframe_iso9660::open(source)
}

/// Partition `number` of `iso-forms`: one follows the other, from the first MiB on.
pub(crate) fn bytes(number: usize) -> Vec<u8> {
    let disk = golden("iso-forms");
    let mut identifier = [0; 5];
    let mut starts = Vec::new();
    for start in (MIB..disk.len_bytes() - MIB).step_by(MIB as usize) {
        disk.read_exact_at(start + (32 << 10) + 1, &mut identifier).unwrap();
        if &identifier == b"CD001" {
            starts.push(start);
        }
    }
    assert_eq!(starts.len(), 5);
    starts.push(disk.len_bytes() - MIB);
    let mut bytes = vec![0; (starts[number] - starts[number - 1]) as usize];
    disk.read_exact_at(starts[number - 1], &mut bytes).unwrap();
    bytes
}

pub(crate) fn open_bytes(bytes: Vec<u8>) -> Result<Box<dyn ReadOnlyFs>, FsError> {
    open(Arc::new(MemorySource(bytes)))
}

/// Where `needle` lies first.
pub(crate) fn position(haystack: &[u8], needle: &[u8]) -> usize {
    haystack.windows(needle.len()).position(|window| window == needle).unwrap()
}

//! The partitions of the golden disks.

use std::sync::Arc;

use stillframe_block::{BlockSource, MemorySource, SparseMemorySource, WindowSource};
use stillframe_fixtures::golden;
use stillframe_fs::{FsError, ReadOnlyFs};

pub(crate) const PARTITIONS: usize = 6;
const MIB: u64 = 1 << 20;

pub(crate) fn open(source: Arc<dyn BlockSource>) -> Result<Box<dyn ReadOnlyFs>, FsError> {
    stillframe_squashfs::open(source)
}

/// Where partition `number` of `squashfs-forms` lies: one follows the other, from the first MiB on.
pub(crate) fn partition(number: usize) -> WindowSource {
    let disk: Arc<dyn BlockSource> = Arc::new(golden("squashfs-forms"));
    let mut magic = [0; 4];
    let mut starts = Vec::new();
    for start in (MIB..disk.len_bytes()).step_by(MIB as usize) {
        disk.read_exact_at(start, &mut magic).unwrap();
        if &magic == b"hsqs" {
            starts.push(start);
        }
    }
    assert_eq!(starts.len(), PARTITIONS);
    starts.push(disk.len_bytes() - MIB);
    WindowSource::new(disk, starts[number - 1], starts[number] - starts[number - 1])
}

pub(crate) fn bytes(number: usize) -> Vec<u8> {
    let source = partition(number);
    let mut bytes = vec![0; source.len_bytes() as usize];
    source.read_exact_at(0, &mut bytes).unwrap();
    bytes
}

pub(crate) fn sparse(bytes: &[u8]) -> SparseMemorySource {
    SparseMemorySource::from_reader(bytes).unwrap()
}

pub(crate) fn open_bytes(bytes: Vec<u8>) -> Result<Box<dyn ReadOnlyFs>, FsError> {
    open(Arc::new(MemorySource(bytes)))
}

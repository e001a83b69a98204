//! What the `ntfs` crate says, in words of ours.

use std::panic::{AssertUnwindSafe, catch_unwind};

use ntfs::NtfsError;
use stillframe_bytes::Fault;
use stillframe_fs::FsError;

const READER: &str = "ntfs";

/// Runs what calls the crate: its panic on a crafted volume is an error of this one call.
pub(crate) fn guarded<T>(call: impl FnOnce() -> Result<T, FsError>) -> Result<T, FsError> {
    catch_unwind(AssertUnwindSafe(call))
        .unwrap_or(Err(FsError::Reader { reader: READER, what: "it panicked" }))
}

/// `error`, met while reading the structure that begins at byte `at` of the volume. The crate's own positions are not
/// used: they may lie in the view of the MFT that it is given, which no volume has.
pub(crate) fn from_crate(error: &NtfsError, at: u64) -> FsError {
    let (what, claimed) = match error {
        NtfsError::Io(error) => return FsError::from_io(error, READER),
        NtfsError::InvalidFileRecordNumber { .. } => return FsError::NotFound,
        NtfsError::InvalidTwoByteSignature { .. } => ("boot sector signature", "0x55 0xaa"),
        NtfsError::InvalidFileSignature { .. } => ("file record signature", "FILE"),
        NtfsError::InvalidFileAllocatedSize { .. } | NtfsError::InvalidFileUsedSize { .. } => {
            ("file record size", "no more than a record")
        }
        NtfsError::UpdateSequenceNumberMismatch { .. }
        | NtfsError::InvalidUpdateSequenceCount { .. }
        | NtfsError::InvalidUpdateSequenceNumberRange { .. }
        | NtfsError::UpdateSequenceArrayExceedsRecordSize { .. } => {
            ("file record update sequence", "one number in every sector")
        }
        NtfsError::InvalidAttributeLength { .. } => ("attribute length", "within its file record"),
        NtfsError::InvalidAttributeNameLength { .. } | NtfsError::InvalidAttributeNameOffset { .. } => {
            ("attribute name", "within its attribute")
        }
        NtfsError::InvalidResidentAttributeValueLength { .. }
        | NtfsError::InvalidResidentAttributeValueOffset { .. } => ("resident value", "within its attribute"),
        NtfsError::InvalidStructuredValueSize { .. } => ("attribute value size", "that of its type"),
        NtfsError::AttributeNotFound { .. } => ("attribute", "present"),
        NtfsError::InvalidMftLcn => ("boot sector MFT cluster", "not 0"),
        NtfsError::UnsupportedClusterSize { .. } | NtfsError::InvalidSectorsPerCluster { .. } => {
            ("boot sector cluster size", "a power of two from 512 to 2 MiB")
        }
        NtfsError::UnsupportedSectorSize { .. } => {
            ("boot sector sector size", "a power of two from 512 to 4096")
        }
        NtfsError::InvalidRecordSizeInfo { .. } => ("boot sector file record size", "1024 to 4096"),
        _ => return FsError::Reader { reader: READER, what: "its structures contradict each other" },
    };
    Fault::new(what, at, claimed, "something else").into()
}

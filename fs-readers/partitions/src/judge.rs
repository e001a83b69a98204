//! Whether a table is one, and what it counts in: judged by what lies on the disk.

use stillframe_block::{BlockSource, ReadError};
use stillframe_probe::{Content, EncryptionKind, FsKind, MdVersion, MemberKind, UnsupportedKind, recognise};

use crate::mbr::Mbr;
use crate::table::{Partition, PartitionTable, Scheme};
use crate::window::Window;

/// Partitions whose content is looked at, to bound the reads.
const LOOKED_AT_CAP: usize = 8;

/// Whether the first sector belongs to what fills the whole disk, and is no MBR.
///
/// A boot sector of FAT, exFAT, NTFS, ReFS or BitLocker that makes sense lies where an MBR would, and its code where the
/// table would. All other formats leave the sector to boot code: there, a table with an entry is a table (their tools
/// clear the sector, so it was written later), and a table without one is boot code.
pub(crate) fn is_whole_disk_content(disk: &dyn BlockSource, mbr: &Mbr) -> Result<bool, ReadError> {
    let Some(found) = recognise(disk)? else { return Ok(false) };
    let signature_is_in_first_sector = std::iter::once(&found.content).chain(&found.others).any(|content| {
        matches!(
            content,
            Content::Filesystem(FsKind::Fat | FsKind::ExFat | FsKind::Ntfs)
                | Content::Unsupported(UnsupportedKind::Refs)
                | Content::Encrypted(EncryptionKind::BitLocker)
        )
    });
    let is_dynamic_disk = found.content == Content::Member(MemberKind::LogicalDiskManager);
    Ok(signature_is_in_first_sector || (mbr.is_empty() && !is_dynamic_disk))
}

/// The table in sectors of 512 bytes, unless nothing is recognised there and something is at 4096.
///
/// What counts is an extended boot record in its place and content that the probe recognises. On a disk without either
/// (nothing was formatted yet) 512 is assumed.
pub(crate) fn with_sector_bytes(disk: &dyn BlockSource, mbr: &Mbr) -> Result<PartitionTable, ReadError> {
    let (small, small_records) = mbr.table(disk, 512)?;
    if small.partitions.is_empty() || small_records > 0 || recognised(disk, &small)? {
        return Ok(small);
    }
    let (large, large_records) = mbr.table(disk, 4096)?;
    let large_fits = large.partitions.iter().all(|partition| partition.end_bytes() <= disk.len_bytes());
    Ok(if large_fits && (large_records > 0 || recognised(disk, &large)?) { large } else { small })
}

fn recognised(disk: &dyn BlockSource, table: &PartitionTable) -> Result<bool, ReadError> {
    for partition in table.contents().take(LOOKED_AT_CAP) {
        if is_recognised(disk, partition)? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn is_recognised(disk: &dyn BlockSource, partition: &Partition) -> Result<bool, ReadError> {
    // What covers the first sector (hybrid discs) would be recognised at any sector size.
    if partition.start_bytes == 0 {
        return Ok(false);
    }
    let window = Window::new(disk, partition.start_bytes, partition.len_bytes);
    Ok(recognise(&window)?.is_some())
}

/// Whether the whole disk is a RAID member, and the table is the array's or what an earlier use left.
///
/// A superblock at the end that lies inside a partition is that partition's own. One at the start (md 1.1, 1.2) beside a
/// table is a leftover where a partition holds something that the array's data would not explain: the array's data
/// begins at its `data_offset`, a partition elsewhere.
pub(crate) fn belongs_to_array(disk: &dyn BlockSource, table: &PartitionTable) -> Result<bool, ReadError> {
    if table.scheme == Scheme::None {
        return Ok(false);
    }
    let Some(found) = recognise(disk)? else { return Ok(false) };
    let is_in_partition = table
        .contents()
        .any(|partition| (partition.start_bytes..partition.end_bytes()).contains(&found.signature_at));
    match found.content {
        Content::Member(
            MemberKind::Md(MdVersion::V0_90 | MdVersion::V1_0) | MemberKind::IntelMatrix | MemberKind::Ddf,
        ) => Ok(!is_in_partition),
        Content::Member(MemberKind::Md(MdVersion::V1_1 | MdVersion::V1_2)) => {
            let data_at = md_data_offset(disk, found.signature_at)?;
            for partition in table.contents().take(LOOKED_AT_CAP) {
                if partition.start_bytes != data_at && is_recognised(disk, partition)? {
                    return Ok(false);
                }
            }
            Ok(!is_in_partition)
        }
        _ => Ok(false),
    }
}

/// `data_offset` of the md 1 superblock at `at`, in bytes.
fn md_data_offset(disk: &dyn BlockSource, at: u64) -> Result<u64, ReadError> {
    let mut sectors = [0; 8];
    disk.read_exact_at(at.saturating_add(128), &mut sectors)?;
    Ok(u64::from_le_bytes(sectors).saturating_mul(512))
}

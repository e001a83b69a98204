//! The inode core and its forks (XFS Algorithms & Data Structures, "On-disk Inode").

use stillframe_bytes::{Fault, Quantity, Structure};
use stillframe_fs::{FileFlags, FileKind, FsError, Timestamp};

use crate::checksum::{check_sequence_number, checksum_matches};
use crate::superblock::Superblock;
use crate::volume::{Volume, to_u64, to_usize};

pub(crate) const MAGIC: u16 = 0x494e;
const CRC_OFFSET: usize = 100;
const SEQUENCE_NUMBER_OFFSET: usize = 112;
/// Where the data fork begins: after the core of version 3, or of versions 1 and 2.
const CORE_V3_BYTES: usize = 176;
const CORE_V2_BYTES: usize = 100;

/// `di_flags`: the content lies on the realtime device.
const FLAG_REALTIME: u16 = 1 << 0;
/// `di_flags2`.
pub(crate) const FLAG2_BIG_TIME: u64 = 1 << 3;
pub(crate) const FLAG2_LARGE_EXTENT_COUNTS: u64 = 1 << 4;
/// Big timestamps count nanoseconds from this many seconds before 1970: the least that 32 bits could say.
const BIG_TIME_EPOCH_SECONDS: i64 = 1 << 31;

/// How the data fork is kept (`di_format`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Device,
    Local,
    Extents,
    Btree,
}

/// One inode, checked.
#[derive(Debug)]
pub(crate) struct Inode {
    pub(crate) number: u64,
    /// Where it lies, for faults.
    pub(crate) at: u64,
    pub(crate) mode: u16,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) links: u32,
    pub(crate) modified: Timestamp,
    pub(crate) changed: Timestamp,
    pub(crate) size_bytes: u64,
    pub(crate) flags: FileFlags,
    pub(crate) is_realtime: bool,
    pub(crate) data: Fork,
    /// `None` where the inode has no room for one.
    pub(crate) attributes: Option<Fork>,
}

/// What an inode keeps: its content, or its extended attributes.
#[derive(Debug)]
pub(crate) struct Fork {
    pub(crate) format: Format,
    pub(crate) extent_count: u64,
    /// What of it lies in the inode.
    pub(crate) bytes: Box<[u8]>,
}

impl Inode {
    pub(crate) fn read(volume: &Volume, superblock: &Superblock, number: u64) -> Result<Self, FsError> {
        let at = superblock
            .inode_offset(number)
            .ok_or_else(|| Fault::new("inode number", 0, superblock.data_blocks, number))?;
        let mut bytes = vec![0; superblock.inode_bytes];
        volume.read_clustered(at, &mut bytes)?;
        Ok(Self::parse(superblock, number, at, &bytes)?)
    }

    fn parse(superblock: &Superblock, number: u64, at: u64, bytes: &[u8]) -> Result<Self, Fault> {
        let core = Structure::new("inode", at, bytes);
        let magic = core.u16_be(0)?;
        if magic != MAGIC {
            return Err(core.fault(
                "inode magic",
                0,
                Quantity::Hex(MAGIC.into()),
                Quantity::Hex(magic.into()),
            ));
        }
        let version = core.u8(4)?;
        let flags2 = check_version(superblock, number, version, &core)?;
        let mode = core.u16_be(2)?;
        if mode == 0 {
            return Err(core.fault("inode mode", 2, "a file", "a free inode"));
        }
        let size_bytes = core.u64_be(56)?;
        if i64::try_from(size_bytes).is_err() {
            return Err(core.fault("inode size", 56, "at most 8 EiB", size_bytes));
        }
        let (extent_count, attribute_extents) = extent_counts(superblock, &core, flags2)?;
        let (data, attributes) = forks(&core, version)?;
        let attributes = match attributes {
            Some(bytes) => Some(Fork {
                format: format(&core, 83)?,
                extent_count: attribute_extents,
                bytes: bytes.into(),
            }),
            None => None,
        };
        Ok(Self {
            number,
            at,
            mode,
            uid: core.u32_be(8)?,
            gid: core.u32_be(12)?,
            links: if version == 1 { core.u16_be(6)?.into() } else { core.u32_be(16)? },
            modified: timestamp(&core, 40, flags2 & FLAG2_BIG_TIME != 0)?,
            changed: timestamp(&core, 48, flags2 & FLAG2_BIG_TIME != 0)?,
            size_bytes,
            flags: file_flags(core.u16_be(90)?, flags2),
            is_realtime: core.u16_be(90)? & FLAG_REALTIME != 0,
            data: Fork { format: format(&core, 5)?, extent_count, bytes: data.into() },
            attributes,
        })
    }

    pub(crate) fn kind(&self) -> FileKind {
        FileKind::from_mode(self.mode.into())
    }

    /// The data fork of a file that is kept in its inode.
    pub(crate) fn local_data(&self) -> Result<&[u8], Fault> {
        let bytes = &self.data.bytes;
        let content = bytes.get(..to_usize(self.size_bytes));
        content.ok_or_else(|| Fault::new("inode size", self.at, bytes.len(), self.size_bytes))
    }
}

/// Refuses a sound inode of version 3 that carries this UUID and is newer than `head`, where the log ends.
pub(crate) fn check_age(bytes: &[u8], at: u64, uuid: &[u8; 16], head: u64) -> Result<(), Fault> {
    let core = Structure::new("inode", at, bytes);
    if core.u16_be(0)? != MAGIC || core.u8(4)? != 3 || core.array(160)? != *uuid {
        return Ok(());
    }
    let place = at.saturating_add(to_u64(SEQUENCE_NUMBER_OFFSET));
    match check_sequence_number(core.u64_be(SEQUENCE_NUMBER_OFFSET)?, head, place) {
        Err(fault) if checksum_matches(bytes, CRC_OFFSET) => Err(fault),
        _ => Ok(()),
    }
}

/// Checks what version 5 says of itself in each inode; gives `di_flags2`.
fn check_version(
    superblock: &Superblock,
    number: u64,
    version: u8,
    core: &Structure<'_>,
) -> Result<u64, Fault> {
    if !superblock.has_checksums {
        return match version {
            1 | 2 => Ok(0),
            other => Err(core.fault("inode version", 4, "1 or 2", other)),
        };
    }
    if version != 3 {
        return Err(core.fault("inode version", 4, 3_u8, version));
    }
    if !checksum_matches(core.bytes(), CRC_OFFSET) {
        return Err(core.fault("inode checksum", CRC_OFFSET, "a match", "none"));
    }
    let own_number = core.u64_be(152)?;
    if own_number != number {
        return Err(core.fault("inode number", 152, number, own_number));
    }
    if core.array::<16>(160)? != superblock.metadata_uuid {
        return Err(core.fault("inode UUID", 160, "this filesystem's", "another"));
    }
    core.u64_be(120)
}

fn format(core: &Structure<'_>, offset: usize) -> Result<Format, Fault> {
    match core.u8(offset)? {
        0 => Ok(Format::Device),
        1 => Ok(Format::Local),
        2 => Ok(Format::Extents),
        3 => Ok(Format::Btree),
        other => Err(core.fault("inode format", offset, "0 to 3", other)),
    }
}

/// Of the data fork and of the attribute fork.
fn extent_counts(superblock: &Superblock, core: &Structure<'_>, flags2: u64) -> Result<(u64, u64), Fault> {
    if flags2 & FLAG2_LARGE_EXTENT_COUNTS == 0 {
        return Ok((core.u32_be(76)?.into(), core.u16_be(80)?.into()));
    }
    if superblock.has_large_extent_counts {
        return Ok((core.u64_be(24)?, core.u32_be(76)?.into()));
    }
    Err(core.fault("inode extent count", 120, "small", "large"))
}

/// The data fork ends where the attribute fork begins, or with the inode.
fn forks<'a>(core: &Structure<'a>, version: u8) -> Result<(&'a [u8], Option<&'a [u8]>), Fault> {
    let start = if version == 3 { CORE_V3_BYTES } else { CORE_V2_BYTES };
    let forks = core.rest("inode forks", start)?;
    let fork_offset = usize::from(core.u8(82)?).saturating_mul(8);
    if fork_offset > forks.len() {
        return Err(core.fault("inode fork offset", 82, forks.len(), fork_offset));
    }
    if fork_offset == 0 {
        return Ok((forks.bytes(), None));
    }
    let (data, attributes) = forks.bytes().split_at(fork_offset);
    Ok((data, Some(attributes)))
}

/// `di_flags` and `di_flags2` as the kernel shows them to `lsattr`.
fn file_flags(flags: u16, flags2: u64) -> FileFlags {
    let known = [
        (1 << 3, FileFlags::IMMUTABLE),
        (1 << 4, FileFlags::APPEND_ONLY),
        (1 << 5, FileFlags::SYNCHRONOUS),
        (1 << 6, FileFlags::NO_ACCESS_TIME),
        (1 << 7, FileFlags::NO_DUMP),
        // New files get the project of their folder.
        (1 << 9, FileFlags(0x2000_0000)),
    ];
    let shown = known.iter().filter(|(bit, _)| flags & bit != 0);
    // Direct access to memory.
    let first = if flags2 & 1 == 0 { FileFlags::default() } else { FileFlags(0x200_0000) };
    shown.fold(first, |all, (_, flag)| all.and(*flag))
}

fn timestamp(core: &Structure<'_>, offset: usize, is_big: bool) -> Result<Timestamp, Fault> {
    if !is_big {
        let seconds = core.u32_be(offset)?.cast_signed();
        let nanoseconds = core.u32_be(offset.saturating_add(4))?;
        return Ok(Timestamp { seconds: seconds.into(), nanoseconds: nanoseconds.min(999_999_999) });
    }
    let nanoseconds = core.u64_be(offset)?;
    let seconds = i64::try_from(nanoseconds / 1_000_000_000).unwrap_or(i64::MAX);
    Ok(Timestamp {
        seconds: seconds.saturating_sub(BIG_TIME_EPOCH_SECONDS),
        nanoseconds: u32::try_from(nanoseconds % 1_000_000_000).unwrap_or(0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_of_time_are_read() {
        // 2026-11-23 00:00:00.5 UTC in nanoseconds from 1901-12-13 20:45:52.
        let mut bytes = [0; 8];
        let nanoseconds = (1_795_392_000_u64 + (1 << 31)) * 1_000_000_000 + 500_000_000;
        bytes.copy_from_slice(&nanoseconds.to_be_bytes());
        let time = timestamp(&Structure::new("inode", 0, &bytes), 0, true).unwrap();
        assert_eq!(time, Timestamp { seconds: 1_795_392_000, nanoseconds: 500_000_000 });

        bytes[..4].copy_from_slice(&(-5_i32).to_be_bytes());
        bytes[4..].copy_from_slice(&9_u32.to_be_bytes());
        let time = timestamp(&Structure::new("inode", 0, &bytes), 0, false).unwrap();
        assert_eq!(time, Timestamp { seconds: -5, nanoseconds: 9 });
    }
}

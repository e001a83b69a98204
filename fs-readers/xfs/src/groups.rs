//! The headers of allocation groups (XFS Algorithms & Data Structures, "AG Free Space Block" and "AG Inode Management"):
//! nothing that is read here needs what they say of free space and inodes, but they change with almost every transaction,
//! so none tells sooner that the log's end is not where it seems to be. A mount reads them and refuses such a disk.

use std::ops::Range;

use stillframe_block::BlockSource;
use stillframe_bytes::{Fault, Structure};

use crate::checksum::{check_sequence_number, checksum_matches};
use crate::superblock::Superblock;
use crate::volume::{to_u64, to_usize};

/// Of a filesystem that has grown much only the first groups are asked: each costs a read in another place.
const GROUPS_AT_MOST: u64 = 16;

/// Where a header says what it is.
struct Header {
    /// Which sector of the group it is.
    sector: usize,
    magic: &'static [u8],
    uuid: usize,
    crc: usize,
    sequence_number: usize,
}

const HEADERS: [Header; 2] = [
    Header { sector: 1, magic: b"XAGF", uuid: 64, crc: 216, sequence_number: 208 },
    Header { sector: 2, magic: b"XAGI", uuid: 296, crc: 312, sequence_number: 320 },
];

/// Refuses a volume with a group that is newer than `head`, where the log ends. Groups whose headers cannot be read, or
/// are damaged, say nothing.
pub(crate) fn check(source: &dyn BlockSource, superblock: &Superblock, head: u64) -> Result<(), Fault> {
    if !superblock.has_checksums {
        return Ok(());
    }
    let sector_bytes = to_usize(superblock.sector_bytes);
    let len = sector_bytes.saturating_mul(HEADERS.len().saturating_add(1));
    let place = |group: u64| {
        let start = superblock.group_offset(group, 0)?;
        let end = start.checked_add(to_u64(len))?;
        (end <= source.len_bytes()).then_some(start..end)
    };
    let groups: Vec<Range<u64>> = (0..superblock.ag_count.min(GROUPS_AT_MOST)).filter_map(place).collect();
    source.prefetch(&groups);
    let mut bytes = vec![0; len];
    for group in groups {
        if source.read_exact_at(group.start, &mut bytes).is_err() {
            continue;
        }
        let group = Structure::new("allocation group", group.start, &bytes);
        for header in &HEADERS {
            let start = header.sector.saturating_mul(sector_bytes);
            let fields = group.part("allocation group header", start, sector_bytes)?;
            let is_whole = fields.slice(0, header.magic.len())? == header.magic
                && fields.array(header.uuid)? == superblock.metadata_uuid
                && checksum_matches(fields.bytes(), header.crc);
            if is_whole {
                let at = fields.at().saturating_add(to_u64(header.sequence_number));
                check_sequence_number(fields.u64_be(header.sequence_number)?, head, at)?;
            }
        }
    }
    Ok(())
}

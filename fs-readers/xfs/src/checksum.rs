//! What version 5 metadata carries to tell damage and age by: a checksum, the filesystem's UUID, and the log sequence
//! number of its last change (XFS Algorithms & Data Structures, "Self Describing Metadata").

use stillframe_bytes::{Fault, Quantity};

/// CRC-32C of a metadata block as XFS keeps it: little-endian, the field itself taken as zeros.
pub(crate) fn checksum_matches(bytes: &[u8], crc_offset: usize) -> bool {
    let stored = bytes.get(crc_offset..).and_then(|rest| rest.first_chunk::<4>());
    stored.is_some_and(|stored| checksum(bytes, crc_offset) == Some(*stored))
}

/// Puts the checksum of `bytes` in its place.
pub(crate) fn write_checksum(bytes: &mut [u8], crc_offset: usize) {
    let sum = checksum(bytes, crc_offset);
    let field = bytes.get_mut(crc_offset..).and_then(|rest| rest.first_chunk_mut::<4>());
    if let Some((field, sum)) = field.zip(sum) {
        *field = sum;
    }
}

fn checksum(bytes: &[u8], crc_offset: usize) -> Option<[u8; 4]> {
    let (before, rest) = bytes.split_at_checked(crc_offset)?;
    let (_, after) = rest.split_first_chunk::<4>()?;
    let crc = crc32c::crc32c_append(crc32c::crc32c(before), &[0; 4]);
    Some(crc32c::crc32c_append(crc, after).to_le_bytes())
}

/// Where a block says what it is; by its magic.
struct Places {
    crc: usize,
    sequence_number: usize,
    uuid: usize,
}

fn places(block: &[u8]) -> Option<Places> {
    let at = |crc, sequence_number, uuid| Some(Places { crc, sequence_number, uuid });
    match block.first_chunk::<4>()? {
        b"XFSB" => at(224, 240, 32),
        // Short B+trees: free space, inodes, reverse map, reference counts.
        b"AB3B" | b"AB3C" | b"IAB3" | b"FIB3" | b"RMB3" | b"R3FC" => at(52, 24, 32),
        // Block maps, and the trees of the realtime device.
        b"BMA3" | b"MAPR" | b"RTRF" => at(64, 32, 40),
        b"XDB3" | b"XDD3" | b"XDF3" => at(4, 16, 24),
        b"XSLM" => at(12, 48, 16),
        // Directory and attribute leaves and nodes have a magic of two bytes, behind their siblings.
        _ => match block.get(8..)?.first_chunk::<2>()? {
            [0x3d, 0xf1 | 0xff] | [0x3e, 0xbe] | [0x3b, 0xee] => at(12, 24, 32),
            _ => None,
        },
    }
}

/// The log sequence number of a block that is of the filesystem with one of these UUIDs. File content, or metadata of a
/// filesystem that was here before, may look like a block that has one.
pub(crate) fn sequence_number(block: &[u8], uuids: &[[u8; 16]; 2]) -> Option<u64> {
    let places = places(block)?;
    let uuid = block.get(places.uuid..)?.first_chunk::<16>()?;
    let number = u64::from_be_bytes(*block.get(places.sequence_number..)?.first_chunk()?);
    (uuids.contains(uuid) && number != NO_SEQUENCE_NUMBER).then_some(number)
}

/// In place of a sequence number where a block has none.
const NO_SEQUENCE_NUMBER: u64 = u64::MAX;

/// Refuses metadata that the log's end says was not written yet: then it is the end that is wrong, and what the log
/// changes may be older than what lies on the volume.
pub(crate) fn check_sequence_number(number: u64, head: u64, at: u64) -> Result<(), Fault> {
    if number <= head || number == NO_SEQUENCE_NUMBER {
        return Ok(());
    }
    Err(Fault::new("log sequence number", at, Quantity::Hex(head), Quantity::Hex(number)))
}

/// Makes the checksum of a block match again that the log changed.
pub(crate) fn seal(block: &mut [u8]) {
    if let Some(places) = places(block) {
        write_checksum(block, places.crc);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_own_blocks_have_a_sequence_number() {
        // File content that happened to have a node's magic, as found on a disk after a crash.
        let mut content = [0x5a; 512];
        content[8..10].copy_from_slice(&[0x3e, 0xbe]);
        assert_eq!(sequence_number(&content, &[[7; 16]; 2]), None);
        for (magic, number_at, uuid_at) in [(b"XDD3", 16, 24), (b"BMA3", 32, 40), (b"XSLM", 48, 16)] {
            let mut own = [1; 512];
            own[..4].copy_from_slice(magic);
            own[uuid_at..uuid_at + 16].fill(7);
            own[number_at..number_at + 8].copy_from_slice(&77_u64.to_be_bytes());
            assert_eq!(sequence_number(&own, &[[8; 16], [7; 16]]), Some(77));
            assert_eq!(sequence_number(&own, &[[8; 16]; 2]), None);
        }
    }

    #[test]
    fn a_sealed_block_matches() {
        let mut block = [3; 512];
        block[..4].copy_from_slice(b"XDB3");
        assert!(!checksum_matches(&block, 4));
        seal(&mut block);
        assert!(checksum_matches(&block, 4) && !checksum_matches(&block, 510));
    }
}

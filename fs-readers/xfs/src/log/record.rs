//! Log records: a header, what the sectors' first words were before cycle numbers were written over them, and the
//! operations (XFS Algorithms & Data Structures, "Log Record Header").

use stillframe_bytes::{Fault, Quantity, Structure};
use stillframe_fs::FsError;

use super::device::{LogDevice, RECORD_MAGIC};
use crate::volume::{SECTOR_BYTES, to_u64, to_usize};

/// Content that one header has room for the first words of.
const CYCLE_DATA_BYTES: u64 = 32 * 1024;
/// The longest record: an in-core log buffer of 256 KiB.
pub(super) const MAX_RECORD_BYTES: u64 = 256 * 1024;
/// In-core log buffers, all of which may be under way to the disk at once.
pub(super) const MAX_IN_FLIGHT: u64 = 8;
const VERSION_2: u32 = 2;
/// Host byte order of the machine that wrote the items: Linux, little-endian.
const FORMAT_LINUX_LITTLE_ENDIAN: u32 = 1;
const CRC_OFFSET: usize = 32;
const CYCLE_DATA_OFFSET: usize = 44;
const UUID_OFFSET: usize = 304;
/// What of the header its checksum covers: the structure as compilers for 64 and for 32 bits lay it out.
const CHECKED_BYTES: [usize; 2] = [328, 324];
const EXTENDED_CHECKED_BYTES: usize = 260;
/// First words of sectors in one header.
const WORDS: usize = 64;

/// A record's header.
#[derive(Debug, Clone)]
pub(super) struct Record {
    /// Where it begins, in sectors of the log.
    pub(super) sector: u64,
    pub(super) content_bytes: u64,
    /// The cycle that it was written in.
    pub(super) cycle: u32,
    /// Of the filesystem.
    pub(super) uuid: [u8; 16],
    pub(super) lsn: u64,
    pub(super) tail_lsn: u64,
    pub(super) operations: u32,
    /// The size of the in-core log buffers when it was written.
    pub(super) buffer_bytes: u64,
    /// Sectors of the header and the extended headers.
    pub(super) header_sectors: u64,
    crc: u32,
}

impl Record {
    /// Parses a header's first sector, which lies `at` bytes into the volume.
    pub(super) fn parse(sector: u64, at: u64, bytes: &[u8]) -> Result<Self, FsError> {
        let fields = Structure::new("log record", at, bytes);
        let magic = fields.u32_be(0)?;
        if magic != RECORD_MAGIC {
            let (claimed, found) = (Quantity::Hex(RECORD_MAGIC.into()), Quantity::Hex(magic.into()));
            return Err(fields.fault("log record magic", 0, claimed, found).into());
        }
        let version = fields.u32_be(8)?;
        if version == 0 || version & !3 != 0 {
            return Err(fields.fault("log record version", 8, "1 or 2", version).into());
        }
        let content_bytes = u64::from(fields.u32_be(12)?);
        if content_bytes > MAX_RECORD_BYTES {
            return Err(fields.fault("log record length", 12, MAX_RECORD_BYTES, content_bytes).into());
        }
        let format = fields.u32_be(300)?;
        if format != FORMAT_LINUX_LITTLE_ENDIAN {
            return Err(FsError::Unsupported("an XFS log of a machine with another byte order"));
        }
        let buffer_bytes =
            if version & VERSION_2 == 0 { CYCLE_DATA_BYTES } else { fields.u32_be(320)?.into() };
        if buffer_bytes > MAX_RECORD_BYTES {
            return Err(fields.fault("log buffer size", 320, MAX_RECORD_BYTES, buffer_bytes).into());
        }
        Ok(Self {
            sector,
            content_bytes,
            cycle: fields.u32_be(4)?,
            uuid: fields.array(UUID_OFFSET)?,
            lsn: fields.u64_be(16)?,
            tail_lsn: fields.u64_be(24)?,
            operations: fields.u32_be(40)?,
            buffer_bytes,
            header_sectors: buffer_bytes.div_ceil(CYCLE_DATA_BYTES).max(1),
            crc: u32::from_le_bytes(fields.array(CRC_OFFSET)?),
        })
    }

    pub(super) fn content_sectors(&self) -> u64 {
        self.content_bytes.div_ceil(SECTOR_BYTES)
    }

    pub(super) fn sectors(&self) -> u64 {
        self.header_sectors.saturating_add(self.content_sectors())
    }

    /// Whether it holds something, and no more than the buffer that it was written from. What the kernel clears before the
    /// head holds nothing.
    pub(super) fn has_sound_length(&self) -> bool {
        self.content_bytes > 0 && self.content_bytes <= self.buffer_bytes.max(CYCLE_DATA_BYTES)
    }

    /// Whether its checksum, where it has one, is that of `bytes`: the whole record as it lies in the log.
    pub(super) fn checksum_holds(&self, bytes: &[u8]) -> bool {
        self.crc == 0 || CHECKED_BYTES.iter().any(|checked| self.checksum(bytes, *checked) == Some(self.crc))
    }

    /// Refuses what another filesystem's log left, as it is when a log is laid out over another.
    pub(super) fn check_uuid(&self, device: &LogDevice) -> Result<(), Fault> {
        if self.uuid == device.uuid {
            return Ok(());
        }
        let at = device.at(self.sector).saturating_add(to_u64(UUID_OFFSET));
        Err(Fault::new("log record UUID", at, "this filesystem's", "another"))
    }

    /// `mkfs` writes none, and neither did the kernels before version 5.
    pub(super) const fn has_checksum(&self) -> bool {
        self.crc != 0
    }

    fn checksum(&self, bytes: &[u8], checked: usize) -> Option<u32> {
        let mut crc = crc32c::crc32c(bytes.get(..CRC_OFFSET)?);
        crc = crc32c::crc32c_append(crc, &[0; 4]);
        crc = crc32c::crc32c_append(crc, bytes.get(CRC_OFFSET.checked_add(4)?..checked)?);
        let header = to_usize(self.header_sectors.saturating_mul(SECTOR_BYTES));
        // Only of those extended headers that this record's length needs.
        let needed = to_usize(self.content_bytes.div_ceil(CYCLE_DATA_BYTES));
        for extended in bytes.get(..header)?.chunks(to_usize(SECTOR_BYTES)).take(needed).skip(1) {
            crc = crc32c::crc32c_append(crc, extended.get(..EXTENDED_CHECKED_BYTES)?);
        }
        let content = bytes.get(header..)?.get(..to_usize(self.content_bytes))?;
        Some(crc32c::crc32c_append(crc, content))
    }

    /// The content of the record in `bytes`, with its sectors' first words in their places again.
    pub(super) fn content(&self, at: u64, bytes: &[u8]) -> Result<Vec<u8>, Fault> {
        let record = Structure::new("log record", at, bytes);
        let header_bytes = to_usize(self.header_sectors.saturating_mul(SECTOR_BYTES));
        let header = record.part("log record header", 0, header_bytes)?;
        let mut content = record.slice(header_bytes, to_usize(self.content_bytes))?.to_vec();
        for (number, sector) in content.chunks_mut(to_usize(SECTOR_BYTES)).enumerate() {
            let (extended, word) = (number / WORDS, number % WORDS);
            let start = match extended {
                0 => CYCLE_DATA_OFFSET,
                _ => extended.saturating_mul(to_usize(SECTOR_BYTES)).saturating_add(4),
            };
            let word: [u8; 4] = header.array(start.saturating_add(word.saturating_mul(4)))?;
            if let Some(first) = sector.first_chunk_mut() {
                *first = word;
            }
        }
        Ok(content)
    }
}

/// The sector part of a log sequence number.
pub(super) const fn sector_of(lsn: u64) -> u64 {
    lsn & 0xffff_ffff
}

/// The cycle part of a log sequence number.
pub(super) const fn cycle_part_of(lsn: u64) -> u64 {
    lsn >> 32
}

/// The log sequence number of what is written at `sector` in `cycle`.
pub(super) const fn sequence_number(cycle: u64, sector: u64) -> u64 {
    (cycle << 32) | sector
}

/// Where in `sectors`, read from the log, the last record's header begins, counted in sectors.
pub(super) fn last_header(sectors: &[u8]) -> Option<u64> {
    sectors
        .chunks_exact(to_usize(SECTOR_BYTES))
        .rposition(|sector| sector.starts_with(&RECORD_MAGIC.to_be_bytes()))
        .map(to_u64)
}

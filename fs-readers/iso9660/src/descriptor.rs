//! Volume descriptors: from the seventeenth sector on, until one ends them (ECMA-119, section 8; Joliet specification,
//! "SVD Identification").

use stillframe_block::{BlockSource, ReadError};
use stillframe_bytes::{Fault, Structure};
use stillframe_fs::FsError;

const SECTOR_BYTES: u64 = 2048;
const FIRST_SECTOR: u64 = 16;
/// More than any disc has.
const DESCRIPTORS_CAP: u64 = 64;
const PRIMARY: u8 = 1;
const SUPPLEMENTARY: u8 = 2;
const TERMINATOR: u8 = 255;
/// What a supplementary descriptor says whose names are UCS-2 or UTF-16.
const JOLIET_ESCAPES: [&[u8; 3]; 3] = [b"%/@", b"%/C", b"%/E"];

/// What the descriptors say of the volume.
#[derive(Debug, Clone)]
pub(crate) struct Descriptors {
    pub(crate) block_bytes: u64,
    pub(crate) size_bytes: u64,
    pub(crate) label: Vec<u8>,
    /// As `blkid` writes it: when it was changed or else made.
    pub(crate) uuid: Option<String>,
    /// Which volume of its set it is.
    pub(crate) sequence_number: u16,
    /// Where the root directory begins, in bytes.
    pub(crate) root_at: u64,
    /// That of the second tree, with Joliet's names.
    pub(crate) joliet_root_at: Option<u64>,
    /// Where a descriptor of UDF lies, in bytes.
    pub(crate) udf_at: Option<u64>,
}

impl Descriptors {
    pub(crate) fn read(source: &dyn BlockSource) -> Result<Self, FsError> {
        let mut found: Option<Self> = None;
        let (mut joliet_root, mut udf_at, mut is_over) = (None, None, false);
        for index in 0..DESCRIPTORS_CAP {
            let at = FIRST_SECTOR.saturating_add(index).saturating_mul(SECTOR_BYTES);
            let mut bytes = [0; 2048];
            match source.read_exact_at(at, &mut bytes) {
                Err(ReadError::OutOfBounds { .. }) if found.is_some() => break,
                read => read?,
            }
            let descriptor = Structure::new("volume descriptor", at, &bytes);
            match (descriptor.u8(0)?, descriptor.slice(1, 5)?) {
                (_, b"NSR02" | b"NSR03") => udf_at = udf_at.or(Some(at)),
                (_, b"BEA01" | b"TEA01" | b"BOOT2") => {}
                (_, b"CD001") if is_over => {}
                (PRIMARY, b"CD001") if found.is_none() => found = Some(Self::parse(&descriptor)?),
                (SUPPLEMENTARY, b"CD001")
                    if JOLIET_ESCAPES
                        .iter()
                        .any(|escape| descriptor.slice(88, 3).is_ok_and(|there| there == *escape)) =>
                {
                    joliet_root = joliet_root.or(Some(extent_of_root(&descriptor)?));
                }
                (TERMINATOR, b"CD001") => is_over = true,
                (_, b"CD001") => {}
                _ => break,
            }
        }
        let missing = || {
            Fault::new("primary volume descriptor", FIRST_SECTOR.saturating_mul(SECTOR_BYTES), "one", "none")
        };
        let mut found = found.ok_or_else(missing)?;
        found.udf_at = udf_at;
        found.joliet_root_at = joliet_root.map(|block| block.saturating_mul(found.block_bytes));
        Ok(found)
    }

    fn parse(descriptor: &Structure<'_>) -> Result<Self, Fault> {
        let block_bytes = descriptor.u16_le(128)?;
        if !matches!(block_bytes, 512 | 1024 | 2048) {
            return Err(descriptor.fault("logical block size", 128, 2048_u16, block_bytes));
        }
        let block_bytes = u64::from(block_bytes);
        let label = descriptor.slice(40, 32)?;
        let label_len =
            label.iter().rposition(|byte| !matches!(byte, b' ' | 0)).map_or(0, |last| last.saturating_add(1));
        Ok(Self {
            block_bytes,
            // OK to saturate: 32-bit numbers of at most 2 KiB each.
            size_bytes: u64::from(descriptor.u32_le(80)?).saturating_mul(block_bytes),
            label: label.get(..label_len).unwrap_or_default().to_vec(),
            uuid: digits(descriptor.slice(830, 16)?).or(digits(descriptor.slice(813, 16)?)),
            sequence_number: descriptor.u16_le(124)?,
            root_at: extent_of_root(descriptor)?.saturating_mul(block_bytes),
            joliet_root_at: None,
            udf_at: None,
        })
    }
}

/// The block that the root directory's record names.
fn extent_of_root(descriptor: &Structure<'_>) -> Result<u64, Fault> {
    let record = descriptor.part("root directory record", 156, 34)?;
    Ok(u64::from(record.u32_le(2)?).saturating_add(record.u8(1)?.into()))
}

/// A date of sixteen digits with the dashes that `blkid` writes between its fields. `None` where it is not set.
fn digits(date: &[u8]) -> Option<String> {
    let is_set = date.iter().all(u8::is_ascii_digit) && date.iter().any(|digit| *digit != b'0');
    let text = std::str::from_utf8(date).ok().filter(|_| is_set)?;
    let fields = [(0, 4), (4, 6), (6, 8), (8, 10), (10, 12), (12, 14), (14, 16)];
    let fields: Option<Vec<&str>> = fields.iter().map(|(from, to)| text.get(*from..*to)).collect();
    Some(fields?.join("-"))
}

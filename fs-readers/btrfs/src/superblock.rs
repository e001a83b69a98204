//! The superblock (On-disk format, "Superblock").
//!
//! The kernel mounts by the first copy. A later copy is used only where the first is damaged.

use stillframe_block::BlockSource;
use stillframe_bytes::{Fault, Quantity, Structure};
use stillframe_fs::FsError;

use crate::checksum::Checksum;

const OFFSETS: [u64; 3] = [64 << 10, 64 << 20, 256 << 30];
const LEN_BYTES: usize = 4096;
const MAGIC: &[u8; 8] = b"_BHRfS_M";
/// What the checksum at the start of the superblock and of each node covers begins here.
pub(crate) const CHECKSUM_FIELD_BYTES: usize = 32;
const SYSTEM_CHUNKS_OFFSET: usize = 811;
const SYSTEM_CHUNKS_BYTES: usize = 2048;
/// No tree is deeper.
pub(crate) const MAX_LEVEL: u8 = 7;

/// `flags`: `btrfstune` was ended while it changed the UUID, of some devices or of some nodes. The kernel does not mount
/// it either.
const FLAG_CHANGING_UUID: u64 = (1 << 35) | (1 << 36);
const INCOMPAT_METADATA_UUID: u64 = 1 << 10;
/// Features that change how things are found, which is not known here, with their names.
const INCOMPAT_REFUSED: [(u64, &str); 4] = [
    (1 << 12, "zoned btrfs"),
    (1 << 13, "btrfs extent tree version 2"),
    (1 << 14, "btrfs RAID stripe tree"),
    (1 << 17, "btrfs remap tree"),
];
/// Up to the metadata UUID and the RAID1 profiles of three and four copies, and simple quotas.
const INCOMPAT_KNOWN: u64 = 0xfff | (1 << 16);

/// Where a tree's root is and what it must look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tree {
    /// Logical address of the root node.
    pub(crate) root: u64,
    pub(crate) level: u8,
    pub(crate) generation: u64,
}

/// The fields that reading needs, bounded.
#[derive(Debug, Clone)]
pub(crate) struct Superblock {
    pub(crate) filesystem_uuid: [u8; 16],
    /// The UUID that nodes carry.
    pub(crate) metadata_uuid: [u8; 16],
    pub(crate) label: Vec<u8>,
    pub(crate) root_tree: Tree,
    pub(crate) chunk_tree: Tree,
    /// The tree of the log trees, where there are any.
    pub(crate) log_tree: Option<Tree>,
    /// The transaction that is committed.
    pub(crate) generation: u64,
    pub(crate) total_bytes: u64,
    /// The object of the root tree that the name of the default subvolume belongs to.
    pub(crate) root_directory: u64,
    /// How many devices the filesystem has.
    pub(crate) device_count: u64,
    /// The number of the device at hand, its UUID, and how long it says it is.
    pub(crate) device: u64,
    pub(crate) device_uuid: [u8; 16],
    pub(crate) device_bytes: u64,
    pub(crate) sector_bytes: u64,
    pub(crate) node_bytes: u64,
    pub(crate) checksum: Checksum,
    pub(crate) system_chunks: Vec<u8>,
    /// Set where the first copy was damaged.
    pub(crate) damage: Option<Fault>,
}

impl Superblock {
    /// Reads the first copy that is whole.
    pub(crate) fn read(source: &dyn BlockSource) -> Result<Self, FsError> {
        let mut damage = None;
        for offset in OFFSETS {
            if offset.saturating_add(4096) > source.len_bytes() {
                break;
            }
            let mut bytes = vec![0; LEN_BYTES];
            source.read_exact_at(offset, &mut bytes)?;
            match Self::parse(offset, &bytes) {
                Ok(superblock) => return Ok(Self { damage, ..superblock }),
                Err(FsError::Corrupt(fault)) => damage = damage.or(Some(fault)),
                Err(other) => return Err(other),
            }
        }
        let shortest = OFFSETS.first().copied().unwrap_or_default();
        Err(damage.unwrap_or_else(|| Fault::new("superblock", shortest, 4096_u32, 0_u32)).into())
    }

    fn parse(offset: u64, bytes: &[u8]) -> Result<Self, FsError> {
        let fields = Structure::new("superblock", offset, bytes);
        if fields.slice(64, 8)? != MAGIC {
            return Err(fields.fault("superblock magic", 64, "_BHRfS_M", "another").into());
        }
        let checksum_type = fields.u16_le(196)?;
        let Some(checksum) = Checksum::from_number(checksum_type) else {
            return Err(fields.fault("superblock checksum type", 196, 3_u8, checksum_type).into());
        };
        let covered = fields.slice(CHECKSUM_FIELD_BYTES, LEN_BYTES.saturating_sub(CHECKSUM_FIELD_BYTES))?;
        if !checksum.matches(covered, fields.slice(0, CHECKSUM_FIELD_BYTES)?) {
            return Err(fields.fault("superblock checksum", 0, "a match", "none").into());
        }
        if fields.u64_le(48)? != offset {
            return Err(fields.fault("superblock address", 48, offset, fields.u64_le(48)?).into());
        }
        let incompat = fields.u64_le(188)?;
        if let Some((_, name)) = INCOMPAT_REFUSED.iter().find(|(bit, _)| incompat & bit != 0) {
            return Err(FsError::Unsupported(name));
        }
        if fields.u64_le(56)? & FLAG_CHANGING_UUID != 0 {
            return Err(FsError::Unsupported("btrfs while its UUID is changed"));
        }
        if incompat & !INCOMPAT_KNOWN != 0 {
            return Err(FsError::Unsupported("an unknown incompatible btrfs feature"));
        }
        let sector_bytes = size(&fields, "superblock sector size", 144, 4096)?;
        let node_bytes = size(&fields, "superblock node size", 148, sector_bytes)?;
        let filesystem_uuid = fields.array(32)?;
        let uuid_offset = if incompat & INCOMPAT_METADATA_UUID == 0 { 32 } else { 571 };
        let label: [u8; 256] = fields.array(299)?;
        let generation = fields.u64_le(72)?;
        // What is synced belongs to the transaction that was not committed yet.
        let log_generation = generation.saturating_add(1);
        let log_tree = tree(&fields, "superblock log root level", 96, 200, log_generation)?;
        Ok(Self {
            filesystem_uuid,
            metadata_uuid: fields.array(uuid_offset)?,
            label: label.split(|byte| *byte == 0).next().unwrap_or_default().to_vec(),
            root_tree: tree(&fields, "superblock root level", 80, 198, generation)?,
            chunk_tree: tree(&fields, "superblock chunk root level", 88, 199, fields.u64_le(164)?)?,
            log_tree: Some(log_tree).filter(|tree| tree.root != 0),
            generation,
            total_bytes: fields.u64_le(112)?,
            root_directory: fields.u64_le(128)?,
            device_count: fields.u64_le(136)?,
            device: fields.u64_le(201)?,
            device_uuid: fields.array(267)?,
            device_bytes: fields.u64_le(209)?,
            sector_bytes,
            node_bytes,
            checksum,
            system_chunks: system_chunks(&fields)?.to_vec(),
            damage: None,
        })
    }

    /// The UUID as `blkid` writes it.
    pub(crate) fn uuid_text(&self) -> String {
        let mut text = String::with_capacity(36);
        for (index, byte) in self.filesystem_uuid.iter().enumerate() {
            if matches!(index, 4 | 6 | 8 | 10) {
                text.push('-');
            }
            text.push_str(&format!("{byte:02x}"));
        }
        text
    }
}

/// A power of two from `least` to 64 KiB.
fn size(fields: &Structure<'_>, what: &'static str, offset: usize, least: u64) -> Result<u64, Fault> {
    let size = fields.u32_le(offset)?;
    if !(least..=65536).contains(&u64::from(size)) || !size.is_power_of_two() {
        return Err(fields.fault(what, offset, 65536_u32, size));
    }
    Ok(size.into())
}

fn tree(
    fields: &Structure<'_>,
    what: &'static str,
    root_offset: usize,
    level_offset: usize,
    generation: u64,
) -> Result<Tree, Fault> {
    let level = fields.u8(level_offset)?;
    if level > MAX_LEVEL {
        return Err(fields.fault(what, level_offset, MAX_LEVEL, level));
    }
    Ok(Tree { root: fields.u64_le(root_offset)?, level, generation })
}

fn system_chunks<'a>(fields: &Structure<'a>) -> Result<&'a [u8], Fault> {
    let len = usize::try_from(fields.u32_le(160)?).unwrap_or(usize::MAX);
    if len > SYSTEM_CHUNKS_BYTES {
        let found = Quantity::from(len);
        return Err(fields.fault("superblock system chunk array", 160, SYSTEM_CHUNKS_BYTES, found));
    }
    fields.slice(SYSTEM_CHUNKS_OFFSET, len)
}

//! The boot sector: how the volume is laid out (fatgen103, "Boot Sector and BPB").

use stillframe_block::BlockSource;
use stillframe_bytes::{Fault, Structure};
use stillframe_fs::FsError;

const BOOT_SECTOR_BYTES: usize = 512;
const ROOT_ENTRY_BYTES: u64 = 32;
/// The largest numbers of clusters that are FAT12 and FAT16.
const FAT12_CLUSTERS: u64 = 4084;
const FAT16_CLUSTERS: u64 = 65_524;
/// Numbers above these mark ends and bad clusters.
const FAT32_CLUSTERS: u64 = 0x0FFF_FFF5;
const EXTENDED_SIGNATURE: u8 = 0x29;

/// Which of the three formats it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FatKind {
    /// 12 bits an entry.
    Fat12,
    /// 16 bits an entry.
    Fat16,
    /// 32 bits an entry, of which 28 count.
    Fat32,
}

/// Where the root directory is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Root {
    /// FAT12 and FAT16: a region of its own.
    Region {
        /// Where it begins, in bytes.
        at: u64,
        /// Its length in bytes.
        len_bytes: u64,
    },
    /// FAT32: a chain that begins with this cluster.
    Chain(u32),
}

/// What the boot sector says, checked.
#[derive(Debug, Clone)]
pub(crate) struct BootSector {
    pub(crate) kind: FatKind,
    /// Clusters of data; their numbers begin with 2.
    pub(crate) clusters: u32,
    pub(crate) cluster_bytes: u64,
    /// Where the FAT in use begins, in bytes, and how long it is.
    pub(crate) table_at: u64,
    pub(crate) table_bytes: u64,
    pub(crate) root: Root,
    /// Where cluster 2 begins, in bytes.
    pub(crate) data_at: u64,
    pub(crate) size_bytes: u64,
    pub(crate) serial: Option<u32>,
    /// As it stands there, padded with spaces.
    pub(crate) label: Option<[u8; 11]>,
    /// The bit that Linux sets while the volume is mounted for writing.
    pub(crate) mounted: bool,
}

impl BootSector {
    pub(crate) fn read(source: &dyn BlockSource) -> Result<Self, FsError> {
        let mut bytes = [0; BOOT_SECTOR_BYTES];
        source.read_exact_at(0, &mut bytes)?;
        let boot = Structure::new("boot sector", 0, &bytes);
        if boot.slice(3, 8)? == b"EXFAT   " {
            return Err(FsError::Unsupported("exFAT"));
        }
        if boot.u16_le(510)? != 0xAA55 {
            return Err(boot.fault("boot sector signature", 510, "0x55 0xaa", "something else").into());
        }
        Ok(Self::parse(&boot)?)
    }

    fn parse(boot: &Structure<'_>) -> Result<Self, Fault> {
        let sector_bytes = power_of_two(boot, "bytes per sector", 11, boot.u16_le(11)?.into(), 512, 4096)?;
        let cluster_sectors = power_of_two(boot, "sectors per cluster", 13, boot.u8(13)?.into(), 1, 128)?;
        let reserved = u64::from(boot.u16_le(14)?);
        let tables = u64::from(boot.u8(16)?);
        let root_entries = u64::from(boot.u16_le(17)?);
        let short_table = boot.u16_le(22)?;
        if reserved == 0 || tables == 0 {
            return Err(boot.fault("reserved sectors and FATs", 14, "not 0", "0"));
        }
        // Windows goes by the number of clusters alone. Linux, and whoever formats a small EFI partition as FAT32, goes
        // by this field, which FAT32 alone leaves 0.
        let fat32 = short_table == 0;
        let table_sectors = if fat32 { u64::from(boot.u32_le(36)?) } else { short_table.into() };
        let sectors = match boot.u16_le(19)? {
            0 => u64::from(boot.u32_le(32)?),
            sectors => sectors.into(),
        };
        // OK to saturate from here on: 16 and 32-bit numbers of at most 512 KiB each.
        let tables_end = reserved.saturating_add(tables.saturating_mul(table_sectors));
        let root_bytes = root_entries.saturating_mul(ROOT_ENTRY_BYTES);
        let data_sector = tables_end.saturating_add(root_bytes.div_ceil(sector_bytes));
        let data_sectors = sectors
            .checked_sub(data_sector)
            .ok_or_else(|| boot.fault("total sectors", 32, data_sector, sectors))?;
        let table_bytes = table_sectors.saturating_mul(sector_bytes);
        let claimed = data_sectors.checked_div(cluster_sectors).unwrap_or(0);
        let kind = match claimed {
            _ if fat32 => FatKind::Fat32,
            _ if claimed <= FAT12_CLUSTERS => FatKind::Fat12,
            _ if claimed <= FAT16_CLUSTERS => FatKind::Fat16,
            _ => return Err(boot.fault("number of clusters", 32, FAT16_CLUSTERS, claimed)),
        };
        // Clusters that the FAT has no entry for are not used.
        let clusters = claimed.min(kind.entries(table_bytes).saturating_sub(2)).min(FAT32_CLUSTERS);
        let clusters = u32::try_from(clusters).unwrap_or(0);
        if clusters == 0 {
            return Err(boot.fault("number of clusters", 32, "not 0", "0"));
        }
        let root_at = tables_end.saturating_mul(sector_bytes);
        let extended = boot.rest("extended boot sector", if fat32 { 64 } else { 36 })?;
        let has_extension = extended.u8(2)? == EXTENDED_SIGNATURE;
        Ok(Self {
            kind,
            clusters,
            cluster_bytes: cluster_sectors.saturating_mul(sector_bytes),
            table_at: reserved
                .saturating_add(active_table(boot, fat32, tables)?.saturating_mul(table_sectors))
                .saturating_mul(sector_bytes),
            table_bytes,
            root: if fat32 {
                Root::Chain(boot.u32_le(44)?)
            } else {
                Root::Region { at: root_at, len_bytes: root_bytes }
            },
            data_at: data_sector.saturating_mul(sector_bytes),
            size_bytes: sectors.saturating_mul(sector_bytes),
            serial: if has_extension { Some(extended.u32_le(3)?) } else { None },
            label: if has_extension { Some(extended.array(7)?) } else { None },
            mounted: extended.u8(1)? & 1 != 0,
        })
    }

    /// Leaves out the clusters that a volume of so many bytes has no byte of: no chain needs to be followed through them.
    pub(crate) fn cut(&mut self, len_bytes: u64) {
        let there = len_bytes.saturating_sub(self.data_at).div_ceil(self.cluster_bytes.max(1));
        self.clusters = self.clusters.min(u32::try_from(there).unwrap_or(u32::MAX));
    }

    /// Where cluster `number` begins, in bytes; `None` where there is no such cluster.
    pub(crate) fn cluster_at(&self, number: u32) -> Option<u64> {
        let index = number.checked_sub(2).filter(|index| *index < self.clusters)?;
        u64::from(index).checked_mul(self.cluster_bytes)?.checked_add(self.data_at)
    }
}

impl FatKind {
    /// How many entries a FAT of so many bytes has.
    fn entries(self, table_bytes: u64) -> u64 {
        match self {
            Self::Fat12 => table_bytes.saturating_mul(2) / 3,
            Self::Fat16 => table_bytes / 2,
            Self::Fat32 => table_bytes / 4,
        }
    }
}

/// FAT32 may keep one FAT only up to date, and says which.
fn active_table(boot: &Structure<'_>, fat32: bool, tables: u64) -> Result<u64, Fault> {
    let flags = if fat32 { boot.u16_le(40)? } else { 0 };
    let active = if flags & 0x80 != 0 { u64::from(flags & 0x0F) } else { 0 };
    if active < tables { Ok(active) } else { Err(boot.fault("active FAT", 40, tables, active)) }
}

fn power_of_two(
    boot: &Structure<'_>,
    what: &'static str,
    offset: usize,
    number: u64,
    least: u64,
    most: u64,
) -> Result<u64, Fault> {
    if number.is_power_of_two() && (least..=most).contains(&number) {
        return Ok(number);
    }
    Err(boot.fault(what, offset, most, number))
}

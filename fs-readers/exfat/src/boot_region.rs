//! The boot region: eleven sectors and one of their checksum, twice (exFAT specification, sections 2 and 3).

use stillframe_block::{BlockSource, ReadError};
use stillframe_bytes::{Fault, Structure};
use stillframe_fs::FsError;

const NAME: &[u8; 8] = b"EXFAT   ";
/// Sectors that the checksum covers; it fills the next one.
const COVERED_SECTORS: u64 = 11;
const REGION_SECTORS: u64 = 12;
const SECTOR_SHIFTS: std::ops::RangeInclusive<u8> = 9..=12;
/// The largest cluster, of 32 MiB, by its shift.
const CLUSTER_SHIFT_CAP: u8 = 25;
/// Numbers above it mark ends and bad clusters.
const CLUSTERS_CAP: u32 = 0xFFFF_FFF5;
const VOLUME_DIRTY: u16 = 2;
const BACKUP: &str = "main boot region";

/// What the boot sector says, checked.
#[derive(Debug, Clone)]
pub(crate) struct BootSector {
    /// Clusters of the heap; their numbers begin with 2.
    pub(crate) clusters: u32,
    pub(crate) cluster_bytes: u64,
    /// Where the FAT begins, in bytes, and how long it is.
    pub(crate) table_at: u64,
    pub(crate) table_bytes: u64,
    /// Where cluster 2 begins, in bytes.
    pub(crate) heap_at: u64,
    pub(crate) root_cluster: u32,
    pub(crate) size_bytes: u64,
    pub(crate) serial: u32,
    /// Set while the volume is mounted for writing.
    pub(crate) dirty: bool,
}

impl BootSector {
    /// Reads the main boot region or, where that is damaged, its backup; then with what is wrong with the main one.
    ///
    /// # Errors
    /// What is wrong with the main one, where neither is whole.
    pub(crate) fn read(source: &dyn BlockSource) -> Result<(Self, Option<Fault>), FsError> {
        let damage = match Self::read_main(source) {
            Ok(boot) => return Ok((boot, None)),
            Err(FsError::Corrupt(fault)) => fault,
            Err(error) => return Err(error),
        };
        // Where the backup lies depends on the size of sectors, which only a boot sector says.
        for shift in SECTOR_SHIFTS {
            let at = REGION_SECTORS.saturating_mul(1 << shift);
            match Self::read_region(source, at, Some(shift)) {
                Ok(boot) => {
                    let fault = Fault { what: BACKUP, ..damage };
                    return Ok((boot, Some(fault)));
                }
                Err(FsError::Corrupt(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Err(damage.into())
    }

    fn read_main(source: &dyn BlockSource) -> Result<Self, FsError> {
        Self::read_region(source, 0, None)
    }

    /// Reads the region at `at`, whose sectors must be as long as `shift` says.
    fn read_region(source: &dyn BlockSource, at: u64, shift: Option<u8>) -> Result<Self, FsError> {
        let sector = read(source, at, 512)?;
        let boot = Structure::new("exFAT boot sector", at, &sector);
        if boot.slice(3, 8)? != NAME {
            return Err(boot.fault("file system name", 3, "EXFAT", "something else").into());
        }
        if boot.u16_le(510)? != 0xAA55 {
            return Err(boot.fault("boot signature", 510, "0x55 0xaa", "something else").into());
        }
        let own_shift = boot.u8(108)?;
        if !SECTOR_SHIFTS.contains(&own_shift) || shift.is_some_and(|shift| shift != own_shift) {
            return Err(boot
                .fault("bytes per sector, as a shift", 108, shift.unwrap_or(12), own_shift)
                .into());
        }
        let sector_bytes = 1_u64 << own_shift;
        check_sum(source, at, sector_bytes)?;
        if boot.u16_le(104)? >> 8 != 1 {
            return Err(FsError::Unsupported("an exFAT revision other than 1"));
        }
        if boot.u8(110)? == 2 {
            return Err(FsError::Unsupported("TexFAT (exFAT with two FATs)"));
        }
        Ok(Self::parse(&boot, sector_bytes)?)
    }

    fn parse(boot: &Structure<'_>, sector_bytes: u64) -> Result<Self, Fault> {
        let cluster_shift = boot.u8(109)?;
        let cluster_bytes =
            1_u64.checked_shl(cluster_shift.into()).and_then(|sectors| sectors.checked_mul(sector_bytes));
        let most = 1_u64 << CLUSTER_SHIFT_CAP;
        let cluster_bytes = cluster_bytes.filter(|bytes| *bytes <= most).ok_or_else(|| {
            boot.fault("sectors per cluster, as a shift", 109, CLUSTER_SHIFT_CAP, cluster_shift)
        })?;
        if boot.u8(110)? != 1 {
            return Err(boot.fault("number of FATs", 110, 1_u8, boot.u8(110)?));
        }
        let sectors = boot.u64_le(72)?;
        let size_bytes = sectors.checked_mul(sector_bytes);
        let size_bytes =
            size_bytes.ok_or_else(|| boot.fault("volume length in sectors", 72, u64::MAX >> 9, sectors))?;
        let (table_sector, table_sectors) = (u64::from(boot.u32_le(80)?), u64::from(boot.u32_le(84)?));
        let (heap_sector, clusters) = (u64::from(boot.u32_le(88)?), boot.u32_le(92)?);
        // OK to saturate from here on: 32-bit numbers of sectors and clusters.
        let table_bytes = table_sectors.saturating_mul(sector_bytes);
        if table_sector < REGION_SECTORS.saturating_mul(2) {
            return Err(boot.fault(
                "FAT offset in sectors",
                80,
                REGION_SECTORS.saturating_mul(2),
                table_sector,
            ));
        }
        if heap_sector < table_sector.saturating_add(table_sectors) {
            let least = table_sector.saturating_add(table_sectors);
            return Err(boot.fault("cluster heap offset in sectors", 88, least, heap_sector));
        }
        let needed = u64::from(clusters).saturating_add(2).saturating_mul(4);
        if clusters == 0 || clusters > CLUSTERS_CAP || table_bytes < needed {
            return Err(boot.fault("number of clusters", 92, (table_bytes / 4).saturating_sub(2), clusters));
        }
        let heap_at = heap_sector.saturating_mul(sector_bytes);
        let heap_end = u64::from(clusters).saturating_mul(cluster_bytes).saturating_add(heap_at);
        if heap_end > size_bytes {
            return Err(boot.fault("volume length in bytes", 72, heap_end, size_bytes));
        }
        Ok(Self {
            clusters,
            cluster_bytes,
            table_at: table_sector.saturating_mul(sector_bytes),
            table_bytes,
            heap_at,
            root_cluster: boot.u32_le(96)?,
            size_bytes,
            serial: boot.u32_le(100)?,
            dirty: boot.u16_le(106)? & VOLUME_DIRTY != 0,
        })
    }

    /// Leaves out the clusters that a volume of so many bytes has no byte of: no chain needs to be followed through them.
    pub(crate) fn cut(&mut self, len_bytes: u64) {
        let there = len_bytes.saturating_sub(self.heap_at).div_ceil(self.cluster_bytes.max(1));
        self.clusters = self.clusters.min(u32::try_from(there).unwrap_or(u32::MAX));
    }

    /// Where cluster `number` begins, in bytes; `None` where there is no such cluster.
    pub(crate) fn cluster_at(&self, number: u32) -> Option<u64> {
        let index = number.checked_sub(2).filter(|index| *index < self.clusters)?;
        u64::from(index).checked_mul(self.cluster_bytes)?.checked_add(self.heap_at)
    }

    /// The cluster that the byte at `at` lies in, and where in it.
    pub(crate) fn cluster_of(&self, at: u64) -> Option<(u32, u64)> {
        let offset = at.checked_sub(self.heap_at)?;
        let index = offset.checked_div(self.cluster_bytes)?;
        let within = offset.checked_rem(self.cluster_bytes)?;
        let index = u32::try_from(index).ok().filter(|index| *index < self.clusters)?;
        Some((index.checked_add(2)?, within))
    }
}

/// Compares the checksum of the region's sectors with the one that is written behind them (section 3.4). The volume
/// flags and the percentage in use are left out, since they change while it is mounted.
fn check_sum(source: &dyn BlockSource, at: u64, sector_bytes: u64) -> Result<(), FsError> {
    let covered = COVERED_SECTORS.saturating_mul(sector_bytes);
    let bytes = read(source, at, covered.saturating_add(4))?;
    let region = Structure::new("exFAT boot region", at, &bytes);
    let covered = usize::try_from(covered).unwrap_or(usize::MAX);
    let counted =
        region.slice(0, covered)?.iter().enumerate().filter(|(index, _)| !matches!(index, 106 | 107 | 112));
    let sum = counted.fold(0_u32, |sum, (_, byte)| sum.rotate_right(1).wrapping_add(u32::from(*byte)));
    let written = region.u32_le(covered)?;
    if sum == written {
        return Ok(());
    }
    let hex = |number: u32| stillframe_bytes::Quantity::Hex(number.into());
    Err(region.fault("boot region checksum", covered, hex(written), hex(sum)).into())
}

/// Reads a part of a boot region. One that the volume is too short for, or that cannot be read, is damaged: there is
/// another.
fn read(source: &dyn BlockSource, at: u64, len: u64) -> Result<Vec<u8>, FsError> {
    let mut bytes = vec![0; usize::try_from(len).unwrap_or(0)];
    match source.read_exact_at(at, &mut bytes) {
        Ok(()) => Ok(bytes),
        Err(ReadError::OutOfBounds { .. }) => {
            Err(Fault::new("exFAT boot region", at, at.saturating_add(len), source.len_bytes()).into())
        }
        Err(ReadError::Io { .. }) => {
            Err(Fault::new("exFAT boot region", at, "readable", "a read error").into())
        }
        Err(error) => Err(error.into()),
    }
}

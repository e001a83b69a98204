//! The boot sector: how large clusters and file records are, and where the MFT and its copy begin. libyal's libfsntfs documentation,
//! "The boot record".

use stillframe_block::BlockSource;
use stillframe_bytes::{Fault, Structure};
use stillframe_fs::FsError;

const NAME: &str = "boot sector";
const LEN: usize = 512;
/// Windows formats with clusters of up to 2 MiB.
const CLUSTER_CAP_BYTES: u64 = 2 << 20;
/// A FILE record larger than this is no record: Windows writes 1024 or 4096 bytes.
const RECORD_CAP_BYTES: u32 = 64 << 10;
/// Past this no cluster number of 63 bits is in danger of overflow.
const VOLUME_CAP_BYTES: u64 = 1 << 61;

/// What the boot sector says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BootSector {
    pub(crate) size_bytes: u64,
    pub(crate) cluster_bytes: u64,
    pub(crate) record_bytes: u32,
    /// Where the MFT begins, in bytes.
    pub(crate) mft_at: u64,
    /// Where the copy of its first records lies, if that is in the volume.
    pub(crate) mirror_at: Option<u64>,
    pub(crate) serial_number: u64,
}

impl BootSector {
    pub(crate) fn read(source: &dyn BlockSource) -> Result<Self, FsError> {
        let mut bytes = [0; LEN];
        source.read_exact_at(0, &mut bytes)?;
        Ok(Self::parse(&Structure::new(NAME, 0, &bytes))?)
    }

    fn parse(sector: &Structure<'_>) -> Result<Self, Fault> {
        if sector.slice(3, 8)? != b"NTFS    " {
            return Err(sector.fault(NAME, 3, "NTFS", "something else"));
        }
        if sector.u16_le(0x1FE)? != 0xAA55 {
            return Err(sector.fault("boot sector signature", 0x1FE, "0x55 0xaa", "something else"));
        }
        let sector_bytes = sector.u16_le(0x0B)?;
        if !(512..=4096).contains(&sector_bytes) || !sector_bytes.is_power_of_two() {
            return Err(sector.fault("boot sector sector size", 0x0B, "512 to 4096", sector_bytes));
        }
        let sector_bytes = u64::from(sector_bytes);
        // Past 64 KiB it is the negative logarithm of the sectors.
        let sectors_per_cluster = match sector.u8(0x0D)? {
            sectors @ 0..=0x80 => u64::from(sectors),
            logarithm => 1_u64.checked_shl(u32::from(logarithm.wrapping_neg())).unwrap_or(0),
        };
        let cluster_bytes = sectors_per_cluster.checked_mul(sector_bytes).unwrap_or(0);
        if !(512..=CLUSTER_CAP_BYTES).contains(&cluster_bytes) || !cluster_bytes.is_power_of_two() {
            return Err(sector.fault("boot sector cluster size", 0x0D, CLUSTER_CAP_BYTES, cluster_bytes));
        }
        // In clusters, or the negative logarithm of the bytes.
        let record_bytes = match sector.u8(0x40)? {
            clusters @ 0..=0x7F => u64::from(clusters).checked_mul(cluster_bytes).unwrap_or(0),
            logarithm => 1_u64.checked_shl(u32::from(logarithm.wrapping_neg())).unwrap_or(0),
        };
        let record_bytes = u32::try_from(record_bytes).unwrap_or(u32::MAX);
        if !(512..=RECORD_CAP_BYTES).contains(&record_bytes) || !record_bytes.is_power_of_two() {
            return Err(sector.fault("boot sector file record size", 0x40, RECORD_CAP_BYTES, record_bytes));
        }
        let size_bytes = sector.u64_le(0x28)?.saturating_mul(sector_bytes);
        if size_bytes > VOLUME_CAP_BYTES {
            return Err(sector.fault("boot sector volume size", 0x28, VOLUME_CAP_BYTES, size_bytes));
        }
        let position =
            |cluster: u64| cluster.checked_mul(cluster_bytes).filter(|at| (1..size_bytes).contains(at));
        let mft_at = position(sector.u64_le(0x30)?);
        let mirror_at = position(sector.u64_le(0x38)?);
        let mft_at =
            mft_at.ok_or_else(|| sector.fault("boot sector MFT cluster", 0x30, "in the volume", 0_u8))?;
        let serial_number = sector.u64_le(0x48)?;
        Ok(Self { size_bytes, cluster_bytes, record_bytes, mft_at, mirror_at, serial_number })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sector(changes: &[(usize, &[u8])]) -> Result<BootSector, Fault> {
        let mut bytes = [0; LEN];
        let usual: &[(usize, &[u8])] = &[
            (3, b"NTFS    "),
            (0x0B, &[0, 2, 8]),
            (0x28, &[0, 0, 1]),
            (0x30, &[4]),
            (0x40, &[0xF6]),
            (0x48, &[9]),
            (0x1FE, &[0x55, 0xAA]),
        ];
        for (at, new) in usual.iter().chain(changes) {
            bytes.iter_mut().skip(*at).zip(*new).for_each(|(old, new)| *old = *new);
        }
        BootSector::parse(&Structure::new(NAME, 0, &bytes))
    }

    #[test]
    fn sizes_are_counted_in_two_ways() {
        let usual = sector(&[]).unwrap();
        assert_eq!((usual.cluster_bytes, usual.record_bytes, usual.mft_at), (4096, 1024, 16384));
        assert_eq!((usual.size_bytes, usual.serial_number), (32 << 20, 9));
        assert_eq!(sector(&[(0x0D, &[0xF8])]).unwrap().cluster_bytes, 128 << 10);
        assert_eq!(sector(&[(0x40, &[1])]).unwrap().record_bytes, 4096);
        assert_eq!(sector(&[(0x0B, &[0, 16, 1])]).unwrap().cluster_bytes, 4096);
    }

    #[test]
    fn what_no_volume_has_is_refused() {
        let refused: [(usize, &[u8]); 11] = [
            (3, b"NTFX"),
            (0x1FE, &[0]),
            (0x0B, &[0, 1]),
            (0x0B, &[1, 2]),
            (0x0D, &[3]),
            (0x0D, &[0]),
            (0x0D, &[0xC0]),
            (0x40, &[0x81]),
            (0x40, &[3]),
            (0x2F, &[0xFF]),
            (0x30, &[0]),
        ];
        for change in refused {
            assert!(sector(&[change]).is_err(), "{change:?}");
        }
        assert!(sector(&[(0x37, &[0x7F])]).is_err());
    }
}

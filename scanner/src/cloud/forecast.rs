//! What a scan would do and cost, before anything is created.

use std::time::Duration;

use stillframe_cloud::cost::{Cost, Prices, ReadPlan, Usage, VolumeForecast, forecast};
use stillframe_cloud::discover::{InstanceStore, PlannedDisk, PlannedInstance};
use stillframe_cloud::written::{Written, written_bytes};

use super::{CloudError, Session};

/// Blocks that the metadata of a system and its package databases take on one volume. Measured: 125 on a Debian root of
/// 65,000 files.
const BLOCKS_PER_VOLUME: u64 = 400;
/// How long snapshots are thought to be kept: most are completed within minutes. The first one of a large volume takes
/// longer, and costs the more.
const LIFETIME: Duration = Duration::from_secs(600);

/// A disk and what is known to be written on it.
#[derive(Debug, Clone)]
pub struct DiskForecast {
    /// The disk.
    pub disk: PlannedDisk,
    /// Its size in bytes, where it is a volume that was described.
    pub size_bytes: Option<u64>,
    /// What its last snapshot says is written.
    pub written: Option<Written>,
}

/// What would be done with one instance.
#[derive(Debug, Clone)]
pub struct InstanceForecast {
    /// The instance.
    pub planned: PlannedInstance,
    /// Its disks.
    pub disks: Vec<DiskForecast>,
    /// What would be used.
    pub usage: Usage,
    /// What it would cost.
    pub cost: Cost,
}

impl InstanceForecast {
    /// Bytes that are, or at most can be, written on the disks that would be taken; and whether that is known of all.
    #[must_use]
    pub fn written(&self) -> (u64, bool) {
        let taken = self.disks.iter().filter(|disk| disk.disk.skipped.is_none());
        taken.fold((0, true), |(sum, known), disk| {
            let bytes = disk.written.as_ref().map(|written| written.bytes);
            (sum.saturating_add(bytes.or(disk.size_bytes).unwrap_or(0)), known && bytes.is_some())
        })
    }

    /// Whether it could not be told if the machine has an instance store.
    #[must_use]
    pub fn has_unknown_store(&self) -> bool {
        matches!(self.planned.instance_store, InstanceStore::Unknown(_))
    }
}

/// Foresees the scans of these instances.
///
/// # Errors
/// What a list fails with.
pub async fn foresee(
    session: &Session,
    planned: Vec<PlannedInstance>,
    prices: &Prices,
) -> Result<Vec<InstanceForecast>, CloudError> {
    let volumes: Vec<String> =
        planned.iter().flat_map(PlannedInstance::volumes).map(|volume| volume.id.clone()).collect();
    let written = written_bytes(session.client(), &volumes).await?;
    let of_disk = |disk: &PlannedDisk| DiskForecast {
        size_bytes: disk.volume.as_ref().map(|volume| volume.size_gib.saturating_mul(1 << 30)),
        written: disk.volume_id.as_ref().and_then(|id| written.get(id)).cloned(),
        disk: disk.clone(),
    };
    let of_instance = |planned: PlannedInstance| {
        let disks: Vec<DiskForecast> = planned.disks.iter().map(of_disk).collect();
        let is_taken = |disk: &&DiskForecast| planned.skipped.is_none() && disk.disk.skipped.is_none();
        let volumes: Vec<VolumeForecast> = disks
            .iter()
            .filter(is_taken)
            .map(|disk| VolumeForecast {
                size_bytes: disk.size_bytes.unwrap_or(0),
                written_bytes: disk.written.as_ref().map(|written| written.bytes),
            })
            .collect();
        let usage = forecast(&volumes, ReadPlan::Lazy { blocks_per_volume: BLOCKS_PER_VOLUME }, LIFETIME);
        InstanceForecast { cost: prices.cost(&usage), planned, disks, usage }
    };
    Ok(planned.into_iter().map(of_instance).collect())
}

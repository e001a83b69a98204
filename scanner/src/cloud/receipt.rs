//! What the report says of snapshots and of the cloud.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use stillframe_aws::Locality;
use stillframe_cloud::api::Snapshot;
use stillframe_cloud::cost::{Cost, Prices, Usage};
use stillframe_cloud::purge::{PurgeOutcome, PurgeReport, Receipt};
use stillframe_cloud::snapshot_source::ReadLimit;
use stillframe_cloud::tags::CREATED_BY;
use stillframe_model::{
    CloudCalls, CloudCost, CloudLimits, CloudUse, DataLocality, DiskText, Label, SnapshotFate,
    SnapshotReceipt,
};

use super::{CloudError, ReadOptions, Session};

/// The receipts of a purge. `devices` names the device of each volume.
#[must_use]
pub fn receipts(
    purged: &PurgeReport,
    devices: &BTreeMap<String, String>,
    created_by: &str,
) -> Vec<SnapshotReceipt> {
    purged.receipts.iter().map(|receipt| of_ours(receipt, devices, created_by)).collect()
}

fn of_ours(receipt: &Receipt, devices: &BTreeMap<String, String>, created_by: &str) -> SnapshotReceipt {
    let (fate, code) = match &receipt.outcome {
        PurgeOutcome::Gone => (SnapshotFate::Gone, None),
        PurgeOutcome::InRecycleBin => (SnapshotFate::InRecycleBin, None),
        PurgeOutcome::Requested => (SnapshotFate::Requested, None),
        PurgeOutcome::Kept(error) => (SnapshotFate::Kept, Some(error.code.as_str())),
        PurgeOutcome::NotRequested(error) => {
            (SnapshotFate::NotRequested, error.as_ref().map(|error| error.code.as_str()))
        }
    };
    SnapshotReceipt {
        snapshot_id: DiskText::new(&receipt.snapshot_id),
        volume_id: DiskText::new(&receipt.volume_id),
        device: devices.get(&receipt.volume_id).map(|device| DiskText::new(device)),
        created: receipt.created,
        completed: receipt.completed,
        deleted: receipt.deleted,
        confirmed_gone: receipt.confirmed,
        lifetime_seconds: receipt.lifetime.as_secs(),
        fate,
        code: code.map(DiskText::new),
        cost_allocation_tag: Some(DiskText::new(&format!("{CREATED_BY}={created_by}"))),
    }
}

/// The receipt of a snapshot that was there before, and stays.
pub(super) fn of_existing(snapshot: &Snapshot, now: Timestamp) -> SnapshotReceipt {
    let created = snapshot.started.unwrap_or(now);
    SnapshotReceipt {
        snapshot_id: DiskText::new(&snapshot.id),
        volume_id: DiskText::new(&snapshot.volume_id),
        device: None,
        created,
        completed: None,
        deleted: None,
        confirmed_gone: None,
        lifetime_seconds: Duration::try_from(now.duration_since(created)).unwrap_or_default().as_secs(),
        fate: SnapshotFate::ReadOnly,
        code: None,
        cost_allocation_tag: None,
    }
}

/// What is, or may be, left, as errors.
#[must_use]
pub fn left(purged: &PurgeReport, receipts: &[SnapshotReceipt]) -> Vec<CloudError> {
    let is_left = |receipt: &&SnapshotReceipt| receipt.fate.is_left();
    let mut errors: Vec<CloudError> = receipts
        .iter()
        .filter(is_left)
        .map(|receipt| CloudError::Left { receipt: Box::new(receipt.clone()) })
        .collect();
    if purged.unknown_intents > 0 {
        errors.push(CloudError::UnknownCreations { count: purged.unknown_intents });
    }
    if let Some(error) = &purged.list_error {
        errors.push(CloudError::Unlisted(error.clone()));
    }
    if let Some(error) = &purged.recycle_bin_error {
        errors.push(CloudError::UnknownRecycleBin(error.clone()));
    }
    errors
}

/// How long each of these snapshots was kept, and how many bytes it held.
pub(super) struct Kept {
    pub(super) bytes: u64,
    pub(super) lifetime: Duration,
}

/// What was asked of the cloud and what it costs.
pub(super) fn cloud_use(
    session: &Session,
    instance_id: Option<&str>,
    options: &ReadOptions,
    limit: &ReadLimit,
    kept: &[Kept],
    unknown_creations: usize,
) -> CloudUse {
    let counts = session.counts();
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let place = session.place();
    CloudUse {
        provider: Label::new("aws"),
        account: DiskText::new(&place.account),
        region: DiskText::new(&place.region),
        instance_id: instance_id.map(DiskText::new),
        locality: match session.connection().locality() {
            Locality::SameRegion => DataLocality::SameRegion,
            Locality::Loopback => DataLocality::Loopback,
            Locality::CrossRegionAllowed(_) => DataLocality::CrossRegionAllowed,
        },
        calls: CloudCalls {
            gets: count(&counts.gets),
            lists: count(&counts.lists),
            describes: count(&counts.describes),
            changes: count(&counts.changes),
            throttles: count(&counts.throttles),
            failures: count(&counts.failures),
            bad_blocks: count(&counts.bad_blocks),
            block_bytes: count(&counts.bytes),
        },
        cost: cost(&options.prices, limit, kept),
        limits: CloudLimits {
            max_blocks: options.max_blocks,
            max_cost_nano_usd: options.max_cost.map(|cost| cost.0),
        },
        unknown_creations: u64::try_from(unknown_creations).unwrap_or(u64::MAX),
    }
}

/// What was billed: calls that were refused are not.
fn cost(prices: &Prices, limit: &ReadLimit, kept: &[Kept]) -> CloudCost {
    let gets = prices.get.times(limit.blocks());
    let lists = limit.spent().0.saturating_sub(gets.0);
    let storage = kept.iter().fold(0_u64, |sum, kept| {
        let usage = Usage { snapshot_bytes: kept.bytes, lifetime: kept.lifetime, ..Usage::default() };
        let Cost { storage, .. } = prices.cost(&usage);
        sum.saturating_add(storage.0)
    });
    CloudCost {
        gets_nano_usd: gets.0,
        lists_nano_usd: lists,
        storage_nano_usd: storage,
        total_nano_usd: gets.0.saturating_add(lists).saturating_add(storage),
    }
}

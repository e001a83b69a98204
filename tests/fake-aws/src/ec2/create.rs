//! Snapshots are created: one, or a set of an instance's volumes.

use super::{check_dry_run, is_id, reply};
use crate::access;
use crate::estate::{Snapshot, Tags, Volume};
use crate::reply::{Refusal, Reply};
use crate::world::Scene;
use crate::xml::{Xml, time};

/// `ExcludeDataVolumeIds` takes no more.
const MOST_EXCLUDED: usize = 40;
/// What a set takes: the root and 127 data volumes.
const MOST_VOLUMES: usize = 128;

pub(super) fn one(scene: &mut Scene<'_>) -> Result<Reply, Refusal> {
    let id = scene.call.value("VolumeId").unwrap_or_default().to_owned();
    if !is_id(&id, "vol") {
        return Err(Refusal::new(400, "InvalidParameterValue", format!("Invalid volume id: '{id}'")));
    }
    let volume = find(scene, &id)?;
    let snapshots = create(scene, &[volume])?;
    Ok(reply(scene, |xml| {
        for snapshot in &snapshots {
            write_created(xml, snapshot, "status");
        }
    }))
}

pub(super) fn set(scene: &mut Scene<'_>) -> Result<Reply, Refusal> {
    let volumes = volumes_of_set(scene)?;
    let snapshots = create(scene, &volumes)?;
    Ok(reply(scene, |xml| {
        xml.items("snapshotSet", &snapshots, |xml, snapshot| write_created(xml, snapshot, "state"));
    }))
}

fn find(scene: &Scene<'_>, id: &str) -> Result<Volume, Refusal> {
    let caller = &scene.caller;
    let mut volumes = scene.state.estate.volumes.iter();
    volumes
        .find(|volume| volume.id == id && volume.account == caller.account && volume.region == caller.region)
        .cloned()
        .ok_or_else(|| {
            Refusal::new(400, "InvalidVolume.NotFound", format!("The volume '{id}' does not exist."))
        })
}

/// The volumes of the instance that are not excluded.
fn volumes_of_set(scene: &Scene<'_>) -> Result<Vec<Volume>, Refusal> {
    let bad = |message: &str| Refusal::new(400, "InvalidParameterValue", message);
    let id = scene.call.value("InstanceSpecification.InstanceId").unwrap_or_default();
    if !is_id(id, "i") {
        return Err(Refusal::new(400, "InvalidInstanceID.Malformed", format!("Invalid id: \"{id}\"")));
    }
    let caller = &scene.caller;
    let mut instances = scene.state.estate.instances.iter();
    let instance = instances
        .find(|instance| {
            instance.id == id && instance.account == caller.account && instance.region == caller.region
        })
        .ok_or_else(|| {
            Refusal::new(400, "InvalidInstanceID.NotFound", format!("The instance ID '{id}' does not exist"))
        })?;
    access::check_instance(scene, instance)?;
    if matches!(instance.state.as_str(), "terminated" | "shutting-down") {
        let message = format!("The instance '{id}' is in state '{}'", instance.state);
        return Err(Refusal::new(400, "IncorrectState", message));
    }
    let excluded = scene.call.list("InstanceSpecification.ExcludeDataVolumeId");
    if excluded.len() > MOST_EXCLUDED {
        return Err(bad("no more than 40 data volumes can be excluded"));
    }
    let skips_root = scene.call.is_true("InstanceSpecification.ExcludeBootVolume");
    let mut volumes = Vec::new();
    let mut excluded_here = 0;
    for device in &instance.devices {
        let Some(volume) = &device.volume else { continue };
        let is_root = device.name == instance.root_device_name;
        let is_excluded = excluded.contains(volume);
        if is_root && is_excluded {
            return Err(bad("the root volume is excluded by ExcludeBootVolume, not by its id"));
        }
        excluded_here += usize::from(is_excluded);
        if !(is_excluded || (is_root && skips_root)) {
            volumes.push(find(scene, volume)?);
        }
    }
    if excluded_here != excluded.len() {
        return Err(bad("a volume that is excluded is not one of the instance"));
    }
    if volumes.is_empty() || volumes.len() > MOST_VOLUMES {
        return Err(bad("a set is of 1 to 128 volumes"));
    }
    Ok(volumes)
}

/// Creates the snapshots of a call, all or none.
fn create(scene: &mut Scene<'_>, volumes: &[Volume]) -> Result<Vec<Snapshot>, Refusal> {
    let tags: Tags = scene.call.snapshot_tags().into_iter().collect();
    if tags.len() > 50 {
        return Err(Refusal::new(400, "TagLimitExceeded", "no more than 50 tags"));
    }
    for volume in volumes {
        access::check_volume(scene, volume)?;
    }
    access::check_new_snapshot(scene, &tags)?;
    check_dry_run(scene)?;
    check_quotas(scene, volumes)?;
    let set_error = volumes.iter().find_map(|volume| volume.snapshot_error.clone());
    let mut created = Vec::new();
    for volume in volumes {
        let serial = scene.state.next_serial();
        let delay_ms = volume.snapshot_delay_ms.unwrap_or(scene.state.estate.settings.snapshot_delay_ms);
        let snapshot = Snapshot {
            id: snapshot_id(serial),
            account: volume.account.clone(),
            region: volume.region.clone(),
            volume_id: volume.id.clone(),
            size_gib: volume.size_gib,
            content: volume.content.clone(),
            started_ms: scene.now_ms,
            completes_ms: scene.now_ms + delay_ms,
            visible_ms: scene.now_ms + scene.visible_after_ms,
            error: set_error.clone(),
            encrypted: volume.encrypted,
            kms_key_id: volume.kms_key_id.clone(),
            stays_local: volume.snapshots_stay_local || scene.call.value("Location") == Some("local"),
            outpost_arn: scene.call.value("OutpostArn").map(ToOwned::to_owned),
            description: scene.call.value("Description").unwrap_or_default().to_owned(),
            tags: tags.clone(),
            ..Snapshot::default()
        };
        scene.created.push(snapshot.id.clone());
        created.push(snapshot);
    }
    scene.state.estate.snapshots.extend(created.iter().cloned());
    let pending = u64::try_from(pending_here(scene)).unwrap_or(u64::MAX);
    let counters = &mut scene.state.counters;
    counters.max_pending = counters.max_pending.max(pending);
    Ok(created)
}

/// 17 hexadecimal digits, in no order.
fn snapshot_id(serial: u64) -> String {
    let mixed = serial.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    format!("snap-0{mixed:016x}")
}

/// The snapshots that are pending, with those whose deletion waits for that.
fn pending_here(scene: &Scene<'_>) -> usize {
    let caller = &scene.caller;
    let snapshots = scene.state.estate.snapshots.iter();
    snapshots
        .filter(|snapshot| snapshot.account == caller.account && snapshot.region == caller.region)
        .filter(|snapshot| scene.now_ms < snapshot.completes_ms)
        .count()
}

fn check_quotas(scene: &Scene<'_>, volumes: &[Volume]) -> Result<(), Refusal> {
    let refused = |code: &str, message: String| Err(Refusal::new(400, code, message));
    for volume in volumes {
        let state = volume.state.as_deref().unwrap_or("in-use");
        if !matches!(state, "in-use" | "available") {
            return refused("IncorrectState", format!("The volume '{}' is in state '{state}'", volume.id));
        }
    }
    let settings = &scene.state.estate.settings;
    if !settings.enforce_quotas {
        return Ok(());
    }
    let quotas = &settings.quotas;
    let caller = &scene.caller;
    let snapshots = &scene.state.estate.snapshots;
    for volume in volumes {
        let own = || snapshots.iter().filter(|snapshot| snapshot.volume_id == volume.id);
        let last_ms = own().map(|snapshot| snapshot.started_ms).max();
        if last_ms.is_some_and(|last_ms| scene.now_ms < last_ms + quotas.volume_interval_ms) {
            let message = format!(
                "The maximum per volume CreateSnapshot request rate has been exceeded: {}",
                volume.id
            );
            return refused("SnapshotCreationPerVolumeRateExceeded", message);
        }
        let is_slow = matches!(volume.volume_type.as_str(), "st1" | "sc1");
        let most = if is_slow { 1 } else { quotas.concurrent_per_volume };
        if own().filter(|snapshot| scene.now_ms < snapshot.completes_ms).count() >= most {
            let message = format!("Maximum allowed in-progress snapshots for '{}' exceeded", volume.id);
            return refused("ConcurrentSnapshotLimitExceeded", message);
        }
    }
    if pending_here(scene) + volumes.len() > quotas.pending_snapshots {
        let message = format!("No more than {} snapshots can be pending", quotas.pending_snapshots);
        return refused("PendingSnapshotLimitExceeded", message);
    }
    let kept = snapshots.iter().filter(|snapshot| {
        snapshot.account == caller.account
            && snapshot.region == caller.region
            && !snapshot.is_gone(scene.now_ms)
    });
    if kept.count() + volumes.len() > quotas.snapshots {
        return refused("SnapshotLimitExceeded", format!("No more than {} snapshots", quotas.snapshots));
    }
    Ok(())
}

/// A snapshot as the call that creates it describes it: it is always pending.
fn write_created(xml: &mut Xml, snapshot: &Snapshot, state: &str) {
    xml.text("snapshotId", &snapshot.id).text("volumeId", &snapshot.volume_id);
    xml.text(state, "pending").text("startTime", time(snapshot.started_ms)).text("progress", "");
    xml.text("ownerId", &snapshot.account).text("volumeSize", snapshot.size_gib);
    xml.text("description", &snapshot.description).text("encrypted", snapshot.encrypted);
    xml.maybe("outpostArn", snapshot.outpost_arn.as_ref());
    xml.tags(&snapshot.tags);
}

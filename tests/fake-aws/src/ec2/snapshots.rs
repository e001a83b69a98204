//! Snapshots are described, deleted, locked; the Recycle Bin.

use super::list::{Ids, chosen, filtered, page};
use super::{check_dry_run, is_id, reply};
use crate::access;
use crate::estate::Snapshot;
use crate::reply::{Refusal, Reply};
use crate::world::{Scene, internal};
use crate::xml::{Xml, time};

const DAY_MS: u64 = 24 * 3_600_000;

const IDS: Ids = Ids {
    parameter: "SnapshotId",
    prefix: "snap",
    not_found: "InvalidSnapshot.NotFound",
    malformed: "InvalidSnapshotID.Malformed",
};

/// A snapshot, and what it says of itself just now.
struct Shown {
    snapshot: Snapshot,
    state: &'static str,
    written_bytes: Option<u64>,
}

pub(super) fn describe(scene: &mut Scene<'_>) -> Result<Reply, Refusal> {
    let caller = scene.caller.clone();
    let owners = scene.call.list("Owner");
    let now_ms = scene.now_ms;
    let may_see = |snapshot: &Snapshot| {
        snapshot.account == caller.account
            || snapshot.public
            || snapshot.shared_with.contains(&caller.account)
    };
    let is_owner = |snapshot: &Snapshot| {
        owners.is_empty()
            || owners.contains(&snapshot.account)
            || (owners.iter().any(|owner| owner == "self") && snapshot.account == caller.account)
    };
    let mut shown = Vec::new();
    for snapshot in &scene.state.estate.snapshots {
        let is_here = snapshot.region == caller.region && snapshot.is_visible(now_ms);
        if is_here && may_see(snapshot) && is_owner(snapshot) {
            let state = snapshot.state(now_ms);
            shown.push(Shown { snapshot: snapshot.clone(), state, written_bytes: None });
        }
    }
    let shown = chosen(scene, shown, &IDS, |shown| &shown.snapshot.id)?;
    check_dry_run(scene)?;
    let shown = filtered(scene, shown, |shown| &shown.snapshot.tags, &field)?;
    let (mut shown, next) = page(scene, shown, 1_000, |shown| &shown.snapshot.id)?;
    for shown in &mut shown {
        if shown.state == "completed" {
            let opened = scene.contents.open(&shown.snapshot.content).map_err(|error| internal(&error))?;
            shown.written_bytes = Some(opened.written_count() * 512 * 1024);
        }
    }
    Ok(reply(scene, |xml| {
        xml.items("snapshotSet", &shown, |xml, shown| write(xml, shown, now_ms));
        xml.maybe("nextToken", next);
    }))
}

fn field(shown: &Shown, name: &str) -> Option<Vec<String>> {
    let snapshot = &shown.snapshot;
    Some(match name {
        "snapshot-id" => vec![snapshot.id.clone()],
        "status" => vec![shown.state.to_owned()],
        "volume-id" => vec![snapshot.volume_id.clone()],
        "volume-size" => vec![snapshot.size_gib.to_string()],
        "owner-id" => vec![snapshot.account.clone()],
        "description" => vec![snapshot.description.clone()],
        "encrypted" => vec![snapshot.encrypted.to_string()],
        "storage-tier" => vec![snapshot.storage_tier.clone()],
        "start-time" => vec![time(snapshot.started_ms)],
        _ => return None,
    })
}

fn write(xml: &mut Xml, shown: &Shown, now_ms: u64) {
    let snapshot = &shown.snapshot;
    xml.text("snapshotId", &snapshot.id).text("volumeId", &snapshot.volume_id);
    xml.text("status", shown.state)
        .maybe("statusMessage", snapshot.error.as_ref().filter(|_| shown.state == "error"));
    xml.text("startTime", time(snapshot.started_ms))
        .text("progress", format!("{}%", percent(snapshot, now_ms)));
    if shown.state == "completed" {
        xml.text("completionTime", time(snapshot.completes_ms));
    }
    xml.text("ownerId", &snapshot.account).text("volumeSize", snapshot.size_gib);
    xml.text("description", &snapshot.description).text("encrypted", snapshot.encrypted);
    xml.maybe("kmsKeyId", snapshot.kms_key_id.as_ref()).maybe("outpostArn", snapshot.outpost_arn.as_ref());
    xml.text("storageTier", &snapshot.storage_tier).maybe("fullSnapshotSizeInBytes", shown.written_bytes);
    xml.tags(&snapshot.tags);
}

fn percent(snapshot: &Snapshot, now_ms: u64) -> u64 {
    let whole = snapshot.completes_ms.saturating_sub(snapshot.started_ms);
    let passed = now_ms.saturating_sub(snapshot.started_ms);
    (passed * 100).checked_div(whole).unwrap_or(100).min(100)
}

/// The place of a snapshot of the caller's that a call names.
fn own(scene: &Scene<'_>) -> Result<usize, Refusal> {
    let id = scene.call.value("SnapshotId").unwrap_or_default();
    if !is_id(id, "snap") {
        return Err(Refusal::new(
            400,
            IDS.malformed,
            format!("Value ({id}) for parameter snapshotId is invalid"),
        ));
    }
    let caller = &scene.caller;
    let is_it = |snapshot: &Snapshot| {
        snapshot.id == id
            && snapshot.account == caller.account
            && snapshot.region == caller.region
            && snapshot.is_visible(scene.now_ms)
    };
    let found = scene.state.estate.snapshots.iter().position(is_it);
    found.ok_or_else(|| Refusal::new(400, IDS.not_found, format!("The snapshot '{id}' does not exist.")))
}

pub(super) fn delete(scene: &mut Scene<'_>) -> Result<Reply, Refusal> {
    let place = own(scene)?;
    let snapshot = &scene.state.estate.snapshots[place];
    access::check_snapshot(scene, snapshot)?;
    check_dry_run(scene)?;
    let id = &snapshot.id;
    if let Some(lock) = &snapshot.lock {
        // The code is a guess: no public source shows it.
        return Err(Refusal::new(
            400,
            "SnapshotLocked",
            format!("The snapshot '{id}' is locked in {lock} mode."),
        ));
    }
    if let Some(image) = &snapshot.in_use_by {
        let message = format!("The snapshot {id} is currently in use by {image}");
        return Err(Refusal::new(400, "InvalidSnapshot.InUse", message));
    }
    let account = scene.state.account(&snapshot.account);
    let days = account.and_then(|account| account.days_in_recycle_bin(&snapshot.tags));
    let now_ms = scene.now_ms;
    let snapshot = &mut scene.state.estate.snapshots[place];
    // A second deletion of one that is pending changes nothing.
    let deleted_ms = *snapshot.deleted_ms.get_or_insert(now_ms);
    let gone_ms = deleted_ms.max(snapshot.completes_ms);
    snapshot.in_recycle_bin_until_ms = days.map(|days| gone_ms + days * DAY_MS);
    Ok(reply(scene, |xml| {
        xml.text("return", true);
    }))
}

pub(super) fn lock(scene: &mut Scene<'_>) -> Result<Reply, Refusal> {
    let place = own(scene)?;
    access::check_snapshot(scene, &scene.state.estate.snapshots[place])?;
    check_dry_run(scene)?;
    let mode = scene.call.value("LockMode").unwrap_or("governance").to_owned();
    let snapshot = &mut scene.state.estate.snapshots[place];
    snapshot.lock = Some(mode.clone());
    let id = snapshot.id.clone();
    Ok(reply(scene, |xml| {
        xml.text("snapshotId", id).text("lockState", mode).text("lockCreatedOn", time(scene.now_ms));
    }))
}

pub(super) fn unlock(scene: &mut Scene<'_>) -> Result<Reply, Refusal> {
    let place = own(scene)?;
    access::check_snapshot(scene, &scene.state.estate.snapshots[place])?;
    check_dry_run(scene)?;
    let snapshot = &mut scene.state.estate.snapshots[place];
    if snapshot.lock.as_deref() == Some("compliance") {
        return Err(Refusal::new(400, "SnapshotLocked", "a lock in compliance mode stays"));
    }
    snapshot.lock = None;
    let id = snapshot.id.clone();
    Ok(reply(scene, |xml| {
        xml.text("snapshotId", id);
    }))
}

/// The caller's snapshots of the ids that are asked for, all where none are; those that are not there are left out.
fn own_listed(scene: &Scene<'_>, is_wanted: impl Fn(&Snapshot) -> bool) -> Vec<Snapshot> {
    let wanted = scene.call.list("SnapshotId");
    let caller = &scene.caller;
    let snapshots = scene.state.estate.snapshots.iter();
    snapshots
        .filter(|snapshot| snapshot.account == caller.account && snapshot.region == caller.region)
        .filter(|snapshot| wanted.is_empty() || wanted.contains(&snapshot.id))
        .filter(|snapshot| is_wanted(snapshot))
        .cloned()
        .collect()
}

pub(super) fn describe_locked(scene: &mut Scene<'_>) -> Result<Reply, Refusal> {
    check_dry_run(scene)?;
    let now_ms = scene.now_ms;
    let locked = own_listed(scene, |snapshot| snapshot.is_visible(now_ms) && snapshot.lock.is_some());
    let (locked, next) = page(scene, locked, 1_000, |snapshot| &snapshot.id)?;
    Ok(reply(scene, |xml| {
        xml.items("snapshotSet", &locked, |xml, snapshot| {
            xml.text("ownerId", &snapshot.account).text("snapshotId", &snapshot.id);
            xml.maybe("lockState", snapshot.lock.as_ref());
        });
        xml.maybe("nextToken", next);
    }))
}

pub(super) fn list_in_recycle_bin(scene: &mut Scene<'_>) -> Result<Reply, Refusal> {
    check_dry_run(scene)?;
    let now_ms = scene.now_ms;
    let binned = own_listed(scene, |snapshot| snapshot.is_in_recycle_bin(now_ms));
    let (binned, next) = page(scene, binned, 1_000, |snapshot| &snapshot.id)?;
    Ok(reply(scene, |xml| {
        xml.items("snapshotSet", &binned, |xml, snapshot| {
            xml.text("snapshotId", &snapshot.id).text("volumeId", &snapshot.volume_id);
            xml.text("description", &snapshot.description);
            xml.maybe(
                "recycleBinEnterTime",
                snapshot.deleted_ms.map(|at| time(at.max(snapshot.completes_ms))),
            );
            xml.maybe("recycleBinExitTime", snapshot.in_recycle_bin_until_ms.map(time));
        });
        xml.maybe("nextToken", next);
    }))
}

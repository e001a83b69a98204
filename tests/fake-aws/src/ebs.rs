//! The EBS direct APIs: which blocks were written, which changed, and their bytes.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::body::Bytes;
use serde_json::{Value, json};

use crate::access;
use crate::content::{BLOCK_LEN, Opened, block_count};
use crate::estate::Snapshot;
use crate::fault::Fault;
use crate::kms;
use crate::reply::{Delivery, Refusal, Reply};
use crate::request::Service;
use crate::token;
use crate::world::{Scene, internal, kms_denied, too_fast};

const DEFAULT_PAGE: usize = 100;
const LONGEST_PAGE: usize = 10_000;

pub(crate) fn answer(scene: &mut Scene<'_>) -> Result<Reply, Refusal> {
    match scene.call.operation.as_str() {
        "ListSnapshotBlocks" => list_blocks(scene),
        "GetSnapshotBlock" => get_block(scene),
        "ListChangedBlocks" => list_changed(scene),
        _ => Err(Refusal::new(404, "UnknownOperationException", "there is no such operation")),
    }
}

/// The reply with a block's bytes, made outside the lock.
pub(crate) fn block_reply(opened: &Opened, index: u32, faults: &[Fault]) -> io::Result<Reply> {
    let mut block = opened.read(index)?;
    let mut checksum = opened.checksum(index, &block);
    if faults.contains(&Fault::WrongChecksum) {
        checksum[0] ^= 1;
    }
    if faults.contains(&Fault::WrongData) {
        block[usize::try_from(index).unwrap_or(0) % BLOCK_LEN] ^= 0x10;
    }
    let headers = vec![
        ("content-type", "application/octet-stream".to_owned()),
        ("x-amz-data-length", BLOCK_LEN.to_string()),
        ("x-amz-checksum", STANDARD.encode(checksum)),
        ("x-amz-checksum-algorithm", "SHA256".to_owned()),
    ];
    Ok(Reply { status: 200, headers, body: Bytes::from(block), delivery: Delivery::Whole })
}

fn list_blocks(scene: &mut Scene<'_>) -> Result<Reply, Refusal> {
    spend(scene, "lists", None)?;
    let snapshot = readable(scene, &scene.call.path[1].clone())?;
    let page = Page::read(scene, &snapshot.id)?;
    let opened = open(scene, &snapshot)?;
    let (blocks, next) = if scene.empty_page {
        (Vec::new(), Some(page.start))
    } else {
        opened.page(page.start, page.limit, block_count(snapshot.size_gib))
    };
    let expires_ms = scene.now_ms + scene.state.estate.settings.block_token_ms;
    let blocks: Vec<Value> = blocks
        .into_iter()
        .map(|index| json!({"BlockIndex": index, "BlockToken": block_token(scene, &snapshot.id, index, expires_ms)}))
        .collect();
    let next = next.map(|next| page.token(scene, next));
    Ok(listing("Blocks", &blocks, &snapshot, expires_ms, next))
}

fn list_changed(scene: &mut Scene<'_>) -> Result<Reply, Refusal> {
    spend(scene, "changed lists", None)?;
    let second = readable(scene, &scene.call.path[1].clone())?;
    let first = scene.call.value("firstSnapshotId").map(ToOwned::to_owned);
    let first = first.map(|id| readable(scene, &id)).transpose()?;
    if first.as_ref().is_some_and(|first| first.volume_id != second.volume_id) {
        return Err(invalid("UNRELATED_SNAPSHOTS", "the snapshots are of two volumes"));
    }
    let page = Page::read(scene, &second.id)?;
    let new = open(scene, &second)?;
    let old = first.as_ref().map(|first| open(scene, first)).transpose()?;
    let mut changed = changed_blocks(old.as_deref(), &new).map_err(|error| internal(&error))?;
    changed.retain(|index| *index >= page.start);
    let limit = if scene.empty_page { 0 } else { page.limit };
    let next = changed.get(limit).copied();
    changed.truncate(limit);
    let expires_ms = scene.now_ms + scene.state.estate.settings.block_token_ms;
    let mut blocks = Vec::new();
    for index in changed {
        let mut block = json!({"BlockIndex": index});
        let sides = [
            ("FirstBlockToken", first.as_ref().zip(old.as_ref())),
            ("SecondBlockToken", Some((&second, &new))),
        ];
        for (name, side) in sides {
            if let Some((snapshot, _)) = side.filter(|(_, opened)| opened.is_written(index)) {
                block[name] = block_token(scene, &snapshot.id, index, expires_ms).into();
            }
        }
        blocks.push(block);
    }
    let next = next.map(|next| page.token(scene, next));
    Ok(listing("ChangedBlocks", &blocks, &second, expires_ms, next))
}

/// The blocks that are written on one side only, or differ.
fn changed_blocks(old: Option<&Opened>, new: &Opened) -> io::Result<Vec<u32>> {
    let mut changed = Vec::new();
    let sides = old.into_iter().chain([new]);
    let written: BTreeSet<u32> = sides.flat_map(|side| side.written().iter().cloned()).flatten().collect();
    for index in written {
        let in_both = old.filter(|old| old.is_written(index) && new.is_written(index));
        match in_both {
            // One content is the same to itself.
            Some(old) if std::ptr::eq(old, new) => {}
            Some(old) if old.read(index)? == new.read(index)? => {}
            _ => changed.push(index),
        }
    }
    Ok(changed)
}

fn get_block(scene: &mut Scene<'_>) -> Result<Reply, Refusal> {
    let id = scene.call.path[1].clone();
    spend(scene, "gets", Some(&id))?;
    let snapshot = readable(scene, &id)?;
    let index =
        scene.call.path[3].parse::<u32>().map_err(|_| invalid("INVALID_BLOCK", "that is no block index"))?;
    let subject = scene.call.value("blockToken").and_then(|sealed| token::open(sealed, scene.now_ms));
    if subject != Some(format!("block {id} {index}")) {
        return Err(invalid("INVALID_BLOCK_TOKEN", "the block token is not of this block, or has expired"));
    }
    if index >= block_count(snapshot.size_gib) {
        return Err(invalid("INVALID_BLOCK", "the block lies past the end of the volume"));
    }
    let denied_keys = scene.state.account(&snapshot.account).map(|account| &account.denied_keys);
    if let Some(key) = &snapshot.kms_key_id
        && denied_keys.is_some_and(|denied| denied.contains(key))
    {
        return Err(kms_denied(key));
    }
    if let Some(key) = &snapshot.kms_key_id {
        access::check_decryption(scene, key, &snapshot.volume_id).map_err(|_| kms_denied(key))?;
    }
    if let Some(key) = &snapshot.kms_key_id
        && let Some(state) = kms::state_of_key(scene, key).filter(|state| state != "Enabled")
    {
        return Err(invalid("INVALID_CUSTOMER_KEY", &format!("{key} is {state}")));
    }
    scene.block = Some((open(scene, &snapshot)?, index));
    // The bytes come later: see `block_reply`.
    Ok(Reply::json(200, &Value::Null))
}

/// Takes a call out of the quotas.
fn spend(scene: &mut Scene<'_>, kind: &str, snapshot: Option<&str>) -> Result<(), Refusal> {
    let settings = &scene.state.estate.settings;
    if !settings.enforce_quotas {
        return Ok(());
    }
    let quotas = &settings.quotas;
    let rate = if snapshot.is_some() { quotas.gets_per_second } else { quotas.lists_per_second };
    let bucket = |name: String, rate: f64| (name, (rate * quotas.burst_seconds).max(1.0), rate);
    let (account, region) = (&scene.caller.account, &scene.caller.region);
    let of_account = bucket(format!("ebs {kind} {account} {region}"), rate);
    let of_snapshot = snapshot.map(|id| bucket(format!("ebs {kind} {id}"), quotas.gets_per_snapshot_second));
    let wanted: Vec<_> = std::iter::once(of_account).chain(of_snapshot).collect();
    let now = Duration::from_millis(scene.now_ms);
    let reason = |place| if place == 0 { "ACCOUNT_THROTTLED" } else { "RESOURCE_LEVEL_THROTTLE" };
    scene.state.buckets.take(now, &wanted).map_err(|place| too_fast(Service::Ebs, reason(place)))
}

/// The snapshot, where the direct APIs may read it.
fn readable(scene: &Scene<'_>, id: &str) -> Result<Snapshot, Refusal> {
    let caller = &scene.caller;
    let found = scene.state.estate.snapshots.iter().find(|snapshot| {
        snapshot.id == id && snapshot.region == caller.region && snapshot.is_visible(scene.now_ms)
    });
    let is_shared = |snapshot: &&Snapshot| {
        snapshot.account == caller.account
            || snapshot.public
            || snapshot.shared_with.contains(&caller.account)
    };
    let snapshot = found.filter(is_shared).ok_or_else(|| {
        Refusal::new(404, "ResourceNotFoundException", format!("The snapshot '{id}' does not exist."))
            .because("SNAPSHOT_NOT_FOUND")
    })?;
    access::check_snapshot(scene, snapshot)?;
    if snapshot.public {
        // Not even by their owner. The reason is a guess: no public source shows it.
        let message = "public snapshots are not read by the direct APIs";
        return Err(Refusal::new(403, "AccessDeniedException", message).because("UNAUTHORIZED_ACCOUNT"));
    }
    let unfit = |why: &str| Err(invalid("INVALID_SNAPSHOT_ID", &format!("the snapshot '{id}' {why}")));
    match snapshot.state(scene.now_ms) {
        "completed" if snapshot.storage_tier != "standard" => unfit("is archived"),
        "completed" if snapshot.stays_local => unfit("is a local snapshot"),
        "completed" => Ok(snapshot.clone()),
        state => unfit(&format!("is in state {state}, not completed")),
    }
}

fn open(scene: &Scene<'_>, snapshot: &Snapshot) -> Result<Arc<Opened>, Refusal> {
    scene.contents.open(&snapshot.content).map_err(|error| internal(&error))
}

fn invalid(reason: &str, message: &str) -> Refusal {
    Refusal::new(400, "ValidationException", message).because(reason)
}

fn block_token(scene: &mut Scene<'_>, snapshot_id: &str, index: u32, expires_ms: u64) -> String {
    let serial = scene.state.next_serial();
    token::seal(&format!("block {snapshot_id} {index}"), expires_ms, serial)
}

/// Where a page begins, and how long it may be.
struct Page {
    start: u32,
    limit: usize,
    subject: String,
}

impl Page {
    fn read(scene: &Scene<'_>, snapshot_id: &str) -> Result<Self, Refusal> {
        let number = |name: &str| {
            let bad = |_| invalid("INVALID_PARAMETER_VALUE", &format!("{name} is no number"));
            scene.call.value(name).map(|value| value.parse::<u32>().map_err(bad)).transpose()
        };
        let wanted = number("maxResults")?.map_or(Ok(DEFAULT_PAGE), usize::try_from).unwrap_or(usize::MAX);
        if !(DEFAULT_PAGE..=LONGEST_PAGE).contains(&wanted) {
            return Err(invalid("INVALID_PARAMETER_VALUE", "maxResults is from 100 to 10000"));
        }
        let limit =
            scene.state.estate.settings.block_page_limit.map_or(wanted, |limit| limit.clamp(1, wanted));
        let subject = format!("page {} {snapshot_id}", scene.call.operation);
        let start = match scene.call.value("pageToken") {
            // Of the two, the token counts.
            Some(sealed) => token::open(sealed, scene.now_ms)
                .and_then(|opened| opened.strip_prefix(&subject)?.trim().parse().ok())
                .ok_or_else(|| {
                    invalid("INVALID_PAGE_TOKEN", "the page token is not of this list, or has expired")
                })?,
            None => number("startingBlockIndex")?.unwrap_or(0),
        };
        Ok(Self { start, limit, subject })
    }

    fn token(&self, scene: &mut Scene<'_>, start: u32) -> String {
        let expires_ms = scene.now_ms + scene.state.estate.settings.page_token_ms;
        let serial = scene.state.next_serial();
        token::seal(&format!("{} {start}", self.subject), expires_ms, serial)
    }
}

fn listing(
    name: &str,
    blocks: &[Value],
    snapshot: &Snapshot,
    expires_ms: u64,
    next: Option<String>,
) -> Reply {
    let mut body = json!({
        name: blocks,
        "ExpiryTime": expires_ms / 1_000,
        "VolumeSize": snapshot.size_gib,
        "BlockSize": BLOCK_LEN,
    });
    if let Some(next) = next {
        body["NextToken"] = next.into();
    }
    Reply::json(200, &body)
}

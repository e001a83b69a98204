//! The SDK's types in ours. What the cloud left out becomes `None`, nothing or 0, except for ids: a thing without one is
//! no answer.

use aws_sdk_ec2::operation::create_snapshot::CreateSnapshotOutput;
use aws_sdk_ec2::primitives::DateTime;
use aws_sdk_ec2::types;
use jiff::Timestamp;
use stillframe_cloud::api::{Device, Filter, Instance, Snapshot, SnapshotState, Tags, Volume};

/// What the cloud left out though nothing can be done without it.
pub(crate) struct Lacking(pub(crate) &'static str);

pub(crate) fn instance(instance: types::Instance) -> Result<Instance, Lacking> {
    let devices = instance.block_device_mappings.unwrap_or_default();
    Ok(Instance {
        id: instance.instance_id.ok_or(Lacking("an instance id"))?,
        state: instance
            .state
            .and_then(|state| state.name)
            .map(|name| name.as_str().to_owned())
            .unwrap_or_default(),
        instance_type: instance.instance_type.map(|kind| kind.as_str().to_owned()).unwrap_or_default(),
        availability_zone: instance.placement.and_then(|place| place.availability_zone).unwrap_or_default(),
        outpost: instance.outpost_arn.is_some(),
        root_device_name: instance.root_device_name,
        devices: devices
            .into_iter()
            .map(|device| Device {
                name: device.device_name.unwrap_or_default(),
                volume_id: device.ebs.and_then(|ebs| ebs.volume_id),
            })
            .collect(),
        tags: tags(instance.tags),
        // The cloud writes `windows` in one place of its own and `Windows` in another.
        platform: instance
            .platform
            .map(|platform| platform.as_str().to_ascii_lowercase())
            .unwrap_or_default(),
    })
}

pub(crate) fn volume(volume: types::Volume) -> Result<Volume, Lacking> {
    Ok(Volume {
        id: volume.volume_id.ok_or(Lacking("a volume id"))?,
        state: volume.state.map(|state| state.as_str().to_owned()).unwrap_or_default(),
        size_gib: count(volume.size),
        volume_type: volume.volume_type.map(|kind| kind.as_str().to_owned()).unwrap_or_default(),
        encrypted: volume.encrypted.unwrap_or_default(),
        kms_key_id: volume.kms_key_id,
        attached_to: volume
            .attachments
            .unwrap_or_default()
            .into_iter()
            .filter_map(|attachment| attachment.instance_id)
            .collect(),
        outpost: volume.outpost_arn.is_some(),
        availability_zone: volume.availability_zone.unwrap_or_default(),
        tags: tags(volume.tags),
    })
}

pub(crate) fn snapshot(snapshot: types::Snapshot) -> Result<Snapshot, Lacking> {
    Ok(Snapshot {
        id: snapshot.snapshot_id.ok_or(Lacking("a snapshot id"))?,
        volume_id: snapshot.volume_id.unwrap_or_default(),
        state: state(snapshot.state.as_ref()),
        progress_percent: percent(snapshot.progress.as_deref()),
        state_message: snapshot.state_message.filter(|message| !message.is_empty()),
        volume_size_gib: count(snapshot.volume_size),
        full_size_bytes: snapshot.full_snapshot_size_in_bytes.and_then(|bytes| u64::try_from(bytes).ok()),
        started: snapshot.start_time.as_ref().and_then(timestamp),
        owner: snapshot.owner_id.unwrap_or_default(),
        encrypted: snapshot.encrypted.unwrap_or_default(),
        kms_key_id: snapshot.kms_key_id,
        storage_tier: snapshot.storage_tier.map(|tier| tier.as_str().to_owned()),
        tags: tags(snapshot.tags),
    })
}

/// `CreateSnapshots` tells less than `DescribeSnapshots`: neither key, written bytes, storage tier nor why it failed.
pub(crate) fn snapshot_info(info: types::SnapshotInfo) -> Result<Snapshot, Lacking> {
    Ok(Snapshot {
        id: info.snapshot_id.ok_or(Lacking("a snapshot id"))?,
        volume_id: info.volume_id.unwrap_or_default(),
        state: state(info.state.as_ref()),
        progress_percent: percent(info.progress.as_deref()),
        state_message: None,
        volume_size_gib: count(info.volume_size),
        full_size_bytes: None,
        started: info.start_time.as_ref().and_then(timestamp),
        owner: info.owner_id.unwrap_or_default(),
        encrypted: info.encrypted.unwrap_or_default(),
        kms_key_id: None,
        storage_tier: None,
        tags: tags(info.tags),
    })
}

/// `CreateSnapshot` tells all that `DescribeSnapshots` does, the written bytes once they are known.
pub(crate) fn created(reply: CreateSnapshotOutput) -> Result<Snapshot, Lacking> {
    Ok(Snapshot {
        id: reply.snapshot_id.ok_or(Lacking("a snapshot id"))?,
        volume_id: reply.volume_id.unwrap_or_default(),
        state: state(reply.state.as_ref()),
        progress_percent: percent(reply.progress.as_deref()),
        state_message: reply.state_message.filter(|message| !message.is_empty()),
        volume_size_gib: count(reply.volume_size),
        full_size_bytes: reply.full_snapshot_size_in_bytes.and_then(|bytes| u64::try_from(bytes).ok()),
        started: reply.start_time.as_ref().and_then(timestamp),
        owner: reply.owner_id.unwrap_or_default(),
        encrypted: reply.encrypted.unwrap_or_default(),
        kms_key_id: reply.kms_key_id,
        storage_tier: reply.storage_tier.map(|tier| tier.as_str().to_owned()),
        tags: tags(reply.tags),
    })
}

/// `45%`, or nothing while none is known.
fn percent(progress: Option<&str>) -> Option<u8> {
    progress?.strip_suffix('%')?.parse().ok().filter(|percent| *percent <= 100)
}

/// A state that is not told, or that we do not know, is pending: it is asked for again until it is known or the deadline
/// is over.
pub(crate) fn state(state: Option<&types::SnapshotState>) -> SnapshotState {
    match state {
        Some(types::SnapshotState::Completed) => SnapshotState::Completed,
        Some(types::SnapshotState::Error) => SnapshotState::Error,
        Some(types::SnapshotState::Recoverable) => SnapshotState::Recoverable,
        Some(types::SnapshotState::Recovering) => SnapshotState::Recovering,
        _ => SnapshotState::Pending,
    }
}

pub(crate) fn tags(tags: Option<Vec<types::Tag>>) -> Tags {
    tags.unwrap_or_default()
        .into_iter()
        .filter_map(|tag| Some((tag.key?, tag.value.unwrap_or_default())))
        .collect()
}

/// Tags that the snapshots of a call are created with.
pub(crate) fn tag_specification(tags: &Tags) -> types::TagSpecification {
    types::TagSpecification::builder()
        .resource_type(types::ResourceType::Snapshot)
        .set_tags(Some(
            tags.iter().map(|(key, value)| types::Tag::builder().key(key).value(value).build()).collect(),
        ))
        .build()
}

pub(crate) fn filters(filters: &[Filter]) -> Option<Vec<types::Filter>> {
    (!filters.is_empty()).then(|| {
        filters
            .iter()
            .map(|filter| {
                types::Filter::builder().name(&filter.name).set_values(Some(filter.values.clone())).build()
            })
            .collect()
    })
}

fn timestamp(time: &DateTime) -> Option<Timestamp> {
    Timestamp::new(time.secs(), i32::try_from(time.subsec_nanos()).ok()?).ok()
}

fn count(number: Option<i32>) -> u64 {
    number.and_then(|number| u64::try_from(number).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_state_is_pending() {
        assert_eq!(state(None), SnapshotState::Pending);
        assert_eq!(state(Some(&types::SnapshotState::from("thawing"))), SnapshotState::Pending);
        assert_eq!(state(Some(&types::SnapshotState::from("completed"))), SnapshotState::Completed);
    }

    #[test]
    fn a_snapshot_without_an_id_is_none() {
        assert!(snapshot_info(types::SnapshotInfo::builder().volume_id("vol-1").build()).is_err());
        assert!(snapshot(types::Snapshot::builder().build()).is_err());
        assert!(volume(types::Volume::builder().build()).is_err());
        assert!(instance(types::Instance::builder().build()).is_err());
    }

    #[test]
    fn numbers_that_make_no_sense_are_not_believed() {
        let snapshot = snapshot(
            types::Snapshot::builder()
                .snapshot_id("snap-1")
                .volume_size(-5)
                .full_snapshot_size_in_bytes(-1)
                .start_time(DateTime::from_secs(i64::MAX))
                .build(),
        );
        let Ok(snapshot) = snapshot else { panic!("it has an id") };
        assert_eq!((snapshot.volume_size_gib, snapshot.full_size_bytes, snapshot.started), (0, None, None));
    }
}

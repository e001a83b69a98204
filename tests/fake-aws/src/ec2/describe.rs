//! Instances, volumes, regions.

use std::collections::BTreeSet;

use super::list::{Ids, chosen, filtered, page};
use super::{check_dry_run, reply};
use crate::estate::{Instance, Volume};
use crate::reply::{Refusal, Reply};
use crate::world::Scene;
use crate::xml::{Xml, time};

/// `DescribeInstanceTypes` takes no more.
const MOST_TYPES: usize = 100;

const INSTANCE_IDS: Ids = Ids {
    parameter: "InstanceId",
    prefix: "i",
    not_found: "InvalidInstanceID.NotFound",
    malformed: "InvalidInstanceID.Malformed",
};
const VOLUME_IDS: Ids = Ids {
    parameter: "VolumeId",
    prefix: "vol",
    not_found: "InvalidVolume.NotFound",
    malformed: "InvalidParameterValue",
};

pub(super) fn instances(scene: &mut Scene<'_>) -> Result<Reply, Refusal> {
    let caller = &scene.caller;
    let all = &scene.state.estate.instances;
    let here = |instance: &&Instance| instance.account == caller.account && instance.region == caller.region;
    let instances: Vec<Instance> = all.iter().filter(here).cloned().collect();
    let instances = chosen(scene, instances, &INSTANCE_IDS, |instance| &instance.id)?;
    check_dry_run(scene)?;
    let instances = filtered(scene, instances, |instance| &instance.tags, &instance_field)?;
    let (instances, next) = page(scene, instances, 1_000, |instance| &instance.id)?;
    let now_ms = scene.now_ms;
    Ok(reply(scene, |xml| {
        // Each in a reservation of its own, as machines that were launched one by one.
        xml.items("reservationSet", &instances, |xml, instance| {
            xml.text("reservationId", instance.id.replacen("i-", "r-", 1)).text("ownerId", &instance.account);
            xml.element("groupSet", |_| {});
            xml.items("instancesSet", [instance], |xml, instance| write_instance(xml, instance, now_ms));
        });
        xml.maybe("nextToken", next);
    }))
}

fn instance_field(instance: &Instance, name: &str) -> Option<Vec<String>> {
    let volumes = || instance.devices.iter().filter_map(|device| device.volume.clone());
    Some(match name {
        "instance-id" => vec![instance.id.clone()],
        "instance-state-name" => vec![instance.state.clone()],
        "instance-state-code" => vec![state_code(&instance.state).to_string()],
        "instance-type" => vec![instance.instance_type.clone()],
        "availability-zone" => vec![instance.zone()],
        "owner-id" => vec![instance.account.clone()],
        "root-device-name" => vec![instance.root_device_name.clone()],
        "root-device-type" => vec![root_device_type(instance).to_owned()],
        "platform" => instance.platform.clone().into_iter().collect(),
        "outpost-arn" => instance.outpost_arn.clone().into_iter().collect(),
        "block-device-mapping.device-name" => {
            instance.devices.iter().map(|device| device.name.clone()).collect()
        }
        "block-device-mapping.volume-id" => volumes().collect(),
        _ => return None,
    })
}

fn state_code(state: &str) -> u32 {
    match state {
        "pending" => 0,
        "running" => 16,
        "shutting-down" => 32,
        "terminated" => 48,
        "stopping" => 64,
        _ => 80,
    }
}

fn root_device_type(instance: &Instance) -> &'static str {
    let root = instance.devices.iter().find(|device| device.name == instance.root_device_name);
    if root.is_some_and(|root| root.volume.is_none()) { "instance-store" } else { "ebs" }
}

fn write_instance(xml: &mut Xml, instance: &Instance, now_ms: u64) {
    xml.text("instanceId", &instance.id).text("imageId", "ami-0fa4e0fa4e0fa4e00");
    xml.element("instanceState", |xml| {
        xml.text("code", state_code(&instance.state)).text("name", &instance.state);
    });
    xml.text("instanceType", &instance.instance_type);
    // Whatever runs has run for an hour.
    let launched = time(now_ms.saturating_sub(3_600_000));
    xml.text("launchTime", &launched);
    xml.element("placement", |xml| {
        xml.text("availabilityZone", instance.zone()).text("tenancy", "default");
    });
    xml.maybe("platform", instance.platform.as_ref());
    xml.text("architecture", "x86_64").text("rootDeviceType", root_device_type(instance));
    xml.text("rootDeviceName", &instance.root_device_name);
    xml.items("blockDeviceMapping", &instance.devices, |xml, device| {
        xml.text("deviceName", &device.name);
        if let Some(volume) = &device.volume {
            xml.element("ebs", |xml| {
                xml.text("volumeId", volume).text("status", "attached").text("attachTime", &launched);
                xml.text("deleteOnTermination", device.name == instance.root_device_name);
            });
        }
    });
    xml.maybe("outpostArn", instance.outpost_arn.as_ref());
    xml.tags(&instance.tags);
}

pub(super) fn volumes(scene: &mut Scene<'_>) -> Result<Reply, Refusal> {
    let caller = &scene.caller;
    let estate = &scene.state.estate;
    let here = |volume: &&Volume| volume.account == caller.account && volume.region == caller.region;
    let volumes: Vec<(Volume, Vec<(String, String)>)> = estate
        .volumes
        .iter()
        .filter(here)
        .map(|volume| (volume.clone(), attachments(&estate.instances, &volume.id)))
        .collect();
    let volumes = chosen(scene, volumes, &VOLUME_IDS, |(volume, _)| &volume.id)?;
    check_dry_run(scene)?;
    let volumes = filtered(scene, volumes, |(volume, _)| &volume.tags, &volume_field)?;
    let (volumes, next) = page(scene, volumes, 500, |(volume, _)| &volume.id)?;
    let now_ms = scene.now_ms;
    Ok(reply(scene, |xml| {
        xml.items("volumeSet", &volumes, |xml, (volume, attachments)| {
            write_volume(xml, volume, attachments, now_ms);
        });
        xml.maybe("nextToken", next);
    }))
}

/// The instances that have a volume, and their names for it.
fn attachments(instances: &[Instance], volume_id: &str) -> Vec<(String, String)> {
    instances
        .iter()
        .flat_map(|instance| instance.devices.iter().map(move |device| (instance, device)))
        .filter(|(_, device)| device.volume.as_deref() == Some(volume_id))
        .map(|(instance, device)| (instance.id.clone(), device.name.clone()))
        .collect()
}

fn volume_state(volume: &Volume, attachments: &[(String, String)]) -> String {
    let found = if attachments.is_empty() { "available" } else { "in-use" };
    volume.state.clone().unwrap_or_else(|| found.to_owned())
}

fn volume_field((volume, attachments): &(Volume, Vec<(String, String)>), name: &str) -> Option<Vec<String>> {
    Some(match name {
        "volume-id" => vec![volume.id.clone()],
        "status" => vec![volume_state(volume, attachments)],
        "volume-type" => vec![volume.volume_type.clone()],
        "size" => vec![volume.size_gib.to_string()],
        "encrypted" => vec![volume.encrypted.to_string()],
        "multi-attach-enabled" => vec![volume.multi_attach.to_string()],
        "availability-zone" => vec![volume.zone()],
        "attachment.instance-id" => attachments.iter().map(|(instance, _)| instance.clone()).collect(),
        "attachment.device" => attachments.iter().map(|(_, device)| device.clone()).collect(),
        _ => return None,
    })
}

fn write_volume(xml: &mut Xml, volume: &Volume, attachments: &[(String, String)], now_ms: u64) {
    let attached = time(now_ms.saturating_sub(3_600_000));
    xml.text("volumeId", &volume.id).text("size", volume.size_gib).text("snapshotId", "");
    xml.text("availabilityZone", volume.zone()).text("status", volume_state(volume, attachments));
    xml.text("createTime", &attached);
    xml.items("attachmentSet", attachments, |xml, (instance, device)| {
        xml.text("volumeId", &volume.id).text("instanceId", instance).text("device", device);
        xml.text("status", "attached").text("attachTime", &attached).text("deleteOnTermination", false);
    });
    xml.tags(&volume.tags);
    xml.text("volumeType", &volume.volume_type).text("encrypted", volume.encrypted);
    xml.maybe("kmsKeyId", volume.kms_key_id.as_ref()).maybe("outpostArn", volume.outpost_arn.as_ref());
    xml.text("multiAttachEnabled", volume.multi_attach);
}

pub(super) fn regions(scene: &mut Scene<'_>) -> Result<Reply, Refusal> {
    check_dry_run(scene)?;
    let wanted = scene.call.list("RegionName");
    let all = &scene.state.estate.regions;
    if let Some(unknown) = wanted.iter().find(|region| !all.contains(region)) {
        return Err(Refusal::new(400, "InvalidParameterValue", format!("Invalid region: {unknown}")));
    }
    let regions = all.iter().filter(|region| wanted.is_empty() || wanted.contains(region));
    Ok(reply(scene, |xml| {
        xml.items("regionInfo", regions, |xml, region| {
            xml.text("regionName", region)
                .text("regionEndpoint", format!("ec2.{region}.amazonaws.com"))
                .text("optInStatus", "opt-in-not-required");
        });
    }))
}

/// The types that a call names: those of the estate's table, and of its instances. A type that the table does not have
/// has no instance store.
pub(super) fn instance_types(scene: &mut Scene<'_>) -> Result<Reply, Refusal> {
    let estate = &scene.state.estate;
    let of_instances = estate.instances.iter().map(|instance| &instance.instance_type);
    let all: BTreeSet<String> = estate.instance_types.keys().chain(of_instances).cloned().collect();
    let wanted = scene.call.list("InstanceType");
    if wanted.len() > MOST_TYPES {
        return Err(Refusal::new(400, "InvalidParameterValue", "no more than 100 instance types"));
    }
    let unknown: Vec<&str> = wanted.iter().filter(|name| !all.contains(*name)).map(String::as_str).collect();
    if !unknown.is_empty() {
        let message = format!("The following supplied instance types do not exist: [{}]", unknown.join(", "));
        return Err(Refusal::new(400, "InvalidInstanceType", message));
    }
    check_dry_run(scene)?;
    let types = all.into_iter().filter(|name| wanted.is_empty() || wanted.contains(name));
    let stores = scene.state.estate.instance_types.clone();
    let types: Vec<(String, u64)> =
        types.map(|name| (name.clone(), stores.get(&name).copied().unwrap_or(0))).collect();
    let (types, next) = page(scene, types, 100, |(name, _)| name)?;
    Ok(reply(scene, |xml| {
        xml.items("instanceTypeSet", &types, |xml, (name, gib)| {
            xml.text("instanceType", name).text("currentGeneration", true);
            xml.text("instanceStorageSupported", *gib > 0);
            if *gib > 0 {
                xml.element("instanceStorageInfo", |xml| {
                    xml.text("totalSizeInGB", gib);
                    xml.items("disks", [gib], |xml, gib| {
                        xml.text("sizeInGB", gib).text("count", 1).text("type", "ssd");
                    });
                    xml.text("nvmeSupport", "required");
                });
            }
        });
        xml.maybe("nextToken", next);
    }))
}

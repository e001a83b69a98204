//! Disks of the host that a machine has. `DescribeInstances` does not list them: the machine's type tells.

use std::collections::{BTreeMap, BTreeSet};

use crate::api::ApiError;
use crate::client::Client;
use crate::discover::{DiskSkip, PlannedDisk, PlannedInstance};

/// `DescribeInstanceTypes` takes so many.
const TYPES_AT_MOST: usize = 100;
/// The device of disks that have no name in the list of devices.
const DEVICE: &str = "instance store";

/// What an instance has of its host's disks. They have no snapshots: what is on them is not scanned.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum InstanceStore {
    /// Not asked for: the instance is not scanned.
    #[default]
    NotAsked,
    /// None.
    None,
    /// So many GiB in all.
    Gib(u64),
    /// The cloud did not say.
    Unknown(ApiError),
}

/// What machines of these types have. A failure is an answer too: it is no reason not to scan what can be scanned.
pub(crate) async fn of_types(client: &Client, types: BTreeSet<String>) -> BTreeMap<String, InstanceStore> {
    let types: Vec<String> = types.into_iter().filter(|name| !name.is_empty()).collect();
    let mut stores = BTreeMap::new();
    for types in types.chunks(TYPES_AT_MOST) {
        let answer = client.instance_store_gib(types).await;
        if let Err(error) = &answer {
            tracing::info!(%error, "whether machines have an instance store is not known");
        }
        for name in types {
            let store = match &answer {
                Ok(gib) => match gib.get(name) {
                    Some(gib) if *gib > 0 => InstanceStore::Gib(*gib),
                    _ => InstanceStore::None,
                },
                Err(error) => InstanceStore::Unknown(error.clone()),
            };
            stores.insert(name.clone(), store);
        }
    }
    stores
}

/// Says so of an instance, with a disk that stands for all of them.
pub(crate) fn add(planned: &mut PlannedInstance, store: Option<InstanceStore>) {
    planned.instance_store = store.unwrap_or_default();
    let is_listed = planned.disks.iter().any(|disk| disk.volume_id.is_none());
    if matches!(planned.instance_store, InstanceStore::Gib(_)) && !is_listed {
        planned.disks.push(PlannedDisk {
            device: DEVICE.to_owned(),
            is_root: false,
            volume_id: None,
            volume: None,
            skipped: Some(DiskSkip::InstanceStore),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{Device, ErrorKind};
    use crate::discover::{Discovery, Exclusions, Selection, discover};
    use crate::testing::{FakeCompute, Process, World, instance_of};

    async fn discovered(change: impl FnOnce(&mut World)) -> Discovery {
        let folder = tempfile::tempdir().unwrap();
        let cloud = FakeCompute::new()
            .with_instance("i-1", &["vol-1", "vol-2", "vol-3"])
            .with_instance("i-2", &["vol-4"])
            .with_instance("i-3", &["vol-5"]);
        change(&mut cloud.world());
        let process = Process::start(folder.path(), &cloud);
        discover(&process.purger.client, &Selection::default(), &Exclusions::default()).await.unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn instance_stores_are_asked_for_by_type_and_skipped() {
        let types = |world: &mut World| {
            for (instance, kind) in world.instances.iter_mut().zip(["m5d.large", "t3.micro", "m5d.large"]) {
                instance.instance_type = kind.into();
            }
            world.instances[2].state = "stopped".into();
            world.instance_store_gib = Some([("m5d.large".into(), 75)].into());
        };
        let found = discovered(types).await;
        let stores: Vec<_> = found.instances.iter().map(|planned| planned.instance_store.clone()).collect();
        assert_eq!(stores, [InstanceStore::Gib(75), InstanceStore::None, InstanceStore::NotAsked]);
        let first = &found.instances[0];
        let last = first.disks.last().unwrap();
        assert_eq!((last.device.as_str(), &last.skipped), ("instance store", &Some(DiskSkip::InstanceStore)));
        assert_eq!((first.disks.len(), first.volumes().count()), (4, 3));
        assert_eq!((first.leaves_out_root(), first.left_out_data().count()), (false, 0));
        assert_eq!((found.instances[1].disks.len(), found.instances[2].disks.len()), (1, 1));

        // One that the list of devices has already is not counted twice.
        let listed = |world: &mut World| {
            types(world);
            world.instances[0].devices.push(Device { name: "/dev/sdz".into(), volume_id: None });
        };
        let found = discovered(listed).await;
        assert_eq!(found.instances[0].disks.len(), 4);
    }

    #[tokio::test(start_paused = true)]
    async fn an_instance_store_that_we_may_not_ask_for_fails_nothing() {
        let denied = |world: &mut World| {
            world.refusals.insert("ec2:DescribeInstanceTypes", ErrorKind::AccessDenied);
        };
        let found = discovered(denied).await;
        assert!(found.instances.iter().all(|planned| planned.skipped.is_none()));
        for planned in &found.instances {
            let InstanceStore::Unknown(error) = &planned.instance_store else { panic!("{planned:?}") };
            assert_eq!(error.kind, ErrorKind::AccessDenied);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn types_are_asked_for_once_in_chunks_of_a_hundred() {
        let folder = tempfile::tempdir().unwrap();
        let cloud = FakeCompute::new();
        for number in 0..250 {
            let mut instance = instance_of(&format!("i-{number}"), &[]);
            instance.instance_type = format!("t{}.micro", number % 150);
            cloud.world().instances.push(instance);
        }
        let process = Process::start(folder.path(), &cloud);
        let none = Exclusions::default();
        let found = discover(&process.purger.client, &Selection::default(), &none).await.unwrap();
        assert_eq!(found.instances.len(), 250);
        let world = cloud.world();
        assert_eq!(world.log.iter().filter(|line| *line == "ec2:DescribeInstanceTypes").count(), 2);
    }
}

//! Which machines there are, which of them are scanned, and of those which disks; for each that is not, why not.

use std::collections::{BTreeMap, BTreeSet};

use crate::api::{ApiError, Filter, Instance, Tags, Volume};
use crate::client::Client;
pub use crate::instance_store::InstanceStore;
use crate::{instance_store, tags};

/// A filter takes so many values.
const FILTER_VALUES_AT_MOST: usize = 200;

/// Which instances are asked for: those that fit all that is given.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Selection {
    /// These ids; any where empty.
    pub ids: Vec<String>,
    /// Tags that an instance must have: key, and value or pattern.
    pub tags: Vec<(String, String)>,
    /// Its `Name` tag fits one of these patterns, in which `*` stands for any run of characters; any where empty.
    pub names: Vec<String>,
}

/// What is left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exclusions {
    /// Tags, on an instance or a volume: key, and value where only that one counts.
    pub tags: Vec<(String, Option<String>)>,
    /// Root volumes.
    pub root: bool,
    /// Data volumes.
    pub data: bool,
}

impl Default for Exclusions {
    /// What bears `stillframe:exclude`, whatever its value.
    fn default() -> Self {
        Self { tags: vec![(tags::EXCLUDE.to_owned(), None)], root: false, data: false }
    }
}

/// An instance, and what is to be done with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedInstance {
    /// The instance.
    pub instance: Instance,
    /// Why it is not scanned; `None` where it is.
    pub skipped: Option<InstanceSkip>,
    /// Its disks.
    pub disks: Vec<PlannedDisk>,
    /// Whether it has disks of the host, of which one of `disks` then stands for all.
    pub instance_store: InstanceStore,
}

impl PlannedInstance {
    /// The volumes to take.
    pub fn volumes(&self) -> impl Iterator<Item = &Volume> {
        let scanned = self.skipped.is_none();
        self.disks
            .iter()
            .filter(move |disk| scanned && disk.skipped.is_none())
            .filter_map(|disk| disk.volume.as_ref())
    }

    /// Whether `CreateSnapshots` must leave out the root volume.
    #[must_use]
    pub fn leaves_out_root(&self) -> bool {
        self.disks.iter().any(|disk| disk.is_root && disk.volume_id.is_some() && disk.skipped.is_some())
    }

    /// The data volumes that `CreateSnapshots` must leave out.
    pub fn left_out_data(&self) -> impl Iterator<Item = &str> {
        let left_out = self.disks.iter().filter(|disk| !disk.is_root && disk.skipped.is_some());
        left_out.filter_map(|disk| disk.volume_id.as_deref())
    }
}

/// A disk of an instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedDisk {
    /// `/dev/sdf`.
    pub device: String,
    /// Whether it is the one that the instance was started from.
    pub is_root: bool,
    /// `vol-…`, where it is an EBS volume.
    pub volume_id: Option<String>,
    /// The volume, where it was described.
    pub volume: Option<Volume>,
    /// Why it is not taken; `None` where it is.
    pub skipped: Option<DiskSkip>,
}

/// Why an instance is not scanned.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InstanceSkip {
    /// Not running.
    #[error("{state}: {}", why_state(state))]
    NotRunning {
        /// The state it is in.
        state: String,
    },
    /// A tag says so.
    #[error("excluded by the tag {key}")]
    Excluded {
        /// The tag's key.
        key: String,
    },
    /// It is on an Outpost, whose snapshots cannot be read directly.
    #[error("on an Outpost: its snapshots cannot be read directly")]
    Outpost,
    /// It is in a Local Zone, whose snapshots cannot be read directly.
    #[error("in the Local Zone {zone}: snapshots there cannot be read directly")]
    LocalZone {
        /// The zone.
        zone: String,
    },
    /// No disk of it is left to take.
    #[error("none of its disks is taken")]
    NoDisks,
}

/// Why a disk is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DiskSkip {
    /// It is the host's own.
    #[error("instance store: it has no snapshots")]
    InstanceStore,
    /// A tag says so.
    #[error("excluded by the tag {key}")]
    Excluded {
        /// The tag's key.
        key: String,
    },
    /// Root volumes are left out.
    #[error("root volumes are left out")]
    RootLeftOut,
    /// Data volumes are left out.
    #[error("data volumes are left out")]
    DataLeftOut,
    /// It is on an Outpost.
    #[error("on an Outpost: its snapshots cannot be read directly")]
    Outpost,
    /// It is in a Local Zone.
    #[error("in the Local Zone {zone}: snapshots there cannot be read directly")]
    LocalZone {
        /// The zone.
        zone: String,
    },
    /// Several instances share it, and it is taken with another one.
    #[error("shared: it is taken with {instance_id}")]
    TakenWith {
        /// That instance.
        instance_id: String,
    },
    /// The volume is not in use.
    #[error("the volume is in state {state}")]
    State {
        /// The state it is in.
        state: String,
    },
    /// It was not described: it was detached meanwhile, or we may not see it.
    #[error("the volume is not listed")]
    NotListed,
}

/// All that was found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Discovery {
    /// By id.
    pub instances: Vec<PlannedInstance>,
    /// Ids that were asked for and do not exist here.
    pub unknown_ids: Vec<String>,
}

/// Finds the instances of the account and region that fit, in whatever state, and plans their disks.
///
/// # Errors
/// What a list fails with, after retries.
pub async fn discover(
    client: &Client,
    selection: &Selection,
    exclusions: &Exclusions,
) -> Result<Discovery, ApiError> {
    let mut found: BTreeMap<String, Instance> = BTreeMap::new();
    for filters in selection.filters() {
        let instances = client.instances(&filters).await?;
        found.extend(instances.into_iter().map(|instance| (instance.id.clone(), instance)));
    }
    let unknown_ids = selection.ids.iter().filter(|id| !found.contains_key(*id)).cloned().collect();
    found.retain(|_, instance| selection.fits(instance));

    let region = client.caller.place.region.as_str();
    let scanned: BTreeSet<String> = found
        .values()
        .filter(|instance| instance_skip(instance, region, exclusions).is_none())
        .map(|instance| instance.id.clone())
        .collect();
    let mut volumes: BTreeMap<String, Volume> = BTreeMap::new();
    for ids in Vec::from_iter(&scanned).chunks(FILTER_VALUES_AT_MOST) {
        let values = ids.iter().map(|id| (*id).clone()).collect();
        let filter = Filter { name: "attachment.instance-id".to_owned(), values };
        let listed = client.volumes(&[filter]).await?;
        volumes.extend(listed.into_iter().map(|volume| (volume.id.clone(), volume)));
    }
    let types = scanned.iter().filter_map(|id| found.get(id)).map(|instance| instance.instance_type.clone());
    let stores = instance_store::of_types(client, types.collect()).await;
    let mut taken = BTreeMap::new();
    let mut instances = Vec::new();
    for instance in found.into_values() {
        let mut planned = plan(instance, region, exclusions, &volumes, &mut taken);
        if scanned.contains(&planned.instance.id) {
            let store = stores.get(&planned.instance.instance_type).cloned();
            instance_store::add(&mut planned, store);
        }
        instances.push(planned);
    }
    Ok(Discovery { instances, unknown_ids })
}

impl Selection {
    /// What the cloud filters by itself. Ids as a filter: one that does not exist would fail a call by id.
    fn filters(&self) -> Vec<Vec<Filter>> {
        let mut exact: Vec<Filter> = Vec::new();
        for (key, value) in &self.tags {
            // Patterns are ours to judge: the cloud's have more special characters.
            if !value.contains(['*', '?', '\\']) {
                exact.push(Filter { name: format!("tag:{key}"), values: vec![value.clone()] });
            }
        }
        if self.ids.is_empty() {
            return vec![exact];
        }
        let by_ids = |ids: &[String]| vec![Filter { name: "instance-id".to_owned(), values: ids.to_vec() }];
        self.ids.chunks(FILTER_VALUES_AT_MOST).map(by_ids).collect()
    }

    fn fits(&self, instance: &Instance) -> bool {
        let has = |(key, pattern): &(String, String)| {
            instance.tags.get(key).is_some_and(|value| fits_pattern(pattern, value))
        };
        let name = instance.tags.get("Name").map_or("", String::as_str);
        self.tags.iter().all(has)
            && (self.names.is_empty() || self.names.iter().any(|pattern| fits_pattern(pattern, name)))
    }
}

/// `*` stands for any run of characters, all else for itself.
fn fits_pattern(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = text.strip_prefix(parts.next().unwrap_or_default()) else { return false };
    let Some(last) = parts.next_back() else { return rest.is_empty() };
    for part in parts {
        // The leftmost place leaves the most for what follows.
        let Some((_, after)) = rest.split_once(part) else { return false };
        rest = after;
    }
    rest.ends_with(last)
}

fn instance_skip(instance: &Instance, region: &str, exclusions: &Exclusions) -> Option<InstanceSkip> {
    if instance.state != "running" {
        return Some(InstanceSkip::NotRunning { state: instance.state.clone() });
    }
    if let Some(key) = exclusions.tag_of(&instance.tags) {
        return Some(InstanceSkip::Excluded { key });
    }
    if instance.outpost {
        return Some(InstanceSkip::Outpost);
    }
    let zone = &instance.availability_zone;
    is_local_zone(zone, region).then(|| InstanceSkip::LocalZone { zone: zone.clone() })
}

fn plan(
    instance: Instance,
    region: &str,
    exclusions: &Exclusions,
    volumes: &BTreeMap<String, Volume>,
    taken: &mut BTreeMap<String, String>,
) -> PlannedInstance {
    let mut skipped = instance_skip(&instance, region, exclusions);
    let mut disks = Vec::new();
    let mut met = BTreeSet::new();
    for device in &instance.devices {
        // A volume is attached once; what says otherwise must not have it taken twice.
        if device.volume_id.as_ref().is_some_and(|id| !met.insert(id.clone())) {
            continue;
        }
        let is_root = instance.root_device_name.as_ref() == Some(&device.name);
        let volume = device.volume_id.as_ref().and_then(|id| volumes.get(id)).cloned();
        let mut disk = PlannedDisk {
            device: device.name.clone(),
            is_root,
            volume_id: device.volume_id.clone(),
            volume,
            skipped: None,
        };
        if skipped.is_none() {
            disk.skipped = disk_skip(&disk, region, exclusions, &instance.id, taken);
        }
        disks.push(disk);
    }
    if skipped.is_none() && disks.iter().all(|disk| disk.skipped.is_some()) {
        skipped = Some(InstanceSkip::NoDisks);
    }
    PlannedInstance { instance, skipped, disks, instance_store: InstanceStore::NotAsked }
}

fn disk_skip(
    disk: &PlannedDisk,
    region: &str,
    exclusions: &Exclusions,
    instance_id: &str,
    taken: &mut BTreeMap<String, String>,
) -> Option<DiskSkip> {
    if disk.volume_id.is_none() {
        return Some(DiskSkip::InstanceStore);
    }
    let Some(volume) = &disk.volume else { return Some(DiskSkip::NotListed) };
    if let Some(key) = exclusions.tag_of(&volume.tags) {
        return Some(DiskSkip::Excluded { key });
    }
    if disk.is_root && exclusions.root {
        return Some(DiskSkip::RootLeftOut);
    }
    if !disk.is_root && exclusions.data {
        return Some(DiskSkip::DataLeftOut);
    }
    if volume.outpost {
        return Some(DiskSkip::Outpost);
    }
    if is_local_zone(&volume.availability_zone, region) {
        return Some(DiskSkip::LocalZone { zone: volume.availability_zone.clone() });
    }
    if volume.state != "in-use" {
        return Some(DiskSkip::State { state: volume.state.clone() });
    }
    if volume.attached_to.len() > 1 {
        let with = taken.entry(volume.id.clone()).or_insert_with(|| instance_id.to_owned());
        if with != instance_id {
            return Some(DiskSkip::TakenWith { instance_id: with.clone() });
        }
    }
    None
}

impl Exclusions {
    fn tag_of(&self, tags: &Tags) -> Option<String> {
        let excludes = |(key, value): &&(String, Option<String>)| {
            let found = tags.get(key);
            found.is_some_and(|found| value.as_ref().is_none_or(|value| value == found))
        };
        self.tags.iter().find(excludes).map(|(key, _)| key.clone())
    }
}

/// `eu-west-3a` is the region's own; `us-west-2-lax-1a` is not.
fn is_local_zone(zone: &str, region: &str) -> bool {
    let letter = zone.strip_prefix(region).unwrap_or("-");
    let is_own = letter.len() == 1 && letter.bytes().all(|byte| byte.is_ascii_lowercase());
    // A zone that is not known is taken for the region's own.
    !(zone.is_empty() || is_own)
}

fn why_state(state: &str) -> &'static str {
    match state {
        "stopped" => "a deallocated machine is not scanned",
        "stopping" => "a machine that is being deallocated is not scanned",
        "pending" => "a machine that is being started has nothing to scan yet",
        "shutting-down" | "terminated" => "there is no machine any more",
        _ => "only running machines are scanned",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Device;
    use crate::testing::{FakeCompute, Process, instance_of};

    async fn discovered(
        selection: &Selection,
        exclusions: &Exclusions,
        change: impl FnOnce(&mut crate::testing::World),
    ) -> Discovery {
        let folder = tempfile::tempdir().unwrap();
        let cloud = FakeCompute::new()
            .with_instance("i-1", &["vol-1", "vol-2", "vol-3"])
            .with_instance("i-2", &["vol-4"])
            .with_instance("i-3", &["vol-5"]);
        cloud.world().page_items = 2;
        change(&mut cloud.world());
        let process = Process::start(folder.path(), &cloud);
        discover(&process.purger.client, selection, exclusions).await.unwrap()
    }

    fn why(discovery: &Discovery) -> Vec<String> {
        let said = |planned: &PlannedInstance| {
            let why = planned.skipped.as_ref().map_or("scanned".to_owned(), ToString::to_string);
            format!("{}: {why}", planned.instance.id)
        };
        discovery.instances.iter().map(said).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn every_state_is_listed_with_its_reason() {
        let states = ["pending", "stopping", "stopped", "shutting-down", "terminated", "running"];
        let found = discovered(&Selection::default(), &Exclusions::default(), |world| {
            world.instances.clear();
            for (state, number) in states.iter().zip(1..) {
                let mut instance = instance_of(&format!("i-{number}"), &["vol-1"]);
                instance.state = (*state).to_owned();
                world.instances.push(instance);
            }
            world.volumes[0].attached_to = vec!["i-6".to_owned()];
        })
        .await;
        assert_eq!(
            why(&found),
            [
                "i-1: pending: a machine that is being started has nothing to scan yet",
                "i-2: stopping: a machine that is being deallocated is not scanned",
                "i-3: stopped: a deallocated machine is not scanned",
                "i-4: shutting-down: there is no machine any more",
                "i-5: terminated: there is no machine any more",
                "i-6: scanned",
            ]
        );
        assert!(found.instances[2].volumes().next().is_none());
        assert_eq!(found.instances[5].volumes().count(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn selection_is_by_id_tag_and_name() {
        let named = |world: &mut crate::testing::World| {
            for (instance, name) in world.instances.iter_mut().zip(["web-1", "web-2", "db"]) {
                instance.tags.insert("Name".to_owned(), name.to_owned());
                instance.tags.insert("env".to_owned(), format!("{name}-prod"));
            }
        };
        let ids = |found: &Discovery| -> Vec<String> {
            found.instances.iter().map(|planned| planned.instance.id.clone()).collect()
        };
        let none = Exclusions::default();
        let by_id = Selection { ids: vec!["i-2".into(), "i-9".into()], ..Selection::default() };
        let found = discovered(&by_id, &none, named).await;
        assert_eq!((ids(&found), found.unknown_ids), (vec!["i-2".to_owned()], vec!["i-9".to_owned()]));
        let by_name = Selection { names: vec!["web-*".into()], ..Selection::default() };
        assert_eq!(ids(&discovered(&by_name, &none, named).await), ["i-1", "i-2"]);
        let by_tag = Selection { tags: vec![("env".into(), "db-prod".into())], ..Selection::default() };
        assert_eq!(ids(&discovered(&by_tag, &none, named).await), ["i-3"]);
        let by_pattern = Selection { tags: vec![("env".into(), "*-2-*".into())], ..Selection::default() };
        assert_eq!(ids(&discovered(&by_pattern, &none, named).await), ["i-2"]);
        let both = Selection { ids: vec!["i-1".into()], names: vec!["db".into()], ..Selection::default() };
        assert_eq!(ids(&discovered(&both, &none, named).await), Vec::<String>::new());
    }

    #[tokio::test(start_paused = true)]
    async fn tags_on_instances_and_volumes_exclude() {
        let exclusions = Exclusions {
            tags: vec![("stillframe:exclude".into(), None), ("scan".into(), Some("no".into()))],
            ..Exclusions::default()
        };
        let found = discovered(&Selection::default(), &exclusions, |world| {
            world.instances[1].tags.insert("stillframe:exclude".into(), String::new());
            world.instances[2].tags.insert("scan".into(), "yes".into());
            world.volumes[2].tags.insert("scan".into(), "no".into());
        })
        .await;
        assert_eq!(
            why(&found),
            ["i-1: scanned", "i-2: excluded by the tag stillframe:exclude", "i-3: scanned"]
        );
        let first = &found.instances[0];
        assert_eq!(first.volumes().map(|volume| volume.id.as_str()).collect::<Vec<_>>(), ["vol-1", "vol-2"]);
        assert_eq!(first.left_out_data().collect::<Vec<_>>(), ["vol-3"]);
        assert!(!first.leaves_out_root());
    }

    #[tokio::test(start_paused = true)]
    async fn disks_that_cannot_be_taken_have_their_reason() {
        let found = discovered(&Selection::default(), &Exclusions::default(), |world| {
            world.instances[0].devices.push(Device { name: "/dev/nvme1".into(), volume_id: None });
            world.volumes[1].attached_to.push("i-2".into());
            let shared = Device { name: "/dev/sdb".into(), volume_id: Some("vol-2".into()) };
            world.instances[1].devices.push(shared);
            world.volumes[2].state = "error".into();
            world.volumes[3].outpost = true;
            world.instances[2].availability_zone = "eu-west-3-cdg-1a".into();
        })
        .await;
        let skips = |planned: &PlannedInstance| -> Vec<Option<DiskSkip>> {
            planned.disks.iter().map(|disk| disk.skipped.clone()).collect()
        };
        let error = DiskSkip::State { state: "error".into() };
        assert_eq!(skips(&found.instances[0]), [None, None, Some(error), Some(DiskSkip::InstanceStore)]);
        let shared = DiskSkip::TakenWith { instance_id: "i-1".into() };
        assert_eq!(skips(&found.instances[1]), [Some(DiskSkip::Outpost), Some(shared)]);
        assert_eq!(found.instances[1].skipped, Some(InstanceSkip::NoDisks));
        assert!(found.instances[1].leaves_out_root());
        let zone = "eu-west-3-cdg-1a".to_owned();
        assert_eq!(found.instances[2].skipped, Some(InstanceSkip::LocalZone { zone }));
        let roots: Vec<_> = found.instances[0].disks.iter().map(|disk| disk.is_root).collect();
        assert_eq!(roots, [true, false, false, false]);
    }

    #[tokio::test(start_paused = true)]
    async fn root_or_data_can_be_left_out() {
        let roots = Exclusions { data: true, ..Exclusions::default() };
        let found = discovered(&Selection::default(), &roots, |_| ()).await;
        assert_eq!(found.instances[0].volumes().count(), 1);
        assert_eq!(found.instances[0].left_out_data().count(), 2);
        let data = Exclusions { root: true, ..Exclusions::default() };
        let found = discovered(&Selection::default(), &data, |_| ()).await;
        assert!(found.instances[0].leaves_out_root());
        assert_eq!(found.instances[1].skipped, Some(InstanceSkip::NoDisks));
    }

    #[test]
    fn patterns_are_simple() {
        let fits = |pattern, text| fits_pattern(pattern, text);
        assert!(
            fits("", "") && fits("*", "") && fits("*", "x") && fits("a*c", "abbc") && fits("a*b*c", "abbc")
        );
        assert!(fits("*b*", "abc") && fits("**", "x") && fits("a*a", "aa") && fits("é*", "éa"));
        assert!(
            !fits("", "x")
                && !fits("a*a", "a")
                && !fits("a*b*c", "acb")
                && !fits("a", "ab")
                && !fits("*x", "y")
        );
    }
}

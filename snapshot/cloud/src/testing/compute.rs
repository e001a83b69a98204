use std::collections::{BTreeMap, HashMap, HashSet};
use std::future::pending;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

use super::{TokioClock, api_error, place};
use crate::api::{
    Answer, ApiError, Compute, CreateSet, DryRunAction, ErrorKind, Filter, Instance, Page, Replied, Snapshot,
    SnapshotState, Tags, Volume,
};
use crate::clock::Clock;
use crate::tags;

/// Before or after the call has its effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum When {
    Before,
    After,
}

/// What goes wrong with one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mishap {
    /// An error instead of the answer.
    Error(ErrorKind, When),
    /// The call never ends, and `stopped` is told: the caller's process is then killed.
    Hang(When),
}

/// Snapshots with their delays, quotas and tags.
pub(crate) struct FakeCompute {
    pub(crate) clock: Arc<TokioClock>,
    pub(crate) stopped: Notify,
    pub(crate) world: Mutex<World>,
}

#[derive(Default)]
pub(crate) struct World {
    pub(crate) instances: Vec<Instance>,
    pub(crate) volumes: Vec<Volume>,
    pub(crate) snapshots: BTreeMap<String, FakeSnapshot>,
    pub(crate) recycled: HashSet<String>,
    pub(crate) log: Vec<String>,
    pub(crate) calls: usize,
    pub(crate) mishaps: HashMap<usize, Mishap>,
    /// Which operation fails always.
    pub(crate) refusals: HashMap<&'static str, ErrorKind>,
    pub(crate) latency: Duration,
    pub(crate) visible_after: Duration,
    /// Snapshots of these volumes are seen later still.
    pub(crate) late: HashMap<&'static str, Duration>,
    /// What takes longer than `latency`.
    pub(crate) slow: HashMap<&'static str, Duration>,
    /// Lists of snapshots so far.
    pub(crate) lists: usize,
    /// Which of them, counted from 1, lack all that is there.
    pub(crate) stale_lists: HashSet<usize>,
    pub(crate) pending_for: Duration,
    /// Sets end in error, at once or when they would be completed.
    pub(crate) failing_sets: Option<When>,
    pub(crate) volume_rate: bool,
    pub(crate) pending_limit: Option<usize>,
    pub(crate) recycle_bin: bool,
    pub(crate) page_items: usize,
    /// Lists everything, whatever is asked for.
    pub(crate) ignores_filters: bool,
    /// GiB of instance store by type; not offered where there is none.
    pub(crate) instance_store_gib: Option<BTreeMap<String, u64>>,
    made: HashMap<String, Instant>,
}

pub(crate) struct FakeSnapshot {
    pub(crate) snapshot: Snapshot,
    pub(crate) locked: bool,
    visible: Instant,
    completes: Instant,
    fails: bool,
    deleted: bool,
}

impl FakeCompute {
    pub(crate) fn new() -> Arc<Self> {
        let world = World { page_items: 1000, latency: Duration::from_millis(10), ..World::default() };
        Arc::new(Self { clock: TokioClock::new(), stopped: Notify::new(), world: Mutex::new(world) })
    }

    /// With instance `id` and these volumes.
    pub(crate) fn with_instance(self: Arc<Self>, id: &str, volumes: &[&str]) -> Arc<Self> {
        let mut world = self.world();
        for (volume, number) in volumes.iter().zip(0..) {
            world.volumes.push(volume_of(id, volume, number));
        }
        world.instances.push(instance_of(id, volumes));
        drop(world);
        self
    }

    pub(crate) fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap()
    }

    /// A snapshot that someone made before.
    pub(crate) fn plant(&self, id: &str, state: SnapshotState, tags: &[(&str, &str)]) {
        let tags = tags.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let now = Instant::now();
        let pending = state == SnapshotState::Pending;
        let mut world = self.world();
        let mut snapshot = world.make("vol-planted", &tags, self.clock.now());
        snapshot.snapshot.id = id.to_owned();
        snapshot.snapshot.state = state;
        snapshot.completes = if pending { now + Duration::from_secs(3600) } else { now };
        snapshot.visible = now;
        world.snapshots.insert(id.to_owned(), snapshot);
    }

    /// What would be there for ever.
    pub(crate) fn left(&self) -> Vec<String> {
        let mut world = self.world();
        world.pass_time();
        let ours = |fake: &&FakeSnapshot| {
            tags::scan_of(&fake.snapshot.tags, tags::DEFAULT_CREATED_BY).is_some() && !fake.deleted
        };
        world.snapshots.values().filter(ours).map(|fake| fake.snapshot.id.clone()).collect()
    }

    /// How often an operation was called.
    pub(crate) fn calls(&self, operation: &str) -> usize {
        self.world().log.iter().filter(|call| *call == operation).count()
    }

    async fn call<T>(
        &self,
        operation: &'static str,
        effect: impl FnOnce(&mut World) -> Result<T, ErrorKind> + Send,
    ) -> Result<T, ApiError> {
        let latency = self.world().latency;
        let slow = self.world().slow.get(operation).copied().unwrap_or_default();
        sleep(latency / 2 + slow).await;
        let mishap = {
            let mut world = self.world();
            world.calls += 1;
            let number = world.calls;
            world.log.push(operation.to_owned());
            world.mishaps.get(&number).copied()
        };
        match mishap {
            Some(Mishap::Hang(When::Before)) => self.hang().await,
            Some(Mishap::Error(kind, When::Before)) => return Err(api_error(operation, kind)),
            _ => {}
        }
        let answer = {
            let mut world = self.world();
            world.pass_time();
            match world.refusals.get(operation) {
                Some(kind) => Err(*kind),
                None => effect(&mut world),
            }
        };
        match mishap {
            Some(Mishap::Hang(When::After)) => self.hang().await,
            Some(Mishap::Error(kind, When::After)) => return Err(api_error(operation, kind)),
            _ => {}
        }
        sleep(latency / 2).await;
        answer.map_err(|kind| api_error(operation, kind))
    }

    async fn hang(&self) {
        self.stopped.notify_one();
        pending::<()>().await;
    }
}

impl World {
    fn pass_time(&mut self) {
        let now = Instant::now();
        for fake in self.snapshots.values_mut() {
            if fake.snapshot.state == SnapshotState::Pending && now >= fake.completes {
                fake.snapshot.state =
                    if fake.fails { SnapshotState::Error } else { SnapshotState::Completed };
            }
        }
        // What was deleted while it was pending goes when it is completed.
        let gone = |fake: &FakeSnapshot| fake.deleted && fake.snapshot.state != SnapshotState::Pending;
        self.snapshots.retain(|_, fake| !gone(fake));
    }

    fn make(&self, volume_id: &str, tags: &Tags, now: jiff::Timestamp) -> FakeSnapshot {
        FakeSnapshot {
            snapshot: Snapshot {
                id: format!("snap-{:04}", self.snapshots.len() + self.log.len() * 100),
                volume_id: volume_id.to_owned(),
                state: SnapshotState::Pending,
                progress_percent: None,
                state_message: None,
                volume_size_gib: 8,
                full_size_bytes: Some(1 << 30),
                started: Some(now),
                owner: place().account,
                encrypted: false,
                kms_key_id: None,
                storage_tier: Some("standard".to_owned()),
                tags: tags.clone(),
            },
            locked: false,
            visible: Instant::now() + self.late.get(volume_id).copied().unwrap_or(self.visible_after),
            completes: Instant::now() + self.pending_for,
            fails: false,
            deleted: false,
        }
    }

    fn create(
        &mut self,
        volumes: &[String],
        tags: &Tags,
        now: jiff::Timestamp,
        set: bool,
    ) -> Result<Vec<Snapshot>, ErrorKind> {
        let is_pending = |fake: &&FakeSnapshot| fake.snapshot.state == SnapshotState::Pending;
        let pending = self.snapshots.values().filter(is_pending).count();
        if self.pending_limit.is_some_and(|limit| pending + volumes.len() > limit) {
            return Err(ErrorKind::PendingSnapshots);
        }
        let recent = |at: &Instant| at.elapsed() < Duration::from_secs(15);
        if self.volume_rate && volumes.iter().any(|volume| self.made.get(volume).is_some_and(recent)) {
            return Err(ErrorKind::VolumeRate);
        }
        let mut answer = Vec::new();
        for volume in volumes {
            let mut fake = self.make(volume, tags, now);
            fake.snapshot.id = format!("{}-{}", fake.snapshot.id, volume);
            fake.fails = set && self.failing_sets.is_some();
            if set && self.failing_sets == Some(When::Before) {
                fake.snapshot.state = SnapshotState::Error;
            }
            self.made.insert(volume.clone(), Instant::now());
            answer.push(fake.snapshot.clone());
            self.snapshots.insert(fake.snapshot.id.clone(), fake);
        }
        Ok(answer)
    }

    fn delete(&mut self, id: &str) -> Result<(), ErrorKind> {
        let recycle_bin = self.recycle_bin;
        let found = self.snapshots.get_mut(id).filter(|fake| Instant::now() >= fake.visible && !fake.deleted);
        let fake = found.ok_or(ErrorKind::NotFound)?;
        if fake.locked {
            return Err(ErrorKind::InUse);
        }
        fake.deleted = true;
        if recycle_bin {
            self.recycled.insert(id.to_owned());
        }
        self.pass_time();
        Ok(())
    }

    fn listed(&self, filters: &[Filter]) -> Vec<Snapshot> {
        let visible = self.snapshots.values().filter(|fake| Instant::now() >= fake.visible);
        visible
            .map(|fake| fake.snapshot.clone())
            .filter(|found| self.ignores_filters || snapshot_passes(found, filters))
            .collect()
    }

    fn page<T>(&self, all: Vec<T>, page: Option<String>) -> Page<T> {
        let start: usize = page.map_or(0, |page| page.parse().unwrap());
        let end = start + self.page_items;
        let next = (all.len() > end).then(|| end.to_string());
        Page { items: all.into_iter().skip(start).take(self.page_items).collect(), next }
    }
}

fn snapshot_passes(found: &Snapshot, filters: &[Filter]) -> bool {
    filters.iter().all(|filter| match filter.name.as_str() {
        "volume-id" => filter.values.contains(&found.volume_id),
        "status" => filter.values.contains(&format!("{:?}", found.state).to_ascii_lowercase()),
        _ => tags_pass(&found.tags, std::slice::from_ref(filter)),
    })
}

fn tags_pass(tags: &Tags, filters: &[Filter]) -> bool {
    filters.iter().all(|filter| match filter.name.strip_prefix("tag:") {
        Some(key) => tags.get(key).is_some_and(|value| filter.values.contains(value)),
        None if filter.name == "tag-key" => filter.values.iter().any(|key| tags.contains_key(key)),
        None => panic!("unknown filter {}", filter.name),
    })
}

impl Compute for FakeCompute {
    fn describe_instances(&self, filters: &[Filter], page: Option<String>) -> Answer<'_, Page<Instance>> {
        let filters = filters.to_vec();
        Box::pin(self.call("ec2:DescribeInstances", move |world| {
            let passes = |instance: &&Instance| {
                filters.iter().all(|filter| match filter.name.as_str() {
                    "instance-id" => filter.values.contains(&instance.id),
                    _ => tags_pass(&instance.tags, std::slice::from_ref(filter)),
                })
            };
            let found = world.instances.iter().filter(passes).cloned().collect();
            Ok(world.page(found, page))
        }))
    }

    fn describe_instances_by_id(&self, ids: &[String]) -> Answer<'_, Vec<Instance>> {
        let ids = ids.to_vec();
        Box::pin(self.call("ec2:DescribeInstances", move |world| {
            let find = |id: &String| world.instances.iter().find(|instance| instance.id == *id).cloned();
            ids.iter().map(find).collect::<Option<_>>().ok_or(ErrorKind::NotFound)
        }))
    }

    fn describe_volumes(&self, filters: &[Filter], page: Option<String>) -> Answer<'_, Page<Volume>> {
        let filters = filters.to_vec();
        Box::pin(self.call("ec2:DescribeVolumes", move |world| {
            let passes = |volume: &&Volume| {
                filters.iter().all(|filter| match filter.name.as_str() {
                    "attachment.instance-id" => {
                        volume.attached_to.iter().any(|id| filter.values.contains(id))
                    }
                    name => panic!("unknown filter {name}"),
                })
            };
            let found = world.volumes.iter().filter(passes).cloned().collect();
            Ok(world.page(found, page))
        }))
    }

    fn create_snapshots(&self, request: &CreateSet) -> Answer<'_, Replied<Vec<Snapshot>>> {
        let request = request.clone();
        let now = self.clock.now();
        Box::pin(self.call("ec2:CreateSnapshots", move |world| {
            let instance = world.instances.iter().find(|instance| instance.id == request.instance_id);
            let instance = instance.ok_or(ErrorKind::NotFound)?;
            let root = instance.root_device_name.clone();
            let taken = instance.devices.iter().filter(|device| {
                let is_root = Some(&device.name) == root.as_ref();
                let left_out = |id| request.exclude_data_volume_ids.contains(id);
                let is_left_out = device.volume_id.as_ref().is_some_and(left_out);
                !(is_left_out || is_root && request.exclude_boot_volume)
            });
            let volumes: Vec<String> = taken.filter_map(|device| device.volume_id.clone()).collect();
            let value = world.create(&volumes, &request.tags, now, true)?;
            Ok(Replied { value, request_id: Some("request".to_owned()) })
        }))
    }

    fn create_snapshot(&self, volume_id: &str, _: &str, tags: &Tags) -> Answer<'_, Replied<Snapshot>> {
        let (volumes, tags, now) = (vec![volume_id.to_owned()], tags.clone(), self.clock.now());
        Box::pin(self.call("ec2:CreateSnapshot", move |world| {
            let value = world.create(&volumes, &tags, now, false)?.remove(0);
            Ok(Replied { value, request_id: Some("request".to_owned()) })
        }))
    }

    fn describe_snapshots(&self, filters: &[Filter], page: Option<String>) -> Answer<'_, Page<Snapshot>> {
        let filters = filters.to_vec();
        Box::pin(self.call("ec2:DescribeSnapshots", move |world| {
            world.lists += usize::from(page.is_none());
            if world.stale_lists.contains(&world.lists) {
                return Ok(Page { items: Vec::new(), next: None });
            }
            let found = world.listed(&filters);
            Ok(world.page(found, page))
        }))
    }

    fn describe_snapshots_by_id(&self, ids: &[String]) -> Answer<'_, Vec<Snapshot>> {
        let ids = ids.to_vec();
        Box::pin(self.call("ec2:DescribeSnapshots", move |world| {
            let listed = world.listed(&[]);
            let find = |id: &String| listed.iter().find(|snapshot| snapshot.id == *id).cloned();
            ids.iter().map(find).collect::<Option<_>>().ok_or(ErrorKind::NotFound)
        }))
    }

    fn delete_snapshot(&self, snapshot_id: &str) -> Answer<'_, Replied<()>> {
        let id = snapshot_id.to_owned();
        Box::pin(self.call("ec2:DeleteSnapshot", move |world| {
            world.delete(&id)?;
            Ok(Replied { value: (), request_id: Some("request".to_owned()) })
        }))
    }

    fn snapshots_in_recycle_bin(&self, ids: &[String]) -> Answer<'_, Vec<String>> {
        let ids = ids.to_vec();
        Box::pin(self.call("ec2:ListSnapshotsInRecycleBin", move |world| {
            Ok(ids.into_iter().filter(|id| world.recycled.contains(id)).collect())
        }))
    }

    fn dry_run(&self, _: DryRunAction) -> Answer<'_, ()> {
        Box::pin(self.call("dry-run", |_| Ok(())))
    }

    fn describe_regions(&self) -> Answer<'_, Vec<String>> {
        Box::pin(self.call("ec2:DescribeRegions", |_| Ok(vec![place().region])))
    }

    fn instance_store_gib(&self, types: &[String]) -> Answer<'_, BTreeMap<String, u64>> {
        let types = types.to_vec();
        Box::pin(self.call("ec2:DescribeInstanceTypes", move |world| {
            assert!(types.len() <= 100, "{} types", types.len());
            let mut all = world.instance_store_gib.clone().unwrap_or_default();
            all.retain(|name, _| types.contains(name));
            Ok(all)
        }))
    }
}

fn device_name(number: u8) -> String {
    format!("/dev/sd{}", char::from(b'a' + number))
}

pub(crate) fn instance_of(id: &str, volumes: &[&str]) -> Instance {
    let device = |(volume, number): (&&str, u8)| crate::api::Device {
        name: device_name(number),
        volume_id: Some((*volume).to_owned()),
    };
    Instance {
        id: id.to_owned(),
        state: "running".to_owned(),
        instance_type: "t3.micro".to_owned(),
        availability_zone: "eu-west-3a".to_owned(),
        outpost: false,
        root_device_name: Some(device_name(0)),
        devices: volumes.iter().zip(0..).map(device).collect(),
        tags: Tags::new(),
        platform: String::new(),
    }
}

fn volume_of(instance: &str, id: &str, _: u8) -> Volume {
    Volume {
        id: id.to_owned(),
        state: "in-use".to_owned(),
        size_gib: 8,
        volume_type: "gp3".to_owned(),
        encrypted: false,
        kms_key_id: None,
        attached_to: vec![instance.to_owned()],
        outpost: false,
        availability_zone: "eu-west-3a".to_owned(),
        tags: Tags::new(),
    }
}

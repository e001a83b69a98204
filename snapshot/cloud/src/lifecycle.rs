//! From a wish to completed snapshots.
//!
//! The intent is written down before each call that creates. All volumes of an instance are taken in one crash-consistent
//! `CreateSnapshots`; where the set fails, at once or later, each volume is taken by itself. What the cloud refuses for now
//! (15 s between two snapshots of a volume, too many that are pending) is waited for. A call without a reply may have had its
//! effect, so its snapshots are looked for by their tags before another is made; since they can become visible later still,
//! its intent stays open, and [`crate::purge`] looks again. Where they cannot be looked for, or some are seen and others
//! not, no other call is made. Lists come late and may lack what is there: one of them alone ends nothing.
//!
//! Nothing here deletes. Whatever happens, also when a future of this module is dropped, purge the scan afterwards.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::{Instant, sleep, sleep_until};

use crate::api::{ApiError, CreateSet, ErrorKind, Snapshot, SnapshotState, Tags};
use crate::client::Client;
use crate::clock::Clock;
use crate::retry::Transient;
use crate::state::{IntentOutcome, SnapshotRow, StateError, StateStore};
use crate::tags::{self, ScanId};
use crate::verdict::{is_hopeless, is_open, judge, longer, may_pass, mean_percent, pause_after, say_wait};

/// Data volumes that one `CreateSnapshots` can leave out.
const LEFT_OUT_AT_MOST: usize = 40;

/// A snapshot that so many lists in a row lack is not listed; fewer may be late.
const MISSES: u32 = 3;

/// How long to wait for what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LifecycleSettings {
    /// The value of the tag `CreatedBy`.
    pub created_by: String,
    /// For the cloud to let us create.
    pub create_deadline: Duration,
    /// For the snapshots of a call without a reply to become visible, before another is made. Where some of them do, so
    /// will the others: those are waited for as long as [`LifecycleSettings::visible_within`].
    pub lost_reply_wait: Duration,
    /// For snapshots to be completed.
    pub complete_deadline: Duration,
    /// For a snapshot whose creation was acknowledged to be listed.
    pub visible_within: Duration,
}

impl Default for LifecycleSettings {
    /// Half an hour to be let create, 45 s for a lost reply, two hours for completion, three minutes to be listed.
    fn default() -> Self {
        Self {
            created_by: tags::DEFAULT_CREATED_BY.to_owned(),
            create_deadline: Duration::from_secs(30 * 60),
            lost_reply_wait: Duration::from_secs(45),
            complete_deadline: Duration::from_secs(2 * 3600),
            visible_within: Duration::from_secs(180),
        }
    }
}

/// What to take of one instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotOrder {
    /// For which scan.
    pub scan: ScanId,
    /// Of which instance.
    pub instance_id: String,
    /// The volumes to take.
    pub volume_ids: Vec<String>,
    /// Whether the root volume is left out.
    pub leave_out_root: bool,
    /// The attached data volumes to leave out.
    pub leave_out_data: Vec<String>,
    /// When anyone may delete them.
    pub expires_at: Timestamp,
    /// Tags beside ours; see [`tags::check_user_tags`].
    pub user_tags: Tags,
}

/// Why there is no snapshot of a volume that can be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotFault {
    /// The call failed.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// The set left it out, and so did a call of its own.
    #[error("no snapshot of it was made")]
    LeftOut,
    /// The cloud could not take it.
    #[error("the snapshot failed{}", message.as_ref().map(|words| format!(": {words}")).unwrap_or_default())]
    Failed {
        /// Why, in the cloud's words.
        message: Option<String>,
    },
    /// Someone deleted it, and a rule keeps it.
    #[error("the snapshot was moved to the Recycle Bin while it was used")]
    InRecycleBin,
    /// Someone deleted it.
    #[error("the snapshot was deleted while it was used, and not by this scan")]
    Vanished,
    /// It was made, and never listed.
    #[error("the snapshot was made but is not listed")]
    NotListed,
    /// It cannot be read where it is.
    #[error("the snapshot is archived")]
    Archived,
    /// It took too long.
    #[error("the snapshot was still pending after {} s", waited.as_secs())]
    StillPending {
        /// The deadline.
        waited: Duration,
    },
}

/// What became of an order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Snapshots {
    /// Those to read, or to wait for.
    pub good: Vec<Snapshot>,
    /// The volumes of which there is none, and why.
    pub failed: Vec<(String, SnapshotFault)>,
    /// The volumes that were taken by calls of their own, though there are several: what is on them is not of the same moment.
    pub apart: BTreeSet<String>,
}

/// How far waiting is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Snapshots waited for.
    pub total: usize,
    /// Of which completed.
    pub completed: usize,
    /// Of which failed.
    pub failed: usize,
    /// How much of all of them is taken, in percent, where the cloud tells.
    pub percent: Option<u8>,
    /// Where nothing is made yet because the cloud refuses for now: why, and how long is waited before another call.
    pub refused: Option<(ErrorKind, Duration)>,
}

/// Who wants to know how far it is.
type Told<'a> = &'a (dyn Fn(Progress) + Sync);

/// Makes snapshots in one account and region.
#[derive(Clone)]
pub struct Lifecycle {
    /// The cloud.
    pub client: Client,
    /// Where intents are written down.
    pub state: Arc<StateStore>,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// How long to wait.
    pub settings: LifecycleSettings,
}

/// What one creating call is for.
#[derive(Clone, Copy)]
enum Target<'a> {
    Set,
    Volume(&'a str),
}

enum Attempt {
    Made(Vec<Snapshot>),
    Again {
        after: Duration,
        error: ApiError,
    },
    Failed(ApiError),
    /// Nobody knows what the call made beside these: its intent stays open, and whoever made another call would make
    /// snapshots of the same volumes twice.
    Unresolved {
        seen: Vec<Snapshot>,
        error: ApiError,
    },
}

impl Attempt {
    /// What it is where there is no time for another.
    fn last(error: ApiError) -> Self {
        match is_open(error.kind) {
            true => Self::Unresolved { seen: Vec::new(), error },
            false => Self::Failed(error),
        }
    }
}

impl Lifecycle {
    /// Takes the snapshots of an order and waits until they are completed. The scan must have been begun in the state
    /// store, and its lock be held.
    ///
    /// # Errors
    /// [`StateError`] only; what fails in the cloud is in the result.
    pub async fn run(
        &self,
        order: &SnapshotOrder,
        progress: &(dyn Fn(Progress) + Sync),
    ) -> Result<Snapshots, StateError> {
        let mut made = self.create_and_tell(order, progress).await?;
        let mut done = self.wait(&order.scan, &made.good, progress).await?;
        done.failed.append(&mut made.failed);
        done.apart = made.apart;
        // One failure is the failure of all of a set; by themselves they may succeed.
        let (again, failed): (Vec<_>, Vec<_>) =
            done.failed.into_iter().partition(|(_, fault)| matches!(fault, SnapshotFault::Failed { .. }));
        done.failed = failed;
        if made.good.len() > 1 && !again.is_empty() {
            let volumes = again.into_iter().map(|(volume, _)| volume).collect();
            let mut retried = self.create_each(order, volumes, progress).await?;
            let second = self.wait(&order.scan, &retried.good, progress).await?;
            done.apart.extend(second.good.iter().map(|snapshot| snapshot.volume_id.clone()));
            done.good.extend(second.good);
            done.failed.extend(second.failed);
            done.failed.append(&mut retried.failed);
        } else {
            done.failed.extend(again);
        }
        Ok(done)
    }

    /// Makes the snapshots of an order, without waiting for them: one poll can wait for several orders.
    ///
    /// # Errors
    /// [`StateError`] only.
    pub async fn create(&self, order: &SnapshotOrder) -> Result<Snapshots, StateError> {
        self.create_and_tell(order, &|_| {}).await
    }

    async fn create_and_tell(
        &self,
        order: &SnapshotOrder,
        progress: Told<'_>,
    ) -> Result<Snapshots, StateError> {
        if order.volume_ids.is_empty() {
            return Ok(Snapshots::default());
        }
        let mut made = Vec::new();
        if order.leave_out_data.len() <= LEFT_OUT_AT_MOST {
            match self.create_set(order, progress).await? {
                Attempt::Made(snapshots) => made = snapshots,
                Attempt::Unresolved { seen, error } => return Ok(partly(order, seen, &error)),
                Attempt::Failed(error) | Attempt::Again { error, .. } if is_hopeless(error.kind) => {
                    return Ok(partly(order, Vec::new(), &error));
                }
                Attempt::Failed(error) | Attempt::Again { error, .. } => {
                    tracing::warn!(instance = order.instance_id, %error, "the set failed: a call for each volume");
                }
            }
        }
        // Those that failed stay in the store, for the purge.
        made.retain(|snapshot| snapshot.state != SnapshotState::Error);
        let taken: BTreeSet<&str> = made.iter().map(|snapshot| snapshot.volume_id.as_str()).collect();
        let missing: Vec<String> =
            order.volume_ids.iter().filter(|volume| !taken.contains(volume.as_str())).cloned().collect();
        let mut each = self.create_each(order, missing, progress).await?;
        if order.volume_ids.len() > 1 {
            each.apart = each.good.iter().map(|snapshot| snapshot.volume_id.clone()).collect();
        }
        each.good.append(&mut made);
        Ok(each)
    }

    /// Waits until each of `snapshots` is completed or cannot be: one list for all of them, with backoff.
    ///
    /// # Errors
    /// [`StateError`] only.
    pub async fn wait(
        &self,
        scan: &ScanId,
        snapshots: &[Snapshot],
        progress: &(dyn Fn(Progress) + Sync),
    ) -> Result<Snapshots, StateError> {
        let mut done = Snapshots::default();
        let mut waiting: BTreeMap<String, Snapshot> =
            snapshots.iter().map(|snapshot| (snapshot.id.clone(), snapshot.clone())).collect();
        let mut seen = BTreeMap::new();
        let mut missed: BTreeMap<String, u32> = BTreeMap::new();
        let started = Instant::now();
        let mut pause = Duration::from_secs(1);
        while !waiting.is_empty() {
            let listed = self.client.snapshots(&tags::filters_of_scan(&self.settings.created_by, scan)).await;
            let listed = match listed {
                Ok(listed) => listed,
                // A bad minute of the service says nothing of the snapshots.
                Err(error) if error.is_transient() && started.elapsed() < self.settings.complete_deadline => {
                    tracing::warn!(%error, "snapshots cannot be listed for now: waiting on");
                    sleep(pause).await;
                    pause = longer(pause);
                    continue;
                }
                Err(error) => {
                    let fail = |(_, snapshot): (String, Snapshot)| (snapshot.volume_id, error.clone().into());
                    done.failed.extend(std::mem::take(&mut waiting).into_iter().map(fail));
                    break;
                }
            };
            let listed: Vec<_> =
                listed.into_iter().filter(|snapshot| waiting.contains_key(&snapshot.id)).collect();
            // Only what is news: a commit is a flush to the disk.
            let news: Vec<_> = listed
                .iter()
                .filter(|snapshot| seen.get(&snapshot.id) != Some(&snapshot.state))
                .cloned()
                .collect();
            self.record(scan, &news, true)?;
            let pending = listed.iter().filter(|snapshot| snapshot.state == SnapshotState::Pending);
            let percents: Vec<u8> = pending.filter_map(|snapshot| snapshot.progress_percent).collect();
            let here: BTreeSet<String> = listed.iter().map(|snapshot| snapshot.id.clone()).collect();
            for snapshot in listed {
                seen.insert(snapshot.id.clone(), snapshot.state);
                if let Some(result) = judge(&snapshot) {
                    waiting.remove(&snapshot.id);
                    match result {
                        Ok(()) => done.good.push(snapshot),
                        Err(fault) => done.failed.push((snapshot.volume_id, fault)),
                    }
                }
            }
            let waited = started.elapsed();
            waiting.retain(|id, snapshot| {
                let misses = missed.entry(id.clone()).or_default();
                *misses = if here.contains(id) { 0 } else { misses.saturating_add(1) };
                let fault = if *misses == 0 {
                    (waited >= self.settings.complete_deadline)
                        .then_some(SnapshotFault::StillPending { waited })
                } else if *misses < MISSES {
                    None
                } else if seen.contains_key(id) {
                    Some(SnapshotFault::Vanished)
                } else {
                    (waited >= self.settings.visible_within).then_some(SnapshotFault::NotListed)
                };
                done.failed.extend(fault.clone().map(|fault| (snapshot.volume_id.clone(), fault)));
                fault.is_none()
            });
            let (completed, failed) = (done.good.len(), done.failed.len());
            let percent = mean_percent(completed.saturating_add(failed), &percents);
            progress(Progress { total: snapshots.len(), completed, failed, percent, refused: None });
            if !waiting.is_empty() {
                sleep(pause).await;
                pause = longer(pause);
            }
        }
        Ok(done)
    }

    /// `CreateSnapshots` until it is done, refused for good, or the deadline passes: never [`Attempt::Again`].
    async fn create_set(&self, order: &SnapshotOrder, progress: Told<'_>) -> Result<Attempt, StateError> {
        let started = Instant::now();
        let mut number = 1;
        loop {
            match self.attempt(order, Target::Set, number).await? {
                Attempt::Again { after, error } => {
                    if started.elapsed().saturating_add(after) > self.settings.create_deadline {
                        return Ok(Attempt::last(error));
                    }
                    say_wait(&error, after);
                    progress(waiting(order, &error, after));
                    sleep(after).await;
                }
                attempt => return Ok(attempt),
            }
            number = number.saturating_add(1);
        }
    }

    /// `CreateSnapshot` of each; while one must wait the others go on.
    async fn create_each(
        &self,
        order: &SnapshotOrder,
        volumes: Vec<String>,
        progress: Told<'_>,
    ) -> Result<Snapshots, StateError> {
        let started = Instant::now();
        let mut result = Snapshots::default();
        let mut queue: Vec<(Instant, u32, String)> =
            volumes.into_iter().map(|volume| (started, 1, volume)).collect();
        loop {
            // The next one due is last.
            queue.sort_by_key(|(due, _, _)| std::cmp::Reverse(*due));
            let Some((due, number, volume)) = queue.pop() else { return Ok(result) };
            sleep_until(due).await;
            match self.attempt(order, Target::Volume(&volume), number).await? {
                Attempt::Made(snapshots) if snapshots.is_empty() => {
                    result.failed.push((volume, SnapshotFault::LeftOut));
                }
                Attempt::Made(snapshots) => result.good.extend(snapshots),
                Attempt::Failed(error) | Attempt::Unresolved { error, .. } => {
                    result.failed.push((volume, error.into()));
                }
                Attempt::Again { after, error } => {
                    let now = Instant::now();
                    let next = now.checked_add(after).unwrap_or(now);
                    if next.duration_since(started) > self.settings.create_deadline {
                        result.failed.push((volume, error.into()));
                    } else {
                        say_wait(&error, after);
                        progress(waiting(order, &error, after));
                        queue.push((next, number.saturating_add(1), volume));
                    }
                }
            }
        }
    }

    /// One creating call: intent, call, outcome.
    async fn attempt(
        &self,
        order: &SnapshotOrder,
        target: Target<'_>,
        number: u32,
    ) -> Result<Attempt, StateError> {
        let volume = match target {
            Target::Set => None,
            Target::Volume(volume) => Some(volume),
        };
        let known: BTreeSet<String> =
            self.state.snapshots(&order.scan)?.into_iter().map(|snapshot| snapshot.id).collect();
        let intent = self.state.intend(&order.scan, &order.instance_id, volume, self.clock.now())?;
        let error = match self.call(order, target).await {
            Ok(snapshots) => {
                self.record(&order.scan, &snapshots, false)?;
                self.state.settle(intent, IntentOutcome::Recorded)?;
                return Ok(Attempt::Made(snapshots));
            }
            Err(error) => error,
        };
        if is_open(error.kind) {
            tracing::warn!(%error, "it may have made snapshots all the same: looking for them before another call");
            return match self.look_for(order, target, &known).await {
                Ok(found) if found.is_empty() => {
                    Ok(Attempt::Again { after: pause_after(ErrorKind::Service, number), error })
                }
                Ok(found) => {
                    self.record(&order.scan, &found, true)?;
                    if found.len() < wanted(order, target) {
                        tracing::warn!(%error, "some of its snapshots are seen, and others not");
                        return Ok(Attempt::Unresolved { seen: found, error });
                    }
                    self.state.settle(intent, IntentOutcome::Recorded)?;
                    Ok(Attempt::Made(found))
                }
                // Whoever cannot look must not make a second one.
                Err(unseen) => {
                    tracing::warn!(%error, %unseen, "a call has no reply, and its snapshots cannot be looked for");
                    Ok(Attempt::Unresolved { seen: Vec::new(), error })
                }
            };
        }
        self.state.settle(intent, IntentOutcome::Refused)?;
        Ok(if may_pass(error.kind) {
            Attempt::Again { after: pause_after(error.kind, number), error }
        } else {
            Attempt::Failed(error)
        })
    }

    async fn call(&self, order: &SnapshotOrder, target: Target<'_>) -> Result<Vec<Snapshot>, ApiError> {
        let created_by = &self.settings.created_by;
        let (scan, instance_id) = (&order.scan, &order.instance_id);
        let tags = tags::creation_tags(created_by, scan, instance_id, order.expires_at, &order.user_tags);
        let description = format!("stillframe scan {scan} of {instance_id}");
        match target {
            Target::Volume(volume) => {
                Ok(vec![self.client.create_snapshot(volume, &description, &tags).await?])
            }
            Target::Set => {
                let set = CreateSet {
                    instance_id: instance_id.clone(),
                    exclude_boot_volume: order.leave_out_root,
                    exclude_data_volume_ids: order.leave_out_data.clone(),
                    description,
                    tags,
                };
                self.client.create_snapshots(&set).await
            }
        }
    }

    /// Snapshots of the target that are not `known`: all of them, or what is there when the time is over.
    async fn look_for(
        &self,
        order: &SnapshotOrder,
        target: Target<'_>,
        known: &BTreeSet<String>,
    ) -> Result<Vec<Snapshot>, ApiError> {
        let created_by = &self.settings.created_by;
        let filters = tags::filters_of_scan(created_by, &order.scan);
        let is_it = |snapshot: &Snapshot| {
            // The filter is not trusted with what will be recorded, and deleted for that.
            tags::scan_of(&snapshot.tags, created_by).as_ref() == Some(&order.scan)
                && snapshot.tags.get(tags::INSTANCE_ID) == Some(&order.instance_id)
                && !known.contains(&snapshot.id)
                && match target {
                    Target::Set => true,
                    Target::Volume(volume) => snapshot.volume_id == volume,
                }
        };
        let started = Instant::now();
        let mut pause = Duration::from_secs(1);
        // A list may lack what an earlier one had.
        let mut found = BTreeMap::new();
        loop {
            let listed = self.client.snapshots(&filters).await;
            let failure = match listed {
                Ok(listed) => {
                    let new = listed.into_iter().filter(is_it);
                    found.extend(new.map(|snapshot| (snapshot.id.clone(), snapshot)));
                    None
                }
                Err(error) => Some(error),
            };
            let patience = match found.is_empty() {
                true => self.settings.lost_reply_wait,
                false => self.settings.visible_within,
            };
            let over = started.elapsed().saturating_add(pause) > patience;
            if found.len() >= wanted(order, target) || over && (failure.is_none() || !found.is_empty()) {
                return Ok(found.into_values().collect());
            }
            if let Some(error) = failure.filter(|error| over || !error.is_transient()) {
                return Err(error);
            }
            sleep(pause).await;
            pause = pause.saturating_mul(2).min(Duration::from_secs(10));
        }
    }

    fn record(&self, scan: &ScanId, snapshots: &[Snapshot], seen: bool) -> Result<(), StateError> {
        if snapshots.is_empty() {
            return Ok(());
        }
        let now = self.clock.now();
        let rows: Vec<_> = snapshots.iter().map(|snapshot| row_of(scan, snapshot, seen, now)).collect();
        self.state.record(&rows)
    }
}

fn waiting(order: &SnapshotOrder, error: &ApiError, after: Duration) -> Progress {
    let (total, refused) = (order.volume_ids.len(), Some((error.kind, after)));
    Progress { total, completed: 0, failed: 0, percent: None, refused }
}

/// How many snapshots a call for the target makes.
fn wanted(order: &SnapshotOrder, target: Target<'_>) -> usize {
    match target {
        Target::Set => order.volume_ids.len(),
        Target::Volume(_) => 1,
    }
}

/// Of a set of which only these `seen` ones can be used.
fn partly(order: &SnapshotOrder, seen: Vec<Snapshot>, error: &ApiError) -> Snapshots {
    let is_seen = |volume: &&String| seen.iter().any(|snapshot| snapshot.volume_id == **volume);
    let missing = order.volume_ids.iter().filter(|volume| !is_seen(volume));
    let failed = missing.map(|volume| (volume.clone(), error.clone().into())).collect();
    Snapshots { good: seen, failed, ..Snapshots::default() }
}

/// What the store keeps of a snapshot.
pub(crate) fn row_of(scan: &ScanId, snapshot: &Snapshot, seen: bool, now: Timestamp) -> SnapshotRow {
    SnapshotRow {
        id: snapshot.id.clone(),
        scan: scan.clone(),
        instance_id: snapshot.tags.get(tags::INSTANCE_ID).cloned().unwrap_or_default(),
        volume_id: snapshot.volume_id.clone(),
        state: snapshot.state,
        seen,
        created: snapshot.started.unwrap_or(now),
        completed: (snapshot.state == SnapshotState::Completed).then_some(now),
        deleted: None,
        gone: None,
    }
}

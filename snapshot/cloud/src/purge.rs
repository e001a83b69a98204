//! Deleting a scan's snapshots, and making sure that they are gone.
//!
//! What is deleted: what the state store has recorded, and what bears the scan's tags; pending ones too. Gone is what was
//! listed once, or taken for deletion, and is listed no more. That a snapshot is not found proves nothing before it was ever
//! listed: creation becomes visible late, so such a one is deleted again until it must have become visible. The same holds for
//! calls to create whose outcome is unknown: they are looked for until [`PurgeSettings::unknown_window`] has passed since.
//!
//! When the deadline comes first the store keeps what is left, for [`crate::sweep`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use jiff::Timestamp;
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::time::{Instant, sleep, timeout_at};

use crate::api::{ApiError, ErrorKind, Snapshot, SnapshotState};
use crate::client::Client;
use crate::clock::Clock;
use crate::lifecycle::row_of;
use crate::scan_lock::LockFolder;
use crate::state::{IntentOutcome, SnapshotRow, StateError, StateStore};
use crate::tags::{self, ScanId};

/// How long to look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PurgeSettings {
    /// The value of the tag `CreatedBy`.
    pub created_by: String,
    /// Until all is confirmed gone.
    pub deadline: Duration,
    /// How long after a creating call of unknown outcome its snapshots are looked for.
    pub unknown_window: Duration,
    /// How long after its creation a snapshot that was never listed may still become visible.
    pub visible_within: Duration,
}

impl Default for PurgeSettings {
    /// A minute; ten for unknown calls, three for snapshots.
    fn default() -> Self {
        Self {
            created_by: tags::DEFAULT_CREATED_BY.to_owned(),
            deadline: Duration::from_secs(60),
            unknown_window: Duration::from_secs(600),
            visible_within: Duration::from_secs(180),
        }
    }
}

/// What became of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PurgeOutcome {
    /// It is listed no more.
    Gone,
    /// It is deleted, but a Recycle Bin rule of the region keeps it, and it is billed until that lets it go. Exclude our tag
    /// from the rule.
    InRecycleBin,
    /// The cloud took the call; it is still listed. Pending ones go when they are completed.
    Requested,
    /// It cannot be deleted: in use by an image, locked, or denied. The error says which call and why.
    Kept(ApiError),
    /// It could not be asked for in time.
    NotRequested(Option<ApiError>),
}

/// What is said of a snapshot at the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// `snap-…`.
    pub snapshot_id: String,
    /// Of which volume.
    pub volume_id: String,
    /// Of which instance.
    pub instance_id: String,
    /// When it was begun.
    pub created: Timestamp,
    /// When it was seen completed.
    pub completed: Option<Timestamp>,
    /// When the cloud took the call to delete it.
    pub deleted: Option<Timestamp>,
    /// When it was confirmed gone.
    pub confirmed: Option<Timestamp>,
    /// From its begin to its end, or to now.
    pub lifetime: Duration,
    /// What became of it.
    pub outcome: PurgeOutcome,
}

/// What a purge came to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PurgeReport {
    /// One for each snapshot of the scan, those that were gone before included.
    pub receipts: Vec<Receipt>,
    /// Creating calls of which it is not known yet whether they had an effect.
    pub unknown_intents: usize,
    /// Nothing is left, and nothing can turn up any more.
    pub complete: bool,
    /// Why snapshots could not be listed, where they could not.
    pub list_error: Option<ApiError>,
    /// Why the Recycle Bin could not be looked into, where it could not.
    pub recycle_bin_error: Option<ApiError>,
}

/// Deletes what scans of one account and region made.
#[derive(Clone)]
pub struct Purger {
    /// The cloud.
    pub client: Client,
    /// What is known of scans.
    pub state: Arc<StateStore>,
    /// Which scans live.
    pub locks: LockFolder,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// How long to look.
    pub settings: PurgeSettings,
}

/// A purge under way.
struct Work {
    targets: BTreeMap<String, Target>,
    list_error: Option<ApiError>,
}

impl Work {
    /// Nothing can be listed, now or in a minute, and what is known was asked to be deleted.
    fn waits_in_vain(&self) -> bool {
        self.list_error.as_ref().is_some_and(|error| is_final(error.kind))
            && self.targets.values().all(|target| target.outcome.is_some() || target.row.deleted.is_some())
    }
}

struct Target {
    row: SnapshotRow,
    listed: bool,
    outcome: Option<PurgeOutcome>,
    last_error: Option<ApiError>,
}

impl Purger {
    /// Deletes the snapshots of `scan` and waits until they are gone, for [`PurgeSettings::deadline`] at most.
    ///
    /// # Errors
    /// [`StateError`] only, and only where the store could not even be read. What bears the scan's tags is deleted even then.
    pub async fn purge(&self, scan: &ScanId) -> Result<PurgeReport, StateError> {
        self.purge_within(scan, self.settings.deadline).await
    }

    pub(crate) async fn purge_within(
        &self,
        scan: &ScanId,
        deadline: Duration,
    ) -> Result<PurgeReport, StateError> {
        let until = Instant::now().checked_add(deadline).unwrap_or_else(Instant::now);
        let mut work = Work { targets: BTreeMap::new(), list_error: None };
        let (rows, unreadable) = match self.state.snapshots(scan) {
            Ok(rows) => (rows, None),
            Err(error) => (Vec::new(), Some(error)),
        };
        for row in rows {
            let outcome = row.gone.map(|_| PurgeOutcome::Gone);
            work.targets.insert(row.id.clone(), Target { row, listed: false, outcome, last_error: None });
        }
        let mut pause = Duration::from_millis(500);
        let unknown = loop {
            // At least one round is tried, however short the time.
            let round = self.round(scan, &mut work);
            let ended = timeout_at(until, round).await.unwrap_or(None);
            if ended == Some(0) && work.targets.values().all(|target| target.outcome.is_some()) {
                break 0;
            }
            let next = Instant::now().checked_add(pause);
            if next.is_none_or(|next| next >= until) || work.waits_in_vain() {
                break self.unknown(scan);
            }
            sleep(pause).await;
            pause = pause.saturating_mul(2).min(Duration::from_secs(5));
        };
        let report = self.report(scan, work, unknown).await;
        unreadable.map_or(Ok(report), Err)
    }

    /// How many calls to create are of unknown outcome. One at least where nobody can know.
    fn unknown(&self, scan: &ScanId) -> usize {
        self.state.unknown_intents(scan).map_or(1, |intents| intents.len())
    }

    /// Lists, deletes, judges. How many unknown intents are left, where it could list.
    async fn round(&self, scan: &ScanId, work: &mut Work) -> Option<usize> {
        let begun = self.clock.now();
        let filters = tags::filters_of_scan(&self.settings.created_by, scan);
        // What the store has recorded is deleted even where nothing can be listed.
        let listed = match self.client.snapshots(&filters).await {
            Ok(listed) => {
                work.list_error = None;
                Some(self.meet(scan, listed, work))
            }
            Err(error) => {
                work.list_error = Some(error);
                None
            }
        };
        let ids: Vec<String> = work.targets.keys().cloned().collect();
        for id in ids {
            let Some(target) = work.targets.get_mut(&id).filter(|target| target.outcome.is_none()) else {
                continue;
            };
            self.pursue(target, listed.as_ref()).await;
        }
        listed.map(|_| self.settle_unknown(scan, begun))
    }

    /// Takes in what is listed; the ids of it.
    fn meet(&self, scan: &ScanId, listed: Vec<Snapshot>, work: &mut Work) -> BTreeSet<String> {
        let now = self.clock.now();
        let mut ids = BTreeSet::new();
        let mut rows = Vec::new();
        for snapshot in listed {
            // The filter is not trusted with what is to be deleted.
            if tags::scan_of(&snapshot.tags, &self.settings.created_by).as_ref() != Some(scan) {
                continue;
            }
            let row = row_of(scan, &snapshot, true, now);
            let target = work.targets.entry(snapshot.id.clone()).or_insert_with(|| Target {
                row: row.clone(),
                listed: false,
                outcome: None,
                last_error: None,
            });
            // Written down only where it is news: a commit is a flush to the disk.
            if !std::mem::replace(&mut target.listed, true) || target.row.state != row.state {
                rows.push(row.clone());
            }
            target.row.seen = true;
            target.row.state = row.state;
            target.row.completed = target.row.completed.or(row.completed);
            target.outcome = match snapshot.state {
                SnapshotState::Recoverable => Some(PurgeOutcome::InRecycleBin),
                // One that was thought gone and is not.
                _ if target.outcome == Some(PurgeOutcome::Gone) => None,
                _ => target.outcome.take(),
            };
            ids.insert(snapshot.id);
        }
        self.save(scan, &rows);
        ids
    }

    /// Deletes one, or finds that it is gone.
    async fn pursue(&self, target: &mut Target, listed: Option<&BTreeSet<String>>) {
        let is_listed = listed.map(|ids| ids.contains(&target.row.id));
        if is_listed == Some(false) && (target.row.seen || target.row.deleted.is_some()) {
            return self.gone(target);
        }
        if target.row.deleted.is_some() {
            // Waiting for it to disappear.
            return;
        }
        match self.client.delete_snapshot(&target.row.id).await {
            Ok(()) => {
                target.row.deleted = Some(self.clock.now());
                target.last_error = None;
                self.save(&target.row.scan, std::slice::from_ref(&target.row));
            }
            Err(error) if error.kind == ErrorKind::NotFound => {
                let age = self.clock.now().duration_since(target.row.created);
                let is_old = Duration::try_from(age).is_ok_and(|age| age > self.settings.visible_within);
                if target.row.seen || is_old {
                    return self.gone(target);
                }
                target.last_error = Some(error);
            }
            Err(error) if is_final(error.kind) => target.outcome = Some(PurgeOutcome::Kept(error)),
            Err(error) => target.last_error = Some(error),
        }
    }

    fn gone(&self, target: &mut Target) {
        target.row.gone = Some(self.clock.now());
        target.outcome = Some(PurgeOutcome::Gone);
        self.save(&target.row.scan, std::slice::from_ref(&target.row));
    }

    /// Writes down what is known. A full disk must not keep snapshots alive: the tags find them again too.
    fn save(&self, scan: &ScanId, rows: &[SnapshotRow]) {
        let known = if rows.is_empty() { Ok(None) } else { self.state.scan(scan) };
        let saved = match known {
            Ok(Some(_)) => self.state.record(rows),
            // A scan of another store has no row there to hang them on.
            Ok(None) => Ok(()),
            Err(error) => Err(error),
        };
        if let Err(error) = saved {
            not_written(scan, &error);
        }
    }

    /// Closes the unknown intents whose time had passed when the last list was begun; how many are left.
    fn settle_unknown(&self, scan: &ScanId, listed_at: Timestamp) -> usize {
        for intent in self.state.unknown_intents(scan).unwrap_or_default() {
            let age = Duration::try_from(listed_at.duration_since(intent.written)).unwrap_or_default();
            if age > self.settings.unknown_window
                && let Err(error) = self.state.settle(intent.id, IntentOutcome::NothingFound)
            {
                not_written(scan, &error);
            }
        }
        self.unknown(scan)
    }

    async fn report(&self, scan: &ScanId, work: Work, unknown: usize) -> PurgeReport {
        let is_gone =
            |target: &&Target| target.outcome == Some(PurgeOutcome::Gone) && target.row.deleted.is_some();
        let gone: Vec<String> =
            work.targets.values().filter(is_gone).map(|target| target.row.id.clone()).collect();
        let (mut kept, mut recycle_bin_error) = (BTreeSet::new(), None);
        if !gone.is_empty() {
            match self.client.in_recycle_bin(&gone).await {
                Ok(ids) => kept.extend(ids),
                Err(error) => recycle_bin_error = Some(error),
            }
        }
        let now = self.clock.now();
        let receipts: Vec<Receipt> = work
            .targets
            .into_values()
            .map(|target| {
                let outcome = match target.outcome {
                    Some(PurgeOutcome::Gone) if kept.contains(&target.row.id) => PurgeOutcome::InRecycleBin,
                    Some(outcome) => outcome,
                    None if target.row.deleted.is_some() => PurgeOutcome::Requested,
                    None => PurgeOutcome::NotRequested(target.last_error),
                };
                receipt(target.row, outcome, now)
            })
            .collect();
        let ended =
            |receipt: &Receipt| matches!(receipt.outcome, PurgeOutcome::Gone | PurgeOutcome::InRecycleBin);
        let complete = unknown == 0 && work.list_error.is_none() && receipts.iter().all(ended);
        if complete {
            if let Err(error) = self.state.close_scan(scan, now) {
                not_written(scan, &error);
            }
            self.locks.forget(scan);
        }
        let list_error = work.list_error;
        PurgeReport { receipts, unknown_intents: unknown, complete, list_error, recycle_bin_error }
    }
}

fn receipt(row: SnapshotRow, outcome: PurgeOutcome, now: Timestamp) -> Receipt {
    let end = row.gone.unwrap_or(now);
    Receipt {
        lifetime: Duration::try_from(end.duration_since(row.created)).unwrap_or_default(),
        snapshot_id: row.id,
        volume_id: row.volume_id,
        instance_id: row.instance_id,
        created: row.created,
        completed: row.completed,
        deleted: row.deleted,
        confirmed: row.gone,
        outcome,
    }
}

fn not_written(scan: &ScanId, error: &StateError) {
    tracing::error!(%scan, error = error as &dyn std::error::Error, "the state store cannot be written: snapshots are deleted all the same");
}

/// Another try in the same minute would not fare better.
fn is_final(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::InUse | ErrorKind::AccessDenied | ErrorKind::Credentials | ErrorKind::Invalid)
}

/// Purges when it is dropped, so that a panic or an early return leaves nothing behind. Where all goes well
/// [`PurgeGuard::purge`] does it, and gives the receipts.
#[must_use]
pub struct PurgeGuard {
    purger: Purger,
    scan: Option<ScanId>,
    runtime: Handle,
}

impl PurgeGuard {
    /// Guards `scan`. Must be called on the runtime that is to purge.
    pub fn new(purger: Purger, scan: ScanId) -> Self {
        Self { purger, scan: Some(scan), runtime: Handle::current() }
    }

    /// Purges now.
    ///
    /// # Errors
    /// [`StateError`]; what is left then is the sweep's.
    pub async fn purge(mut self) -> Result<PurgeReport, StateError> {
        let Some(scan) = self.scan.clone() else { return Ok(PurgeReport::default()) };
        let report = self.purger.purge(&scan).await;
        // Only now: one that is cancelled meanwhile purges when it is dropped.
        self.scan = None;
        report
    }
}

impl Drop for PurgeGuard {
    fn drop(&mut self) {
        let Some(scan) = self.scan.take() else { return };
        let purger = self.purger.clone();
        let (sender, done) = mpsc::sync_channel::<()>(1);
        let patience = purger.settings.deadline.saturating_add(Duration::from_secs(10));
        self.runtime.spawn(async move {
            match purger.purge(&scan).await {
                Ok(report) if report.complete => {}
                Ok(_) => tracing::warn!(%scan, "snapshots may be left: run `stillframe snapshots purge`"),
                Err(error) => tracing::error!(%scan, %error, "snapshots may be left"),
            }
            let _ = sender.send(());
        });
        let wait = || {
            // Whether it came or not, there is nothing more to be done here.
            let _ = done.recv_timeout(patience);
        };
        match Handle::try_current().map(|runtime| runtime.runtime_flavor()) {
            // The one thread would wait for itself; the purge goes on when this returns.
            Ok(RuntimeFlavor::CurrentThread) => {}
            Ok(_) => tokio::task::block_in_place(wait),
            Err(_) => wait(),
        }
    }
}

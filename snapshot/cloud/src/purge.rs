//! Deleting a scan's snapshots, and making sure that they are gone.
//!
//! What is deleted: what the state store has recorded, before anything is listed, and what bears the scan's tags; pending
//! ones too. Lists come late and may lack what is there, so a list alone proves nothing: gone is what the cloud took for
//! deletion, or does not find when it is to delete it, *and* lists no more. That it is not found proves nothing either before
//! the snapshot was ever listed: such a one is deleted again until it must have become visible. The same holds for calls to
//! create whose outcome is unknown: they are looked for until [`PurgeSettings::unknown_window`] has passed since.
//!
//! When the deadline comes first the store keeps what is left, for [`crate::sweep`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use jiff::Timestamp;
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::api::{ApiError, ErrorKind, Snapshot, SnapshotState};
use crate::client::Client;
use crate::clock::Clock;
use crate::lifecycle::row_of;
use crate::scan_lock::LockFolder;
use crate::state::{IntentOutcome, SnapshotRow, StateError, StateStore};
use crate::tags::{self, ScanId};

/// What takes longer, a list or a deletion with all its tries, is left for the next round: one call that hangs does not
/// keep the others.
const STEP_AT_MOST: Duration = Duration::from_secs(20);

/// How long to look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PurgeSettings {
    /// The value of the tag `CreatedBy` of scans of which the store does not say it.
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
struct Work<'a> {
    scan: &'a ScanId,
    standing: Standing,
    /// The value of the tag `CreatedBy` of the scan's snapshots.
    created_by: String,
    targets: BTreeMap<String, Target>,
    /// How many lists there were.
    lists: u32,
    list_error: Option<ApiError>,
}

/// What the state store says of a scan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// It is of this account and region.
    Here,
    /// It is of another one: what bears its id here is a copy, and the store's rows are not about that.
    Elsewhere,
    /// It is another store's.
    Unknown,
}

impl Work<'_> {
    /// Nothing can be listed, now or in a minute, and what is known was asked to be deleted.
    fn waits_in_vain(&self) -> bool {
        self.list_error.as_ref().is_some_and(|error| is_final(error.kind))
            && self.targets.values().all(|target| target.outcome.is_some() || target.is_requested())
    }
}

struct Target {
    row: SnapshotRow,
    listed: bool,
    /// Asked for in this round.
    tried: bool,
    /// The cloud took the call in this purge.
    taken: bool,
    /// The cloud had nothing to delete, though it must know the snapshot.
    missing: bool,
    outcome: Option<PurgeOutcome>,
    last_error: Option<ApiError>,
}

impl Target {
    fn new(row: SnapshotRow) -> Self {
        let outcome = row.gone.map(|_| PurgeOutcome::Gone);
        Self { row, listed: false, tried: false, taken: false, missing: false, outcome, last_error: None }
    }

    fn is_requested(&self) -> bool {
        self.row.deleted.is_some() || self.missing
    }

    /// Whether the call is to be made in this round: also where an earlier purge's was taken, and it is there all the same.
    fn is_due(&self) -> bool {
        let is_back = self.listed && self.row.state != SnapshotState::Pending;
        self.outcome.is_none() && !self.tried && !self.taken && (!self.is_requested() || is_back)
    }
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
        let begun = Instant::now();
        let until = begun.checked_add(deadline).unwrap_or(begun);
        // What is left of the time is for the Recycle Bin.
        let rounds_until = until.checked_sub(deadline.checked_div(12).unwrap_or_default()).unwrap_or(until);
        let (mut work, unreadable) = self.begin(scan);
        let mut pause = Duration::from_millis(500);
        let unknown = loop {
            let ended = timeout_at(rounds_until, self.round(&mut work)).await;
            if ended.is_err() && work.list_error.is_none() {
                work.list_error = Some(no_reply("ec2:DescribeSnapshots"));
            }
            let ended = ended.unwrap_or(None);
            if ended == Some(0) && work.targets.values().all(|target| target.outcome.is_some()) {
                break 0;
            }
            let next = Instant::now().checked_add(pause);
            if next.is_none_or(|next| next >= rounds_until) || work.waits_in_vain() {
                break self.unknown(&work);
            }
            sleep(pause).await;
            pause = pause.saturating_mul(2).min(Duration::from_secs(5));
        };
        let report = self.report(work, unknown, until).await;
        unreadable.map_or(Ok(report), Err)
    }

    /// What is known before anything is asked, and why it could not be read, where it could not.
    fn begin<'a>(&self, scan: &'a ScanId) -> (Work<'a>, Option<StateError>) {
        let known = self.state.scan(scan);
        let standing = match &known {
            Ok(Some(row)) if row.place != self.client.caller.place => Standing::Elsewhere,
            Ok(None) => Standing::Unknown,
            Ok(Some(_)) | Err(_) => Standing::Here,
        };
        let created_by = known.ok().flatten().and_then(|row| row.created_by);
        let (rows, unreadable) = match self.state.snapshots(scan) {
            Ok(rows) if standing != Standing::Elsewhere => (rows, None),
            Ok(_) => (Vec::new(), None),
            Err(error) => (Vec::new(), Some(error)),
        };
        let targets = rows.into_iter().map(|row| (row.id.clone(), Target::new(row))).collect();
        let created_by = created_by.unwrap_or_else(|| self.settings.created_by.clone());
        (Work { scan, standing, created_by, targets, lists: 0, list_error: None }, unreadable)
    }

    /// How many calls to create are of unknown outcome. One at least where nobody can know.
    fn unknown(&self, work: &Work<'_>) -> usize {
        match work.standing {
            Standing::Elsewhere => 0,
            Standing::Here | Standing::Unknown => {
                self.state.unknown_intents(work.scan).map_or(1, |intents| intents.len())
            }
        }
    }

    /// Deletes, lists, judges. How many unknown intents are left, where it could list.
    async fn round(&self, work: &mut Work<'_>) -> Option<usize> {
        work.targets.values_mut().for_each(|target| target.tried = false);
        // What is known goes first: whether it is listed, or anything can be, changes nothing.
        self.delete(work).await;
        let begun = self.clock.now();
        let filters = tags::filters_of_scan(&work.created_by, work.scan);
        let listed = timeout(STEP_AT_MOST, self.client.snapshots(&filters)).await;
        match listed.unwrap_or_else(|_| Err(no_reply("ec2:DescribeSnapshots"))) {
            Ok(listed) => {
                work.list_error = None;
                work.lists = work.lists.saturating_add(1);
                self.meet(listed, work);
            }
            Err(error) => {
                work.list_error = Some(error);
                return None;
            }
        }
        // What is news, and was not recorded.
        self.delete(work).await;
        Some(self.settle_unknown(work, begun))
    }

    /// Takes in what is listed, and finds what is gone.
    fn meet(&self, listed: Vec<Snapshot>, work: &mut Work<'_>) {
        let now = self.clock.now();
        let mut ids = BTreeSet::new();
        let mut rows = Vec::new();
        for snapshot in listed {
            // The filter is not trusted with what is to be deleted.
            if tags::scan_of(&snapshot.tags, &work.created_by).as_ref() != Some(work.scan) {
                continue;
            }
            let row = row_of(work.scan, &snapshot, true, now);
            let target = work.targets.entry(snapshot.id.clone()).or_insert_with(|| Target::new(row.clone()));
            // Written down only where it is news: a commit is a flush to the disk.
            if !std::mem::replace(&mut target.listed, true) || target.row.state != row.state {
                rows.push(row.clone());
            }
            target.row.seen = true;
            target.row.state = row.state;
            target.row.completed = target.row.completed.or(row.completed);
            target.missing = false;
            target.row.gone = None;
            target.outcome = match snapshot.state {
                SnapshotState::Recoverable => Some(PurgeOutcome::InRecycleBin),
                // One that was thought gone and is not.
                _ if target.outcome == Some(PurgeOutcome::Gone) => None,
                _ => target.outcome.take(),
            };
            ids.insert(snapshot.id);
        }
        for (id, target) in &mut work.targets {
            // Asked before the list was begun: no deletion is made between the two.
            if target.outcome.is_none() && !ids.contains(id) && target.is_requested() {
                target.row.gone = Some(now);
                target.outcome = Some(PurgeOutcome::Gone);
                rows.push(target.row.clone());
            }
        }
        self.save(work, &rows);
    }

    /// Makes the calls that are due, all at once: the rate limit spaces them, and none waits for one that hangs.
    async fn delete(&self, work: &mut Work<'_>) {
        let mut calls = JoinSet::new();
        for (id, target) in work.targets.iter_mut().filter(|(_, target)| target.is_due()) {
            target.tried = true;
            let (client, id) = (self.client.clone(), id.clone());
            calls.spawn(async move {
                let answer = timeout(STEP_AT_MOST, client.delete_snapshot(&id)).await;
                (id, answer.unwrap_or_else(|_| Err(no_reply("ec2:DeleteSnapshot"))))
            });
        }
        while let Some(call) = calls.join_next().await {
            // A task of ours neither panics nor is cancelled; where one did, the next round asks again.
            let Ok((id, answer)) = call else { continue };
            if let Some(target) = work.targets.get_mut(&id)
                && self.note(target, answer)
            {
                let row = target.row.clone();
                self.save(work, std::slice::from_ref(&row));
            }
        }
    }

    /// What came of a deletion. Whether there is something to be written down.
    fn note(&self, target: &mut Target, answer: Result<(), ApiError>) -> bool {
        match answer {
            Ok(()) => {
                target.row.deleted = target.row.deleted.or_else(|| Some(self.clock.now()));
                (target.taken, target.last_error) = (true, None);
                return true;
            }
            Err(error) if error.kind == ErrorKind::NotFound => {
                let age = self.clock.now().duration_since(target.row.created);
                let is_old = Duration::try_from(age).is_ok_and(|age| age > self.settings.visible_within);
                target.missing = target.row.seen || is_old;
                target.last_error = Some(error);
            }
            // Nobody refused it: with other credentials it can be asked for.
            Err(error) if error.kind == ErrorKind::Credentials && !target.is_requested() => {
                target.outcome = Some(PurgeOutcome::NotRequested(Some(error)));
            }
            Err(error) if is_final(error.kind) => target.outcome = Some(PurgeOutcome::Kept(error)),
            Err(error) => target.last_error = Some(error),
        }
        false
    }

    /// Writes down what is known. A full disk must not keep snapshots alive: the tags find them again too.
    fn save(&self, work: &Work<'_>, rows: &[SnapshotRow]) {
        // A scan of another store has no row there to hang them on, and one of another region not these.
        if work.standing == Standing::Here
            && !rows.is_empty()
            && let Err(error) = self.state.record(rows)
        {
            not_written(work.scan, &error);
        }
    }

    /// Closes the unknown intents whose time had passed when the last list was begun; how many are left.
    fn settle_unknown(&self, work: &Work<'_>, listed_at: Timestamp) -> usize {
        // One list may lack what is there.
        if work.standing == Standing::Here && work.lists >= 2 {
            for intent in self.state.unknown_intents(work.scan).unwrap_or_default() {
                let age = Duration::try_from(listed_at.duration_since(intent.written)).unwrap_or_default();
                if age > self.settings.unknown_window
                    && let Err(error) = self.state.settle(intent.id, IntentOutcome::NothingFound)
                {
                    not_written(work.scan, &error);
                }
            }
        }
        self.unknown(work)
    }

    /// Which of those that are gone the Recycle Bin keeps, as far as there is time to ask.
    async fn in_recycle_bin(&self, work: &Work<'_>, until: Instant) -> Result<BTreeSet<String>, ApiError> {
        let is_gone =
            |target: &&Target| target.outcome == Some(PurgeOutcome::Gone) && target.row.deleted.is_some();
        let gone: Vec<String> =
            work.targets.values().filter(is_gone).map(|target| target.row.id.clone()).collect();
        if gone.is_empty() {
            return Ok(BTreeSet::new());
        }
        let asked = timeout_at(until, self.client.in_recycle_bin(&gone)).await;
        let kept = asked.unwrap_or_else(|_| Err(no_reply("ec2:ListSnapshotsInRecycleBin")))?;
        Ok(kept.into_iter().collect())
    }

    async fn report(&self, work: Work<'_>, unknown: usize, until: Instant) -> PurgeReport {
        let (kept, recycle_bin_error) = match self.in_recycle_bin(&work, until).await {
            Ok(kept) => (kept, None),
            Err(error) => (BTreeSet::new(), Some(error)),
        };
        let (scan, standing, list_error) = (work.scan, work.standing, work.list_error);
        let now = self.clock.now();
        let receipts: Vec<Receipt> = work
            .targets
            .into_values()
            .map(|target| {
                let outcome = match target.outcome {
                    Some(PurgeOutcome::Gone) if kept.contains(&target.row.id) => PurgeOutcome::InRecycleBin,
                    Some(outcome) => outcome,
                    None if target.is_requested() => PurgeOutcome::Requested,
                    None => PurgeOutcome::NotRequested(target.last_error),
                };
                receipt(target.row, outcome, now)
            })
            .collect();
        let ended =
            |receipt: &Receipt| matches!(receipt.outcome, PurgeOutcome::Gone | PurgeOutcome::InRecycleBin);
        let complete = unknown == 0 && list_error.is_none() && receipts.iter().all(ended);
        if complete && standing != Standing::Elsewhere {
            if let Err(error) = self.state.close_scan(scan, now) {
                not_written(scan, &error);
            }
            self.locks.forget(scan);
        }
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

fn no_reply(operation: &'static str) -> ApiError {
    let code = "no reply in time".to_owned();
    ApiError { operation, resource: None, kind: ErrorKind::NoReply, code, request_id: None }
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

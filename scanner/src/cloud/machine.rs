//! One instance: its snapshots taken, read and purged.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use stillframe_cloud::api::{ErrorKind, Snapshot, Tags};
use stillframe_cloud::discover::{
    Discovery, DiskSkip, Exclusions, InstanceStore, PlannedDisk, PlannedInstance, Selection,
};
use stillframe_cloud::lifecycle::{Progress, SnapshotFault, SnapshotOrder, Snapshots};
use stillframe_cloud::purge::{PurgeGuard, PurgeReport};
use stillframe_cloud::snapshot_source::ReadLimit;
use stillframe_cloud::tags::{ScanId, check_user_tags};
use stillframe_model::Coverage;

use super::reading::{self, Read, Target};
use super::receipt::{self, Kept};
use super::{CloudError, Outcome, ReadOptions, Session, Stop, ledger};

/// From this long after their creation anyone may delete our snapshots: no scan reads so long.
const EXPIRES_AFTER: Duration = Duration::from_secs(12 * 3600);
/// So long before that reading ends, finished or not: what is left of the time is for deleting.
const READING_ENDS_BEFORE: Duration = Duration::from_secs(3600);
/// How long a call that creates may still be waited for when the operator wants to stop: without its reply nobody knows what
/// it made. Taken off the time that deleting has.
const LAST_REPLY: Duration = Duration::from_secs(5);

/// How an instance is scanned.
pub struct MachineOptions {
    /// Tags that its snapshots bear beside ours.
    pub user_tags: Tags,
    /// How its disks are read.
    pub read: ReadOptions,
}

/// Finds the instances that were chosen.
///
/// # Errors
/// A call failed, or an instance was named that is not there.
pub async fn find(
    session: &Session,
    selection: &Selection,
    exclusions: &Exclusions,
) -> Result<Discovery, CloudError> {
    let found = stillframe_cloud::discover::discover(&session.client, selection, exclusions).await?;
    match found.unknown_ids.first() {
        Some(id) => Err(CloudError::NoSuchInstance { id: id.clone(), place: session.place().clone() }),
        None => Ok(found),
    }
}

/// Why an instance that was *named* cannot be scanned.
///
/// # Errors
/// [`CloudError::Skipped`] where it cannot.
pub fn must_be_scanned(planned: &PlannedInstance) -> Result<(), CloudError> {
    match &planned.skipped {
        None => Ok(()),
        // What the operator left out by an option or a tag is no mistake, unless nothing is left.
        Some(skip) => Err(CloudError::Skipped { id: planned.instance.id.clone(), skip: skip.clone() }),
    }
}

/// Takes snapshots of the instance's disks, reads them and deletes them, whatever happens in between.
///
/// # Errors
/// What is wrong before anything is created. All that goes wrong later is in the [`Outcome`].
pub async fn scan_machine(
    session: &Session,
    planned: &PlannedInstance,
    options: MachineOptions,
    stop: &Stop,
) -> Result<Outcome, CloudError> {
    check_user_tags(&options.user_tags)?;
    let session = session.counted_anew();
    let scan = ScanId::parse(&options.read.scan.id).ok_or(CloudError::System("scan id"))?;
    let limit = options.read.limit();
    let begun = session.clock.now();
    let work = Work { session, planned, scan, begun, options: Arc::new(options.read), limit };
    work.run(&options.user_tags, stop).await
}

struct Work<'a> {
    session: Session,
    planned: &'a PlannedInstance,
    scan: ScanId,
    begun: Timestamp,
    options: Arc<ReadOptions>,
    limit: Arc<ReadLimit>,
}

impl Work<'_> {
    async fn run(&self, user_tags: &Tags, stop: &Stop) -> Result<Outcome, CloudError> {
        let session = &self.session;
        let unusable = |source| CloudError::StateDirectory { path: session.state.path().to_owned(), source };
        let lock = session.locks.take(&self.scan).map_err(unusable)?;
        session.state.begin_scan(&self.scan, session.place(), session.created_by(), session.clock.now())?;
        let mut purger = session.purger();
        purger.settings.deadline = purger.settings.deadline.saturating_sub(LAST_REPLY);
        let guard = PurgeGuard::new(purger, self.scan.clone());

        let mut taken = Snapshots::default();
        let read = {
            let mut work = pin!(self.take_and_read(user_tags, &mut taken));
            tokio::select! {
                biased;
                () = stop.wanted() => {
                    tokio::select! {
                        _ = &mut work => {}
                        () = self.last_reply() => {}
                    }
                    Err(CloudError::Stopped)
                }
                read = &mut work => read,
            }
        };
        // Whatever still reads, reads in vain.
        self.limit.stop();
        self.options.progress.set_stage("deleting the snapshots".to_owned());
        let purged = guard.purge().await;
        let mut outcome = self.outcome(read, &taken, purged);
        match outcome.errors.iter().any(is_about_leftovers) {
            // Dropped, it belongs to a dead scan, whose leftovers a purge takes at once.
            true => drop(lock),
            false => lock.finish(),
        }
        // Lines of reads that are lost are said beside the report, and do not cost it.
        outcome.errors.extend(session.flush_audit().err());
        Ok(outcome)
    }

    /// Ends when no call that creates is under way, or soon anyway.
    async fn last_reply(&self) {
        let creating = || self.session.state.unknown_intents(&self.scan).is_ok_and(|calls| !calls.is_empty());
        let over = async {
            while creating() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        // Those that it did not wait for are looked for by the purge.
        let _ = tokio::time::timeout(LAST_REPLY, over).await;
    }

    async fn take_and_read(&self, user_tags: &Tags, taken: &mut Snapshots) -> Result<Read, CloudError> {
        *taken = self.take(user_tags).await?;
        let (targets, rows) = self.sort_out(taken);
        reading::read(&self.session, targets, rows, self.options.clone(), &self.limit).await
    }

    async fn take(&self, user_tags: &Tags) -> Result<Snapshots, CloudError> {
        let volumes: Vec<String> = self.planned.volumes().map(|volume| volume.id.clone()).collect();
        let stage = &self.options.progress;
        stage.set_stage(match volumes.len() {
            1 => "taking a snapshot of 1 disk".to_owned(),
            count => format!("taking snapshots of {count} disks"),
        });
        let now = self.session.clock.now();
        let expires_at = now.checked_add(EXPIRES_AFTER).unwrap_or(now);
        let reading_ends = expires_at.checked_sub(READING_ENDS_BEFORE).unwrap_or(expires_at);
        self.limit.end_at(reading_ends, self.session.clock.clone());
        let order = SnapshotOrder {
            scan: self.scan.clone(),
            instance_id: self.planned.instance.id.clone(),
            volume_ids: volumes,
            leave_out_root: self.planned.leaves_out_root(),
            leave_out_data: self.planned.left_out_data().map(str::to_owned).collect(),
            expires_at,
            user_tags: user_tags.clone(),
        };
        let show = |progress: Progress| {
            if let Some((kind, wait)) = progress.refused {
                stage.set_stage(format!("waiting {} s: {}", wait.as_secs().max(1), refusal(kind)));
                return;
            }
            let percent = progress.percent.map(|percent| format!(", {percent} %")).unwrap_or_default();
            let (completed, total) = (progress.completed, progress.total);
            stage.set_stage(format!("waiting for snapshots: {completed} of {total} completed{percent}"));
        };
        Ok(self.session.lifecycle().run(&order, &show).await?)
    }

    /// The root first: where two disks carry an operating system, the one of the root device is the machine's.
    fn disks(&self) -> impl Iterator<Item = (u32, &PlannedDisk)> {
        let (roots, others): (Vec<_>, Vec<_>) = self.planned.disks.iter().partition(|disk| disk.is_root);
        (0..).zip(roots.into_iter().chain(others))
    }

    /// The snapshots to read, and a row for each disk that has none.
    fn sort_out(&self, taken: &Snapshots) -> (Vec<Target>, Vec<Coverage>) {
        let good: BTreeMap<&str, &Snapshot> =
            taken.good.iter().map(|snapshot| (snapshot.volume_id.as_str(), snapshot)).collect();
        let failed: BTreeMap<&str, &SnapshotFault> =
            taken.failed.iter().map(|(volume, fault)| (volume.as_str(), fault)).collect();
        let (mut targets, mut rows) = (Vec::new(), Vec::new());
        for (number, disk) in self.disks() {
            let (name, label) = (format!("disk{number}"), ledger::label(disk));
            let len_bytes = disk.volume.as_ref().map(|volume| volume.size_gib.saturating_mul(1 << 30));
            if let Some(skip) = &disk.skipped {
                rows.push(ledger::skipped(&name, &label, len_bytes, skip));
                continue;
            }
            let volume_id = disk.volume_id.as_deref().unwrap_or_default();
            match good.get(volume_id) {
                Some(snapshot) => targets.push(Target {
                    disk: number,
                    label,
                    attached_as: Some(disk.device.clone()),
                    snapshot_id: snapshot.id.clone(),
                    volume_id: volume_id.to_owned(),
                    key: self.key_of(volume_id),
                    is_foreign: false,
                    len_bytes,
                    is_apart: taken.apart.contains(volume_id),
                }),
                None => {
                    let fault = failed.get(volume_id).copied().unwrap_or(&SnapshotFault::LeftOut);
                    rows.push(ledger::no_snapshot(&name, &label, len_bytes, fault));
                }
            }
        }
        if let InstanceStore::Unknown(error) = &self.planned.instance_store {
            rows.push(ledger::unknown_store(&format!("disk{}", self.planned.disks.len()), error));
        }
        (targets, rows)
    }

    fn key_of(&self, volume_id: &str) -> Option<String> {
        let disk = self.planned.disks.iter().find(|disk| disk.volume_id.as_deref() == Some(volume_id))?;
        disk.volume.as_ref()?.kms_key_id.clone()
    }

    /// What is wrong with disks that were to be read, in their order.
    fn unread(&self, taken: &Snapshots) -> Vec<CloudError> {
        let instance = || self.planned.instance.id.clone();
        let mut errors = Vec::new();
        for (_, disk) in self.disks() {
            let Some(volume) = disk.volume_id.clone() else { continue };
            if let Some(skip @ (DiskSkip::State { .. } | DiskSkip::NotListed)) = disk.skipped.clone() {
                errors.push(CloudError::Disk { instance: instance(), volume, skip });
            } else if let Some((_, fault)) = taken.failed.iter().find(|(failed, _)| *failed == volume) {
                let (key, fault) = (self.key_of(&volume), Box::new(fault.clone()));
                errors.push(CloudError::Snapshot { instance: instance(), volume, key, fault });
            }
        }
        if let InstanceStore::Unknown(error) = &self.planned.instance_store {
            errors.push(CloudError::UnknownStore { instance: instance(), error: error.clone() });
        }
        errors
    }

    fn outcome(
        &self,
        read: Result<Read, CloudError>,
        taken: &Snapshots,
        purged: Result<PurgeReport, stillframe_cloud::state::StateError>,
    ) -> Outcome {
        let instance = &self.planned.instance.id;
        let mut errors = self.unread(taken);
        let (purged, unreadable) = match purged {
            Ok(purged) => (purged, None),
            Err(error) => (PurgeReport::default(), Some(error)),
        };
        let device = |disk: &PlannedDisk| Some((disk.volume_id.clone()?, disk.device.clone()));
        let devices: BTreeMap<String, String> = self.planned.disks.iter().filter_map(device).collect();
        let receipts = receipt::receipts(&purged, &devices, &self.session.created_by);
        let left = receipt::left(&purged, &receipts);
        let mut report = None;
        match read {
            // A report of nothing but failures, which left nothing to delete either, says no more than they do.
            Ok(read) if read.opened == 0 && receipts.is_empty() => errors.extend(read.errors),
            Ok(mut read) => {
                errors.append(&mut read.errors);
                errors.extend(self.options.reached(&self.limit, &read.report, true));
                let kept: Vec<Kept> =
                    purged.receipts.iter().map(|receipt| self.kept(receipt, taken)).collect();
                // From the wish to the last snapshot's end, and not the reading alone.
                read.report.scan.started = self.begun;
                read.report.scan.finished = self.session.clock.now();
                read.report.snapshots.clone_from(&receipts);
                read.report.cloud = Some(receipt::cloud_use(
                    &self.session,
                    Some(instance),
                    &self.options,
                    &self.limit,
                    &kept,
                    purged.unknown_intents,
                ));
                report = Some(read.report);
            }
            Err(error) => errors.push(error),
        }
        errors.extend(left);
        errors.extend(unreadable.map(CloudError::State));
        let receipts = if report.is_some() { Vec::new() } else { receipts };
        Outcome { report, receipts, errors }
    }

    /// At most: of a snapshot that failed, or was never completed, nobody says what it held, and it held no more than its volume.
    fn kept(&self, receipt: &stillframe_cloud::purge::Receipt, taken: &Snapshots) -> Kept {
        let snapshot = taken.good.iter().find(|snapshot| snapshot.id == receipt.snapshot_id);
        let planned = self.planned.volumes().find(|volume| volume.id == receipt.volume_id);
        let gib = snapshot.map(|one| one.volume_size_gib).or(planned.map(|volume| volume.size_gib));
        let whole = gib.unwrap_or(0).saturating_mul(1 << 30);
        let bytes = snapshot.and_then(|snapshot| snapshot.full_size_bytes).unwrap_or(whole);
        Kept { bytes, lifetime: receipt.lifetime }
    }
}

/// Why the cloud makes no snapshot just now.
const fn refusal(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::VolumeRate => "the volume had a snapshot just now",
        ErrorKind::ConcurrentSnapshots => "too many snapshots of the volume are pending",
        ErrorKind::PendingSnapshots => "too many snapshots of the account are pending",
        _ => "no snapshot can be made for now",
    }
}

/// Whether the scan must stay known for what it may have left.
fn is_about_leftovers(error: &CloudError) -> bool {
    matches!(
        error,
        CloudError::Left { .. }
            | CloudError::UnknownCreations { .. }
            | CloudError::Unlisted(_)
            | CloudError::State(_)
    )
}

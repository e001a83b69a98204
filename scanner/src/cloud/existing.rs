//! Snapshots that were there before: read, never deleted.

use std::sync::Arc;

use stillframe_cloud::api::{ErrorKind, Snapshot, SnapshotState};
use stillframe_cloud::snapshot_source::{EbsSource, ReadLimit};
use stillframe_model::SnapshotReceipt;

use super::error::Unreadable;
use super::reading::{self, Target};
use super::receipt::{self, Kept};
use super::{CloudError, Outcome, ReadOptions, Session, Stop, ledger};
use crate::isolation;

/// Reads the snapshots, in this order, as the disks of one machine.
/// One that cannot be read has its row in the ledger, and the others go on.
///
/// # Errors
/// What is wrong with the operator's machine. All else is in the [`Outcome`].
pub async fn scan_snapshots(
    session: &Session,
    ids: &[String],
    options: ReadOptions,
    stop: &Stop,
) -> Result<Outcome, CloudError> {
    let session = session.counted_anew();
    options.progress.set_stage("looking at the snapshots".to_owned());
    let (mut snapshots, mut targets, mut rows, mut errors) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for (disk, id) in (0..).zip(ids) {
        let described = tokio::select! {
            biased;
            () = stop.wanted() => return Err(CloudError::Stopped),
            described = describe(&session, id) => described,
        };
        match described {
            Ok(snapshot) => {
                targets.push(target(&session, disk, &snapshot));
                snapshots.push(snapshot);
            }
            Err(error) => {
                rows.push(ledger::undescribed(&format!("disk{disk}"), id, &error));
                errors.push(error);
            }
        }
    }
    if targets.is_empty() {
        return Ok(Outcome { report: None, receipts: Vec::new(), errors });
    }
    let options = Arc::new(options);
    let limit = options.limit();
    let read = tokio::select! {
        biased;
        () = stop.wanted() => Err(CloudError::Stopped),
        read = reading::read(&session, targets, rows, options.clone(), &limit) => read,
    };
    limit.stop();
    let unwritten = session.flush_audit().err();
    let mut read = match read {
        Ok(read) => read,
        Err(error) => {
            errors.push(error);
            errors.extend(unwritten);
            return Ok(Outcome { report: None, receipts: Vec::new(), errors });
        }
    };
    errors.append(&mut read.errors);
    errors.extend(options.reached(&limit, &read.report, false));
    // Said beside the report, which it does not cost.
    errors.extend(unwritten);
    if read.opened == 0 {
        return Ok(Outcome { report: None, receipts: Vec::new(), errors });
    }
    let now = session.clock.now();
    let receipts: Vec<SnapshotReceipt> =
        snapshots.iter().map(|snapshot| receipt::of_existing(snapshot, now)).collect();
    read.report.snapshots = receipts;
    // They would be kept without us: their storage is not ours to count.
    let kept: [Kept; 0] = [];
    read.report.cloud = Some(receipt::cloud_use(&session, None, &options, &limit, &kept, 0));
    Ok(Outcome { report: Some(read.report), receipts: Vec::new(), errors })
}

/// Snapshots as disks, for whoever only looks.
pub struct OpenSnapshots {
    /// In the order given.
    pub targets: Vec<isolation::Target>,
    sources: Vec<(Target, Arc<EbsSource>)>,
}

impl OpenSnapshots {
    /// Why reading ended, of those where it did.
    #[must_use]
    pub fn errors(&self) -> Vec<CloudError> {
        let failed = |(target, source): &(Target, Arc<EbsSource>)| Some(target.failed(source.failure()?));
        self.sources.iter().filter_map(failed).collect()
    }
}

/// Opens the snapshots, in this order, as the disks of one machine.
///
/// # Errors
/// One of them cannot be read.
pub async fn open_snapshots(
    session: &Session,
    ids: &[String],
    limit: &Arc<ReadLimit>,
) -> Result<OpenSnapshots, CloudError> {
    let mut targets = Vec::new();
    for (disk, id) in (0..).zip(ids) {
        targets.push(target(session, disk, &describe(session, id).await?));
    }
    let mut sources = Vec::new();
    for (target, opened) in reading::open_all(session, targets, limit).await {
        let source = opened.map_err(|error| target.failed(error))?;
        sources.push((target, Arc::new(source)));
    }
    Ok(OpenSnapshots { targets: reading::targets(&sources), sources })
}

fn target(session: &Session, disk: u32, snapshot: &Snapshot) -> Target {
    Target {
        disk,
        label: snapshot.id.clone(),
        attached_as: None,
        snapshot_id: snapshot.id.clone(),
        volume_id: snapshot.volume_id.clone(),
        key: snapshot.kms_key_id.clone(),
        is_foreign: snapshot.owner != session.place().account,
        len_bytes: Some(snapshot.volume_size_gib.saturating_mul(1 << 30)),
        // Whoever names several says that they belong together.
        is_apart: false,
    }
}

/// One snapshot that can be read. By itself: of several, an error does not say which one is missing.
async fn describe(session: &Session, id: &String) -> Result<Snapshot, CloudError> {
    let unreadable = |why| CloudError::Unreadable { snapshot: id.clone(), why };
    let found = match session.client.snapshots_by_id(std::slice::from_ref(id)).await {
        Ok(found) => found.into_iter().find(|snapshot| snapshot.id == *id),
        Err(error) if matches!(error.kind, ErrorKind::NotFound | ErrorKind::Invalid) => None,
        Err(error) => return Err(error.into()),
    };
    let Some(snapshot) = found else {
        // Deleted ones that a rule keeps are in no list but this.
        let kept = session.client.in_recycle_bin(std::slice::from_ref(id)).await.unwrap_or_default();
        return Err(unreadable(match kept.contains(id) {
            true => Unreadable::InRecycleBin,
            false => Unreadable::Missing(session.place().clone()),
        }));
    };
    match judge(&snapshot) {
        Some(why) => Err(unreadable(why)),
        None => Ok(snapshot),
    }
}

fn judge(snapshot: &Snapshot) -> Option<Unreadable> {
    match snapshot.state {
        SnapshotState::Pending => Some(Unreadable::Pending),
        SnapshotState::Error => Some(Unreadable::Failed),
        SnapshotState::Recoverable | SnapshotState::Recovering => Some(Unreadable::InRecycleBin),
        SnapshotState::Completed if snapshot.storage_tier.as_deref() == Some("archive") => {
            Some(Unreadable::Archived)
        }
        SnapshotState::Completed => None,
    }
}

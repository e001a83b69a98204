//! From snapshots that can be read to a report of their disks.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use stillframe_cloud::snapshot_source::{EbsSource, ReadLimit, SourceError, SourceMemory};
use stillframe_model::{Coverage, Label, Report, Status};
use tokio::task::JoinSet;

use super::{CloudError, ReadOptions, Session, ledger};
use crate::isolation::{self, Bytes, Sandbox, Supervision};

/// What all sources together may hold of blocks that are read ahead, in bytes. What readers wait for, and the tokens, are
/// bounded by the scan's [`ReadLimit`]. A source with little room reads less ahead.
const BUFFER_BYTES: u64 = 64 << 20;

/// A snapshot to be read as a disk.
#[derive(Debug, Clone)]
pub(super) struct Target {
    /// The number of the disk.
    pub(super) disk: u32,
    /// What it is called besides.
    pub(super) label: String,
    /// The name under which it is attached to the instance: `/dev/sdf`.
    pub(super) attached_as: Option<String>,
    pub(super) snapshot_id: String,
    pub(super) volume_id: String,
    /// The key, where it is encrypted.
    pub(super) key: Option<String>,
    pub(super) is_foreign: bool,
    pub(super) len_bytes: Option<u64>,
    /// It was not taken together with the machine's other disks.
    pub(super) is_apart: bool,
}

impl Target {
    fn name(&self) -> String {
        format!("disk{}", self.disk)
    }

    pub(super) fn failed(&self, error: SourceError) -> CloudError {
        CloudError::Source {
            snapshot: self.snapshot_id.clone(),
            volume: self.volume_id.clone(),
            key: self.key.clone(),
            is_foreign: self.is_foreign,
            error: Box::new(error),
        }
    }
}

/// What was read.
pub(super) struct Read {
    pub(super) report: Report,
    pub(super) errors: Vec<CloudError>,
    /// How many of the targets could be opened.
    pub(super) opened: usize,
}

/// Opens the snapshots and scans them as the disks of one machine. `rows` are of disks that are not among them.
pub(super) async fn read(
    session: &Session,
    targets: Vec<Target>,
    mut rows: Vec<Coverage>,
    options: Arc<ReadOptions>,
    limit: &Arc<ReadLimit>,
) -> Result<Read, CloudError> {
    options.progress.set_stage("listing what was written".to_owned());
    super::measure(&options.progress, session, limit);
    let mut sources = Vec::new();
    let mut errors = Vec::new();
    for (target, opened) in open_all(session, targets, limit).await {
        match opened {
            Ok(source) => sources.push((target, Arc::new(source))),
            Err(error) => {
                rows.push(ledger::unopened(&target.name(), &target.label, target.len_bytes, &error));
                errors.push(target.failed(error));
            }
        }
    }
    let targets = self::targets(&sources);
    let wanted = limit.clone();
    // On one thread from its start to its end: the process that reads ends with the thread that started it.
    let scanning = tokio::task::spawn_blocking(move || {
        let scan = || scan_apart(&targets, &options, &wanted);
        catch_unwind(AssertUnwindSafe(scan)).map_err(|_| CloudError::Panicked)
    });
    let mut report = scanning.await.map_err(|_| CloudError::Panicked)???;
    for (target, source) in &sources {
        if let Some(error) = source.failure() {
            mark(&mut report.coverage, &target.name(), &error);
            errors.push(target.failed(error));
        }
        if target.is_apart {
            note_apart(&mut report.coverage, &target.name());
        }
    }
    crate::scan::add_rows(&mut report, rows);
    Ok(Read { report, errors, opened: sources.len() })
}

/// Has them parsed by another process, which asks this one for their blocks.
fn scan_apart(
    targets: &[isolation::Target],
    options: &ReadOptions,
    limit: &Arc<ReadLimit>,
) -> Result<Report, CloudError> {
    if options.sandbox == Sandbox::Off {
        let disks = isolation::Target::disks(targets, options.cache_bytes);
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(options.threads)
            .thread_name(|number| format!("reader-{number}"))
            .build()
            .map_err(|_| CloudError::System("threads"))?;
        return Ok(pool.install(|| crate::scan(&disks, &options.scan, &options.progress)));
    }
    let supervision = Supervision {
        sandbox: options.sandbox,
        threads: options.threads,
        cache_bytes: options.cache_bytes,
        progress: &options.progress,
        is_wanted: &|| !limit.is_stopped(),
        worker: &options.worker,
    };
    isolation::scan(targets, &options.scan, &supervision).map_err(CloudError::Isolation)
}

/// The sources as disks for another process.
pub(super) fn targets(sources: &[(Target, Arc<EbsSource>)]) -> Vec<isolation::Target> {
    let target = |(target, source): &(Target, Arc<EbsSource>)| isolation::Target {
        number: target.disk,
        label: target.label.clone(),
        attached_as: target.attached_as.clone(),
        bytes: Bytes::Here(source.clone()),
    };
    sources.iter().map(target).collect()
}

/// All at the same time; in the order of disks.
pub(super) async fn open_all(
    session: &Session,
    targets: Vec<Target>,
    limit: &Arc<ReadLimit>,
) -> Vec<(Target, Result<EbsSource, SourceError>)> {
    let memory = memory_of_each(targets.len());
    let mut opening = JoinSet::new();
    for target in targets {
        let (caller, blocks, limit) = (session.client.caller.clone(), session.blocks(), limit.clone());
        opening.spawn(async move {
            let source = EbsSource::open(caller, blocks, target.snapshot_id.clone(), memory, limit).await;
            (target, source)
        });
    }
    let mut opened = BTreeMap::new();
    while let Some(one) = opening.join_next().await {
        // A task of ours neither panics nor is cancelled; where one did, the disk's row says that it was not read.
        if let Ok((target, source)) = one {
            opened.insert(target.disk, (target, source));
        }
    }
    opened.into_values().collect()
}

/// The share of one of so many sources.
fn memory_of_each(sources: usize) -> SourceMemory {
    let count = u64::try_from(sources).unwrap_or(u64::MAX).max(1);
    SourceMemory {
        // One block at least.
        buffer_bytes: BUFFER_BYTES.checked_div(count).unwrap_or(0).max(stillframe_block::BLOCK_BYTES),
        ..SourceMemory::default()
    }
}

/// What lies on several disks of the machine may not fit together.
fn note_apart(coverage: &mut [Coverage], disk: &str) {
    if let Some(row) = coverage.iter_mut().find(|row| row.name.as_str() == disk) {
        row.notes.push(Label::new("its snapshot is of another moment than those of the other disks"));
    }
}

/// Writes into the row of a disk why its reading ended.
fn mark(coverage: &mut [Coverage], disk: &str, error: &SourceError) {
    let inside = format!("{disk}/");
    let has_more = coverage.iter().any(|row| row.name.as_str().starts_with(&inside));
    if let Some(row) = coverage.iter_mut().find(|row| row.name.as_str() == disk) {
        row.status = if has_more { Status::Partial } else { Status::Failed };
        row.reason = Some(ledger::reason(error));
    }
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects, reason = "a test may panic")]
mod tests {
    use super::*;

    /// As many volumes as an instance can have, and one.
    #[test]
    fn all_sources_together_hold_no_more_than_one() {
        let one = memory_of_each(1);
        assert_eq!(one, SourceMemory::default());
        for count in 1..=128 {
            let each = memory_of_each(count);
            let all = u64::try_from(count).unwrap();
            assert!(each.buffer_bytes * all <= one.buffer_bytes, "{count}");
        }
    }
}

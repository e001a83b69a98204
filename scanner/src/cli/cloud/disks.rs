//! Snapshots in place of image files, for the commands that only look.

use std::path::PathBuf;

use clap::Args;
use stillframe_cloud::cost::Prices;
use stillframe_cloud::snapshot_source::ReadLimit;
use stillframe_cloud::tags::ScanId;

use super::super::failure::Failure;
use super::arguments::{Account, Limits, Region, snapshot_id};
use super::{LAST_CALLS, check_once, explain, explained, limiter, open, runtime, stop, unless_stopped};
use crate::cloud::existing::open_snapshots;
use crate::cloud::{CloudError, measure};
use crate::isolation::Target;
use crate::progress::Progress;

/// Where snapshots are, and how much of them may be read.
#[derive(Debug, Clone, Args)]
pub struct Remote {
    /// How much.
    #[command(flatten)]
    pub limits: Limits,
    /// The region.
    #[command(flatten)]
    pub region: Region,
    /// The account.
    #[command(flatten)]
    pub account: Account,
}

/// The ids, where all paths are those of snapshots and no files.
pub(in crate::cli) fn snapshot_ids(paths: &[PathBuf]) -> Option<Vec<String>> {
    let id =
        |path: &PathBuf| path.to_str().filter(|_| !path.exists()).and_then(|text| snapshot_id(text).ok());
    paths.iter().map(id).collect()
}

/// What came of work on snapshots.
pub(in crate::cli) struct Looked<T> {
    pub(in crate::cli) value: T,
    /// Whether nothing went wrong beside it.
    pub(in crate::cli) is_whole: bool,
}

/// Runs `work` on the snapshots as disks, on threads of which many wait for the network. Nothing is created; where the
/// operator stops it, reading ends, and what was read is in the audit log.
pub(in crate::cli) fn with_snapshots<T: Send>(
    remote: &Remote,
    ids: &[String],
    progress: &Progress,
    work: impl FnOnce(&[Target], &(dyn Fn() -> bool + Sync)) -> Result<T, Failure> + Send,
) -> Result<Looked<T>, Failure> {
    check_once(ids)?;
    let runtime = runtime()?;
    let limits = &remote.limits;
    let limit = ReadLimit::new(limits.max_blocks, limits.max_cost(), Prices::default());
    let name = ScanId::random().map(|id| id.to_string()).unwrap_or_default();
    let stop = runtime.block_on(async { stop() })?;
    let region = remote.region.region.clone();
    let opening = open(&remote.account, region, Some(limits), limiter(Some(limits)), &name);
    let session = runtime.block_on(unless_stopped(&stop, opening))?;
    let result = runtime
        .block_on(unless_stopped(&stop, async {
            open_snapshots(&session, ids, &limit).await.map_err(explained)
        }))
        .and_then(|opened| {
            measure(progress, &session, &limit);
            let (wish, reading) = (stop.clone(), limit.clone());
            runtime.spawn(async move {
                wish.wanted().await;
                reading.stop();
            });
            let value = work(&opened.targets, &|| !limit.is_stopped());
            if stop.is_wanted() {
                return Err(explained(CloudError::Stopped));
            }
            let value = value?;
            let errors = opened.errors();
            explain::failures(&errors).iter().for_each(Failure::print);
            Ok(Looked { value, is_whole: errors.is_empty() })
        });
    limit.stop();
    let unwritten = session.flush_audit().map_err(explained);
    runtime.shutdown_timeout(LAST_CALLS);
    let is_written = unwritten.is_ok();
    unwritten.err().iter().for_each(Failure::print);
    result.map(|looked| Looked { is_whole: looked.is_whole && is_written, ..looked })
}

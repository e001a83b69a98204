//! Snapshots in place of image files, for the commands that only look.

use std::path::PathBuf;

use clap::Args;
use stillframe_cloud::cost::Prices;
use stillframe_cloud::snapshot_source::ReadLimit;
use stillframe_cloud::tags::ScanId;

use super::super::failure::Failure;
use super::arguments::{Account, Limits, Region, snapshot_id};
use super::{LAST_CALLS, explain, explained, limiter, open, runtime};
use crate::cloud::existing::open_snapshots;
use crate::cloud::{READERS, measure};
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

/// Runs `work` on the snapshots as disks, on threads of which many wait for the network. Nothing is created, so nothing is
/// left when the operator stops it.
pub(in crate::cli) fn with_snapshots<T: Send>(
    remote: &Remote,
    ids: &[String],
    progress: &Progress,
    work: impl FnOnce(&[Target]) -> Result<T, Failure> + Send,
) -> Result<T, Failure> {
    let runtime = runtime()?;
    let limits = &remote.limits;
    let limit = ReadLimit::new(limits.max_blocks, limits.max_cost(), Prices::default());
    let name = ScanId::random().map(|id| id.to_string()).unwrap_or_default();
    let (session, opened) = runtime.block_on(async {
        let region = remote.region.region.clone();
        let session = open(&remote.account, region, Some(limits), limiter(Some(limits)), &name).await?;
        let opened = open_snapshots(&session, ids, &limit).await.map_err(explained)?;
        Ok::<_, Failure>((session, opened))
    })?;
    measure(progress, &session, &limit);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(READERS).build().map_err(|error| {
        Failure::new(
            format!("the program cannot start its threads: {error}"),
            "raise the limit of processes (ulimit -u)",
        )
    })?;
    let result = pool.install(|| work(&opened.targets));
    explain::failures(&opened.errors()).iter().for_each(Failure::print);
    limit.stop();
    drop(opened);
    let flushed = session.flush_audit().map_err(explained);
    runtime.shutdown_timeout(LAST_CALLS);
    flushed.and(result)
}

//! Commands that ask a cloud.

pub(super) mod account;
pub(super) mod arguments;
pub(super) mod audit;
mod call;
pub(super) mod disks;
mod explain;
pub(super) mod instances;
pub(super) mod leftovers;
pub(super) mod scan;

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use stillframe_cloud::limiter::{Limiter, Rate, Rates};
use stillframe_model::DiskText;
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};

use super::failure::Failure;
use crate::cloud::{CloudError, Session, SessionOptions, Stop};
use crate::key;
use arguments::{Account, Limits};

/// Calls that are under way when all is done have this long to end.
const LAST_CALLS: Duration = Duration::from_millis(200);

/// Runs `work` on a runtime of its own.
fn on_runtime<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = runtime()?;
    let result = runtime.block_on(work);
    // A reader that was left behind waits for nothing that anybody needs.
    runtime.shutdown_timeout(LAST_CALLS);
    result
}

fn runtime() -> Result<Runtime, Failure> {
    let failed = |error: io::Error| {
        Failure::new(
            format!("the program cannot start its threads: {error}"),
            "raise the limit of processes (ulimit -u)",
        )
    };
    tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(failed)
}

/// The limits of the process's calls.
fn limiter(limits: Option<&Limits>) -> Arc<Limiter> {
    let defaults = Rates::default();
    Limiter::new(limits.map_or(defaults, |limits| Rates {
        get: Rate::per_second(limits.gets_per_second),
        list: Rate::per_second(limits.lists_per_second),
        ..defaults
    }))
}

/// Opens an account and region for a command that reads disks, or with `limits` of `None` for one that reads none.
async fn open(
    account: &Account,
    region: Option<String>,
    limits: Option<&Limits>,
    limiter: Arc<Limiter>,
    session_name: &str,
) -> Result<Session, Failure> {
    let mut connection = account.options(region, session_name);
    // What no disk is read for cannot leave its region.
    connection.allow_cross_region = limits.is_none_or(|limits| limits.allow_cross_region);
    let options = SessionOptions {
        connection,
        state_directory: key::state_directory().map_err(|error| Failure::key(&error))?,
        limiter,
        created_by: account.created_by.clone(),
        reads_disks: limits.is_some(),
    };
    Session::open(options).await.map_err(|mut error| {
        // The cloud does not say which role; we know.
        if let CloudError::Api(api) = &mut error
            && api.operation == "sts:AssumeRole"
        {
            api.resource = api.resource.take().or_else(|| account.role_arn.clone());
        }
        explained(error)
    })
}

/// The operator's wish to stop: Ctrl-C, SIGTERM, or a terminal that is gone.
fn stop() -> Result<Stop, Failure> {
    let listen = |kind| {
        signal(kind).map_err(|error| {
            Failure::new(
                format!("the program cannot listen for signals: {error}"),
                "nothing was created; see what the machine lacks",
            )
        })
    };
    let mut interrupt = listen(SignalKind::interrupt())?;
    let mut terminate = listen(SignalKind::terminate())?;
    let mut hangup = listen(SignalKind::hangup())?;
    Ok(Stop::when(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }))
}

/// What is done before anything is created ends at once where the operator wishes it.
async fn unless_stopped<T>(
    stop: &Stop,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    tokio::select! {
        biased;
        () = stop.wanted() => Err(explained(CloudError::Stopped)),
        done = work => done,
    }
}

/// Each snapshot is one disk: named twice, all that is on it would be counted twice.
fn check_once(ids: &[String]) -> Result<(), Failure> {
    let mut met = BTreeSet::new();
    match ids.iter().find(|id| !met.insert(*id)) {
        Some(id) => Err(Failure::named_twice(id)),
        None => Ok(()),
    }
}

/// `1 snapshot`, `2 snapshots`.
fn counted(count: usize, one: &str, more: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { more })
}

fn explained(error: CloudError) -> Failure {
    explain::failure(&error)
}

/// A name that somebody gave in the cloud, as it may be shown.
fn shown(name: &str) -> String {
    DiskText::new(name).as_str().to_owned()
}

/// `1.5 GiB`; binary units, at most one place.
fn size(bytes: u64) -> String {
    indicatif::BinaryBytes(bytes).to_string()
}

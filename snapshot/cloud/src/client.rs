//! The cloud of one account and region with all that every call needs: the rate limit, a time limit, retries where another
//! try is safe, counts, and the audit log.
//!
//! Calls that create are made once: whether to try again is [`crate::lifecycle`]'s to say, since a lost reply may have
//! had its effect.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::timeout;

use crate::api::{
    Answer, ApiError, Compute, CreateSet, DryRunAction, ErrorKind, Filter, Instance, Page, Place, Replied,
    Snapshot, Tags, Volume,
};
use crate::audit::{AuditLog, DataCall};
use crate::limiter::{Limiter, Operation};
use crate::retry::{RetryPolicy, retry};

/// A list of this many pages has no end.
const PAGES_AT_MOST: u32 = 100_000;

/// How calls are made, whatever they ask.
#[derive(Clone)]
pub struct Caller {
    /// Where.
    pub place: Place,
    /// How many a second.
    pub limiter: Arc<Limiter>,
    /// How often again.
    pub retry: RetryPolicy,
    /// How long one may take; what takes longer has no reply.
    pub time_limit: Duration,
    /// Where they are written down.
    pub audit: Arc<AuditLog>,
    /// Where they are counted.
    pub counts: Arc<CallCounts>,
}

/// What was called so far. Never reset.
#[derive(Debug, Default)]
pub struct CallCounts {
    /// `GetSnapshotBlock`, answered or not.
    pub gets: AtomicU64,
    /// `ListSnapshotBlocks`.
    pub lists: AtomicU64,
    /// `Describe…`.
    pub describes: AtomicU64,
    /// Calls that change something.
    pub changes: AtomicU64,
    /// Answers that said that it was too much.
    pub throttles: AtomicU64,
    /// Other answers that led, or could lead, to another try.
    pub failures: AtomicU64,
    /// Blocks whose bytes were not what was announced.
    pub bad_blocks: AtomicU64,
    /// Bytes of blocks received.
    pub bytes: AtomicU64,
}

impl CallCounts {
    fn count(&self, operation: Operation) {
        let counter = match operation {
            Operation::Get => &self.gets,
            Operation::List => &self.lists,
            Operation::Describe => &self.describes,
            Operation::CreateSnapshot | Operation::CreateSnapshots | Operation::DeleteSnapshot => {
                &self.changes
            }
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

impl Caller {
    /// One call, when the limit allows it.
    pub(crate) async fn once<'a, T>(
        &self,
        operation: Operation,
        name: &'static str,
        call: impl FnOnce() -> Answer<'a, T>,
    ) -> Result<T, ApiError> {
        let permit = self.limiter.bucket(&self.place, operation).acquire().await;
        self.counts.count(operation);
        let answer = timeout(self.time_limit, call()).await.unwrap_or_else(|_| Err(timed_out(name)));
        match &answer {
            Err(error) if error.kind == ErrorKind::Throttled => {
                self.counts.throttles.fetch_add(1, Ordering::Relaxed);
                permit.throttled();
            }
            Err(error) if matches!(error.kind, ErrorKind::Service | ErrorKind::NoReply) => {
                self.counts.failures.fetch_add(1, Ordering::Relaxed);
                // Says nothing about the rate.
                drop(permit);
            }
            _ => permit.answered(),
        }
        answer
    }

    /// A data call begins, and is written down when it ends.
    pub(crate) fn begin_data(&self, operation: &str, resource: String) -> DataCall {
        self.audit.begin_data(&self.place, operation, resource)
    }

    fn audit_change<T>(&self, operation: &str, resource: &str, answer: &Result<Replied<T>, ApiError>) {
        let (id, result) = match answer {
            Ok(replied) => (replied.request_id.clone(), "ok"),
            Err(error) => (error.request_id.clone(), error.code.as_str()),
        };
        // It has happened: that it cannot be written down must not hide it.
        if let Err(error) = self.audit.change(&self.place, operation, resource.to_owned(), id, result) {
            tracing::error!(operation, resource, %error, "a call could not be written to the audit log");
        }
    }
}

fn timed_out(operation: &'static str) -> ApiError {
    let code = "timed out".to_owned();
    ApiError { operation, resource: None, kind: ErrorKind::NoReply, code, request_id: None }
}

/// The compute API of one account and region.
#[derive(Clone)]
pub struct Client {
    /// What answers.
    pub compute: Arc<dyn Compute>,
    /// How it is asked.
    pub caller: Caller,
}

impl Client {
    /// All instances that pass the filters.
    ///
    /// # Errors
    /// What the call fails with, after retries.
    pub async fn instances(&self, filters: &[Filter]) -> Result<Vec<Instance>, ApiError> {
        self.all("ec2:DescribeInstances", |page| self.compute.describe_instances(filters, page)).await
    }

    /// All volumes that pass the filters.
    ///
    /// # Errors
    /// What the call fails with, after retries.
    pub async fn volumes(&self, filters: &[Filter]) -> Result<Vec<Volume>, ApiError> {
        self.all("ec2:DescribeVolumes", |page| self.compute.describe_volumes(filters, page)).await
    }

    /// All snapshots of the account that pass the filters.
    ///
    /// # Errors
    /// What the call fails with, after retries.
    pub async fn snapshots(&self, filters: &[Filter]) -> Result<Vec<Snapshot>, ApiError> {
        self.all("ec2:DescribeSnapshots", |page| self.compute.describe_snapshots(filters, page)).await
    }

    /// Snapshots by id, none of which may be missing.
    ///
    /// # Errors
    /// What the call fails with, after retries.
    pub async fn snapshots_by_id(&self, ids: &[String]) -> Result<Vec<Snapshot>, ApiError> {
        self.describe("ec2:DescribeSnapshots", || self.compute.describe_snapshots_by_id(ids)).await
    }

    /// Which of these the Recycle Bin keeps.
    ///
    /// # Errors
    /// What the call fails with, after retries.
    pub async fn in_recycle_bin(&self, ids: &[String]) -> Result<Vec<String>, ApiError> {
        self.describe("ec2:ListSnapshotsInRecycleBin", || self.compute.snapshots_in_recycle_bin(ids)).await
    }

    /// How many GiB of instance store machines of these types have; those without are left out. At most 100 types.
    ///
    /// # Errors
    /// What the call fails with, after retries.
    pub async fn instance_store_gib(&self, types: &[String]) -> Result<BTreeMap<String, u64>, ApiError> {
        self.describe("ec2:DescribeInstanceTypes", || self.compute.instance_store_gib(types)).await
    }

    /// The regions that are enabled.
    ///
    /// # Errors
    /// What the call fails with, after retries.
    pub async fn regions(&self) -> Result<Vec<String>, ApiError> {
        self.describe("ec2:DescribeRegions", || self.compute.describe_regions()).await
    }

    /// Whether a call would be allowed. Counted as a description, since it changes nothing; but CloudTrail shows the call
    /// itself, so that those that would change something are written down.
    ///
    /// # Errors
    /// That it would not, or what the call fails with, after retries.
    pub async fn dry_run(&self, action: &DryRunAction) -> Result<(), ApiError> {
        let answer = self.describe("a dry run", || self.compute.dry_run(action.clone())).await;
        let (operation, resource) = match action {
            DryRunAction::CreateSnapshots { instance_id, .. } => ("ec2:CreateSnapshots", instance_id),
            DryRunAction::CreateSnapshot { volume_id, .. } => ("ec2:CreateSnapshot", volume_id),
            DryRunAction::DeleteSnapshot { snapshot_id } => ("ec2:DeleteSnapshot", snapshot_id),
            DryRunAction::DescribeInstances
            | DryRunAction::DescribeVolumes
            | DryRunAction::DescribeSnapshots => return answer,
        };
        let (id, verdict) = match &answer {
            Ok(()) => (None, "allowed"),
            Err(error) => (error.request_id.clone(), error.code.as_str()),
        };
        let result = format!("dry run: {verdict}");
        let (place, audit) = (&self.caller.place, &self.caller.audit);
        if let Err(error) = audit.change(place, operation, resource.clone(), id, &result) {
            tracing::error!(operation, resource, %error, "a dry run could not be written to the audit log");
        }
        answer
    }

    /// `CreateSnapshots`, once. Refused with a failure of our own where it cannot be logged.
    pub(crate) async fn create_snapshots(&self, set: &CreateSet) -> Result<Vec<Snapshot>, ApiError> {
        let name = "ec2:CreateSnapshots";
        self.may_create(name, &set.instance_id)?;
        let call = || self.compute.create_snapshots(set);
        let answer = self.caller.once(Operation::CreateSnapshots, name, call).await;
        self.caller.audit_change(name, &set.instance_id, &answer);
        Ok(answer?.value)
    }

    /// `CreateSnapshot`, once. Refused with a failure of our own where it cannot be logged.
    pub(crate) async fn create_snapshot(
        &self,
        volume_id: &str,
        description: &str,
        tags: &Tags,
    ) -> Result<Snapshot, ApiError> {
        let name = "ec2:CreateSnapshot";
        self.may_create(name, volume_id)?;
        let call = || self.compute.create_snapshot(volume_id, description, tags);
        let answer = self.caller.once(Operation::CreateSnapshot, name, call).await;
        self.caller.audit_change(name, volume_id, &answer);
        Ok(answer?.value)
    }

    /// `DeleteSnapshot`, again where that may help: deleting twice is deleting.
    pub(crate) async fn delete_snapshot(&self, snapshot_id: &str) -> Result<(), ApiError> {
        let name = "ec2:DeleteSnapshot";
        retry(self.caller.retry, || async {
            // Leaving a snapshot behind is worse than a line that is missing.
            let place = &self.caller.place;
            if let Err(error) =
                self.caller.audit.change(place, name, snapshot_id.to_owned(), None, "requested")
            {
                tracing::error!(snapshot_id, %error, "a call could not be written to the audit log");
            }
            let call = || self.compute.delete_snapshot(snapshot_id);
            let answer = self.caller.once(Operation::DeleteSnapshot, name, call).await;
            self.caller.audit_change(name, snapshot_id, &answer);
            answer.map(|_| ())
        })
        .await
    }

    fn may_create(&self, operation: &'static str, resource: &str) -> Result<(), ApiError> {
        let logged =
            self.caller.audit.change(&self.caller.place, operation, resource.to_owned(), None, "requested");
        logged.map_err(|error| {
            tracing::error!(operation, resource, %error, "not called: the audit log cannot be written");
            ApiError {
                operation,
                resource: Some(resource.to_owned()),
                kind: ErrorKind::Other,
                code: "the audit log cannot be written".to_owned(),
                request_id: None,
            }
        })
    }

    pub(crate) async fn describe<'a, T>(
        &self,
        name: &'static str,
        call: impl Fn() -> Answer<'a, T>,
    ) -> Result<T, ApiError> {
        retry(self.caller.retry, || self.caller.once(Operation::Describe, name, &call)).await
    }

    pub(crate) async fn all<'a, T>(
        &self,
        name: &'static str,
        call: impl Fn(Option<String>) -> Answer<'a, Page<T>>,
    ) -> Result<Vec<T>, ApiError> {
        let mut items = Vec::new();
        let mut token: Option<String> = None;
        for _ in 0..PAGES_AT_MOST {
            let page = self.describe(name, || call(token.clone())).await?;
            items.extend(page.items);
            token = page.next;
            if token.is_none() {
                return Ok(items);
            }
        }
        let code = "the list has no end".to_owned();
        Err(ApiError { operation: name, resource: None, kind: ErrorKind::Other, code, request_id: None })
    }
}

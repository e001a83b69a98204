//! Whether a scan may do what it needs to, asked before one: every action of the policy, the keys of the disks, the
//! Recycle Bin, the quotas. Nothing is created: what has a dry run is tried with it, what only reads is called, and of
//! the rest it is said that it is not known.
//!
//! A failure is a verdict, never the end of the check.

mod advice;
#[cfg(test)]
#[allow(clippy::arithmetic_side_effects, reason = "a test may panic")]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};

use crate::api::{Advice, ApiError, DryRunAction, ErrorKind, Tags};
use crate::client::Client;
use crate::discover::{Discovery, Exclusions, Selection, discover};
use crate::limiter::Rates;
use crate::policy::{self, Role};
use crate::tags::{self, ScanId};

/// What the scans are to do that it is asked for.
#[derive(Debug, Clone)]
pub struct PreflightOrder {
    /// Whose permissions.
    pub role: Role,
    /// The value of our tag.
    pub created_by: String,
    /// Tags that snapshots are to have beside ours.
    pub user_tags: Tags,
    /// Which machines.
    pub selection: Selection,
    /// What is left out.
    pub exclusions: Exclusions,
    /// How many calls a second.
    pub rates: Rates,
    /// How many snapshots may be pending together.
    pub pending_snapshots: u32,
    /// The time.
    pub now: Timestamp,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// An action (`ec2:CreateSnapshots`), or a setting of the account (`KMS key arn:…`, `Recycle Bin rule …`, `quota …`).
    pub what: String,
    /// What came of it.
    pub verdict: Verdict,
    /// What it is needed for.
    pub reason: &'static str,
}

/// What came of a check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It is as it must be.
    Allowed,
    /// A scan, or a part of it, would fail.
    Missing {
        /// The cloud's code, or a key's state.
        code: String,
        /// What to do.
        fix: String,
    },
    /// A scan would work, at a price.
    Warning {
        /// What was found.
        found: String,
        /// What to do.
        fix: String,
    },
    /// It cannot be told.
    Unknown {
        /// Why not.
        why: String,
    },
}

impl Verdict {
    fn unknown(why: impl Into<String>) -> Self {
        Self::Unknown { why: why.into() }
    }

    /// What the answer to a call of `action` says about it.
    fn of<T>(action: &str, answer: &Result<T, ApiError>) -> Self {
        match answer {
            Ok(_) => Self::Allowed,
            Err(error) if is_denied(error) => Self::Missing { code: error.code.clone(), fix: allow(action) },
            Err(error) => Self::unknown(error.to_string()),
        }
    }
}

/// Checks every action that the role's policy lists, each once and in its order; then keys, Recycle Bin and quotas.
pub async fn preflight(client: &Client, advice: &dyn Advice, order: &PreflightOrder) -> Vec<Check> {
    let reasons = policy::reasons(order.role, &order.created_by);
    let mut round = Round { client, advice, order, verdicts: BTreeMap::new(), settings: Vec::new() };
    round.not_to_be_tried();
    round.dry("ec2:DescribeSnapshots", DryRunAction::DescribeSnapshots).await;
    // Who only reads blocks may ask for nothing else.
    if reasons.iter().any(|(action, _)| *action == "ec2:DescribeInstances") {
        round.try_all().await;
    } else {
        round.bin_of(NOBODYS_SNAPSHOT).await;
    }
    let mut seen = BTreeSet::new();
    let mut checks = Vec::new();
    for (action, reason) in reasons {
        if seen.insert(action) {
            let verdict = round.verdicts.remove(action);
            let verdict = verdict.unwrap_or_else(|| Verdict::unknown("nothing tries it"));
            checks.push(Check { what: action.to_owned(), verdict, reason });
        }
    }
    checks.append(&mut round.settings);
    checks
}

/// That there is no such snapshot is an answer as well.
const NOBODYS_SNAPSHOT: &str = "snap-0ffffffffffffffff";

/// One run.
struct Round<'a> {
    client: &'a Client,
    advice: &'a dyn Advice,
    order: &'a PreflightOrder,
    verdicts: BTreeMap<&'static str, Verdict>,
    /// What is no action.
    settings: Vec<Check>,
}

impl Round<'_> {
    fn not_to_be_tried(&mut self) {
        let no_dry_run = "the EBS direct APIs have no dry run";
        self.verdicts.insert("ebs:ListSnapshotBlocks", Verdict::unknown(no_dry_run));
        self.verdicts.insert("ebs:GetSnapshotBlock", Verdict::unknown(no_dry_run));
        let by_reading = "only reading a block of an encrypted disk tries it";
        self.verdicts.insert("kms:Decrypt", Verdict::unknown(by_reading));
    }

    async fn try_all(&mut self) {
        self.dry("ec2:DescribeInstances", DryRunAction::DescribeInstances).await;
        self.dry("ec2:DescribeVolumes", DryRunAction::DescribeVolumes).await;
        let regions = self.client.regions().await;
        self.verdicts.insert("ec2:DescribeRegions", Verdict::of("ec2:DescribeRegions", &regions));

        let found = discover(self.client, &self.order.selection, &self.order.exclusions).await;
        self.instance_types(found.as_ref().ok()).await;
        match found.as_ref().map(trial) {
            Ok(Some((instance_id, volume_id))) => self.creation(instance_id, volume_id).await,
            Ok(None) => self.no_creation("there is no running instance to try it on"),
            Err(error) => self.no_creation(&format!("the machines could not be listed: {error}")),
        }
        self.deletion().await;
        self.keys(found.as_ref()).await;
        self.recycle_bin().await;
        self.quotas().await;
    }

    async fn dry(&mut self, action: &'static str, call: DryRunAction) {
        let verdict = Verdict::of(action, &self.client.dry_run(&call).await);
        self.verdicts.insert(action, verdict);
    }

    async fn instance_types(&mut self, found: Option<&Discovery>) {
        let instances = found.map(|found| found.instances.as_slice()).unwrap_or_default();
        let names = instances.iter().map(|planned| planned.instance.instance_type.clone());
        // Where there is no machine, a type that nearly every region has.
        let name = names.into_iter().find(|name| !name.is_empty()).unwrap_or_else(|| "t3.micro".to_owned());
        let answer = self.client.instance_store_gib(&[name]).await;
        let action = "ec2:DescribeInstanceTypes";
        self.verdicts.insert(action, Verdict::of(action, &answer));
    }

    /// As a scan would set them. Should a cloud take a dry run for a real one, they lead to what it made.
    fn creation_tags(&self, instance_id: &str) -> Tags {
        let order = self.order;
        let expires_at = order.now.checked_add(SignedDuration::from_hours(1)).unwrap_or(order.now);
        let of_scan = |scan: &ScanId| {
            tags::creation_tags(&order.created_by, scan, instance_id, expires_at, &order.user_tags)
        };
        ScanId::parse("preflight").as_ref().map(of_scan).unwrap_or_default()
    }

    async fn creation(&mut self, instance_id: &str, volume_id: &str) {
        let tags = self.creation_tags(instance_id);
        let instance_id = instance_id.to_owned();
        let set = DryRunAction::CreateSnapshots { instance_id, tags: tags.clone() };
        let set = self.client.dry_run(&set).await;
        let one = DryRunAction::CreateSnapshot { volume_id: volume_id.to_owned(), tags };
        let one = self.client.dry_run(&one).await;
        let tagging_denied =
            [&set, &one].into_iter().filter_map(|answer| answer.as_ref().err()).find(denies_tagging);
        let tagging = match tagging_denied {
            Some(error) => Verdict::Missing { code: error.code.clone(), fix: allow("ec2:CreateTags") },
            None if set.is_ok() || one.is_ok() => Verdict::Allowed,
            None => Verdict::unknown("it is judged with the creating call, and that fails"),
        };
        self.verdicts.insert("ec2:CreateTags", tagging);
        for (action, answer) in [("ec2:CreateSnapshots", set), ("ec2:CreateSnapshot", one)] {
            let verdict = match &answer {
                Err(error) if denies_tagging(&error) => {
                    Verdict::unknown("ec2:CreateTags is denied, which comes with it")
                }
                answer => Verdict::of(action, answer),
            };
            self.verdicts.insert(action, verdict);
        }
    }

    fn no_creation(&mut self, why: &str) {
        for action in ["ec2:CreateSnapshots", "ec2:CreateSnapshot", "ec2:CreateTags"] {
            self.verdicts.insert(action, Verdict::unknown(why));
        }
    }

    async fn deletion(&mut self) {
        let action = "ec2:DeleteSnapshot";
        let ours = self.client.snapshots(&tags::filters_of_all(&self.order.created_by)).await;
        let is_ours = |tags: &Tags| tags::scan_of(tags, &self.order.created_by).is_some();
        let found = ours.map(|all| all.into_iter().find(|snapshot| is_ours(&snapshot.tags)));
        let snapshot_id = match found {
            Ok(Some(snapshot)) => {
                let call = DryRunAction::DeleteSnapshot { snapshot_id: snapshot.id.clone() };
                self.dry(action, call).await;
                snapshot.id
            }
            other => {
                let why = match other {
                    Err(error) => format!("our snapshots could not be listed: {error}"),
                    Ok(_) => "there is no snapshot of ours to try it on".to_owned(),
                };
                self.verdicts.insert(action, Verdict::Unknown { why });
                NOBODYS_SNAPSHOT.to_owned()
            }
        };
        self.bin_of(&snapshot_id).await;
    }

    async fn bin_of(&mut self, snapshot_id: &str) {
        let kept = self.client.in_recycle_bin(&[snapshot_id.to_owned()]).await;
        let action = "ec2:ListSnapshotsInRecycleBin";
        self.verdicts.insert(action, Verdict::of(action, &kept));
    }
}

/// A running machine, best one that would be scanned, and a volume of it.
fn trial(found: &Discovery) -> Option<(&str, &str)> {
    let planned = found
        .instances
        .iter()
        .find_map(|planned| Some((planned.instance.id.as_str(), planned.volumes().next()?.id.as_str())));
    planned.or_else(|| {
        let running = found.instances.iter().filter(|planned| planned.instance.state == "running");
        running.into_iter().find_map(|planned| {
            let volume = planned.instance.devices.iter().find_map(|device| device.volume_id.as_deref());
            Some((planned.instance.id.as_str(), volume?))
        })
    })
}

fn is_denied(error: &ApiError) -> bool {
    matches!(error.kind, ErrorKind::AccessDenied | ErrorKind::KmsDenied)
}

/// The cloud names the action that lacks, where it is another one than that called.
fn denies_tagging(error: &&ApiError) -> bool {
    is_denied(error) && error.code.ends_with(": ec2:CreateTags")
}

fn allow(action: &str) -> String {
    format!("allow {action}: `stillframe aws policy` prints the policy that has it")
}

//! What went wrong in the cloud, as people are told: one line that names the call, the resource and the permission, and
//! one that mends it. What befell several disks in the same way is said once.

use stillframe_aws::{CrossRegion, OpenError};
use stillframe_cloud::api::ErrorKind;
use stillframe_cloud::discover::{DiskSkip, InstanceSkip};
use stillframe_cloud::lifecycle::SnapshotFault;
use stillframe_cloud::snapshot_source::SourceError;
use stillframe_cloud::state::StateError;
use stillframe_cloud::sweep::SweepError;
use stillframe_model::{SnapshotFate, SnapshotReceipt};

use super::super::failure::{Failure, isolation_hint, with_causes};
use super::call::{api_hint, call, permission};
use crate::cloud::CloudError;
use crate::cloud::error::{Limit, Unreadable};

const AGAIN: &str = "`stillframe snapshots purge` deletes what a scan left; run it again in ten minutes";
const SCAN_AGAIN: &str = "scan again";

/// What the operator is told.
pub(super) fn failure(error: &CloudError) -> Failure {
    said(error).into()
}

/// The same of several errors. Those that differ in their disks alone are one.
pub(super) fn failures(errors: &[CloudError]) -> Vec<Failure> {
    let mut all: Vec<Said> = Vec::new();
    for error in errors.iter().filter(|error| !is_implied(error, errors)) {
        let mut new = said(error);
        let same = |one: &&mut Said| {
            !one.subjects.is_empty()
                && !new.subjects.is_empty()
                && (&one.what, &one.hint) == (&new.what, &new.hint)
        };
        match all.iter_mut().find(same) {
            Some(one) => one.subjects.append(&mut new.subjects),
            None => all.push(new),
        }
    }
    all.into_iter().map(Failure::from).collect()
}

/// What is wrong, with whom, and how to mend it.
struct Said {
    /// Disks or snapshots, where the rest may hold of others too.
    subjects: Vec<String>,
    what: String,
    hint: String,
}

impl Said {
    fn new(what: impl std::fmt::Display, hint: impl Into<String>) -> Self {
        Self { subjects: Vec::new(), what: what.to_string(), hint: hint.into() }
    }

    fn of(subject: String, what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { subjects: vec![subject], what: what.into(), hint: hint.into() }
    }
}

impl From<Said> for Failure {
    fn from(said: Said) -> Self {
        Self::new(format!("{}{}", said.subjects.join(", "), said.what), said.hint)
    }
}

/// Whether another error says it as well.
fn is_implied(error: &CloudError, errors: &[CloudError]) -> bool {
    let has = |is_it: &dyn Fn(&CloudError) -> bool| errors.iter().any(is_it);
    match error {
        // That nobody knows what is left follows from what is said of the snapshots, where the same call failed before.
        CloudError::Unlisted(unlisted) => {
            let is_same = |error: &CloudError| match error {
                CloudError::Snapshot { fault, .. } => match fault.as_ref() {
                    SnapshotFault::Api(api) => {
                        (api.operation, &api.code) == (unlisted.operation, &unlisted.code)
                    }
                    _ => false,
                },
                _ => false,
            };
            has(&is_same) && has(&|error| matches!(error, CloudError::Left { .. }))
        }
        CloudError::Source { error, .. } => {
            let is_limit = matches!(
                error.as_ref(),
                SourceError::BlockLimit { .. }
                    | SourceError::CostLimit { .. }
                    | SourceError::TimeLimit { .. }
            );
            is_limit && has(&|error| matches!(error, CloudError::LimitReached { .. }))
        }
        _ => false,
    }
}

fn said(error: &CloudError) -> Said {
    let hint = match error {
        CloudError::Open(error) => return open(error),
        CloudError::Api(error) | CloudError::Sweep(SweepError::Api(error)) => return Said::new(call(error, &[], None), api_hint(error, None)),
        CloudError::State(error) | CloudError::Sweep(SweepError::State(error)) => state_hint(error),
        CloudError::StateDirectory { .. } | CloudError::Audit { .. } => {
            "set XDG_STATE_HOME to a folder that only you can write, with room left".to_owned()
        }
        CloudError::Tags(_) => "change --snapshot-tag".to_owned(),
        CloudError::NoSuchInstance { .. } => {
            "`stillframe instances` lists those of a region; --region names another one, --role-arn another account"
                .to_owned()
        }
        CloudError::Skipped { skip, .. } => skip_hint(skip),
        CloudError::Disk { instance, volume, skip } => return disk(instance, volume, skip),
        CloudError::Snapshot { instance, volume, key, fault } => {
            return snapshot(instance, volume, key.as_deref(), fault);
        }
        CloudError::UnknownStore { instance, error } => {
            let what = format!("whether {instance} has an instance store is not known: {}", call(error, &[], None));
            return Said::new(what, api_hint(error, None));
        }
        CloudError::Unreadable { why, .. } => unreadable_hint(why),
        CloudError::Source { snapshot, volume, key, is_foreign, error } => {
            return source(snapshot, volume, key.as_deref(), *is_foreign, error);
        }
        CloudError::LimitReached { limit, has_dry_run } => match (limit, has_dry_run) {
            (Limit::Blocks(_), true) => "raise --max-blocks; `--dry-run` says what a machine takes".to_owned(),
            (Limit::Cost(_), true) => "raise --max-cost; `--dry-run` says what a machine costs".to_owned(),
            (Limit::Time(_), _) => "leave out large disks (--exclude-tag), or scan them by themselves".to_owned(),
            (Limit::Blocks(_), false) => "raise --max-blocks".to_owned(),
            (Limit::Cost(_), false) => "raise --max-cost".to_owned(),
        },
        CloudError::Left { receipt } => return left(receipt),
        CloudError::UnknownCreations { .. } => AGAIN.to_owned(),
        CloudError::Unlisted(error) => {
            return Said::new(
                format!("it cannot be told whether snapshots are left: {}", call(error, &[], None)),
                format!("{}; then `stillframe snapshots purge`", api_hint(error, None)),
            );
        }
        CloudError::UnknownRecycleBin(error) => {
            return Said::new(
                format!("whether the Recycle Bin keeps the deleted snapshots is not known: {}", call(error, &[], None)),
                api_hint(error, None),
            );
        }
        CloudError::Isolation(error) => return Said::new(with_causes(error), isolation_hint(error)),
        CloudError::Stopped => "no report was made; scan again".to_owned(),
        CloudError::Panicked => "report it with what -v logs of it".to_owned(),
        CloudError::System(_) => "see what the machine lacks: memory, threads, random numbers".to_owned(),
    };
    Said::new(with_causes(error), hint)
}

fn disk(instance: &str, volume: &str, skip: &DiskSkip) -> Said {
    let hint = match skip {
        DiskSkip::State { .. } => {
            "`aws ec2 describe-volume-status` says what is wrong with it; `--exclude-tag` leaves such volumes out"
        }
        _ => SCAN_AGAIN,
    };
    Said::of(volume.to_owned(), format!(" of {instance} not read: {skip}"), hint)
}

fn snapshot(instance: &str, volume: &str, key: Option<&str>, fault: &SnapshotFault) -> Said {
    let hint = match fault {
        SnapshotFault::Api(error) => {
            let what = format!(" of {instance} not read: {}", call(error, &[instance, volume], key));
            // Nobody tries one by one but where the set failed.
            let hint = match (error.kind, permission(error)) {
                (ErrorKind::AccessDenied, "ec2:CreateSnapshot") => {
                    "allow ec2:CreateSnapshots and ec2:CreateSnapshot to this role: `stillframe aws policy` prints all \
                     that is needed"
                        .to_owned()
                }
                _ => api_hint(error, key),
            };
            return Said::of(volume.to_owned(), what, hint);
        }
        SnapshotFault::LeftOut | SnapshotFault::NotListed => SCAN_AGAIN.to_owned(),
        SnapshotFault::Failed { .. } => match key {
            Some(key) => {
                format!("check that {key} is enabled and that this role may use it, then scan again")
            }
            None => "`aws ec2 describe-volume-status` may say why; scan again".to_owned(),
        },
        SnapshotFault::InRecycleBin | SnapshotFault::Vanished | SnapshotFault::Archived => {
            "keep other tools from what bears our tag CreatedBy, then scan again".to_owned()
        }
        SnapshotFault::StillPending { .. } => {
            "the first snapshot of a large volume takes long: scan again, it goes on from there".to_owned()
        }
    };
    Said::of(volume.to_owned(), format!(" of {instance} not read: {fault}"), hint)
}

fn source(snapshot: &str, volume: &str, key: Option<&str>, is_foreign: bool, error: &SourceError) -> Said {
    let said = |what: String, hint: String| Said::of(format!("{snapshot} of {volume}"), what, hint);
    match error {
        SourceError::Api(error) => {
            let hint = match error.kind {
                ErrorKind::AccessDenied | ErrorKind::Invalid if is_foreign => {
                    "another account owns it: copy a public one first; a shared one needs the permissions \
                     ebs:ListSnapshotBlocks and ebs:GetSnapshotBlock on it"
                        .to_owned()
                }
                ErrorKind::AccessDenied => format!(
                    "allow {} to this role on this snapshot; the policy that `stillframe aws policy` prints allows it only \
                     on what stillframe made; a public one is read by nobody: copy it first",
                    permission(error)
                ),
                ErrorKind::NotFound => {
                    "something else deleted it: keep other tools from what bears our tag CreatedBy, then scan again"
                        .to_owned()
                }
                ErrorKind::Invalid => {
                    "snapshots in a Local Zone, on an Outpost or in the archive are not read: copy it to the region first"
                        .to_owned()
                }
                _ => api_hint(error, key),
            };
            // Listing comes first: what fails with it was not begun.
            let end = if error.operation == "ebs:ListSnapshotBlocks" { "" } else { " to the end" };
            said(format!(" not read{end}: {}", call(error, &[snapshot], key)), hint)
        }
        SourceError::BlockLimit { .. } => {
            said(format!(" not read: {error}"), "raise --max-blocks".to_owned())
        }
        SourceError::CostLimit { .. } => said(format!(" not read: {error}"), "raise --max-cost".to_owned()),
        SourceError::TimeLimit { .. } => said(format!(" not read: {error}"), SCAN_AGAIN.to_owned()),
        SourceError::BlockSize { .. } | SourceError::VolumeSize { .. } | SourceError::List { .. } => said(
            format!(" not read: {error}"),
            "check AWS_ENDPOINT_URL: this does not answer as EBS does".to_owned(),
        ),
        _ => said(format!(" not read to the end: {error}"), SCAN_AGAIN.to_owned()),
    }
}

fn left(receipt: &SnapshotReceipt) -> Said {
    let code = receipt.code.as_ref().map_or("", |code| code.as_str());
    let shown = if code.is_empty() { String::new() } else { format!(" ({code})") };
    let (fate, hint) = match receipt.fate {
        SnapshotFate::Requested => ("deletion requested, not confirmed".to_owned(), AGAIN.to_owned()),
        SnapshotFate::InRecycleBin => (
            "deleted, but a Recycle Bin rule keeps it, and it is billed".to_owned(),
            "exclude the tag CreatedBy from the region's retention rule; what it keeps goes when its time is over"
                .to_owned(),
        ),
        SnapshotFate::Kept => {
            (format!("ec2:DeleteSnapshot: {}{shown}", kept_words(code)), kept_hint(code).to_owned())
        }
        SnapshotFate::NotRequested if is_about_credentials(code) => (
            format!("its deletion could not be asked for{shown}"),
            "log in again, or name a profile by --profile or AWS_PROFILE; then `stillframe snapshots purge`".to_owned(),
        ),
        SnapshotFate::NotRequested => {
            (format!("its deletion could not be asked for{shown}"), AGAIN.to_owned())
        }
        SnapshotFate::Gone | SnapshotFate::ReadOnly => ("nothing is left of it".to_owned(), AGAIN.to_owned()),
    };
    let subject = format!("{} of {}", receipt.snapshot_id.as_str(), receipt.volume_id.as_str());
    Said::of(subject, format!(": {fate}"), hint)
}

/// Those that have ended, or that never were any: nobody refused the call itself.
fn is_about_credentials(code: &str) -> bool {
    [
        "Expired",
        "AuthFailure",
        "InvalidClientTokenId",
        "UnrecognizedClient",
        "Signature",
        "AuthenticationToken",
        "AccessKeyId",
    ]
    .iter()
    .any(|part| code.contains(part))
        || code.starts_with("none were found")
}

fn is_denied(code: &str) -> bool {
    code.starts_with("UnauthorizedOperation") || code.starts_with("AccessDenied")
}

fn kept_words(code: &str) -> &'static str {
    if is_denied(code) {
        "denied"
    } else if code.contains("Locked") {
        "locked"
    } else if code.contains(".InUse") {
        "used by an image"
    } else {
        "refused"
    }
}

fn kept_hint(code: &str) -> &'static str {
    if is_denied(code) {
        "allow ec2:DeleteSnapshot to this role: `stillframe aws policy` has the condition; then `stillframe snapshots purge`"
    } else if code.contains("Locked") {
        "`aws ec2 unlock-snapshot` ends the lock; then `stillframe snapshots purge`"
    } else if code.contains(".InUse") {
        "`aws ec2 deregister-image` ends the use; then `stillframe snapshots purge`"
    } else {
        "see whether it is locked or used by an image; then `stillframe snapshots purge`"
    }
}

fn open(error: &OpenError) -> Said {
    let hint = match error {
        OpenError::NoRegion => {
            let hint = "give --region, set AWS_REGION, or name a profile that has one";
            return Said::new("no region is named", hint);
        }
        OpenError::RegionName => "give --region, or set AWS_REGION".to_owned(),
        OpenError::RoleArn => "look it up with `aws iam list-roles`".to_owned(),
        OpenError::CrossRegion(CrossRegion::Unknown { .. }) => {
            "run stillframe on a machine of that region, or give --allow-cross-region".to_owned()
        }
        OpenError::CrossRegion(CrossRegion::Elsewhere { target, .. }) => {
            format!("run stillframe on a machine in {target}, or give --allow-cross-region")
        }
        OpenError::CrossRegion(CrossRegion::Endpoint { .. }) => {
            "use the region's own endpoint, or give --allow-cross-region".to_owned()
        }
        OpenError::Endpoint { service } => {
            let own = service.to_uppercase().replace(' ', "_");
            format!("set AWS_ENDPOINT_URL or AWS_ENDPOINT_URL_{own} to one, or unset it")
        }
        OpenError::Api(error) => return Said::new(call(error, &[], None), api_hint(error, None)),
        OpenError::FixedCredentials | OpenError::NoConnections | OpenError::HttpClient => {
            "report it with what -v logs of it".to_owned()
        }
    };
    Said::new(with_causes(error), hint)
}

fn state_hint(error: &StateError) -> String {
    match error {
        StateError::Unwritable { .. } => "set XDG_STATE_HOME to a folder that only you can write".to_owned(),
        StateError::Newer { .. } => "use the newer stillframe, or another XDG_STATE_HOME".to_owned(),
        StateError::Damaged { path } => format!(
            "move {} away, then `stillframe snapshots purge --all`: without it nobody knows whose snapshots are left",
            path.display()
        ),
        StateError::Sqlite(_) => {
            "check that the disk of XDG_STATE_HOME has room and that the file is yours".to_owned()
        }
    }
}

fn skip_hint(skip: &InstanceSkip) -> String {
    match skip {
        InstanceSkip::NotRunning { .. } => {
            "start it, or scan one of its snapshots: `stillframe scan snapshot snap-…`".to_owned()
        }
        InstanceSkip::Excluded { key } => format!("remove the tag {key} from it"),
        InstanceSkip::Outpost | InstanceSkip::LocalZone { .. } => {
            "scan an image of its disks: `stillframe scan image PATH`".to_owned()
        }
        InstanceSkip::NoDisks => "`stillframe instances` says why of each disk".to_owned(),
    }
}

fn unreadable_hint(why: &Unreadable) -> String {
    match why {
        Unreadable::Pending => "wait until it is completed".to_owned(),
        Unreadable::Failed => "take another one of the volume".to_owned(),
        Unreadable::Archived => "restore it: `aws ec2 restore-snapshot-tier`".to_owned(),
        Unreadable::InRecycleBin => "restore it: `aws ec2 restore-snapshot-from-recycle-bin`".to_owned(),
        Unreadable::Missing(_) => {
            "check the id; --region names another region, --role-arn another account".to_owned()
        }
    }
}

//! What went wrong in the cloud, as people are told: one line that names the call, the resource and the permission, and
//! one that mends it.

use stillframe_aws::{CrossRegion, OpenError};
use stillframe_cloud::api::{ApiError, ErrorKind};
use stillframe_cloud::discover::InstanceSkip;
use stillframe_cloud::lifecycle::SnapshotFault;
use stillframe_cloud::snapshot_source::SourceError;
use stillframe_cloud::state::StateError;
use stillframe_cloud::sweep::SweepError;
use stillframe_model::{SnapshotFate, SnapshotReceipt};

use super::super::failure::{Failure, with_causes};
use crate::cloud::CloudError;
use crate::cloud::error::Unreadable;

const AGAIN: &str = "`stillframe snapshots purge` deletes what a scan left; run it again in some minutes";

/// What the operator is told.
pub(super) fn failure(error: &CloudError) -> Failure {
    let hint = match error {
        CloudError::Open(error) => open_hint(error),
        CloudError::Api(error) => return api(error, None),
        CloudError::State(error) => state_hint(error),
        CloudError::StateDirectory { .. } | CloudError::Audit { .. } => {
            "set XDG_STATE_HOME to a folder that only you can write, with room left".to_owned()
        }
        CloudError::Tags(_) => "change --snapshot-tag".to_owned(),
        CloudError::NoSuchInstance { .. } => {
            "`stillframe instances` lists those of a region; --region names another one, --role-arn another account"
                .to_owned()
        }
        CloudError::Skipped { skip, .. } => skip_hint(skip),
        CloudError::Snapshot { instance, volume, key, fault } => {
            return snapshot(instance, volume, key.as_deref(), fault);
        }
        CloudError::Unreadable { why, .. } => unreadable_hint(why),
        CloudError::Source { snapshot, volume, key, is_foreign, error } => {
            return source(snapshot, volume, key.as_deref(), *is_foreign, error);
        }
        CloudError::Left { receipt } => return left(receipt),
        CloudError::UnknownCreations { .. } => AGAIN.to_owned(),
        CloudError::Unlisted(error) => {
            return Failure::new(
                format!("it cannot be told whether snapshots are left: {}", call(error)),
                format!("{}; then `stillframe snapshots purge`", api_hint(error, None)),
            );
        }
        CloudError::Sweep(SweepError::Api(error)) => return api(error, None),
        CloudError::Sweep(SweepError::State(error)) => state_hint(error),
        CloudError::Stopped => "no report was made; scan again".to_owned(),
        CloudError::Panicked => "report it with what -v logs of it".to_owned(),
        CloudError::System(_) => "see what the machine lacks: memory, threads, random numbers".to_owned(),
    };
    Failure::new(with_causes(error), hint)
}

/// A call that failed, and what to do.
pub(super) fn api(error: &ApiError, key: Option<&str>) -> Failure {
    Failure::new(call(error), api_hint(error, key))
}

/// `ec2:CreateSnapshots of i-…: denied (UnauthorizedOperation)`.
fn call(error: &ApiError) -> String {
    let of = error.resource.as_ref().map(|resource| format!(" of {resource}")).unwrap_or_default();
    let what = match error.kind {
        ErrorKind::AccessDenied => "denied",
        ErrorKind::KmsDenied => "its key may not be used",
        ErrorKind::Credentials => "the credentials are missing, wrong or expired",
        ErrorKind::Throttled => "too many calls, also after waiting",
        ErrorKind::VolumeRate => "the volume had a snapshot less than 15 s ago, again and again",
        ErrorKind::ConcurrentSnapshots => "too many snapshots of the volume are pending",
        ErrorKind::PendingSnapshots => "too many snapshots of the account are pending",
        ErrorKind::SnapshotQuota => "the account may have no more snapshots",
        ErrorKind::Service => "the service failed, also after other tries",
        ErrorKind::NoReply => "no reply",
        ErrorKind::NotFound => "there is no such thing",
        ErrorKind::InUse => "it is in use or locked",
        ErrorKind::Invalid | ErrorKind::InvalidToken | ErrorKind::Other => "refused",
    };
    format!("{}{of}: {what} ({})", error.operation, error.code)
}

fn api_hint(error: &ApiError, key: Option<&str>) -> String {
    match error.kind {
        ErrorKind::AccessDenied => {
            format!(
                "allow {} to this role: `stillframe aws policy` prints all that is needed",
                permission(error)
            )
        }
        ErrorKind::KmsDenied => format!(
            "allow kms:Decrypt on {} to this role, in the key's policy too; `stillframe aws policy` has the condition",
            key.unwrap_or("the volume's key")
        ),
        ErrorKind::Credentials => {
            "log in again, or name a profile by --profile or AWS_PROFILE; `aws sts get-caller-identity` tells"
                .to_owned()
        }
        ErrorKind::Throttled => {
            "another tool uses up the quota: try later, or with a lower --gets-per-second".to_owned()
        }
        ErrorKind::VolumeRate | ErrorKind::ConcurrentSnapshots => {
            "another tool takes snapshots of the same volume: try when it is done".to_owned()
        }
        ErrorKind::PendingSnapshots => {
            "other snapshots of the account must be completed first: try later".to_owned()
        }
        ErrorKind::SnapshotQuota => "delete snapshots, or have the quota raised".to_owned(),
        ErrorKind::Service => "try again; the AWS Health Dashboard tells of failures of a region".to_owned(),
        ErrorKind::NoReply => "check the network, proxies, and AWS_ENDPOINT_URL if it is set".to_owned(),
        ErrorKind::NotFound => "check the id, --region and the account".to_owned(),
        ErrorKind::InUse => "see who uses or locks it".to_owned(),
        ErrorKind::Invalid | ErrorKind::InvalidToken | ErrorKind::Other => {
            "check the id and --region; `stillframe aws preflight` checks the account".to_owned()
        }
    }
}

/// The permission that is missing: the one that the cloud names, which may be another than the call's.
fn permission(error: &ApiError) -> &str {
    let named = error.code.rsplit(": ").next().unwrap_or_default();
    let is_action = named.contains(':') && !named.contains(' ');
    if is_action { named } else { error.operation }
}

fn snapshot(instance: &str, volume: &str, key: Option<&str>, fault: &SnapshotFault) -> Failure {
    let hint = match fault {
        SnapshotFault::Api(error) => {
            return Failure::new(
                format!("{volume} of {instance} was not read: {}", call(error)),
                api_hint(error, key),
            );
        }
        SnapshotFault::LeftOut | SnapshotFault::NotListed => "scan again".to_owned(),
        SnapshotFault::Failed { .. } => match key {
            Some(key) => {
                format!("check that {key} is enabled and that this role may use it, then scan again")
            }
            None => "look at the volume's status checks, then scan again".to_owned(),
        },
        SnapshotFault::InRecycleBin | SnapshotFault::Vanished | SnapshotFault::Archived => {
            "keep other tools from what bears our tag CreatedBy, then scan again".to_owned()
        }
        SnapshotFault::StillPending { .. } => {
            "the first snapshot of a large volume takes long: scan again, it goes on from there".to_owned()
        }
    };
    Failure::new(format!("{volume} of {instance} was not read: {fault}"), hint)
}

fn source(snapshot: &str, volume: &str, key: Option<&str>, is_foreign: bool, error: &SourceError) -> Failure {
    let what = format!("{snapshot} of {volume} was not read to its end");
    match error {
        SourceError::Api(error) => {
            let hint = match error.kind {
                ErrorKind::AccessDenied | ErrorKind::Invalid if is_foreign => {
                    "another account owns it: a public snapshot must be copied first, a shared one needs the permission \
                     ebs:GetSnapshotBlock on it"
                        .to_owned()
                }
                ErrorKind::AccessDenied => format!(
                    "allow {} to this role on this snapshot; the policy that `stillframe aws policy` prints allows it only \
                     on what stillframe made",
                    permission(error)
                ),
                ErrorKind::NotFound => {
                    "something else deleted it: keep other tools from what bears our tag CreatedBy, then scan again"
                        .to_owned()
                }
                _ => api_hint(error, key),
            };
            Failure::new(format!("{what}: {}", call(error)), hint)
        }
        SourceError::BlockLimit { .. } => Failure::new(format!("{what}: {error}"), "raise --max-blocks"),
        SourceError::CostLimit { .. } => Failure::new(format!("{what}: {error}"), "raise --max-cost"),
        SourceError::BlockSize { .. } | SourceError::VolumeSize { .. } | SourceError::List { .. } => {
            Failure::new(
                format!("{what}: {error}"),
                "check AWS_ENDPOINT_URL: this does not answer as EBS does",
            )
        }
        _ => Failure::new(format!("{what}: {error}"), "scan again"),
    }
}

fn left(receipt: &SnapshotReceipt) -> Failure {
    let (snapshot, volume) = (receipt.snapshot_id.as_str(), receipt.volume_id.as_str());
    let code = receipt.code.as_ref().map(|code| format!(" ({})", code.as_str())).unwrap_or_default();
    let (fate, hint) = match receipt.fate {
        SnapshotFate::Requested => ("deletion requested, not confirmed".to_owned(), AGAIN.to_owned()),
        SnapshotFate::InRecycleBin => (
            "deleted, but a Recycle Bin rule keeps it, and it is billed".to_owned(),
            "exclude the tag CreatedBy from the region's retention rule; this one goes when its time is over"
                .to_owned(),
        ),
        SnapshotFate::Kept => (
            format!("AWS refuses to delete it{code}"),
            format!(
                "it is locked, used by an image, or not ours to delete: `aws ec2 unlock-snapshot` or `aws ec2 \
                 deregister-image`, or allow ec2:DeleteSnapshot; then `stillframe snapshots purge`. It is {snapshot}"
            ),
        ),
        SnapshotFate::NotRequested => {
            (format!("its deletion could not be asked for{code}"), AGAIN.to_owned())
        }
        SnapshotFate::Gone | SnapshotFate::ReadOnly => ("nothing is left of it".to_owned(), AGAIN.to_owned()),
    };
    Failure::new(format!("{snapshot} of {volume}: {fate}"), hint)
}

fn open_hint(error: &OpenError) -> String {
    match error {
        OpenError::NoRegion | OpenError::RegionName => "give --region, or set AWS_REGION".to_owned(),
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
        OpenError::Endpoint { service } => format!("set AWS_ENDPOINT_URL_{service}, or unset it"),
        OpenError::Api(error) => api_hint(error, None),
        OpenError::FixedCredentials | OpenError::NoConnections | OpenError::HttpClient => {
            "report it with what -v logs of it".to_owned()
        }
    }
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

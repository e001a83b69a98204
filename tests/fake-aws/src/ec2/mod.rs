//! The Query API of EC2, as far as snapshots of instances go.

mod create;
mod describe;
mod list;
mod snapshots;

use std::time::Duration;

use crate::reply::{Refusal, Reply};
use crate::request::Service;
use crate::world::{Scene, too_fast};
use crate::xml::Xml;

const NAMESPACE: &str = "http://ec2.amazonaws.com/doc/2016-11-15/";

pub(crate) fn answer(scene: &mut Scene<'_>) -> Result<Reply, Refusal> {
    let version = scene.call.value("Version");
    if version.is_some_and(|version| version != "2016-11-15") {
        return Err(Refusal::new(400, "InvalidParameterValue", "this fake speaks version 2016-11-15"));
    }
    spend(scene)?;
    match scene.call.operation.as_str() {
        "DescribeInstances" => describe::instances(scene),
        "DescribeVolumes" => describe::volumes(scene),
        "DescribeRegions" => describe::regions(scene),
        "DescribeInstanceTypes" => describe::instance_types(scene),
        "DescribeSnapshots" => snapshots::describe(scene),
        "CreateSnapshots" => create::set(scene),
        "CreateSnapshot" => create::one(scene),
        "DeleteSnapshot" => snapshots::delete(scene),
        "LockSnapshot" => snapshots::lock(scene),
        "UnlockSnapshot" => snapshots::unlock(scene),
        "DescribeLockedSnapshots" => snapshots::describe_locked(scene),
        "ListSnapshotsInRecycleBin" => snapshots::list_in_recycle_bin(scene),
        operation => {
            let message = format!("The action {operation} is not valid for this web service.");
            Err(Refusal::new(400, "InvalidAction", message))
        }
    }
}

/// Takes a call out of its action's bucket.
fn spend(scene: &mut Scene<'_>) -> Result<(), Refusal> {
    let settings = &scene.state.estate.settings;
    if !settings.enforce_quotas {
        return Ok(());
    }
    let call = scene.call;
    let describes = call.operation.starts_with("Describe") || call.operation.starts_with("List");
    let names_something = call.parameters.iter().any(|(name, _)| {
        name.starts_with("Filter.")
            || name == "MaxResults"
            || name == "NextToken"
            || name.contains("Id.")
            || name.starts_with("InstanceType.")
    });
    let ((capacity, rate), kind) = match (describes, names_something) {
        (false, _) => (settings.quotas.ec2_changes, ""),
        (true, true) => (settings.quotas.ec2_describes, ""),
        (true, false) => (settings.quotas.ec2_unfiltered, "all of "),
    };
    let name = format!("{kind}{} {} {}", call.operation, scene.caller.account, scene.caller.region);
    let now = Duration::from_millis(scene.now_ms);
    scene.state.buckets.take(now, &[(name, capacity, rate)]).map_err(|_| too_fast(Service::Ec2, ""))
}

/// Ends a call that would be allowed, where it is only a trial.
fn check_dry_run(scene: &Scene<'_>) -> Result<(), Refusal> {
    if scene.call.is_true("DryRun") {
        let message = "Request would have succeeded, but DryRun flag is set.";
        return Err(Refusal::new(412, "DryRunOperation", message));
    }
    Ok(())
}

/// The root element, the request's id, and what `inside` writes.
fn reply(scene: &Scene<'_>, inside: impl FnOnce(&mut Xml)) -> Reply {
    let mut xml = Xml::default();
    xml.text("requestId", &scene.request_id);
    inside(&mut xml);
    Reply::xml(xml.document(&format!("{}Response", scene.call.operation), NAMESPACE))
}

/// Whether an id has the form `PREFIX-` and hexadecimal digits.
fn is_id(id: &str, prefix: &str) -> bool {
    let digits = id.strip_prefix(prefix).and_then(|rest| rest.strip_prefix('-')).unwrap_or_default();
    !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
}

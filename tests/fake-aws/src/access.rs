//! What a call needs to be allowed: the resources that its action is checked against, each with the condition keys that IAM
//! knows of it. "Actions, resources, and condition keys" of EC2, EBS, KMS and Recycle Bin in the Service Authorization
//! Reference.
//!
//! An action that creates is checked against what it takes *and* against what it makes; all of them must be allowed.

use crate::caller::Caller;
use crate::estate::{Instance, Snapshot, Tags, Volume};
use crate::iam::{Context, Target};
use crate::reply::Refusal;
use crate::request::Service;
use crate::world::Scene;

/// Whether the call's handler checks it, because it knows the resource. All others know none, and are checked before.
pub(crate) fn knows_resources(service: Service, operation: &str) -> bool {
    match service {
        Service::Ec2 => matches!(
            operation,
            "CreateSnapshot" | "CreateSnapshots" | "DeleteSnapshot" | "LockSnapshot" | "UnlockSnapshot"
        ),
        // Nobody can be denied to ask who he is.
        Service::Sts => true,
        Service::Ebs => true,
        Service::Kms => operation == "DescribeKey",
        Service::RecycleBin => operation == "GetRule",
        Service::Quotas => false,
    }
}

/// Checks an action that knows no resources.
pub(crate) fn check(scene: &Scene<'_>) -> Result<(), Refusal> {
    let target = Target { arn: "*".to_owned(), context: of_call(&scene.caller) };
    scene.caller.authorize(scene.state, scene.call.service, &scene.call.operation, &target)
}

/// Checks the call's action against a volume that it takes a snapshot of.
pub(crate) fn check_volume(scene: &Scene<'_>, volume: &Volume) -> Result<(), Refusal> {
    let arn = arn(&volume.region, "ec2", &volume.account, &format!("volume/{}", volume.id));
    on(scene, arn, tagged(&scene.caller, &volume.tags))
}

/// The same of the instance that a set is taken of.
pub(crate) fn check_instance(scene: &Scene<'_>, instance: &Instance) -> Result<(), Refusal> {
    let arn = arn(&instance.region, "ec2", &instance.account, &format!("instance/{}", instance.id));
    on(scene, arn, tagged(&scene.caller, &instance.tags))
}

/// Checks the call's action against a snapshot that it is to make, and the setting of its tags, which is an action of its
/// own.
pub(crate) fn check_new_snapshot(scene: &Scene<'_>, tags: &Tags) -> Result<(), Refusal> {
    // It has no id yet.
    let arn = snapshot_arn(&scene.caller.region, "*");
    let mut context = of_call(&scene.caller);
    for (key, value) in tags {
        set(&mut context, &format!("aws:RequestTag/{key}"), value.clone());
    }
    if !tags.is_empty() {
        context.insert("aws:tagkeys".to_owned(), tags.keys().cloned().collect());
    }
    on(scene, arn.clone(), context.clone())?;
    if tags.is_empty() {
        return Ok(());
    }
    set(&mut context, "ec2:CreateAction", scene.call.operation.clone());
    scene.caller.check_allowed(scene.state, Service::Ec2, "CreateTags")?;
    scene.caller.authorize(scene.state, Service::Ec2, "CreateTags", &Target { arn, context })
}

/// Checks the call's action, of EC2 or EBS, against a snapshot that is there.
pub(crate) fn check_snapshot(scene: &Scene<'_>, snapshot: &Snapshot) -> Result<(), Refusal> {
    let arn = snapshot_arn(&snapshot.region, &snapshot.id);
    on(scene, arn, tagged(&scene.caller, &snapshot.tags))
}

/// Checks `DescribeKey` of a key.
pub(crate) fn check_key(scene: &Scene<'_>, key: &str) -> Result<(), Refusal> {
    on(scene, key.to_owned(), of_call(&scene.caller))
}

/// Checks the decryption that EC2 asks KMS for in the caller's name.
pub(crate) fn check_decryption(scene: &Scene<'_>, key: &str, volume_id: &str) -> Result<(), Refusal> {
    let region = &scene.caller.region;
    let mut context = of_call(&scene.caller);
    set(&mut context, "kms:ViaService", format!("ec2.{region}.{}", domain(region)));
    set(&mut context, "kms:EncryptionContext:aws:ebs:id", volume_id.to_owned());
    let target = Target { arn: key.to_owned(), context };
    scene.caller.authorize(scene.state, Service::Kms, "Decrypt", &target)
}

/// Checks `GetRule` of the Recycle Bin.
pub(crate) fn check_rule(scene: &Scene<'_>, arn: String) -> Result<(), Refusal> {
    on(scene, arn, of_call(&scene.caller))
}

/// Checks `AssumeRole`.
pub(crate) fn check_role(scene: &Scene<'_>, arn: String) -> Result<(), Refusal> {
    on(scene, arn, of_call(&scene.caller))
}

/// The partition that a region belongs to: the second part of ARNs.
pub(crate) fn partition(region: &str) -> &'static str {
    match region {
        _ if region.starts_with("cn-") => "aws-cn",
        _ if region.starts_with("us-gov-") => "aws-us-gov",
        _ => "aws",
    }
}

fn domain(region: &str) -> &'static str {
    if partition(region) == "aws-cn" { "amazonaws.com.cn" } else { "amazonaws.com" }
}

fn arn(region: &str, service: &str, account: &str, resource: &str) -> String {
    format!("arn:{}:{service}:{region}:{account}:{resource}", partition(region))
}

/// A snapshot's has no account.
fn snapshot_arn(region: &str, id: &str) -> String {
    arn(region, "ec2", "", &format!("snapshot/{id}"))
}

fn on(scene: &Scene<'_>, arn: String, context: Context) -> Result<(), Refusal> {
    let call = scene.call;
    scene.caller.authorize(scene.state, call.service, &call.operation, &Target { arn, context })
}

fn of_call(caller: &Caller) -> Context {
    let mut context = Context::new();
    set(&mut context, "aws:RequestedRegion", caller.region.clone());
    set(&mut context, "aws:PrincipalAccount", caller.account.clone());
    set(&mut context, "aws:PrincipalArn", caller.arn());
    context
}

/// What bears tags has them under the names of both IAM and EC2.
fn tagged(caller: &Caller, tags: &Tags) -> Context {
    let mut context = of_call(caller);
    for (key, value) in tags {
        set(&mut context, &format!("aws:ResourceTag/{key}"), value.clone());
        set(&mut context, &format!("ec2:ResourceTag/{key}"), value.clone());
    }
    context
}

fn set(context: &mut Context, key: &str, value: String) {
    context.insert(key.to_ascii_lowercase(), vec![value]);
}

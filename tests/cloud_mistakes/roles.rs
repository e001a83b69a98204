//! Each role of `aws policy`, with what is printed for it and nothing else: it is enough for what the role does, and for no
//! more.

use fake_aws::{Estate, Snapshot, Tags};

use crate::harness::{Cloud, MACHINE, Run, policy};
use crate::said::{is_plain, one_mistake};

const OURS: &str = "snap-0aaaaaaaaaaaaaaa1";
const MISSING: &str = "snap-0bbbbbbbbbbbbbbb2";

/// A cloud whose disks are encrypted, for a role, with a snapshot of the root disk that a scan left.
fn cloud(role: &str) -> Cloud {
    let mut cloud = Cloud::with(|estate| {
        encrypt(estate);
        estate.accounts[0].policy = Some(policy(&["--role", role]));
        estate.snapshots.push(leftover(estate));
    });
    cloud.may_leak();
    cloud
}

fn encrypt(estate: &mut Estate) {
    for volume in &mut estate.volumes {
        volume.encrypted = true;
        volume.kms_key_id = Some(format!("arn:aws:kms:{}:111111111111:key/1", volume.region));
    }
}

fn leftover(estate: &Estate) -> Snapshot {
    let root = &estate.volumes[0];
    let tags = [
        ("CreatedBy", "Microsoft Defender for Cloud"),
        ("stillframe:scan-id", "0123456789abcdef"),
        ("stillframe:expires-at", "2020-01-01T00:00:00Z"),
    ];
    Snapshot {
        id: OURS.to_owned(),
        volume_id: root.id.clone(),
        content: root.content.clone(),
        encrypted: true,
        kms_key_id: root.kms_key_id.clone(),
        tags: tags.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect::<Tags>(),
        ..Snapshot::default()
    }
}

/// The refusals for want of a permission, but of calls that the role is not for.
fn is_fine(cloud: &Cloud, run: &Run) {
    is_plain(run);
    assert_eq!(run.code(), 0, "{}{}", run.out(), run.err());
    let refusals = cloud.world().counters().refusals;
    let denied =
        refusals.keys().filter(|code| code.contains("Unauthorized") || code.contains("AccessDenied"));
    assert_eq!(denied.count(), 0, "{refusals:?}");
}

fn preflight(cloud: &Cloud, role: &str) -> Run {
    cloud.run(&["aws", "preflight", "--role", role])
}

#[test]
fn a_worker_reads_snapshots() {
    let cloud = cloud("worker");
    let run = cloud.run(&["scan", "snapshot", OURS, "--format", "json"]);
    is_fine(&cloud, &run);
    assert_eq!(run.json()["machine"]["hostname"], "debian-fixture");
    is_fine(&cloud, &preflight(&cloud, "worker"));
    // The Recycle Bin is looked into before it is said that there is none.
    one_mistake(&cloud.run(&["scan", "snapshot", MISSING]), &["there is no such snapshot"], "check the id");
    assert!(cloud.calls("ListSnapshotsInRecycleBin") > 1);
    let run = cloud.run(&["scan", "instance", MACHINE]);
    one_mistake(&run, &["ec2:DescribeInstances", "denied"], "allow ec2:DescribeInstances");
    assert_eq!(preflight(&cloud, "single").code(), 2);
}

#[test]
fn an_orchestrator_does_all_but_read() {
    let cloud = cloud("orchestrator");
    is_fine(&cloud, &cloud.run(&["instances"]));
    is_fine(&cloud, &cloud.run(&["scan", "instance", MACHINE, "--dry-run"]));
    let checked = preflight(&cloud, "orchestrator");
    is_fine(&cloud, &checked);
    for action in ["ec2:CreateSnapshots", "ec2:CreateSnapshot", "ec2:CreateTags", "ec2:DeleteSnapshot"] {
        assert!(checked.out().contains(&format!("allowed  {action}\n")), "{}", checked.out());
    }
    is_fine(&cloud, &cloud.run(&["snapshots", "list", "--all-regions"]));
    let run = cloud.run(&["scan", "snapshot", OURS]);
    one_mistake(&run, &["ebs:ListSnapshotBlocks", "denied"], "allow ebs:ListSnapshotBlocks");
    assert_eq!(cloud.calls("GetSnapshotBlock"), 0);
    // What it makes it deletes, though it cannot read it.
    let run = cloud.run(&["scan", "instance", MACHINE]);
    assert_eq!((run.code(), cloud.world().estate().snapshots.len()), (2, 3), "{}", run.err());
    let run = cloud.run(&["snapshots", "purge"]);
    assert_eq!((run.code(), run.purged("us-east-1")), (0, (1, 0)), "{}", run.err());
    assert_eq!(cloud.world().leaks(), Vec::<String>::new());
}

#[test]
fn a_single_role_does_all() {
    let cloud = cloud("single");
    is_fine(&cloud, &preflight(&cloud, "single"));
    is_fine(&cloud, &cloud.run(&["snapshots", "purge"]));
    is_fine(&cloud, &cloud.run(&["scan", "instance", MACHINE]));
    assert_eq!(cloud.world().leaks(), Vec::<String>::new());
}

#[test]
fn a_policy_for_one_product_name_is_none_for_another() {
    let cloud = Cloud::with(|estate| estate.accounts[0].policy = Some(policy(&["--created-by", "Acme"])));
    let run = cloud.run(&["scan", "instance", MACHINE]);
    assert_eq!(run.code(), 2);
    assert!(run.err().contains("ec2:CreateSnapshots") && run.err().contains("denied"), "{}", run.err());
    let run = cloud.run(&["scan", "instance", MACHINE, "--created-by", "Acme"]);
    assert_eq!(run.code(), 0, "{}", run.err());
}

/// The ARNs of China and of GovCloud begin otherwise, and China has a domain of its own.
#[test]
fn each_partition_has_a_policy_of_its_own() {
    for region in ["cn-north-1", "us-gov-west-1"] {
        let cloud = Cloud::with(|estate| {
            estate.regions = vec![region.to_owned()];
            estate.volumes.iter_mut().for_each(|volume| volume.region = region.to_owned());
            estate.instances.iter_mut().for_each(|instance| instance.region = region.to_owned());
            encrypt(estate);
        });
        let scan = ["scan", "instance", MACHINE, "--region", region];
        assert_eq!(cloud.run(&scan).code(), 2, "the policy is for another partition");
        cloud.world().change(|estate| {
            estate.settings.quotas.volume_interval_ms = 0;
            estate.accounts[0].policy = Some(policy(&["--region", region]));
        });
        let run = cloud.run(&scan);
        assert_eq!((run.code(), run.errors()), (0, vec![]), "{}", run.err());
    }
}

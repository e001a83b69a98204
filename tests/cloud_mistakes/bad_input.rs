//! Mistakes of the operator, of the account and of the cloud: each has one line that says what is wrong, and one that
//! says what to do; what can be read is read, and what was created goes.

use std::fs;

use fake_aws::{Estate, Fault, Hold, Rule};
use serde_json::Value;

use crate::harness::{Cloud, DATA, MACHINE, ROOT, Run, instance, policy, until};
use crate::said::{denying, foreign_snapshot, is_plain, one_mistake, row, server_of};

const OTHER: &str = "i-0fedcba9876543210";
const SNAPSHOT: &str = "snap-0aaaaaaaaaaaaaaa1";
const KEY: &str = "arn:aws:kms:us-east-1:111111111111:key/k1";
const HTML: &str = "<html><body>It works!</body></html>";

fn scan(cloud: &Cloud) -> Run {
    cloud.run(&["scan", "instance", MACHINE, "--format", "json"])
}

/// The disks whose rows say that they were read.
fn read_disks(report: &Value) -> Vec<&str> {
    let rows = report["coverage"].as_array().unwrap();
    let names = rows.iter().filter(|row| row["kind"] == "disk" && row["status"] == "scanned");
    names.map(|row| row["name"].as_str().unwrap()).collect()
}

fn created(cloud: &Cloud) -> u64 {
    cloud.calls("CreateSnapshots") + cloud.calls("CreateSnapshot")
}

#[test]
fn a_named_instance_that_is_not_running() {
    let cloud = Cloud::new();
    for (state, why) in [
        ("stopped", "a deallocated machine is not scanned"),
        ("stopping", "a machine that is being deallocated is not scanned"),
        ("pending", "a machine that is being started has nothing to scan yet"),
        ("terminated", "there is no machine any more"),
    ] {
        cloud.world().change(|estate| estate.instances[0].state = state.to_owned());
        let error = one_mistake(&scan(&cloud), &[], "scan one of its snapshots");
        assert_eq!(error, format!("{MACHINE} is {state}: {why}"));
    }
    // Of several that were named, too: what was meant is not what would be done.
    cloud.world().change(|estate| estate.instances.push(instance(OTHER, &[("/dev/xvda", ROOT)])));
    one_mistake(
        &cloud.run(&["scan", "instance", OTHER, MACHINE]),
        &[MACHINE, "is terminated"],
        "scan snapshot",
    );
    assert_eq!(created(&cloud), 0);
}

#[test]
fn one_that_a_tag_chose_and_that_is_not_running_is_skipped() {
    let cloud = Cloud::with(|estate| {
        let mut other = instance(OTHER, &[]);
        other.state = "stopped".to_owned();
        estate.instances.push(other);
        for instance in &mut estate.instances {
            instance.tags.insert("team".to_owned(), "web".to_owned());
        }
    });
    let run = cloud.run(&["scan", "instance", "--tag", "team=web"]);
    assert_eq!((run.code(), run.errors().len()), (0, 0), "{}", run.err());
    let skipped = format!("skipped: {OTHER} is stopped: a deallocated machine is not scanned\n");
    assert!(run.err().contains(&skipped), "{}", run.err());

    cloud.world().change(|estate| estate.instances[0].state = "stopped".to_owned());
    let run = cloud.run(&["scan", "instance", "--tag", "team=web"]);
    one_mistake(
        &run,
        &["no running instance in us-east-1 of account 111111111111"],
        "`stillframe instances`",
    );
    assert!(run.err().contains(&skipped), "{}", run.err());
}

#[test]
fn an_instance_that_is_not_there_or_not_in_this_region() {
    let cloud = Cloud::with(|estate| estate.regions.push("eu-west-3".to_owned()));
    let run = cloud.run(&["scan", "instance", OTHER]);
    one_mistake(&run, &[OTHER, "us-east-1", "111111111111"], "--region");
    let run = cloud.run(&["scan", "instance", MACHINE, "--region", "eu-west-3"]);
    one_mistake(&run, &[MACHINE, "in eu-west-3"], "--region");
    let run = cloud.run(&["scan", "instance", MACHINE, "--region", "ap-east-1"]);
    one_mistake(&run, &["ec2:DescribeInstances", "AuthFailure"], "has the region enabled");
    let run = cloud.run(&["scan", "instance", MACHINE, "--region", "Paris"]);
    one_mistake(&run, &["region's name", "eu-west-3"], "--region");
    let mut command = cloud.stillframe();
    let run = Run(command.env_remove("AWS_REGION").args(["scan", "instance", MACHINE]).output().unwrap());
    one_mistake(&run, &["no region is named"], "AWS_REGION");
    assert_eq!(created(&cloud), 0);
}

#[test]
fn ids_that_are_none() {
    let cloud = Cloud::new();
    for id in ["i-xyz", "vol-0aaaaaaaaaaaaaaa1", "i-0123456789ABCDEF0"] {
        one_mistake(&cloud.run(&["scan", "instance", id]), &[id, "i-0123456789abcdef0"], "--help");
    }
    one_mistake(&cloud.run(&["scan", "snapshot", "snap"]), &["snap-0123456789abcdef0"], "--help");
    one_mistake(&cloud.run(&["scan", "instance"]), &["no instance is named"], "--tag");
    assert_eq!(cloud.world().counters().events, 0, "nobody is asked about what cannot be");
}

#[test]
fn credentials_that_are_expired_or_missing() {
    let cloud = Cloud::with(|estate| estate.accounts[0].expired_keys.push("AKIDTEST".to_owned()));
    one_mistake(&scan(&cloud), &["sts:GetCallerIdentity", "expired", "ExpiredToken"], "log in again");
    let mut command = cloud.stillframe();
    command.env_remove("AWS_ACCESS_KEY_ID").env_remove("AWS_SECRET_ACCESS_KEY");
    let run = Run(command.args(["scan", "instance", MACHINE]).output().unwrap());
    one_mistake(&run, &["no AWS credentials"], "--profile");
}

#[test]
fn calls_that_are_denied_before_anything_is_created() {
    for action in ["ec2:DescribeInstances", "ec2:DescribeVolumes"] {
        let cloud = denying(&[action]);
        one_mistake(
            &scan(&cloud),
            &[action, "denied", "UnauthorizedOperation"],
            &format!("allow {action} to"),
        );
        assert_eq!(created(&cloud), 0);
    }
}

#[test]
fn a_scan_goes_on_where_instance_types_are_denied() {
    let cloud = denying(&["ec2:DescribeInstanceTypes"]);
    let run = scan(&cloud);
    let parts = [MACHINE, "instance store", "ec2:DescribeInstanceTypes of t3.micro", "denied"];
    one_mistake(&run, &parts, "allow ec2:DescribeInstanceTypes");
    let report = run.json();
    assert_eq!(read_disks(&report), ["disk0", "disk1"]);
    assert_eq!(
        row(&report, "disk2")["reason"],
        "whether the machine has an instance store is not known: ec2:DescribeInstanceTypes UnauthorizedOperation"
    );
}

#[test]
fn a_set_that_is_denied_is_taken_one_by_one() {
    let cloud = denying(&["ec2:CreateSnapshots"]);
    let run = scan(&cloud);
    is_plain(&run);
    assert_eq!((run.code(), run.errors().len()), (0, 0), "{}", run.err());
    assert_eq!(cloud.calls("CreateSnapshot"), 2);
}

#[test]
fn creating_that_is_denied_is_said_once_for_all_disks() {
    for (actions, missing) in [
        (
            &["ec2:CreateSnapshots", "ec2:CreateSnapshot"][..],
            "allow ec2:CreateSnapshots and ec2:CreateSnapshot to",
        ),
        (&["ec2:CreateTags"], "allow ec2:CreateTags to"),
    ] {
        let cloud = denying(actions);
        let run = scan(&cloud);
        one_mistake(&run, &[ROOT, DATA, MACHINE, "ec2:CreateSnapshot: denied"], missing);
        assert_eq!(run.out(), "", "a report of nothing is none");
        assert_eq!(cloud.calls("DeleteSnapshot"), 0);
    }
}

#[test]
fn where_snapshots_cannot_be_listed_they_are_deleted_all_the_same() {
    let cloud = denying(&["ec2:DescribeSnapshots"]);
    let run = scan(&cloud);
    is_plain(&run);
    assert_eq!(run.code(), 2);
    let errors = run.errors();
    let [(unread, allow), (left, purge)] = errors.as_slice() else { panic!("two errors: {}", run.err()) };
    assert!(
        unread.starts_with(&format!("{ROOT}, {DATA} of {MACHINE} not read: ec2:DescribeSnapshots")),
        "{unread}"
    );
    assert!(allow.contains("allow ec2:DescribeSnapshots"), "{allow}");
    assert!(
        left.ends_with("deletion requested, not confirmed") && purge.contains("`stillframe snapshots purge`")
    );
    assert_eq!(cloud.calls("DeleteSnapshot"), 2);
}

#[test]
fn snapshots_that_may_not_be_deleted_are_purged_when_they_may() {
    let cloud = denying(&["ec2:DeleteSnapshot"]);
    let run = scan(&cloud);
    one_mistake(&run, &[ROOT, DATA, "ec2:DeleteSnapshot: denied"], "allow ec2:DeleteSnapshot");
    assert_eq!(cloud.world().leaks().len(), 2);
    let report = run.json();
    assert_eq!(report["machine"]["hostname"], "debian-fixture", "the report is whole");

    cloud.world().change(|estate| estate.accounts[0].denied_actions.clear());
    let run = cloud.run(&["snapshots", "purge"]);
    assert_eq!(run.code(), 0, "{}", run.err());
    assert!(
        run.out().contains("us-east-1: 2 snapshots deleted and seen to be gone, 0 left"),
        "{}",
        run.out()
    );
}

#[test]
fn a_recycle_bin_that_may_not_be_looked_into() {
    let cloud = denying(&["ec2:ListSnapshotsInRecycleBin"]);
    let run = scan(&cloud);
    let parts = ["Recycle Bin", "ec2:ListSnapshotsInRecycleBin", "denied"];
    one_mistake(&run, &parts, "allow ec2:ListSnapshotsInRecycleBin");
    assert_eq!(read_disks(&run.json()), ["disk0", "disk1"]);
}

#[test]
fn blocks_that_may_not_be_listed_or_read() {
    for (action, how) in
        [("ebs:ListSnapshotBlocks", "not read: "), ("ebs:GetSnapshotBlock", "not read to the end: ")]
    {
        let cloud = denying(&[action]);
        let run = scan(&cloud);
        let parts = [ROOT, DATA, how, action, ": denied (AccessDeniedException)"];
        one_mistake(&run, &parts, &format!("allow {action} to this role"));
        let report = run.json();
        assert_eq!(row(&report, "disk0")["status"], "failed");
        assert_eq!(report["snapshots"][0]["fate"], "gone");
    }
}

fn with_key(estate: &mut Estate) {
    estate.volumes[0].encrypted = true;
    estate.volumes[0].kms_key_id = Some(KEY.to_owned());
}

#[test]
fn a_key_that_may_not_be_used_keeps_its_disk_alone() {
    let cloud = Cloud::with(|estate| {
        with_key(estate);
        estate.accounts[0].denied_keys.push(KEY.to_owned());
    });
    let run = scan(&cloud);
    let parts = [ROOT, "ebs:GetSnapshotBlock", KEY, "for want of kms:Decrypt", "DEPENDENCY_ACCESS_DENIED"];
    one_mistake(&run, &parts, &format!("allow kms:Decrypt on {KEY}"));
    let report = run.json();
    assert_eq!(read_disks(&report), ["disk1"]);
    assert!(row(&report, "disk0")["reason"].as_str().unwrap().starts_with("its key may not be used"));
}

#[test]
fn a_key_that_is_disabled() {
    let cloud = Cloud::with(|estate| {
        with_key(estate);
        estate.accounts[0].key_states.insert(KEY.to_owned(), "Disabled".to_owned());
    });
    let run = scan(&cloud);
    one_mistake(&run, &[ROOT, KEY, "is disabled or gone", "INVALID_CUSTOMER_KEY"], "aws kms describe-key");
    assert_eq!(read_disks(&run.json()), ["disk1"]);
}

#[test]
fn a_volume_in_error() {
    let cloud = Cloud::with(|estate| estate.volumes[1].state = Some("error".to_owned()));
    let run = scan(&cloud);
    let parts = [DATA, MACHINE, "the volume is in state error"];
    one_mistake(&run, &parts, "aws ec2 describe-volume-status");
    assert_eq!(read_disks(&run.json()), ["disk0"]);
    assert!(
        run.err().contains("taking a snapshot of 1 disk\n") || !run.err().contains("taking"),
        "{}",
        run.err()
    );
}

#[test]
fn a_snapshot_that_ends_in_error() {
    let cloud = Cloud::with(|estate| {
        estate.volumes[1].snapshot_error = Some("the volume is broken".to_owned());
        estate.settings.quotas.volume_interval_ms = 0;
    });
    let run = scan(&cloud);
    one_mistake(&run, &[DATA, MACHINE, "the snapshot failed: the volume is broken"], "scan again");
    let report = run.json();
    assert_eq!(read_disks(&report), ["disk0"], "it is taken by itself");
    assert_eq!(report["snapshots"].as_array().unwrap().len(), 4, "those that failed are deleted as well");
}

#[test]
fn snapshots_that_cannot_be_read() {
    let cloud = Cloud::with(|estate| {
        let good = foreign_snapshot(estate, SNAPSHOT);
        estate.snapshots.push(good);
    });
    let good = cloud.world().estate().snapshots[0].clone();
    let refuses = |change: &dyn Fn(&mut fake_aws::Snapshot), parts: &[&str], mends: &str| {
        cloud.world().change(|estate| {
            estate.snapshots[0] = good.clone();
            change(&mut estate.snapshots[0]);
        });
        let run = cloud.run(&["scan", "snapshot", SNAPSHOT]);
        one_mistake(&run, &[&[SNAPSHOT], parts].concat(), mends);
        assert_eq!(run.out(), "");
    };
    refuses(&|one| one.storage_tier = "archive".to_owned(), &["it is archived"], "restore-snapshot-tier");
    refuses(&|one| one.completes_ms = u64::MAX / 2, &["it is still pending"], "wait");
    refuses(
        &|one| one.error = Some("broken".to_owned()),
        &["it failed when it was made"],
        "take another one",
    );
    let denied = ["ebs:ListSnapshotBlocks", "UNAUTHORIZED_ACCOUNT"];
    refuses(
        &|one| {
            one.public = true;
            one.account = "999999999999".to_owned();
        },
        &denied,
        "copy a public one first",
    );
    refuses(&|one| one.public = true, &denied, "a public one is read by nobody: copy it first");
    refuses(
        &|one| {
            one.deleted_ms = Some(1);
            one.in_recycle_bin_until_ms = Some(4_102_444_800_000);
        },
        &["it is in the Recycle Bin"],
        "restore-snapshot-from-recycle-bin",
    );
    refuses(&|one| one.deleted_ms = Some(1), &["no such snapshot in us-east-1"], "--region");
    refuses(&|one| one.stays_local = true, &["ebs:ListSnapshotBlocks", "INVALID_SNAPSHOT_ID"], "Local Zone");
    cloud.world().change(|estate| estate.accounts[0].policy = Some(policy(&[])));
    refuses(&|_| {}, &["ebs:ListSnapshotBlocks: denied"], "only on what stillframe made");
    cloud.world().change(|estate| {
        estate.accounts[0].denied_actions.push("ec2:DescribeSnapshots".to_owned());
    });
    refuses(&|_| {}, &["ec2:DescribeSnapshots of", "denied"], "allow ec2:DescribeSnapshots");
    assert_eq!(cloud.calls("DeleteSnapshot"), 0);
}

#[test]
fn of_several_snapshots_the_readable_ones_are_read_and_none_is_deleted() {
    let missing = "snap-0bbbbbbbbbbbbbbb2";
    let cloud = Cloud::with(|estate| {
        let good = foreign_snapshot(estate, SNAPSHOT);
        estate.snapshots.push(good);
    });
    let run = cloud.run(&["scan", "snapshot", missing, SNAPSHOT, "--format", "json"]);
    one_mistake(&run, &[missing, "there is no such snapshot"], "check the id");
    let report = run.json();
    assert_eq!(row(&report, "disk0")["status"], "failed");
    assert_eq!(row(&report, "disk0")["label"], missing);
    assert_eq!(read_disks(&report), ["disk1"]);
    assert_eq!(report["machine"]["hostname"], "debian-fixture");
    assert_eq!(report["snapshots"][0]["fate"], "read_only");
    assert_eq!(cloud.calls("DeleteSnapshot"), 0);
    assert_eq!(cloud.world().estate().snapshots[0].deleted_ms, None);
}

#[test]
fn a_snapshot_that_another_tool_deletes_while_it_is_read() {
    let cloud = Cloud::with(|estate| {
        estate.settings.latency_by_operation_ms.insert("GetSnapshotBlock".to_owned(), 40);
    });
    let process = cloud.spawn(&["scan", "instance", MACHINE, "--format", "json"]);
    until("the first blocks", || cloud.calls("GetSnapshotBlock") >= 3);
    let event = cloud.world().counters().events + 1;
    cloud.world().hold(Hold { event, before: true, ..Hold::default() });
    cloud.world().change(|estate| {
        let root = estate.snapshots.iter_mut().find(|one| one.volume_id == ROOT).unwrap();
        root.deleted_ms = Some(1);
    });
    cloud.world().release();
    let run = process.end();
    let parts =
        [ROOT, "not read to the end: ebs:GetSnapshotBlock: there is no such thing", "SNAPSHOT_NOT_FOUND"];
    one_mistake(&run, &parts, "something else deleted it");
    let report = run.json();
    assert_eq!(read_disks(&report), ["disk1"]);
    assert_eq!(row(&report, "disk0")["reason"].as_str().unwrap().split(':').next(), Some("a call failed"));
}

#[test]
fn endpoints_that_do_not_answer() {
    let cloud = Cloud::new();
    let scan_with = |name: &str, url: &str| {
        let mut command = cloud.stillframe();
        Run(command.env(name, url).args(["scan", "instance", MACHINE, "--format", "json"]).output().unwrap())
    };
    // Nobody listens at port 1.
    let run = scan_with("AWS_ENDPOINT_URL", "http://127.0.0.1:1");
    one_mistake(&run, &["sts:GetCallerIdentity: the connection failed"], "AWS_ENDPOINT_URL");
    let run = scan_with("AWS_ENDPOINT_URL", "ftp://127.0.0.1");
    one_mistake(
        &run,
        &["EC2 endpoint is no http:// or https:// URL"],
        "set AWS_ENDPOINT_URL or AWS_ENDPOINT_URL_EC2",
    );
    assert_eq!(created(&cloud), 0);
    let run = scan_with("AWS_ENDPOINT_URL_EBS", "http://127.0.0.1:1");
    one_mistake(&run, &[ROOT, DATA, "ebs:ListSnapshotBlocks: the connection failed"], "AWS_ENDPOINT_URL");
    assert_eq!(run.json()["snapshots"][0]["fate"], "gone");
}

#[test]
fn endpoints_that_are_no_cloud() {
    let cloud = Cloud::new();
    let scan_with = |name: &str, url: &str| {
        let mut command = cloud.stillframe();
        Run(command.env(name, url).args(["scan", "instance", MACHINE, "--format", "json"]).output().unwrap())
    };
    let page = server_of("200 OK", "text/html", HTML);
    one_mistake(
        &scan_with("AWS_ENDPOINT_URL", &page),
        &["sts:GetCallerIdentity: the reply was cut or unreadable"],
        "AWS_ENDPOINT_URL",
    );
    let error = server_of("404 Not Found", "text/html", HTML);
    one_mistake(
        &scan_with("AWS_ENDPOINT_URL", &error),
        &["sts:GetCallerIdentity", "HTTP 404"],
        "AWS_ENDPOINT_URL",
    );
    let nonsense = server_of(
        "200 OK",
        "application/json",
        r#"{"Blocks": [], "BlockSize": 512, "VolumeSize": 1, "ExpiryTime": 4102444800}"#,
    );
    let run = scan_with("AWS_ENDPOINT_URL_EBS", &nonsense);
    one_mistake(&run, &[ROOT, DATA, "a block has 512 bytes"], "does not answer as EBS does");
    assert_eq!(run.json()["snapshots"][1]["fate"], "gone");
}

#[test]
fn a_state_directory_that_cannot_be_used() {
    let cloud = Cloud::new();
    fs::write(cloud.path("state"), "").unwrap();
    one_mistake(&scan(&cloud), &["state/stillframe"], "XDG_STATE_HOME");
    fs::remove_file(cloud.path("state")).unwrap();

    assert_eq!(scan(&cloud).code(), 0);
    let file = cloud.path("state/stillframe/state.db");
    let mut store = fs::read(&file).unwrap();
    // The user version of SQLite's header: the schema's number.
    store[60..64].copy_from_slice(&99_u32.to_be_bytes());
    fs::write(&file, &store).unwrap();
    one_mistake(&scan(&cloud), &["state.db was written by a newer stillframe"], "use the newer stillframe");
    fs::write(&file, "this is no database, and it is long enough to be seen as none").unwrap();
    let path = file.to_str().unwrap();
    one_mistake(&scan(&cloud), &[path, "is damaged"], &format!("move {path} away"));
    assert_eq!(fs::read(&file).unwrap()[..4], *b"this", "it is left as it is");
    assert_eq!(created(&cloud), 1, "nothing is created where nobody could write it down");
}

#[test]
fn nothing_is_denied_twice_and_a_failing_service_is_asked_again() {
    let cloud = denying(&["ebs:GetSnapshotBlock"]);
    assert_eq!(scan(&cloud).code(), 2);
    let gets = cloud.calls("GetSnapshotBlock");
    assert!(gets <= 4, "{gets} calls were denied");
    let cloud = Cloud::new();
    cloud.world().add_fault(Rule::nth("DescribeVolumes", 1, Fault::Http { status: 503 }));
    let run = scan(&cloud);
    assert_eq!((run.code(), run.errors().len()), (0, 0), "{}", run.err());
}

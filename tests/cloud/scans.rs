//! Scans beside each other and after each other: who may delete what, and what is written down of it.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use fake_aws::{Content, Estate, Event, Fault, Hold, Rule, Snapshot, Tags};
use jiff::{Timestamp, ToSpan};
use serde_json::Value;
use stillframe_cloud::audit;

use crate::harness::{Cloud, MACHINE, ROOT, Run, instance, until, volume};

const SCAN: &[&str] = &["scan", "instance", MACHINE, "--format", "json"];
const OTHER: &str = "i-0fedcba9876543210";
const CREATED_BY: (&str, &str) = ("CreatedBy", "Microsoft Defender for Cloud");

/// Kills a scan while it reads: its two snapshots are left.
fn die(cloud: &Cloud) {
    let process = cloud.spawn(SCAN);
    until("blocks to be read", || cloud.calls("GetSnapshotBlock") > 0);
    process.kill();
    cloud.no_call_is_under_way();
    assert_eq!(cloud.ours().len(), 2);
}

/// A cloud whose blocks come slowly, so that a scan can be met while it reads.
fn slow(estate: &mut Estate) {
    estate.settings.snapshot_delay_ms = 0;
    estate.settings.latency_by_operation_ms = BTreeMap::from([("GetSnapshotBlock".to_owned(), 500)]);
}

fn purge(cloud: &Cloud, more: &[&str]) -> Run {
    cloud.run(&[&["snapshots", "purge"], more].concat())
}

fn snapshot(id: &str, region: &str, tags: &[(&str, &str)]) -> Snapshot {
    Snapshot {
        id: id.to_owned(),
        region: region.to_owned(),
        content: Content { pattern_blocks: 1, ..Content::default() },
        tags: tags.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect::<Tags>(),
        ..Snapshot::default()
    }
}

fn expiry(hours: i64) -> String {
    (Timestamp::now() + hours.hours()).strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

#[test]
fn two_scans_with_one_state_store_leave_each_other_alone_and_a_purge_leaves_both() {
    let cloud = Cloud::with(|estate| {
        slow(estate);
        let images: Vec<_> =
            estate.volumes.iter().map(|volume| volume.content.image.clone().unwrap()).collect();
        let names = ["vol-0cccccccccccccc3", "vol-0dddddddddddddd4"];
        estate.volumes.extend(names.iter().zip(images).map(|(name, image)| volume(name, image)));
        estate.instances.push(instance(OTHER, &[("/dev/xvda", names[0]), ("/dev/sdf", names[1])]));
    });
    let scans = [MACHINE, OTHER].map(|id| cloud.spawn(&["scan", "instance", id, "--format", "json"]));
    until("both to read", || {
        let events = cloud.world().events();
        let reads = events.iter().filter(|event| event.operation == "GetSnapshotBlock");
        reads.map(|event| event.resources[0].clone()).collect::<BTreeSet<_>>().len() >= 2
            && cloud.calls("CreateSnapshots") == 2
    });
    let list = cloud.run(&["snapshots", "list"]);
    assert_eq!(
        list.out().matches("in use by a scan that runs here: left alone").count(),
        4,
        "{}",
        list.out()
    );
    let run = purge(&cloud, &["--all", "--yes", "--format", "json"]);
    assert_eq!(run.code(), 0, "{}", run.err());
    let region = &run.json()["regions"][0];
    assert_eq!(
        (&region["purged"], region["alive_scans"].as_array().unwrap().len()),
        (&Value::Array(vec![]), 2)
    );
    // Another machine does not know them, and they have not expired.
    let mut other = cloud.stillframe();
    other.env("XDG_STATE_HOME", cloud.path("other")).args(["snapshots", "purge"]);
    let run = Run(other.output().unwrap());
    assert_eq!((run.code(), run.purged("us-east-1")), (0, (0, 0)), "{}", run.err());
    assert_eq!(run.out().matches("only with --all").count(), 4, "{}", run.out());
    for scan in scans {
        let run = scan.end();
        assert_eq!((run.code(), run.errors()), (0, vec![]), "{}", run.err());
        let fates: Vec<_> =
            run.json()["snapshots"].as_array().unwrap().iter().map(|one| one["fate"].clone()).collect();
        assert_eq!(fates, ["gone", "gone"]);
        assert_eq!(run.json()["machine"]["hostname"], "debian-fixture");
    }
    assert_audited(&cloud);
}

#[test]
fn with_a_lost_state_store_what_has_not_expired_is_left_unless_all_is_asked_for() {
    let cloud = Cloud::new();
    die(&cloud);
    cloud.lose_state();
    let run = purge(&cloud, &[]);
    assert_eq!((run.code(), run.purged("us-east-1"), cloud.ours().len()), (0, (0, 0), 2), "{}", run.err());
    assert_eq!(run.out().matches("only with --all").count(), 2, "{}", run.out());
    let run = purge(&cloud, &["--all", "--older-than", "1h"]);
    assert_eq!((run.code(), run.purged("us-east-1"), cloud.ours().len()), (0, (0, 0), 2), "{}", run.err());
    // Nobody sits at a terminal, so nobody is asked.
    let run = purge(&cloud, &["--all"]);
    assert_eq!((run.code(), run.purged("us-east-1"), cloud.ours().len()), (0, (2, 0), 0), "{}", run.err());
}

#[test]
fn with_a_lost_state_store_what_has_expired_is_deleted() {
    let cloud = Cloud::new();
    die(&cloud);
    cloud.lose_state();
    cloud.world().change(|estate| {
        for snapshot in &mut estate.snapshots {
            let at = snapshot.tags.get_mut("stillframe:expires-at").unwrap();
            let written: Timestamp = at.parse().unwrap();
            assert!(written > Timestamp::now(), "a scan that is under way has not expired");
            *at = expiry(-1);
        }
    });
    let run = purge(&cloud, &[]);
    assert_eq!((run.code(), run.purged("us-east-1"), cloud.ours().len()), (0, (2, 0), 0), "{}", run.err());
}

/// Defender's own snapshots bear the same `CreatedBy`.
#[test]
fn what_lacks_our_scan_id_is_never_touched() {
    let (id, expired) = (("stillframe:scan-id", "0123456789abcdef"), expiry(-1));
    let expires = ("stillframe:expires-at", expired.as_str());
    let mut cloud = Cloud::with(|estate| {
        let others = [
            snapshot("snap-0000000000000000a", "us-east-1", &[CREATED_BY]),
            snapshot("snap-0000000000000000b", "us-east-1", &[CREATED_BY, expires]),
            snapshot("snap-0000000000000000c", "us-east-1", &[id, expires]),
            snapshot("snap-0000000000000000d", "us-east-1", &[("CreatedBy", "somebody"), id, expires]),
            snapshot(
                "snap-0000000000000000e",
                "us-east-1",
                &[CREATED_BY, ("stillframe:scan-id", ""), expires],
            ),
            snapshot(
                "snap-0000000000000000f",
                "us-east-1",
                &[CREATED_BY, ("stillframe:scan-id", "x"), expires],
            ),
            snapshot("snap-00000000000000010", "us-east-1", &[]),
        ];
        estate.snapshots.extend(others);
    });
    // Some bear one of our tags, and are not ours.
    cloud.may_leak();
    let run = purge(&cloud, &["--all", "--yes"]);
    assert_eq!((run.code(), run.purged("us-east-1")), (0, (0, 0)), "{}", run.err());
    let run = cloud.run(SCAN);
    assert_eq!(run.code(), 0, "{}", run.err());
    let kept = cloud.world().estate().snapshots.iter().filter(|one| one.deleted_ms.is_none()).count();
    assert_eq!((kept, cloud.calls("DeleteSnapshot")), (7, 2), "only the scan's own two were deleted");
}

#[test]
fn leftovers_of_other_regions_are_found_where_they_are_looked_for() {
    let regions = ["us-east-1", "eu-west-1", "ap-south-1"];
    let expired = expiry(-1);
    let cloud = Cloud::with(|estate| {
        estate.regions = regions.map(str::to_owned).to_vec();
        for (number, region) in regions.iter().enumerate() {
            let tags = [
                CREATED_BY,
                ("stillframe:scan-id", "0123456789abcdef"),
                ("stillframe:expires-at", expired.as_str()),
            ];
            estate.snapshots.push(snapshot(&format!("snap-0000000000000000{number}"), region, &tags));
        }
    });
    let run = purge(&cloud, &["--region", "us-east-1,eu-west-1"]);
    assert_eq!(run.code(), 0, "{}", run.err());
    assert_eq!((run.purged("us-east-1"), run.purged("eu-west-1")), ((1, 0), (1, 0)));
    let [left] = &cloud.ours()[..] else { panic!("{:?}", cloud.ours()) };
    assert_eq!(left.region, "ap-south-1");
    let list = cloud.run(&["snapshots", "list", "--all-regions", "--format", "json"]).json();
    let listed = list["snapshots"].as_array().unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!((&listed[0]["region"], &listed[0]["claim"]), (&"ap-south-1".into(), &"expired".into()));
    let run = purge(&cloud, &["--all-regions"]);
    assert_eq!(
        (run.code(), run.purged("ap-south-1"), run.purged("eu-west-1")),
        (0, (1, 0), (0, 0)),
        "{}",
        run.err()
    );
}

#[test]
fn only_what_is_older_is_deleted_where_that_is_asked_for() {
    let cloud = Cloud::new();
    die(&cloud);
    let run = purge(&cloud, &["--older-than", "1h"]);
    assert_eq!((run.code(), run.purged("us-east-1"), cloud.ours().len()), (0, (0, 0), 2), "{}", run.err());
    assert_eq!(run.out().matches("younger than was asked for").count(), 2, "{}", run.out());
    cloud.world().change(|estate| {
        estate.snapshots.iter_mut().for_each(|snapshot| snapshot.started_ms -= 2 * 3_600_000);
    });
    let run = purge(&cloud, &["--older-than", "3h"]);
    assert_eq!((run.code(), run.purged("us-east-1"), cloud.ours().len()), (0, (0, 0), 2), "{}", run.err());
    let run = purge(&cloud, &["--older-than", "1h"]);
    assert_eq!((run.code(), run.purged("us-east-1"), cloud.ours().len()), (0, (2, 0), 0), "{}", run.err());
}

/// What AWS does not delete is said with what to do, and the rest goes on.
#[test]
fn what_is_locked_or_in_use_is_said_and_deleted_when_it_may_be() {
    for (code, command, keep, let_go) in [
        (
            "SnapshotLocked",
            "unlock-snapshot",
            (|one| one.lock = Some("governance".to_owned())) as fn(&mut Snapshot),
            (|one| one.lock = None) as fn(&mut Snapshot),
        ),
        (
            "InvalidSnapshot.InUse",
            "deregister-image",
            |one| one.in_use_by = Some("ami-0123456789abcdef0".to_owned()),
            |one| one.in_use_by = None,
        ),
    ] {
        let cloud = Cloud::new();
        let change = |what: fn(&mut Snapshot)| {
            cloud.world().change(|estate| {
                let of_root = |one: &&mut Snapshot| one.volume_id == ROOT;
                estate.snapshots.iter_mut().filter(of_root).for_each(what);
            });
        };
        die(&cloud);
        change(keep);
        let run = purge(&cloud, &[]);
        assert_eq!((run.code(), run.purged("us-east-1")), (2, (1, 1)), "{code}: {}", run.err());
        let [left] = &cloud.ours()[..] else { panic!("{code}: {:?}", cloud.ours()) };
        let [(error, hint)] = &run.errors()[..] else { panic!("{code}: {}", run.err()) };
        assert!([&left.id, ROOT, code].iter().all(|word| error.contains(*word)), "{code}: {error}");
        assert!(hint.contains(command) && hint.contains("stillframe snapshots purge"), "{code}: {hint}");
        change(let_go);
        let run = purge(&cloud, &[]);
        assert_eq!(
            (run.code(), run.purged("us-east-1").1, cloud.ours().len()),
            (0, 0, 0),
            "{code}: {}",
            run.err()
        );
    }
}

#[test]
fn what_the_recycle_bin_keeps_is_not_called_gone() {
    let exclusion = Some((CREATED_BY.0.to_owned(), CREATED_BY.1.to_owned()));
    for (exclusion, code, fate) in [(None, 2, "in_recycle_bin"), (exclusion, 0, "gone")] {
        let cloud = Cloud::with(|estate| {
            estate.accounts[0].recycle_bin_days = Some(7);
            estate.accounts[0].recycle_bin_exclusion.clone_from(&exclusion);
        });
        let run = cloud.run(SCAN);
        assert_eq!(run.code(), code, "{}", run.err());
        let report = run.json();
        let fates: Vec<_> =
            report["snapshots"].as_array().unwrap().iter().map(|one| one["fate"].clone()).collect();
        assert_eq!(fates, [fate, fate]);
        assert_eq!(cloud.world().in_recycle_bin().len(), if exclusion.is_some() { 0 } else { 2 });
        for (error, hint) in run.errors() {
            assert!(error.contains("snap-") && error.contains("Recycle Bin"), "{error}");
            assert!(hint.contains("CreatedBy"), "{hint}");
        }
    }
}

/// The calls of the log that change something or read data and were answered, as operation and request id.
fn asked(events: &[Event]) -> BTreeSet<(String, String)> {
    let is_audited = |event: &&Event| {
        let operations =
            ["CreateSnapshots", "CreateSnapshot", "DeleteSnapshot", "ListSnapshotBlocks", "GetSnapshotBlock"];
        operations.contains(&event.operation.as_str()) && event.status != 0
    };
    let call = |event: &Event| (event.operation.clone(), event.request_id.clone());
    events.iter().filter(is_audited).map(call).collect()
}

/// Each of those calls has a line of the same request id, and each line with a request id is of such a call.
fn assert_audited(cloud: &Cloud) {
    let path = cloud.path("state/stillframe/audit.jsonl");
    let verified = audit::verify(&path).unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((verified.lines, verified.torn), (lines.len() as u64, 0));
    let word = |line: &Value, name: &str| line[name].as_str().unwrap().to_owned();
    let mut written = BTreeSet::new();
    for line in &lines {
        assert_eq!(
            (word(line, "account"), word(line, "region")),
            ("111111111111".into(), "us-east-1".into())
        );
        if line["request_id"].is_string() {
            let operation = word(line, "operation").split_once(':').unwrap().1.to_owned();
            assert!(written.insert((operation, word(line, "request_id"))), "twice: {line}");
        }
    }
    let asked = asked(&cloud.world().events());
    assert!(asked.len() > 20);
    assert_eq!(written, asked);
    // And what changes something was written down before it was asked, whether or not a reply came.
    let requested = lines.iter().filter(|line| line["result"] == "requested").count() as u64;
    let changes = ["CreateSnapshots", "CreateSnapshot", "DeleteSnapshot"];
    assert_eq!(requested, changes.iter().map(|operation| cloud.calls(operation)).sum::<u64>());
}

#[test]
fn every_call_that_changes_or_reads_is_in_the_audit_log_by_its_request_id() {
    let cloud = Cloud::with(|estate| {
        estate.faults = vec![
            Rule::sometimes("GetSnapshotBlock", 0.3, 1, Fault::Throttle { code: None }),
            Rule::sometimes("GetSnapshotBlock", 0.1, 1, Fault::Http { status: 500 }),
            Rule::nth("GetSnapshotBlock", 4, Fault::Cut { at_bytes: 1_000 }),
            Rule::nth("GetSnapshotBlock", 7, Fault::WrongChecksum),
            Rule::nth("GetSnapshotBlock", 9, Fault::Reset),
            Rule::nth("ListSnapshotBlocks", 1, Fault::Throttle { code: None }),
            Rule::nth("CreateSnapshots", 1, Fault::Throttle { code: None }),
            Rule::nth("DeleteSnapshot", 1, Fault::Http { status: 503 }),
            Rule::nth("DeleteSnapshot", 3, Fault::ReplyLost),
        ];
        estate.settings.block_page_limit = Some(20);
    });
    let run = cloud.run(SCAN);
    assert_eq!((run.code(), run.errors()), (0, vec![]), "{}", run.err());
    assert_audited(&cloud);
    // A second process goes on with the same log.
    cloud.world().change(|estate| estate.settings.quotas.volume_interval_ms = 0);
    let run = cloud.run(SCAN);
    assert_eq!((run.code(), run.errors()), (0, vec![]), "{}", run.err());
    assert_audited(&cloud);
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

/// Whatever the umask: only who scans may read what is remembered of scans.
#[test]
fn what_is_remembered_is_for_its_owner_alone() {
    let cloud = Cloud::new();
    let program = cloud.stillframe();
    let mut shell = Command::new("/bin/sh");
    shell.env_clear().envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))));
    shell.args(["-c", "umask 0; exec \"$@\"", "sh"]).arg(program.get_program()).args(SCAN);
    cloud.world().hold(Hold { event: 12, before: false, is_reached: false });
    shell.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
    let mut child = shell.spawn().unwrap();
    until("a scan that lives", || cloud.world().counters().held);
    let folder = cloud.path("state/stillframe");
    assert_eq!((mode(&folder), mode(&folder.join("locks"))), (0o700, 0o700));
    let mut files = BTreeSet::new();
    for entry in std::fs::read_dir(&folder).unwrap().chain(std::fs::read_dir(folder.join("locks")).unwrap()) {
        let path = entry.unwrap().path();
        if path.is_file() {
            assert_eq!(mode(&path), 0o600, "{}", path.display());
            files.insert(path.extension().unwrap().to_str().unwrap().to_owned());
        }
    }
    for name in ["db", "db-wal", "jsonl", "lock", "key"] {
        assert!(files.contains(name), "{name}: {files:?}");
    }
    cloud.world().release();
    assert!(child.wait().unwrap().success());
    assert_eq!(std::fs::read_dir(folder.join("locks")).unwrap().count(), 0, "nothing is left of the scan");
}

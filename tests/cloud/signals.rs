//! Ctrl-C, SIGTERM and a terminal that is gone: what was made is deleted, and what is left is said.

use std::collections::BTreeMap;

use fake_aws::{Hold, Instance};

use crate::harness::{Cloud, DATA, MACHINE, ROOT, Run, each, instance, until, volume};

const SIGNALS: [&str; 3] = ["INT", "TERM", "HUP"];
const SCAN: &[&str] = &["scan", "instance", MACHINE, "--format", "json"];

/// The errors, each of which has a hint.
fn said(run: &Run) -> Vec<String> {
    let errors = run.errors().into_iter();
    errors.inspect(|(_, hint)| assert!(!hint.is_empty(), "{}", run.err())).map(|(error, _)| error).collect()
}

const STOPPED: &str = "the scan was stopped";

/// No report, each snapshot's receipt, nothing left.
fn assert_stopped_and_deleted(cloud: &Cloud, run: &Run, case: &str) {
    assert_eq!((run.code(), run.out().as_str()), (2, ""), "{case}: {}", run.err());
    assert_eq!(said(run), [STOPPED], "{case}");
    let snapshots = cloud.world().estate().snapshots;
    assert_eq!(snapshots.len(), 2, "{case}");
    for snapshot in &snapshots {
        assert!(snapshot.deleted_ms.is_some(), "{case}: {}", snapshot.id);
        let receipt =
            format!("{} of {}: deleted and seen to be gone after ", snapshot.id, snapshot.volume_id);
        assert!(run.err().lines().any(|line| line.starts_with(&receipt)), "{case}: {}", run.err());
    }
    // The scan's memory holds nothing that a purge would have to look for.
    let calls = cloud.calls("DeleteSnapshot");
    let purge = cloud.run(&["snapshots", "purge"]);
    assert_eq!(purge.purged("us-east-1"), (0, 0), "{case}");
    assert_eq!((purge.code(), cloud.calls("DeleteSnapshot")), (0, calls), "{case}");
}

#[test]
fn while_snapshots_are_pending() {
    each(&SIGNALS, &Cloud::new(), |cloud, signal| {
        cloud.begin_anew(|estate| estate.settings.snapshot_delay_ms = 3_000);
        let scan = cloud.spawn(SCAN);
        until("the first look at pending snapshots", || cloud.calls("DescribeSnapshots") > 0);
        scan.signal(signal);
        assert_stopped_and_deleted(cloud, &scan.end(), signal);
        assert_eq!(cloud.calls("ListSnapshotBlocks"), 0, "{signal}: none was read");
    });
}

/// The reply is waited for: whoever gave up would not know what was made, nor when it will be seen.
#[test]
fn while_snapshots_are_created() {
    each(&SIGNALS, &Cloud::new(), |cloud, signal| {
        cloud.begin_anew(|estate| {
            estate.settings.latency_by_operation_ms = BTreeMap::from([("CreateSnapshots".to_owned(), 1_000)]);
        });
        let scan = cloud.spawn(SCAN);
        until("snapshots to be created", || cloud.calls("CreateSnapshots") > 0);
        scan.signal(signal);
        assert_stopped_and_deleted(cloud, &scan.end(), signal);
    });
}

#[test]
fn while_blocks_are_read() {
    each(&SIGNALS, &Cloud::new(), |cloud, signal| {
        cloud.begin_anew(|estate| {
            estate.settings.snapshot_delay_ms = 0;
            estate.settings.latency_by_operation_ms =
                BTreeMap::from([("GetSnapshotBlock".to_owned(), 1_000)]);
        });
        let scan = cloud.spawn(SCAN);
        until("blocks to be read", || cloud.calls("GetSnapshotBlock") > 1);
        scan.signal(signal);
        let run = scan.end();
        assert!(cloud.calls("GetSnapshotBlock") < 20, "{signal}: it read on");
        assert_stopped_and_deleted(cloud, &run, signal);
    });
}

/// Nobody answers any more while the machine is looked for: that is no reason to wait, since nothing was made.
#[test]
fn before_anything_is_created() {
    let cloud = Cloud::new();
    let created = || cloud.world().estate().snapshots.len();
    for (event, arguments) in [
        (1, SCAN),
        (2, SCAN),
        (2, &["scan", "instance", MACHINE, "--dry-run"]),
        (1, &["scan", "snapshot", "snap-0123456789abcdef0"]),
        (2, &["scan", "snapshot", "snap-0123456789abcdef0"]),
    ] {
        for signal in SIGNALS {
            cloud.begin_anew(|_| {});
            cloud.world().hold(Hold { event, before: true, is_reached: false });
            let scan = cloud.spawn(arguments);
            until("a call without an answer", || cloud.world().counters().held);
            scan.signal(signal);
            let run = scan.end();
            let case = format!("{signal} at {event} of {arguments:?}");
            assert_eq!((run.code(), run.out().as_str()), (2, ""), "{case}: {}", run.err());
            assert_eq!((said(&run), created()), (vec![STOPPED.to_owned()], 0), "{case}");
            cloud.world().release();
        }
    }
}

/// Then the report is made already, and stopping would be stopping to clean up: it goes on.
#[test]
fn while_snapshots_are_deleted() {
    each(&SIGNALS, &Cloud::new(), |cloud, signal| {
        cloud.begin_anew(|estate| {
            estate.settings.snapshot_delay_ms = 0;
            estate.settings.latency_by_operation_ms = BTreeMap::from([("DeleteSnapshot".to_owned(), 1_000)]);
        });
        let scan = cloud.spawn(SCAN);
        until("a deletion", || cloud.calls("DeleteSnapshot") > 0);
        scan.signal(signal);
        let run = scan.end();
        assert_eq!(run.code(), 0, "{signal}: {}", run.err());
        let report = run.json();
        let fates: Vec<_> = report["snapshots"].as_array().unwrap().iter().map(|one| &one["fate"]).collect();
        assert_eq!(fates, ["gone", "gone"], "{signal}");
        assert_eq!(report["machine"]["hostname"], "debian-fixture", "{signal}");
        assert_eq!(cloud.world().leaks(), Vec::<String>::new(), "{signal}");
    });
}

/// The machines that were not begun are named by their number, and that is no success.
#[test]
fn between_two_machines() {
    let (other, disk) = ("i-0fedcba9876543210", "vol-0cccccccccccccc3");
    let cloud = Cloud::with(|estate| {
        let image = estate.volumes[1].content.image.clone().unwrap();
        estate.volumes.push(volume(disk, image));
        let second: Instance = instance(other, &[("/dev/xvda", disk)]);
        estate.instances.push(second);
        estate.settings.snapshot_delay_ms = 0;
        estate.settings.latency_by_operation_ms = BTreeMap::from([("DeleteSnapshot".to_owned(), 1_000)]);
    });
    let scan = cloud.spawn(&["scan", "instance", MACHINE, other, "--format", "jsonl"]);
    until("a deletion", || cloud.calls("DeleteSnapshot") > 0);
    scan.signal("INT");
    let run = scan.end();
    assert_eq!(run.code(), 2, "{}", run.err());
    assert_eq!(said(&run), ["1 of 2 machines were not scanned: it was stopped"]);
    assert!(run.out().contains("debian-fixture") || run.out().contains("amazon"), "{}", run.out());
    assert_eq!(cloud.calls("CreateSnapshots"), 1);
}

/// What is pending for longer than anybody waits is asked to be deleted, and remembered until it is.
pub fn a_minute_is_waited_for_snapshots_that_stay_pending() {
    let cloud = Cloud::with(|estate| estate.settings.snapshot_delay_ms = 3_600_000);
    let scan = cloud.spawn(SCAN);
    until("the first look at pending snapshots", || cloud.calls("DescribeSnapshots") > 0);
    scan.signal("INT");
    // It waits for a minute.
    let run = scan.end();
    assert_eq!((run.code(), run.out().as_str()), (2, ""), "{}", run.err());
    let snapshots = cloud.world().estate().snapshots;
    let errors = said(&run);
    assert_eq!(errors[0], STOPPED);
    for volume in [ROOT, DATA] {
        let snapshot = snapshots.iter().find(|snapshot| snapshot.volume_id == volume).unwrap();
        let receipt = format!("{} of {volume}", snapshot.id);
        let is_it =
            |error: &String| error.contains(&receipt) && error.ends_with("deletion requested, not confirmed");
        assert!(errors.iter().any(is_it), "{errors:?}");
    }
    // They are still there, and whose they are is known.
    let list = cloud.run(&["snapshots", "list"]);
    assert_eq!(list.out().matches("left by a scan that died here").count(), 2, "{}", list.out());
    cloud.world().change(|estate| {
        estate.snapshots.iter_mut().for_each(|snapshot| snapshot.completes_ms = snapshot.started_ms);
    });
    let purge = cloud.run(&["snapshots", "purge"]);
    assert_eq!(purge.code(), 0, "{}", purge.err());
    assert_eq!(purge.purged("us-east-1"), (2, 0));
    let purge = cloud.run(&["snapshots", "purge"]);
    assert_eq!(purge.purged("us-east-1"), (0, 0));
}

//! What a purge makes of lists that lie, calls that hang, and rights that end; and what a lifecycle leaves to it.

use std::collections::HashSet;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::api::{ErrorKind, Place, SnapshotState};
use crate::lifecycle::SnapshotFault;
use crate::purge::{PurgeOutcome, PurgeReport};
use crate::sweep::{Claim, SweepOptions};
use crate::tags::{DEFAULT_CREATED_BY, ScanId};
use crate::testing::{FakeCompute, Mishap, Process, When, place};

const VOLUMES: [&str; 2] = ["vol-1", "vol-2"];
const LIST: &str = "ec2:DescribeSnapshots";
const DELETE: &str = "ec2:DeleteSnapshot";

fn scan_id() -> ScanId {
    ScanId::random().unwrap()
}

fn outcomes(report: &PurgeReport) -> Vec<&PurgeOutcome> {
    report.receipts.iter().map(|receipt| &receipt.outcome).collect()
}

/// A machine of two disks.
fn machine() -> std::sync::Arc<FakeCompute> {
    FakeCompute::new().with_instance("i-1", &VOLUMES)
}

#[tokio::test(start_paused = true)]
async fn a_scan_is_purged_with_the_value_of_its_own_tag() {
    for is_listed in [true, false] {
        let folder = tempfile::tempdir().unwrap();
        let cloud = machine();
        let scan = scan_id();
        {
            let acme = Process::start_in(place(), "Acme", folder.path(), &cloud);
            let _lock = acme.begin(&scan);
            let order = acme.order(&scan, "i-1", &VOLUMES);
            match is_listed {
                true => assert_eq!(acme.lifecycle.run(&order, &|_| ()).await.unwrap().good.len(), 2),
                // The reply is lost, and the process is killed before it looks.
                false => {
                    let number = cloud.world().calls + 1;
                    cloud.world().mishaps.insert(number, Mishap::Hang(When::After));
                    tokio::select! {
                        _ = acme.lifecycle.run(&order, &|_| ()) => panic!("it ended"),
                        () = cloud.stopped.notified() => {}
                    }
                }
            }
        }
        // Of another scan with that tag nobody knows anything here.
        let stranger = scan_id();
        let tags = [("CreatedBy", "Acme"), ("stillframe:scan-id", stranger.as_str())];
        cloud.plant("snap-stranger", SnapshotState::Completed, &tags);
        let process = Process::start(folder.path(), &cloud);
        let options = SweepOptions { list_only: true, ..SweepOptions::default() };
        let listed = process.purger.sweep(&options).await.unwrap();
        assert_eq!(listed.found.len(), 2, "is listed: {is_listed}");
        assert!(listed.found.iter().all(|found| found.claim == Claim::Dead && found.chosen));
        let all = SweepOptions { all: true, ..SweepOptions::default() };
        let swept = process.purger.sweep(&all).await.unwrap();
        assert_eq!(outcomes(&swept.purged[scan.as_str()]), [&PurgeOutcome::Gone, &PurgeOutcome::Gone]);
        assert_eq!((swept.is_complete(), cloud.calls(DELETE)), (is_listed, 2));
        assert_eq!(cloud.world().snapshots.keys().collect::<Vec<_>>(), ["snap-stranger"]);
    }
}

/// Whichever lists lack what is there.
#[tokio::test(start_paused = true)]
async fn a_stale_list_leaves_nothing_behind() {
    for stale in [vec![1], vec![2], vec![3], vec![1, 2], vec![1, 2, 3, 4], vec![2, 4]] {
        for sweeps in [false, true] {
            let folder = tempfile::tempdir().unwrap();
            let cloud = machine();
            cloud.world().pending_for = Duration::from_secs(20);
            let process = Process::start(folder.path(), &cloud);
            let scan = scan_id();
            let lock = process.begin(&scan);
            let done = process.lifecycle.run(&process.order(&scan, "i-1", &VOLUMES), &|_| ()).await.unwrap();
            assert_eq!((done.good.len(), done.failed.len()), (2, 0));
            let lists = cloud.world().lists;
            cloud.world().stale_lists = stale.iter().map(|number| lists + number).collect();
            let report = match sweeps {
                false => process.purger.purge(&scan).await.unwrap(),
                true => {
                    drop(lock);
                    let mut swept = process.purger.sweep(&SweepOptions::default()).await.unwrap();
                    swept.purged.remove(scan.as_str()).unwrap()
                }
            };
            assert_eq!(cloud.left(), Vec::<String>::new(), "{stale:?}, sweeps: {sweeps}");
            assert!(report.complete, "{stale:?}");
            assert_eq!(cloud.calls(DELETE), 2, "{stale:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_not_there_to_be_deleted_is_gone_when_no_list_has_it() {
    let folder = tempfile::tempdir().unwrap();
    let cloud = machine();
    let process = Process::start(folder.path(), &cloud);
    let scan = scan_id();
    let _lock = process.begin(&scan);
    process.lifecycle.run(&process.order(&scan, "i-1", &VOLUMES), &|_| ()).await.unwrap();
    // Another tool was faster with one of them.
    cloud.world().snapshots.retain(|id, _| !id.ends_with("vol-2"));
    let report = process.purger.purge(&scan).await.unwrap();
    assert_eq!((outcomes(&report), report.complete), (vec![&PurgeOutcome::Gone; 2], true));
    let deleted: Vec<_> = report.receipts.iter().map(|receipt| receipt.deleted.is_some()).collect();
    assert_eq!((deleted, cloud.calls(DELETE)), (vec![true, false], 2));
}

#[tokio::test(start_paused = true)]
async fn scans_wait_through_stale_lists() {
    let folder = tempfile::tempdir().unwrap();
    let cloud = machine();
    cloud.world().pending_for = Duration::from_secs(60);
    cloud.world().stale_lists = HashSet::from([1, 3, 4, 6]);
    let process = Process::start(folder.path(), &cloud);
    let scan = scan_id();
    let _lock = process.begin(&scan);
    let done = process.lifecycle.run(&process.order(&scan, "i-1", &VOLUMES), &|_| ()).await.unwrap();
    assert_eq!((done.good.len(), done.failed), (2, vec![]));
    assert!(process.purger.purge(&scan).await.unwrap().complete);
    assert_eq!(cloud.left(), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn known_snapshots_are_deleted_though_no_list_ever_comes() {
    for slow in [20, 100_000] {
        let folder = tempfile::tempdir().unwrap();
        let cloud = machine();
        let process = Process::start(folder.path(), &cloud);
        let scan = scan_id();
        let lock = process.begin(&scan);
        process.lifecycle.run(&process.order(&scan, "i-1", &VOLUMES), &|_| ()).await.unwrap();
        cloud.world().slow.insert(LIST, Duration::from_secs(slow));
        let started = Instant::now();
        let report = process.purger.purge(&scan).await.unwrap();
        assert!(started.elapsed() <= Duration::from_secs(60), "{:?}", started.elapsed());
        assert_eq!((cloud.calls(DELETE), cloud.left()), (2, vec![]));
        assert_eq!(outcomes(&report), [&PurgeOutcome::Requested, &PurgeOutcome::Requested]);
        assert!(report.list_error.is_some_and(|error| error.kind == ErrorKind::NoReply));
        assert!(!report.complete);
        // Nor does a sweep need one to delete what it knows.
        drop(lock);
        cloud.world().slow.clear();
        let other = scan_id();
        let _lock = process.begin(&other);
        process.lifecycle.run(&process.order(&other, "i-1", &VOLUMES), &|_| ()).await.unwrap();
        cloud.world().refusals.insert(LIST, ErrorKind::Service);
        drop(_lock);
        process.purger.sweep(&SweepOptions::default()).await.unwrap_err();
        assert_eq!(cloud.left(), Vec::<String>::new());
    }
}

#[tokio::test(start_paused = true)]
async fn a_deletion_that_hangs_keeps_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let cloud = machine();
    let process = Process::start(folder.path(), &cloud);
    let scan = scan_id();
    let _lock = process.begin(&scan);
    process.lifecycle.run(&process.order(&scan, "i-1", &VOLUMES), &|_| ()).await.unwrap();
    let next = cloud.world().calls + 1;
    cloud.world().mishaps.insert(next, Mishap::Hang(When::Before));
    let started = Instant::now();
    let report = process.purger.purge(&scan).await.unwrap();
    assert_eq!((outcomes(&report), report.complete), (vec![&PurgeOutcome::Gone; 2], true));
    assert!(started.elapsed() <= Duration::from_secs(30), "{:?}", started.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_recycle_bin_that_does_not_answer_takes_no_longer_than_there_is_time() {
    let folder = tempfile::tempdir().unwrap();
    let cloud = machine();
    let process = Process::start(folder.path(), &cloud);
    let scan = scan_id();
    let _lock = process.begin(&scan);
    process.lifecycle.run(&process.order(&scan, "i-1", &VOLUMES), &|_| ()).await.unwrap();
    cloud.world().slow.insert("ec2:ListSnapshotsInRecycleBin", Duration::from_secs(3600));
    // One is gone; the other is listed as long as it is pending.
    cloud.plant(
        "snap-pending",
        SnapshotState::Pending,
        &[("CreatedBy", DEFAULT_CREATED_BY), ("stillframe:scan-id", scan.as_str())],
    );
    let started = Instant::now();
    let report = process.purger.purge(&scan).await.unwrap();
    assert!(started.elapsed() <= Duration::from_secs(61), "{:?}", started.elapsed());
    assert!(report.recycle_bin_error.is_some_and(|error| error.kind == ErrorKind::NoReply));
    assert_eq!((cloud.calls(DELETE), cloud.left()), (3, vec![]));
}

#[tokio::test(start_paused = true)]
async fn without_credentials_nothing_was_asked_and_others_can_ask() {
    let folder = tempfile::tempdir().unwrap();
    let cloud = machine();
    let process = Process::start(folder.path(), &cloud);
    let scan = scan_id();
    let lock = process.begin(&scan);
    process.lifecycle.run(&process.order(&scan, "i-1", &VOLUMES), &|_| ()).await.unwrap();
    for operation in [LIST, DELETE] {
        cloud.world().refusals.insert(operation, ErrorKind::Credentials);
    }
    let started = Instant::now();
    let report = process.purger.purge(&scan).await.unwrap();
    assert!(started.elapsed() < Duration::from_secs(10), "they do not come back");
    assert!(!report.complete && report.receipts.len() == 2);
    for outcome in outcomes(&report) {
        let PurgeOutcome::NotRequested(Some(error)) = outcome else { panic!("{outcome:?}") };
        assert_eq!(error.kind, ErrorKind::Credentials);
    }
    cloud.world().refusals.clear();
    drop(lock);
    let swept = process.purger.sweep(&SweepOptions::default()).await.unwrap();
    assert!(swept.is_complete());
    assert_eq!(cloud.left(), Vec::<String>::new());
}

/// The one snapshot is seen at once, the other after two minutes and a half, or far later.
#[tokio::test(start_paused = true)]
async fn of_a_lost_reply_all_snapshots_are_waited_for_or_kept_in_mind() {
    for late in [150, 400] {
        let folder = tempfile::tempdir().unwrap();
        let cloud = machine();
        cloud.world().late.insert("vol-2", Duration::from_secs(late));
        cloud.world().mishaps.insert(1, Mishap::Error(ErrorKind::NoReply, When::After));
        let process = Process::start(folder.path(), &cloud);
        let scan = scan_id();
        let lock = process.begin(&scan);
        let done = process.lifecycle.run(&process.order(&scan, "i-1", &VOLUMES), &|_| ()).await.unwrap();
        let report = process.purger.purge(&scan).await.unwrap();
        assert_eq!((cloud.calls("ec2:CreateSnapshots"), cloud.calls("ec2:CreateSnapshot")), (1, 0));
        if late == 150 {
            assert_eq!((done.good.len(), done.failed.len(), report.complete), (2, 0, true));
        } else {
            assert_eq!(done.good.len(), 1, "the other one may be there, and is not made again");
            assert!(matches!(&done.failed[..], [(volume, SnapshotFault::Api(error))]
                if volume == "vol-2" && error.kind == ErrorKind::NoReply));
            assert_eq!((report.unknown_intents, report.complete), (1, false));
            assert_eq!(cloud.left().len(), 1);
            drop(lock);
            let swept = process.purger.sweep(&SweepOptions::default()).await.unwrap();
            assert!(!swept.is_complete(), "the call is younger than ten minutes");
        }
        assert_eq!(cloud.left(), Vec::<String>::new(), "{late}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_lost_reply_that_cannot_be_looked_up_is_followed_by_no_other_call() {
    for (kind, refusal) in [
        (ErrorKind::NoReply, ErrorKind::AccessDenied),
        (ErrorKind::NoReply, ErrorKind::Service),
        (ErrorKind::Service, ErrorKind::NoReply),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let cloud = machine();
        cloud.world().mishaps.insert(1, Mishap::Error(kind, When::After));
        cloud.world().refusals.insert(LIST, refusal);
        let process = Process::start(folder.path(), &cloud);
        let scan = scan_id();
        let lock = process.begin(&scan);
        let done = process.lifecycle.run(&process.order(&scan, "i-1", &VOLUMES), &|_| ()).await.unwrap();
        assert_eq!((done.good.len(), done.failed.len()), (0, 2));
        assert_eq!((cloud.calls("ec2:CreateSnapshots"), cloud.calls("ec2:CreateSnapshot")), (1, 0));
        assert_eq!(process.lifecycle.state.unknown_intents(&scan).unwrap().len(), 1);
        drop(lock);
        cloud.world().refusals.clear();
        process.purger.sweep(&SweepOptions::default()).await.unwrap();
        assert_eq!(cloud.left(), Vec::<String>::new());
    }
}

/// It gets no reply until there is no more time, and nothing is ever seen.
#[tokio::test(start_paused = true)]
async fn calls_that_stay_without_a_reply_are_not_taken_apart() {
    let folder = tempfile::tempdir().unwrap();
    let cloud = machine();
    cloud.world().refusals.insert("ec2:CreateSnapshots", ErrorKind::NoReply);
    let process = Process::start(folder.path(), &cloud);
    let scan = scan_id();
    let _lock = process.begin(&scan);
    let done = process.lifecycle.run(&process.order(&scan, "i-1", &VOLUMES), &|_| ()).await.unwrap();
    assert_eq!((done.good.len(), done.failed.len()), (0, 2));
    assert!(cloud.calls("ec2:CreateSnapshots") > 10);
    assert_eq!(cloud.calls("ec2:CreateSnapshot"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_bad_half_hour_of_lists_fails_no_disk() {
    for kind in [ErrorKind::Service, ErrorKind::Throttled, ErrorKind::NoReply] {
        let folder = tempfile::tempdir().unwrap();
        let cloud = machine();
        cloud.world().pending_for = Duration::from_secs(60);
        let process = Process::start(folder.path(), &cloud);
        let scan = scan_id();
        let _lock = process.begin(&scan);
        cloud.world().refusals.insert(LIST, kind);
        let order = process.order(&scan, "i-1", &VOLUMES);
        let well_again = async {
            sleep(Duration::from_secs(1800)).await;
            cloud.world().refusals.clear();
        };
        let (done, ()) = tokio::join!(process.lifecycle.run(&order, &|_| ()), well_again);
        let done = done.unwrap();
        assert_eq!((done.good.len(), done.failed), (2, vec![]), "{kind:?}");
        assert!(process.purger.purge(&scan).await.unwrap().complete);
    }
    // No longer than the deadline, and not where it is denied.
    for (kind, least, most) in [(ErrorKind::Service, 7200, 7400), (ErrorKind::AccessDenied, 0, 5)] {
        let folder = tempfile::tempdir().unwrap();
        let cloud = machine();
        let process = Process::start(folder.path(), &cloud);
        let scan = scan_id();
        let _lock = process.begin(&scan);
        cloud.world().refusals.insert(LIST, kind);
        let started = Instant::now();
        let done = process.lifecycle.run(&process.order(&scan, "i-1", &VOLUMES), &|_| ()).await.unwrap();
        assert_eq!((done.good.len(), done.failed.len()), (0, 2));
        let took = started.elapsed().as_secs();
        assert!((least..=most).contains(&took), "{kind:?}: {took} s");
        process.purger.purge(&scan).await.unwrap();
        assert_eq!(cloud.left(), Vec::<String>::new());
    }
}

/// Behind an endpoint that ignores filters, after a lost reply.
#[tokio::test(start_paused = true)]
async fn what_is_found_without_our_tags_is_not_taken_for_ours() {
    let folder = tempfile::tempdir().unwrap();
    let cloud = machine();
    cloud.world().ignores_filters = true;
    let other = scan_id();
    for (id, created_by, scan) in
        [("snap-other", DEFAULT_CREATED_BY, other.as_str()), ("snap-copied", "Someone", "0123456789abcdef")]
    {
        let tags =
            [("CreatedBy", created_by), ("stillframe:scan-id", scan), ("stillframe:instance-id", "i-1")];
        cloud.plant(id, SnapshotState::Completed, &tags);
    }
    cloud.world().mishaps.insert(1, Mishap::Error(ErrorKind::NoReply, When::After));
    let process = Process::start(folder.path(), &cloud);
    let scan = scan_id();
    let _lock = process.begin(&scan);
    let done = process.lifecycle.run(&process.order(&scan, "i-1", &VOLUMES), &|_| ()).await.unwrap();
    assert_eq!(done.good.len(), 2);
    assert!(done.good.iter().all(|snapshot| VOLUMES.contains(&snapshot.volume_id.as_str())));
    assert!(process.purger.purge(&scan).await.unwrap().complete);
    assert_eq!(cloud.world().snapshots.keys().collect::<Vec<_>>(), ["snap-copied", "snap-other"]);
}

/// Copies in another region bear the id of the scan that made the original.
#[tokio::test(start_paused = true)]
async fn a_scan_of_another_region_is_not_this_one_s() {
    let folder = tempfile::tempdir().unwrap();
    let (here, there) = (machine(), FakeCompute::new());
    let scan = scan_id();
    {
        let process = Process::start(folder.path(), &here);
        let _lock = process.begin(&scan);
        process.lifecycle.run(&process.order(&scan, "i-1", &VOLUMES), &|_| ()).await.unwrap();
    }
    let expired = "2020-01-01T00:00:00Z";
    let copy = |expires: &str| {
        let tags = [
            ("CreatedBy", DEFAULT_CREATED_BY),
            ("stillframe:scan-id", scan.as_str()),
            ("stillframe:expires-at", expires),
        ];
        there.plant("snap-copy", SnapshotState::Completed, &tags);
    };
    copy("2100-01-01T00:00:00Z");
    let region = Place { region: "eu-west-1".to_owned(), ..place() };
    let elsewhere = Process::start_in(region, DEFAULT_CREATED_BY, folder.path(), &there);
    let swept = elsewhere.purger.sweep(&SweepOptions::default()).await.unwrap();
    assert!(matches!(swept.found[0].claim, Claim::Unexpired(Some(_))) && swept.purged.is_empty());
    copy(expired);
    let swept = elsewhere.purger.sweep(&SweepOptions::default()).await.unwrap();
    let receipts = &swept.purged[scan.as_str()].receipts;
    assert_eq!(receipts.iter().map(|one| one.snapshot_id.as_str()).collect::<Vec<_>>(), ["snap-copy"]);
    assert_eq!((there.left().len(), there.calls(DELETE), here.left().len()), (0, 1, 2));
    // What the store says of the others is as it was.
    let rows = elsewhere.purger.state.snapshots(&scan).unwrap();
    assert!(rows.len() == 2 && rows.iter().all(|row| row.gone.is_none() && row.deleted.is_none()));
    assert!(elsewhere.purger.state.scan(&scan).unwrap().unwrap().closed.is_none());
    let process = Process::start(folder.path(), &here);
    assert!(process.purger.sweep(&SweepOptions::default()).await.unwrap().is_complete());
    assert_eq!(here.left(), Vec::<String>::new());
}

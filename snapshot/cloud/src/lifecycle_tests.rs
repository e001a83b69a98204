//! One scan's snapshots from intent to purge, against the fake of the compute API.

use std::sync::Mutex;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::api::{ErrorKind, SnapshotState, Tags};
use crate::lifecycle::{Progress, SnapshotFault};
use crate::purge::{PurgeGuard, PurgeOutcome, PurgeReport};
use crate::tags::ScanId;
use crate::testing::{FakeCompute, Mishap, Process, When};

fn scan_id() -> ScanId {
    ScanId::random().unwrap()
}

fn outcomes(report: &PurgeReport) -> Vec<&PurgeOutcome> {
    report.receipts.iter().map(|receipt| &receipt.outcome).collect()
}

#[tokio::test(start_paused = true)]
async fn a_set_is_tagged_at_birth_waited_for_and_purged_with_receipts() {
    let folder = tempfile::tempdir().unwrap();
    let cloud = FakeCompute::new().with_instance("i-1", &["vol-root", "vol-data"]);
    cloud.world().pending_for = Duration::from_secs(90);
    let process = Process::start(folder.path(), &cloud);
    let scan = scan_id();
    let lock = process.begin(&scan);
    let mut order = process.order(&scan, "i-1", &["vol-root", "vol-data"]);
    order.user_tags = Tags::from([("team".to_owned(), "blue".to_owned())]);
    let seen = Mutex::new(Vec::new());
    let said = |progress: Progress| seen.lock().unwrap().push((progress.completed, progress.total));
    let done = process.lifecycle.run(&order, &said).await.unwrap();
    assert_eq!((done.good.len(), done.failed.len()), (2, 0));
    assert_eq!(done.good[0].state, SnapshotState::Completed);
    let keys: Vec<_> = done.good[0].tags.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let expires = order.expires_at;
    assert_eq!(
        keys,
        [
            "CreatedBy=Microsoft Defender for Cloud".to_owned(),
            format!("stillframe:expires-at={expires}"),
            "stillframe:instance-id=i-1".to_owned(),
            format!("stillframe:scan-id={scan}"),
            "team=blue".to_owned(),
        ]
    );
    let seen = seen.into_inner().unwrap();
    assert_eq!((seen.first(), seen.last()), (Some(&(0, 2)), Some(&(2, 2))));
    assert!(seen.len() < 20, "{} polls for 90 s", seen.len());

    let report = process.purger.purge(&scan).await.unwrap();
    assert!(report.complete);
    assert_eq!(report.receipts.len(), 2);
    for receipt in &report.receipts {
        assert_eq!(receipt.outcome, PurgeOutcome::Gone);
        assert!(receipt.completed.unwrap() > receipt.created && receipt.deleted >= receipt.completed);
        assert!(receipt.confirmed > receipt.deleted && receipt.lifetime >= Duration::from_secs(90));
    }
    assert_eq!(cloud.left(), Vec::<String>::new());
    assert!(process.lifecycle.state.scan(&scan).unwrap().unwrap().closed.is_some());
    lock.finish();
    let log = folder.path().join("audit.jsonl");
    // Requested and answered, for one set and two deletions.
    assert_eq!(crate::audit::verify(&log).unwrap().lines, 6);
    let sets = cloud.world().log.iter().filter(|call| *call == "ec2:CreateSnapshots").count();
    assert_eq!(sets, 1);
}

#[tokio::test(start_paused = true)]
async fn a_set_that_fails_is_followed_by_a_call_for_each_volume() {
    for failing in [When::Before, When::After] {
        let folder = tempfile::tempdir().unwrap();
        let cloud = FakeCompute::new().with_instance("i-1", &["vol-root", "vol-data"]);
        cloud.world().failing_sets = Some(failing);
        cloud.world().volume_rate = true;
        cloud.world().pending_for = Duration::from_secs(5);
        let process = Process::start(folder.path(), &cloud);
        let scan = scan_id();
        let _lock = process.begin(&scan);
        let order = process.order(&scan, "i-1", &["vol-root", "vol-data"]);
        let started = Instant::now();
        let done = process.lifecycle.run(&order, &|_| ()).await.unwrap();
        assert_eq!((done.good.len(), done.failed), (2, vec![]), "{failing:?}");
        assert!(started.elapsed() >= Duration::from_secs(15), "the volumes' rate is kept");
        let report = process.purger.purge(&scan).await.unwrap();
        assert!(report.complete);
        assert_eq!(report.receipts.len(), 4, "the failed ones are deleted too");
        assert_eq!(cloud.left(), Vec::<String>::new());
    }
    // One that may not be called at all.
    let folder = tempfile::tempdir().unwrap();
    let cloud = FakeCompute::new().with_instance("i-1", &["vol-root", "vol-data"]);
    cloud.world().refusals.insert("ec2:CreateSnapshots", ErrorKind::AccessDenied);
    let process = Process::start(folder.path(), &cloud);
    let scan = scan_id();
    let _lock = process.begin(&scan);
    let order = process.order(&scan, "i-1", &["vol-root", "vol-data"]);
    let done = process.lifecycle.run(&order, &|_| ()).await.unwrap();
    assert_eq!((done.good.len(), done.failed.len()), (2, 0));
}

#[tokio::test(start_paused = true)]
async fn what_the_cloud_refuses_for_now_is_waited_for_and_no_longer_than_the_deadline() {
    let folder = tempfile::tempdir().unwrap();
    let cloud = FakeCompute::new().with_instance("i-1", &["vol-1"]);
    cloud.world().volume_rate = true;
    cloud.world().pending_for = Duration::from_secs(120);
    cloud.world().pending_limit = Some(2);
    for _ in 0..2 {
        // Others' snapshots, pending for an hour.
        cloud.plant(&scan_id().to_string(), SnapshotState::Pending, &[]);
    }
    let process = Process::start(folder.path(), &cloud);
    let scan = scan_id();
    let _lock = process.begin(&scan);
    let order = process.order(&scan, "i-1", &["vol-1"]);
    let started = Instant::now();
    let done = process.lifecycle.run(&order, &|_| ()).await.unwrap();
    assert!(matches!(&done.failed[..], [(volume, SnapshotFault::Api(error))]
        if volume == "vol-1" && error.kind == ErrorKind::PendingSnapshots));
    let waited = started.elapsed();
    // Half an hour for the set, half an hour for the volume.
    assert!(waited >= Duration::from_secs(3000) && waited <= Duration::from_secs(3720), "{waited:?}");
    let done = process.lifecycle.run(&order, &|_| ()).await.unwrap();
    assert_eq!((done.good.len(), done.failed.len()), (1, 0), "the others are completed now");
    let at = Instant::now();
    let done = process.lifecycle.create(&order).await.unwrap();
    assert_eq!((done.good.len(), done.failed.len()), (1, 0));
    let again = process.lifecycle.create(&order).await.unwrap();
    assert_eq!((again.good.len(), again.failed.len()), (1, 0));
    assert!(at.elapsed() >= Duration::from_secs(15) && at.elapsed() <= Duration::from_secs(22));
}

#[tokio::test(start_paused = true)]
async fn who_watches_is_told_why_nothing_is_made_and_how_long_that_is_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let cloud = FakeCompute::new().with_instance("i-1", &["vol-1"]);
    cloud.world().volume_rate = true;
    let process = Process::start(folder.path(), &cloud);
    let scan = scan_id();
    let _lock = process.begin(&scan);
    let order = process.order(&scan, "i-1", &["vol-1"]);
    process.lifecycle.create(&order).await.unwrap();
    let told = Mutex::new(Vec::new());
    let tell = |progress: Progress| told.lock().unwrap().extend(progress.refused);
    let done = process.lifecycle.run(&order, &tell).await.unwrap();
    assert_eq!((done.good.len(), done.failed.len()), (1, 0));
    let told = told.into_inner().unwrap();
    let [(ErrorKind::VolumeRate, wait)] = told[..] else { panic!("{told:?}") };
    assert!((15..=20).contains(&wait.as_secs()), "{wait:?}");
}

#[tokio::test(start_paused = true)]
async fn a_lost_reply_is_looked_for_before_another_call() {
    for (visible_after, calls) in [(0, 1), (20, 1), (100, 2)] {
        let folder = tempfile::tempdir().unwrap();
        let cloud = FakeCompute::new().with_instance("i-1", &["vol-1", "vol-2"]);
        cloud.world().visible_after = Duration::from_secs(visible_after);
        cloud.world().mishaps.insert(1, Mishap::Error(ErrorKind::NoReply, When::After));
        let process = Process::start(folder.path(), &cloud);
        let scan = scan_id();
        let _lock = process.begin(&scan);
        let order = process.order(&scan, "i-1", &["vol-1", "vol-2"]);
        let done = process.lifecycle.run(&order, &|_| ()).await.unwrap();
        assert_eq!((done.good.len(), done.failed.len()), (2, 0), "visible after {visible_after} s");
        let sets = cloud.world().log.iter().filter(|call| *call == "ec2:CreateSnapshots").count();
        assert_eq!(sets, calls, "visible after {visible_after} s");
        let report = process.purger.purge(&scan).await.unwrap();
        assert_eq!(report.receipts.len(), 2 * calls, "those of both calls are deleted");
        assert_eq!(cloud.left(), Vec::<String>::new());
        assert_eq!(report.complete, calls == 1, "an unknown call is looked for longer");
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_that_never_ends_is_a_lost_reply() {
    let folder = tempfile::tempdir().unwrap();
    let cloud = FakeCompute::new().with_instance("i-1", &["vol-1"]);
    cloud.world().mishaps.insert(1, Mishap::Hang(When::After));
    let process = Process::start(folder.path(), &cloud);
    let scan = scan_id();
    let _lock = process.begin(&scan);
    let done = process.lifecycle.run(&process.order(&scan, "i-1", &["vol-1"]), &|_| ()).await.unwrap();
    assert_eq!(done.good.len(), 1);
    assert!(process.purger.purge(&scan).await.unwrap().complete);
    assert_eq!(cloud.left(), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_that_is_deleted_under_us_or_never_shows_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let cloud = FakeCompute::new().with_instance("i-1", &["vol-1", "vol-2"]);
    cloud.world().pending_for = Duration::from_secs(600);
    let process = Process::start(folder.path(), &cloud);
    let scan = scan_id();
    let _lock = process.begin(&scan);
    let order = process.order(&scan, "i-1", &["vol-1", "vol-2"]);
    let run = process.lifecycle.run(&order, &|_| ());
    let other = async {
        sleep(Duration::from_secs(60)).await;
        cloud.world().snapshots.retain(|id, _| !id.ends_with("vol-2"));
    };
    let (done, ()) = tokio::join!(run, other);
    let done = done.unwrap();
    assert_eq!(done.good.len(), 1);
    assert_eq!(done.failed, [("vol-2".to_owned(), SnapshotFault::Vanished)]);
    assert!(process.purger.purge(&scan).await.unwrap().complete);

    cloud.world().visible_after = Duration::from_secs(100_000);
    let scan = scan_id();
    let _lock = process.begin(&scan);
    let order = process.order(&scan, "i-1", &["vol-1", "vol-2"]);
    let done = process.lifecycle.run(&order, &|_| ()).await.unwrap();
    assert_eq!(done.failed[0].1, SnapshotFault::NotListed);
    assert_eq!(done.failed.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn what_is_pending_at_the_deadline_is_requested_and_kept_in_mind() {
    let folder = tempfile::tempdir().unwrap();
    let cloud = FakeCompute::new().with_instance("i-1", &["vol-1"]);
    cloud.world().pending_for = Duration::from_secs(3600);
    let process = Process::start(folder.path(), &cloud);
    let scan = scan_id();
    let lock = process.begin(&scan);
    process.lifecycle.create(&process.order(&scan, "i-1", &["vol-1"])).await.unwrap();
    let started = Instant::now();
    let report = process.purger.purge(&scan).await.unwrap();
    assert!(started.elapsed() <= Duration::from_secs(61));
    assert_eq!((outcomes(&report), report.complete), (vec![&PurgeOutcome::Requested], false));
    assert!(report.receipts[0].deleted.is_some() && report.receipts[0].confirmed.is_none());
    assert_eq!(cloud.left(), Vec::<String>::new());
    drop(lock);
    sleep(Duration::from_secs(3600)).await;
    let swept = process.purger.sweep(&Default::default()).await.unwrap();
    assert!(swept.is_complete() && swept.purged.len() == 1);
    assert_eq!(outcomes(&swept.purged[scan.as_str()]), [&PurgeOutcome::Gone]);
    assert!(process.purger.sweep(&Default::default()).await.unwrap().purged.is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_deleted_or_only_into_the_recycle_bin_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let cloud = FakeCompute::new().with_instance("i-1", &["vol-1", "vol-2"]);
    cloud.world().recycle_bin = true;
    let process = Process::start(folder.path(), &cloud);
    let scan = scan_id();
    let _lock = process.begin(&scan);
    let done =
        process.lifecycle.run(&process.order(&scan, "i-1", &["vol-1", "vol-2"]), &|_| ()).await.unwrap();
    let locked = done.good[0].id.clone();
    cloud.world().snapshots.get_mut(&locked).unwrap().locked = true;
    let started = Instant::now();
    let report = process.purger.purge(&scan).await.unwrap();
    assert!(started.elapsed() < Duration::from_secs(10), "a lock is not waited for");
    assert!(!report.complete);
    for receipt in &report.receipts {
        if receipt.snapshot_id == locked {
            assert!(matches!(&receipt.outcome, PurgeOutcome::Kept(error) if error.kind == ErrorKind::InUse));
        } else {
            assert_eq!(receipt.outcome, PurgeOutcome::InRecycleBin);
        }
    }
    cloud.world().snapshots.get_mut(&locked).unwrap().locked = false;
    assert!(process.purger.purge(&scan).await.unwrap().complete);
}

#[tokio::test(start_paused = true)]
async fn recorded_snapshots_are_deleted_even_where_nothing_can_be_listed() {
    let folder = tempfile::tempdir().unwrap();
    let cloud = FakeCompute::new().with_instance("i-1", &["vol-1"]);
    let process = Process::start(folder.path(), &cloud);
    let scan = scan_id();
    let _lock = process.begin(&scan);
    process.lifecycle.run(&process.order(&scan, "i-1", &["vol-1"]), &|_| ()).await.unwrap();
    cloud.world().refusals.insert("ec2:DescribeSnapshots", ErrorKind::AccessDenied);
    let report = process.purger.purge(&scan).await.unwrap();
    assert_eq!(outcomes(&report), [&PurgeOutcome::Requested]);
    assert!(report.list_error.is_some() && !report.complete);
    assert_eq!(cloud.left(), Vec::<String>::new());
}

/// As where its disk is full.
#[tokio::test(start_paused = true)]
async fn a_store_that_cannot_be_written_or_read_keeps_nothing_alive() {
    for (harm, is_readable) in [
        ("CREATE TRIGGER full BEFORE INSERT ON snapshots BEGIN SELECT RAISE(FAIL, 'full'); END", true),
        ("DROP TABLE snapshots", false),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let cloud = FakeCompute::new().with_instance("i-1", &["vol-1", "vol-2"]);
        cloud.world().pending_for = Duration::from_secs(5);
        let process = Process::start(folder.path(), &cloud);
        let scan = scan_id();
        let _lock = process.begin(&scan);
        let order = process.order(&scan, "i-1", &["vol-1", "vol-2"]);
        process.lifecycle.create(&order).await.unwrap();
        rusqlite::Connection::open(process.purger.state.path()).unwrap().execute_batch(harm).unwrap();
        assert_eq!(cloud.left().len(), 2);
        let report = process.purger.purge(&scan).await;
        assert_eq!(cloud.left(), Vec::<String>::new(), "{harm}");
        assert_eq!(report.is_ok(), is_readable, "{harm}");
        if let Ok(report) = report {
            assert_eq!(outcomes(&report), [&PurgeOutcome::Gone, &PurgeOutcome::Gone]);
        }
    }
}

#[test]
fn a_panic_purges() {
    let folder = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    for on_the_runtime in [false, true] {
        let (cloud, guard) = runtime.block_on(async {
            let cloud = FakeCompute::new().with_instance("i-1", &["vol-1"]);
            let process = Process::start(folder.path(), &cloud);
            let scan = scan_id();
            let _lock = process.begin(&scan);
            let guard = PurgeGuard::new(process.purger.clone(), scan.clone());
            process.lifecycle.run(&process.order(&scan, "i-1", &["vol-1"]), &|_| ()).await.unwrap();
            assert_eq!(cloud.left().len(), 1);
            (cloud, guard)
        });
        let fails = move || {
            let _guard = guard;
            panic!("on purpose");
        };
        let ended = if on_the_runtime {
            runtime.block_on(runtime.spawn(async { fails() })).is_err()
        } else {
            std::thread::spawn(fails).join().is_err()
        };
        assert!(ended);
        let _context = runtime.enter();
        assert_eq!(cloud.left(), Vec::<String>::new(), "on the runtime: {on_the_runtime}");
    }
}

//! Nothing is left, wherever a scan is killed and whatever fails: the process is ended at every call and at every point
//! where it waits, a fresh one sweeps, and the cloud is asked.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::time::sleep;

use crate::api::{ErrorKind, SnapshotState};
use crate::sweep::{Claim, SweepOptions};
use crate::tags::{DEFAULT_CREATED_BY, ScanId};
use crate::testing::{FakeCompute, Mishap, Process, When};

const NONE: [String; 0] = [];

fn cloud(pending: u64, visible: u64) -> Arc<FakeCompute> {
    let cloud = FakeCompute::new().with_instance("i-1", &["vol-1", "vol-2"]);
    {
        let mut world = cloud.world();
        world.pending_for = Duration::from_secs(pending);
        world.visible_after = Duration::from_secs(visible);
        world.volume_rate = true;
    }
    // Others' things, which must stay.
    cloud.plant("snap-defender", SnapshotState::Completed, &[("CreatedBy", DEFAULT_CREATED_BY)]);
    cloud.plant("snap-copied", SnapshotState::Completed, &[("stillframe:scan-id", "0123456789abcdef")]);
    let odd = [("CreatedBy", DEFAULT_CREATED_BY), ("stillframe:scan-id", "../../etc")];
    cloud.plant("snap-odd", SnapshotState::Pending, &odd);
    cloud
}

/// A whole scan, but for the reading.
async fn scan(process: &Process) {
    let scan = ScanId::random().unwrap();
    let lock = process.begin(&scan);
    let order = process.order(&scan, "i-1", &["vol-1", "vol-2"]);
    process.lifecycle.run(&order, &|_| ()).await.unwrap();
    if process.purger.purge(&scan).await.unwrap().complete {
        lock.finish();
    }
}

/// Runs `work` until it has waited `waits` times, then drops it. Whether it ended before.
async fn kill_after(waits: usize, work: impl Future<Output = ()>) -> bool {
    let mut work = pin!(work);
    let mut polls = 0;
    std::future::poll_fn(|context| {
        polls += 1;
        match work.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(true),
            Poll::Pending if polls >= waits => Poll::Ready(false),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

/// A fresh process sweeps, now and once more later, as a scheduler would.
async fn sweep_until_clean(folder: &std::path::Path, cloud: &Arc<FakeCompute>, case: &str) {
    let process = Process::start(folder, cloud);
    for _ in 0..4 {
        // What fails at a call may fail at one of these.
        if let Ok(report) = process.purger.sweep(&SweepOptions::default()).await {
            assert!(report.alive.is_empty(), "{case}");
            if report.is_complete() {
                break;
            }
        }
        sleep(Duration::from_secs(300)).await;
    }
    assert_eq!(cloud.left(), NONE, "{case}");
    let report = process.purger.sweep(&SweepOptions::default()).await.unwrap();
    assert!(report.is_complete() && report.purged.is_empty(), "{case}: {report:?}");
    let world = cloud.world();
    for stays in ["snap-defender", "snap-copied", "snap-odd"] {
        assert!(world.snapshots.contains_key(stays), "{case}: {stays} is not ours");
    }
}

#[tokio::test(start_paused = true)]
async fn killed_at_every_call_nothing_is_left() {
    let mut points = 0;
    for (pending, visible) in [(20, 0), (20, 30), (0, 0), (900, 100)] {
        for failing in [None, Some(When::Before)] {
            for when in [When::Before, When::After] {
                for number in 1.. {
                    let folder = tempfile::tempdir().unwrap();
                    let cloud = cloud(pending, visible);
                    cloud.world().failing_sets = failing;
                    cloud.world().mishaps.insert(number, Mishap::Hang(when));
                    let ended = {
                        let process = Process::start(folder.path(), &cloud);
                        tokio::select! {
                            () = scan(&process) => true,
                            () = cloud.stopped.notified() => false,
                        }
                    };
                    let case = format!("call {number} {when:?}, pending {pending}, visible {visible}");
                    sweep_until_clean(folder.path(), &cloud, &case).await;
                    if ended {
                        break;
                    }
                    points += 1;
                }
            }
        }
    }
    assert!(points >= 150, "{points} points");
}

#[tokio::test(start_paused = true)]
async fn killed_at_every_wait_nothing_is_left() {
    let mut points = 0;
    for (pending, visible) in [(20, 0), (3, 40)] {
        for waits in 1.. {
            let folder = tempfile::tempdir().unwrap();
            let cloud = cloud(pending, visible);
            cloud.world().failing_sets = Some(When::After);
            cloud.world().mishaps.insert(1, Mishap::Error(ErrorKind::NoReply, When::After));
            let ended = {
                let process = Process::start(folder.path(), &cloud);
                kill_after(waits, scan(&process)).await
            };
            sweep_until_clean(folder.path(), &cloud, &format!("wait {waits}, visible {visible}")).await;
            if ended {
                break;
            }
            points += 1;
        }
    }
    assert!(points >= 80, "{points} points");
}

#[tokio::test(start_paused = true)]
async fn cancelled_at_every_wait_the_scan_itself_purges() {
    for waits in 1.. {
        let folder = tempfile::tempdir().unwrap();
        let cloud = cloud(20, 0);
        let process = Process::start(folder.path(), &cloud);
        let scan = ScanId::random().unwrap();
        let lock = process.begin(&scan);
        let order = process.order(&scan, "i-1", &["vol-1", "vol-2"]);
        let ended = kill_after(waits, async {
            process.lifecycle.run(&order, &|_| ()).await.unwrap();
        })
        .await;
        process.purger.purge(&scan).await.unwrap();
        assert_eq!(cloud.left(), NONE, "wait {waits}");
        drop(lock);
        sweep_until_clean(folder.path(), &cloud, &format!("wait {waits}")).await;
        if ended {
            assert!(waits > 10);
            break;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn whatever_fails_at_any_call_nothing_is_left() {
    let failures = [
        (ErrorKind::Throttled, When::Before),
        (ErrorKind::Service, When::Before),
        (ErrorKind::Service, When::After),
        (ErrorKind::NoReply, When::Before),
        (ErrorKind::NoReply, When::After),
        (ErrorKind::AccessDenied, When::Before),
        (ErrorKind::VolumeRate, When::Before),
        (ErrorKind::Other, When::Before),
    ];
    for (kind, when) in failures {
        for visible in [0, 70] {
            for number in 1..=12 {
                let folder = tempfile::tempdir().unwrap();
                let cloud = cloud(10, visible);
                cloud.world().mishaps.insert(number, Mishap::Error(kind, when));
                scan(&Process::start(folder.path(), &cloud)).await;
                let case = format!("{kind:?} {when:?} at call {number}, visible {visible}");
                sweep_until_clean(folder.path(), &cloud, &case).await;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn two_scans_at_once_leave_each_other_alone() {
    let folder = tempfile::tempdir().unwrap();
    let cloud = cloud(20, 0).with_instance("i-2", &["vol-3"]);
    let one = Process::start(folder.path(), &cloud);
    let two = Process::start(folder.path(), &cloud);
    let (first, second) = (ScanId::random().unwrap(), ScanId::random().unwrap());
    let (first_lock, second_lock) = (one.begin(&first), two.begin(&second));
    let (first_order, second_order) =
        (one.order(&first, "i-1", &["vol-1", "vol-2"]), two.order(&second, "i-2", &["vol-3"]));
    let (a, b) =
        tokio::join!(one.lifecycle.run(&first_order, &|_| ()), two.lifecycle.run(&second_order, &|_| ()));
    assert_eq!((a.unwrap().good.len(), b.unwrap().good.len()), (2, 1));
    // A third process sweeps everything that it may: nothing.
    let third = Process::start(folder.path(), &cloud);
    let all = SweepOptions { all: true, ..SweepOptions::default() };
    let report = third.purger.sweep(&all).await.unwrap();
    assert_eq!((report.alive.len(), report.purged.len(), report.found.len()), (2, 0, 3));
    assert!(report.found.iter().all(|found| found.claim == Claim::Alive && !found.chosen));
    assert_eq!(cloud.left().len(), 3);
    // The first ends; the second's stay.
    assert!(one.purger.purge(&first).await.unwrap().complete);
    first_lock.finish();
    assert_eq!(cloud.left().len(), 1);
    // The second dies.
    drop(second_lock);
    let report = third.purger.sweep(&SweepOptions::default()).await.unwrap();
    assert_eq!((report.alive.len(), report.purged.len(), report.is_complete()), (0, 1, true));
    assert_eq!(cloud.left(), NONE);
}

#[tokio::test(start_paused = true)]
async fn a_lost_state_store_leaves_what_has_not_expired_unless_all_is_asked_for() {
    for all in [false, true] {
        let (folder, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let cloud = cloud(20, 0);
        {
            let process = Process::start(folder.path(), &cloud);
            let scan = ScanId::random().unwrap();
            let _lock = process.begin(&scan);
            let order = process.order(&scan, "i-1", &["vol-1", "vol-2"]);
            process.lifecycle.run(&order, &|_| ()).await.unwrap();
        }
        let other = Process::start(elsewhere.path(), &cloud);
        let options = SweepOptions { all, ..SweepOptions::default() };
        let report = other.purger.sweep(&options).await.unwrap();
        assert!(report.found.iter().all(|found| matches!(found.claim, Claim::Unexpired(Some(_)))));
        assert_eq!(report.found.len(), 2);
        assert_eq!(cloud.left().len(), if all { 0 } else { 2 });
        sleep(Duration::from_secs(2 * 3600)).await;
        let report = other.purger.sweep(&SweepOptions::default()).await.unwrap();
        assert!(report.is_complete());
        assert_eq!(cloud.left(), NONE);
        let world = cloud.world();
        assert!(
            ["snap-defender", "snap-copied", "snap-odd"].iter().all(|id| world.snapshots.contains_key(*id))
        );
    }
}

#[tokio::test(start_paused = true)]
async fn only_what_is_older_is_swept_and_listing_touches_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let cloud = cloud(0, 0);
    {
        let process = Process::start(folder.path(), &cloud);
        let scan = ScanId::random().unwrap();
        let _lock = process.begin(&scan);
        process.lifecycle.run(&process.order(&scan, "i-1", &["vol-1"]), &|_| ()).await.unwrap();
    }
    let process = Process::start(folder.path(), &cloud);
    let hour = SweepOptions { older_than: Some(Duration::from_secs(3600)), ..SweepOptions::default() };
    let report = process.purger.sweep(&hour).await.unwrap();
    assert!(report.found.iter().all(|found| found.claim == Claim::TooYoung) && report.purged.is_empty());
    sleep(Duration::from_secs(3700)).await;
    let list = SweepOptions { list_only: true, ..hour.clone() };
    let report = process.purger.sweep(&list).await.unwrap();
    assert!(report.found.iter().all(|found| found.claim == Claim::Dead && found.chosen));
    assert_eq!(cloud.left().len(), 2);
    assert!(process.purger.sweep(&hour).await.unwrap().is_complete());
    assert_eq!(cloud.left(), NONE);
}

#[tokio::test(start_paused = true)]
async fn a_list_that_holds_more_than_was_asked_for_is_not_trusted() {
    let folder = tempfile::tempdir().unwrap();
    let cloud = cloud(20, 0).with_instance("i-2", &["vol-3"]);
    cloud.world().ignores_filters = true;
    let other = ScanId::random().unwrap();
    let living = Process::start(folder.path(), &cloud);
    let _lock = living.begin(&other);
    let order = living.order(&other, "i-2", &["vol-3"]);
    living.lifecycle.run(&order, &|_| ()).await.unwrap();
    // Another scan comes and goes.
    scan(&living).await;
    assert_eq!(cloud.left().len(), 1, "the other scan's");
    let all = SweepOptions { all: true, ..SweepOptions::default() };
    living.purger.sweep(&all).await.unwrap();
    assert_eq!(cloud.left().len(), 1, "the living scan's");
    let world = cloud.world();
    assert!(["snap-defender", "snap-copied", "snap-odd"].iter().all(|id| world.snapshots.contains_key(*id)));
}

#[tokio::test(start_paused = true)]
async fn many_pages_are_all_swept() {
    let folder = tempfile::tempdir().unwrap();
    let cloud = cloud(0, 0);
    cloud.world().page_items = 7;
    for number in 0..50 {
        let scan = format!("{number:016}");
        let tags = [
            ("CreatedBy", DEFAULT_CREATED_BY),
            ("stillframe:scan-id", scan.as_str()),
            ("stillframe:expires-at", "2020-01-01T00:00:00Z"),
        ];
        cloud.plant(&format!("snap-{number:04}-old"), SnapshotState::Completed, &tags);
    }
    let process = Process::start(folder.path(), &cloud);
    let report = process.purger.sweep(&SweepOptions::default()).await.unwrap();
    assert_eq!((report.found.len(), report.purged.len(), report.is_complete()), (50, 50, true));
    assert_eq!(cloud.left(), NONE);
}

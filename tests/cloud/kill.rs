//! Nothing left: the program is killed at every call that it makes, and a fresh process cleans up.

use std::sync::atomic::{AtomicUsize, Ordering};

use fake_aws::{Estate, Event, Fault, Hold, Rule};
use stillframe_cloud::audit;

use crate::harness::{Cloud, MACHINE, Process, Run, each, until};

const SCAN: &[&str] = &["scan", "instance", MACHINE, "--format", "json"];
const PURGE: &[&str] = &["snapshots", "purge", "--wait", "3s"];
const UNKNOWN: &str = "1 call to create snapshots was not confirmed, and may still have made some";

/// An event of the log, and whether the program is killed before the call has its effect or before it gets the reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Point {
    event: u64,
    before: bool,
}

/// Starts the program and kills it at the point. How many snapshots were there then that nobody had deleted; `None` where
/// it came to its end before.
fn kill_at(cloud: &Cloud, arguments: &[&str], point: Point) -> Option<usize> {
    cloud.world().hold(Hold { event: point.event, before: point.before, is_reached: false });
    let mut process = cloud.spawn(arguments);
    until("the point or the end", || cloud.world().counters().held || process.has_ended());
    if !cloud.world().counters().held {
        cloud.world().release();
        let run = process.end();
        assert_eq!(run.code(), 0, "{point:?}: {}", run.err());
        return None;
    }
    kill(cloud, process);
    Some(cloud.ours().len())
}

/// What the process had asked and was not answered yet never has an effect.
fn kill(cloud: &Cloud, process: Process) {
    process.kill();
    cloud.no_call_is_under_way();
    cloud.world().release();
}

/// A fresh process deletes what is left, and says so.
fn clean_up(cloud: &Cloud, point: Point, left: usize, creates: u64) {
    let run = cloud.run(PURGE);
    let said = format!("{point:?}: {}{}", run.out(), run.err());
    assert_eq!(cloud.world().leaks(), Vec::<String>::new(), "{said}");
    assert_eq!(nothing_is_listed(cloud), Ok(()), "{said}");
    // Whoever was killed while it created cannot know whether more turns up, and that is said until it must have.
    assert_eq!(run.code(), if point.event == creates { 2 } else { 0 }, "{said}");
    assert_eq!(is_unknown(&run), point.event == creates, "{said}");
    // Snapshots that the scan itself had deleted, and had not seen to be gone, have a receipt too.
    let deleted_by_scan = cloud.world().estate().snapshots.len() - left;
    if deleted_by_scan == 0 {
        assert_eq!(run.purged("us-east-1"), (left, 0), "{said}");
    }
    let log = audit::verify(&cloud.path("state/stillframe/audit.jsonl"));
    assert!(log.is_ok(), "{log:?} {said}");
}

/// Whether it is said that a call that creates may have had an effect that nobody sees yet, and nothing else is wrong.
fn is_unknown(run: &Run) -> bool {
    let errors = run.errors();
    assert!(
        errors.iter().all(|(error, hint)| error == UNKNOWN && hint.contains("snapshots purge")),
        "{errors:?}"
    );
    errors.len() == 1
}

/// Also those whose deletion waited for them to be completed are gone.
fn nothing_is_listed(cloud: &Cloud) -> Result<(), String> {
    let estate = cloud.world().estate();
    let now_ms = u64::try_from(jiff::Timestamp::now().as_millisecond()).unwrap();
    match estate.snapshots.iter().find(|snapshot| !snapshot.is_gone(now_ms)) {
        Some(snapshot) => Err(format!("{} is still there", snapshot.id)),
        None => Ok(()),
    }
}

/// Kills scans at each of the points, each in a world of its own. How many of them were reached, and how many left something.
fn kill_at_each(points: &[Point], creates: u64, change: impl Fn(&mut Estate) + Sync) -> (usize, usize) {
    let (reached, leaving) = (AtomicUsize::new(0), AtomicUsize::new(0));
    each(points, &Cloud::new(), |cloud, point| {
        cloud.begin_anew(&change);
        let Some(left) = kill_at(cloud, SCAN, *point) else { return };
        reached.fetch_add(1, Ordering::Relaxed);
        leaving.fetch_add(usize::from(left > 0), Ordering::Relaxed);
        clean_up(cloud, *point, left, creates);
    });
    (reached.into_inner(), leaving.into_inner())
}

/// The number of the first call of an operation.
fn number(events: &[Event], operation: &str) -> u64 {
    events.iter().find(|event| event.operation == operation).unwrap().number
}

/// The log of a run that nobody disturbs.
fn undisturbed(change: impl Fn(&mut Estate)) -> Vec<Event> {
    let cloud = Cloud::with(change);
    let run = cloud.run(SCAN);
    assert_eq!(run.code(), 0, "{}", run.err());
    cloud.world().events()
}

fn both_sides(events: impl Iterator<Item = u64>) -> Vec<Point> {
    events.flat_map(|event| [true, false].map(|before| Point { event, before })).collect()
}

#[test]
fn killed_at_every_call_nothing_is_left() {
    // Completed at once: the calls and their order are those of the undisturbed run.
    let change = |estate: &mut Estate| {
        estate.settings.snapshot_delay_ms = 0;
        estate.settings.describe_page_limit = Some(1);
    };
    let events = undisturbed(change);
    let points = both_sides(1..=u64::try_from(events.len()).unwrap());
    let (reached, leaving) = kill_at_each(&points, number(&events, "CreateSnapshots"), change);
    eprintln!("killed at {reached} of {} points; {leaving} left snapshots", points.len());
    assert!(reached >= 40 && reached + 4 >= points.len(), "{reached} of {} were reached", points.len());
    assert!(leaving >= 40, "only {leaving} left something to clean up");
}

#[test]
fn killed_while_snapshots_are_pending_nothing_is_left() {
    let change = |estate: &mut Estate| estate.settings.snapshot_delay_ms = 1_500;
    let events = undisturbed(change);
    let creates = number(&events, "CreateSnapshots");
    let points = both_sides(creates..number(&events, "ListSnapshotBlocks"));
    let (reached, leaving) = kill_at_each(&points, creates, change);
    assert!(reached >= 4 && reached == points.len(), "{reached} of {} were reached", points.len());
    assert_eq!(leaving, reached - 1, "all but the one before the snapshots are created");
}

#[test]
fn a_purge_that_is_killed_is_followed_by_another() {
    let change = |estate: &mut Estate| estate.settings.snapshot_delay_ms = 0;
    let reads = number(&undisturbed(change), "GetSnapshotBlock");
    let kills = AtomicUsize::new(0);
    // More than a purge makes.
    let points = both_sides(reads + 1..=reads + 9);
    each(&points, &Cloud::new(), |cloud, point| {
        cloud.begin_anew(change);
        assert_eq!(kill_at(cloud, SCAN, Point { event: reads, before: false }), Some(2));
        if kill_at(cloud, PURGE, *point).is_some() {
            kills.fetch_add(1, Ordering::Relaxed);
            let run = cloud.run(PURGE);
            assert_eq!((run.code(), cloud.world().leaks()), (0, vec![]), "{point:?}: {}", run.err());
        }
        assert_eq!(nothing_is_listed(cloud), Ok(()), "{point:?}");
    });
    // Who, what is there, two deletions, what is of the scan now, the Recycle Bin.
    let kills = kills.into_inner();
    assert!((12..16).contains(&kills), "killed {kills} times");
}

/// The program is killed when its snapshots were made, and nobody sees them yet.
#[test]
fn snapshots_that_become_visible_late_are_found() {
    let cloud = Cloud::with(|estate| estate.settings.snapshot_delay_ms = 0);
    let creates = number(&undisturbed(|_| {}), "CreateSnapshots");
    cloud.world().add_fault(Rule::always("CreateSnapshots", Fault::NotFoundAfterCreate { seconds: 8 }));
    assert_eq!(kill_at(&cloud, SCAN, Point { event: creates, before: false }), Some(2));
    // Too short a look: it is said that there may be more.
    let run = cloud.run(&["snapshots", "purge", "--wait", "1s"]);
    assert_eq!(run.code(), 2, "{}", run.err());
    assert!(is_unknown(&run), "{}", run.err());
    assert_eq!(cloud.world().leaks().len(), 2, "nobody could see them");
    let run = cloud.run(&["snapshots", "purge", "--wait", "20s"]);
    assert_eq!(cloud.world().leaks(), Vec::<String>::new(), "{}{}", run.out(), run.err());
    assert_eq!(run.purged("us-east-1"), (2, 0), "{}", run.out());
    assert_eq!(run.code(), 2, "the call is younger than ten minutes");
    assert!(is_unknown(&run), "{}", run.err());
}

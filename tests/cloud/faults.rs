//! What AWS does on a bad day: the report is that of a good one, or says what is missing.

use std::collections::BTreeMap;
use std::sync::Mutex;

use fake_aws::{Estate, Fault, Role, Rule};
use serde_json::Value;

use crate::harness::{Cloud, DATA, MACHINE, ROOT, Run, each, policy, policy_and};

const SCAN: &[&str] = &["scan", "instance", MACHINE, "--format", "json"];
const UNKNOWN: &str = "1 call to create snapshots was not confirmed, and may still have made some";

/// What must not depend on the day.
fn lasting(run: &Run) -> Vec<Value> {
    let report = run.json();
    ["machine", "coverage", "packages", "findings"].map(|part| report[part].clone()).to_vec()
}

/// A cloud, and what is reported where nothing goes wrong.
fn good_day() -> (Cloud, Vec<Value>) {
    let cloud = Cloud::new();
    let run = cloud.run(SCAN);
    assert_eq!(run.code(), 0, "{}", run.err());
    let lasting = lasting(&run);
    assert!(lasting[2].as_array().unwrap().len() > 10, "packages: {}", lasting[2]);
    (cloud, lasting)
}

/// The rules of a bad day; its luck is the seed's.
fn bad_day(seed: u64) -> Vec<Rule> {
    vec![
        Rule::sometimes("*", 0.2, seed, Fault::Throttle { code: None }),
        Rule::sometimes("*", 0.05, seed, Fault::Http { status: 503 }),
        Rule::sometimes("GetSnapshotBlock", 0.02, seed, Fault::Cut { at_bytes: 70_000 }),
        Rule::sometimes("GetSnapshotBlock", 0.01, seed, Fault::WrongChecksum),
    ]
}

#[test]
fn bad_days_give_the_report_of_a_good_one() {
    let (cloud, wanted) = good_day();
    let seen = Mutex::new(BTreeMap::<String, u64>::new());
    let seeds = [0, 1, 3, 4, 8, 10, 13, 14, 16, 18, 19, 27];
    each(&seeds, &cloud, |cloud, seed| {
        cloud.begin_anew(|estate| estate.faults = bad_day(*seed));
        let run = cloud.run(SCAN);
        assert_eq!(lasting(&run), wanted, "seed {seed}: {}", run.err());
        assert_confirmed(cloud, &run, &format!("seed {seed}"));
        let mut seen = seen.lock().unwrap();
        for fault in cloud.world().events().into_iter().flat_map(|event| event.faults) {
            *seen.entry(fault).or_default() += 1;
        }
    });
    let seen = seen.into_inner().unwrap();
    let kinds = ["cut", "http", "throttle", "wrong-checksum"];
    assert!(kinds.iter().all(|kind| seen.get(*kind).is_some_and(|count| *count > 2)), "{seen:?}");
}

/// Complete, or a failure of the service befell the call that creates: then it is said that nobody can know.
fn assert_confirmed(cloud: &Cloud, run: &Run, case: &str) {
    let events = cloud.world().events();
    let is_unknown = |event: &&fake_aws::Event| {
        event.operation == "CreateSnapshots"
            && (event.status == 503 || event.effect == "reset")
            && event.effect != "RequestLimitExceeded"
    };
    let wanted: Vec<String> = match events.iter().filter(is_unknown).count() {
        0 => Vec::new(),
        1 => vec![UNKNOWN.to_owned()],
        many => panic!("{case}: choose another seed, {many} calls to create failed"),
    };
    let errors: Vec<String> = run.errors().into_iter().map(|(error, _)| error).collect();
    let code = if wanted.is_empty() { 0 } else { 2 };
    assert_eq!((run.code(), errors), (code, wanted), "{case}: {}", run.err());
}

/// These take long: the snapshots of the call that failed are looked for, before another is made and after.
pub fn a_failure_of_the_call_that_creates_is_followed_by_another_call() {
    let (cloud, wanted) = good_day();
    let cases = [Fault::Http { status: 500 }, Fault::Reset, Fault::Http { status: 503 }];
    each(&cases, &cloud, |cloud, fault| {
        cloud.begin_anew(|estate| {
            estate.faults = bad_day(3);
            estate.faults[1].operation = "GetSnapshotBlock".to_owned();
            estate.faults[0].operation = "GetSnapshotBlock".to_owned();
            estate.faults.push(Rule::nth("CreateSnapshots", 1, fault.clone()));
        });
        let run = cloud.run(SCAN);
        assert_eq!(lasting(&run), wanted, "{fault:?}: {}", run.err());
        assert_eq!((run.code(), cloud.calls("CreateSnapshots")), (2, 2), "{fault:?}: {}", run.err());
        assert_eq!(run.errors()[0].0, UNKNOWN);
        assert_eq!(run.json()["cloud"]["unknown_creations"], 1);
        assert!(run.err().contains("looking for them before another call"), "{}", run.err());
    });
}

/// Each by itself; what is to be seen of it besides.
fn single_faults() -> Vec<(&'static str, Vec<Rule>)> {
    let nth = Rule::nth;
    let first = |operation: &str, count: u64, fault: Fault| Rule {
        first: Some(count),
        ..Rule::always(operation, fault)
    };
    let every = |operation: &str, every: u64, fault: Fault| Rule {
        every: Some(every),
        ..Rule::always(operation, fault)
    };
    let late = |seconds| Fault::NotFoundAfterCreate { seconds };
    let slow = |code: &str| Fault::Throttle { code: Some(code.to_owned()) };
    vec![
        ("reply lost", vec![nth("CreateSnapshots", 1, Fault::ReplyLost)]),
        ("visible late", vec![nth("CreateSnapshots", 1, late(4))]),
        (
            "lost and late",
            vec![nth("CreateSnapshots", 1, Fault::ReplyLost), nth("CreateSnapshots", 1, late(6))],
        ),
        ("deletion lost", vec![nth("DeleteSnapshot", 1, Fault::ReplyLost)]),
        ("deletion reset", vec![nth("DeleteSnapshot", 1, Fault::Reset)]),
        ("deletions fail", vec![first("DeleteSnapshot", 3, Fault::Http { status: 500 })]),
        ("slow drip", vec![nth("GetSnapshotBlock", 3, Fault::Drip { bytes_per_second: 150_000 })]),
        (
            "a drip that would take minutes",
            vec![nth("GetSnapshotBlock", 3, Fault::Drip { bytes_per_second: 1_000 })],
        ),
        ("a list that drips", vec![nth("ListSnapshotBlocks", 1, Fault::Drip { bytes_per_second: 5_000 })]),
        (
            "resets",
            vec![every("GetSnapshotBlock", 4, Fault::Reset), nth("ListSnapshotBlocks", 1, Fault::Reset)],
        ),
        (
            "resets of descriptions",
            vec![every("DescribeSnapshots", 2, Fault::Reset), nth("DescribeInstances", 1, Fault::Reset)],
        ),
        ("wrong data", vec![first("GetSnapshotBlock", 3, Fault::WrongData)]),
        ("wrong checksums", vec![first("GetSnapshotBlock", 3, Fault::WrongChecksum)]),
        ("cut at once", vec![every("GetSnapshotBlock", 5, Fault::Cut { at_bytes: 0 })]),
        ("cut late", vec![every("GetSnapshotBlock", 5, Fault::Cut { at_bytes: 524_287 })]),
        ("a list cut", vec![nth("ListSnapshotBlocks", 1, Fault::Cut { at_bytes: 500 })]),
        ("a description cut", vec![nth("DescribeVolumes", 1, Fault::Cut { at_bytes: 300 })]),
        ("empty pages of blocks", vec![first("ListSnapshotBlocks", 3, Fault::EmptyPage)]),
        (
            "empty pages of descriptions",
            ["DescribeInstances", "DescribeVolumes", "DescribeSnapshots", "ListSnapshotsInRecycleBin"]
                .map(|operation| first(operation, 2, Fault::EmptyPage))
                .to_vec(),
        ),
        ("delays", vec![every("*", 3, Fault::Delay { milliseconds: 400 })]),
        ("an undeclared throttle", vec![every("GetSnapshotBlock", 3, slow("ThrottlingException"))]),
        ("who calls, at a bad moment", vec![first("GetCallerIdentity", 2, Fault::Http { status: 500 })]),
    ]
}

#[test]
fn each_fault_by_itself_changes_nothing() {
    let (cloud, wanted) = good_day();
    each(&single_faults(), &cloud, |cloud, (name, rules)| {
        cloud.begin_anew(|estate| estate.faults.clone_from(rules));
        let run = cloud.run(SCAN);
        assert_eq!((run.code(), run.errors()), (0, vec![]), "{name}: {}", run.err());
        assert_eq!(lasting(&run), wanted, "{name}");
        assert!(cloud.world().counters().faults > 0, "{name}: it never happened");
        assert_eq!((cloud.calls("CreateSnapshots"), cloud.calls("CreateSnapshot")), (1, 0), "{name}");
        assert_eq!(cloud.world().estate().snapshots.len(), 2, "{name}: not two sets");
        let receipts = run.json()["snapshots"].as_array().unwrap().clone();
        assert!(
            receipts.len() == 2 && receipts.iter().all(|one| one["fate"] == "gone"),
            "{name}: {receipts:?}"
        );
    });
}

#[test]
fn a_role_is_assumed_at_the_second_try() {
    let arn = "arn:aws:iam::111111111111:role/scanner";
    let (cloud, wanted) = good_day();
    let cases = [Fault::Throttle { code: None }, Fault::Http { status: 500 }, Fault::Reset]
        .map(|fault| Rule { first: Some(2), ..Rule::always("AssumeRole", fault) });
    each(&cases, &cloud, |cloud, rule| {
        cloud.begin_anew(|estate| {
            let account = &mut estate.accounts[0];
            account.policy = Some(policy_and(&["sts:AssumeRole"], arn));
            let (name, policy) = ("scanner".to_owned(), Some(policy(&[])));
            account.roles.push(Role { name, policy, ..Role::default() });
            estate.faults.push(rule.clone());
        });
        let run = cloud.run(&[SCAN, &["--role-arn", arn]].concat());
        assert_eq!((run.code(), run.errors()), (0, vec![]), "{rule:?}: {}", run.err());
        assert_eq!(lasting(&run), wanted, "{rule:?}");
        assert!(cloud.calls("AssumeRole") >= 3, "{rule:?}");
    });
}

fn row<'a>(report: &'a Value, name: &str) -> &'a Value {
    let rows = report["coverage"].as_array().unwrap();
    rows.iter().find(|row| row["name"] == name).unwrap_or_else(|| panic!("{name}: {rows:?}"))
}

#[test]
fn a_key_that_may_not_be_used_costs_its_own_disk_alone() {
    let key = "arn:aws:kms:us-east-1:111111111111:key/12345678-1234-1234-1234-123456789012";
    let (_, good) = good_day();
    let cloud = Cloud::with(|estate| {
        estate.volumes[1].encrypted = true;
        estate.volumes[1].kms_key_id = Some(key.to_owned());
        estate.accounts[0].denied_keys.push(key.to_owned());
    });
    let run = cloud.run(SCAN);
    assert_eq!(run.code(), 2, "{}", run.err());
    let report = run.json();
    assert_eq!(report["machine"]["hostname"], "debian-fixture");
    assert_eq!(
        row(&report, "disk0/p1"),
        good[1].as_array().unwrap().iter().find(|row| row["name"] == "disk0/p1").unwrap()
    );
    assert_eq!(row(&report, "disk1")["status"], "failed");
    let [(error, hint)] = &run.errors()[..] else { panic!("{:?}", run.errors()) };
    assert!(error.contains(DATA) && error.contains("AccessDenied"), "{error}");
    assert!(error.contains(key) && format!("{error}{hint}").contains("kms:Decrypt"), "{error} {hint}");
}

#[test]
fn a_volume_that_fails_is_left_out_and_the_set_is_taken_one_by_one() {
    let cloud = Cloud::with(|estate| {
        estate.volumes[1].snapshot_error = Some("an internal error".to_owned());
        // Each volume is taken twice.
        estate.settings.quotas.volume_interval_ms = 100;
    });
    let run = cloud.run(SCAN);
    assert_eq!(run.code(), 2, "{}", run.err());
    assert_eq!((cloud.calls("CreateSnapshots"), cloud.calls("CreateSnapshot")), (1, 2));
    let report = run.json();
    assert_eq!(report["machine"]["hostname"], "debian-fixture");
    assert_eq!(row(&report, "disk1")["status"], "failed");
    let [(error, _)] = &run.errors()[..] else { panic!("{:?}", run.errors()) };
    assert!(error.contains(DATA) && error.contains("the snapshot failed: an internal error"), "{error}");
    // Those that failed are snapshots too.
    let fates: Vec<_> =
        report["snapshots"].as_array().unwrap().iter().map(|one| one["fate"].clone()).collect();
    assert_eq!(fates, ["gone", "gone", "gone", "gone"]);
}

/// Two scans of one machine, one right after the other, and slots that another tool's pending snapshots take: it waits.
pub fn what_is_refused_for_now_is_waited_for() {
    let (cloud, wanted) = good_day();
    each(
        &[
            "SnapshotCreationPerVolumeRateExceeded",
            "PendingSnapshotLimitExceeded",
            "ConcurrentSnapshotLimitExceeded",
        ],
        &cloud,
        |cloud, code| {
            cloud.begin_anew(|estate| occupy(estate, code));
            let run = cloud.run(SCAN);
            assert_eq!((run.code(), run.errors()), (0, vec![]), "{code}: {}", run.err());
            assert_eq!(lasting(&run), wanted, "{code}");
            let refused = cloud.world().counters().refusals.get(*code).copied();
            assert!(
                refused.is_some_and(|count| count > 0),
                "{code}: {:?}",
                cloud.world().counters().refusals
            );
            assert_eq!(
                cloud.calls("CreateSnapshot"),
                0,
                "{code}: waiting is better than taking the set apart"
            );
            let said = run.err();
            let says_wait = |line: &str| line.starts_with("waiting ") && line.contains(" s: ");
            assert!(said.lines().any(says_wait), "{code}: {said}");
        },
    );
}

/// Another tool's snapshot of the root was begun just now, and is pending for some seconds.
fn occupy(estate: &mut Estate, code: &str) {
    let now_ms = u64::try_from(jiff::Timestamp::now().as_millisecond()).unwrap();
    let pending_ms = if code.contains("Rate") { 0 } else { 4_000 };
    let quotas = &mut estate.settings.quotas;
    match code {
        "SnapshotCreationPerVolumeRateExceeded" => {}
        "PendingSnapshotLimitExceeded" => (quotas.pending_snapshots, quotas.volume_interval_ms) = (2, 0),
        _ => (quotas.concurrent_per_volume, quotas.volume_interval_ms) = (1, 0),
    }
    estate.snapshots.push(fake_aws::Snapshot {
        id: "snap-0fffffffffffffff1".to_owned(),
        volume_id: ROOT.to_owned(),
        started_ms: now_ms,
        completes_ms: now_ms + pending_ms,
        ..fake_aws::Snapshot::default()
    });
}

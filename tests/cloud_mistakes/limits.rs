//! How much is read, how fast, and what is foreseen before anything is created.

use serde_json::Value;

use crate::harness::{Cloud, DATA, MACHINE, ROOT, policy};
use crate::said::{is_plain, one_mistake, row};

/// What a block costs, and a list, in billionths of a dollar.
const GET: u64 = 3_000;
const LIST: u64 = 600;

fn partial_rows(report: &Value) -> Vec<String> {
    let rows = report["coverage"].as_array().unwrap().iter().filter(|row| row["status"] == "partial");
    rows.map(ToString::to_string).collect()
}

#[test]
fn blocks_are_limited() {
    for most in [1_u64, 5, 8] {
        let cloud = Cloud::new();
        let limit = most.to_string();
        let run = cloud.run(&["scan", "instance", MACHINE, "--max-blocks", &limit, "--format", "json"]);
        let parts = [format!("reading ended at the limit of {most} blocks (--max-blocks)")];
        one_mistake(&run, &[&parts[0]], "raise --max-blocks");
        assert!(cloud.calls("GetSnapshotBlock") <= most, "{} of {most}", cloud.calls("GetSnapshotBlock"));
        let report = run.json();
        let rows = partial_rows(&report);
        assert!(
            rows.iter().any(|row| row.contains("the limit of blocks for this scan is used up")),
            "{rows:#?}"
        );
        assert_eq!(report["cloud"]["limits"]["max_blocks"], most);
        assert_eq!(report["snapshots"][0]["fate"], "gone");
    }
}

#[test]
fn cost_is_limited() {
    // Two lists and not five blocks.
    let cloud = Cloud::new();
    let run = cloud.run(&["scan", "instance", MACHINE, "--max-cost", "0.000016", "--format", "json"]);
    one_mistake(&run, &["reading ended at the limit of $0.000016", "(--max-cost)"], "raise --max-cost");
    let spent = cloud.calls("GetSnapshotBlock") * GET + cloud.calls("ListSnapshotBlocks") * LIST;
    assert!(spent <= 16_000, "{spent}");
    let report = run.json();
    let rows = partial_rows(&report);
    assert!(rows.iter().any(|row| row.contains("the limit of cost for this scan is used up")), "{rows:#?}");
    assert_eq!(report["cloud"]["limits"]["max_cost_nano_usd"], 16_000);
}

#[test]
fn where_not_even_a_list_may_be_paid_it_is_said_once() {
    let cloud = Cloud::new();
    let run = cloud.run(&["scan", "instance", MACHINE, "--max-cost", "0.0000001", "--format", "json"]);
    one_mistake(&run, &["reading ended at the limit of"], "raise --max-cost");
    assert_eq!(cloud.calls("ListSnapshotBlocks") + cloud.calls("GetSnapshotBlock"), 0);
    assert_eq!(row(&run.json(), "disk0")["reason"], "the limit of cost for this scan is used up");
}

#[test]
fn a_limit_that_is_just_enough_is_none() {
    let cloud = Cloud::with(|estate| estate.settings.quotas.volume_interval_ms = 0);
    let all = cloud.run(&["scan", "instance", MACHINE, "--format", "json", "--cache", "64"]);
    let gets = all.json()["cloud"]["calls"]["gets"].as_u64().unwrap().to_string();
    let run =
        cloud.run(&["scan", "instance", MACHINE, "--max-blocks", &gets, "--format", "json", "--cache", "64"]);
    assert_eq!((run.code(), run.errors().len()), (0, 0), "{}", run.err());
}

#[test]
fn limits_are_said() {
    let cloud = Cloud::with(|estate| estate.instances[0].state = "stopped".to_owned());
    one_mistake(
        &cloud.run(&["scan", "instance", MACHINE, "--max-blocks", "0"]),
        &["0", "--max-blocks"],
        "--help",
    );
    one_mistake(
        &cloud.run(&["scan", "instance", MACHINE, "--max-cost", "much"]),
        &["a sum of dollars"],
        "--help",
    );
    one_mistake(
        &cloud.run(&["scan", "instance", MACHINE, "--gets-per-second", "0"]),
        &["0.1 or more"],
        "--help",
    );
    cloud.world().change(|estate| estate.instances[0].state = "running".to_owned());
    let said = "reading may cost $0.25 a machine at most (--max-cost)\n";
    let run = cloud.run(&["scan", "instance", MACHINE]);
    assert!(
        run.err().contains(said) && run.out().contains("allowed at most: $0.25 for reading"),
        "{}",
        run.err()
    );
    cloud.world().change(|estate| estate.settings.quotas.volume_interval_ms = 0);
    let run = cloud.run(&["scan", "instance", MACHINE, "--max-cost", "0"]);
    assert!(run.err().contains("reading has no limit of cost (--max-cost 0)\n"), "{}", run.err());
    let run = cloud.run(&["scan", "instance", MACHINE, "--quiet"]);
    assert_eq!((run.code(), run.err().as_str()), (0, ""));
}

#[test]
fn a_dry_run_creates_and_reads_nothing() {
    let cloud = Cloud::with(|estate| {
        // What was written is known of a disk that had a snapshot.
        let mut before = crate::said::foreign_snapshot(estate, "snap-0aaaaaaaaaaaaaaa1");
        before.account = "111111111111".to_owned();
        estate.snapshots.push(before);
        estate.accounts[0].policy = Some(policy(&[]));
    });
    let run =
        cloud.run(&["scan", "instance", MACHINE, "--dry-run", "--max-blocks", "700", "--format", "json"]);
    is_plain(&run);
    assert_eq!(run.code(), 0, "{}", run.err());
    let json = run.json();
    assert_eq!((&json["dry_run"], &json["max_blocks"]), (&true.into(), &700.into()));
    assert_eq!(json["max_cost_nano_usd"], 250_000_000);
    let one = &json["instances"][0];
    assert_eq!(one["instance_id"], MACHINE);
    assert_eq!((&one["disks"][0]["volume_id"], &one["disks"][1]["volume_id"]), (&ROOT.into(), &DATA.into()));
    assert!(
        one["disks"][0]["written_bytes"].as_u64().is_some_and(|bytes| bytes > 0 && bytes < 1 << 30),
        "{one}"
    );
    assert_eq!(one["disks"][1]["written_bytes"], Value::Null);
    let estimate = &one["estimate"];
    let number = |name: &str| estimate[name].as_u64().unwrap_or_else(|| panic!("{name}: {estimate}"));
    assert_eq!(number("gets_nano_usd"), number("blocks") * GET);
    assert_eq!(number("lists_nano_usd"), number("lists") * LIST);
    assert_eq!(
        number("total_nano_usd"),
        number("gets_nano_usd") + number("lists_nano_usd") + number("storage_nano_usd")
    );
    assert!(number("lifetime_seconds") > 0 && number("snapshot_bytes") > 0);
    assert_eq!(json["total_nano_usd"].as_u64(), Some(number("total_nano_usd")));

    let table = cloud.run(&["scan", "instance", MACHINE, "--dry-run"]);
    let out = table.out();
    assert!(
        out.contains("would take 2 snapshots of at most") && out.contains("reading stops at $0.25"),
        "{out}"
    );
    let lines = cloud.run(&["scan", "instance", MACHINE, "--dry-run", "--format", "jsonl"]).out();
    assert_eq!(lines.lines().count(), 1, "{lines}");
    for (operation, calls) in cloud.world().counters().calls {
        let creates = ["Create", "Delete", "ListSnapshotBlocks", "GetSnapshotBlock", "Start"];
        assert!(!creates.iter().any(|begin| operation.starts_with(begin)), "{calls} of {operation}");
    }
    // It may be asked for where several reports would fit nowhere.
    assert_eq!(cloud.world().estate().snapshots.len(), 1);
}

#[test]
fn rates_are_kept() {
    let cloud = Cloud::new();
    let run = cloud.run(&["scan", "instance", MACHINE, "--gets-per-second", "8", "--lists-per-second", "1"]);
    assert_eq!(run.code(), 0, "{}", run.err());
    let at = |operation: &str| -> Vec<u64> {
        let events = cloud.world().events();
        events.iter().filter(|event| event.operation == operation).map(|event| event.at_ms).collect()
    };
    for (operation, rate, before) in
        [("GetSnapshotBlock", 8, "ListSnapshotBlocks"), ("ListSnapshotBlocks", 1, "CreateSnapshots")]
    {
        let (times, begun) = (at(operation), at(before)[0]);
        let calls = u64::try_from(times.len()).unwrap();
        assert!(calls > 1, "{operation}");
        // The first one may come at once; and the clocks need not tick together.
        let least = (calls - 1) * 1000 / rate - 5;
        let took = times.last().unwrap() - begun;
        assert!(took >= least, "{calls} {operation} in {took} ms");
    }
    let cloud = Cloud::new();
    cloud.world().change(|estate| {
        estate.settings.quotas.gets_per_second = 5.0;
        estate.settings.quotas.burst_seconds = 0.2;
    });
    let run = cloud.run(&["scan", "instance", MACHINE, "--format", "json"]);
    assert_eq!((run.code(), run.errors().len()), (0, 0), "{}", run.err());
    assert!(run.json()["cloud"]["calls"]["throttles"].as_u64().unwrap() > 0);
}

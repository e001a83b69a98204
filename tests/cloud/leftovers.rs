//! What stood between a snapshot and its deletion: another tag, lists that lack what is there, lists that never come.

use fake_aws::{Fault, Rule};

use crate::harness::{Cloud, DATA, MACHINE, ROOT, Run, each, until};

const SCAN: &[&str] = &["scan", "instance", MACHINE, "--format", "json"];
const PURGE: &[&str] = &["snapshots", "purge"];

/// Kills a scan while it reads.
fn killed_while_reading(cloud: &Cloud, arguments: &[&str]) {
    let scan = cloud.spawn(&[SCAN, arguments].concat());
    until("blocks to be read", || cloud.calls("GetSnapshotBlock") > 1);
    scan.kill();
    cloud.no_call_is_under_way();
    assert_eq!(cloud.ours().len(), 2);
}

fn slow_reading(estate: &mut fake_aws::Estate) {
    estate.settings.snapshot_delay_ms = 0;
    estate.settings.latency_by_operation_ms.insert("GetSnapshotBlock".to_owned(), 200);
}

/// Both deleted, by a call each.
fn assert_purged(cloud: &Cloud, run: &Run, case: &str) {
    let said = format!("{case}: {}{}", run.out(), run.err());
    assert_eq!(cloud.world().leaks(), Vec::<String>::new(), "{said}");
    assert_eq!((run.code(), run.purged("us-east-1")), (0, (2, 0)), "{said}");
    assert_eq!(cloud.calls("DeleteSnapshot"), 2, "{said}");
}

#[test]
fn a_purge_knows_the_tag_that_a_scan_was_run_with() {
    let cloud = Cloud::with(|estate| {
        slow_reading(estate);
        // The one that the program prints is for the other value.
        estate.settings.enforce_policy = false;
    });
    let acme = ["--created-by", "Acme"];
    killed_while_reading(&cloud, &acme);
    let list = cloud.run(&["snapshots", "list"]);
    assert_eq!(list.out().matches("left by a scan that died here").count(), 2, "{}", list.out());
    assert_purged(&cloud, &cloud.run(PURGE), "without the option");

    cloud.begin_anew(|_| {});
    killed_while_reading(&cloud, &acme);
    assert_purged(&cloud, &cloud.run(&[PURGE, &acme].concat()), "with it");
    // And a scan that nobody disturbs.
    cloud.begin_anew(|estate| estate.settings.latency_by_operation_ms.clear());
    let run = cloud.run(&[SCAN, &acme].concat());
    assert_eq!(run.code(), 0, "{}", run.err());
    assert_eq!(run.json()["snapshots"][0]["cost_allocation_tag"], "CreatedBy=Acme");
}

#[test]
fn a_list_that_lacks_them_does_not_make_them_gone() {
    let stale = |number, rows| Rule::nth("DescribeSnapshots", number, Fault::StaleList { rows });
    let days = [
        vec![stale(1, 0)],
        vec![stale(2, 0)],
        vec![stale(1, 0), stale(2, 0), stale(3, 0)],
        vec![stale(1, 1), stale(2, 1)],
    ];
    each(&days, &Cloud::with(slow_reading), |cloud, rules| {
        cloud.begin_anew(|_| {});
        killed_while_reading(cloud, &[]);
        // Counted from here.
        rules.iter().for_each(|rule| cloud.world().add_fault(rule.clone()));
        assert_purged(cloud, &cloud.run(PURGE), &format!("{rules:?}"));
    });
    // A scan that ends well, whichever of its lists lacks something.
    let cases: Vec<u64> = (1..=6).collect();
    each(&cases, &Cloud::new(), |cloud, number| {
        cloud.begin_anew(|estate| estate.faults = vec![stale(*number, 0), stale(*number + 1, 1)]);
        let run = cloud.run(SCAN);
        assert_eq!((run.code(), run.errors()), (0, vec![]), "{number}: {}", run.err());
        assert_eq!(cloud.calls("DeleteSnapshot"), 2, "{number}");
    });
}

#[test]
fn credentials_that_end_before_the_deletion_are_named_and_others_purge() {
    let mut cloud = Cloud::with(slow_reading);
    let scan = cloud.spawn(SCAN);
    until("blocks to be read", || cloud.calls("GetSnapshotBlock") > 1);
    cloud.world().change(|estate| estate.accounts[0].expired_keys.push("AKIDTEST".to_owned()));
    let run = scan.end();
    assert_eq!(run.code(), 2, "{}", run.err());
    let errors = run.errors();
    let is_left =
        |error: &&(String, String)| error.0.contains("its deletion could not be asked for (RequestExpired)");
    let (error, hint) = errors.iter().find(is_left).unwrap_or_else(|| panic!("{errors:?}"));
    assert!(error.contains(ROOT) && error.contains(DATA), "{error}");
    assert!(hint.contains("log in again") && hint.contains("`stillframe snapshots purge`"), "{hint}");
    cloud.may_leak();
    assert_eq!(cloud.world().leaks().len(), 2);
    cloud.world().change(|estate| estate.accounts[0].expired_keys.clear());
    let run = cloud.run(PURGE);
    assert_eq!((run.code(), run.purged("us-east-1")), (0, (2, 0)), "{}", run.err());
    assert_eq!(cloud.world().leaks(), Vec::<String>::new());
}

/// Nobody says what one that failed held: it is counted as its whole volume, which has 1 GiB.
#[test]
fn snapshots_that_failed_are_counted_at_what_they_may_have_held() {
    let cloud = Cloud::with(|estate| {
        estate.settings.snapshot_delay_ms = 2_000;
        estate.volumes[1].snapshot_error = Some("an internal error".to_owned());
        estate.settings.quotas.volume_interval_ms = 100;
    });
    let report = cloud.run(SCAN).json();
    let receipts = report["snapshots"].as_array().unwrap();
    let failed = receipts.iter().filter(|receipt| receipt["volume_id"] == DATA);
    let seconds: u64 = failed.map(|receipt| receipt["lifetime_seconds"].as_u64().unwrap()).sum();
    // $0.05 for a GiB and month.
    let least = seconds * 50_000_000 / (31 * 24 * 3600);
    let counted = report["cloud"]["cost"]["storage_nano_usd"].as_u64().unwrap();
    assert!(seconds >= 4 && counted >= least, "{counted} nano-dollars for {seconds} s, {least} at least");
}

/// Takes as long as a purge may.
pub fn what_is_known_is_deleted_though_lists_never_come() {
    let cloud = Cloud::with(slow_reading);
    let scan = cloud.spawn(SCAN);
    until("blocks to be read", || cloud.calls("GetSnapshotBlock") > 1);
    cloud.world().add_fault(Rule::always("DescribeSnapshots", Fault::Delay { milliseconds: 20_000 }));
    let begun = std::time::Instant::now();
    scan.signal("INT");
    let run = scan.end();
    assert!(begun.elapsed().as_secs() <= 65, "{:?}", begun.elapsed());
    assert_eq!((cloud.calls("DeleteSnapshot"), cloud.world().leaks()), (2, vec![]), "{}", run.err());
    assert_eq!(run.code(), 2, "{}", run.err());
    let errors: Vec<String> = run.errors().into_iter().map(|(error, _)| error).collect();
    assert_eq!(errors[0], "the scan was stopped", "{errors:?}");
    assert!(errors[1].ends_with("deletion requested, not confirmed"), "{errors:?}");
    assert!(errors[2].starts_with("it cannot be told whether snapshots are left"), "{errors:?}");
    cloud.world().clear_faults();
    let purge = cloud.run(PURGE);
    assert_eq!((purge.code(), purge.purged("us-east-1")), (0, (2, 0)), "{}", purge.err());
}

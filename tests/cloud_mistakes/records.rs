//! The audit log: what stops is written down, what cannot be written down costs no report, and what was changed is found.
//! And what is asked of several regions.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use crate::harness::{Cloud, MACHINE, Run, until};
use crate::said::{foreign_snapshot, is_plain, one_mistake};

const SNAPSHOT: &str = "snap-0aaaaaaaaaaaaaaa1";
const FAR: &str = "ap-east-1";

/// A cloud with a snapshot of somebody else's, whose blocks come after `latency_ms`.
fn with_snapshot(latency_ms: u64) -> Cloud {
    Cloud::with(|estate| {
        let good = foreign_snapshot(estate, SNAPSHOT);
        estate.snapshots.push(good);
        estate.settings.latency_by_operation_ms.insert("GetSnapshotBlock".to_owned(), latency_ms);
    })
}

fn log(cloud: &Cloud) -> PathBuf {
    cloud.path("state/stillframe/audit.jsonl")
}

fn lines(cloud: &Cloud) -> Vec<Value> {
    let text = fs::read_to_string(log(cloud)).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_full_disk_under_the_audit_log_costs_no_report_of_snapshots() {
    let cloud = with_snapshot(0);
    fs::create_dir_all(cloud.path("state/stillframe")).unwrap();
    symlink("/dev/full", log(&cloud)).unwrap();
    let run = cloud.run(&["scan", "snapshot", SNAPSHOT, "--format", "json"]);
    one_mistake(&run, &["the audit log", "audit.jsonl cannot be written"], "XDG_STATE_HOME");
    assert_eq!(run.json()["machine"]["hostname"], "debian-fixture");
    let run = cloud.run(&["files", SNAPSHOT]);
    one_mistake(&run, &["the audit log", "cannot be written"], "XDG_STATE_HOME");
    assert!(run.out().contains("/etc/os-release"), "the listing is whole");
}

/// The file may still grow by so much that the snapshots' creation is written down, and no more.
#[test]
fn a_full_disk_under_the_audit_log_costs_no_report_of_a_machine() {
    const LIMIT: usize = 4 << 20;
    let cloud = Cloud::new();
    fs::create_dir_all(cloud.path("state/stillframe")).unwrap();
    fs::write(log(&cloud), vec![b'\n'; LIMIT - 1500]).unwrap();
    let program = cloud.stillframe();
    let mut limited = Command::new("/bin/sh");
    limited.env_clear().current_dir(cloud.path("."));
    limited.envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))));
    // Blocks of 512 bytes. The signal would kill; ignored, writing fails.
    let script = format!("trap '' XFSZ; ulimit -f {}; exec \"$0\" \"$@\"", LIMIT / 512);
    limited.args(["-c", &script]).arg(program.get_program());
    limited.args(["scan", "instance", MACHINE, "--format", "json"]);
    let run = Run(limited.output().unwrap());
    one_mistake(&run, &["the audit log", "cannot be written"], "XDG_STATE_HOME");
    let report = run.json();
    assert_eq!(report["machine"]["hostname"], "debian-fixture");
    assert_eq!(
        (&report["snapshots"][0]["fate"], &report["snapshots"][1]["fate"]),
        (&"gone".into(), &"gone".into())
    );
}

#[test]
fn what_is_stopped_while_it_reads_has_a_line_for_each_call() {
    for arguments in [
        &["files", SNAPSHOT][..],
        &["layout", SNAPSHOT],
        &["scan", "snapshot", SNAPSHOT],
        &["scan", "instance", MACHINE],
    ] {
        let cloud = with_snapshot(400);
        let process = cloud.spawn(arguments);
        until("blocks to be read", || cloud.calls("GetSnapshotBlock") > 0);
        process.signal("TERM");
        let run = process.end();
        one_mistake(&run, &["the scan was stopped"], "scan again");
        let lines = lines(&cloud);
        let reads =
            lines.iter().filter(|line| line["operation"].as_str().unwrap().starts_with("ebs:")).count();
        let made = cloud.calls("GetSnapshotBlock") + cloud.calls("ListSnapshotBlocks");
        // One that was given up may not have come as far as the cloud.
        assert!(u64::try_from(reads).unwrap() >= made, "{arguments:?}: {made} calls, {lines:#?}");
        assert!(lines.iter().any(|line| line["result"] == "cancelled"), "{arguments:?}: {lines:#?}");
        assert_eq!(cloud.run(&["aws", "audit"]).code(), 0);
    }
}

#[test]
fn the_audit_log_is_checked_line_by_line() {
    let cloud = with_snapshot(0);
    one_mistake(
        &cloud.run(&["aws", "audit"]),
        &["there is no audit log at", "audit.jsonl"],
        "XDG_STATE_HOME",
    );
    fs::create_dir_all(cloud.path("state/stillframe")).unwrap();
    fs::write(log(&cloud), "").unwrap();
    fs::set_permissions(log(&cloud), Permissions::from_mode(0o644)).unwrap();
    assert_eq!(cloud.run(&["scan", "snapshot", SNAPSHOT]).code(), 0);
    assert_eq!(fs::metadata(log(&cloud)).unwrap().permissions().mode() & 0o777, 0o600);

    let text = fs::read_to_string(log(&cloud)).unwrap();
    let run = cloud.run(&["aws", "audit", "--format", "json"]);
    is_plain(&run);
    let json = run.json();
    assert_eq!((run.code(), &json["lines"]), (0, &text.lines().count().into()));
    let last: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    assert_eq!(json["last_hash"], last["hash"]);
    let table = cloud.run(&["aws", "audit"]).out();
    assert!(table.contains(&format!("{} lines, as they were written\n", text.lines().count())), "{table}");

    let copy = cloud.path("copy.jsonl");
    let changed: Vec<String> = (1..)
        .zip(text.lines())
        .map(
            |(number, line)| {
                if number == 3 { line.replacen("111111111111", "999999999999", 1) } else { line.to_owned() }
            },
        )
        .collect();
    fs::write(&copy, changed.join("\n") + "\n").unwrap();
    let run = cloud.run(&["aws", "audit", copy.to_str().unwrap()]);
    one_mistake(&run, &["line 3 of", "copy.jsonl does not follow"], "lines 1 to 2 are as they were written");
    assert_eq!(run.out(), "");
}

#[test]
fn dry_runs_of_what_would_change_something_are_written_down() {
    let cloud = Cloud::new();
    assert_eq!(cloud.run(&["aws", "preflight"]).code(), 0);
    let lines = lines(&cloud);
    for operation in ["ec2:CreateSnapshots", "ec2:CreateSnapshot"] {
        let line = lines.iter().find(|line| line["operation"] == operation);
        assert_eq!(line.unwrap_or_else(|| panic!("{lines:#?}"))["result"], "dry run: allowed");
    }
}

#[test]
fn a_region_that_fails_keeps_no_other() {
    let cloud = Cloud::new();
    let both = format!("{FAR},us-east-1");
    for (arguments, said) in [
        (["snapshots", "list", "--region", &both], "us-east-1: no snapshots of stillframe\n"),
        (
            ["snapshots", "purge", "--region", &both],
            "us-east-1: 0 snapshots deleted and seen to be gone, 0 left\n",
        ),
    ] {
        let run = cloud.run(&arguments);
        let error = one_mistake(&run, &["AuthFailure"], "has the region enabled");
        assert!(error.starts_with(&format!("in {FAR}: ec2:DescribeSnapshots")), "{error}");
        assert_eq!(run.out(), said);
        let json = cloud.run(&[&arguments[..], &["--format", "json"]].concat());
        assert_eq!((json.code(), &json.json()["failed_regions"][0]), (2, &FAR.into()));
    }
    // What is no region's name is a failure of its own, and the same one everywhere is said once.
    let run = cloud.run(&["snapshots", "list", "--region", "Paris,us-east-1,Rome"]);
    let error = one_mistake(&run, &["region's name"], "--region");
    assert!(error.starts_with("in Paris, Rome: "), "{error}");
    assert_eq!(run.out(), "us-east-1: no snapshots of stillframe\n");
    // Of one region it is clear which.
    let error = one_mistake(&cloud.run(&["snapshots", "list", "--region", FAR]), &["AuthFailure"], "enabled");
    assert!(error.starts_with("ec2:DescribeSnapshots"), "{error}");
}

#[test]
fn a_disk_that_is_named_twice_is_not_counted_twice() {
    let cloud = with_snapshot(0);
    for command in [&["scan", "snapshot"][..], &["layout"], &["files"]] {
        let run = cloud.run(&[command, &[SNAPSHOT, SNAPSHOT]].concat());
        one_mistake(&run, &[SNAPSHOT, "is named twice"], "each disk once");
    }
    assert_eq!(cloud.world().counters().events, 0);
    let image = cloud.path("debian-gpt-ext4.img");
    let link = cloud.path("link.img");
    symlink(&image, &link).unwrap();
    let run = cloud.run(&["scan", "image", image.to_str().unwrap(), link.to_str().unwrap()]);
    one_mistake(&run, &["link.img is named twice"], "each disk once");
}

#[test]
fn a_hint_names_no_option_that_the_command_lacks() {
    let cloud = with_snapshot(0);
    let run = cloud.run(&["scan", "snapshot", SNAPSHOT, "--max-blocks", "3"]);
    one_mistake(&run, &["reading ended at the limit of 3 blocks"], "raise --max-blocks");
    assert!(!run.err().contains("--dry-run"), "{}", run.err());
    let run = cloud.run(&["scan", "instance", MACHINE, "--no-data", "--dry-run"]);
    assert!(run.out().contains("would take 1 snapshot of "), "{}", run.out());
    let digits =
        |word: &str| word.split_once('.').map_or(0, |(_, digits)| digits.trim_end_matches(',').len());
    let sums = run.out();
    let sums = sums.split_whitespace().filter(|word| word.starts_with('$'));
    assert!(sums.clone().count() > 3 && sums.clone().all(|sum| digits(sum) <= 6), "{}", run.out());
}

#[test]
fn a_report_names_its_machine() {
    let heading = |run: &Run| run.out().lines().next().unwrap_or_default().to_owned();
    let cloud = Cloud::with(|estate| estate.settings.quotas.volume_interval_ms = 0);
    let run = cloud.run(&["scan", "instance", MACHINE]);
    assert!(heading(&run).starts_with(&format!("debian-fixture · {MACHINE} · Debian")), "{}", run.out());
    // Nothing was read that could name it.
    let run = cloud.run(&["scan", "instance", MACHINE, "--max-blocks", "1"]);
    assert!(heading(&run).starts_with(&format!("{MACHINE} · ")), "{}", run.out());
    let cloud = with_snapshot(0);
    let run = cloud.run(&["scan", "snapshot", SNAPSHOT, "--max-blocks", "1"]);
    assert!(heading(&run).starts_with(&format!("{SNAPSHOT} · ")), "{}", run.out());
}

#[test]
fn help_keeps_a_commands_own_options_apart() {
    let cloud = Cloud::new();
    let help = cloud.run(&["scan", "instance", "--help"]).out();
    let own = help.split_once("\nOptions:\n").unwrap().1.split_once("\nOptions of every command:\n");
    let (own, of_all) = own.unwrap_or_else(|| panic!("{help}"));
    assert!(own.contains("--dry-run") && !own.contains("--quiet"), "{help}");
    assert!(of_all.contains("--quiet") && of_all.contains("--log-format"), "{help}");
    // The reasons of a policy stand in one column.
    let reasons = cloud.run(&["aws", "policy"]).err();
    let column = |line: &str| {
        let (_, reason) = line.split_once(' ').unwrap();
        line.len() - reason.trim_start().len()
    };
    let mut columns: Vec<usize> = reasons.lines().map(column).collect();
    columns.dedup();
    assert_eq!(columns.len(), 1, "{reasons}");
}

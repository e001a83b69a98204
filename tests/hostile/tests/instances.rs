//! Readers that die in the middle of an instance's scan: the ledger says on what, the other volumes are read, and no
//! snapshot stays.

use crate::harness::{Cloud, MACHINE};

/// Each way to die, the words of the ledger, and options that make it come soon.
const DEATHS: [(&str, &str, &[&str]); 8] = [
    ("panic", "it panicked", &[]),
    ("abort", "it aborted", &[]),
    ("overflow", "its stack overflowed", &[]),
    ("memory", "it ran out of memory", &[]),
    ("touched memory", "it ran out of memory", &[]),
    ("loop", "the time limit has passed", &["--volume-deadline", "2"]),
    ("system call", "it made a system call that it may not make", &[]),
    ("exit", "it ended without an answer", &[]),
];

#[test]
fn each_death_costs_one_volume_and_leaves_nothing() {
    let cloud = Cloud::new();
    let scan = |plan: &str, more: &[&str]| {
        let mut command = cloud.stillframe();
        command.env("HOSTILE", plan).env("HOSTILE_PATIENCE", "3000");
        command.args(["--quiet", "scan", "instance", MACHINE, "--format", "json"]).args(more);
        crate::harness::Run(command.output().unwrap())
    };
    let row = |report: &serde_json::Value, kind: &str, name: &str| {
        let rows = report["coverage"].as_array().unwrap();
        rows.iter().find(|row| row["kind"] == kind && row["name"] == name).cloned().unwrap_or_default()
    };
    let honest = scan("", &[]);
    assert_eq!(honest.code(), 0, "{}", honest.err());
    let honest = honest.json();
    assert_eq!(honest["scan"]["isolation"]["seccomp"], true);
    for (death, words, more) in DEATHS {
        cloud.begin_anew(|_| {});
        let run = scan(&format!("read disk0/p1={death}"), more);
        assert_eq!(run.code(), 2, "{death}: {}", run.err());
        let report = run.json();
        let dead = row(&report, "filesystem", "disk0/p1");
        assert_eq!(dead["status"], "partial", "{death}");
        assert_eq!(dead["reason"], format!("its reader ended: {words}"), "{death}");
        for (kind, name) in [("filesystem", "disk0/p15"), ("filesystem", "disk1/p1"), ("disk", "disk1")] {
            assert_eq!(row(&report, kind, name), row(&honest, kind, name), "{death}: {name}");
        }
        assert_eq!(report["scan"]["isolation"]["deaths"], 1, "{death}");
        assert_eq!(cloud.ours().len(), 0, "{death}");
        let receipts = report["snapshots"].as_array().unwrap();
        assert_eq!(receipts.len(), 2, "{death}");
        assert!(receipts.iter().all(|receipt| receipt["fate"] == "gone"), "{death}: {receipts:?}");
    }
}

#[test]
fn who_asks_for_what_no_disk_has_is_ended() {
    let cloud = Cloud::new();
    let mut command = cloud.stillframe();
    command
        .env("HOSTILE", "confined=lane")
        .args(["--quiet", "scan", "instance", MACHINE, "--format", "json"]);
    let run = crate::harness::Run(command.output().unwrap());
    assert_eq!(run.code(), 2, "{}", run.err());
    let report = run.json();
    let reason = report["coverage"][0]["reason"].as_str().unwrap();
    assert!(reason.ends_with("it asked for a disk that is not its own"), "{reason}");
    assert_eq!(cloud.ours().len(), 0);
}

#[test]
fn an_interrupt_ends_a_reader_that_loops() {
    let cloud = Cloud::new();
    let mut command = cloud.stillframe();
    command.env("HOSTILE", "read disk0/p1=loop").args(["scan", "instance", MACHINE, "--format", "json"]);
    command.stderr(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
    let mut child = command.spawn().unwrap();
    crate::harness::until("blocks to be read", || cloud.calls("GetSnapshotBlock") > 0);
    std::thread::sleep(std::time::Duration::from_millis(500));
    let id = child.id().to_string();
    assert!(std::process::Command::new("kill").args(["-s", "INT", &id]).status().unwrap().success());
    let begun = std::time::Instant::now();
    crate::harness::until("the program to end", || child.try_wait().unwrap().is_some());
    assert!(begun.elapsed() < std::time::Duration::from_secs(60), "{:?}", begun.elapsed());
    assert_eq!(cloud.ours().len(), 0);
    // Nobody of its name is left.
    let readers = std::process::Command::new("pgrep").args(["-P", &id]).output().unwrap();
    assert!(readers.stdout.is_empty());
}

#[test]
fn without_a_confined_process_an_instance_reads_the_same() {
    let cloud = Cloud::new();
    let scan = |mode: &str| {
        cloud.begin_anew(|_| {});
        let arguments = ["--quiet", "scan", "instance", MACHINE, "--format", "json", "--sandbox", mode];
        let run = crate::harness::Run(cloud.stillframe().args(arguments).output().unwrap());
        assert_eq!((run.code(), cloud.ours().len()), (0, 0), "{mode}: {}", run.err());
        run.json()
    };
    let (required, auto, off) = (scan("required"), scan("auto"), scan("off"));
    for part in ["machine", "coverage", "packages", "findings"] {
        assert_eq!(required[part], off[part], "{part}");
        assert_eq!(required[part], auto[part], "{part}");
    }
    assert_eq!(off["scan"].get("isolation"), None);
    assert_eq!(auto["scan"]["isolation"], required["scan"]["isolation"]);
}

//! Readers that die on a volume of an image: the volume has a row with the cause, and the rest is read.

use crate::offline::{Machine, Scanned};

fn honest() -> Scanned {
    let scanned = Machine::new().scan("");
    assert_eq!((scanned.code, scanned.deaths()), (0, 0), "{}", scanned.err);
    scanned
}

/// Dies while `disk0/p1` is read, from which the packages are.
fn dies(of: &str, words: &str, more: &[&str]) -> Scanned {
    let scanned = Machine::new().scan_with(&format!("read disk0/p1={of}"), more);
    assert_eq!((scanned.code, scanned.deaths()), (2, 1), "{of}: {}", scanned.err);
    let reason = format!("its reader ended: {words}");
    assert_eq!(scanned.status("filesystem", "disk0/p1"), ("partial".to_owned(), reason), "{of}");
    // What is known of it stays.
    let row = scanned.row("filesystem", "disk0/p1");
    assert_eq!(
        (&row["format"], &row["label"], &row["mounted_at"]),
        (&"ext4".into(), &"root".into(), &"/".into())
    );
    // The others are complete, as they are without the death.
    let honest = honest();
    for (kind, name) in
        [("filesystem", "disk0/p15"), ("filesystem", "disk1"), ("partition", "disk0/p14"), ("disk", "disk0")]
    {
        assert_eq!(scanned.row(kind, name), honest.row(kind, name), "{of}: {name}");
    }
    assert!(!scanned.err.contains("SECRET"), "{}", scanned.err);
    scanned
}

#[test]
fn of_a_panic_outside_every_boundary() {
    dies("panic", "it panicked", &[]);
}

#[test]
fn of_an_abort() {
    dies("abort", "it aborted", &[]);
}

#[test]
fn of_a_stack_overflow() {
    dies("overflow", "its stack overflowed", &[]);
}

#[test]
fn of_one_large_allocation() {
    dies("memory", "it ran out of memory", &[]);
}

#[test]
fn of_memory_that_grows() {
    dies("touched memory", "it ran out of memory", &[]);
}

#[test]
fn of_an_endless_loop() {
    dies("loop", "the time limit has passed", &["--volume-deadline", "1"]);
}

#[test]
fn of_a_system_call() {
    dies("system call", "it made a system call that it may not make", &[]);
}

#[test]
fn of_an_end_without_an_answer() {
    dies("exit", "it ended without an answer", &[]);
}

#[test]
fn what_was_found_on_a_volume_before_it_died_stays() {
    let scanned = Machine::new().scan("done disk0/p1=abort");
    assert_eq!((scanned.code, scanned.deaths()), (2, 1));
    let (status, reason) = scanned.status("filesystem", "disk0/p1");
    assert_eq!((status.as_str(), reason.as_str()), ("partial", "its reader ended: it aborted"));
    let rows = scanned.report["coverage"].as_array().unwrap();
    let of_it = rows.iter().filter(|row| row["kind"] == "filesystem" && row["name"] == "disk0/p1");
    assert_eq!(of_it.count(), 1);
    let honest = honest();
    assert_eq!(scanned.packages(), honest.packages());
    assert_eq!(scanned.report["machine"], honest.report["machine"]);
    // And where it dies as it finds something, no harm is done to the rest.
    let scanned = Machine::new().scan("facts disk0/p1=abort");
    assert_eq!((scanned.code, scanned.deaths()), (2, 1));
    assert_eq!(scanned.status("filesystem", "disk1").0, "scanned");
}

#[test]
fn facts_of_a_reader_that_died_are_in_the_report() {
    // The facts of the first disk come whole; then the reader dies on the second.
    let scanned = Machine::new().scan("read disk1=abort");
    let honest = honest();
    assert_eq!(scanned.packages(), honest.packages());
    assert!(!scanned.packages().is_empty());
    assert_eq!(scanned.report["machine"], honest.report["machine"]);
    assert_eq!(scanned.status("filesystem", "disk1").0, "partial");
    assert_eq!(scanned.row("filesystem", "disk0/p1"), honest.row("filesystem", "disk0/p1"));
}

#[test]
fn while_a_volume_is_opened() {
    let scanned = Machine::new().scan("open disk0/p15=abort");
    assert_eq!((scanned.code, scanned.deaths()), (2, 1));
    let expected = ("failed".to_owned(), "its reader ended: it aborted".to_owned());
    assert_eq!(scanned.status("filesystem", "disk0/p15"), expected);
    let honest = honest();
    assert_eq!(scanned.packages(), honest.packages());
    // The root's row is the same, but that what it mounts on /boot/efi is not there.
    let (mut row, honest) =
        (scanned.row("filesystem", "disk0/p1").clone(), honest.row("filesystem", "disk0/p1"));
    let notes = row.as_object_mut().unwrap().remove("notes").unwrap();
    assert_eq!(notes, serde_json::json!(["its fstab mounts what is not on these disks"]));
    assert_eq!(row, *honest);
}

#[test]
fn while_the_mounts_are_looked_for() {
    let scanned = Machine::new().scan("mount disk1=overflow");
    assert_eq!((scanned.code, scanned.deaths()), (2, 1));
    let expected = ("failed".to_owned(), "its reader ended: its stack overflowed".to_owned());
    assert_eq!(scanned.status("filesystem", "disk1"), expected);
    assert_eq!(scanned.packages(), honest().packages());
}

#[test]
fn while_partitions_are_looked_at() {
    let scanned = Machine::new().scan("look disk1=abort");
    assert_eq!((scanned.code, scanned.deaths()), (2, 1));
    let expected = ("failed".to_owned(), "what looked at its partitions ended: it aborted".to_owned());
    assert_eq!(scanned.status("disk", "disk1"), expected);
    assert_eq!(scanned.row("disk", "disk1")["label"], "btrfs-zstd.img");
    assert_eq!(scanned.packages(), honest().packages());
}

#[test]
fn while_conclusions_are_drawn() {
    let scanned = Machine::new().scan("conclude=abort");
    assert_eq!((scanned.code, scanned.deaths()), (2, 1));
    let expected = ("failed".to_owned(), "what was found could not be put together: it aborted".to_owned());
    assert_eq!(scanned.status("scanner", "inventory"), expected);
    let honest = honest();
    for (kind, name) in
        [("filesystem", "disk0/p1"), ("filesystem", "disk1"), ("disk", "disk0"), ("partition", "disk0/p14")]
    {
        assert_eq!(scanned.row(kind, name), honest.row(kind, name));
    }
}

#[test]
fn a_listing_goes_on_behind_the_volume_that_it_died_on() {
    let machine = Machine::new();
    let list = |plan: &str| {
        let mut command = machine.command(plan, &["files"]);
        let output = command.arg(machine.image(0)).arg(machine.image(1)).output().unwrap();
        (
            output.status.code().unwrap(),
            String::from_utf8(output.stdout).unwrap(),
            String::from_utf8(output.stderr).unwrap(),
        )
    };
    let (code, all, _) = list("");
    assert_eq!(code, 0);
    let (code, without, err) = list("open disk0/p1=abort");
    assert_eq!(code, 2);
    assert!(err.contains("its reader ended: it aborted"), "{err}");
    let expected: Vec<&str> = all.lines().filter(|line| !line.starts_with("disk0/p1\t")).collect();
    assert_eq!(without.lines().collect::<Vec<_>>(), expected);
}

#[test]
fn lines_of_a_volume_that_was_listed_are_not_lost_with_the_next() {
    let machine = Machine::new();
    let list = |plan: &str| {
        let mut command = machine.command(plan, &["files"]);
        let output = command.arg(machine.image(0)).arg(machine.image(1)).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let of_disk0 = |list: &str| {
        let lines = list.lines().filter(|line| line.starts_with("disk0/"));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    let all = of_disk0(&list(""));
    assert!(all.len() > 1000);
    assert_eq!(of_disk0(&list("open disk1=abort")), all);
}

#[test]
fn an_excluded_volume_of_a_disk_that_nobody_could_look_at_is_no_mistake() {
    let scanned = Machine::new().scan_with("look disk0=abort", &["--exclude", "disk0/p15"]);
    assert_eq!(scanned.status("disk", "disk0").0, "failed");
    assert_eq!(scanned.status("filesystem", "disk1").0, "scanned");
}

#[test]
fn who_reads_a_list_slowly_kills_no_reader() {
    let machine = Machine::new();
    // More lines than a pipe holds.
    let script = format!(
        "\"$0\" files {0} {1} {0}x | (sleep 3; cat)",
        machine.image(0).display(),
        machine.image(1).display()
    );
    std::fs::copy(machine.image(0), format!("{}x", machine.image(0).display())).unwrap();
    let output = std::process::Command::new("sh")
        .args(["-c", &script, crate::PROGRAM])
        .env("HOSTILE_PATIENCE", "1000")
        .env("XDG_STATE_HOME", machine.folder.path().join("state"))
        .output()
        .unwrap();
    let err = String::from_utf8(output.stderr).unwrap();
    assert_eq!(err, "");
    assert!(output.stdout.len() > 128 << 10, "{} bytes do not fill a pipe", output.stdout.len());
}

#[test]
fn without_another_process_the_report_is_the_same() {
    let apart = honest();
    let here = Machine::new().scan_with("", &["--sandbox", "off"]);
    for part in ["machine", "coverage", "packages", "findings"] {
        assert_eq!(apart.report[part], here.report[part], "{part}");
    }
    assert_eq!(here.report["scan"].get("isolation"), None);
    let isolation = &apart.report["scan"]["isolation"];
    assert_eq!(isolation["seccomp"], true);
    assert!(isolation["landlock_abi"].as_u64().is_some_and(|version| version > 0), "{isolation}");
    assert!(!isolation["kernel"].as_str().unwrap().is_empty());
}

//! Readers that lie, flood or hide: what they say is not believed, and waiting for them ends.

use std::time::{Duration, Instant};

use crate::offline::{Machine, Scanned};

fn lie(what: &str, words: &str) -> Scanned {
    lie_to(&Machine::new(), what, words)
}

fn lie_to(machine: &Machine, what: &str, words: &str) -> Scanned {
    let begun = Instant::now();
    let scanned = machine.scan_with(&format!("confined={what}"), &["--volume-deadline", "1"]);
    assert!(begun.elapsed() < Duration::from_secs(60), "{what}: {:?}", begun.elapsed());
    assert_eq!(scanned.code, 2, "{what}: {}", scanned.err);
    assert_eq!(scanned.report["scan"]["complete"], false, "{what}");
    let (status, reason) = scanned.status("disk", "disk0");
    assert_eq!(status, "failed", "{what}");
    assert!(reason.ends_with(words), "{what}: {reason}\n{}", scanned.err);
    // One line for the log, whatever was sent.
    assert_eq!(scanned.err.lines().count(), 1, "{what}: {}", scanned.err);
    for forged in ["forged", "/etc", ".aws", "snap-", "i-0123", "disk7"] {
        assert!(!scanned.report.to_string().contains(forged), "{what}: {:#}", scanned.report);
    }
    scanned
}

#[test]
fn a_message_of_four_gib_is_not_waited_for() {
    lie("four gib", "it sent what is no message");
}

#[test]
fn what_is_no_message_ends_it() {
    lie("garbage", "it sent what is no message");
}

#[test]
fn who_floods_the_channel_is_ended() {
    lie_to(&Machine::patient(), "flood", "it sent more than a scan has to say");
}

#[test]
fn who_sends_progress_for_ever_is_ended() {
    lie("progress for ever", "the time limit has passed");
}

#[test]
fn who_never_answers_is_ended() {
    lie("sleep", "it did not answer");
}

#[test]
fn who_closes_early_and_stays_is_ended() {
    lie("close", "it ended without an answer");
}

#[test]
fn a_disk_of_another_machine_is_a_forgery() {
    lie("other disk", "it named a disk that is not this machine's");
}

#[test]
fn a_finding_on_the_host_is_a_forgery() {
    lie("host path", "it named a disk that is not this machine's");
}

#[test]
fn a_package_of_another_machine_is_a_forgery() {
    lie("other machine", "it named a disk that is not this machine's");
}

#[test]
fn snapshots_are_not_for_it_to_name() {
    lie("snapshots", "it spoke of snapshots, of which it knows nothing");
}

#[test]
fn a_volume_that_was_not_met_is_a_forgery() {
    lie("unmet volume", "it named a volume that it had not met");
}

#[test]
fn steps_do_not_begin_again() {
    let scanned = Machine::new().scan("confined=same step");
    assert_eq!(scanned.code, 2);
    let (status, reason) = scanned.status("disk", "disk0");
    assert_eq!(status, "failed");
    assert!(reason.ends_with("it did the same thing twice"), "{reason}");
}

#[test]
fn what_the_scan_and_the_disks_are_called_is_not_for_it_to_say() {
    let scanned = Machine::new().scan("confined=disk label");
    assert_eq!(scanned.row("disk", "disk0")["label"], "debian-gpt-ext4.img");
    let text = scanned.report.to_string();
    assert!(!text.contains("credentials") && !text.contains("forged"), "{text}");
    assert_eq!(scanned.report["scan"]["tool"]["name"], "stillframe");
    assert_eq!(scanned.report["scan"]["user_paths_masked"], true);
    // It told of one disk of two, and nothing of what is on it.
    assert_eq!(scanned.code, 2, "{:#}", scanned.report["coverage"]);
}

#[test]
fn an_answer_counts_once() {
    let scanned = Machine::new().scan("confined=twice");
    assert_eq!(scanned.code, 2, "{:#}", scanned.report["coverage"]);
    assert_eq!(scanned.deaths(), 0);
}

#[test]
fn an_answer_to_something_else_is_none() {
    let scanned = Machine::new().scan("confined=other answer");
    assert_eq!(scanned.code, 2);
    assert_eq!(scanned.status("scanner", "inventory").0, "failed");
}

#[test]
fn a_finding_by_a_rule_that_there_is_not_is_a_forgery() {
    lie("unknown rule", "it found something by a rule that there is not");
}

#[test]
fn it_speaks_of_its_confinement_once() {
    let scanned = lie("confined again", "it spoke of its confinement again");
    assert!(!scanned.err.contains("curl"), "{}", scanned.err);
}

#[test]
fn a_listing_where_none_was_asked_for_is_nonsense() {
    lie_to(&Machine::patient(), "listing", "it sent what is no message");
}

/// A lie that names volumes: what was met is told as unread.
fn lie_of_volumes(what: &str, words: &str) {
    let scanned = Machine::new().scan_with(&format!("confined={what}"), &["--volume-deadline", "1"]);
    assert_eq!(scanned.code, 2, "{what}: {}", scanned.err);
    let rows = scanned.report["coverage"].as_array().unwrap();
    let of_it =
        |row: &&serde_json::Value| row["reason"].as_str().is_some_and(|reason| reason.contains(words));
    assert!(rows.iter().any(|row| of_it(&row)), "{what}: {rows:#?}");
    let volume = rows.iter().find(|row| row["kind"] == "filesystem" && row["name"] == "disk0/p1");
    assert!(volume.is_none_or(|row| row["status"] != "scanned"), "{what}: {volume:?}");
}

#[test]
fn who_looks_for_mounts_for_ever_is_ended() {
    let begun = Instant::now();
    lie_of_volumes("mounts for ever", "it did the same thing twice");
    assert!(begun.elapsed() < Duration::from_secs(20));
}

#[test]
fn images_lie_on_volumes_and_are_told_once() {
    lie_of_volumes("images for ever", "it did the same thing twice");
    lie_of_volumes("image on nothing", "it named a volume that it had not met");
    lie_of_volumes("no image", "it named a volume that it had not met");
}

#[test]
fn volumes_that_were_met_must_be_read() {
    lie_of_volumes("unread volume", "it did not read all that it met");
}

#[test]
fn it_closes_no_volume_but_the_one_that_it_reads() {
    lie_of_volumes("volume of another step", "it spoke of a volume that it was not reading");
}

#[test]
fn more_packages_than_a_report_holds_are_cut_and_told() {
    let scanned = Machine::patient().scan("confined=many packages");
    assert_eq!(scanned.report["packages"].as_array().unwrap().len(), 200_000);
    let (status, reason) = scanned.status("scanner", "packages");
    assert_eq!(status, "partial");
    assert_eq!(reason, "there are more than a report holds; the rest is left out");
    assert_eq!(scanned.code, 2);
}

#[test]
fn its_log_lines_are_bounded_and_draw_nothing() {
    let machine = Machine::new();
    let mut command = machine.command("confined=log flood", &["scan", "image", "--format", "json"]);
    let output = command.arg(machine.image(0)).output().unwrap();
    let err = String::from_utf8(output.stderr).unwrap();
    assert!(!err.contains('\u{1b}'), "{}", err.chars().take(300).collect::<String>());
    assert!(
        err.lines().count() <= 202 && err.len() < 1 << 20,
        "{} lines of {} bytes",
        err.lines().count(),
        err.len()
    );
    assert_eq!(output.status.code(), Some(2));
}

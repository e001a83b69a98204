use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::clock::SystemClock;

fn place() -> Place {
    Place { account: "111122223333".to_owned(), region: "eu-west-3".to_owned() }
}

fn log(path: &Path) -> Arc<AuditLog> {
    Arc::new(AuditLog::open(path, Arc::new(SystemClock)).unwrap())
}

fn begin(log: &Arc<AuditLog>, block: u32) -> DataCall {
    log.begin_data(&place(), "ebs:GetSnapshotBlock", format!("snap-1#{block}"))
}

fn get(log: &Arc<AuditLog>, block: u32) {
    begin(log, block).end(Some(format!("request-{block}")), "ok");
}

fn results(path: &Path) -> Vec<(String, String)> {
    let text = std::fs::read_to_string(path).unwrap();
    let line = |line: &str| serde_json::from_str::<HashedLine>(line).unwrap().line;
    text.lines().map(line).map(|line| (line.resource, line.result)).collect()
}

#[test]
fn lines_hold_together_and_belong_to_their_owner() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.jsonl");
    for _ in 0..2 {
        let log = log(&path);
        (0..600).for_each(|block| get(&log, block));
        log.change(&place(), "ec2:DeleteSnapshot", "snap-1".into(), None, "requested").unwrap();
    }
    let verified = verify(&path).unwrap();
    assert_eq!((verified.lines, verified.torn), (1202, 0));
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    // The hash is what another tool computes over the line without it.
    let text = std::fs::read_to_string(&path).unwrap();
    let first = text.lines().next().unwrap();
    let (body, hash) = first.split_once(r#","hash":""#).unwrap();
    let mut sum = std::process::Command::new("sha256sum")
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    sum.stdin.take().unwrap().write_all(format!("{body}}}").as_bytes()).unwrap();
    let said = String::from_utf8(sum.wait_with_output().unwrap().stdout).unwrap();
    assert_eq!(said.split(' ').next(), hash.strip_suffix("\"}"));
}

#[test]
fn a_line_that_is_changed_left_out_moved_or_added_to_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.jsonl");
    let writer = log(&path);
    (0..10).for_each(|block| get(&writer, block));
    drop(writer);
    let text = std::fs::read_to_string(&path).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let broken_at = |lines: &[String]| {
        std::fs::write(&path, lines.join("\n") + "\n").unwrap();
        match verify(&path) {
            Err(BrokenLog::Line { line }) => line,
            other => panic!("{other:?}"),
        }
    };
    let owned: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
    let mut changed = owned.clone();
    changed[4] = changed[4].replace("\"ok\"", "\"no\"");
    assert_eq!(broken_at(&changed), 5);
    let mut left_out = owned.clone();
    left_out.remove(4);
    assert_eq!(broken_at(&left_out), 5);
    let mut moved = owned.clone();
    moved.swap(4, 5);
    assert_eq!(broken_at(&moved), 5);
    let mut added = owned.clone();
    added[4] = added[4].replacen('{', "{\"time\":\"\",", 1);
    assert_eq!(broken_at(&added), 5);
    let mut torn = owned;
    torn[4].truncate(20);
    assert_eq!(broken_at(&torn), 5);
}

#[test]
fn a_torn_line_is_said_and_the_log_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.jsonl");
    let first = log(&path);
    (0..3).for_each(|block| get(&first, block));
    drop(first);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes.truncate(bytes.len() - 40);
    std::fs::write(&path, &bytes).unwrap();
    let second = log(&path);
    get(&second, 9);
    drop(second);
    let verified = verify(&path).unwrap();
    assert_eq!((verified.lines, verified.torn), (4, 1));
}

#[test]
fn a_call_whose_end_nobody_waits_for_has_a_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.jsonl");
    let log = log(&path);
    get(&log, 1);
    drop(begin(&log, 2));
    let (late, later) = (begin(&log, 3), begin(&log, 4));
    log.conclude().unwrap();
    // It was concluded: there is no second line of it.
    late.end(None, "ok");
    drop(later);
    get(&log, 5);
    log.flush().unwrap();
    let said = |block: u32, result: &str| (format!("snap-1#{block}"), result.to_owned());
    assert_eq!(
        results(&path),
        [said(1, "ok"), said(2, "cancelled"), said(3, "cancelled"), said(4, "cancelled"), said(5, "ok")]
    );
    assert_eq!(verify(&path).unwrap().lines, 5);
}

#[test]
fn a_log_that_others_may_read_is_closed_to_them() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.jsonl");
    std::fs::write(&path, "").unwrap();
    std::fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
    drop(log(&path));
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
}

/// Nothing can be written to this device. Linux has it always.
#[test]
fn what_cannot_be_written_is_kept_and_then_counted() {
    let log = log(Path::new("/dev/full"));
    let calls = u32::try_from(WAITING_AT_MOST).unwrap() + 10;
    (0..calls).for_each(|block| get(&log, block));
    assert!(log.flush().is_err() && log.conclude().is_err());
    let mut tail = log.lock();
    assert_eq!((tail.waiting.len(), tail.lost), (WAITING_AT_MOST, 10));
    // Room again.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.jsonl");
    tail.file = OpenOptions::new().create(true).read(true).append(true).open(&path).unwrap();
    tail.write().unwrap();
    assert_eq!(tail.lost, 0);
    assert_eq!(results(&path).pop().unwrap().1, "10 lines could not be written");
    assert_eq!(verify(&path).unwrap().lines, u64::from(calls - 9));
}

#[test]
fn several_writers_share_one_log() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.jsonl");
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let log = log(&path);
                for block in 0..1000 {
                    get(&log, block);
                    if block % 100 == 0 {
                        log.change(&place(), "ec2:Test", "x".into(), None, "ok").unwrap();
                    }
                }
            });
        }
    });
    assert_eq!(verify(&path).unwrap().lines, 4040);
}

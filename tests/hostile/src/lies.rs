//! What a reader says that an attacker has taken over.

use std::io::Write;
use std::time::Duration;

use jiff::Timestamp;
use stillframe_model::{
    Coverage, CoverageKind, DiskText, Finding, FindingKind, FingerprintKey, Io, Label, Location, Machine,
    Package, PackageKind, PathView, Purl, REPORT_SCHEMA, Report, Rule, Scan, Scanner, Severity, SnapshotFate,
    SnapshotReceipt, Tool,
};
use stillframe_scanner::isolation::{Confined, Done, Message, StepTold};

/// Lies; `false` where there is no such lie.
pub(crate) fn tell(what: &str, confined: &Confined) -> bool {
    match what {
        "four gib" => {
            let _ = (&confined.control).write_all(&u32::MAX.to_le_bytes());
            rest();
        }
        "garbage" => {
            let _ = (&confined.control).write_all(&[b'{'; 4096]);
            rest();
        }
        "progress for ever" => loop {
            say(confined, &progress());
            std::thread::sleep(Duration::from_millis(20));
        },
        "flood" => loop {
            say(confined, &progress());
        },
        "log flood" => loop {
            say(confined, &Message::Log { level: 1, line: "FLOOD \u{1b}[2J".repeat(1000) });
        },
        "twice" => {
            say(confined, &Message::Done(Done::Report(Box::new(report()))));
            say(confined, &Message::Done(Done::Report(Box::new(report()))));
        }
        "close" => {
            let _ = confined.control.shutdown(std::net::Shutdown::Both);
            rest();
        }
        "other answer" => say(confined, &Message::Done(Done::Rows(Vec::new()))),
        "other disk" => {
            let mut lie = report();
            lie.coverage.push(Coverage::scanned(CoverageKind::Filesystem, "disk7/p1"));
            say(confined, &Message::Done(Done::Report(Box::new(lie))));
        }
        "host path" => {
            let mut lie = report();
            let location = Location::in_volume("/etc", "ext4").at(b"/etc/shadow", None, PathView::Plain);
            lie.findings.push(Finding::new(&RULE, location, "", Vec::new()));
            say(confined, &Message::Done(Done::Report(Box::new(lie))));
        }
        "disk label" => {
            let mut lie = report();
            let mut row = Coverage::scanned(CoverageKind::Disk, "disk0");
            row.facts.label = Some(DiskText::new("/home/operator/.aws/credentials"));
            lie.coverage.push(row);
            say(confined, &Message::Done(Done::Report(Box::new(lie))));
        }
        "other machine" => {
            let mut lie = report();
            lie.packages.push(Package {
                purl: Purl::new("deb", "debian", "x", "1", &[]),
                kind: PackageKind::Deb,
                name: DiskText::new("x"),
                version: DiskText::new("1"),
                architecture: None,
                source_name: None,
                source_version: None,
                module: None,
                found_in: vec![Location::in_volume("i-0123/disk0", "ext4")],
            });
            say(confined, &Message::Done(Done::Report(Box::new(lie))));
        }
        "snapshots" => {
            let now = Timestamp::now();
            let mut lie = report();
            lie.snapshots.push(SnapshotReceipt {
                snapshot_id: DiskText::new("snap-0123456789abcdef0"),
                volume_id: DiskText::new("vol-0123456789abcdef0"),
                device: None,
                created: now,
                completed: None,
                deleted: None,
                confirmed_gone: None,
                lifetime_seconds: 0,
                fate: SnapshotFate::Gone,
                code: None,
                cost_allocation_tag: None,
            });
            say(confined, &Message::Done(Done::Report(Box::new(lie))));
        }
        "many findings" => {
            let mut lie = report();
            let location = Location::in_volume("disk0/p1", "ext4");
            lie.findings = vec![Finding::new(&RULE, location, "", Vec::new()); 150_000];
            say(confined, &Message::Done(Done::Report(Box::new(lie))));
        }
        "other scan" => {
            let mut lie = report();
            lie.coverage.push(Coverage::scanned(CoverageKind::Disk, "disk0"));
            say(confined, &Message::Done(Done::Report(Box::new(lie))));
        }
        "unmet volume" => say(confined, &Message::Step(StepTold::Read("disk0/p99".to_owned()))),
        "same step" => loop {
            say(confined, &Message::Step(StepTold::Look("disk0".to_owned())));
            std::thread::sleep(Duration::from_millis(50));
        },
        "lane" => {
            for mut lane in &confined.lanes {
                // A read of disk 500.
                let _ = lane.write_all(&[1, 0, 244, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
            }
            rest();
        }
        _ => return false,
    }
    true
}

const RULE: Rule = Rule {
    id: "hostile.rule",
    kind: FindingKind::Exposure,
    severity: Severity::High,
    title: "a forged finding",
    remediation: "none",
};

fn say(confined: &Confined, message: &Message) {
    if confined.say(message).is_err() {
        std::process::exit(1);
    }
}

fn rest() {
    std::thread::sleep(Duration::from_secs(3600));
}

fn progress() -> Message {
    Message::Progress {
        stage: "reading \u{1b}[2J".to_owned(),
        entries: 1,
        files_read: 0,
        files_wanted: 0,
        bytes: 0,
    }
}

fn report() -> Report {
    let now = Timestamp::now();
    Report {
        schema: Label::new(REPORT_SCHEMA),
        scan: Scan {
            id: DiskText::new("a forged id"),
            tool: Tool { name: Label::new("forged"), version: Label::new("9") },
            started: now,
            finished: now,
            scanners: vec![Scanner::Inventory],
            fingerprint_key_id: FingerprintKey::new([9; 32]).id(),
            user_paths_masked: false,
            complete: true,
            isolation: None,
        },
        machine: Machine::default(),
        coverage: Vec::new(),
        packages: Vec::new(),
        findings: Vec::new(),
        io: Io::default(),
        snapshots: Vec::new(),
        cloud: None,
    }
}

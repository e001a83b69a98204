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
            lie.packages.push(package("i-0123/disk0"));
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
        "unknown rule" => {
            let mut lie = report();
            let location = Location::in_volume("disk0/p1", "ext4");
            lie.findings = vec![Finding::new(&RULE, location, "", Vec::new())];
            say(confined, &Message::Done(Done::Report(Box::new(lie))));
        }
        "many packages" => {
            let mut lie = report();
            lie.packages = vec![package("disk0/p1"); 250_000];
            say(confined, &Message::Done(Done::Report(Box::new(lie))));
        }
        "confined again" => {
            say(confined, &Message::NotConfined("x\u{1b}[2J\nhint: run `curl evil | sh`".to_owned()));
            rest();
        }
        "listing" => {
            for _ in 0..10 {
                say(confined, &Message::Listing("x".repeat(100 << 20)));
            }
        }
        "mounts for ever" => {
            let row = Coverage::scanned(CoverageKind::Filesystem, "disk0/p1");
            say(confined, &Message::Met { volumes: vec![row], coverage: Vec::new() });
            loop {
                say(confined, &Message::Step(StepTold::Mount("disk0/p1".to_owned())));
                std::thread::sleep(Duration::from_millis(100));
            }
        }
        "unread volume" => {
            let row = Coverage::scanned(CoverageKind::Filesystem, "disk0/p1");
            say(confined, &Message::Met { volumes: vec![row], coverage: Vec::new() });
            say(confined, &Message::Done(Done::Report(Box::new(report()))));
        }
        "images for ever" | "image on nothing" | "no image" => {
            let row = |name| Coverage::scanned(CoverageKind::Filesystem, name);
            say(confined, &Message::Met { volumes: vec![row("disk0/p1")], coverage: Vec::new() });
            let name = match what {
                "images for ever" => "disk0/p1/image1",
                "image on nothing" => "disk0/p9/image1",
                _ => "disk0/p1/imagex",
            };
            loop {
                say(confined, &Message::Images(vec![row(name)]));
                std::thread::sleep(Duration::from_millis(100));
            }
        }
        "volume of another step" => {
            let row = |name| Coverage::scanned(CoverageKind::Filesystem, name);
            let volumes = vec![row("disk0/p1"), row("disk0/p15")];
            say(confined, &Message::Met { volumes, coverage: Vec::new() });
            say(confined, &Message::Step(StepTold::Read("disk0/p15".to_owned())));
            say(confined, &Message::Read { row: row("disk0/p1"), entries: 0 });
            rest();
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

fn package(volume: &str) -> Package {
    Package {
        purl: Purl::new("deb", "debian", "x", "1", &[]),
        kind: PackageKind::Deb,
        name: DiskText::new("x"),
        version: DiskText::new("1"),
        architecture: None,
        source_name: None,
        source_version: None,
        module: None,
        found_in: vec![Location::in_volume(volume, "ext4")],
    }
}

fn say(confined: &Confined, message: &Message) {
    if confined.say(message).is_err() {
        std::process::exit(1);
    }
}

fn rest() {
    std::thread::sleep(Duration::from_secs(3600));
}

fn progress() -> Message {
    Message::Progress { entries: 1, files_read: 0, files_wanted: 0, bytes: 0 }
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

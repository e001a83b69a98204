//! The table against golden text, and against what a terminal needs.

use stillframe_model::{
    CloudCalls, CloudLimits, Coverage, CoverageKind, DataLocality, DiskText, Reason, Report, SnapshotFate,
    Status,
};
use stillframe_reports::{Format, Options};
use unicode_width::UnicodeWidthStr;

use crate::{golden, samples, written};

#[test]
fn it_looks_as_it_did() {
    for (name, report) in samples::all() {
        golden::check(
            &format!("testdata/{name}.table.txt"),
            &written(&report, Format::Table, &Options::default()),
        );
    }
    let everything = Options { verbose: true, list_packages: true, width: Some(100), ..Options::default() };
    for (name, report) in [("instance", samples::instance()), ("leftovers", samples::leftovers())] {
        for width in [60, 100, 120] {
            let options = Options { width: Some(width), ..Options::default() };
            golden::check(
                &format!("testdata/{name}-{width}.table.txt"),
                &written(&report, Format::Table, &options),
            );
        }
        let verbose = Options { verbose: true, width: Some(100), ..Options::default() };
        golden::check(
            &format!("testdata/{name}-verbose.table.txt"),
            &written(&report, Format::Table, &verbose),
        );
    }
    golden::check(
        "testdata/incomplete-verbose.table.txt",
        &written(&samples::incomplete(), Format::Table, &everything),
    );
}

#[test]
fn no_line_passes_the_width() {
    for (name, report) in samples::all() {
        for width in (0..130).chain([200, 1000, u16::MAX]) {
            for all in [false, true] {
                let options =
                    Options { width: Some(width), verbose: all, list_packages: all, ..Options::default() };
                let limit = usize::from(width.max(Options::MIN_WIDTH));
                for line in written(&report, Format::Table, &options).lines() {
                    assert!(line.width() <= limit, "{name} at {width}: {line}");
                    assert_eq!(line, line.trim_end(), "{name} at {width}");
                }
            }
        }
    }
}

#[test]
fn colour_changes_nothing_but_colour() {
    for (name, report) in samples::all() {
        for width in [40, 80, 200] {
            let plain = Options { width: Some(width), ..Options::default() };
            let colored = written(&report, Format::Table, &Options { color: true, ..plain });
            assert!(colored.contains("\x1b[1m"), "{name}");
            assert_eq!(without_colour(&colored), written(&report, Format::Table, &plain), "{name}");
        }
    }
}

#[test]
fn nothing_but_our_own_colours_is_sent_to_the_terminal() {
    for (name, report) in samples::all() {
        let everything = Options { verbose: true, list_packages: true, ..Options::default() };
        let text = written(&report, Format::Table, &everything);
        let bad = text.chars().find(|character| {
            (character.is_control() && *character != '\n')
                || matches!(character, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
        });
        assert_eq!(bad, None, "{name}");
    }
}

#[test]
fn the_verdict_counts_what_was_not_read() {
    let second_line = |report: &Report| {
        written(report, Format::Table, &Options::default()).lines().nth(1).unwrap().to_owned()
    };
    let mut report = samples::complete();
    assert_eq!(second_line(&report), "complete: everything that was met was read");
    report.coverage[2].status = Status::Partial;
    assert_eq!(second_line(&report), "INCOMPLETE: 1 of 12 areas was read only in part");
    report.coverage[5].status = Status::Encrypted;
    report.coverage[6].status = Status::Corrupt;
    assert_eq!(second_line(&report), "INCOMPLETE: 2 of 12 areas were not read, 1 was read only in part");
    report.coverage[2].status = Status::Scanned;
    assert_eq!(second_line(&report), "INCOMPLETE: 2 of 12 areas were not read");
    let mut stopped = samples::complete();
    stopped.scan.complete = false;
    assert_eq!(second_line(&stopped), "INCOMPLETE: the scan ended before everything was read");
    assert_eq!(second_line(&samples::empty()), "nothing scanned: no disk was met");
}

/// The lines of a section, without their indentation.
fn section(report: &Report, heading: &str, options: &Options) -> Vec<String> {
    let text = written(report, Format::Table, options);
    let lines = text.lines().skip_while(|line| *line != heading).skip(1);
    lines.take_while(|line| !line.is_empty()).map(|line| line.trim_start().to_owned()).collect()
}

const WIDE: Options = Options { width: Some(200), color: false, verbose: false, list_packages: false };

fn with_fates(fates: &[SnapshotFate]) -> Report {
    let mut report = samples::instance();
    report.snapshots = (0_u32..)
        .zip(fates)
        .map(|(number, fate)| samples::receipt(&format!("snap-{number}"), "/dev/xvda", *fate))
        .collect();
    report
}

#[test]
fn what_is_left_stands_at_the_top() {
    use SnapshotFate::{Gone, InRecycleBin, Kept, NotRequested, ReadOnly, Requested};
    let left = |report: &Report| {
        let text = written(report, Format::Table, &WIDE);
        text.lines().nth(2).and_then(|line| line.strip_prefix("LEFT BEHIND: ")).map(ToOwned::to_owned)
    };
    for (fates, unknown, expected) in [
        (vec![], 0, None),
        (vec![Gone, ReadOnly], 0, None),
        (vec![Kept], 0, Some("1 of 1 snapshot is still there")),
        (vec![Gone, InRecycleBin, ReadOnly], 0, Some("1 of 2 snapshots is still there")),
        (vec![NotRequested, InRecycleBin], 0, Some("2 of 2 snapshots are still there")),
        (vec![Requested, Gone], 0, Some("1 of 2 snapshots may still be there")),
        (vec![Requested, Kept], 0, Some("2 of 2 snapshots may still be there")),
        (vec![Gone], 1, Some("perhaps what 1 unanswered call made")),
        (vec![Kept], 2, Some("1 of 1 snapshot is still there, and perhaps what 2 unanswered calls made")),
    ] {
        let mut report = with_fates(&fates);
        report.cloud.as_mut().unwrap().unknown_creations = unknown;
        assert_eq!(left(&report).as_deref(), expected, "{fates:?} {unknown}");
    }
}

#[test]
fn every_fate_says_what_it_is_and_what_to_do() {
    use SnapshotFate::{Gone, InRecycleBin, Kept, NotRequested, ReadOnly, Requested};
    let purge = "`stillframe snapshots purge`";
    for (fate, first, to_do) in [
        (Gone, "✓ 1 snapshot, deleted and seen to be gone after 41 s", None),
        (ReadOnly, "– snap-0 was only read, and stays", None),
        (Requested, "! snap-0  deletion requested, not confirmed", Some(format!("→ {purge} looks again."))),
        (NotRequested, "✗ snap-0  deletion not requested", Some(format!("→ {purge} deletes it."))),
        (
            InRecycleBin,
            "! snap-0  in the Recycle Bin: a rule of the region keeps it, and it is billed",
            Some(
                "→ Exclude the tag CreatedBy=Microsoft Defender for Cloud from the Recycle Bin rule. \
                 What it keeps already is billed until the rule lets it go."
                    .to_owned(),
            ),
        ),
        (
            Kept,
            "✗ snap-0  not deleted: the cloud refuses",
            Some(format!(
                "→ It is locked, used by an image, or this role may not delete it: mend that, then run {purge}."
            )),
        ),
    ] {
        let lines = section(&with_fates(&[fate]), "SNAPSHOTS", &WIDE);
        assert_eq!(lines.first().unwrap(), first);
        assert_eq!(lines.get(2), to_do.as_ref(), "{lines:?}");
        assert_eq!(lines.len(), if to_do.is_some() { 3 } else { 1 });
    }
    // Each on a line of its own, however many, and the advice once.
    let lines = section(&with_fates(&[Requested; 40]), "SNAPSHOTS", &WIDE);
    assert_eq!(lines.len(), 81);
    assert!((0..40).all(|number| lines.iter().any(|line| line.starts_with(&format!("! snap-{number}  ")))));
    let read = section(&with_fates(&[ReadOnly; 9]), "SNAPSHOTS", &WIDE);
    assert_eq!(read.last().unwrap(), "and 4 more that were only read, and stay");
    assert_eq!(read.len(), 6);
}

#[test]
fn a_refusal_whose_code_is_known_says_how_to_mend_it() {
    for (code, words) in [
        ("InvalidSnapshot.InUse", "An image uses it"),
        ("SnapshotLocked", "end the lock"),
        ("UnauthorizedOperation", "allow ec2:DeleteSnapshot"),
        ("AccessDenied (explicit)", "allow ec2:DeleteSnapshot"),
        ("HTTP 418", "It is locked, used by an image, or"),
    ] {
        let mut report = with_fates(&[SnapshotFate::Kept]);
        report.snapshots[0].code = Some(DiskText::new(code));
        let lines = section(&report, "SNAPSHOTS", &WIDE);
        assert_eq!(lines[0], format!("✗ snap-0  not deleted: the cloud refuses ({code})"));
        assert!(lines[2].contains(words), "{lines:?}");
    }
}

#[test]
fn a_receipt_tells_every_time_where_all_is_asked_for() {
    let verbose = Options { verbose: true, ..WIDE };
    assert_eq!(
        section(&with_fates(&[SnapshotFate::Gone]), "SNAPSHOTS", &verbose),
        [
            "✓ 1 snapshot, deleted and seen to be gone after 41 s",
            "snap-0  vol-049df61146c4d7901 on /dev/xvda, gone after 41 s, created 2026-03-01 03:12:11 UTC, \
             completed 03:12:26, deleted 03:12:49, gone 03:12:52",
            "in the bill under the tag CreatedBy=Microsoft Defender for Cloud",
        ]
    );
    // The date stands again where it changes.
    assert_eq!(
        section(&with_fates(&[SnapshotFate::ReadOnly]), "SNAPSHOTS", &verbose)[1],
        "vol-049df61146c4d7901, so far 92 d 4 h, created 2025-11-28 23:00:00 UTC, completed 2025-11-29 00:10:00"
    );
}

#[test]
fn a_cloud_is_always_told_of_its_snapshots_and_an_image_never() {
    assert_eq!(section(&with_fates(&[]), "SNAPSHOTS", &WIDE), ["– none was made"]);
    assert!(!written(&samples::complete(), Format::Table, &WIDE).contains("SNAPSHOTS"));
    let mut unknown = with_fates(&[]);
    unknown.cloud.as_mut().unwrap().unknown_creations = 1;
    let expected = [
        "! 1 call to create snapshots had no answer, and may have made some",
        "→ `stillframe snapshots purge` looks again.",
    ];
    assert_eq!(section(&unknown, "SNAPSHOTS", &WIDE), expected);
}

#[test]
fn the_cost_of_a_cloud_names_only_what_was_asked_of_it() {
    let mut report = samples::instance();
    let lines = |report: &Report| section(report, "COST", &WIDE).join("\n");
    let shown = lines(&report);
    for words in ["throttled", "failed", "damaged", "at most:", "touched", "1,204 requests"] {
        assert!(!shown.contains(words), "{words}: {shown}");
    }
    let verbose = section(&report, "COST", &Options { verbose: true, ..WIDE }).join("\n");
    assert!(
        verbose.contains("readers touched 98 blocks, 49.0 MiB in 1,204 requests; those never written cost")
    );

    let cloud = report.cloud.as_mut().unwrap();
    cloud.calls = CloudCalls { throttles: 1, ..cloud.calls };
    cloud.limits = CloudLimits { max_blocks: None, max_cost_nano_usd: Some(2_500_000_000) };
    cloud.locality = DataLocality::Loopback;
    cloud.instance_id = None;
    let shown = lines(&report);
    assert!(shown.contains("12 other calls · 1 throttled\n"), "{shown}");
    assert!(shown.contains("\nallowed at most: $2.50 for reading\n"), "{shown}");
    assert!(shown.contains("\naws account 123456789012 · eu-west-3 · a cloud on this machine\n"), "{shown}");
}

#[test]
fn a_long_list_is_cut_and_says_so() {
    let mut report = samples::complete();
    for number in 0..500 {
        report.coverage.push(Coverage::unread(
            CoverageKind::Partition,
            format!("disk0/p{}", 100 + number),
            Status::Unsupported,
            Reason::words("content of an unknown kind"),
        ));
    }
    let short = written(&report, Format::Table, &Options::default());
    assert!(short.lines().count() < 130, "{}", short.lines().count());
    assert!(short.contains("and 480 more"), "{short}");
    let verbose = Options { verbose: true, ..Options::default() };
    let long = written(&report, Format::Table, &verbose);
    assert!((100..600).all(|number| long.matches(&format!("p{number} ")).count() >= 2));
    assert!(!long.contains("more;"));
}

#[test]
fn a_tree_as_deep_as_a_name_allows_still_fits() {
    let mut report = samples::empty();
    let mut name = "d".to_owned();
    while name.len() < 250 {
        report.coverage.push(Coverage::scanned(CoverageKind::Partition, name.as_str()));
        name.push_str("/d");
    }
    let text = written(&report, Format::Table, &Options { verbose: true, ..Options::default() });
    assert!(text.lines().all(|line| line.width() <= 80));
    assert_eq!(text.matches('✓').count(), report.coverage.len());
}

#[test]
fn no_name_passes_for_the_verdict() {
    let mut report = samples::incomplete();
    let verdict = "complete: everything that was met was read";
    for padding in 0..80 {
        report.machine.hostname = Some(DiskText::new(&format!("{} {verdict}", "x".repeat(padding))));
        for width in [44, 60, 80] {
            let options = Options { width: Some(width), ..Options::default() };
            let text = written(&report, Format::Table, &options);
            let mut lines = text.lines().skip(1).skip_while(|line| line.starts_with("  "));
            assert!(lines.next().unwrap().starts_with("INCOMPLETE:"), "{text}");
        }
    }
}

/// `text` without the sequences from ESC `[` to `m`.
fn without_colour(text: &str) -> String {
    let mut parts = text.split("\x1b[");
    let mut plain = parts.next().unwrap().to_owned();
    for part in parts {
        let (parameters, rest) = part.split_once('m').unwrap();
        assert!(parameters.chars().all(|character| character.is_ascii_digit() || character == ';'));
        plain.push_str(rest);
    }
    plain
}

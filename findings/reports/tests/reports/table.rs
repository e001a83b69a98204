//! The table against golden text, and against what a terminal needs.

use stillframe_model::{Coverage, CoverageKind, DiskText, Reason, Report, Status};
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

//! The report for a person at a terminal, perhaps a tired one.
//!
//! What matters most stands first: which machine, whether everything was read, whether a snapshot is left, how bad it
//! is. Then what was not read and why, what is wrong and what to do, what became of the snapshots, the ledger as a tree,
//! the packages counted, what it cost. Lists are cut after their first few, and say how many follow; [`Options::verbose`]
//! and [`Options::list_packages`] show them all. A snapshot that is left is never cut.
//!
//! No line is wider than the width. Every status has a mark of its own, so that nothing is said by colour alone.

mod cost;
mod findings;
mod ledger;
mod names;
mod numbers;
mod packages;
mod page;
mod snapshots;
mod unread;

use std::io::{self, Write};

use stillframe_model::{Coverage, CoverageKind, DiskText, OperatingSystem, Report, Severity, Status};

use crate::{Options, words};
use numbers::{counted, thousands};
use page::{Lead, Page, SEPARATOR, Style, Text};

pub(crate) fn write(report: &Report, options: &Options, out: &mut dyn Write) -> io::Result<()> {
    let width = options.width.unwrap_or(Options::DEFAULT_WIDTH).max(Options::MIN_WIDTH);
    let mut page = Page::new(width.into(), options.color);
    headline(&mut page, report);
    unread::section(&mut page, &report.coverage, options);
    findings::section(&mut page, report, options);
    snapshots::section(&mut page, report, options);
    ledger::section(&mut page, &report.coverage, options);
    packages::section(&mut page, report, options);
    cost::section(&mut page, report, options);
    out.write_all(page.into_string().as_bytes())
}

/// What was not read, and the ledger, without a report around them.
pub(crate) fn write_coverage(rows: &[Coverage], options: &Options, out: &mut dyn Write) -> io::Result<()> {
    let width = options.width.unwrap_or(Options::DEFAULT_WIDTH).max(Options::MIN_WIDTH);
    let mut page = Page::new(width.into(), options.color);
    unread::section(&mut page, rows, options);
    ledger::section(&mut page, rows, options);
    out.write_all(page.into_string().trim_start_matches('\n').as_bytes())
}

/// Which machine, whether everything was read, whether a snapshot is left, how bad it is.
fn headline(page: &mut Page, report: &Report) {
    let machine = &report.machine;
    let hostname = machine.hostname.as_ref().map(|name| names::name(name.as_str()));
    // Several reports may follow one another, of machines that share a name or have none.
    let instance = words::id_in_cloud(report).map(names::name);
    let mut named = hostname.into_iter().chain(instance);
    let first = named.next().unwrap_or_else(|| words::UNNAMED_MACHINE.to_owned());
    let mut who = vec![Text::new().bold(first)];
    who.extend(named.map(|name| Text::new().plain(name)));
    who.push(match &machine.os {
        Some(os) => Text::new().plain(os_name(os)),
        None => Text::new().plain("operating system not recognised"),
    });
    who.extend(machine.architecture.as_ref().map(|architecture| Text::new().plain(architecture.as_str())));
    // What follows on a line of its own is indented, so that no name can pass for the verdict below.
    let lead = Lead { first: Text::new(), rest: Text::new().plain("  ") };
    page.paragraph(lead.clone(), &joined(who, SEPARATOR));
    page.paragraph(Lead::default(), &verdict(report));
    if let Some(left) = snapshots::left_behind(report) {
        page.paragraph(lead, &left);
    }
    page.paragraph(Lead::default(), &findings_counted(report));
}

fn os_name(os: &OperatingSystem) -> String {
    if let Some(name) = &os.pretty_name {
        return names::name(name.as_str());
    }
    match &os.version_id {
        Some(version) => format!("{} {}", names::name(os.id.as_str()), names::name(version.as_str())),
        None => names::name(os.id.as_str()),
    }
}

/// Whether everything was read, in one line.
fn verdict(report: &Report) -> Text {
    let areas = counted(length(&report.coverage), "area", "areas");
    let partial = report.coverage.iter().filter(|row| row.status == Status::Partial).count();
    let unread = report.coverage.iter().filter(|row| !row.is_complete()).count() - partial;
    let were = |count| if count == 1 { "was" } else { "were" };
    let incomplete = |what: String| Text::new().with(Style::Alarm, "INCOMPLETE:").plain(format!(" {what}"));
    match (unread, partial) {
        (0, 0) if !report.scan.complete => incomplete("the scan ended before everything was read".to_owned()),
        (0, 0) if report.coverage.is_empty() => {
            Text::new().with(Style::Warning, "nothing scanned:").plain(" no disk was met")
        }
        (0, 0) => Text::new().with(Style::Good, "complete:").plain(" everything that was met was read"),
        (unread, 0) => incomplete(format!("{unread} of {areas} {} not read", were(unread))),
        (0, partial) => incomplete(format!("{partial} of {areas} {} read only in part", were(partial))),
        (unread, partial) => incomplete(format!(
            "{unread} of {areas} {} not read, {partial} {} read only in part",
            were(unread),
            were(partial)
        )),
    }
}

/// `3 findings: 1 critical, 2 low`, and what was looked for.
fn findings_counted(report: &Report) -> Text {
    let complete = report.is_complete() && report.scan.complete;
    let mut text = match (report.findings.is_empty(), complete) {
        (true, true) => Text::new().plain("no findings"),
        (true, false) => Text::new().plain("no findings in what was read"),
        (false, _) => {
            let severities = SEVERITIES.into_iter().filter_map(|severity| {
                let count = report.findings.iter().filter(|finding| finding.severity == severity).count();
                let words = format!("{count}\u{a0}{}", words::severity(severity));
                (count > 0).then(|| Text::new().with(severity_style(severity), words))
            });
            let total = counted(length(&report.findings), "finding", "findings");
            Text::new().bold(total).plain(": ").followed_by(joined(severities, ", "))
        }
    };
    if !report.scan.scanners.is_empty() {
        let scanners: Vec<_> = report.scan.scanners.iter().map(|scanner| scanner.name()).collect();
        text.push(Style::Dim, format!("{SEPARATOR}looked for: {}", scanners.join(", ")));
    }
    text
}

/// The worst first.
const SEVERITIES: [Severity; 5] =
    [Severity::Critical, Severity::High, Severity::Medium, Severity::Low, Severity::Info];

const fn severity_style(severity: Severity) -> Style {
    match severity {
        Severity::Critical => Style::Alarm,
        Severity::High => Style::Bad,
        Severity::Medium => Style::Warning,
        Severity::Low | Severity::Info => Style::Plain,
    }
}

const fn status_style(status: Status) -> Style {
    match status {
        Status::Scanned => Style::Good,
        Status::Skipped => Style::Dim,
        Status::Partial => Style::Warning,
        Status::Encrypted | Status::Unsupported | Status::Corrupt | Status::Failed => Style::Bad,
    }
}

/// A mark that tells the status without colour.
const fn status_mark(status: Status) -> &'static str {
    match status {
        Status::Scanned => "✓",
        Status::Skipped => "–",
        Status::Partial => "!",
        Status::Encrypted | Status::Unsupported | Status::Corrupt | Status::Failed => "✗",
    }
}

/// What is known of a row: `ext4 "root" on /, 66,497 entries, 631 packages`.
fn facts(row: &Coverage, options: &Options) -> Vec<String> {
    let facts = &row.facts;
    // A database's name begins with its format.
    let format = facts.format.as_ref().filter(|_| row.kind != CoverageKind::PackageDatabase);
    let mut is = format.into_iter().map(ToString::to_string).collect::<Vec<_>>();
    is.extend(facts.label.as_ref().map(quoted));
    is.extend(facts.mounted_at.as_ref().map(|path| format!("on {}", names::path(path.as_str()))));
    let mut parts: Vec<String> = Vec::new();
    parts.extend((!is.is_empty()).then(|| is.join(" ")));
    parts.extend(facts.entries.map(|count| counted(count, "entry", "entries")));
    parts.extend(facts.packages.map(|count| counted(count, "package", "packages")));
    if options.verbose {
        parts.extend(facts.dirty.map(|dirty| if dirty { "dirty journal" } else { "clean" }.to_owned()));
        parts.extend(facts.start_bytes.map(|start| format!("at byte {}", thousands(start))));
        parts.extend(facts.uuid.as_ref().map(|uuid| format!("uuid {}", names::name(uuid.as_str()))));
        parts.extend(facts.reader.as_ref().map(|reader| format!("read by {reader}")));
    }
    parts
}

fn quoted(label: &DiskText) -> String {
    format!("\"{}\"", if label.as_str().is_empty() { String::new() } else { names::name(label.as_str()) })
}

fn joined(parts: impl IntoIterator<Item = Text>, separator: &str) -> Text {
    let mut text = Text::new();
    for (index, part) in parts.into_iter().enumerate() {
        if index > 0 {
            text.push(Style::Plain, separator);
        }
        text.append(part);
    }
    text
}

fn length<T>(items: &[T]) -> u64 {
    u64::try_from(items.len()).unwrap_or(u64::MAX)
}

/// The line that stands for what a cut list leaves out.
fn and_more(page: &mut Page, indent: usize, count: usize, what: &str) {
    if count > 0 {
        let count = thousands(u64::try_from(count).unwrap_or(u64::MAX));
        page.paragraph(Lead::indent(indent), &Text::new().dim(format!("and\u{a0}{count}\u{a0}more{what}")));
    }
}

//! The purge receipt: what became of each snapshot. One that stays costs money and holds the machine's data, so each of
//! those is named, with what to do; those that are gone are counted, and named where all is asked for.

use std::collections::BTreeSet;

use stillframe_model::{Report, SnapshotFate, SnapshotReceipt};

use super::page::{Lead, Page, Style, Text};
use super::{and_more, length, names, numbers};
use crate::Options;

const MAX_READ_ONLY: usize = 5;

/// What no line breaks, so that it can be copied.
const PURGE: &str = "`stillframe\u{a0}snapshots\u{a0}purge`";

/// The worst first: what somebody has to mend, what a second look may mend.
const LEFT: [SnapshotFate; 4] =
    [SnapshotFate::Kept, SnapshotFate::NotRequested, SnapshotFate::InRecycleBin, SnapshotFate::Requested];

pub(super) fn section(page: &mut Page, report: &Report, options: &Options) {
    let unknown = report.cloud.as_ref().map_or(0, |cloud| cloud.unknown_creations);
    if report.snapshots.is_empty() && report.cloud.is_none() {
        return;
    }
    page.heading("SNAPSHOTS");
    for fate in LEFT {
        left(page, &of_fate(report, fate), options);
    }
    if unknown > 0 {
        let calls = numbers::counted(unknown, "call", "calls");
        let line = format!("{calls} to create snapshots had no answer, and may have made some");
        page.paragraph(marked(Style::Warning, "! "), &Text::new().plain(line));
        advice(page, &format!("{PURGE} looks again."));
    }
    gone(page, &of_fate(report, SnapshotFate::Gone), options);
    read_only(page, &of_fate(report, SnapshotFate::ReadOnly), options);
    if report.snapshots.is_empty() && unknown == 0 {
        page.paragraph(marked(Style::Dim, "– "), &Text::new().plain("none was made"));
    }
    if options.verbose {
        tags(page, report);
    }
}

/// A line for the top of the page where something may be left, else nothing.
pub(super) fn left_behind(report: &Report) -> Option<Text> {
    let made = report.snapshots.iter().filter(|snapshot| snapshot.fate != SnapshotFate::ReadOnly).count();
    let left: Vec<_> = report.snapshots.iter().filter(|snapshot| snapshot.fate.is_left()).collect();
    let unknown = report.cloud.as_ref().map_or(0, |cloud| cloud.unknown_creations);
    let calls = numbers::counted(unknown, "unanswered call", "unanswered calls");
    let is_sure = left.iter().all(|snapshot| snapshot.fate != SnapshotFate::Requested);
    let of = format!(
        "{} of {}",
        numbers::thousands(length(&left)),
        numbers::counted(u64::try_from(made).unwrap_or(u64::MAX), "snapshot", "snapshots")
    );
    let verb = match (is_sure, left.len()) {
        (false, _) => "may still be there",
        (true, 1) => "is still there",
        (true, _) => "are still there",
    };
    let words = match (left.is_empty(), unknown) {
        (true, 0) => return None,
        (true, _) => format!("perhaps what {calls} made"),
        (false, 0) => format!("{of} {verb}"),
        (false, _) => format!("{of} {verb}, and perhaps what {calls} made"),
    };
    Some(Text::new().with(Style::Alarm, "LEFT BEHIND:").plain(format!(" {words}")))
}

fn of_fate(report: &Report, fate: SnapshotFate) -> Vec<&SnapshotReceipt> {
    report.snapshots.iter().filter(|snapshot| snapshot.fate == fate).collect()
}

fn marked(style: Style, mark: &str) -> Lead {
    Lead::hanging(Text::new().plain("  ").with(style, mark))
}

fn advice(page: &mut Page, words: &str) {
    page.paragraph(Lead::hanging(Text::new().plain("    ").bold("→ ")), &Text::new().plain(words));
}

/// Each snapshot of a fate that leaves it there, and once below those that need the same, what to do.
fn left(page: &mut Page, receipts: &[&SnapshotReceipt], options: &Options) {
    let mut receipts = receipts.to_vec();
    receipts.sort_by_key(|receipt| what_to_do(receipt));
    let mut receipts = receipts.into_iter().peekable();
    while let Some(receipt) = receipts.next() {
        let (style, mark) = match receipt.fate {
            SnapshotFate::Kept | SnapshotFate::NotRequested => (Style::Alarm, "✗ "),
            _ => (Style::Warning, "! "),
        };
        let line = Text::new()
            .bold(names::name(receipt.snapshot_id.as_str()))
            .plain("  ")
            .with(style, fate_words(receipt.fate))
            .plain(reason_words(receipt));
        page.paragraph(marked(style, mark), &line);
        page.paragraph(Lead::indent(4), &Text::new().dim(details(receipt, options)));
        let to_do = what_to_do(receipt);
        if receipts.peek().is_none_or(|next| what_to_do(next) != to_do) {
            advice(page, &to_do);
        }
    }
}

const fn fate_words(fate: SnapshotFate) -> &'static str {
    match fate {
        SnapshotFate::Gone => "gone",
        SnapshotFate::InRecycleBin => "in the Recycle Bin",
        SnapshotFate::Requested => "deletion requested, not confirmed",
        SnapshotFate::Kept => "not deleted",
        SnapshotFate::NotRequested => "deletion not requested",
        SnapshotFate::ReadOnly => "only read",
    }
}

/// Why, where it is known, and the cloud's code for it.
fn reason_words(receipt: &SnapshotReceipt) -> String {
    let reason = match receipt.fate {
        SnapshotFate::Kept => ": the cloud refuses",
        SnapshotFate::InRecycleBin => ": a rule of the region keeps it, and it is billed",
        _ => "",
    };
    match &receipt.code {
        Some(code) => format!("{reason} ({})", names::name(code.as_str())),
        None => reason.to_owned(),
    }
}

fn what_to_do(receipt: &SnapshotReceipt) -> String {
    match receipt.fate {
        SnapshotFate::Kept => {
            let code = receipt.code.as_ref().map_or("", |code| code.as_str());
            format!("{}, then run {PURGE}.", mend(code))
        }
        SnapshotFate::NotRequested => format!("{PURGE} deletes it."),
        SnapshotFate::InRecycleBin => {
            let tag = receipt.cost_allocation_tag.as_ref().map_or("CreatedBy", |tag| tag.as_str());
            format!(
                "Exclude the tag {} from the Recycle Bin rule. What it keeps already is billed until the rule lets it go.",
                names::name(tag)
            )
        }
        _ => format!("{PURGE} looks again."),
    }
}

/// What keeps a cloud from deleting. Its own codes where they are known; a lock has none that is documented.
fn mend(code: &str) -> &'static str {
    if code.contains(".InUse") {
        "An image uses it: deregister the image"
    } else if code.contains("Locked") {
        "It is locked: end the lock"
    } else if code.starts_with("UnauthorizedOperation") || code.starts_with("AccessDenied") {
        "This role may not delete it: allow ec2:DeleteSnapshot"
    } else {
        "It is locked, used by an image, or this role may not delete it: mend that"
    }
}

/// `vol-… on /dev/xvda, so far 3 min 4 s, created …`.
fn details(receipt: &SnapshotReceipt, options: &Options) -> String {
    let lifetime = numbers::seconds(receipt.lifetime_seconds);
    let lived = match receipt.fate {
        SnapshotFate::Gone => format!("gone after {lifetime}"),
        SnapshotFate::InRecycleBin => format!("deleted after {lifetime}"),
        _ => format!("so far {lifetime}"),
    };
    format!("{}, {lived}, {}", volume(receipt), timeline(receipt, options.verbose))
}

fn volume(receipt: &SnapshotReceipt) -> String {
    let volume = names::name(receipt.volume_id.as_str());
    match &receipt.device {
        Some(device) => format!("{volume} on {}", names::name(device.as_str())),
        None => volume,
    }
}

/// `created 2026-03-01 03:11:50 UTC, completed 03:12:05, …`: a date stands only where it changes.
fn timeline(receipt: &SnapshotReceipt, all: bool) -> String {
    let mut events = vec![("created", Some(receipt.created))];
    if all {
        let (deleted, gone) = match receipt.fate {
            SnapshotFate::Gone => ("deleted", "gone"),
            SnapshotFate::InRecycleBin => ("deleted", "in\u{a0}the\u{a0}bin"),
            _ => ("deletion\u{a0}requested", "gone"),
        };
        let later =
            [("completed", receipt.completed), (deleted, receipt.deleted), (gone, receipt.confirmed_gone)];
        events.extend(later);
    }
    let mut date = String::new();
    let mut parts = Vec::new();
    for (what, at) in events.into_iter().filter_map(|(what, at)| Some((what, at?))) {
        let day = at.strftime("%Y-%m-%d\u{a0}").to_string();
        let (time, zone) = (at.strftime("%H:%M:%S"), if date.is_empty() { "\u{a0}UTC" } else { "" });
        let shown_day = if day == date { "" } else { day.as_str() };
        parts.push(format!("{what}\u{a0}{shown_day}{time}{zone}"));
        date = day;
    }
    parts.join(", ")
}

fn gone(page: &mut Page, receipts: &[&SnapshotReceipt], options: &Options) {
    let Some(longest) = receipts.iter().map(|receipt| receipt.lifetime_seconds).max() else { return };
    let line = format!(
        "{}, deleted and seen to be gone after\u{a0}{}",
        numbers::counted(length(receipts), "snapshot", "snapshots"),
        numbers::seconds(longest)
    );
    page.paragraph(marked(Style::Good, "✓ "), &Text::new().plain(line));
    if options.verbose {
        for receipt in receipts {
            let mut lead = Lead::indent(4);
            lead.rest = Lead::indent(6).rest;
            let id = Text::new().plain(names::name(receipt.snapshot_id.as_str()));
            page.paragraph(lead, &id.dim(format!("  {}", details(receipt, options))));
        }
    }
}

fn read_only(page: &mut Page, receipts: &[&SnapshotReceipt], options: &Options) {
    let shown = if options.verbose { receipts.len() } else { MAX_READ_ONLY };
    for receipt in receipts.iter().take(shown) {
        let id = Text::new().plain(names::name(receipt.snapshot_id.as_str()));
        page.paragraph(marked(Style::Dim, "– "), &id.plain(" was only read, and stays"));
        if options.verbose {
            page.paragraph(Lead::indent(4), &Text::new().dim(details(receipt, options)));
        }
    }
    and_more(page, 4, receipts.len().saturating_sub(shown), " that were only read, and stay");
}

/// By which tags the snapshots' cost can be found in the bill.
fn tags(page: &mut Page, report: &Report) {
    let tags: BTreeSet<&str> = report
        .snapshots
        .iter()
        .filter_map(|receipt| receipt.cost_allocation_tag.as_ref().map(|tag| tag.as_str()))
        .collect();
    for tag in tags {
        let line = Text::new().dim("in the bill under the tag ").plain(names::name(tag));
        page.paragraph(Lead::indent(2), &line);
    }
}

//! What the scan cost, and which scan it was.
//!
//! Of images it says what was read. Of a cloud's disks it says what was asked of the cloud, since only that is paid: a
//! block that was never written is known to be empty from a list, and one that was read before is not asked for again.

use stillframe_model::{CloudCalls, CloudCost, CloudLimits, CloudUse, DataLocality, Isolation, Report};

use super::numbers::{counted, dollars, duration, size};
use super::page::{Lead, Page, SEPARATOR, Style, Text};
use super::{joined, names};
use crate::Options;

pub(super) fn section(page: &mut Page, report: &Report, options: &Options) {
    page.heading("COST");
    match &report.cloud {
        Some(cloud) => of_cloud(page, report, cloud, options),
        None => of_images(page, report),
    }
    page.paragraph(Lead::indent(2), &Text::new().dim(confinement(report.scan.isolation.as_ref())));
    let scan = &report.scan;
    let identity = [
        format!("{}\u{a0}{}", scan.tool.name, scan.tool.version),
        scan.started.strftime("%Y-%m-%d\u{a0}%H:%M:%S\u{a0}UTC").to_string(),
        format!("scan\u{a0}{}", names::name(scan.id.as_str())),
    ];
    line(page, identity.map(|words| Text::new().dim(words)), Style::Dim);
}

fn of_images(page: &mut Page, report: &Report) {
    let io = &report.io;
    let cost = [
        format!("{} of 512\u{a0}KiB", counted(io.blocks_fetched, "block", "blocks")),
        format!("{} in\u{a0}{}", size(io.bytes_read), counted(io.requests, "request", "requests")),
        counted(io.entries, "entry", "entries"),
        took(report),
    ];
    line(page, cost.map(|words| Text::new().plain(words)), Style::Plain);
}

fn of_cloud(page: &mut Page, report: &Report, cloud: &CloudUse, options: &Options) {
    page.paragraph(Lead::indent(2), &price(&cloud.cost));
    line(page, calls(&cloud.calls), Style::Plain);
    if let Some(limits) = limits(&cloud.limits) {
        page.paragraph(Lead::indent(2), &Text::new().plain(limits));
    }
    let io = &report.io;
    if options.verbose {
        let asked = format!(
            "readers touched {}, {} in\u{a0}{}; those never written cost nothing",
            counted(io.blocks_fetched, "block", "blocks"),
            size(io.bytes_read),
            counted(io.requests, "request", "requests"),
        );
        page.paragraph(Lead::indent(2), &Text::new().plain(asked));
    }
    let walked = [counted(io.entries, "entry", "entries"), took(report)];
    line(page, walked.map(|words| Text::new().plain(words)), Style::Plain);
    line(page, place(cloud), Style::Plain);
}

/// What the process that read the disks could not get out of.
fn confinement(isolation: Option<&Isolation>) -> String {
    let Some(isolation) = isolation else {
        return "read without a confined process".to_owned();
    };
    match (isolation.landlock_abi, isolation.seccomp) {
        (Some(version), true) => format!("read by a confined process: Landlock\u{a0}{version}, seccomp"),
        (Some(version), false) => {
            format!("read by a process confined by Landlock\u{a0}{version}, not by seccomp")
        }
        (None, true) => "read by a process confined by seccomp, not by Landlock".to_owned(),
        (None, false) => "read by a process of its own that this kernel could not confine".to_owned(),
    }
}

fn line(page: &mut Page, parts: impl IntoIterator<Item = Text>, separator: Style) {
    let separator = Text::new().with(separator, SEPARATOR);
    let mut line = Text::new();
    for part in parts {
        if !line.is_empty() {
            line.append(separator.clone());
        }
        line.append(part);
    }
    page.paragraph(Lead::indent(2), &line);
}

fn took(report: &Report) -> String {
    duration(report.scan.finished.duration_since(report.scan.started).as_millis())
}

/// Which account, region and machine, and whether the data stayed in its region.
fn place(cloud: &CloudUse) -> Vec<Text> {
    let mut parts = vec![
        Text::new().plain(format!("{} account\u{a0}{}", cloud.provider, names::name(cloud.account.as_str()))),
        Text::new().plain(names::name(cloud.region.as_str())),
    ];
    parts.extend(cloud.instance_id.as_ref().map(|id| Text::new().plain(names::name(id.as_str()))));
    parts.push(match cloud.locality {
        DataLocality::SameRegion => Text::new().dim("read in-region"),
        DataLocality::Loopback => Text::new().dim("a cloud on this machine"),
        DataLocality::CrossRegionAllowed => {
            Text::new().with(Style::Warning, "read from outside the region, as allowed")
        }
    });
    parts
}

fn price(cost: &CloudCost) -> Text {
    let parts = [
        format!("reads\u{a0}{}", dollars(cost.gets_nano_usd)),
        format!("lists\u{a0}{}", dollars(cost.lists_nano_usd)),
        format!(
            "storage at\u{a0}most\u{a0}{}",
            dollars(cost.storage_nano_usd.div_ceil(1000).saturating_mul(1000))
        ),
    ];
    Text::new()
        .bold(dollars(cost.total_nano_usd))
        .plain(" by list prices: ")
        .followed_by(joined(parts.map(|words| Text::new().plain(words)), ", "))
}

fn calls(calls: &CloudCalls) -> Vec<Text> {
    let others = calls.describes.saturating_add(calls.changes);
    let mut parts = vec![
        format!("{},\u{a0}{}", counted(calls.gets, "block read", "block reads"), size(calls.block_bytes)),
        counted(calls.lists, "list", "lists"),
        counted(others, "other call", "other calls"),
    ]
    .into_iter()
    .map(|words| Text::new().plain(words))
    .collect::<Vec<_>>();
    let troubles = [
        (calls.throttles, "throttled", "throttled"),
        (calls.failures, "failed", "failed"),
        (calls.bad_blocks, "damaged block read again", "damaged blocks read again"),
    ];
    parts.extend(
        troubles
            .into_iter()
            .filter(|(count, ..)| *count > 0)
            .map(|(count, one, many)| Text::new().with(Style::Warning, counted(count, one, many))),
    );
    parts
}

/// `allowed at most: 4,000 blocks, $0.50 of reading`.
fn limits(limits: &CloudLimits) -> Option<String> {
    let blocks = limits.max_blocks.map(|blocks| counted(blocks, "block", "blocks"));
    let reading = limits.max_cost_nano_usd.map(|cost| format!("{} for\u{a0}reading", dollars(cost)));
    let parts: Vec<_> = blocks.into_iter().chain(reading).collect();
    (!parts.is_empty()).then(|| format!("allowed at most: {}", parts.join(", ")))
}

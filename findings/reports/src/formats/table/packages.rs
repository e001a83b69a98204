//! The packages: counted, or all of them where they are asked for.

use std::collections::{BTreeMap, BTreeSet};

use stillframe_model::{Location, Package, PackageKind, Report, Scanner};

use super::page::{Lead, Page, Text};
use super::{joined, names, numbers};
use crate::Options;

const MAX_KERNELS: usize = 5;

pub(super) fn section(page: &mut Page, report: &Report, options: &Options) {
    if report.packages.is_empty() && !report.scan.scanners.contains(&Scanner::Inventory) {
        return;
    }
    page.heading("PACKAGES");
    page.paragraph(Lead::indent(2), &summary(report));
    kernels(page, report, options);
    if report.packages.is_empty() {
        return;
    }
    if options.list_packages {
        list(page, report);
    } else {
        page.paragraph(Lead::indent(2), &Text::new().dim("--format json lists every one"));
    }
}

/// `712 packages: 631 deb, 81 rpm, in 2 databases`.
fn summary(report: &Report) -> Text {
    if report.packages.is_empty() {
        return Text::new().plain("none found");
    }
    let mut counts: BTreeMap<PackageKind, u64> = BTreeMap::new();
    for package in &report.packages {
        *counts.entry(package.kind).or_default() += 1;
    }
    let kinds: Vec<_> = counts
        .into_iter()
        .map(|(kind, count)| format!("{}\u{a0}{}", numbers::thousands(count), kind.purl_type()))
        .collect();
    let total = numbers::counted(super::length(&report.packages), "package", "packages");
    let places = places(report).len();
    let databases = if places > 1 { format!(", in {places} databases") } else { String::new() };
    Text::new().bold(total).plain(format!(": {}{databases}", kinds.join(", ")))
}

fn kernels(page: &mut Page, report: &Report, options: &Options) {
    let kernels = &report.machine.kernels;
    if kernels.is_empty() {
        return;
    }
    let shown = if options.verbose { kernels.len() } else { MAX_KERNELS };
    let names = kernels.iter().take(shown).map(|kernel| {
        Text::new().plain(format!(
            "{} {}",
            names::name(kernel.package.as_str()),
            names::name(kernel.version.as_str())
        ))
    });
    let mut line = joined(names, ", ");
    let hidden = kernels.len().saturating_sub(shown);
    if hidden > 0 {
        line = line.dim(format!(", and\u{a0}{hidden}\u{a0}more"));
    }
    let word = if kernels.len() == 1 { "  kernel: " } else { "  kernels: " };
    page.paragraph(Lead::hanging(Text::new().plain(word)), &line);
}

/// Name, version and architecture; the place too where there are several.
fn list(page: &mut Page, report: &Report) {
    let several = places(report).len() > 1;
    let names =
        report.packages.iter().map(|package| Text::new().plain(names::name(package.name.as_str())).columns());
    let column = names.max().unwrap_or_default().min(page.width() * 2 / 5) + 4;
    for package in &report.packages {
        let name = Text::new().plain(names::name(package.name.as_str()));
        page.row(Lead::indent(2), &name, column, &version(package, several));
    }
}

fn version(package: &Package, with_place: bool) -> Text {
    let mut text = Text::new().plain(names::name(package.version.as_str()));
    if let Some(architecture) = &package.architecture {
        text = text.dim(format!(" {}", names::name(architecture.as_str())));
    }
    if with_place {
        let places: Vec<_> = package.found_in.iter().map(place_words).collect();
        text = text.dim(format!(" {}", places.join(", ")));
    }
    text
}

fn place_words(place: &Location) -> String {
    let volume = names::name(place.volume.as_str());
    match &place.path {
        Some(path) => format!("{volume}:{}", names::path(path.as_str())),
        None => volume,
    }
}

fn places(report: &Report) -> BTreeSet<(&str, Option<&str>)> {
    let places = report.packages.iter().flat_map(|package| &package.found_in);
    places.map(|place| (place.volume.as_str(), place.path.as_ref().map(|path| path.as_str()))).collect()
}

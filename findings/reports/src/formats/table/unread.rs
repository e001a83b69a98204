//! What was not read, or only in part: the rows of the ledger that make a scan incomplete, each with its reason and
//! its first faults.

use stillframe_model::{Coverage, RowFault};

use super::page::{Lead, Page, Text};
use super::{and_more, facts, names, numbers, status_mark, status_style};
use crate::{Options, words};

const MAX_ROWS: usize = 20;
const MAX_FAULTS: usize = 5;

pub(super) fn section(page: &mut Page, coverage: &[Coverage], options: &Options) {
    let rows: Vec<&Coverage> = coverage.iter().filter(|row| !row.is_complete()).collect();
    if rows.is_empty() {
        return;
    }
    page.heading("NOT READ");
    let shown = if options.verbose { rows.len() } else { MAX_ROWS };
    for row in rows.iter().take(shown) {
        entry(page, row, options);
    }
    and_more(page, 2, rows.len().saturating_sub(shown), "; --format json lists them all");
}

fn entry(page: &mut Page, row: &Coverage, options: &Options) {
    let style = status_style(row.status);
    let mut line =
        Text::new().bold(names::name(row.name.as_str())).plain("  ").with(style, words::status(row.status));
    if let Some(reason) = &row.reason {
        line = line.plain(format!(": {reason}"));
    }
    page.paragraph(
        Lead::hanging(Text::new().plain("  ").with(style, status_mark(row.status)).plain(" ")),
        &line,
    );

    let mut known = vec![words::coverage_kind(row.kind).to_owned()];
    known.extend(row.facts.len_bytes.map(numbers::size));
    known.extend(facts(row, options));
    page.paragraph(Lead::indent(4), &Text::new().dim(known.join(", ")));

    let shown = if options.verbose { row.faults.len() } else { MAX_FAULTS };
    for fault in row.faults.iter().take(shown) {
        page.paragraph(Lead::hanging(Text::new().plain("      · ")), &fault_line(fault));
    }
    let listed = row.faults.len().min(shown);
    let count = usize::try_from(row.fault_count).unwrap_or(usize::MAX).max(row.faults.len());
    and_more(page, 8, count - listed, "");
}

/// Where, what was claimed, what is there.
fn fault_line(fault: &RowFault) -> Text {
    match &fault.path {
        Some(path) => Text::new().plain(format!("{}: {}", names::path(path.as_str()), fault.line())),
        None => Text::new().plain(fault.line()),
    }
}

//! The snapshots that were made, and whether they are gone: one that stays costs money and holds the machine's data.

use stillframe_model::{Report, SnapshotReceipt};

use super::page::{Lead, Page, Style, Text};
use super::{length, names, numbers};

pub(super) fn section(page: &mut Page, report: &Report) {
    if report.snapshots.is_empty() {
        return;
    }
    page.heading("SNAPSHOTS");
    let left: Vec<&SnapshotReceipt> =
        report.snapshots.iter().filter(|snapshot| snapshot.confirmed_gone.is_none()).collect();
    let made = numbers::counted(length(&report.snapshots), "snapshot", "snapshots");
    if left.is_empty() {
        let line = Text::new().plain(format!("{made} made, all deleted and seen to be gone"));
        page.paragraph(Lead::hanging(Text::new().plain("  ").with(Style::Good, "✓ ")), &line);
        return;
    }
    // Each one is named: whoever reads this may have to delete it by hand.
    for snapshot in &left {
        let fate = match snapshot.deleted {
            Some(_) => "deletion was asked for, but it was not seen to be gone",
            None => "was not deleted",
        };
        let line = Text::new()
            .bold(names::name(snapshot.snapshot_id.as_str()))
            .plain(format!(" of {}: {fate}", names::name(snapshot.volume_id.as_str())));
        page.paragraph(Lead::hanging(Text::new().plain("  ").with(Style::Alarm, "✗ ")), &line);
    }
    let rest = format!("{} of {made} may be left; `stillframe snapshots purge` deletes them", left.len());
    page.paragraph(Lead::hanging(Text::new().plain("  ").bold("→ ")), &Text::new().plain(rest));
}

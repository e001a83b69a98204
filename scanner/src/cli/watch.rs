//! What a person sees while a scan runs: one line on a terminal that moves, nothing on a pipe.

use std::io::IsTerminal;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use indicatif::{HumanBytes, HumanCount, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::arguments::Global;
use super::output::to_stderr;
use crate::progress::{Progress, Snapshot};

const TICK: Duration = Duration::from_millis(100);

/// Runs `work` and shows how far it is: a line that moves on a terminal, nothing elsewhere.
pub(super) fn watch<T>(global: &Global, progress: &Progress, work: impl FnOnce() -> T) -> T {
    if global.quiet || !std::io::stderr().is_terminal() {
        return work();
    }
    beside(|has_ended| paint(progress, has_ended), work)
}

/// The same for work that takes long and costs money: where there is no terminal, each stage has a line.
pub(super) fn watch_stages<T>(global: &Global, progress: &Progress, work: impl FnOnce() -> T) -> T {
    if global.quiet || std::io::stderr().is_terminal() {
        return watch(global, progress, work);
    }
    beside(|has_ended| tell(progress, has_ended), work)
}

/// Runs `show` on a thread of its own while `work` runs here.
fn beside<T>(show: impl FnOnce(&AtomicBool) + Send, work: impl FnOnce() -> T) -> T {
    let has_ended = AtomicBool::new(false);
    thread::scope(|scope| {
        let shower = scope.spawn(|| show(&has_ended));
        let result = work();
        has_ended.store(true, Ordering::Relaxed);
        shower.thread().unpark();
        result
    })
}

fn paint(progress: &Progress, has_ended: &AtomicBool) {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    if let Ok(style) = ProgressStyle::with_template("{spinner} {wide_msg}") {
        bar.set_style(style);
    }
    let mut pace = Pace::default();
    while !has_ended.load(Ordering::Relaxed) {
        let now = progress.snapshot();
        pace.see(&now, Instant::now());
        bar.set_message(line(&now, &pace, Instant::now()));
        bar.tick();
        thread::park_timeout(TICK);
    }
    bar.finish_and_clear();
}

fn tell(progress: &Progress, has_ended: &AtomicBool) {
    let mut told = String::new();
    while !has_ended.load(Ordering::Relaxed) {
        let now = progress.snapshot();
        if now.stage != told {
            to_stderr(&now.stage);
            told = now.stage;
        }
        thread::park_timeout(TICK);
    }
}

/// Since when things are counted: before, snapshots were waited for, or entries walked.
#[derive(Default)]
struct Pace {
    first_entry: Option<Instant>,
    first_file: Option<Instant>,
}

impl Pace {
    fn see(&mut self, progress: &Snapshot, now: Instant) {
        if progress.is_reading {
            // What has one entry is one tick old at most.
            self.first_entry = self.first_entry.or((progress.entries > 0).then_some(now));
            self.first_file = self.first_file.or((progress.files_wanted > 0).then_some(now));
        }
    }
}

/// So many a second since then.
fn rate(count: u64, since: Option<Instant>, now: Instant) -> u64 {
    let elapsed = since.map(|since| now.saturating_duration_since(since)).unwrap_or_default();
    let milliseconds = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
    count.saturating_mul(1000).checked_div(milliseconds).unwrap_or(0)
}

/// `reading disk0/p1 (ext4) · 12 blocks, $0.0001 · 66,497 entries, 132,994/s · 49 MiB read · 12 of 40 files, 3 s left`.
/// What it costs stands before what a narrow terminal cuts.
fn line(progress: &Snapshot, pace: &Pace, now: Instant) -> String {
    let mut line = progress.stage.clone();
    let Some(measured) = &progress.measured else { return line };
    if let Some(note) = &measured.note {
        line.push_str(&format!(" · {note}"));
    }
    if !progress.is_reading {
        return line;
    }
    let entries = progress.entries;
    line.push_str(&format!(" · {} entries", HumanCount(entries)));
    match rate(entries, pace.first_entry, now) {
        0 => {}
        rate => line.push_str(&format!(", {}/s", HumanCount(rate))),
    }
    line.push_str(&format!(" · {} read", HumanBytes(measured.bytes)));
    if progress.files_wanted > 0 {
        line.push_str(&format!(
            " · {} of {} files",
            HumanCount(progress.files_read),
            HumanCount(progress.files_wanted)
        ));
        let left = progress.files_wanted.saturating_sub(progress.files_read);
        if let Some(seconds) = left.checked_div(rate(progress.files_read, pace.first_file, now)) {
            line.push_str(&format!(", {seconds} s left"));
        }
    }
    line
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects, reason = "a test may panic")]
mod tests {
    use super::*;
    use crate::progress::Measured;

    fn reading() -> Snapshot {
        Snapshot {
            stage: "reading disk0/p1".into(),
            is_reading: true,
            entries: 3000,
            files_read: 10,
            files_wanted: 40,
            measured: Some(Measured { bytes: 5 << 20, note: Some("10 blocks, $0.0001".into()) }),
        }
    }

    #[test]
    fn the_line_says_what_it_costs_how_fast_and_how_long_yet() {
        let begun = Instant::now();
        let mut pace = Pace::default();
        // Minutes of waiting say nothing about how fast anything is read.
        let waiting = Snapshot { stage: "waiting for snapshots".into(), ..Snapshot::default() };
        pace.see(&waiting, begun);
        assert_eq!(line(&waiting, &pace, begun), "waiting for snapshots");
        let first = begun + Duration::from_secs(600);
        pace.see(&Snapshot { entries: 1, ..reading() }, first);
        pace.see(&reading(), first + Duration::from_secs(2));
        let shown = line(&reading(), &pace, first + Duration::from_secs(2));
        assert_eq!(
            shown,
            "reading disk0/p1 · 10 blocks, $0.0001 · 3,000 entries, 1,500/s · 5.00 MiB read · 10 of 40 files, 6 s left"
        );
        assert!(shown.find("$0.0001").is_some_and(|at| at < 78), "an ordinary terminal shows the cost");
    }

    #[test]
    fn where_nothing_is_read_nothing_is_fast() {
        let begun = Instant::now();
        let deleting = Snapshot { stage: "deleting the snapshots".into(), is_reading: false, ..reading() };
        let pace = Pace { first_entry: Some(begun), first_file: Some(begun) };
        let later = begun + Duration::from_secs(60);
        assert_eq!(line(&deleting, &pace, later), "deleting the snapshots · 10 blocks, $0.0001");
    }
}

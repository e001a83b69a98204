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
    let started = Instant::now();
    while !has_ended.load(Ordering::Relaxed) {
        bar.set_message(line(&progress.snapshot(), started.elapsed()));
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

/// `reading disk0/p1 (ext4) · 66,497 entries, 132,994/s · 49 MiB · 12 of 40 files, 3 s left`.
fn line(now: &Snapshot, elapsed: Duration) -> String {
    let milliseconds = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
    let rate = |count: u64| count.saturating_mul(1000).checked_div(milliseconds).unwrap_or(0);
    let mut line = now.stage.clone();
    if let Some(measured) = &now.measured {
        line.push_str(&format!(
            " · {} entries, {}/s · {} read",
            HumanCount(now.entries),
            HumanCount(rate(now.entries)),
            HumanBytes(measured.bytes)
        ));
        if let Some(note) = &measured.note {
            line.push_str(&format!(" · {note}"));
        }
    }
    if now.files_wanted > 0 {
        line.push_str(&format!(
            " · {} of {} files",
            HumanCount(now.files_read),
            HumanCount(now.files_wanted)
        ));
        let left = now.files_wanted.saturating_sub(now.files_read);
        if let Some(seconds) = left.checked_div(rate(now.files_read)) {
            line.push_str(&format!(", {seconds} s left"));
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::Measured;

    #[test]
    fn the_line_says_what_how_fast_and_how_long_yet() {
        let now = Snapshot {
            stage: "reading disk0/p1".into(),
            entries: 3000,
            files_read: 10,
            files_wanted: 40,
            measured: Some(Measured { bytes: 5 << 20, note: Some("10 blocks, $0.000030".into()) }),
        };
        assert_eq!(
            line(&now, Duration::from_secs(2)),
            "reading disk0/p1 · 3,000 entries, 1,500/s · 5.00 MiB read · 10 blocks, $0.000030 · 10 of 40 files, 6 s left"
        );
        let waiting = Snapshot { stage: "waiting for snapshots".into(), ..Snapshot::default() };
        assert_eq!(line(&waiting, Duration::ZERO), "waiting for snapshots");
    }
}

//! What a person sees while a scan runs: one line on a terminal that moves, nothing on a pipe.

use std::io::IsTerminal;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use indicatif::{HumanBytes, HumanCount, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::arguments::Global;
use crate::Disk;
use crate::progress::{Progress, Snapshot};

const TICK: Duration = Duration::from_millis(100);

/// Runs `work` and shows how far it is.
pub(super) fn watch<T>(global: &Global, disks: &[Disk], progress: &Progress, work: impl FnOnce() -> T) -> T {
    if global.quiet || !std::io::stderr().is_terminal() {
        return work();
    }
    let has_ended = AtomicBool::new(false);
    thread::scope(|scope| {
        let painter = scope.spawn(|| paint(disks, progress, &has_ended));
        let result = work();
        has_ended.store(true, Ordering::Relaxed);
        painter.thread().unpark();
        result
    })
}

fn paint(disks: &[Disk], progress: &Progress, has_ended: &AtomicBool) {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    if let Ok(style) = ProgressStyle::with_template("{spinner} {wide_msg}") {
        bar.set_style(style);
    }
    let started = Instant::now();
    while !has_ended.load(Ordering::Relaxed) {
        let bytes = disks.iter().map(|disk| disk.counts().bytes).sum();
        bar.set_message(line(&progress.snapshot(), bytes, started.elapsed()));
        bar.tick();
        thread::park_timeout(TICK);
    }
    bar.finish_and_clear();
}

/// `reading disk0/p1 (ext4) · 66,497 entries, 132,994/s · 49 MiB · 12 of 40 files, 3 s left`.
fn line(now: &Snapshot, bytes: u64, elapsed: Duration) -> String {
    let milliseconds = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
    let rate = |count: u64| count.saturating_mul(1000).checked_div(milliseconds).unwrap_or(0);
    let mut line = format!(
        "{} · {} entries, {}/s · {} read",
        now.stage,
        HumanCount(now.entries),
        HumanCount(rate(now.entries)),
        HumanBytes(bytes)
    );
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

    #[test]
    fn the_line_says_what_how_fast_and_how_long_yet() {
        let now =
            Snapshot { stage: "reading disk0/p1".into(), entries: 3000, files_read: 10, files_wanted: 40 };
        assert_eq!(
            line(&now, 5 << 20, Duration::from_secs(2)),
            "reading disk0/p1 · 3,000 entries, 1,500/s · 5.00 MiB read · 10 of 40 files, 6 s left"
        );
        assert!(line(&Snapshot::default(), 0, Duration::ZERO).contains("0 entries"));
    }
}

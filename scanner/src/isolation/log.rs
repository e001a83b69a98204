//! Log lines of a worker: it has no standard error that anybody reads, so they are messages.

use std::io::{self, Write};
use std::sync::Arc;

use stillframe_model::escape_path;
use tracing::Level;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use super::child::Speaker;
use super::message::Message;

/// The longest line, in characters.
const MAX_CHARS: usize = 300;

/// A level as a number, 1 for errors to 5.
pub(super) const fn number(level: Level) -> u8 {
    match level {
        Level::ERROR => 1,
        Level::WARN => 2,
        Level::INFO => 3,
        Level::DEBUG => 4,
        Level::TRACE => 5,
    }
}

/// The most detailed level that somebody listens to in this process.
pub(super) fn wanted() -> u8 {
    let levels = [Level::ERROR, Level::WARN, Level::INFO, Level::DEBUG, Level::TRACE];
    let most = tracing::level_filters::LevelFilter::current();
    levels.into_iter().filter(|level| *level <= most).map(number).max().unwrap_or(0)
}

/// Logs a line of the worker: bounded, and without what could draw on a terminal.
pub(super) fn relay(level: u8, line: &str) {
    let line: String = line.trim_end().chars().take(MAX_CHARS).collect();
    let line = escape_path(line.as_bytes());
    match level {
        0 | 1 => tracing::error!(target: "stillframe", "reader: {line}"),
        2 => tracing::warn!(target: "stillframe", "reader: {line}"),
        3 => tracing::info!(target: "stillframe", "reader: {line}"),
        _ => tracing::debug!(target: "stillframe", "reader: {line}"),
    }
}

/// Sends what this process logs to its parent, up to `level`.
pub(super) fn start(speaker: Arc<Speaker>, level: u8) {
    let level = match level {
        0 | 1 => Level::ERROR,
        2 => Level::WARN,
        3 => Level::INFO,
        4 => Level::DEBUG,
        _ => Level::TRACE,
    };
    let ours = tracing_subscriber::filter::Targets::new().with_target("stillframe", level);
    let lines = tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(Lines(speaker))
        .with_target(false)
        .with_level(false)
        .with_ansi(false)
        .without_time();
    // Somebody else's subscriber would be as good.
    let _ = lines.finish().with(ours).try_init();
}

struct Lines(Arc<Speaker>);

impl Lines {
    fn line(&self, level: u8) -> Line {
        Line { speaker: self.0.clone(), level, bytes: Vec::new() }
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Line;

    fn make_writer(&'a self) -> Line {
        self.line(3)
    }

    fn make_writer_for(&'a self, meta: &tracing::Metadata<'_>) -> Line {
        self.line(number(*meta.level()))
    }
}

/// Gathers one line, and sends it when it is whole.
struct Line {
    speaker: Arc<Speaker>,
    level: u8,
    bytes: Vec<u8>,
}

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        if !self.bytes.is_empty() {
            let line = String::from_utf8_lossy(&self.bytes).into_owned();
            self.speaker.say(&Message::Log { level: self.level, line });
        }
    }
}

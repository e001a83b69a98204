use tracing_subscriber::filter::LevelFilter;

use super::arguments::{Color, Global, LogFormat};

/// Sends log lines to standard error.
pub(super) fn start(global: &Global) {
    let level = match (global.quiet, global.verbose) {
        (true, _) => LevelFilter::ERROR,
        (false, 0) => LevelFilter::WARN,
        (false, 1) => LevelFilter::INFO,
        (false, _) => LevelFilter::DEBUG,
    };
    let lines =
        tracing_subscriber::fmt().with_max_level(level).with_writer(std::io::stderr).with_target(false);
    match global.log_format {
        LogFormat::Text => lines.with_ansi(global.color == Color::Always).init(),
        LogFormat::Json => lines.json().init(),
    }
}

use std::fs::{self, OpenOptions};
use std::io::{self, BufWriter, IsTerminal, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use stillframe_model::{Report, escape_path};
use stillframe_reports::{Format, Options, write};

use super::arguments::{Color, Global};
use super::failure::Failure;

/// Writes a report to a file, or to standard output.
pub(super) fn report(
    report: &Report,
    format: Format,
    options: &Options,
    path: Option<&Path>,
) -> Result<(), Failure> {
    match path {
        None => to_stdout(|out| {
            write(report, format, options, out).map_err(|error| (error.kind(), Failure::write(None, &error)))
        }),
        Some(path) => to_file(path, |out| {
            write(report, format, options, out).map_err(|error| Failure::write(Some(path), &error))
        }),
    }
}

/// A reader that closes the pipe early (`head`) has what it wanted.
pub(super) fn to_stdout(
    write: impl FnOnce(&mut dyn Write) -> Result<(), (io::ErrorKind, Failure)>,
) -> Result<(), Failure> {
    let mut out = BufWriter::new(io::stdout().lock());
    let written = write(&mut out);
    let flushed = out.flush().map_err(|error| (error.kind(), Failure::write(None, &error)));
    match written.and(flushed) {
        Ok(()) | Err((io::ErrorKind::BrokenPipe, _)) => Ok(()),
        Err((_, failure)) => Err(failure),
    }
}

/// Writes to standard output.
pub(super) fn printed(write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<(), Failure> {
    to_stdout(|out| write(out).map_err(|error| (error.kind(), Failure::write(None, &error))))
}

/// A line to standard error. Nothing is left to do where that is closed.
pub(super) fn to_stderr(line: &str) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}

/// Written beside and renamed: a report that could not be finished leaves the old one whole. Only its owner may read it:
/// it says how a machine can be attacked.
fn to_file(path: &Path, write: impl FnOnce(&mut dyn Write) -> Result<(), Failure>) -> Result<(), Failure> {
    let failed = |error: io::Error| Failure::write(Some(path), &error);
    // A pipe or terminal named as a file takes the report as it is.
    let is_special = fs::metadata(path).is_ok_and(|metadata| !metadata.is_file());
    let target = if is_special { path.to_owned() } else { beside(path) };
    // A new file, and not one that somebody put there for us to write through or to read along.
    let file = OpenOptions::new().write(true).create_new(!is_special).mode(0o600).open(&target);
    let mut out = BufWriter::new(file.map_err(failed)?);
    let written = write(&mut out).and_then(|()| out.flush().map_err(failed));
    if is_special {
        return written;
    }
    match written.and_then(|()| fs::rename(&target, path).map_err(failed)) {
        Ok(()) => Ok(()),
        Err(failure) => {
            // The failure itself is what the operator must hear of.
            let _ = fs::remove_file(&target);
            Err(failure)
        }
    }
}

fn beside(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.part", crate::key::random_name()));
    path.with_file_name(name)
}

/// Escapes what a terminal would not simply show. Lines for a pipe are left as they are.
pub(super) struct OnTerminal<'a>(pub(super) &'a mut dyn Write);

impl Write for OnTerminal<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        for part in String::from_utf8_lossy(bytes).split_inclusive(['\\', '\t', '\n']) {
            let shown = part.trim_end_matches(['\\', '\t', '\n']);
            let end = part.get(shown.len()..).unwrap_or_default();
            self.0.write_all(escape_path(shown.as_bytes()).as_bytes())?;
            self.0.write_all(end.as_bytes())?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Whether colour is wanted on standard output.
pub(super) fn use_color(global: &Global, to_file: bool) -> bool {
    match global.color {
        Color::Always => true,
        Color::Never => false,
        Color::Auto => {
            !to_file
                && io::stdout().is_terminal()
                && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
        }
    }
}

/// The width of the terminal on standard output, in columns.
pub(super) fn width() -> Option<u16> {
    io::stdout()
        .is_terminal()
        .then(|| rustix::termios::tcgetwinsize(io::stdout()).ok())
        .flatten()
        .map(|size| size.ws_col)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_draw_on_a_terminal() {
        let mut shown = Vec::new();
        writeln!(OnTerminal(&mut shown), "p1\t/é\\\\\u{1b}]0;x\u{7}\tf").unwrap();
        assert_eq!(String::from_utf8(shown).unwrap(), "p1\t/é\\\\\\u{1b}]0;x\\u{7}\tf\n");
    }

    #[test]
    fn a_report_is_not_written_into_what_others_put_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("report.json");
        let write = |text: &'static str| {
            to_file(&path, move |out| {
                out.write_all(text.as_bytes()).map_err(|error| Failure::write(None, &error))
            })
        };
        write("one").unwrap();
        write("two").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "two");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        assert_ne!(beside(&path), beside(&path));
    }
}

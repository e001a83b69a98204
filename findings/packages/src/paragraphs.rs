//! Paragraphs of lines, an empty line between them: the form of dpkg's and apk's databases.

use std::ops::ControlFlow;

use stillframe_bytes::Fault;
use stillframe_fs::{FileContent, FsError};

use crate::collector::Collector;
use crate::lines::{Line, visit_lines};
use crate::{MAX_TEXT_DATABASE_BYTES, Parsed};

/// What a database's paragraph says, line by line.
pub(crate) trait Paragraph {
    /// Takes a line that is not empty.
    fn line(&mut self, line: Line<'_>);

    /// Gives what the lines said; at least one was taken.
    fn end(self, collector: &mut Collector) -> ControlFlow<()>;
}

/// Reads all paragraphs of `file`, each into a new one of `begin`, which is told where it begins.
///
/// # Errors
/// What `file` fails with before the first paragraph ends.
pub(crate) fn read_paragraphs<P: Paragraph>(
    file: &mut dyn FileContent,
    what: &'static str,
    begin: impl Fn(u64) -> P,
) -> Result<Parsed, FsError> {
    let mut collector = Collector::default();
    let mut paragraph: Option<P> = None;
    let mut any_ended = false;
    let result = visit_lines(file, MAX_TEXT_DATABASE_BYTES, &mut |line| {
        if !line.bytes.is_empty() {
            paragraph.get_or_insert_with(|| begin(line.at)).line(line);
            return ControlFlow::Continue(());
        }
        let Some(ended) = paragraph.take() else { return ControlFlow::Continue(()) };
        any_ended = true;
        ended.end(&mut collector)
    });
    match result {
        Ok(()) => {
            if let Some(last) = paragraph {
                // Nothing follows that could be broken off.
                let _ = last.end(&mut collector);
            }
        }
        // A paragraph that was cut in its middle is no package.
        Err(error @ FsError::Limit { .. }) => {
            let cap = MAX_TEXT_DATABASE_BYTES;
            let _ = collector.fault(Fault::new(what, cap, cap, file.len_bytes()));
            let _ = collector.error(error);
        }
        Err(error) if any_ended => {
            if let FsError::Corrupt(fault) = error {
                let _ = collector.fault(fault);
            }
            collector.parsed.stopped_by.get_or_insert(error);
        }
        Err(error) => return Err(error),
    }
    Ok(collector.parsed)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file of two paragraphs whose second half cannot be read.
    struct HalfRead(&'static [u8]);

    impl FileContent for HalfRead {
        fn len_bytes(&self) -> u64 {
            1 << 20
        }

        fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> Result<usize, FsError> {
            if offset > 0 {
                return Err(FsError::Encrypted("test"));
            }
            let len = buffer.len();
            buffer.fill(b'x');
            buffer[..self.0.len()].copy_from_slice(self.0);
            Ok(len)
        }
    }

    #[test]
    fn what_was_read_before_an_error_is_kept() {
        let parsed = crate::apk::read(&mut HalfRead(b"P:a\nV:1\n\nP:b\nV:1\n")).unwrap();
        assert_eq!(parsed.packages.len(), 1);
        assert!(matches!(parsed.stopped_by, Some(FsError::Encrypted(_))));
        assert!(matches!(crate::apk::read(&mut HalfRead(b"P:a\nV:1\n")), Err(FsError::Encrypted(_))));
    }
}

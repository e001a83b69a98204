//! apk's `lib/apk/db/installed`: paragraphs of lines of one letter, a colon and a value, as in `APKINDEX`
//! (wiki.alpinelinux.org, "Apk spec"). `P` is the name, `V` the version, `A` the architecture, `o` the origin, which is
//! the source package. Everything in the file is installed.

use std::ops::ControlFlow;

use stillframe_bytes::Fault;
use stillframe_fs::{FileContent, FsError};

use crate::collector::Collector;
use crate::lines::Line;
use crate::paragraphs::{Paragraph, read_paragraphs};
use crate::text::package_text;
use crate::{MAX_TEXT_BYTES, OsPackage, Parsed};

/// Reads an `installed` file.
///
/// # Errors
/// What `file` fails with before the first paragraph ends; what it fails with later is in [`Parsed::stopped_by`].
pub fn read(file: &mut dyn FileContent) -> Result<Parsed, FsError> {
    read_paragraphs(file, "apk installed file", |at| Record { at, ..Record::default() })
}

/// A paragraph of the file.
#[derive(Default)]
struct Record {
    at: u64,
    name: Option<String>,
    version: Option<String>,
    architecture: Option<String>,
    origin: Option<String>,
    /// What is wrong with a wanted line.
    fault: Option<Fault>,
    /// The first line that is none of the format. It harms no other.
    stray: Option<Fault>,
}

impl Paragraph for Record {
    fn line(&mut self, line: Line<'_>) {
        let [letter, b':', value @ ..] = line.bytes else {
            let fault = Fault::new("apk line", line.at, "a letter and a colon", "something else");
            self.stray.get_or_insert(fault);
            return;
        };
        let (what, field) = match letter {
            b'P' => ("apk package name", &mut self.name),
            b'V' => ("apk version", &mut self.version),
            b'A' => ("apk architecture", &mut self.architecture),
            b'o' => ("apk origin", &mut self.origin),
            _ => return,
        };
        let value = value.trim_ascii();
        if field.is_some() {
            self.fault.get_or_insert(Fault::new(what, line.at, "once", "twice"));
        } else if line.is_cut {
            self.fault.get_or_insert(Fault::new(what, line.at, MAX_TEXT_BYTES, "a longer line"));
        } else if !value.is_empty() {
            match package_text(what, line.at, value) {
                Ok(text) => *field = Some(text),
                Err(fault) => {
                    self.fault.get_or_insert(fault);
                }
            }
        }
    }

    fn end(self, collector: &mut Collector) -> ControlFlow<()> {
        if let Some(fault) = self.fault {
            return collector.fault(fault);
        }
        if let Some(fault) = self.stray {
            collector.fault(fault)?;
            if self.name.is_none() {
                return ControlFlow::Continue(());
            }
        }
        let missing = |what| Fault::new(what, self.at, "a line", "none");
        match (self.name, self.version) {
            (Some(name), Some(version)) => collector.package(OsPackage {
                name,
                version,
                architecture: self.architecture,
                source_name: self.origin,
                ..OsPackage::default()
            }),
            (None, _) => collector.fault(missing("apk package name")),
            (_, None) => collector.fault(missing("apk version")),
        }
    }
}

#[cfg(test)]
mod tests {
    use stillframe_fs::MemoryContent;

    use super::*;

    #[test]
    fn paragraphs_are_packages() {
        let text = b"C:Q1abc=\nP:musl\nV:1.2.4-r2\nA:x86_64\nm:A <a@example.org>\no:musl\nF:lib\nR:a\n\nP:no-version\n\
                     \nP:b\nV:1\nZ:Q1==\n";
        let parsed = read(&mut MemoryContent(text.to_vec())).unwrap();
        assert_eq!(parsed.packages.len(), 2);
        let musl = &parsed.packages[0];
        assert_eq!((musl.name.as_str(), musl.version.as_str()), ("musl", "1.2.4-r2"));
        assert_eq!(
            (musl.architecture.as_deref(), musl.source_name.as_deref()),
            (Some("x86_64"), Some("musl"))
        );
        assert_eq!(parsed.packages[1].name, "b");
        assert_eq!(parsed.fault_count, 1);
        assert_eq!(parsed.faults[0].what, "apk version");
    }

    #[test]
    fn rubbish_is_a_fault_per_paragraph() {
        let parsed =
            read(&mut MemoryContent(b"rubbish\nmore\n\nP:a\x07\nV:1\n\nP:a\nP:b\nV:1\n".to_vec())).unwrap();
        assert!(parsed.packages.is_empty());
        assert_eq!(parsed.fault_count, 3);
    }
}

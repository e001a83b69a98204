//! dpkg's `var/lib/dpkg/status`, and the files of `var/lib/dpkg/status.d` that distroless images have in its place.
//!
//! Both are paragraphs of fields as in deb-control(5): a field begins in the first column, a line that begins with a
//! space or tab goes on with the field before, an empty line ends the paragraph. What `Status` says is told in dpkg(1),
//! "package states".

use std::ops::ControlFlow;

use stillframe_bytes::Fault;
use stillframe_fs::{FileContent, FsError};

use crate::collector::Collector;
use crate::lines::Line;
use crate::paragraphs::{Paragraph, read_paragraphs};
use crate::text::package_text;
use crate::{OsPackage, Parsed};

const FILE: &str = "dpkg status file";

/// Reads a `status` file. Packages are those whose state is `installed`; the others are counted.
///
/// # Errors
/// What `file` fails with before the first paragraph ends; what it fails with later is in [`Parsed::stopped_by`].
pub fn read(file: &mut dyn FileContent) -> Result<Parsed, FsError> {
    read_paragraphs(file, FILE, |at| Stanza { at, ..Stanza::default() })
}

/// Reads a file of `status.d`. A paragraph without `Status` is an installed package.
///
/// # Errors
/// As [`read`].
pub fn read_status_d(file: &mut dyn FileContent) -> Result<Parsed, FsError> {
    read_paragraphs(file, FILE, |at| Stanza { at, is_status_d: true, ..Stanza::default() })
}

/// Whether a file of this name in `status.d` is a package's paragraph: the folder has lists of checksums and
/// maintainer scripts beside them.
#[must_use]
pub fn is_status_d_name(name: &[u8]) -> bool {
    const OTHERS: [&[u8]; 6] = [b".md5sums", b".conffiles", b".preinst", b".postinst", b".prerm", b".postrm"];
    !OTHERS.iter().any(|ending| name.ends_with(ending))
}

/// How many packages are in each state that is not `installed`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StateCounts {
    /// Removed, its configuration files kept.
    pub config_files: u64,
    /// Its installation began and did not end.
    pub half_installed: u64,
    /// Its files are there, and it is not configured.
    pub unpacked: u64,
    /// Its configuration began and did not end.
    pub half_configured: u64,
    /// Waits for another package's trigger; its files are there.
    pub triggers_awaited: u64,
    /// Has a trigger to run; its files are there.
    pub triggers_pending: u64,
    /// Known, not there; or another word, or none.
    pub not_installed: u64,
}

impl StateCounts {
    fn count(&mut self, state: &[u8]) {
        let count = match state {
            b"config-files" => &mut self.config_files,
            b"half-installed" => &mut self.half_installed,
            b"unpacked" => &mut self.unpacked,
            b"half-configured" => &mut self.half_configured,
            b"triggers-awaited" => &mut self.triggers_awaited,
            b"triggers-pending" => &mut self.triggers_pending,
            _ => &mut self.not_installed,
        };
        *count = count.saturating_add(1);
    }
}

/// The value of a field, with what is needed to say what is wrong with it.
struct Field {
    at: u64,
    value: Vec<u8>,
    is_cut: bool,
}

impl Field {
    fn text(&self, what: &'static str) -> Result<String, Fault> {
        if self.is_cut {
            return Err(Fault::new(what, self.at, crate::MAX_TEXT_BYTES, "a longer line"));
        }
        package_text(what, self.at, &self.value)
    }
}

/// A paragraph of the file.
#[derive(Default)]
struct Stanza {
    at: u64,
    is_status_d: bool,
    package: Option<Field>,
    status: Option<Field>,
    version: Option<Field>,
    architecture: Option<Field>,
    source: Option<Field>,
    /// A wanted field that is there twice: dpkg would not read such a file.
    twice: Option<Fault>,
    /// The first line that is no field. It harms no field that is one.
    stray: Option<Fault>,
}

impl Paragraph for Stanza {
    fn line(&mut self, line: Line<'_>) {
        // Fields that are wanted have one line; what goes on belongs to others.
        if matches!(line.bytes.first(), Some(b' ' | b'\t')) {
            return;
        }
        let Some(colon) = line.bytes.iter().position(|byte| *byte == b':') else {
            self.stray.get_or_insert(Fault::new("dpkg field", line.at, "a name and a colon", "no colon"));
            return;
        };
        let (name, value) = line.bytes.split_at_checked(colon).unwrap_or_default();
        let field = match name {
            _ if name.eq_ignore_ascii_case(b"Package") => &mut self.package,
            _ if name.eq_ignore_ascii_case(b"Status") => &mut self.status,
            _ if name.eq_ignore_ascii_case(b"Version") => &mut self.version,
            _ if name.eq_ignore_ascii_case(b"Architecture") => &mut self.architecture,
            _ if name.eq_ignore_ascii_case(b"Source") => &mut self.source,
            _ => return,
        };
        if field.is_some() {
            self.twice.get_or_insert(Fault::new("dpkg field", line.at, "once", "twice"));
            return;
        }
        let value = value.get(1..).unwrap_or_default().trim_ascii().to_vec();
        *field = Some(Field { at: line.at, value, is_cut: line.is_cut });
    }

    fn end(self, collector: &mut Collector) -> ControlFlow<()> {
        if let Some(fault) = self.twice {
            return collector.fault(fault);
        }
        if let Some(fault) = self.stray {
            collector.fault(fault)?;
            if self.package.is_none() {
                return ControlFlow::Continue(());
            }
        }
        let state = self.status.as_ref().map(|status| third_word(&status.value));
        let is_installed = state.map_or(self.is_status_d, |state| state == b"installed");
        if self.package.is_some() && !is_installed {
            collector.parsed.not_installed = collector.parsed.not_installed.saturating_add(1);
            collector.parsed.states.count(state.unwrap_or_default());
            return ControlFlow::Continue(());
        }
        match self.package() {
            Ok(package) => collector.package(package),
            Err(fault) => collector.fault(fault),
        }
    }
}

impl Stanza {
    fn package(&self) -> Result<OsPackage, Fault> {
        let required = |field: &Option<Field>, what| match field {
            Some(field) => field.text(what),
            None => Err(Fault::new(what, self.at, "a field", "none")),
        };
        let name = required(&self.package, "dpkg Package")?;
        let version = required(&self.version, "dpkg Version")?;
        let has_value = |field: &&Field| !field.value.is_empty();
        let architecture = self.architecture.as_ref().filter(has_value);
        let architecture = architecture.map(|field| field.text("dpkg Architecture")).transpose()?;
        let (source_name, source_version) = match self.source.as_ref().filter(has_value) {
            Some(source) => source_parts(source)?,
            None => (None, None),
        };
        Ok(OsPackage { name, version, architecture, source_name, source_version, ..OsPackage::default() })
    }
}

fn third_word(status: &[u8]) -> &[u8] {
    status.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()).nth(2).unwrap_or_default()
}

/// `name` or `name (version)`.
fn source_parts(source: &Field) -> Result<(Option<String>, Option<String>), Fault> {
    const WHAT: &str = "dpkg Source";
    if source.is_cut {
        return source.text(WHAT).map(|name| (Some(name), None));
    }
    let text = |bytes: &[u8]| package_text(WHAT, source.at, bytes.trim_ascii()).map(Some);
    let Some(open) = source.value.iter().position(|byte| *byte == b'(') else {
        return Ok((text(&source.value)?, None));
    };
    let (name, rest) = source.value.split_at_checked(open).unwrap_or_default();
    match rest.strip_prefix(b"(").and_then(|rest| rest.strip_suffix(b")")) {
        Some(version) => Ok((text(name)?, text(version)?)),
        None => Err(Fault::new(WHAT, source.at, "a closing parenthesis", "none")),
    }
}

#[cfg(test)]
#[allow(
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    reason = "tests compute with numbers of their own"
)]
mod tests {
    use stillframe_fs::MemoryContent;

    use super::*;
    use crate::MAX_TEXT_DATABASE_BYTES;

    fn parse(text: &str) -> Parsed {
        read(&mut MemoryContent(text.as_bytes().to_vec())).unwrap()
    }

    #[test]
    fn fields_are_read_and_others_passed_over() {
        let parsed = parse(
            "Package: libc-bin\nstatus: install  ok installed\nMaintainer: A <a@example.org>\nSource: glibc (2.36-9)\n\
             Architecture: amd64\nVersion:\t2.36-9+deb12u1 \nDescription: x\n Version: 9\n .\n\nPackage: a\nStatus: \
             hold ok installed\nVersion: 1:2\nSource: b",
        );
        assert!(parsed.is_complete(), "{:?}", parsed.faults);
        let libc = &parsed.packages[0];
        assert_eq!((libc.name.as_str(), libc.version.as_str()), ("libc-bin", "2.36-9+deb12u1"));
        assert_eq!(libc.architecture.as_deref(), Some("amd64"));
        assert_eq!(
            (libc.source_name.as_deref(), libc.source_version.as_deref()),
            (Some("glibc"), Some("2.36-9"))
        );
        assert_eq!((parsed.packages[1].name.as_str(), parsed.packages[1].version.as_str()), ("a", "1:2"));
        assert_eq!(parsed.packages[1].source_name.as_deref(), Some("b"));
    }

    #[test]
    fn states_are_counted() {
        let states = ["config-files", "half-installed", "unpacked", "half-configured", "triggers-awaited"];
        let text: String = states
            .iter()
            .chain(&["triggers-pending", "not-installed", "installed", "rubbish"])
            .map(|state| format!("Package: p-{state}\nStatus: install ok {state}\nVersion: 1\n\n"))
            .collect();
        let parsed = parse(&(text + "Package: no-status\nVersion: 1\n"));
        assert_eq!(parsed.packages.len(), 1);
        assert_eq!(parsed.not_installed, 9);
        let expected = StateCounts {
            config_files: 1,
            half_installed: 1,
            unpacked: 1,
            half_configured: 1,
            triggers_awaited: 1,
            triggers_pending: 1,
            not_installed: 3,
        };
        assert_eq!(parsed.states, expected);
    }

    #[test]
    fn a_bad_paragraph_costs_only_itself() {
        let long = "x".repeat(300);
        let parsed = parse(&format!(
            "Package: a\nVersion: 1\nstray\nStatus: install ok installed\n\n\n\nasdf\n\nPackage: b\nStatus: install ok \
             installed\n\nVersion: 3\nStatus: install ok installed\n\nPackage: {long}\nVersion: 1\nStatus: install ok \
             installed\n\nPackage: e\x1b[1m\nVersion: 1\nStatus: install ok installed\n\nPackage: f\nPackage: \
             g\nStatus: install ok installed\nVersion: 1\n\nPackage: h\nVersion: 1\nStatus: install ok \
             installed\nSource: a (1\n\nPackage: z\nVersion: 1\nStatus: install ok installed\n"
        ));
        let names: Vec<_> = parsed.packages.iter().map(|package| package.name.as_str()).collect();
        assert_eq!(names, ["a", "z"]);
        assert_eq!(parsed.fault_count, 8);
        assert_eq!(parsed.faults[0].what, "dpkg field");
        assert_eq!(parsed.faults[2].what, "dpkg Version");
        assert_eq!(parsed.faults[3].what, "dpkg Package");
    }

    #[test]
    fn status_d_needs_no_status() {
        let text = b"Package: base-files\nVersion: 12\nArchitecture: amd64\n".to_vec();
        let parsed = read_status_d(&mut MemoryContent(text.clone())).unwrap();
        assert_eq!(parsed.packages.len(), 1);
        assert_eq!(read(&mut MemoryContent(text)).unwrap().packages.len(), 0);
        assert!(is_status_d_name(b"python3.11"));
        assert!(!is_status_d_name(b"python3.11.md5sums"));
    }

    /// One line without end, 4 GiB long, after one package.
    struct Endless;

    impl FileContent for Endless {
        fn len_bytes(&self) -> u64 {
            4 << 30
        }

        fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> Result<usize, FsError> {
            let begin = b"Package: a\nVersion: 1\nStatus: install ok installed\n\nPackage: ";
            for (byte, at) in buffer.iter_mut().zip(offset..) {
                *byte = usize::try_from(at).ok().and_then(|at| begin.get(at)).copied().unwrap_or(b'x');
            }
            Ok(buffer.len())
        }
    }

    #[test]
    fn a_hostile_status_file_is_cut() {
        let parsed = read(&mut Endless).unwrap();
        assert_eq!(parsed.packages.len(), 1);
        assert!(matches!(parsed.stopped_by, Some(FsError::Limit { cap: MAX_TEXT_DATABASE_BYTES, .. })));
        assert_eq!(parsed.fault_count, 1);
        assert_eq!(parsed.faults[0].what, "dpkg status file");
    }
}

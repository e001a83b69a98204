//! Mount units of systemd: `systemd.mount(5)`. They mount what no `fstab` names; `snapd` writes one for each snap.
//!
//! Read are the units in `/etc/systemd/system` that something there wants or requires: others wait for somebody to start
//! them.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use stillframe_fs::{FileId, FileKind, ReadOnlyFs, read_whole};

use super::fstab::{self, Line};
use super::{descend, kind_of};

const UNIT_CAP_BYTES: u64 = 64 * 1024;
const MAX_UNITS: usize = 256;
/// Folders of links to what a target wants.
const MAX_WANTS: usize = 256;

/// The lines of the system whose root is `root`, in the order of the units' names.
pub(super) fn lines(fs: &dyn ReadOnlyFs, root: FileId) -> Vec<Line> {
    let Some(folder) = descend(fs, root, &[b"etc", b"systemd", b"system"]) else { return Vec::new() };
    let (mut units, mut wants): (Vec<(Vec<u8>, FileId)>, Vec<FileId>) = (Vec::new(), Vec::new());
    // What cannot be read is told by the walk.
    let _ = fs.read_dir(folder, &mut |entry| {
        let is_wants = entry.name.ends_with(b".wants") || entry.name.ends_with(b".requires");
        if entry.name.ends_with(b".mount") && units.len() < MAX_UNITS {
            units.push((entry.name.to_vec(), entry.id));
        } else if is_wants && wants.len() < MAX_WANTS {
            wants.push(entry.id);
        }
        ControlFlow::Continue(())
    });
    if units.is_empty() {
        return Vec::new();
    }
    let wanted = names_in(fs, &wants);
    // A unit that is a link to `/dev/null` is masked.
    units.retain(|(name, id)| wanted.contains(name) && kind_of(fs, *id, None) == Some(FileKind::File));
    units.sort();
    units.into_iter().filter_map(|(_, id)| line(fs, id)).collect()
}

fn names_in(fs: &dyn ReadOnlyFs, folders: &[FileId]) -> BTreeSet<Vec<u8>> {
    let mut names = BTreeSet::new();
    for folder in folders {
        let _ = fs.read_dir(*folder, &mut |entry| {
            if entry.name.ends_with(b".mount") {
                names.insert(entry.name.to_vec());
            }
            if names.len() < MAX_UNITS { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        });
    }
    names
}

fn line(fs: &dyn ReadOnlyFs, unit: FileId) -> Option<Line> {
    let text = read_whole(&mut *fs.open(unit).ok()?, UNIT_CAP_BYTES).ok()?;
    let text = String::from_utf8_lossy(&text);
    let (what, at) = (value(&text, "What")?, value(&text, "Where")?);
    let (kind, options) = (value(&text, "Type"), value(&text, "Options"));
    fstab::line(what, at, kind.unwrap_or_default(), options.unwrap_or_default())
}

/// The last value of `key` in the section `[Mount]`.
fn value<'t>(text: &'t str, key: &str) -> Option<&'t str> {
    let mut is_in_section = false;
    let mut found = None;
    for line in text.lines().map(str::trim) {
        if line.starts_with('[') {
            is_in_section = line == "[Mount]";
        } else if is_in_section
            && let Some(value) = line.strip_prefix(key).and_then(|rest| rest.trim_start().strip_prefix('='))
        {
            found = Some(value.trim());
        }
    }
    found.filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_those_of_the_mount_section() {
        let unit = "[Unit]\nWhat=no\n[Mount]\nWhat = /var/lib/snapd/snaps/core_1.snap\nWhere=/snap/core/1\n\
            Type=squashfs\nOptions=nodev,ro\n[Install]\nWhere=no\n";
        assert_eq!(value(unit, "What"), Some("/var/lib/snapd/snaps/core_1.snap"));
        assert_eq!(value(unit, "Where"), Some("/snap/core/1"));
        assert_eq!(value(unit, "Type"), Some("squashfs"));
        assert_eq!(value(unit, "LazyUnmount"), None);
    }
}

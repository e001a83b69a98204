//! Mount units of systemd: `systemd.mount(5)`. They mount what no `fstab` names; `snapd` writes one for each snap.

use super::fstab::{self, Line};

/// The line that a unit makes, if it mounts a filesystem of a disk or of a file.
pub(super) fn line(text: &str) -> Option<Line> {
    let (what, at) = (value(text, "What")?, value(text, "Where")?);
    let (kind, options) = (value(text, "Type"), value(text, "Options"));
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

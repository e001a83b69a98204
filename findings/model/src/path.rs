use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::text::push_shown;
use crate::{Domain, FingerprintKey};

/// The longest shown path, in characters; what is longer is cut in its middle.
const MAX_PATH_CHARS: usize = 1024;

/// A path as a report shows it: escaped, bounded, and with people's names under home roots replaced.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(with = "String")]
pub struct ShownPath(String);

impl ShownPath {
    /// The path.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for ShownPath {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        if text.chars().count() > MAX_PATH_CHARS || text.chars().any(char::is_control) {
            return Err("a path is longer than 1024 characters or has control characters");
        }
        Ok(Self(text))
    }
}

impl fmt::Display for ShownPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The folders whose entries are named after people. btrfs subvolumes called `@home` count as one.
const HOME_ROOTS: [&[u8]; 14] = [
    b"/home",
    b"/export/home",
    b"/usr/home",
    b"/var/home",
    b"/@home",
    b"/Users",
    b"/Documents and Settings",
    b"/Windows.old/Users",
    b"/var/mail",
    b"/var/spool/mail",
    b"/var/spool/cron/crontabs",
    b"/var/lib/AccountsService/users",
    b"/var/lib/AccountsService/icons",
    b"/var/lib/systemd/linger",
];

/// How paths are shown.
#[derive(Clone, Copy)]
pub enum PathView<'a> {
    /// As they are: the operator asked for it (`--show-user-paths`).
    Plain,
    /// With the user's component under a home root as `~` and 8 digits of its fingerprint.
    Masked(&'a FingerprintKey),
}

impl PathView<'_> {
    /// `path`, absolute and separated by `/`, as the report shows it.
    #[must_use]
    pub fn show(&self, path: &[u8]) -> ShownPath {
        let Self::Masked(key) = self else { return ShownPath(cut(&escape_path(path))) };
        let Some((root, user, rest)) = split_at_user(path) else { return ShownPath(cut(&escape_path(path))) };
        let user = key.fingerprint(Domain::HomeUser, user);
        ShownPath(cut(&format!("{}/~{}{}", escape_path(root), user.short(), escape_path(rest))))
    }

    /// The path from a filesystem's root of what the machine sees at `on_machine`: a person's name is hidden there that is
    /// hidden in the machine's path, though the root of homes is not in sight.
    #[must_use]
    pub fn show_beside(&self, path: &[u8], on_machine: &[u8]) -> ShownPath {
        if let Self::Masked(key) = self
            && let Some((_, user, rest)) = split_at_user(on_machine)
            && let Some(before) = path.strip_suffix(rest).and_then(|start| start.strip_suffix(user))
            && before.ends_with(b"/")
        {
            let user = key.fingerprint(Domain::HomeUser, user);
            return ShownPath(cut(&format!("{}~{}{}", escape_path(before), user.short(), escape_path(rest))));
        }
        self.show(path)
    }
}

/// Splits a path under a home root into the root, the user's component and what follows it.
pub(crate) fn split_at_user(path: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let system = path.len().saturating_sub(below_subvolume(path).len());
    let root = [0, system].into_iter().find_map(|skip| {
        let inner = path.get(skip..)?;
        let root = HOME_ROOTS.iter().find(|root| {
            inner
                .split_at_checked(root.len())
                .is_some_and(|(start, rest)| start.eq_ignore_ascii_case(root) && rest.first() == Some(&b'/'))
        })?;
        path.get(..skip.saturating_add(root.len()))
    })?;
    let below = path.get(root.len().saturating_add(1)..)?;
    let end = below.iter().position(|byte| *byte == b'/').unwrap_or(below.len());
    let (user, rest) = below.split_at_checked(end)?;
    (!user.is_empty()).then_some((root, user, rest))
}

/// `path` below the btrfs subvolume of a system (`/@`, `/@rootfs`) or of a snapshot of one (`/.snapshots/7/snapshot`).
fn below_subvolume(path: &[u8]) -> &[u8] {
    let mut rest = path;
    // A snapshot may lie in a subvolume.
    for _ in 0..2 {
        let mut parts = rest.splitn(5, |byte| *byte == b'/').skip(1);
        let len = match (parts.next(), parts.next(), parts.next()) {
            (Some(first @ (b".snapshots" | b"@snapshots")), Some(number), Some(b"snapshot")) => {
                first.len().saturating_add(number.len()).saturating_add(b"///snapshot".len())
            }
            (Some(first), ..) if first.starts_with(b"@") => first.len().saturating_add(1),
            _ => break,
        };
        rest = rest.get(len..).unwrap_or_default();
    }
    rest
}

/// `path` with what is not UTF-8 as `\xHH`, a backslash as `\\`, and what a terminal would not simply show escaped.
#[must_use]
pub fn escape_path(path: &[u8]) -> String {
    let mut shown = String::with_capacity(path.len());
    for chunk in path.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '\\' => shown.push_str("\\\\"),
                '\t' => shown.push_str("\\t"),
                '\n' => shown.push_str("\\n"),
                other => push_shown(&mut shown, other),
            }
        }
        for byte in chunk.invalid() {
            shown.push_str(&format!("\\x{byte:02x}"));
        }
    }
    shown
}

/// Keeps the start and the end of a path that is too long.
fn cut(path: &str) -> String {
    let count = path.chars().count();
    if count <= MAX_PATH_CHARS {
        return path.to_owned();
    }
    let half = MAX_PATH_CHARS / 2 - 1;
    let start: String = path.chars().take(half).collect();
    let end: String = path.chars().skip(count.saturating_sub(half)).collect();
    format!("{start}…{end}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_are_masked_and_nothing_else() {
        let key = FingerprintKey::new([3; 32]);
        let view = PathView::Masked(&key);
        let mask = format!("~{}", key.fingerprint(Domain::HomeUser, b"alice").short());
        assert_eq!(view.show(b"/home/alice/.ssh/id").as_str(), format!("/home/{mask}/.ssh/id"));
        assert_eq!(view.show(b"/home/alice").as_str(), format!("/home/{mask}"));
        assert_eq!(view.show(b"/Users/alice/x").as_str(), format!("/Users/{mask}/x"));
        for root in ["/@home", "/@/home", "/@rootfs/home", "/var/mail", "/var/spool/cron/crontabs"] {
            assert_eq!(view.show(format!("{root}/alice").as_bytes()).as_str(), format!("{root}/{mask}"));
        }
        for root in
            ["/.snapshots/7/snapshot/home", "/@/.snapshots/7/snapshot/home", "/@snapshots/7/snapshot/home"]
        {
            assert_eq!(view.show(format!("{root}/alice/x").as_bytes()).as_str(), format!("{root}/{mask}/x"));
        }
        for other in ["/home", "/home/", "/homework/alice", "/etc/alice", "/opt/home/alice"] {
            assert_eq!(view.show(other.as_bytes()).as_str(), other);
        }
        assert_eq!(PathView::Plain.show(b"/home/alice").as_str(), "/home/alice");
    }

    #[test]
    fn a_path_on_a_volume_of_homes_hides_whom_the_machine_s_path_hides() {
        let key = FingerprintKey::new([3; 32]);
        let view = PathView::Masked(&key);
        let mask = format!("~{}", key.fingerprint(Domain::HomeUser, b"alice").short());
        let shown = |path: &str, machine: &str| {
            view.show_beside(path.as_bytes(), machine.as_bytes()).as_str().to_owned()
        };
        assert_eq!(shown("/alice/db/x", "/home/alice/db/x"), format!("/{mask}/db/x"));
        assert_eq!(shown("/alice", "/home/alice"), format!("/{mask}"));
        assert_eq!(shown("/homes/alice/x", "/home/alice/x"), format!("/homes/{mask}/x"));
        // A volume that is mounted on one home: its own paths name nobody.
        assert_eq!(shown("/x", "/home/alice/x"), "/x");
        assert_eq!(shown("/malice/x", "/home/alice/x"), "/malice/x");
        assert_eq!(shown("/home/alice/x", "/mnt/home/alice/x"), format!("/home/{mask}/x"));
        assert_eq!(PathView::Plain.show_beside(b"/alice/x", b"/home/alice/x").as_str(), "/alice/x");
    }

    #[test]
    fn names_are_escaped_and_bounded() {
        assert_eq!(escape_path(b"/a\\b\tc\nd\xff\x1b"), "/a\\\\b\\tc\\nd\\xff\\u{1b}");
        let long = PathView::Plain.show(&[b'x'; 5000]);
        assert!(long.as_str().chars().count() <= MAX_PATH_CHARS);
        assert!(ShownPath::try_from(long.to_string()).is_ok());
    }
}

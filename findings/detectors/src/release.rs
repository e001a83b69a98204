//! Which release is installed: `os-release(5)`, `lsb-release`, and the one-line files of distributions before them.

use stillframe_fs::FsError;
use stillframe_model::Scanner;

use crate::{Delivered, Detector, Fact, Found, Interest, Pattern, Release, ReleaseSource, Sourced};

const CAP_BYTES: u64 = 64 * 1024;
/// The longest name or number of a release that is believed to be one.
const MAX_NAME_BYTES: usize = 64;

pub(crate) struct ReleaseFiles;

const FILES: [(&str, ReleaseSource); 16] = [
    ("/etc/os-release", ReleaseSource::EtcOsRelease),
    ("/usr/lib/os-release", ReleaseSource::UsrOsRelease),
    ("/etc/lsb-release", ReleaseSource::LsbRelease),
    ("/etc/oracle-release", ReleaseSource::OldRelease),
    ("/etc/centos-release", ReleaseSource::OldRelease),
    ("/etc/fedora-release", ReleaseSource::OldRelease),
    ("/etc/system-release", ReleaseSource::OldRelease),
    ("/etc/redhat-release", ReleaseSource::OldRelease),
    ("/etc/rocky-release", ReleaseSource::OldRelease),
    ("/etc/almalinux-release", ReleaseSource::OldRelease),
    ("/etc/SuSE-release", ReleaseSource::OldRelease),
    ("/etc/gentoo-release", ReleaseSource::OldRelease),
    ("/etc/slackware-version", ReleaseSource::OldRelease),
    ("/etc/mariner-release", ReleaseSource::OldRelease),
    ("/etc/debian_version", ReleaseSource::VersionOnly),
    ("/etc/alpine-release", ReleaseSource::VersionOnly),
];

impl Detector for ReleaseFiles {
    fn name(&self) -> &'static str {
        "release"
    }

    fn scanner(&self) -> Scanner {
        Scanner::Inventory
    }

    fn interests(&self) -> Vec<Interest> {
        FILES.iter().map(|(path, _)| Interest::whole(Pattern::Path(path), CAP_BYTES)).collect()
    }

    fn inspect(
        &self,
        found: &Found<'_>,
        content: Delivered<'_>,
        facts: &mut Vec<Sourced<Fact>>,
    ) -> Result<(), FsError> {
        let Delivered::Whole(bytes) = content else { return Ok(()) };
        let source = FILES.iter().find(|(path, _)| path.as_bytes() == found.path).map(|(_, source)| *source);
        let text = String::from_utf8_lossy(bytes);
        let release = match source {
            Some(source @ (ReleaseSource::EtcOsRelease | ReleaseSource::UsrOsRelease)) => {
                os_release(source, &text)
            }
            Some(ReleaseSource::LsbRelease) => lsb_release(&text),
            Some(ReleaseSource::OldRelease) => old_release(&text),
            Some(ReleaseSource::VersionOnly) => version_only(found.name, &text),
            None => None,
        };
        facts.extend(release.map(|release| found.fact(Fact::Release(named(release)))));
        Ok(())
    }
}

/// The release without what is no name or number of one: such a file may be a link to another, whose content must not
/// leave.
fn named(release: Release) -> Release {
    let is_name = |text: &String| {
        let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b" ._+~/()-".contains(&byte);
        text.len() <= MAX_NAME_BYTES && text.bytes().all(is_allowed)
    };
    Release {
        id: if is_name(&release.id) { release.id } else { "linux".to_owned() },
        version_id: release.version_id.filter(is_name),
        codename: release.codename.filter(is_name),
        id_like: release.id_like.into_iter().filter(is_name).collect(),
        ..release
    }
}

/// The value of `key` in lines of `KEY=value`, its quotes and escapes removed as a shell would. Of several the last.
fn value(text: &str, key: &str) -> Option<String> {
    let line =
        text.lines().filter_map(|line| line.trim().strip_prefix(key)?.strip_prefix('=')).next_back()?;
    let line = line.trim();
    let quote = line.chars().next().filter(|first| matches!(first, '"' | '\''));
    let inner = match quote {
        Some(quote) => line.strip_prefix(quote)?.split_once(quote).map_or(line, |(inner, _)| inner),
        None => line,
    };
    let mut value = String::new();
    let mut chars = inner.chars();
    while let Some(character) = chars.next() {
        match character {
            '\\' if quote != Some('\'') => value.extend(chars.next()),
            other => value.push(other),
        }
    }
    let value = value.trim();
    (!value.is_empty()).then(|| value.to_owned())
}

fn os_release(source: ReleaseSource, text: &str) -> Option<Release> {
    let id = value(text, "ID").map(|id| id.to_lowercase());
    let name = value(text, "PRETTY_NAME").or_else(|| value(text, "NAME"));
    if id.is_none() && name.is_none() {
        return None;
    }
    Some(Release {
        source,
        // The default that os-release(5) gives.
        id: id.unwrap_or_else(|| "linux".to_owned()),
        version_id: value(text, "VERSION_ID"),
        codename: value(text, "VERSION_CODENAME"),
        pretty_name: name,
        id_like: value(text, "ID_LIKE")
            .map(|like| like.split_whitespace().map(str::to_lowercase).take(8).collect())
            .unwrap_or_default(),
    })
}

fn lsb_release(text: &str) -> Option<Release> {
    Some(Release {
        source: ReleaseSource::LsbRelease,
        id: value(text, "DISTRIB_ID")?.to_lowercase(),
        version_id: value(text, "DISTRIB_RELEASE"),
        codename: value(text, "DISTRIB_CODENAME"),
        pretty_name: value(text, "DISTRIB_DESCRIPTION"),
        id_like: Vec::new(),
    })
}

/// How distributions begin the line, and their `ID` of today. A longer beginning stands before a shorter one.
const BEGINNINGS: [(&str, &str); 20] = [
    ("red hat enterprise", "rhel"),
    ("red hat linux", "redhat"),
    ("centos", "centos"),
    ("fedora", "fedora"),
    ("oracle linux", "ol"),
    ("enterprise linux", "ol"),
    ("amazon linux", "amzn"),
    ("scientific linux", "scientific"),
    ("rocky linux", "rocky"),
    ("almalinux", "almalinux"),
    ("virtuozzo", "virtuozzo"),
    ("cloudlinux", "cloudlinux"),
    ("xenserver", "xenenterprise"),
    ("suse linux enterprise server", "sles"),
    ("suse linux enterprise desktop", "sled"),
    ("opensuse", "opensuse"),
    ("gentoo", "gentoo"),
    ("slackware", "slackware"),
    ("cbl-mariner", "mariner"),
    ("photon", "photon"),
];

/// One line such as `CentOS release 6.10 (Final)`; SUSE adds lines `VERSION = 11` and `PATCHLEVEL = 4`.
fn old_release(text: &str) -> Option<Release> {
    let line = text.lines().map(str::trim).find(|line| !line.is_empty())?;
    let lower = line.to_lowercase();
    let (_, id) = BEGINNINGS.iter().find(|(beginning, _)| lower.starts_with(beginning))?;
    let is_version = |word: &&str| word.starts_with(|first: char| first.is_ascii_digit());
    let setting = |key: &str| {
        let line = text.lines().filter_map(|line| line.trim().strip_prefix(key)).next()?;
        line.trim_start().strip_prefix('=').map(str::trim).filter(is_version)
    };
    let version = match (setting("VERSION"), setting("PATCHLEVEL")) {
        (Some(version), Some(level)) if level != "0" && !version.contains('.') => {
            Some(format!("{version}.{level}"))
        }
        (Some(version), _) => Some(version.to_owned()),
        _ => line.split_whitespace().find(is_version).map(str::to_owned),
    };
    // In parentheses SUSE has the architecture, and Amazon Linux its own name once more.
    let codename = line
        .rsplit_once('(')
        .and_then(|(_, rest)| rest.strip_suffix(')'))
        .filter(|name| *name != "x86_64" && !line.starts_with(name));
    Some(Release {
        source: ReleaseSource::OldRelease,
        id: (*id).to_owned(),
        version_id: version,
        codename: codename.map(str::to_owned),
        pretty_name: Some(line.to_owned()),
        id_like: Vec::new(),
    })
}

fn version_only(name: &[u8], text: &str) -> Option<Release> {
    let version = text.lines().next()?.trim();
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._+~/-".contains(&byte);
    if version.is_empty() || version.len() > MAX_NAME_BYTES || !version.bytes().all(is_allowed) {
        return None;
    }
    let id = if name == b"alpine-release" { "alpine" } else { "debian" };
    let is_number = version.starts_with(|first: char| first.is_ascii_digit());
    Some(Release {
        source: ReleaseSource::VersionOnly,
        id: id.to_owned(),
        version_id: is_number.then(|| version.to_owned()),
        codename: (!is_number).then(|| version.split('/').next().unwrap_or(version).to_owned()),
        pretty_name: None,
        id_like: Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn os_release_is_read_as_a_shell_would() {
        let text = "# comment\nNAME=\"x\"\nID=debian\nVERSION_ID=\"12\"\nID=\"De\\bian\" # later wins\nPRETTY_NAME='A \"b\" \\c'\nID_LIKE=\"a B\"\n";
        let release = os_release(ReleaseSource::EtcOsRelease, text).unwrap();
        assert_eq!(release.id, "debian");
        assert_eq!(release.version_id.as_deref(), Some("12"));
        assert_eq!(release.pretty_name.as_deref(), Some("A \"b\" \\c"));
        assert_eq!(release.id_like, ["a", "b"]);
        assert_eq!(os_release(ReleaseSource::EtcOsRelease, "HOME_URL=x\n"), None);
        assert_eq!(os_release(ReleaseSource::EtcOsRelease, "NAME=x\n").unwrap().id, "linux");
    }

    #[test]
    fn old_files_are_read() {
        let old =
            |text| old_release(text).map(|release| (release.id, release.version_id.unwrap_or_default()));
        let is = |id: &str, version: &str| Some((id.to_owned(), version.to_owned()));
        assert_eq!(old("CentOS release 6.10 (Final)\n"), is("centos", "6.10"));
        assert_eq!(old("CentOS Linux release 7.9.2009 (Core)"), is("centos", "7.9.2009"));
        assert_eq!(old("Red Hat Enterprise Linux Server release 5.11 (Tikanga)"), is("rhel", "5.11"));
        assert_eq!(old("Amazon Linux AMI release 2018.03"), is("amzn", "2018.03"));
        assert_eq!(
            old("SUSE Linux Enterprise Server 11 (x86_64)\nVERSION = 11\nPATCHLEVEL = 4\n"),
            is("sles", "11.4")
        );
        let amazon = old_release("Amazon Linux release 2023.5.20240805 (Amazon Linux)\n").unwrap();
        assert_eq!((amazon.version_id.as_deref(), amazon.codename), (Some("2023.5.20240805"), None));
        assert_eq!(old("Something else 1.0"), None);
        assert_eq!(old(""), None);
    }

    #[test]
    fn a_version_alone_names_its_distribution() {
        assert_eq!(version_only(b"debian_version", "7.11\n").unwrap().version_id.as_deref(), Some("7.11"));
        assert_eq!(
            version_only(b"debian_version", "trixie/sid\n").unwrap().codename.as_deref(),
            Some("trixie")
        );
        assert_eq!(version_only(b"alpine-release", "3.18.4\n").unwrap().id, "alpine");
        assert_eq!(version_only(b"debian_version", "two words\n"), None);
        assert_eq!(version_only(b"debian_version", "root:$6$salt$canary/x:19000:0:99999:7:::\n"), None);
        let text = "ID=debian\nVERSION_ID=12\nVERSION_CODENAME='root:$6$canary'\n";
        let release = named(os_release(ReleaseSource::EtcOsRelease, text).unwrap());
        assert_eq!((release.version_id.as_deref(), release.codename), (Some("12"), None));
    }
}

//! The machine's name: `/etc/hostname` (`hostname(5)`), or `HOSTNAME` in `/etc/sysconfig/network` of older systems.

use stillframe_fs::FsError;
use stillframe_model::{DiskText, Scanner};

use crate::{Delivered, Detector, Fact, Found, Interest, Pattern, Sourced};

const CAP_BYTES: u64 = 64 * 1024;
/// The longest name that the kernel takes.
const MAX_NAME_BYTES: usize = 64;

pub(crate) struct Hostname;

impl Detector for Hostname {
    fn name(&self) -> &'static str {
        "hostname"
    }

    fn scanner(&self) -> Scanner {
        Scanner::Inventory
    }

    fn interests(&self) -> Vec<Interest> {
        ["/etc/hostname", "/etc/HOSTNAME", "/etc/sysconfig/network"]
            .map(|path| Interest::whole(Pattern::Path(path), CAP_BYTES))
            .to_vec()
    }

    fn inspect(
        &self,
        found: &Found<'_>,
        content: Delivered<'_>,
        facts: &mut Vec<Sourced<Fact>>,
    ) -> Result<(), FsError> {
        let Delivered::Whole(bytes) = content else { return Ok(()) };
        let name = if found.name == b"network" { from_sysconfig(bytes) } else { from_hostname(bytes) };
        if let Some(name) = name {
            facts.push(found.fact(Fact::Hostname(DiskText::new(name))));
        }
        Ok(())
    }
}

/// The first line that is neither empty nor a comment, if it is a host name.
fn from_hostname(bytes: &[u8]) -> Option<&str> {
    let text = str::from_utf8(bytes).ok()?;
    let line = text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#'))?;
    is_host_name(line).then_some(line)
}

fn from_sysconfig(bytes: &[u8]) -> Option<&str> {
    let text = str::from_utf8(bytes).ok()?;
    let value = text.lines().filter_map(|line| line.trim().strip_prefix("HOSTNAME=")).next_back()?;
    let value = value.trim_matches(['"', '\'']);
    is_host_name(value).then_some(value)
}

/// Letters, digits, hyphens and dots: what stands in the file and is no name does not leave.
fn is_host_name(text: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    !text.is_empty() && text.len() <= MAX_NAME_BYTES && text.bytes().all(is_allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_taken_and_other_text_is_not() {
        assert_eq!(from_hostname(b"# set by cloud-init\n\nweb01\n"), Some("web01"));
        assert_eq!(from_hostname(b"web01.example.org"), Some("web01.example.org"));
        assert_eq!(from_hostname(b"the password is hunter2\n"), None);
        assert_eq!(from_hostname(b""), None);
        assert_eq!(from_hostname(b"\xff\xfe"), None);
        assert_eq!(from_hostname(&[b'a'; 65]), None);
        assert_eq!(from_sysconfig(b"NETWORKING=yes\nHOSTNAME=\"db1\"\n"), Some("db1"));
        assert_eq!(from_sysconfig(b"#HOSTNAME=x\n"), None);
    }
}

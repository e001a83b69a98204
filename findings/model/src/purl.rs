use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A package URL (ECMA-427): `pkg:deb/debian/curl@7.88.1-10?arch=amd64&distro=debian-12`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(with = "String")]
pub struct Purl(String);

impl Purl {
    /// A package URL of `kind` (`deb`, `rpm`, `apk`). Qualifiers without a value are left out; the others are given in
    /// the order of their names, as the specification wants.
    #[must_use]
    pub fn new(
        kind: &'static str,
        namespace: &str,
        name: &str,
        version: &str,
        qualifiers: &[(&'static str, &str)],
    ) -> Self {
        let mut url = format!("pkg:{kind}/");
        for segment in namespace.split('/').filter(|segment| !segment.is_empty()) {
            push_encoded(&mut url, segment);
            url.push('/');
        }
        push_encoded(&mut url, name);
        if !version.is_empty() {
            url.push('@');
            push_encoded(&mut url, version);
        }
        let mut qualifiers: Vec<_> = qualifiers.iter().filter(|(_, value)| !value.is_empty()).collect();
        qualifiers.sort_unstable();
        for (index, (key, value)) in qualifiers.into_iter().enumerate() {
            url.push(if index == 0 { '?' } else { '&' });
            url.push_str(key);
            url.push('=');
            push_encoded(&mut url, value);
        }
        Self(url)
    }

    /// The URL.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The longest, in bytes: each of its texts is at most 255 characters, percent-encoded.
const MAX_BYTES: usize = 16 * 1024;

impl TryFrom<String> for Purl {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let is_known = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~:/%@?=&+".contains(&byte);
        match text.starts_with("pkg:") && text.len() <= MAX_BYTES && text.bytes().all(is_known) {
            true => Ok(Self(text)),
            false => Err("no package URL"),
        }
    }
}

impl fmt::Display for Purl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Percent-encodes all but the characters that the specification leaves as they are (5.4: letters, digits, `.`, `-`,
/// `_`, `~` and the colon).
fn push_encoded(url: &mut String, text: &str) {
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-' | b'_' | b'~' | b':' => {
                url.push(char::from(byte))
            }
            other => url.push_str(&format!("%{other:02X}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // The examples of the specification's type definitions for deb, rpm and apk.
    #[test]
    fn it_writes_the_specification_s_examples() {
        let deb = Purl::new("deb", "debian", "curl", "7.50.3-1", &[("distro", "jessie"), ("arch", "i386")]);
        assert_eq!(deb.as_str(), "pkg:deb/debian/curl@7.50.3-1?arch=i386&distro=jessie");
        let rpm =
            Purl::new("rpm", "fedora", "curl", "7.50.3-1.fc25", &[("arch", "i386"), ("distro", "fedora-25")]);
        assert_eq!(rpm.as_str(), "pkg:rpm/fedora/curl@7.50.3-1.fc25?arch=i386&distro=fedora-25");
        let apk = Purl::new("apk", "alpine", "apk", "2.12.9-r3", &[("arch", "x86"), ("distro", "")]);
        assert_eq!(apk.as_str(), "pkg:apk/alpine/apk@2.12.9-r3?arch=x86");
    }

    #[test]
    fn what_would_end_a_part_is_encoded() {
        let purl = Purl::new("deb", "debian", "libstdc++6", "1:2.0+b1~x@?#/ é", &[]);
        assert_eq!(purl.as_str(), "pkg:deb/debian/libstdc%2B%2B6@1:2.0%2Bb1~x%40%3F%23%2F%20%C3%A9");
    }
}

//! A package URL taken apart, to see that it says what the package does (ECMA-427).
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

/// A package URL with a namespace and a version.
#[derive(Debug, PartialEq, Eq)]
pub struct Purl {
    pub kind: String,
    pub namespace: String,
    pub name: String,
    pub version: String,
    qualifiers: Vec<(String, String)>,
}

impl Purl {
    /// Takes `text` apart, and asserts that it is written in the one right way.
    pub fn parse(text: &str) -> Self {
        let rest = text.strip_prefix("pkg:").unwrap_or_else(|| panic!("{text}"));
        let (rest, qualifiers) = rest.split_once('?').unwrap_or((rest, ""));
        let (path, version) = rest.rsplit_once('@').unwrap_or_else(|| panic!("{text} has no version"));
        let parts: Vec<_> = path.split('/').collect();
        let (kind, namespace, name) = match parts.as_slice() {
            [kind, namespace, name] => (*kind, decoded(namespace), decoded(name)),
            [kind, name] => (*kind, String::new(), decoded(name)),
            _ => panic!("{text}"),
        };
        assert!(kind.bytes().all(|byte| byte.is_ascii_lowercase()) && !name.is_empty(), "{text}");
        let qualifiers: Vec<_> = qualifiers
            .split_terminator('&')
            .map(|pair| {
                let (key, value) = pair.split_once('=').unwrap_or_else(|| panic!("{text}"));
                assert!(!value.is_empty(), "{text}: an empty qualifier is to be left out");
                (key.to_owned(), decoded(value))
            })
            .collect();
        assert!(qualifiers.is_sorted() && qualifiers.iter().all(|(key, _)| is_key(key)), "{text}");
        Self { kind: kind.to_owned(), namespace, name, version: decoded(version), qualifiers }
    }

    pub fn qualifier(&self, key: &str) -> Option<&str> {
        self.qualifiers.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    /// The version with the epoch that rpm's package URLs have as a qualifier.
    pub fn full_version(&self) -> String {
        match self.qualifier("epoch") {
            Some(epoch) => format!("{epoch}:{}", self.version),
            None => self.version.clone(),
        }
    }
}

fn is_key(key: &str) -> bool {
    let is_allowed =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'-' | b'_');
    key.starts_with(|first: char| first.is_ascii_lowercase()) && key.bytes().all(is_allowed)
}

/// The text behind its percent signs. Letters, digits, `.-_~` and `:` stand for themselves, everything else is encoded.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let is_plain = byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b'~' | b':');
        let digit = |byte: Option<u8>| char::from(byte.unwrap()).to_digit(16).unwrap();
        let byte = if byte == b'%' {
            let byte = u8::try_from(digit(rest.next()) << 4 | digit(rest.next())).unwrap();
            assert!(!byte.is_ascii_alphanumeric(), "{text}: encoded without need");
            byte
        } else {
            assert!(is_plain, "{text}: {:?} is not encoded", char::from(byte));
            byte
        };
        bytes.push(byte);
    }
    String::from_utf8(bytes).unwrap()
}

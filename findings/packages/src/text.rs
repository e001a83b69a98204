use stillframe_bytes::Fault;

use crate::MAX_TEXT_BYTES;

/// `bytes`, found at `at`, as a name, version or architecture of a package.
///
/// # Errors
/// As [`free_text`]; and where it has what no package manager allows in one, and a person's name or a sentence has: in a
/// damaged database a name may be read from where another field lies.
pub(crate) fn package_text(what: &'static str, at: u64, bytes: &[u8]) -> Result<String, Fault> {
    let text = free_text(what, at, bytes)?;
    if text.chars().any(|character| character.is_whitespace() || matches!(character, '<' | '>' | '@')) {
        return Err(Fault::new(what, at, "one word", "a space, an angle bracket or an at sign"));
    }
    Ok(text)
}

/// `bytes`, found at `at`, as one line of text.
///
/// # Errors
/// A fault of `what` where it is empty, longer than [`MAX_TEXT_BYTES`], not UTF-8, or has a character that does not
/// show.
pub(crate) fn free_text(what: &'static str, at: u64, bytes: &[u8]) -> Result<String, Fault> {
    if bytes.is_empty() {
        return Err(Fault::new(what, at, "text", "nothing"));
    }
    if bytes.len() > MAX_TEXT_BYTES {
        return Err(Fault::new(what, at, MAX_TEXT_BYTES, bytes.len()));
    }
    // The error of `from_utf8` would quote the disk.
    let Ok(text) = std::str::from_utf8(bytes) else {
        return Err(Fault::new(what, at, "UTF-8", "other bytes"));
    };
    if text.chars().any(is_unshowable) {
        return Err(Fault::new(what, at, "text", "a control character"));
    }
    Ok(text.to_owned())
}

/// Control characters, and those that change the direction of text, so that a name passes for another.
fn is_unshowable(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_bounded_and_shows() {
        assert_eq!(package_text("name", 0, "größe".as_bytes()).unwrap(), "größe");
        assert!(package_text("name", 0, &[b'a'; MAX_TEXT_BYTES]).is_ok());
        assert!(package_text("version", 0, b"1:2.0-3~rc1+b^2%{x}_y").is_ok());
        assert!(free_text("vendor", 0, b"Red Hat, Inc. <http://bugzilla>").is_ok());
        for person in ["A Person", "<a>", "a@example.org", "a\u{a0}b"] {
            assert!(package_text("name", 0, person.as_bytes()).is_err(), "{person}");
        }
        let long = package_text("name", 7, &[b'a'; MAX_TEXT_BYTES + 1]).unwrap_err();
        assert_eq!(long.to_string(), "name at 0x7: claimed 255, found 256");
        for bad in
            [&b""[..], b"a\0b", b"a\x1b[2J", b"\xff\xfe", "a\u{202e}b".as_bytes(), "a\u{85}b".as_bytes()]
        {
            assert!(package_text("name", 0, bad).is_err(), "{bad:?}");
        }
    }
}

use stillframe_bytes::Fault;

use crate::MAX_TEXT_BYTES;

/// `bytes`, found at `at`, as the text of a package.
///
/// # Errors
/// A fault of `what` where it is empty, longer than [`MAX_TEXT_BYTES`], not UTF-8, or has a character that does not
/// show.
pub(crate) fn package_text(what: &'static str, at: u64, bytes: &[u8]) -> Result<String, Fault> {
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
        let long = package_text("name", 7, &[b'a'; MAX_TEXT_BYTES + 1]).unwrap_err();
        assert_eq!(long.to_string(), "name at 0x7: claimed 255, found 256");
        for bad in
            [&b""[..], b"a\0b", b"a\x1b[2J", b"\xff\xfe", "a\u{202e}b".as_bytes(), "a\u{85}b".as_bytes()]
        {
            assert!(package_text("name", 0, bad).is_err(), "{bad:?}");
        }
    }
}

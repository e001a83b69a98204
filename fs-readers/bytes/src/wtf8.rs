//! UTF-16 names as UTF-8. A disk may hold surrogates without their other half, which UTF-8 cannot say: they become the
//! three bytes that UTF-8 would have for a code point of their value (WTF-8), so that no two names become one.

/// UTF-16 code units as WTF-8.
#[must_use]
pub fn wtf8(units: impl IntoIterator<Item = u16>) -> Vec<u8> {
    let mut name = Vec::new();
    for character in char::decode_utf16(units) {
        match character {
            Ok(character) => name.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
            Err(error) => {
                let [high, low] = error.unpaired_surrogate().to_be_bytes();
                name.extend_from_slice(&[
                    0xE0 | (high >> 4),
                    0x80 | ((high & 0x0F) << 2) | (low >> 6),
                    0x80 | (low & 0x3F),
                ]);
            }
        }
    }
    name
}

#[cfg(test)]
mod tests {
    use super::wtf8;

    #[test]
    fn pairs_become_characters_and_lone_surrogates_stay_apart() {
        assert_eq!(wtf8([0x41, 0xE9, 0x20AC]), "Aé€".as_bytes());
        assert_eq!(wtf8([0xD83D, 0xDE00]), "😀".as_bytes());
        assert_eq!(wtf8([0xD83D, 0x41]), b"\xED\xA0\xBDA");
        assert_eq!(wtf8([0xDFFF]), b"\xED\xBF\xBF");
    }
}

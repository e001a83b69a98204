//! UTF-16 names as the disk has them → UTF-8, unpaired surrogates as in WTF-8.

/// The bytes of UTF-16LE text as WTF-8. A last odd byte is no character and is left out.
pub(crate) fn wtf8(utf16le: &[u8]) -> Vec<u8> {
    let units = utf16le.chunks_exact(2).map(|pair| match *pair {
        [low, high] => u16::from_le_bytes([low, high]),
        _ => 0,
    });
    let mut name = Vec::with_capacity(utf16le.len());
    for character in char::decode_utf16(units) {
        match character {
            Ok(character) => {
                name.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
            }
            Err(error) => {
                let [high, low] = error.unpaired_surrogate().to_be_bytes();
                // Three bytes as UTF-8 would have for a code point of this value, which no `char` may hold.
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
    use super::*;

    fn encoded(units: &[u16]) -> Vec<u8> {
        wtf8(&units.iter().flat_map(|unit| unit.to_le_bytes()).collect::<Vec<_>>())
    }

    #[test]
    fn pairs_become_characters_and_lone_surrogates_stay_apart() {
        assert_eq!(encoded(&[0x41, 0xE9, 0x20AC]), "Aé€".as_bytes());
        assert_eq!(encoded(&[0xD83D, 0xDE00]), "😀".as_bytes());
        assert_eq!(encoded(&[0xD83D, 0x41]), b"\xED\xA0\xBDA");
        assert_eq!(encoded(&[0xDFFF]), b"\xED\xBF\xBF");
    }
}

//! The ways in which a secret may be spelled.

use std::collections::HashMap;

/// So many characters of a canary in a row are no accident; of its hexadecimal digits, which checksums and ids have too,
/// twice as many.
const WINDOW: usize = 8;

/// Every window of every spelling.
pub(super) struct Spellings {
    windows: HashMap<[u8; WINDOW], String>,
    long_windows: HashMap<[u8; 2 * WINDOW], String>,
}

impl Spellings {
    pub(super) fn of(canaries: &[String]) -> Self {
        let mut known = Self { windows: HashMap::new(), long_windows: HashMap::new() };
        for canary in canaries {
            for spelling in spellings(canary) {
                for window in spelling.windows(WINDOW) {
                    known.windows.insert(window.try_into().unwrap(), canary.clone());
                }
            }
            for spelling in long_spellings(canary) {
                for window in spelling.windows(2 * WINDOW) {
                    known.long_windows.insert(window.try_into().unwrap(), canary.clone());
                }
            }
        }
        known
    }

    /// The canary that is in `bytes`, if one is, with what stands around it.
    pub(super) fn found_in(&self, bytes: &[u8]) -> Option<String> {
        let short =
            bytes.windows(WINDOW).enumerate().find_map(|(at, window)| Some((at, self.windows.get(window)?)));
        let long = || {
            let mut windows = bytes.windows(2 * WINDOW).enumerate();
            windows.find_map(|(at, window)| Some((at, self.long_windows.get(window)?)))
        };
        let (at, canary) = short.or_else(long)?;
        let around = &bytes[at.saturating_sub(80)..bytes.len().min(at + 80)];
        Some(format!("{canary} in …{}…", String::from_utf8_lossy(around)))
    }
}

fn spellings(canary: &str) -> Vec<Vec<u8>> {
    let bytes = canary.as_bytes();
    let mut all = vec![
        bytes.to_vec(),
        canary.to_lowercase().into_bytes(),
        canary.to_uppercase().into_bytes(),
        bytes.iter().rev().copied().collect(),
    ];
    // What stands before the canary shifts its base64; the first and the last characters hold bits of others.
    for shift in 0..3 {
        let encoded = base64(&[&vec![0; shift], bytes].concat());
        all.push(encoded.as_bytes()[4.min(shift * 4)..encoded.len() - 4].to_vec());
    }
    all
}

/// Those that take two characters for one.
fn long_spellings(canary: &str) -> Vec<Vec<u8>> {
    let bytes = canary.as_bytes();
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    vec![
        hex.to_uppercase().into_bytes(),
        hex.into_bytes(),
        bytes.iter().flat_map(|byte| [*byte, 0]).collect(),
        bytes.iter().flat_map(|byte| [0, *byte]).collect(),
    ]
}

/// RFC 4648, with padding.
pub(super) fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let mut padded = [0; 3];
        padded[..group.len()].copy_from_slice(group);
        let bits = u32::from_be_bytes([0, padded[0], padded[1], padded[2]]);
        for digit in 0..4 {
            let index = usize::try_from(bits >> (18 - 6 * digit) & 63).unwrap();
            text.push(if digit <= group.len() { char::from(DIGITS[index]) } else { '=' });
        }
    }
    text
}

#[test]
fn each_spelling_is_found() {
    assert_eq!(base64(b"any carnal pleas"), "YW55IGNhcm5hbCBwbGVhcw==");
    let canary = "Zq7TnXw93LpVb4Rk".to_owned();
    let known = Spellings::of(std::slice::from_ref(&canary));
    let hex: String = canary.bytes().map(|byte| format!("{byte:02X}")).collect();
    let wide: Vec<u8> = canary.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let reversed: String = canary.chars().rev().collect();
    for text in [
        canary.as_bytes().to_vec(),
        canary.to_lowercase().into_bytes(),
        canary.as_bytes()[3..12].to_vec(),
        hex.into_bytes(),
        wide,
        reversed.into_bytes(),
        base64(canary.as_bytes()).into_bytes(),
        base64(format!("a{canary}bc").as_bytes()).into_bytes(),
        base64(format!("ab{canary}c").as_bytes()).into_bytes(),
    ] {
        let quoted = [b"error near '", text.as_slice(), b"'"].concat();
        assert!(known.found_in(&quoted).is_some(), "{}", String::from_utf8_lossy(&quoted));
    }
    assert_eq!(known.found_in(b"Zq7TnXw and nothing more, nor 4c70566234"), None);
}

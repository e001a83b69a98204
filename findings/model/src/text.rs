use std::borrow::Cow;
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The longest [`DiskText`], in characters as shown; what is longer is cut and ends in `…`.
pub const MAX_TEXT_CHARS: usize = 255;

/// Words of the program itself. They cannot be made from a disk's bytes: only from a string that is in the source.
///
/// Reports of another process are read back as labels too; then their length and characters are checked.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "ReadBack")]
#[schemars(with = "String")]
pub struct Label(Cow<'static, str>);

impl Label {
    /// These words.
    #[must_use]
    pub const fn new(words: &'static str) -> Self {
        Self(Cow::Borrowed(words))
    }

    /// The words.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&'static str> for Label {
    fn from(words: &'static str) -> Self {
        Self::new(words)
    }
}

/// A label of another process's report. Private, so that no code of ours can make a label of a string by conversion.
#[derive(Deserialize)]
struct ReadBack(String);

impl TryFrom<ReadBack> for Label {
    type Error = &'static str;

    fn try_from(ReadBack(words): ReadBack) -> Result<Self, Self::Error> {
        if words.chars().count() > MAX_TEXT_CHARS || words.chars().any(is_unshowable) {
            return Err("a label is longer than 255 characters or has control characters");
        }
        Ok(Self(Cow::Owned(words)))
    }
}

impl Label {
    /// Words that were put together here from other words and numbers.
    pub(crate) const fn composed(words: String) -> Self {
        Self(Cow::Owned(words))
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A name that a disk gives: of a host, a package, a release, a label. At most [`MAX_TEXT_CHARS`] characters; control
/// characters and those that change the direction of text are written as `\u{…}`, so that no name can draw on a
/// terminal or pass for another.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(from = "String")]
#[schemars(with = "String")]
pub struct DiskText(String);

impl DiskText {
    /// `text`, escaped and cut. A text that was escaped and cut before stays as it is: a report of another process is
    /// read back so.
    #[must_use]
    pub fn new(text: &str) -> Self {
        let mut shown = String::with_capacity(text.len().min(MAX_TEXT_CHARS));
        let mut count = 0_usize;
        for character in text.chars() {
            let before = shown.len();
            push_shown(&mut shown, character);
            let added = shown.get(before..).map_or(0, |added| added.chars().count());
            count = count.saturating_add(added);
            if count > MAX_TEXT_CHARS {
                // An escape is shown whole or not at all.
                shown.truncate(before);
                shown.push('…');
                break;
            }
        }
        Self(shown)
    }

    /// `bytes` as UTF-8, what is not UTF-8 as `\xHH`.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Self {
        let mut shown = String::new();
        // Four bytes a character at most: a longer text is cut anyway.
        for chunk in bytes.get(..bytes.len().min(MAX_TEXT_CHARS * 4)).unwrap_or_default().utf8_chunks() {
            shown.push_str(chunk.valid());
            for byte in chunk.invalid() {
                shown.push_str(&format!("\\x{byte:02x}"));
            }
        }
        Self::new(&shown)
    }

    /// The text as shown.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<String> for DiskText {
    fn from(text: String) -> Self {
        Self::new(&text)
    }
}

impl From<&str> for DiskText {
    fn from(text: &str) -> Self {
        Self::new(text)
    }
}

impl fmt::Display for DiskText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Appends `character`, escaped where a terminal would not simply show it.
pub(crate) fn push_shown(shown: &mut String, character: char) {
    if is_unshowable(character) {
        shown.extend(character.escape_unicode());
    } else {
        shown.push(character);
    }
}

/// Control characters, line and paragraph separators, zero-width and direction-changing characters.
fn is_unshowable(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{00ad}' | '\u{061c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{2069}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_draw_on_a_terminal() {
        assert_eq!(DiskText::new("web\u{1b}[2J\u{202e}01").as_str(), "web\\u{1b}[2J\\u{202e}01");
        assert_eq!(DiskText::from_bytes(b"a\xffb\n").as_str(), "a\\xffb\\u{a}");
        assert_eq!(DiskText::new("Zürich 東京").as_str(), "Zürich 東京");
    }

    #[test]
    fn a_long_name_is_cut() {
        let text = DiskText::new(&"é".repeat(10_000));
        assert_eq!(text.as_str().chars().count(), MAX_TEXT_CHARS + 1);
        assert!(DiskText::from_bytes(&[b'a'; 100_000]).as_str().len() < 300);
    }

    #[test]
    fn a_text_read_back_is_the_same() {
        let texts =
            ["web01".to_owned(), "é".repeat(255), "é".repeat(256), "\u{1b}".repeat(300), "…".repeat(300)];
        for text in texts {
            let once = DiskText::new(&text);
            assert!(once.as_str().chars().count() <= MAX_TEXT_CHARS + 1, "{text}");
            assert_eq!(DiskText::new(once.as_str()), once);
            let json = serde_json::to_string(&once).unwrap();
            assert_eq!(serde_json::from_str::<DiskText>(&json).unwrap(), once);
        }
    }

    #[test]
    fn a_label_read_back_is_checked() {
        assert!(serde_json::from_str::<Label>("\"boot code\"").is_ok());
        assert!(serde_json::from_str::<Label>("\"\\u001b[2J\"").is_err());
        assert!(serde_json::from_str::<Label>(&format!("\"{}\"", "x".repeat(300))).is_err());
    }
}

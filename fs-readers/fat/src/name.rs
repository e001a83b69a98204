//! Names: short ones in code page 437, long ones in UTF-16 spread over entries before the short one's
//! (fatgen103, "Long File Name Implementation").

use stillframe_bytes::{Fault, Structure, wtf8};

const LAST_LONG_ENTRY: u8 = 0x40;
/// 255 characters in entries of 13.
const LONG_ENTRIES_CAP: u8 = 20;
/// Windows NT keeps a short name of one case as a flag.
const LOWER_CASE_BASE: u8 = 0x08;
const LOWER_CASE_EXTENSION: u8 = 0x10;
/// Stands for 0xE5, a letter of Japanese code pages, which would mean a deleted entry.
const KANJI: u8 = 0x05;

/// Code page 437 from 0x80 on.
const CODE_PAGE_437: &str = "ÇüéâäàåçêëèïîìÄÅÉæÆôöòûùÿÖÜ¢£¥₧ƒáíóúñÑªº¿⌐¬½¼¡«»░▒▓│┤╡╢╖╕╣║╗╝╜╛┐└┴┬├─┼╞╟╚╔╩╦╠═╬╧╨╤╥╙╘╒╓╫╪┘┌█▄▌▐▀αßΓπΣσµτΦΘΩδ∞φε∩≡±≥≤⌠⌡÷≈°∙·√ⁿ²■\u{a0}";

/// The name in the short entry `entry`, as Windows shows it.
pub(crate) fn short(entry: &Structure<'_>) -> Result<String, Fault> {
    let mut bytes: [u8; 11] = entry.array(0)?;
    if let Some(first) = bytes.first_mut().filter(|first| **first == KANJI) {
        *first = 0xE5;
    }
    let flags = entry.u8(12)?;
    let (base, extension) = bytes.split_at(8);
    let base = part(base, flags & LOWER_CASE_BASE != 0);
    let extension = part(extension, flags & LOWER_CASE_EXTENSION != 0);
    Ok(if extension.is_empty() { base } else { format!("{base}.{extension}") })
}

fn part(bytes: &[u8], lower_case: bool) -> String {
    let text = text(bytes);
    if lower_case { text.to_lowercase() } else { text }
}

/// Text in code page 437 without the spaces that pad it.
pub(crate) fn text(bytes: &[u8]) -> String {
    let characters = bytes.iter().map(|byte| match byte.checked_sub(0x80) {
        None => char::from(*byte),
        Some(index) => CODE_PAGE_437.chars().nth(index.into()).unwrap_or(char::REPLACEMENT_CHARACTER),
    });
    characters.collect::<String>().trim_end_matches(' ').to_owned()
}

/// The checksum of a short name that its long entries carry.
fn checksum(name: [u8; 11]) -> u8 {
    name.iter().fold(0_u8, |sum, byte| sum.rotate_right(1).wrapping_add(*byte))
}

/// Gathers the long entries before a short one.
#[derive(Debug, Default)]
pub(crate) struct LongName {
    /// UTF-16, the last part of the name first.
    parts: Vec<[u16; 13]>,
    checksum: u8,
    /// The number of the entry that was read last; the next must be one less.
    number: u8,
}

impl LongName {
    /// Takes a long entry. One that does not follow the one before begins anew, or is an orphan and ignored.
    pub(crate) fn push(&mut self, entry: &Structure<'_>) -> Result<(), Fault> {
        let order = entry.u8(0)?;
        let number = order & !LAST_LONG_ENTRY;
        let checksum = entry.u8(13)?;
        let begins = order & LAST_LONG_ENTRY != 0;
        if begins && (1..=LONG_ENTRIES_CAP).contains(&number) {
            self.parts.clear();
            self.checksum = checksum;
        } else if begins
            || number == 0
            || self.number.checked_sub(1) != Some(number)
            || checksum != self.checksum
        {
            self.clear();
            return Ok(());
        }
        self.number = number;
        let units = entry.slice(1, 10)?.iter().chain(entry.slice(14, 12)?).chain(entry.slice(28, 4)?);
        let mut part = [0_u16; 13];
        let bytes: Vec<_> = units.copied().collect();
        for (unit, pair) in part.iter_mut().zip(bytes.chunks_exact(2)) {
            *unit = pair.first_chunk().map_or(0, |pair| u16::from_le_bytes(*pair));
        }
        self.parts.push(part);
        Ok(())
    }

    /// Forgets what was gathered: what follows it is not its short entry.
    pub(crate) fn clear(&mut self) {
        self.parts.clear();
        self.number = 0;
    }

    /// The name in UTF-8 (unpaired surrogates as in WTF-8), if all of it was there and belongs to `short`.
    pub(crate) fn take(&mut self, short: [u8; 11]) -> Option<Vec<u8>> {
        let whole = self.number == 1 && self.checksum == checksum(short);
        let units = self.parts.iter().rev().flatten().copied().take_while(|unit| *unit != 0);
        let name = whole.then(|| wtf8(units)).filter(|name| !name.is_empty());
        self.clear();
        name
    }
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects, reason = "test code")]
mod tests {
    use super::*;

    fn short_name(name: &[u8; 11], flags: u8) -> String {
        let mut entry = [0; 32];
        entry[..11].copy_from_slice(name);
        entry[12] = flags;
        short(&Structure::new("directory entry", 0, &entry)).unwrap()
    }

    #[test]
    fn short_names() {
        assert_eq!(CODE_PAGE_437.chars().count(), 128);
        assert_eq!(short_name(b"README  TXT", 0), "README.TXT");
        assert_eq!(short_name(b"README  TXT", 0x08), "readme.TXT");
        assert_eq!(short_name(b"README  TXT", 0x18), "readme.txt");
        assert_eq!(short_name(b"A B        ", 0), "A B");
        assert_eq!(short_name(b"\x05\x80\x9A     \xE1  ", 0), "σÇÜ.ß");
        assert_eq!(short_name(b"\x80\x90      TXT", 0x08), "çé.TXT");
    }

    fn long_entry(order: u8, checksum: u8, text: &str) -> [u8; 32] {
        let mut entry = [0xFF; 32];
        (entry[0], entry[11], entry[13]) = (order, 0x0F, checksum);
        let mut units: Vec<u16> = text.encode_utf16().collect();
        if units.len() < 13 {
            units.push(0);
        }
        let places = [1, 3, 5, 7, 9, 14, 16, 18, 20, 22, 24, 28, 30];
        for (place, unit) in places.into_iter().zip(units) {
            entry[place..place + 2].copy_from_slice(&unit.to_le_bytes());
        }
        entry
    }

    fn gathered(entries: &[[u8; 32]], short: [u8; 11]) -> Option<Vec<u8>> {
        let mut name = LongName::default();
        for entry in entries {
            name.push(&Structure::new("directory entry", 0, entry)).unwrap();
        }
        name.take(short)
    }

    #[test]
    fn long_names_are_whole_or_not_taken() {
        let short = *b"THEQUI~1FOX";
        let sum = checksum(short);
        let (second, first) = (long_entry(0x42, sum, "wn.fox"), long_entry(1, sum, "The quick bro"));
        assert_eq!(gathered(&[second, first], short).unwrap(), b"The quick brown.fox");
        assert_eq!(gathered(&[second, first], *b"THEQUI~2FOX"), None);
        assert_eq!(gathered(&[second], short), None);
        assert_eq!(gathered(&[first], short), None);
        assert_eq!(gathered(&[second, second, first], short).unwrap(), b"The quick brown.fox");
        assert_eq!(gathered(&[second, long_entry(1, sum ^ 1, "x")], short), None);
        assert_eq!(gathered(&[long_entry(0x40 | 21, sum, "x")], short), None);
        assert_eq!(gathered(&[long_entry(0x40, sum, "x")], short), None);
    }
}

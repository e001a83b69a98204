//! Names of trees without Rock Ridge, as Linux shows them (kernel `Documentation/filesystems/isofs.rst`, `map=normal`).

use stillframe_bytes::wtf8;

/// ECMA-119's own: in lower case, without version 1, and without the dot before it where there is no extension. What is
/// left of separators becomes a dot.
pub(crate) fn plain(name: &[u8]) -> Vec<u8> {
    let kept = name.strip_suffix(b".;1").or_else(|| name.strip_suffix(b";1")).unwrap_or(name);
    let shown = |byte: &u8| if matches!(byte, b';' | b'/') { b'.' } else { byte.to_ascii_lowercase() };
    kept.iter().map(shown).collect()
}

/// Joliet's, in UTF-16: without version 1, and without dots at its end.
pub(crate) fn joliet(name: &[u8]) -> Vec<u8> {
    let units =
        name.chunks_exact(2).map(|pair| pair.first_chunk().map_or(0, |pair| u16::from_be_bytes(*pair)));
    let mut name = wtf8(units);
    if name.len() > 2 && name.ends_with(b";1") {
        name.truncate(name.len().saturating_sub(2));
    }
    while name.len() >= 2 && name.ends_with(b".") {
        name.pop();
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_and_dots_are_left_out() {
        assert_eq!(plain(b"README.TXT;1"), b"readme.txt");
        assert_eq!(plain(b"README.;1"), b"readme");
        assert_eq!(plain(b"README.TXT;2"), b"readme.txt.2");
        assert_eq!(plain(b"DIRECTORY"), b"directory");
        let utf16 = |text: &str| text.encode_utf16().flat_map(u16::to_be_bytes).collect::<Vec<u8>>();
        assert_eq!(joliet(&utf16("Löng näme.tar;1")), "Löng näme.tar".as_bytes());
        assert_eq!(joliet(&utf16("dots...")), b"dots");
        assert_eq!(joliet(&utf16("😀;1")), "😀".as_bytes());
    }
}

//! Names that a disk gives, made fit for a page: a name that is a page long, or nothing but spaces, would hide what
//! stands beside it.

/// Columns that a name may take.
const MAX_NAME: usize = 64;
/// Columns that a path may take.
const MAX_PATH: usize = 240;

/// A name of a host, volume, package or row.
pub(super) fn name(text: &str) -> String {
    if text.is_empty() { "\"\"".to_owned() } else { shortened(&visible_spaces(text), MAX_NAME) }
}

/// A path.
pub(super) fn path(text: &str) -> String {
    shortened(&visible_spaces(text), MAX_PATH)
}

/// A space as `␣` where it would not be seen: at an end, or beside another.
fn visible_spaces(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut before = ' ';
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        let after = characters.peek().copied().unwrap_or(' ');
        let unseen = character == ' ' && (before == ' ' || after == ' ');
        shown.push(if unseen { '␣' } else { character });
        before = character;
    }
    shown
}

/// Its start and its end with `…` between, where it has more than `most` characters.
fn shortened(text: &str, most: usize) -> String {
    let count = text.chars().count();
    if count <= most {
        return text.to_owned();
    }
    let (start, end) = (most / 2, most - most / 2 - 1);
    text.chars().take(start).chain(['…']).chain(text.chars().skip(count - end)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spaces_that_would_not_be_seen_are_marked() {
        assert_eq!(name(" a b  c "), "␣a b␣␣c␣");
        assert_eq!((name(""), name(" ")), ("\"\"".into(), "␣".into()));
    }

    #[test]
    fn both_ends_of_a_long_name_stay() {
        let long = format!("start{}end", "x".repeat(300));
        let shown = name(&long);
        assert!(shown.starts_with("startxx") && shown.contains("xx…xx") && shown.ends_with("xxend"));
        assert_eq!(shown.chars().count(), MAX_NAME);
        assert_eq!(name(&"é".repeat(MAX_NAME)), "é".repeat(MAX_NAME));
    }
}

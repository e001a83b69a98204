//! Styled text laid out in lines that fit a width.
//!
//! Words are parted by spaces; U+00A0 is shown as a space at which no line breaks, so that `8.0 GiB` stays together.
//! A word that is longer than a line is broken, after a `/` if one is near. Control characters, which the model lets
//! through nowhere, would be shown as U+FFFD.

use unicode_width::UnicodeWidthChar;

/// Stands between things on one line; where a line ends after it, it is left out.
pub(super) const SEPARATOR: &str = "\u{a0}· ";

/// How characters look. Without colour they all look alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    Plain,
    Bold,
    Dim,
    Good,
    Warning,
    Bad,
    Alarm,
}

impl Style {
    /// The parameters of ANSI's "select graphic rendition" (ECMA-48, 8.3.117).
    const fn parameters(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Bold => "1",
            Self::Dim => "2",
            Self::Good => "32",
            Self::Warning => "33",
            Self::Bad => "31",
            Self::Alarm => "1;31",
        }
    }
}

/// Characters and how each looks.
#[derive(Debug, Clone, Default)]
pub(super) struct Text(Vec<(char, Style)>);

impl Text {
    pub(super) const fn new() -> Self {
        Self(Vec::new())
    }

    pub(super) fn with(mut self, style: Style, words: impl AsRef<str>) -> Self {
        self.push(style, words);
        self
    }

    pub(super) fn plain(self, words: impl AsRef<str>) -> Self {
        self.with(Style::Plain, words)
    }

    pub(super) fn bold(self, words: impl AsRef<str>) -> Self {
        self.with(Style::Bold, words)
    }

    pub(super) fn dim(self, words: impl AsRef<str>) -> Self {
        self.with(Style::Dim, words)
    }

    pub(super) fn push(&mut self, style: Style, words: impl AsRef<str>) {
        let shown = words.as_ref().chars();
        self.0.extend(shown.map(|character| match character {
            control if control.is_control() => ('\u{fffd}', style),
            other => (other, style),
        }));
    }

    pub(super) fn append(&mut self, mut other: Self) {
        self.0.append(&mut other.0);
    }

    pub(super) fn followed_by(mut self, other: Self) -> Self {
        self.append(other);
        self
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Everything in one style.
    pub(super) fn all(mut self, style: Style) -> Self {
        self.0.iter_mut().for_each(|(_, old)| *old = style);
        self
    }

    pub(super) fn columns(&self) -> usize {
        columns(&self.0)
    }

    fn pad_to(&mut self, column: usize) {
        let missing = column.saturating_sub(self.columns());
        self.0.extend(std::iter::repeat_n((' ', Style::Plain), missing));
    }

    /// Drops spaces at the end, and a [`SEPARATOR`] that nothing follows.
    fn trim_end(&mut self) {
        let ends_in_separator = self.0.rsplit(|(character, _)| *character == '\u{a0}').next();
        if ends_in_separator.is_some_and(|end| end.iter().map(|(character, _)| *character).eq(['·'])) {
            self.0.pop();
        }
        while self.0.last().is_some_and(|(character, _)| matches!(character, ' ' | '\u{a0}')) {
            self.0.pop();
        }
    }

    /// What of it fits into `limit` columns.
    fn cut(mut self, limit: usize) -> Self {
        let fitting = fitting(&self.0, limit);
        self.0.truncate(fitting);
        self
    }
}

fn columns(characters: &[(char, Style)]) -> usize {
    characters.iter().map(|(character, _)| character.width().unwrap_or(1)).sum()
}

/// How many of the characters fit into `limit` columns.
fn fitting(characters: &[(char, Style)], limit: usize) -> usize {
    let mut used = 0;
    characters
        .iter()
        .take_while(|(character, _)| {
            used += character.width().unwrap_or(1);
            used <= limit
        })
        .count()
}

/// What the lines of a paragraph begin with: the first one, and those that follow.
#[derive(Debug, Clone, Default)]
pub(super) struct Lead {
    pub(super) first: Text,
    pub(super) rest: Text,
}

impl Lead {
    /// Spaces on every line.
    pub(super) fn indent(count: usize) -> Self {
        let spaces = Text::new().plain(" ".repeat(count));
        Self { first: spaces.clone(), rest: spaces }
    }

    /// `first`, and spaces below it.
    pub(super) fn hanging(first: Text) -> Self {
        let rest = Text::new().plain(" ".repeat(first.columns()));
        Self { first, rest }
    }
}

/// Lines, one below the other.
pub(super) struct Page {
    lines: String,
    width: usize,
    color: bool,
}

impl Page {
    pub(super) const fn new(width: usize, color: bool) -> Self {
        Self { lines: String::new(), width, color }
    }

    pub(super) const fn width(&self) -> usize {
        self.width
    }

    pub(super) fn into_string(self) -> String {
        self.lines
    }

    /// An empty line, and a heading.
    pub(super) fn heading(&mut self, words: &str) {
        self.lines.push('\n');
        self.paragraph(Lead::default(), &Text::new().bold(words));
    }

    /// `body` behind its lead, on as many lines as it takes.
    pub(super) fn paragraph(&mut self, lead: Lead, body: &Text) {
        // However deep something hangs, half the width is left for its words.
        let most = self.width / 2;
        let rest = lead.rest.cut(most);
        let mut line = lead.first.cut(most);
        let mut fresh = true;
        for word in body.0.split(|(character, _)| *character == ' ') {
            let mut word = word;
            if !fresh && line.columns() + 1 + columns(word) > self.width {
                self.end(std::mem::replace(&mut line, rest.clone()));
                fresh = true;
            }
            // The second of two spaces; at the start of a line it would only shift what follows.
            if fresh && word.is_empty() {
                continue;
            }
            if !fresh {
                line.0.push((' ', style_between(&line.0, word)));
            }
            while line.columns() + columns(word) > self.width {
                let (now, later) = word.split_at(break_at(word, self.width - line.columns()));
                line.0.extend_from_slice(now);
                self.end(std::mem::replace(&mut line, rest.clone()));
                word = later;
            }
            line.0.extend_from_slice(word);
            fresh = false;
        }
        self.end(line);
    }

    /// `name` and, from `column` on, `body`: on the same line where the name leaves two columns, else below it.
    pub(super) fn row(&mut self, lead: Lead, name: &Text, column: usize, body: &Text) {
        let column = column.min(self.width / 2);
        let mut rest = lead.rest.clone();
        rest.pad_to(column);
        let mut first = lead.first.clone();
        first.append(name.clone());
        if first.columns() + 2 <= column {
            first.pad_to(column);
            self.paragraph(Lead { first, rest }, body);
            return;
        }
        self.paragraph(lead, name);
        if !body.is_empty() {
            self.paragraph(Lead { first: rest.clone(), rest }, body);
        }
    }

    fn end(&mut self, mut line: Text) {
        line.trim_end();
        let mut shown = Style::Plain;
        for (character, style) in line.0 {
            if self.color && style != shown {
                if shown != Style::Plain {
                    self.lines.push_str("\x1b[0m");
                }
                if style != Style::Plain {
                    self.lines.push_str(&format!("\x1b[{}m", style.parameters()));
                }
                shown = style;
            }
            self.lines.push(if character == '\u{a0}' { ' ' } else { character });
        }
        if shown != Style::Plain {
            self.lines.push_str("\x1b[0m");
        }
        self.lines.push('\n');
    }
}

/// The style of a space: that of the words around it where they have the same.
fn style_between(before: &[(char, Style)], after: &[(char, Style)]) -> Style {
    match (before.last(), after.first()) {
        (Some((_, before)), Some((_, after))) if before == after => *after,
        _ => Style::Plain,
    }
}

/// Where to break a word of which `room` columns fit: after the last `/` of the second half of them, else where they
/// end. At least one character is taken.
fn break_at(word: &[(char, Style)], room: usize) -> usize {
    let most = fitting(word, room).max(1);
    let slash = word.iter().take(most).rposition(|(character, _)| *character == '/').map(|at| at + 1);
    slash.filter(|end| *end > most / 2).unwrap_or(most)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn laid(width: usize, text: &str) -> String {
        let mut page = Page::new(width, false);
        page.paragraph(Lead::hanging(Text::new().plain("- ")), &Text::new().plain(text));
        page.into_string()
    }

    #[test]
    fn words_wrap_under_their_lead() {
        assert_eq!(laid(14, "one two three four"), "- one two\n  three four\n");
        assert_eq!(laid(9, "one two  three"), "- one two\n  three\n");
        assert_eq!(laid(14, "in 8.0\u{a0}GiB of it"), "- in 8.0 GiB\n  of it\n");
    }

    #[test]
    fn a_long_word_breaks_after_a_slash_or_where_it_must() {
        assert_eq!(laid(14, "/usr/lib/modules/kernel"), "- /usr/lib/\n  modules/\n  kernel\n");
        assert_eq!(laid(8, "abcdefghijklm"), "- abcdef\n  ghijkl\n  m\n");
        assert_eq!(laid(8, "東京東京東"), "- 東京東\n  京東\n");
    }

    #[test]
    fn a_separator_does_not_end_a_line() {
        assert_eq!(laid(10, &format!("web01{SEPARATOR}Debian")), "- web01\n  Debian\n");
        assert_eq!(laid(10, "2 ·"), "- 2 ·\n");
    }

    #[test]
    fn colours_are_closed_on_the_line_that_opens_them() {
        let mut page = Page::new(8, true);
        page.paragraph(Lead::default(), &Text::new().with(Style::Bad, "one two three"));
        assert_eq!(page.into_string(), "\x1b[31mone two\x1b[0m\n\x1b[31mthree\x1b[0m\n");
    }

    #[test]
    fn a_control_character_is_not_passed_on() {
        assert_eq!(laid(20, "a\x1b[2Jb"), "- a\u{fffd}[2Jb\n");
    }
}

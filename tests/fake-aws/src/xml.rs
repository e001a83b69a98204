//! XML as the query APIs write it: elements, texts, nothing else.

use crate::estate::Tags;

/// A document that grows.
#[derive(Debug, Default)]
pub(crate) struct Xml(String);

impl Xml {
    /// An element with a text.
    pub(crate) fn text(&mut self, name: &str, text: impl ToString) -> &mut Self {
        self.open(name);
        for character in text.to_string().chars() {
            match character {
                '&' => self.0.push_str("&amp;"),
                '<' => self.0.push_str("&lt;"),
                '>' => self.0.push_str("&gt;"),
                _ => self.0.push(character),
            }
        }
        self.close(name)
    }

    /// An element with a text, where there is one.
    pub(crate) fn maybe(&mut self, name: &str, text: Option<impl ToString>) -> &mut Self {
        match text {
            Some(text) => self.text(name, text),
            None => self,
        }
    }

    /// An element with what `inside` writes.
    pub(crate) fn element(&mut self, name: &str, inside: impl FnOnce(&mut Self)) -> &mut Self {
        self.open(name);
        inside(self);
        self.close(name)
    }

    /// An element with one `item` for each of a list.
    pub(crate) fn items<T>(
        &mut self,
        name: &str,
        items: impl IntoIterator<Item = T>,
        mut inside: impl FnMut(&mut Self, T),
    ) -> &mut Self {
        self.element(name, |xml| {
            for item in items {
                xml.element("item", |xml| inside(xml, item));
            }
        })
    }

    /// `tagSet`; nothing where there are no tags.
    pub(crate) fn tags(&mut self, tags: &Tags) -> &mut Self {
        if tags.is_empty() {
            return self;
        }
        self.items("tagSet", tags, |xml, (key, value)| {
            xml.text("key", key).text("value", value);
        })
    }

    /// The whole document, under a root element.
    pub(crate) fn document(self, root: &str, namespace: &str) -> String {
        let attribute = if namespace.is_empty() { String::new() } else { format!(" xmlns=\"{namespace}\"") };
        format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<{root}{attribute}>{}</{root}>", self.0)
    }

    fn open(&mut self, name: &str) {
        self.0.push('<');
        self.0.push_str(name);
        self.0.push('>');
    }

    fn close(&mut self, name: &str) -> &mut Self {
        self.0.push_str("</");
        self.0.push_str(name);
        self.0.push('>');
        self
    }
}

/// A time as the query APIs write it.
pub(crate) fn time(milliseconds: u64) -> String {
    i64::try_from(milliseconds)
        .ok()
        .and_then(|milliseconds| jiff::Timestamp::from_millisecond(milliseconds).ok())
        .map(|time| format!("{time:.3}"))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_escaped_and_times_have_milliseconds() {
        let mut xml = Xml::default();
        xml.items("tagSet", ["a<b&c>"], |xml, text| {
            xml.text("key", text);
        });
        assert!(
            xml.document("R", "")
                .ends_with("<R><tagSet><item><key>a&lt;b&amp;c&gt;</key></item></tagSet></R>")
        );
        assert_eq!(time(1_767_225_600_007), "2026-01-01T00:00:00.007Z");
    }
}

//! Writes the XML of answers: elements and text, escaped; nothing else is needed.

const DECLARATION: &str = "<?xml version=\"1.0\" encoding=\"utf-8\"?>";

pub(super) struct Xml(String);

impl Xml {
    pub(super) fn new() -> Self {
        Self(DECLARATION.to_owned())
    }

    /// An element whose content `inner` writes.
    pub(super) fn within(&mut self, name: &str, inner: impl FnOnce(&mut Self)) {
        self.with(name, &[], inner);
    }

    pub(super) fn with(&mut self, name: &str, attributes: &[(&str, &str)], inner: impl FnOnce(&mut Self)) {
        self.0.push('<');
        self.0.push_str(name);
        for (attribute, value) in attributes {
            self.0.push(' ');
            self.0.push_str(attribute);
            self.0.push_str("=\"");
            self.escape(value);
            self.0.push('"');
        }
        self.0.push('>');
        inner(self);
        self.0.push_str("</");
        self.0.push_str(name);
        self.0.push('>');
    }

    pub(super) fn text(&mut self, name: &str, text: &str) {
        if text.is_empty() {
            self.0.push('<');
            self.0.push_str(name);
            self.0.push_str(" />");
        } else {
            self.within(name, |xml| xml.escape(text));
        }
    }

    /// Nothing where there is no text.
    pub(super) fn maybe(&mut self, name: &str, text: Option<&str>) {
        if let Some(text) = text {
            self.text(name, text);
        }
    }

    fn escape(&mut self, text: &str) {
        for letter in text.chars() {
            match letter {
                '&' => self.0.push_str("&amp;"),
                '<' => self.0.push_str("&lt;"),
                '>' => self.0.push_str("&gt;"),
                '"' => self.0.push_str("&quot;"),
                // A parser would make a blank of these in an attribute, and a line break of the last anywhere.
                '\t' => self.0.push_str("&#9;"),
                '\n' => self.0.push_str("&#10;"),
                '\r' => self.0.push_str("&#13;"),
                other => self.0.push(other),
            }
        }
    }

    pub(super) fn end(self) -> String {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_attributes_are_escaped() {
        let mut xml = Xml::new();
        xml.with("A", &[("b", "<\"&'>\n")], |xml| {
            xml.text("C", "1 < 2 && \"x\" > ä\r");
            xml.text("D", "");
            xml.maybe("E", None);
        });
        let written = xml.end();
        let expected = "<A b=\"&lt;&quot;&amp;'&gt;&#10;\"><C>1 &lt; 2 &amp;&amp; &quot;x&quot; &gt; ä&#13;</C><D /></A>";
        assert_eq!(written.strip_prefix(DECLARATION), Some(expected));
    }
}

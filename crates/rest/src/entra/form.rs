//! `application/x-www-form-urlencoded` bodies, and the `Basic` header that may carry a client's secret instead.

use std::collections::HashSet;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::percent_decode_str;

/// The fields of one form, decoded.
pub(super) struct Form(Vec<(String, String)>);

impl Form {
    /// Bytes that are not UTF-8 are replaced: no value that matters holds any.
    pub(super) fn parse(body: &[u8]) -> Self {
        let text = String::from_utf8_lossy(body);
        let pairs = text.split('&').filter(|pair| !pair.is_empty());
        Self(
            pairs
                .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
                .map(|(n, v)| (decode(n), decode(v)))
                .collect(),
        )
    }

    /// A field that is given more than once, which OAuth forbids (RFC 6749 §3.2).
    pub(super) fn duplicated(&self) -> Option<&str> {
        let mut seen = HashSet::new();
        self.0.iter().map(|(name, _)| name.as_str()).find(|name| !seen.insert(*name))
    }

    /// The value of a field that is there and not empty.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(n, value)| n == name && !value.is_empty());
        found.map(|(_, value)| value.as_str())
    }
}

/// Client id and secret of `Authorization: Basic`, each of which is form-encoded before (RFC 6749 §2.3.1).
pub(super) fn basic(authorization: &str) -> Option<(String, String)> {
    let (scheme, encoded) = authorization.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let text = String::from_utf8(STANDARD.decode(encoded.trim()).ok()?).ok()?;
    let (id, secret) = text.split_once(':')?;
    Some((decode(id), decode(secret)))
}

fn decode(text: &str) -> String {
    percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_form_and_a_basic_header_are_decoded() {
        let form = Form::parse(b"scope=a%2F.default+x&client_id=&client_secret=p%26q");
        assert_eq!(form.duplicated(), None);
        assert_eq!(Form::parse(b"a=1&b&%61=1").duplicated(), Some("a"));
        assert_eq!(form.get("scope"), Some("a/.default x"));
        assert_eq!(form.get("client_id"), None);
        assert_eq!(form.get("client_secret"), Some("p&q"));
        let header = format!("Basic {}", STANDARD.encode("id%3A1:se%2Bcret"));
        assert_eq!(basic(&header), Some(("id:1".into(), "se+cret".into())));
        assert_eq!(basic("Bearer x"), None);
    }

    proptest! {
        #[test]
        fn parsing_never_panics(body: Vec<u8>, header in "\\PC{0,60}") {
            let form = Form::parse(&body);
            let _ = (form.get("x"), form.duplicated());
            let _ = basic(&header);
        }
    }
}

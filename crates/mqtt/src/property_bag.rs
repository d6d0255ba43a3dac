//! The properties of a message as they stand at the end of an MQTT topic: `key=value` pairs, percent-encoded and joined by
//! `&` (`iothub-device.md` §3.2). Read by the door, written by the door and by clients. It gives no key a meaning.

use std::borrow::Cow;
use std::fmt::Write;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

/// Everything but RFC 3986's unreserved characters is escaped: clients look for `%24.` literally.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the property bag is malformed")]
pub struct InvalidPropertyBag;

/// Keys and values in the order of the first mention; of two values for a key the later one counts. A key without `=` has the
/// empty value. One `/` at the end and one `?` at the start are what some clients add, and mean nothing.
pub fn parse(bag: &str) -> Result<Vec<(String, String)>, InvalidPropertyBag> {
    let bag = bag.strip_suffix('/').unwrap_or(bag);
    let bag = bag.strip_prefix('?').unwrap_or(bag);
    let mut properties: Vec<(String, String)> = Vec::new();
    if bag.starts_with('&') {
        return Err(InvalidPropertyBag);
    }
    for pair in bag.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        if key.is_empty() {
            return Err(InvalidPropertyBag);
        }
        let (key, value) = (unescape(key), unescape(value).into_owned());
        match properties.iter_mut().find(|(known, _)| *known == key) {
            Some((_, earlier)) => *earlier = value,
            None => properties.push((key.into_owned(), value)),
        }
    }
    Ok(properties)
}

/// Appends the pairs in their order; an empty value keeps its `=`, because some clients split on it.
pub fn write<'a>(out: &mut String, properties: impl IntoIterator<Item = (&'a str, &'a str)>) {
    for (index, (key, value)) in properties.into_iter().enumerate() {
        let separator = if index == 0 { "" } else { "&" };
        let (key, value) = (utf8_percent_encode(key, ESCAPED), utf8_percent_encode(value, ESCAPED));
        write!(out, "{separator}{key}={value}").expect("a string takes every text");
    }
}

/// A text whose escapes are not UTF-8 stays as it was sent; `+` stays `+`.
fn unescape(text: &str) -> Cow<'_, str> {
    percent_decode_str(text).decode_utf8().unwrap_or(Cow::Borrowed(text))
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn pairs(bag: &str) -> Vec<(String, String)> {
        parse(bag).unwrap()
    }

    fn owned(expected: &[(&str, &str)]) -> Vec<(String, String)> {
        expected.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn what_the_sdks_send_is_read() {
        let python = "%24.mid=m%201&%24.ct=application%2Fjson&%24.ce=utf-8&a%20b=c%2Bd%26e";
        let expected = [("$.mid", "m 1"), ("$.ct", "application/json"), ("$.ce", "utf-8"), ("a b", "c+d&e")];
        assert_eq!(pairs(python), owned(&expected));
        assert_eq!(pairs("$.mid=1&p=a+b/"), owned(&[("$.mid", "1"), ("p", "a+b")]));
        assert_eq!(pairs("?a=b"), owned(&[("a", "b")]));
    }

    #[test]
    fn a_key_may_lack_a_value_and_the_later_value_counts() {
        assert_eq!(pairs("a&b=&c=1&c=2&"), owned(&[("a", ""), ("b", ""), ("c", "2")]));
        assert_eq!(pairs(""), owned(&[]));
        assert_eq!(pairs("/"), owned(&[]));
        assert_eq!(pairs("a=b=c"), owned(&[("a", "b=c")]));
    }

    #[test]
    fn a_bag_that_begins_with_a_separator_is_malformed() {
        for bag in ["=a", "&a=b", "a=b&=c", "?&a", "?=a"] {
            assert_eq!(parse(bag), Err(InvalidPropertyBag), "{bag}");
        }
    }

    #[test]
    fn escapes_that_are_no_text_stay_as_they_are() {
        assert_eq!(pairs("a=%ff%fe&b=%zz&c=%"), owned(&[("a", "%ff%fe"), ("b", "%zz"), ("c", "%")]));
    }

    proptest! {
        #[test]
        fn no_bag_panics(bag in "[ab%&=/?$.]{0,40}|.{0,40}") {
            let _ = parse(&bag);
        }

        #[test]
        fn what_is_written_is_read_back(values in vec((".{1,8}", ".{0,8}"), 0..6)) {
            let mut expected: Vec<(String, String)> = Vec::new();
            for (key, value) in values {
                if !expected.iter().any(|(known, _)| *known == key) {
                    expected.push((key, value));
                }
            }
            let mut bag = String::new();
            write(&mut bag, expected.iter().map(|(key, value)| (key.as_str(), value.as_str())));
            prop_assert_eq!(parse(&bag), Ok(expected));
        }
    }
}

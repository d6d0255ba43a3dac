//! The properties of a message as they stand at the end of an MQTT topic: `key=value` pairs, percent-encoded and joined by
//! `&` (`iothub-device.md` §3.2). Read by the door, written by the door and by clients. It gives no key a meaning.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt::Write;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

/// Everything but RFC 3986's unreserved characters is escaped: clients look for `%24.` literally.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// As many properties as a message has in practice.
const FEW: usize = 16;

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the property bag is malformed")]
pub struct InvalidPropertyBag;

/// Keys and values in the order of the first mention; of two values for a key the later one counts. A key without `=` has the
/// empty value. One `/` at the end and one `?` at the start are what some clients add, and mean nothing.
pub fn parse(bag: &str) -> Result<Vec<(String, String)>, InvalidPropertyBag> {
    let bag = bag.strip_suffix('/').unwrap_or(bag);
    let bag = bag.strip_prefix('?').unwrap_or(bag);
    let (mut properties, mut places) = (Vec::<(String, String)>::new(), HashMap::new());
    if bag.starts_with('&') {
        return Err(InvalidPropertyBag);
    }
    for pair in bag.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        if key.is_empty() {
            return Err(InvalidPropertyBag);
        }
        let (key, value) = (unescape(key), unescape(value).into_owned());
        match place(&properties, &mut places, &key) {
            Some(place) => properties[place].1 = value,
            None => properties.push((key.into_owned(), value)),
        }
    }
    Ok(properties)
}

/// Where `key` is among `properties`. A few are looked through; `places` is for the many that a hostile device sends.
fn place(properties: &[(String, String)], places: &mut HashMap<String, usize>, key: &str) -> Option<usize> {
    let few = properties.len().min(FEW);
    let among_few = properties[..few].iter().position(|(known, _)| known == key);
    if among_few.is_some() || properties.len() < FEW {
        return among_few;
    }
    let known = places.get(key).copied();
    if known.is_none() {
        places.insert(key.to_owned(), properties.len());
    }
    known
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
    fn of_many_keys_too_the_later_value_counts() {
        let bag: Vec<_> = (0..2000).chain((0..2000).rev()).map(|n| format!("%6B{n}=v{n}")).collect();
        let twice = format!("{}&k5=last&k1999=last", bag.join("&"));
        let read = pairs(&twice);
        let keys: Vec<_> = read.iter().map(|(key, _)| key.clone()).collect();
        assert_eq!(keys, (0..2000).map(|n| format!("k{n}")).collect::<Vec<_>>());
        assert_eq!((&*read[5].1, &*read[6].1, &*read[1999].1), ("last", "v6", "last"));
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

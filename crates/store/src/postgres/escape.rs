//! What PostgreSQL's `text` and `jsonb` would refuse or change, on the way in and back. `text` holds no U+0000; `jsonb` neither,
//! and its numbers know no -0.0 and print 1e300 in full. Order stays, and so does what is a part of what: queries compare escaped
//! texts with escaped texts. For keys, columns, documents of queried tables and everything that queries bring along.

use std::borrow::Cow;

use serde_json::Number;

/// U+0000 to U+0003 become two digits behind a lead. The lead stands nowhere else and neither do the digits, so that an escaped
/// text contains another only where the text contained the other; and each sequence sorts where its character did.
const LEAD: char = '\u{1}';
const DIGITS: [char; 2] = ['\u{2}', '\u{3}'];
const LAST_ESCAPED: char = '\u{3}';

/// How a JSON text writes such a character, but for its last digit.
const CHARACTER: &str = "\\u000";
const CHARACTER_BYTES: usize = CHARACTER.len() + 1;

/// `jsonb` keeps the zeros behind a point and compares without them: so they tell apart numbers that are equal. A whole double has
/// one of them.
const NEGATIVE_ZERO: &str = "0.00";
/// A whole number from 2^63 up is compared as the double next to it, and has so many zeros, more or less by its distance to that.
const ZEROS_OF_THE_NEXT_DOUBLE: i128 = 1026;
/// From here on a double is a whole number, and the shortest text for it may be another one.
const WHOLE_FROM: f64 = 9_007_199_254_740_992.0;

pub(crate) fn text(text: &str) -> Cow<'_, str> {
    if text.bytes().all(|byte| char::from(byte) > LAST_ESCAPED) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 2);
    for character in text.chars() {
        if character <= LAST_ESCAPED {
            let [first, second] = digits(u32::from(character));
            escaped.extend([LEAD, DIGITS[first], DIGITS[second]]);
        } else {
            escaped.push(character);
        }
    }
    Cow::Owned(escaped)
}

pub(crate) fn text_back(text: String) -> String {
    if !text.contains(LEAD) {
        return text;
    }
    let mut plain = String::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        if character == LEAD {
            let mut digit = || u8::from(characters.next() == Some(DIGITS[1]));
            plain.push(char::from(digit() * 2 + digit()));
        } else {
            plain.push(character);
        }
    }
    plain
}

fn digits(character: u32) -> [usize; 2] {
    [usize::from(character > 1), usize::from(character % 2 == 1)]
}

/// A JSON text as `jsonb` takes it.
pub(crate) fn json(json: &str) -> String {
    copy(json, number, escape)
}

/// What `jsonb` prints, as the text that went in but for the order of members.
pub(crate) fn json_back(json: &str) -> String {
    copy(json, number_back, unescape)
}

/// Copies token by token, without the spaces in between. `character` writes one escaped character, and says how many bytes it read.
fn copy(json: &str, number: fn(&str) -> Cow<'_, str>, character: fn(&str, &mut String) -> usize) -> String {
    let mut written = String::with_capacity(json.len());
    let mut rest = json;
    while let Some(first) = rest.bytes().next() {
        let token = match first {
            b'"' => string(rest),
            b'-' | b'0'..=b'9' => {
                let is_outside = |byte: u8| !matches!(byte, b'-' | b'+' | b'.' | b'e' | b'E' | b'0'..=b'9');
                rest.split_at(rest.bytes().position(is_outside).unwrap_or(rest.len())).0
            }
            _ => {
                let is_next = |byte: u8| matches!(byte, b'"' | b'-' | b'0'..=b'9' | b' ');
                let end = rest.bytes().skip(1).position(is_next).map_or(rest.len(), |end| end + 1);
                &rest[..end]
            }
        };
        match first {
            b'"' => characters(token, character, &mut written),
            b'-' | b'0'..=b'9' => written.push_str(&number(token)),
            _ => written.push_str(token.trim_start()),
        }
        rest = &rest[token.len()..];
    }
    written
}

/// The string at the start of a text.
fn string(json: &str) -> &str {
    let mut is_escaped = false;
    let end = json.bytes().skip(1).position(|byte| {
        let is_end = byte == b'"' && !is_escaped;
        is_escaped = byte == b'\\' && !is_escaped;
        is_end
    });
    end.map_or(json, |end| &json[..end + 2])
}

fn characters(token: &str, character: fn(&str, &mut String) -> usize, written: &mut String) {
    let mut rest = token;
    if rest.contains(CHARACTER) {
        while let Some(at) = rest.find('\\') {
            written.push_str(&rest[..at]);
            let read = match &rest[at..] {
                escaped if escaped.starts_with(CHARACTER) => character(escaped, written),
                other => {
                    let two = other.get(..2).unwrap_or(other);
                    written.push_str(two);
                    two.len()
                }
            };
            rest = &rest[at + read..];
        }
    }
    written.push_str(rest);
}

fn escape(escaped: &str, written: &mut String) -> usize {
    let sequence = escaped.get(..CHARACTER_BYTES).unwrap_or(escaped);
    match sequence[CHARACTER.len()..].parse() {
        Ok(number @ 0..=3) => {
            let [first, second] = digits(number);
            for of in [LEAD, DIGITS[first], DIGITS[second]] {
                written.push_str(CHARACTER);
                written.push_str(&u32::from(of).to_string());
            }
        }
        _ => written.push_str(sequence),
    }
    sequence.len()
}

fn unescape(escaped: &str, written: &mut String) -> usize {
    let three = escaped.as_bytes().get(..3 * CHARACTER_BYTES).unwrap_or_default();
    let lasts: Vec<u8> = three.chunks(CHARACTER_BYTES).map(|one| one[CHARACTER.len()]).collect();
    if let [b'1', first @ b'2'..=b'3', second @ b'2'..=b'3'] = lasts.as_slice() {
        written.push_str(CHARACTER);
        written.push(char::from(b'0' + (first - b'2') * 2 + (second - b'2')));
        return three.len();
    }
    let sequence = escaped.get(..CHARACTER_BYTES).unwrap_or(escaped);
    written.push_str(sequence);
    sequence.len()
}

/// A number so that `numeric` orders it as the languages do: an integer of 64 bits as it is, every other as the double that it is.
fn number(token: &str) -> Cow<'_, str> {
    if token.parse::<i64>().is_ok() {
        return Cow::Borrowed(if token == "-0" { NEGATIVE_ZERO } else { token });
    }
    let Some(real) = finite(token) else { return Cow::Borrowed(token) };
    if let Ok(exact) = token.parse::<u64>() {
        let next = format!("{real:.0}");
        let distance = i128::from(exact) - next.parse::<i128>().unwrap_or_default();
        let zeros = usize::try_from(ZEROS_OF_THE_NEXT_DOUBLE + distance).unwrap_or_default();
        return Cow::Owned(format!("{next}.{}", "0".repeat(zeros)));
    }
    if real == 0.0 && real.is_sign_negative() {
        return Cow::Borrowed(NEGATIVE_ZERO);
    }
    if real.abs() >= WHOLE_FROM { Cow::Owned(format!("{real:.1}")) } else { shortest(token, real) }
}

fn number_back(token: &str) -> Cow<'_, str> {
    if token == NEGATIVE_ZERO {
        return Cow::Borrowed("-0.0");
    }
    let Some((whole, fraction)) = token.split_once('.') else { return Cow::Borrowed(token) };
    if fraction.len() > 1
        && fraction.bytes().all(|digit| digit == b'0')
        && let (Ok(next), Ok(zeros)) = (whole.parse::<i128>(), i128::try_from(fraction.len()))
    {
        return Cow::Owned((next + zeros - ZEROS_OF_THE_NEXT_DOUBLE).to_string());
    }
    finite(token).map_or(Cow::Borrowed(token), |real| shortest(token, real))
}

fn finite(token: &str) -> Option<f64> {
    token.parse().ok().filter(|real: &f64| real.is_finite())
}

fn shortest(token: &str, real: f64) -> Cow<'_, str> {
    Number::from_f64(real).map_or(Cow::Borrowed(token), |number| Cow::Owned(number.to_string()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value as Json;

    use super::*;

    #[test]
    fn characters_that_the_engine_refuses_go_in_and_come_back() {
        for plain in [
            "",
            "a",
            "\0",
            "a\0b",
            "\u{1}\u{2}\u{3}",
            "\u{f8ff}",
            "\u{f8ff}\0",
            "\\u0000",
            "\\\0\"",
            "é😀\u{4}\u{7f}",
        ] {
            let escaped = text(plain);
            assert!(!escaped.contains('\0'), "{plain:?}");
            assert_eq!(text_back(escaped.into_owned()), plain);
            let document = Json::from(plain).to_string();
            let escaped = json(&document);
            assert!(!escaped.replace("\\\\", "").contains("\\u0000"), "{escaped}");
            assert_eq!(json_back(&escaped), document);
            assert_eq!(serde_json::from_str::<String>(&escaped).unwrap(), text(plain), "{plain:?}");
        }
    }

    #[test]
    fn numbers_go_in_as_the_engine_compares_them_and_come_back_as_they_were() {
        for (plain, inside) in [
            ("0", "0"),
            ("-0.0", "0.00"),
            ("1.0", "1.0"),
            ("9007199254740993", "9007199254740993"),
            ("9007199254740992.0", "9007199254740992.0"),
            // 2^60: the shortest text that gives this double is another whole number.
            ("1.152921504606847e+18", "1152921504606846976.0"),
            ("-1e+19", "-10000000000000000000.0"),
            ("0.1", "0.1"),
            ("5e-324", "5e-324"),
        ] {
            assert_eq!(json(plain), inside);
            assert_eq!(json_back(inside), plain);
        }
        for plain in ["18446744073709551615", "9223372036854775808", "18446744073709550592", "1e+300"] {
            assert_eq!(json_back(&json(plain)), plain);
        }
        let most = json("18446744073709551615");
        assert!(most.starts_with("18446744073709551616.00"), "as the double next to it: {most}");
        // Nothing that could be read again as a number: the reader says so.
        assert_eq!(json("1e400"), "1e400");
    }

    #[test]
    fn the_spaces_that_the_engine_prints_are_left_out_and_those_of_texts_are_not() {
        assert_eq!(
            json_back(r#"{"a b": [1, -2.50, null, "c\" : , d"], "e": {}, "f": []}"#),
            r#"{"a b":[1,-2.5,null,"c\" : , d"],"e":{},"f":[]}"#
        );
    }

    fn word() -> impl Strategy<Value = String> {
        prop_oneof![4 => "[\u{0}-\u{5}ab]{0,5}", 1 => any::<String>()]
    }

    proptest! {
        #[test]
        fn escaped_texts_relate_as_the_texts_do(first in word(), second in word()) {
            let (left, right) = (text(&first), text(&second));
            prop_assert_eq!(left.cmp(&right), first.cmp(&second));
            prop_assert_eq!(left.contains(&*right), first.contains(&second));
            prop_assert_eq!(left.starts_with(&*right), first.starts_with(&second));
            prop_assert_eq!(left.ends_with(&*right), first.ends_with(&second));
            prop_assert_eq!(text_back(left.into_owned()), first);
        }

        #[test]
        fn any_number_comes_back(integer in any::<u64>(), real in any::<f64>()) {
            let mut numbers = vec![integer.to_string(), integer.cast_signed().to_string()];
            numbers.extend(Number::from_f64(real).map(|number| number.to_string()));
            for number in numbers {
                prop_assert_eq!(json_back(&json(&number)), number);
            }
        }
    }
}

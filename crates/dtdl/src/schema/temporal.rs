//! The four temporal schemas as text. Called by the value judge; reads no clock.

/// `YYYY-MM-DD`, a day that exists, year 1 or later.
pub(super) fn is_date(text: &str) -> bool {
    let bytes = text.as_bytes();
    if bytes.len() != 10 || bytes[4] != b'-' || bytes[7] != b'-' {
        return false;
    }
    let (Some(year), Some(month), Some(day)) =
        (digits(&bytes[..4]), digits(&bytes[5..7]), digits(&bytes[8..]))
    else {
        return false;
    };
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 if leap => 29,
        2 => 28,
        _ => return false,
    };
    year >= 1 && (1..=days).contains(&day)
}

/// `HH:MM:SS` with an optional fraction, and `Z` or an offset of up to 14 hours.
pub(super) fn is_time(text: &str) -> bool {
    match after_time(text) {
        Some(b"Z") => true,
        Some([b'+' | b'-', h1, h2, b':', m1, m2]) => {
            matches!((digits(&[*h1, *h2]), digits(&[*m1, *m2])), (Some(hours), Some(minutes))
                if minutes < 60 && hours * 60 + minutes <= 14 * 60)
        }
        _ => false,
    }
}

/// What follows `HH:MM:SS` and its fraction; none: there is no such time.
fn after_time(text: &str) -> Option<&[u8]> {
    let (clock, rest) = text.as_bytes().split_at_checked(8)?;
    if !is_clock(clock) {
        return None;
    }
    let [b'.', after @ ..] = rest else { return Some(rest) };
    let length = after.iter().take_while(|byte| byte.is_ascii_digit()).count();
    (length > 0).then(|| &after[length..])
}

/// A date, `T`, a time, with or without its zone.
pub(super) fn is_local_date_time(text: &str) -> bool {
    text.split_once('T').is_some_and(|(date, time)| {
        is_date(date) && (is_time(time) || after_time(time).is_some_and(<[u8]>::is_empty))
    })
}

/// A date, `T`, a time.
pub(super) fn is_date_time(text: &str) -> bool {
    text.split_once('T').is_some_and(|(date, time)| is_date(date) && is_time(time))
}

/// `P`, then years and months or weeks, days, and after `T` hours, minutes, seconds: at least one, in order, a fraction only in the last.
pub(crate) fn is_duration(text: &str) -> bool {
    let Some(rest) = text.strip_prefix('P') else { return false };
    let (date, time) = rest.split_once('T').map_or((rest, None), |(date, time)| (date, Some(time)));
    let mut amounts = Vec::new();
    if !amounts_in_order(date, "YMWD", &mut amounts) {
        return false;
    }
    let weeks = amounts.iter().any(|(unit, _)| *unit == 'W');
    if weeks && amounts.iter().any(|(unit, _)| matches!(unit, 'Y' | 'M')) {
        return false;
    }
    if let Some(time) = time {
        let before = amounts.len();
        if !amounts_in_order(time, "HMS", &mut amounts) || amounts.len() == before {
            return false;
        }
    }
    let fractions_before_last = amounts.iter().rev().skip(1).any(|(_, fraction)| *fraction);
    !amounts.is_empty() && !fractions_before_last
}

/// Reads `12.5H`-like amounts whose units appear in the given order, each at most once; says for each whether it had a fraction.
fn amounts_in_order(mut text: &str, units: &str, amounts: &mut Vec<(char, bool)>) -> bool {
    let mut next = 0;
    while !text.is_empty() {
        let whole = text.bytes().take_while(u8::is_ascii_digit).count();
        let mut length = whole;
        let fraction = text.as_bytes().get(whole) == Some(&b'.');
        if fraction {
            let decimals = text[whole + 1..].bytes().take_while(u8::is_ascii_digit).count();
            if decimals == 0 {
                return false;
            }
            length += 1 + decimals;
        }
        let Some(unit) = text[length..].chars().next() else { return false };
        let Some(place) = units[next..].find(unit) else { return false };
        if whole == 0 {
            return false;
        }
        amounts.push((unit, fraction));
        next += place + 1;
        text = &text[length + 1..];
    }
    true
}

fn is_clock(bytes: &[u8]) -> bool {
    bytes[2] == b':'
        && bytes[5] == b':'
        && digits(&bytes[..2]).is_some_and(|hours| hours < 24)
        && digits(&bytes[3..5]).is_some_and(|minutes| minutes < 60)
        && digits(&bytes[6..]).is_some_and(|seconds| seconds < 60)
}

fn digits(bytes: &[u8]) -> Option<u32> {
    bytes.iter().try_fold(0, |value, byte| byte.is_ascii_digit().then(|| value * 10 + u32::from(byte - b'0')))
}

//! Lengths of time as Resource Manager writes them: ISO 8601 (`P1DT2H`, `PT30S`) up to days, or the clock form `1.02:03:04`.

use std::time::Duration;

/// `None` for what is no length of time, or is too long to be one.
pub fn parse(text: &str) -> Option<Duration> {
    let seconds = match text.strip_prefix('P') {
        Some(iso) => of_iso(iso)?,
        None => of_clock(text)?,
    };
    Some(Duration::from_secs(seconds))
}

fn of_iso(iso: &str) -> Option<u64> {
    let (date, time) = iso.split_once('T').map_or((iso, None), |(date, time)| (date, Some(time)));
    if date.is_empty() && time.is_none_or(str::is_empty) || time == Some("") {
        return None;
    }
    let days = of_parts(date, &[('D', 86_400)])?;
    let rest = of_parts(time.unwrap_or_default(), &[('H', 3600), ('M', 60), ('S', 1)])?;
    days.checked_add(rest)
}

/// Numbers with their units, each unit at most once and in this order.
fn of_parts(mut text: &str, units: &[(char, u64)]) -> Option<u64> {
    let mut sum = 0_u64;
    for (unit, seconds) in units {
        let Some((number, rest)) = text.split_once(*unit) else { continue };
        sum = sum.checked_add(digits(number)?.checked_mul(*seconds)?)?;
        text = rest;
    }
    text.is_empty().then_some(sum)
}

/// `[d.]hh:mm:ss`.
fn of_clock(text: &str) -> Option<u64> {
    let (days, clock) = text.split_once('.').unwrap_or(("0", text));
    let mut parts = clock.split(':');
    let mut part = |below: u64| digits(parts.next()?).filter(|number| *number < below);
    let (hours, minutes, seconds) = (part(24)?, part(60)?, part(60)?);
    if parts.next().is_some() {
        return None;
    }
    digits(days)?.checked_mul(86_400)?.checked_add(hours * 3600 + minutes * 60 + seconds)
}

fn digits(text: &str) -> Option<u64> {
    let is_number = !text.is_empty() && text.len() <= 12 && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn both_forms_are_read() {
        let seconds = |text: &str| parse(text).map(|duration| duration.as_secs());
        let read = ["PT1H", "P2D", "PT1M30S", "P1DT12H", "PT0S", "01:00:00", "2.00:00:01"];
        assert_eq!(
            read.map(seconds),
            [Some(3600), Some(172_800), Some(90), Some(129_600), Some(0), Some(3600), Some(172_801)]
        );
        for wrong in ["", "P", "PT", "P1", "PT1", "PT1S1H", "P1Y", "1H", "PT-1S", "1:2", "25:00:00", "P1DT"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "[PTDHMS0-9:.]{0,30}|.{0,20}") {
            let _ = parse(&text);
        }
    }
}

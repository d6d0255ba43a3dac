//! The bytes of a blob that a reader asks for: `bytes=first-[last]`, of `x-ms-range` or `Range`.
//! Blob Storage knows no other form: not the last bytes, not several ranges.

use std::ops::Range;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ByteRange {
    first: u64,
    last: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RangeError {
    /// Azure's `InvalidHeaderValue`.
    #[error("The value for one of the HTTP headers is not in the correct format.")]
    Malformed,
    /// Azure's `InvalidRange`.
    #[error("The range specified is invalid for the current size of the resource.")]
    BeyondTheEnd,
}

impl ByteRange {
    pub fn parse(text: &str) -> Result<Self, RangeError> {
        let (first, last) = text
            .trim()
            .strip_prefix("bytes=")
            .and_then(|range| range.split_once('-'))
            .ok_or(RangeError::Malformed)?;
        let first = number(first)?;
        let last = if last.is_empty() { None } else { Some(number(last)?) };
        if last.is_some_and(|last| last < first) {
            return Err(RangeError::Malformed);
        }
        Ok(Self { first, last })
    }

    /// What lies before `end`, which is greater than `first`.
    pub fn between(first: u64, end: u64) -> Self {
        Self { first, last: Some(end.saturating_sub(1)) }
    }

    /// What of a blob of `length` bytes it means. Its end may lie beyond the blob's; its beginning may not, so that an empty
    /// blob has no range at all, which clients expect and handle.
    pub fn of(self, length: u64) -> Result<Range<u64>, RangeError> {
        if self.first >= length {
            return Err(RangeError::BeyondTheEnd);
        }
        let end = self.last.map_or(length, |last| last.saturating_add(1).min(length));
        Ok(self.first..end)
    }
}

/// Digits only: `parse` alone would take a sign.
fn number(text: &str) -> Result<u64, RangeError> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if is_number { text.parse().map_err(|_| RangeError::Malformed) } else { Err(RangeError::Malformed) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_range_is_cut_to_the_blob() {
        let of = |text: &str, length| ByteRange::parse(text).and_then(|range| range.of(length));
        assert_eq!(of("bytes=0-33554431", 10), Ok(0..10));
        assert_eq!(of("bytes=3-9", 10), Ok(3..10));
        assert_eq!(of("bytes=3-3", 10), Ok(3..4));
        assert_eq!(of("bytes=9-", 10), Ok(9..10));
        assert_eq!(of("bytes=0-18446744073709551615", 10), Ok(0..10));
        assert_eq!(of("bytes=10-", 10), Err(RangeError::BeyondTheEnd));
        assert_eq!(of("bytes=0-33554431", 0), Err(RangeError::BeyondTheEnd));
    }

    #[test]
    fn what_is_no_range_of_blob_storage_is_refused() {
        for text in [
            "",
            "0-1",
            "bytes=",
            "bytes=-5",
            "bytes=5-4",
            "bytes=+1-2",
            "bytes=1-2,4-5",
            "bytes=a-b",
            "items=0-1",
        ] {
            assert_eq!(ByteRange::parse(text), Err(RangeError::Malformed), "{text}");
        }
        assert_eq!(ByteRange::parse("bytes=18446744073709551616-"), Err(RangeError::Malformed));
    }

    proptest! {
        #[test]
        fn a_range_lies_within_its_blob_and_is_never_empty(text in "(bytes=)?[0-9]{0,21}-?[0-9]{0,21}", length: u64) {
            if let Ok(range) = ByteRange::parse(&text).and_then(|range| range.of(length)) {
                prop_assert!(range.start < range.end && range.end <= length);
            }
        }

        #[test]
        fn what_was_written_is_read(first in 0..1000_u64, more in 0..1000_u64, length in 1..1000_u64) {
            let read = ByteRange::parse(&format!("bytes={first}-{}", first + more)).unwrap().of(length);
            let meant: Vec<u64> = (first..=first + more).filter(|at| *at < length).collect();
            prop_assert_eq!(read.map(Iterator::collect::<Vec<_>>).unwrap_or_default(), meant);
        }
    }
}

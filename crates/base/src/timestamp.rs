//! A moment as Azure writes it, in each of its forms. Pure: it never asks what time it is.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

const TICKS_PER_SECOND: i64 = 10_000_000;
/// Ticks (100 ns) from 0001-01-01 to 1970-01-01, the epoch of .NET's `DateTime`.
const DOTNET_EPOCH_TICKS: i64 = 621_355_968_000_000_000;

/// A moment in UTC with Azure's resolution of 100 ns, counted from 1970-01-01.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// 0001-01-01T00:00:00Z, which Azure writes for "never".
    pub const NEVER: Self = Self(-DOTNET_EPOCH_TICKS);
    pub const UNIX_EPOCH: Self = Self(0);

    pub const fn from_ticks(ticks: i64) -> Self {
        Self(ticks)
    }

    pub const fn from_unix_seconds(seconds: i64) -> Self {
        Self(seconds.saturating_mul(TICKS_PER_SECOND))
    }

    pub const fn from_unix_millis(millis: i64) -> Self {
        Self(millis.saturating_mul(TICKS_PER_SECOND / 1000))
    }

    /// Ticks of 100 ns since 1970-01-01.
    pub const fn ticks(self) -> i64 {
        self.0
    }

    pub const fn unix_seconds(self) -> i64 {
        self.0.div_euclid(TICKS_PER_SECOND)
    }

    pub const fn unix_millis(self) -> i64 {
        self.0.div_euclid(TICKS_PER_SECOND / 1000)
    }

    /// Ticks of 100 ns since 0001-01-01, the form of `generationId`.
    pub const fn dotnet_ticks(self) -> i64 {
        self.0 + DOTNET_EPOCH_TICKS
    }

    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(ticks_of(duration)))
    }

    #[must_use]
    pub fn minus(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(ticks_of(duration)))
    }

    /// Time from `earlier` to `self`; zero when `earlier` lies later.
    pub fn since(self, earlier: Self) -> Duration {
        let ticks = u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0);
        Duration::from_nanos(ticks.saturating_mul(100))
    }

    /// `2025-05-02T14:57:59.4944153Z`: always seven fractional digits.
    pub fn iso7(self) -> String {
        format!("{}.{:07}Z", self.iso_seconds(), self.0.rem_euclid(TICKS_PER_SECOND))
    }

    /// Like [`Self::iso7`] with trailing zeros of the fraction cut, as .NET's `FFFFFFF` writes it.
    pub fn iso_trimmed(self) -> String {
        let fraction = self.0.rem_euclid(TICKS_PER_SECOND);
        if fraction == 0 {
            return format!("{}Z", self.iso_seconds());
        }
        format!("{}.{}Z", self.iso_seconds(), format!("{fraction:07}").trim_end_matches('0'))
    }

    /// The offset form of [`Self::iso7`]: `…59.2626457+00:00`.
    pub fn iso7_offset(self) -> String {
        format!("{}.{:07}+00:00", self.iso_seconds(), self.0.rem_euclid(TICKS_PER_SECOND))
    }

    /// `yyyy-MM-ddTHH:mm:ss` without zone, the common stem of the ISO forms.
    pub fn iso_seconds(self) -> String {
        let at = self.datetime();
        format!(
            "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}",
            at.year(),
            u8::from(at.month()),
            at.day(),
            at.hour(),
            at.minute(),
            at.second()
        )
    }

    /// `MM/dd/yyyy HH:mm:ss`, used in tracking ids.
    pub fn us_seconds(self) -> String {
        let at = self.datetime();
        format!(
            "{:02}/{:02}/{:04} {:02}:{:02}:{:02}",
            u8::from(at.month()),
            at.day(),
            at.year(),
            at.hour(),
            at.minute(),
            at.second()
        )
    }

    /// `Wed, 18 Apr 2018 01:22:34 GMT` (RFC 1123), for HTTP `Date` and certificate dates.
    pub fn rfc1123(self) -> String {
        let at = self.datetime();
        let (weekday, month) = (at.weekday().to_string(), at.month().to_string());
        format!(
            "{}, {:02} {} {:04} {:02}:{:02}:{:02} GMT",
            &weekday[..3],
            at.day(),
            &month[..3],
            at.year(),
            at.hour(),
            at.minute(),
            at.second()
        )
    }

    /// Calendar form in UTC; clamped to the years that [`OffsetDateTime`] can hold.
    pub fn datetime(self) -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp_nanos(i128::from(self.0) * 100)
            .unwrap_or(OffsetDateTime::UNIX_EPOCH)
    }
}

pub(crate) fn ticks_of(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos() / 100).unwrap_or(i64::MAX)
}

#[derive(Debug, thiserror::Error)]
#[error("not an RFC 3339 date and time")]
pub struct InvalidTimestamp;

impl std::str::FromStr for Timestamp {
    type Err = InvalidTimestamp;

    fn from_str(text: &str) -> Result<Self, InvalidTimestamp> {
        let at = OffsetDateTime::parse(text, &Rfc3339).map_err(|_| InvalidTimestamp)?;
        i64::try_from(at.unix_timestamp_nanos() / 100).map(Self).map_err(|_| InvalidTimestamp)
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.iso7())
    }
}

/// Stored and sent as [`Timestamp::iso7`].
impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.iso7())
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timestamp_is_written_in_each_form_that_azure_uses() {
        let at: Timestamp = "2025-05-02T14:57:51.597969Z".parse().unwrap();
        assert_eq!(at.iso7(), "2025-05-02T14:57:51.5979690Z");
        assert_eq!(at.iso_trimmed(), "2025-05-02T14:57:51.597969Z");
        assert_eq!(at.iso7_offset(), "2025-05-02T14:57:51.5979690+00:00");
        assert_eq!(at.us_seconds(), "05/02/2025 14:57:51");
        assert_eq!(at.rfc1123(), "Fri, 02 May 2025 14:57:51 GMT");
        assert_eq!(Timestamp::NEVER.iso7(), "0001-01-01T00:00:00.0000000Z");
    }
}

//! The api-version that a caller speaks, and what depends on it. Doors parse it once; any well-formed date counts, an unknown one
//! as the newest that it is not older than (`dps.md` §0.2).

use base::checked_string;

/// Up to this version a device keeps its hub when its enrollment says nothing of reprovisioning.
const STICKY_MAX: &str = "2018-04-01";
/// Devices of older versions do not know `reprovisionedToInitialAssignment`.
const REPROVISIONED_SINCE: &str = "2019-04-15";
const CREDENTIAL_POLICIES_SINCE: &str = "2025-07-01";

fn is_version(text: &str) -> bool {
    let date = text.strip_suffix("-preview").unwrap_or(text);
    date.len() == STICKY_MAX.len()
        && date.bytes().enumerate().all(|(at, byte)| match at {
            4 | 7 => byte == b'-',
            _ => byte.is_ascii_digit(),
        })
}

checked_string!(
    /// A date, with or without `-preview`. Versions order by their text.
    ApiVersion,
    "a date like 2021-10-01, or one with -preview after it",
    is_version
);

impl ApiVersion {
    /// Whether an enrollment without `reprovisionPolicy` leaves the device where it is.
    pub fn is_sticky(&self) -> bool {
        self.as_str() <= STICKY_MAX
    }

    pub fn knows_reprovisioned(&self) -> bool {
        self.as_str() >= REPROVISIONED_SINCE
    }

    pub fn knows_credential_policies(&self) -> bool {
        self.as_str() >= CREDENTIAL_POLICIES_SINCE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_a_date_and_nothing_else() {
        for good in ["2018-04-01", "2018-09-01-preview", "2031-12-24"] {
            assert!(good.parse::<ApiVersion>().is_ok(), "{good}");
        }
        for bad in ["", "latest", "2021-10-1", "20211-0-01", "2021-10-01-beta", "2021-10-01-preview-preview"]
        {
            assert!(bad.parse::<ApiVersion>().is_err(), "{bad}");
        }
    }

    #[test]
    fn each_gate_opens_with_its_version() {
        let version = |text: &str| text.parse::<ApiVersion>().unwrap();
        assert!(version("2018-04-01").is_sticky() && !version("2018-09-01-preview").is_sticky());
        assert!(!version("2019-03-31").knows_reprovisioned() && version("2019-04-15").knows_reprovisioned());
        assert!(!version("2021-10-01").knows_credential_policies());
        assert!(version("2025-07-01-preview").knows_credential_policies());
    }
}

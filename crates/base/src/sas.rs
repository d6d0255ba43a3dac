//! Shared access signatures: parse, verify, make. The one place that knows the token's text.
//! Rules of `iothub-device.md` §2.1, `iothub-service.md` §1.4 and `dps.md` §1.6.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use crate::caps;
use crate::secret::{self, Key};
use crate::timestamp::Timestamp;

const SCHEME: &str = "SharedAccessSignature ";
/// Everything but RFC 3986's unreserved characters is escaped, with upper-case hex.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a shared access signature")]
pub struct InvalidSasToken;

/// A token as it was presented. `resource` and `expiry` stay raw, because the signature covers the raw text.
#[derive(Clone)]
pub struct SasToken {
    resource: String,
    expiry: String,
    signature: Vec<u8>,
    key_name: Option<String>,
    expires_at: Timestamp,
}

impl SasToken {
    /// `SharedAccessSignature sr=…&sig=…&se=…[&skn=…]`, fields in any order, names in any case.
    pub fn parse(text: &str) -> Result<Self, InvalidSasToken> {
        let scheme = text.get(..SCHEME.len()).ok_or(InvalidSasToken)?;
        if text.len() > caps::SAS_TOKEN_BYTES_MAX || !scheme.eq_ignore_ascii_case(SCHEME) {
            return Err(InvalidSasToken);
        }
        let (mut resource, mut signature, mut expiry, mut key_name) = (None, None, None, None);
        for field in text[SCHEME.len()..].split('&') {
            let (name, value) = field.split_once('=').ok_or(InvalidSasToken)?;
            let slot = match name.to_ascii_lowercase().as_str() {
                "sr" => &mut resource,
                "sig" => &mut signature,
                "se" => &mut expiry,
                "skn" => &mut key_name,
                _ => continue,
            };
            if slot.replace(value).is_some() {
                return Err(InvalidSasToken);
            }
        }
        let (Some(resource), Some(signature), Some(expiry)) = (resource, signature, expiry) else {
            return Err(InvalidSasToken);
        };
        let seconds: i64 = decode(expiry).parse().map_err(|_| InvalidSasToken)?;
        // A '+' that was not escaped arrives as a space from clients that form-decode first.
        let signature = STANDARD.decode(decode(signature).replace(' ', "+")).map_err(|_| InvalidSasToken)?;
        Ok(Self {
            resource: resource.to_owned(),
            expiry: expiry.to_owned(),
            signature,
            key_name: key_name.map(decode).filter(|name| !name.is_empty()),
            expires_at: Timestamp::from_unix_seconds(seconds),
        })
    }

    /// The policy that signed (`skn`), or `None` for a device's own key.
    pub fn key_name(&self) -> Option<&str> {
        self.key_name.as_deref()
    }

    pub fn expires_at(&self) -> Timestamp {
        self.expires_at
    }

    /// Expired once the expiry lies more than the allowed clock skew (5 min) in the past.
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.expires_at.plus(Duration::from_secs(caps::SAS_CLOCK_SKEW_SECONDS)) < now
    }

    /// Whether it is good at `now` and one of `keys` signed it. Else what is wrong, which is for the log alone.
    pub fn check(&self, keys: [&Key; 2], now: Timestamp) -> Result<(), &'static str> {
        if self.is_expired(now) {
            return Err("the token has expired");
        }
        let is_signed = keys.into_iter().any(|key| self.is_signed_by(key));
        if is_signed { Ok(()) } else { Err("the token is signed with another key") }
    }

    /// Whether `key` signed this token. Tries the resource as written, then decoded, then with lower-case escapes,
    /// because clients differ in what they sign.
    pub fn is_signed_by(&self, key: &Key) -> bool {
        let decoded = decode(&self.resource);
        let encoded = utf8_percent_encode(&decoded, ESCAPED).to_string();
        let candidates = [self.resource.clone(), decoded, lower_case_escapes(&encoded), encoded];
        candidates
            .iter()
            .any(|resource| secret::same_bytes(&sign(key, resource, &self.expiry), &self.signature))
    }

    /// Whether the token's resource is `host/path` or a prefix of it by whole segments. The host part compares without case
    /// and may carry a port; the rest is case-sensitive. `hosts` lists every name that the instance answers to.
    pub fn covers<H: AsRef<str>>(&self, hosts: &[H], path: &str) -> bool {
        covers(&self.resource(), hosts, path, |given, wanted| given == wanted)
    }

    /// [`Self::covers`] with the whole path in any case, as a service's paths are.
    pub fn covers_in_any_case<H: AsRef<str>>(&self, hosts: &[H], path: &str) -> bool {
        covers(&self.resource(), hosts, path, str::eq_ignore_ascii_case)
    }

    /// [`Self::covers`] by a client that escapes the id and then the whole resource. The id `a%23` is written so by one client,
    /// and means `a#` to another: this form needs a second reason to be believed.
    pub fn covers_escaped_twice<H: AsRef<str>>(&self, hosts: &[H], path: &str) -> bool {
        covers(&decode(&self.resource()), hosts, path, |given, wanted| given == wanted)
    }

    /// The resource, decoded once.
    pub fn resource(&self) -> String {
        decode(&self.resource)
    }
}

impl std::fmt::Debug for SasToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SasToken(sr={}, se={}, skn={:?})", self.resource, self.expiry, self.key_name)
    }
}

/// Makes a token for `resource` (not yet escaped), as the SDKs do.
pub fn build(resource: &str, key: &Key, expires_at: Timestamp, key_name: Option<&str>) -> String {
    let resource = utf8_percent_encode(resource, ESCAPED).to_string();
    let expiry = expires_at.unix_seconds().to_string();
    let signature = STANDARD.encode(sign(key, &resource, &expiry));
    let signature = utf8_percent_encode(&signature, ESCAPED);
    let suffix = key_name.map(|name| format!("&skn={name}")).unwrap_or_default();
    format!("{SCHEME}sr={resource}&sig={signature}&se={expiry}{suffix}")
}

fn sign(key: &Key, resource: &str, expiry: &str) -> Vec<u8> {
    key.hmac_sha256(format!("{resource}\n{expiry}").as_bytes())
}

fn covers<H: AsRef<str>>(resource: &str, hosts: &[H], path: &str, is_same: fn(&str, &str) -> bool) -> bool {
    let bare = resource.trim_start_matches('/');
    let (host, rest) = bare.split_once('/').unwrap_or((bare, ""));
    let host = host
        .rsplit_once(':')
        .map_or(host, |(name, port)| if port.bytes().all(|b| b.is_ascii_digit()) { name } else { host });
    let mut wanted = path.split('/').filter(|segment| !segment.is_empty());
    let mut given = rest.split('/').filter(|segment| !segment.is_empty());
    given.all(|given| wanted.next().is_some_and(|wanted| is_same(given, wanted)))
        && hosts.iter().any(|known| known.as_ref().eq_ignore_ascii_case(host))
}

fn decode(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

fn lower_case_escapes(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut after_percent = 0;
    for c in text.chars() {
        out.push(if after_percent > 0 { c.to_ascii_lowercase() } else { c });
        after_percent = if c == '%' { 2 } else { after_percent.max(1) - 1 };
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DEVICE: &str = "SharedAccessSignature sr=hub1.localhost%2Fdevices%2Fdev1&sig=zsQqTZw9gJVb3fAfV8IqaTr%2FvHTefSaOjG1k8mNhRZY%3D&se=2000000000";

    fn key() -> Key {
        "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=".parse().unwrap()
    }

    #[test]
    fn the_published_vectors_are_made_and_verified() {
        let at = Timestamp::from_unix_seconds(2_000_000_000);
        assert_eq!(build("hub1.localhost/devices/dev1", &key(), at, None), DEVICE);
        assert!(SasToken::parse(DEVICE).unwrap().is_signed_by(&key()));
        let group = Key::from_bytes((0..64).collect()).derive("dev-01");
        let registration = build(
            "0ne00ABCDEF/registrations/dev-01",
            &group,
            Timestamp::from_unix_seconds(1_700_000_000),
            Some("registration"),
        );
        assert_eq!(
            registration,
            "SharedAccessSignature sr=0ne00ABCDEF%2Fregistrations%2Fdev-01&sig=ulLZRgPip9wjJhL55v7G5bIKtONeq6%2BI6At5N%2FOfqqI%3D&se=1700000000&skn=registration"
        );
    }

    #[test]
    fn another_key_or_another_expiry_does_not_verify() {
        assert!(!SasToken::parse(DEVICE).unwrap().is_signed_by(&Key::generate(32)));
        assert!(!SasToken::parse(&DEVICE.replace("2000000000", "2000000001")).unwrap().is_signed_by(&key()));
    }

    #[test]
    fn a_token_covers_its_resource_and_below_by_whole_segments() {
        let token = |resource: &str| {
            SasToken::parse(&build(resource, &key(), Timestamp::from_unix_seconds(9), None)).unwrap()
        };
        let hosts = ["hub1.localhost", "127.0.0.1"];
        assert!(token("HUB1.localhost").covers(&hosts, "/devices/dev1"));
        assert!(token("127.0.0.1:8443/devices").covers(&hosts, "/devices/dev1"));
        assert!(token("hub1.localhost/devices/dev1").covers(&hosts, "/devices/dev1"));
        let twice = token("hub1.localhost/devices/dev%31");
        assert!(!twice.covers(&hosts, "/devices/dev1") && !twice.covers_in_any_case(&hosts, "/devices/dev1"));
        assert!(
            twice.covers(&hosts, "/devices/dev%31") && twice.covers_escaped_twice(&hosts, "/devices/dev1")
        );
        assert!(!twice.covers_escaped_twice(&hosts, "/devices/dev2"));
        assert!(!token("hub1.localhost/devices/dev").covers(&hosts, "/devices/dev1"));
        assert!(!token("hub1.localhost/devices/DEV1").covers(&hosts, "/devices/dev1"));
        assert!(token("hub1.localhost/devices").covers_in_any_case(&hosts, "/Devices/dev1"));
        assert!(!token("hub1.localhost/devices/dev").covers_in_any_case(&hosts, "/Devices/dev1"));
        assert!(!token("hub1.localhost/devices/dev1/modules/m").covers(&hosts, "/devices/dev1"));
        assert!(!token("hub2.localhost").covers(&hosts, "/devices/dev1"));
    }

    #[test]
    fn a_token_is_read_up_to_its_greatest_length() {
        let padded = |bytes: usize| format!("{DEVICE}&x={}", "y".repeat(bytes - DEVICE.len() - "&x=".len()));
        assert!(SasToken::parse(&padded(caps::SAS_TOKEN_BYTES_MAX)).unwrap().is_signed_by(&key()));
        assert!(SasToken::parse(&padded(caps::SAS_TOKEN_BYTES_MAX + 1)).is_err());
    }

    #[test]
    fn a_token_lives_five_minutes_past_its_expiry() {
        let token = SasToken::parse(DEVICE).unwrap();
        assert!(!token.is_expired(Timestamp::from_unix_seconds(2_000_000_300)));
        assert!(token.is_expired(Timestamp::from_unix_seconds(2_000_000_301)));
    }

    proptest! {
        #[test]
        fn parsing_never_panics(text in ".{0,300}", tail in "\\PC{0,200}") {
            let _ = SasToken::parse(&text);
            if let Ok(token) = SasToken::parse(&format!("SharedAccessSignature sr={tail}&sig=AAAA&se=1")) {
                let _ = token.covers(&["h"], "/devices/d");
                let _ = token.is_signed_by(&Key::from_bytes(vec![7; 32]));
            }
        }
    }
}

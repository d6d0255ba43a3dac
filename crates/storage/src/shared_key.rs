//! Requests signed with an account's key (`Authorization: SharedKey …`): what the signature covers, made and verified.
//! Both sides need it: the door that serves blobs and the client that reaches foreign accounts.

use std::time::Duration;

use base::{Key, Timestamp, caps, secret};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;

use crate::name::AccountName;

/// The headers that have a line of their own, in their order. `Date` is left empty where `x-ms-date` is given.
const HEADERS: [&str; 11] = [
    "content-encoding",
    "content-language",
    "content-length",
    "content-md5",
    "content-type",
    "date",
    "if-modified-since",
    "if-match",
    "if-none-match",
    "if-unmodified-since",
    "range",
];

/// A request as it is signed: the path as it was sent, the query decoded.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    pub verb: &'a str,
    pub headers: &'a [(&'a str, &'a str)],
    pub path: &'a str,
    pub query: &'a [(&'a str, &'a str)],
}

/// What the `Authorization` header says.
pub struct Authorization {
    pub account: AccountName,
    is_lite: bool,
    signature: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a signature with an account's key")]
pub struct InvalidAuthorization;

impl std::str::FromStr for Authorization {
    type Err = InvalidAuthorization;

    fn from_str(text: &str) -> Result<Self, InvalidAuthorization> {
        let (scheme, rest) = text.split_once(' ').ok_or(InvalidAuthorization)?;
        let is_lite = match scheme {
            "SharedKey" => false,
            "SharedKeyLite" => true,
            _ => return Err(InvalidAuthorization),
        };
        let (account, signature) = rest.split_once(':').ok_or(InvalidAuthorization)?;
        let account = account.parse().map_err(|_| InvalidAuthorization)?;
        let signature = STANDARD.decode(signature).map_err(|_| InvalidAuthorization)?;
        Ok(Self { account, is_lite, signature })
    }
}

/// A date as headers tell it.
pub fn date(text: &str) -> Option<Timestamp> {
    let date = OffsetDateTime::parse(text, &Rfc2822).ok()?;
    Some(Timestamp::from_unix_seconds(date.unix_timestamp()))
}

impl Authorization {
    /// Whether one of `keys` signed `request`, not long ago. Else what is wrong, which is for the log alone.
    pub fn check(&self, request: Request<'_>, keys: [&Key; 2], now: Timestamp) -> Result<(), &'static str> {
        let date = request.date().ok_or("the request has no date")?;
        let skew = date.since(now).max(now.since(date));
        if skew > Duration::from_secs(caps::SHARED_KEY_SKEW_SECONDS) {
            return Err("the request's date is too far from now");
        }
        let is_signed = [Order::Ordinal, Order::Culture].into_iter().any(|order| {
            let text = if self.is_lite {
                request.lite_string_to_sign(&self.account, order)
            } else {
                request.string_to_sign(&self.account, order)
            };
            keys.into_iter().any(|key| secret::same_bytes(&key.hmac_sha256(text.as_bytes()), &self.signature))
        });
        if is_signed { Ok(()) } else { Err("the request is signed with another key") }
    }
}

/// The `Authorization` header of `request`, as clients make it.
pub fn sign(request: Request<'_>, account: &AccountName, key: &Key) -> String {
    let text = request.string_to_sign(account, Order::Culture);
    format!("SharedKey {account}:{}", STANDARD.encode(key.hmac_sha256(text.as_bytes())))
}

/// Clients sort the headers of metadata by their bytes, or as the service does: dashes do not count and `_` stands before all.
#[derive(Clone, Copy)]
enum Order {
    Ordinal,
    Culture,
}

impl Order {
    fn key(self, name: &str) -> String {
        match self {
            Self::Ordinal => name.to_owned(),
            Self::Culture => name.replace('-', "").replace('_', " "),
        }
    }
}

impl Request<'_> {
    fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(given, _)| given.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.trim())
    }

    fn date(&self) -> Option<Timestamp> {
        date(self.header("x-ms-date").or_else(|| self.header("date"))?)
    }

    fn string_to_sign(&self, account: &AccountName, order: Order) -> String {
        let mut lines = vec![self.verb.to_owned()];
        lines.extend(HEADERS.map(|name| self.signed_value(name).to_owned()));
        lines.extend(self.own_headers(order).into_iter().map(|(name, value)| format!("{name}:{value}")));
        lines.push(format!("/{account}{}", self.path));
        lines.extend(
            self.parameters().into_iter().map(|(name, values)| format!("{name}:{}", values.join(","))),
        );
        lines.join("\n")
    }

    /// Fewer headers, and of the query `comp` alone.
    fn lite_string_to_sign(&self, account: &AccountName, order: Order) -> String {
        let mut lines = vec![self.verb.to_owned()];
        lines.extend(["content-md5", "content-type", "date"].map(|name| self.signed_value(name).to_owned()));
        lines.extend(self.own_headers(order).into_iter().map(|(name, value)| format!("{name}:{value}")));
        let comp = self.query.iter().find(|(name, _)| name.eq_ignore_ascii_case("comp"));
        let comp = comp.map(|(_, value)| format!("?comp={value}")).unwrap_or_default();
        lines.push(format!("/{account}{}{comp}", self.path));
        lines.join("\n")
    }

    fn signed_value(&self, name: &str) -> &str {
        let value = self.header(name).unwrap_or_default();
        let is_left_out = match name {
            "content-length" => value == "0",
            "date" => self.header("x-ms-date").is_some(),
            _ => false,
        };
        if is_left_out { "" } else { value }
    }

    fn own_headers(&self, order: Order) -> Vec<(String, &str)> {
        let own = self.headers.iter().map(|(name, value)| (name.to_ascii_lowercase(), value.trim()));
        let mut own: Vec<_> = own.filter(|(name, _)| name.starts_with("x-ms-")).collect();
        own.sort_by_cached_key(|(name, _)| order.key(name));
        own
    }

    /// Each name once, in lower case, with its values in their order.
    fn parameters(&self) -> Vec<(String, Vec<&str>)> {
        let mut pairs: Vec<_> =
            self.query.iter().map(|(name, value)| (name.to_ascii_lowercase(), *value)).collect();
        pairs.sort();
        let mut parameters: Vec<(String, Vec<&str>)> = Vec::new();
        for (name, value) in pairs {
            match parameters.last_mut() {
                Some((last, values)) if *last == name => values.push(value),
                _ => parameters.push((name, vec![value])),
            }
        }
        parameters
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DATE: (&str, &str) = ("x-ms-date", "Sat, 28 Nov 2026 06:55:30 GMT");
    const VERSION: (&str, &str) = ("x-ms-version", "2026-10-06");
    const BLOB: &str = "/uploads/dev%201/a%2Bb%20%C3%A9.txt";

    fn key() -> Key {
        "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=".parse().unwrap()
    }

    fn at() -> Timestamp {
        "2026-11-28T06:55:30Z".parse().unwrap()
    }

    fn check_at(
        request: Request<'_>,
        signature: &str,
        key: &Key,
        now: Timestamp,
    ) -> Result<(), &'static str> {
        let authorization: Authorization = format!("SharedKey unitaccount:{signature}").parse().unwrap();
        authorization.check(request, [&Key::from_bytes(vec![1; 32]), key], now)
    }

    fn check(request: Request<'_>, signature: &str) -> Result<(), &'static str> {
        check_at(request, signature, &key(), at())
    }

    /// What azure-storage-blob 12.31.1 of Python sent.
    #[test]
    fn a_request_may_be_signed_in_the_lighter_way() {
        let headers = [("Content-Type", "text/plain"), DATE, VERSION];
        let query = [("comp", "metadata"), ("timeout", "30")];
        let request = Request { verb: "PUT", headers: &headers, path: BLOB, query: &query };
        let text = format!(
            "PUT\n\ntext/plain\n\n{}:{}\n{}:{}\n/unitaccount{BLOB}?comp=metadata",
            DATE.0, DATE.1, VERSION.0, VERSION.1
        );
        let check = |text: &str, verb| {
            let signature = STANDARD.encode(key().hmac_sha256(text.as_bytes()));
            let authorization: Authorization =
                format!("SharedKeyLite unitaccount:{signature}").parse().unwrap();
            authorization.check(Request { verb, ..request }, [&key(), &key()], at())
        };
        assert_eq!(check(&text, "PUT"), Ok(()));
        assert!(check(&text, "DELETE").is_err() && check(&text.replace("metadata", "acl"), "PUT").is_err());
    }

    #[test]
    fn the_requests_of_a_client_are_verified() {
        let upload = [
            ("Accept", "application/xml"),
            ("Content-Length", "5"),
            ("Content-Type", "application/octet-stream"),
            ("If-None-Match", "*"),
            ("x-ms-blob-content-type", "text/plain"),
            ("x-ms-blob-type", "BlockBlob"),
            ("x-ms-client-request-id", "b358c94e-eaf8-11f1-81ca-02fc00000001"),
            DATE,
            ("x-ms-meta-Some_Name", "v1"),
            ("x-ms-meta-some", "a b"),
            VERSION,
        ];
        let request = Request { verb: "PUT", headers: &upload, path: BLOB, query: &[] };
        assert_eq!(check(request, "llSLBq3IVkwBHz2udlHrwyaC9zc52OtBWB16cuxVxXw="), Ok(()));

        let list = [
            ("Accept", "application/xml"),
            ("x-ms-client-request-id", "b359c632-eaf8-11f1-81ca-02fc00000001"),
            DATE,
            VERSION,
        ];
        let query = [
            ("restype", "container"),
            ("comp", "list"),
            ("prefix", "dev 1/"),
            ("include", "metadata,snapshots"),
        ];
        let request = Request { verb: "GET", headers: &list, path: "/uploads", query: &query };
        assert_eq!(check(request, "+yEzGyKDzoJ0MLfIJfMjJ/GoM0eicOIw39tgQQgjFrs="), Ok(()));
    }

    #[test]
    fn the_account_stands_twice_where_it_is_in_the_path() {
        let headers = [
            ("x-ms-client-request-id", "b35a9c10-eaf8-11f1-81ca-02fc00000001"),
            DATE,
            ("x-ms-range", "bytes=3-9"),
            VERSION,
        ];
        let path = format!("/unitaccount{BLOB}");
        let request = Request { verb: "GET", headers: &headers, path: &path, query: &[] };
        assert_eq!(check(request, "ckcwkvWCFaV6Upw6qcHc/AnDscFwEPHN1GhB/beJonM="), Ok(()));
    }

    fn metadata() -> [(&'static str, &'static str); 6] {
        [
            ("x-ms-client-request-id", "08180454-eaf9-11f1-9945-02fc00000001"),
            ("x-ms-date", "Sat, 28 Nov 2026 06:57:52 GMT"),
            ("x-ms-meta-Someb", "3"),
            ("x-ms-meta-some1", "1"),
            ("x-ms-meta-some_a", "2"),
            VERSION,
        ]
    }

    #[test]
    fn metadata_may_be_sorted_by_bytes_or_as_the_service_does() {
        let request =
            Request { verb: "PUT", headers: &metadata(), path: "/uploads/x", query: &[("comp", "metadata")] };
        let python = "WiqgRvx6v7/KhzejjKAVBmhSMpxb5ArvrfKOhttoFZg=";
        assert_eq!(check(request, python), Ok(()));
        let account: AccountName = "unitaccount".parse().unwrap();
        assert_eq!(sign(request, &account, &key()), format!("SharedKey unitaccount:{python}"));
        let ordinal = request.string_to_sign(&account, Order::Ordinal);
        assert!(ordinal.contains("x-ms-meta-some1:1\nx-ms-meta-some_a:2\nx-ms-meta-someb:3\n"));
        assert_eq!(check(request, &STANDARD.encode(key().hmac_sha256(ordinal.as_bytes()))), Ok(()));
    }

    #[test]
    fn a_request_is_good_for_fifteen_minutes_and_never_without_a_date() {
        let headers = [DATE];
        let request = Request { verb: "GET", headers: &headers, path: "/c/b", query: &[] };
        let signature = sign(request, &"unitaccount".parse().unwrap(), &key());
        let signature = signature.strip_prefix("SharedKey unitaccount:").unwrap();
        let late = |seconds| check_at(request, signature, &key(), at().plus(Duration::from_secs(seconds)));
        let early = |seconds| check_at(request, signature, &key(), at().minus(Duration::from_secs(seconds)));
        assert!(late(900).is_ok() && early(900).is_ok());
        assert!(late(901).is_err() && early(901).is_err());
        assert!(check_at(request, signature, &Key::from_bytes(vec![2; 32]), at()).is_err());
        assert!(check(Request { headers: &[], ..request }, signature).is_err());
    }

    #[test]
    fn a_length_of_nothing_and_a_second_date_are_not_signed() {
        let bare = [DATE];
        let full = [DATE, ("Content-Length", "0"), ("Date", "Mon, 01 Jan 2024 00:00:00 GMT")];
        let account: AccountName = "unitaccount".parse().unwrap();
        let signed =
            |headers| sign(Request { verb: "PUT", headers, path: "/c", query: &[] }, &account, &key());
        assert_eq!(signed(&bare), signed(&full));
    }

    #[test]
    fn values_of_one_parameter_are_joined() {
        let query = [("Include", "b"), ("comp", "list"), ("include", "a")];
        let request = Request { verb: "GET", headers: &[], path: "/c", query: &query };
        let text = request.string_to_sign(&"unitaccount".parse().unwrap(), Order::Ordinal);
        assert!(text.ends_with("/unitaccount/c\ncomp:list\ninclude:a,b"), "{text}");
    }

    proptest! {
        #[test]
        fn no_header_that_a_client_sends_makes_it_panic_or_opens_anything(
            authorization in "(SharedKey|SharedKeyLite|Bearer)? ?[a-z0-9]{0,26}:?[A-Za-z0-9+/=]{0,50}",
            names in prop::collection::vec("(x-ms-|X-MS-)?[!-~]{0,12}", 0..8),
            values in prop::collection::vec("\\PC{0,20}", 8),
            path in "\\PC{0,30}", parameters in prop::collection::vec(("\\PC{0,9}", "\\PC{0,9}"), 0..8),
            date in "(Sat, )?[0-9]{1,2} (Nov|Feb|X) [0-9]{1,5} [0-9]{2}:[0-9]{2}:[0-9]{2} (GMT|[+-][0-9]{4})",
        ) {
            let mut headers = vec![("x-ms-date", date.as_str())];
            headers.extend(names.iter().map(String::as_str).zip(values.iter().map(String::as_str)));
            let query: Vec<_> =
                parameters.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            let request = Request { verb: "PUT", headers: &headers, path: &path, query: &query };
            let account: AccountName = "unitaccount".parse().unwrap();
            for order in [Order::Ordinal, Order::Culture] {
                // No more than what was sent, where a letter in lower case may take a byte more.
                let sent = headers.iter().chain(&query).map(|(name, value)| 2 * name.len() + value.len() + 2);
                let most = sent.sum::<usize>() + path.len() + 100;
                prop_assert!(request.string_to_sign(&account, order).len() <= most);
                prop_assert!(request.lite_string_to_sign(&account, order).len() <= most);
            }
            let is_open = authorization.parse::<Authorization>().is_ok_and(|authorization| {
                authorization.check(request, [&key(), &key()], at()).is_ok()
            });
            prop_assert!(!is_open);
        }
    }

    proptest! {
        #[test]
        fn a_signed_request_is_verified_and_a_changed_one_is_not(
            verb in "(GET|PUT)", path in "/[a-z%/]{0,9}", name in "[a-z_0-9]{1,9}", value in "[a-z ]{0,9}",
            parameter in "[a-zA-Z]{1,5}", wanted in "[a-z,]{0,5}",
        ) {
            let metadata = format!("x-ms-meta-{name}");
            let headers = [DATE, (metadata.as_str(), value.as_str())];
            let query = [(parameter.as_str(), wanted.as_str())];
            let request = Request { verb: &verb, headers: &headers, path: &path, query: &query };
            let authorization: Authorization =
                sign(request, &"unitaccount".parse().unwrap(), &key()).parse().unwrap();
            let is_good = |request| authorization.check(request, [&key(), &key()], at()).is_ok();
            prop_assert!(is_good(request));
            let longer = format!("{path}x");
            let changed = [
                Request { verb: "DELETE", ..request },
                Request { path: &longer, ..request },
                Request { query: &[], ..request },
                Request { headers: &headers[..1], ..request },
            ];
            prop_assert_eq!(changed.map(is_good), [false; 4]);
        }

        #[test]
        fn reading_never_panics(text in "(SharedKey )?.{0,60}") {
            let _ = text.parse::<Authorization>();
        }
    }
}

//! Addresses that hold secrets: connection strings and URLs. Printed, they name the place and nothing that opens it, so that
//! they may stand in any error and any log. Only `expose` gives the whole text, to who dials it or shows it to its owner.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::Secret;

/// Fields of a connection string that tell where and who. All others are taken for secrets.
const PRINTED: &[&str] = &["Endpoint", "HostName", "EntityPath", "SharedAccessKeyName"];

/// `Name=value;Name=value`, as hubs, event hubs and topics are reached by.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ConnectionString(Secret);

impl ConnectionString {
    pub fn new(text: impl Into<String>) -> Self {
        Self(Secret::new(text))
    }

    pub fn expose(&self) -> &str {
        self.0.expose()
    }

    /// The host of `Endpoint`, with its port if it has one.
    pub fn endpoint_host(&self) -> Option<&str> {
        let (_, rest) = self.field("Endpoint")?.split_once("://")?;
        let host = rest.split('/').next().unwrap_or(rest);
        (!host.is_empty()).then_some(host)
    }

    /// The host of `HostName`, with its port if it has one.
    pub fn host_name(&self) -> Option<&str> {
        self.field("HostName").filter(|host| !host.is_empty())
    }

    pub fn entity_path(&self) -> Option<&str> {
        self.field("EntityPath")
    }

    pub fn shared_access_key_name(&self) -> Option<&str> {
        self.field("SharedAccessKeyName")
    }

    /// For whoever compares it in constant time, and nobody else.
    pub fn shared_access_key(&self) -> Option<&str> {
        self.field("SharedAccessKey")
    }

    fn field(&self, name: &str) -> Option<&str> {
        let fields = self.expose().split(';').filter_map(|field| field.split_once('='));
        let mut named = fields.filter(|(key, _)| key.trim().eq_ignore_ascii_case(name));
        named.next().map(|(_, value)| value.trim())
    }
}

impl fmt::Display for ConnectionString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fields = self.expose().split(';').filter_map(|field| field.split_once('='));
        for (at, (name, value)) in fields.enumerate() {
            let name = name.trim();
            let separator = if at == 0 { "" } else { ";" };
            match PRINTED.iter().find(|known| known.eq_ignore_ascii_case(name)) {
                Some(known) => write!(f, "{separator}{known}={}", place(value.trim()))?,
                // The name is not printed either: of a text that is no connection string it may be the secret.
                None => write!(f, "{separator}***")?,
            }
        }
        Ok(())
    }
}

impl fmt::Debug for ConnectionString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ConnectionString({self})")
    }
}

/// A URL whose query may hold a signature or a key, as those of webhooks, topics and containers do.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Url(Secret);

impl Url {
    pub fn new(text: impl Into<String>) -> Self {
        Self(Secret::new(text))
    }

    pub fn expose(&self) -> &str {
        self.0.expose()
    }
}

impl From<&str> for Url {
    fn from(text: &str) -> Self {
        Self::new(text)
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&place(self.expose()))
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Url({self})")
    }
}

/// A URL without its query, its fragment, and who logs in by it.
fn place(url: &str) -> String {
    let end = url.find(['?', '#']).unwrap_or(url.len());
    let bare = &url[..end];
    let (scheme, rest) = bare.split_once("://").map_or(("", bare), |(scheme, rest)| (scheme, rest));
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let scheme_end = if scheme.is_empty() { "" } else { "://" };
    let hidden = if end < url.len() { "?***" } else { "" };
    format!("{scheme}{scheme_end}{host}{path}{hidden}")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn target(text: &str) -> Option<(String, String)> {
        let string = ConnectionString::new(text);
        Some((string.endpoint_host()?.to_owned(), string.entity_path()?.to_owned()))
    }

    #[test]
    fn a_connection_string_names_host_and_entity() {
        let text = "Endpoint=sb://ns.servicebus.localhost:5671/;SharedAccessKeyName=n;SharedAccessKey=k=;EntityPath=e";
        assert_eq!(target(text), Some(("ns.servicebus.localhost:5671".into(), "e".into())));
        assert_eq!(target("entitypath=e;endpoint=sb://h"), Some(("h".into(), "e".into())));
        for incomplete in [
            "",
            "Endpoint=sb://h/",
            "EntityPath=e",
            "Endpoint=h;EntityPath=e",
            "Endpoint=sb:///;EntityPath=e",
        ] {
            assert_eq!(target(incomplete), None, "{incomplete}");
        }
    }

    #[test]
    fn what_is_printed_names_the_place_alone() {
        let text = "Endpoint=sb://ns/;SharedAccessKeyName=send;SharedAccessKey=hidden=;EntityPath=e";
        let string = ConnectionString::new(text);
        assert_eq!(string.to_string(), "Endpoint=sb://ns/;SharedAccessKeyName=send;***;EntityPath=e");
        assert_eq!(format!("{string:?}"), format!("ConnectionString({string})"));
        for (url, printed) in [
            ("https://user:hidden@host:1/path?code=hidden#hidden", "https://host:1/path?***"),
            ("https://host/container?sv=1&sig=hidden", "https://host/container?***"),
            ("https://host/api/events", "https://host/api/events"),
            ("host#hidden", "host?***"),
        ] {
            assert_eq!(Url::new(url).to_string(), printed);
            assert_eq!(format!("{:?}", Url::new(url)), format!("Url({printed})"));
        }
    }

    proptest! {
        #[test]
        fn a_secret_is_printed_wherever_it_stands_by_no_address(
            before in "[a-zA-Z]{0,8}[=;]?", after in "([;&][a-z]{0,4}(=[a-z]{0,4})?)?", name in "[a-zA-Z]{1,12}"
        ) {
            let secret = "hIdDeN0123456789";
            for text in [
                format!("{before}SharedAccessKey={secret}{after}"),
                format!("{before};AccountKey={secret};{after}"),
                format!("Endpoint=sb://host/?sig={secret};{after}"),
                format!("Endpoint=sb://n:{secret}@host/;{after}"),
                format!("{name}X={secret}"),
                secret.to_owned(),
            ] {
                let string = ConnectionString::new(text);
                let printed = format!("{string} {string:?}");
                prop_assert!(!printed.contains(secret), "{}", string.expose());
            }
            let url = Url::new(format!("https://{name}:{secret}@host/{before}?{name}={secret}{after}"));
            let printed = format!("{url} {url:?}");
            prop_assert!(!printed.contains(secret));
        }
    }
}

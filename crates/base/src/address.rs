//! Addresses that hold secrets: connection strings and URLs. Printed, they name the place and nothing that opens it, so that
//! they may stand in any error and any log. Only `expose` gives the whole text, to who dials it or shows it to its owner.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Key, Secret};

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

    /// Opens the hub or provisioning service at `host` with a policy's key.
    pub fn to_instance(host: &str, key_name: &str, key: &Key) -> Self {
        let key = key.text();
        Self::new(format!("HostName={host};SharedAccessKeyName={key_name};SharedAccessKey={key}"))
    }

    /// Opens the namespace at `host`, or one event hub of it, with a rule's key.
    pub fn to_namespace(host: &str, key_name: &str, key: &Key, entity_path: Option<&str>) -> Self {
        let key = key.text();
        let entity = entity_path.map(|path| format!(";EntityPath={path}")).unwrap_or_default();
        Self::new(format!(
            "Endpoint=sb://{host}/;SharedAccessKeyName={key_name};SharedAccessKey={key}{entity}"
        ))
    }

    pub fn expose(&self) -> &str {
        self.0.expose()
    }

    /// Whether it has all that opens a hub or a provisioning service, and nothing that is no field.
    pub fn opens_instance(&self) -> bool {
        self.is_of_fields() && self.host_name().is_some() && self.has_key()
    }

    /// Whether it has all that opens an event hub or a topic, and nothing that is no field.
    pub fn opens_entity(&self) -> bool {
        let is_bus = self.field("Endpoint").and_then(bus_host).is_some();
        self.is_of_fields() && is_bus && self.entity_path().is_some() && self.has_key()
    }

    /// The host of `Endpoint`, with its port if it has one.
    pub fn endpoint_host(&self) -> Option<&str> {
        let (_, rest) = self.field("Endpoint")?.split_once("://")?;
        let host = rest.split('/').next().unwrap_or(rest);
        (!host.is_empty()).then_some(host)
    }

    /// The host of `HostName`, with its port if it has one.
    pub fn host_name(&self) -> Option<&str> {
        self.field("HostName")
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

    fn has_key(&self) -> bool {
        self.shared_access_key_name().is_some() && self.shared_access_key().is_some()
    }

    fn is_of_fields(&self) -> bool {
        let mut fields = self.expose().split(';').filter(|field| !field.trim().is_empty());
        fields.all(|field| field.contains('='))
    }

    /// A field that is empty is none.
    fn field(&self, name: &str) -> Option<&str> {
        let fields = self.expose().split(';').filter_map(|field| field.split_once('='));
        let mut named = fields.filter(|(key, _)| key.trim().eq_ignore_ascii_case(name));
        named.next().map(|(_, value)| value.trim()).filter(|value| !value.is_empty())
    }
}

/// The host, with its port if any, of `sb://host[:port]/`.
pub fn bus_host(uri: &str) -> Option<&str> {
    let (scheme, rest) = uri.trim().split_at_checked("sb://".len())?;
    let host = rest.split('/').next()?;
    (scheme.eq_ignore_ascii_case("sb://") && !host.is_empty()).then_some(host)
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
    fn what_a_connection_string_lacks_keeps_it_from_opening_anything() {
        let key = Key::generate(32);
        let (hub, entity) = (
            ConnectionString::to_instance("h:8443", "n", &key),
            ConnectionString::to_namespace("ns", "n", &key, Some("e")),
        );
        assert!(hub.opens_instance() && !hub.opens_entity());
        assert!(entity.opens_entity() && !entity.opens_instance());
        assert!(!ConnectionString::to_namespace("ns", "n", &key, None).opens_entity());
        assert_eq!((hub.host_name(), hub.shared_access_key()), (Some("h:8443"), Some(key.text())));
        assert_eq!((entity.endpoint_host(), entity.entity_path()), (Some("ns"), Some("e")));
        for whole in [&hub, &entity] {
            let fields: Vec<&str> = whole.expose().split(';').collect();
            for at in 0..fields.len() {
                let (name, _) = fields[at].split_once('=').unwrap();
                for less in [String::new(), format!("{name}=")] {
                    let mut fields = fields.clone();
                    fields[at] = &less;
                    let string = ConnectionString::new(fields.join(";"));
                    assert!(!string.opens_instance() && !string.opens_entity(), "{less} for {name}");
                }
            }
            let string = ConnectionString::new(format!("{};stray", whole.expose()));
            assert!(!string.opens_instance() && !string.opens_entity());
        }
        let other = ConnectionString::new(entity.expose().replace("sb:", "https:"));
        assert!(!other.opens_entity() && other.endpoint_host().is_some());
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

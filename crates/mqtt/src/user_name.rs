//! The user name of a CONNECT, which carries what HTTP would carry in a path and a query: the hub and the identity, or the
//! id scope and the registration. Parsed once by the door; lenient where clients differ (`iothub-device.md` §2.3,
//! `dps.md` §1.3, `field-notes.md`). It must never decide whether anybody may connect.

use base::ids::IdentityId;
use percent_encoding::percent_decode_str;

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the user name names neither a device nor a registration")]
pub struct InvalidUserName;

/// Which service a client wants, and as whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UserName {
    Hub(HubUserName),
    Provisioning(ProvisioningUserName),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HubUserName {
    /// As written; it chooses the hub.
    pub host: String,
    pub identity: IdentityId,
    pub api_version: Option<String>,
    pub device_client_type: Option<String>,
    pub model_id: Option<String>,
    /// `leaf;parent;…;root`: the connection is made on behalf of a device below an edge gateway.
    pub auth_chain: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProvisioningUserName {
    pub id_scope: String,
    pub registration_id: String,
    pub api_version: Option<String>,
    pub client_version: Option<String>,
}

impl UserName {
    /// `client_id` is the one that comes with the user name: it tells where an identity ends and parameters begin.
    pub fn parse(text: &str, client_id: &str) -> Result<Self, InvalidUserName> {
        match ProvisioningUserName::parse(text) {
            Some(provisioning) => Ok(Self::Provisioning(provisioning)),
            None => HubUserName::parse(text, client_id).map(Self::Hub),
        }
    }
}

impl HubUserName {
    /// `host/device[/module]`, then nothing, `/`, `/?query` or `/query`.
    fn parse(text: &str, client_id: &str) -> Result<Self, InvalidUserName> {
        let (path, query) = split_query(text, client_id);
        let mut segments = path.splitn(2, '/');
        let host = segments.next().filter(|host| !host.is_empty()).ok_or(InvalidUserName)?;
        let identity = segments.next().ok_or(InvalidUserName)?.parse().map_err(|_| InvalidUserName)?;
        let value = |name| value(query, name);
        Ok(Self {
            host: host.to_owned(),
            identity,
            api_version: value("api-version"),
            device_client_type: value("DeviceClientType"),
            model_id: value("model-id"),
            auth_chain: value("auth-chain"),
        })
    }
}

impl ProvisioningUserName {
    /// `{idScope}/registrations/{registrationId}/api-version=…`: the query is a segment of its own and has no `?`, which
    /// tells it from a hub's device that is called `registrations`.
    fn parse(text: &str) -> Option<Self> {
        let mut segments = text.splitn(4, '/');
        let (id_scope, keyword) = (segments.next()?, segments.next()?);
        let (registration_id, query) = (segments.next()?, segments.next().unwrap_or_default());
        let is_ours = keyword.eq_ignore_ascii_case("registrations") && !query.starts_with('?');
        if !is_ours || id_scope.is_empty() || registration_id.is_empty() {
            return None;
        }
        Some(Self {
            id_scope: id_scope.to_owned(),
            registration_id: registration_id.to_owned(),
            api_version: value(query, "api-version"),
            client_version: value(query, "ClientVersion"),
        })
    }
}

/// Path and query. Ids may hold every character that separates but `/`, so that the client id is asked first; where it is
/// another's, a `?` separates as the first character of a segment, and a query without it shows by its `=`.
fn split_query<'a>(text: &'a str, client_id: &str) -> (&'a str, &'a str) {
    let rest = text.split_once('/').and_then(|(_, identity)| identity.strip_prefix(client_id));
    if let Some((rest, query)) = rest.and_then(|rest| Some((rest, query_behind(rest)?))) {
        return (&text[..text.len() - rest.len()], query);
    }
    if let Some(at) = text.rfind("/?") {
        return (&text[..at], &text[at + 2..]);
    }
    match text.rsplit_once('/') {
        Some((path, query)) if path.contains('/') && query.contains('=') => (path, query),
        _ => (text.strip_suffix('/').unwrap_or(text), ""),
    }
}

/// The query behind an identity, if nothing else stands there.
fn query_behind(rest: &str) -> Option<&str> {
    let Some(query) = rest.strip_prefix('/') else { return rest.is_empty().then_some("") };
    let has_key = |query: &str| query.split_once('=').is_some_and(|(key, _)| !key.contains(['/', '?']));
    match query.strip_prefix('?') {
        Some(query) => Some(query),
        None => (query.is_empty() || has_key(query)).then_some(query),
    }
}

/// The first value of `name`, decoded; a value that is not UTF-8 counts as absent.
fn value(query: &str, name: &str) -> Option<String> {
    let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let (_, value) = pairs.find(|(key, _)| key.eq_ignore_ascii_case(name))?;
    percent_decode_str(value).decode_utf8().ok().map(std::borrow::Cow::into_owned)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn hub(text: &str) -> HubUserName {
        hub_of("", text)
    }

    fn hub_of(client_id: &str, text: &str) -> HubUserName {
        match UserName::parse(text, client_id) {
            Ok(UserName::Hub(hub)) => hub,
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn each_sdks_user_name_is_understood() {
        let python = hub(
            "hub1.localhost/dev1/?api-version=2019-10-01&DeviceClientType=azure-iot-device-iothub-py%2F2.14.0%28x%29",
        );
        assert_eq!(python.host, "hub1.localhost");
        assert_eq!(python.identity.to_string(), "dev1");
        assert_eq!(python.api_version.as_deref(), Some("2019-10-01"));
        assert_eq!(python.device_client_type.as_deref(), Some("azure-iot-device-iothub-py/2.14.0(x)"));
        let node =
            hub("h/d/?api-version=2021-04-12&model-id=dtmi:com:ex:T;1&DeviceClientType=n%2F1(node%3B)");
        assert_eq!(node.model_id.as_deref(), Some("dtmi:com:ex:T;1"));
        let escaped = hub("h/d/m/?api-version=2020-09-30&model-id=dtmi%3Acom%3Aex%3AT%3B1");
        assert_eq!(escaped.model_id, node.model_id);
        assert_eq!(escaped.identity.to_string(), "d/m");
    }

    #[test]
    fn the_forms_without_question_mark_and_without_query_are_understood() {
        for (text, identity) in [
            ("h/d/api-version=2018-06-30", "d"),
            ("h/d/m/api-version=2018-06-30", "d/m"),
            ("h/d", "d"),
            ("h/d/", "d"),
            ("h/d/m", "d/m"),
            ("h/d?x/m?/?api-version=1", "d?x/m?"),
            ("h/registrations/m/?api-version=1", "registrations/m"),
        ] {
            assert_eq!(hub(text).identity.to_string(), identity, "{text}");
        }
    }

    #[test]
    fn other_parameters_may_stand_where_the_api_version_does() {
        // Node 1.0 in Node-RED, and the SDK for C 1.0.
        let node = hub("h/d/DeviceClientType=azure-iot-device%2F1.0.14");
        assert_eq!((node.identity.to_string().as_str(), node.api_version.as_deref()), ("d", None));
        assert_eq!(node.device_client_type.as_deref(), Some("azure-iot-device/1.0.14"));
        let module = hub("h/d/m/model-id=dtmi:com:ex:T;1&x=y");
        assert_eq!(module.identity.to_string(), "d/m");
        assert_eq!(module.model_id.as_deref(), Some("dtmi:com:ex:T;1"));
        assert_eq!(hub("h/d/anything=else").identity.to_string(), "d");
        // Whose id has a `=` in it is told by the client id.
        assert_eq!(hub_of("d/m=1", "h/d/m=1").identity.to_string(), "d/m=1");
        assert_eq!(hub_of("d=1", "h/d=1").identity.to_string(), "d=1");
        assert_eq!(hub_of("?", "h/?").identity.to_string(), "?");
        assert_eq!(
            hub_of("d", "h/d/m/?api-version=1").identity.to_string(),
            "d/m",
            "which is not the client's"
        );
        assert_eq!(hub_of("d", "h/d/a=b/c").api_version, None);
        assert_eq!(hub_of("d=1", "h/d=1/").identity.to_string(), "d=1");
        assert_eq!(hub_of("d=1", "h/d=1/a=b").identity.to_string(), "d=1");
        assert_eq!(hub_of("other", "h/d=1").identity.to_string(), "d=1");
    }

    #[test]
    fn the_first_of_two_values_counts() {
        assert_eq!(hub("h/d/?api-version=1&api-version=2").api_version.as_deref(), Some("1"));
    }

    #[test]
    fn a_registration_is_told_from_a_device() {
        let text = "0ne00ABCDEF/registrations/dev-01/api-version=2019-03-31&ClientVersion=py%2F2%28x%29";
        let Ok(UserName::Provisioning(name)) = UserName::parse(text, "dev-01") else {
            panic!("a registration")
        };
        assert_eq!((name.id_scope.as_str(), name.registration_id.as_str()), ("0ne00ABCDEF", "dev-01"));
        assert_eq!(name.api_version.as_deref(), Some("2019-03-31"));
        assert_eq!(name.client_version.as_deref(), Some("py/2(x)"));
    }

    #[test]
    fn what_names_nobody_is_refused() {
        for text in ["", "h", "h/", "/d", "/", "h//", "h/d/m/x", "h/d e", "h//m", "h/d//?api-version=1"] {
            assert!(UserName::parse(text, "d").is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "[a-z/?&=%.$-]{0,40}|.{0,40}") {
            let _ = UserName::parse(&text, &text);
        }

        #[test]
        fn any_identity_is_read_back(
            device in "[A-Za-z0-9:.+%_#*?!(),=@;$'-]{1,20}", module in proptest::option::of("[A-Za-z0-9.+_#*!$'-]{1,20}"),
        ) {
            let identity = module.map_or(device.clone(), |module| format!("{device}/{module}"));
            for query in ["", "/", "/?api-version=2021-04-12", "/api-version=2018-06-30", "/DeviceClientType=c%2F1.0"] {
                let name = hub_of(&identity, &format!("h.localhost/{identity}{query}"));
                prop_assert_eq!(name.identity.to_string(), identity.as_str(), "{}", query);
            }
        }
    }
}

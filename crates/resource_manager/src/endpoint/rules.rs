//! What an endpoint must have, by type and authentication, and how a PUT meets what is there. Pure.

use base::address::bus_host;
use base::{ConnectionString, Secret, Timestamp, Url};

use super::mask;
use super::record::{
    AuthenticationType, BusKind, DeadLetter, EndpointType, IdentityReference, Properties, Target,
};
use crate::error::Error;
use crate::identity::ManagedIdentity;

/// The writable members of a PUT, whatever the type names them.
#[derive(Clone, Debug)]
pub struct EndpointRequest {
    pub endpoint_type: EndpointType,
    pub authentication_type: AuthenticationType,
    /// A connection string or `accessKey1`.
    pub primary: Option<Secret>,
    /// A connection string or `accessKey2`.
    pub secondary: Option<Secret>,
    pub endpoint_uri: Option<String>,
    pub entity_path: Option<String>,
    pub topic_endpoint: Option<Url>,
    pub dead_letter_secret: Option<Secret>,
    pub dead_letter_uri: Option<Url>,
    pub identity: Option<IdentityReference>,
}

/// The properties after a PUT. `instance_identity` is that of the instance, which identity-based endpoints borrow.
pub(super) fn put(
    old: Option<&Properties>,
    request: &EndpointRequest,
    instance_identity: Option<&ManagedIdentity>,
    now: Timestamp,
) -> Result<Properties, Error> {
    if old.is_some_and(|old| old.target.endpoint_type() != request.endpoint_type) {
        return Err(Error::bad_request("The endpoint type of an existing endpoint cannot be changed."));
    }
    let old_target = old.map(|old| &old.target);
    let target = match (request.endpoint_type, request.authentication_type) {
        (EndpointType::EventHub, AuthenticationType::KeyBased) => {
            bus_keys(BusKind::EventHub, request, old_target)?
        }
        (EndpointType::ServiceBus, AuthenticationType::KeyBased) => {
            bus_keys(BusKind::ServiceBus, request, old_target)?
        }
        (EndpointType::EventHub, AuthenticationType::IdentityBased) => {
            bus_address(BusKind::EventHub, request)?
        }
        (EndpointType::ServiceBus, AuthenticationType::IdentityBased) => {
            bus_address(BusKind::ServiceBus, request)?
        }
        (EndpointType::EventGrid, AuthenticationType::KeyBased) => topic_keys(request, old_target)?,
        (EndpointType::EventGrid, AuthenticationType::IdentityBased) => {
            Target::Topic { topic_endpoint: topic_endpoint(request)? }
        }
    };
    check_identity(request, instance_identity)?;
    Ok(Properties {
        target,
        dead_letter: dead_letter(request, old.and_then(|old| old.dead_letter.as_ref()))?,
        identity: request.identity.clone(),
        created: old.map_or(now, |old| old.created),
    })
}

fn bus_keys(kind: BusKind, request: &EndpointRequest, old: Option<&Target>) -> Result<Target, Error> {
    let names = match kind {
        BusKind::EventHub => ("connectionStringPrimaryKey", "connectionStringSecondaryKey"),
        BusKind::ServiceBus => ("primaryConnectionString", "secondaryConnectionString"),
    };
    let (old_primary, old_secondary) = match old {
        Some(Target::Keys { primary, secondary, .. }) => (Some(primary), secondary.as_ref()),
        _ => (None, None),
    };
    let primary = secret(names.0, request.primary.as_ref(), old_primary)?;
    let primary = primary.ok_or_else(|| required(names.0, request))?;
    let secondary = secret(names.1, request.secondary.as_ref(), old_secondary)?;
    for (name, value) in [(names.0, Some(&primary)), (names.1, secondary.as_ref())] {
        if let Some(value) = value {
            check_connection_string(name, value.expose())?;
        }
    }
    Ok(Target::Keys { kind, primary, secondary })
}

fn bus_address(kind: BusKind, request: &EndpointRequest) -> Result<Target, Error> {
    let endpoint_uri =
        given(request.endpoint_uri.as_deref()).ok_or_else(|| required("endpointUri", request))?;
    let entity_path = given(request.entity_path.as_deref()).ok_or_else(|| required("entityPath", request))?;
    if !is_bus_uri(endpoint_uri) {
        return Err(Error::bad_request(
            "The property 'endpointUri' must start with 'sb://' and name a host.",
        ));
    }
    Ok(Target::Address { kind, endpoint_uri: endpoint_uri.to_owned(), entity_path: entity_path.to_owned() })
}

fn topic_keys(request: &EndpointRequest, old: Option<&Target>) -> Result<Target, Error> {
    let (old1, old2) = match old {
        Some(Target::TopicKeys { access_key1, access_key2, .. }) => (Some(access_key1), access_key2.as_ref()),
        _ => (None, None),
    };
    let access_key1 = secret("accessKey1", request.primary.as_ref(), old1)?;
    let access_key1 = access_key1.ok_or_else(|| required("accessKey1", request))?;
    let access_key2 = secret("accessKey2", request.secondary.as_ref(), old2)?;
    Ok(Target::TopicKeys { topic_endpoint: topic_endpoint(request)?, access_key1, access_key2 })
}

fn topic_endpoint(request: &EndpointRequest) -> Result<Url, Error> {
    let endpoint = given(request.topic_endpoint.as_ref().map(Url::expose))
        .ok_or_else(|| required("TopicEndpoint", request))?;
    let rest = endpoint.strip_prefix("https://").or_else(|| endpoint.strip_prefix("http://"));
    if rest.is_none_or(str::is_empty) {
        return Err(Error::bad_request("The property 'TopicEndpoint' must be the URL of a topic."));
    }
    Ok(Url::new(endpoint))
}

/// The secret after a PUT. A masked value stands for the one that is there, so that a client may send back what it read.
fn secret(name: &str, sent: Option<&Secret>, old: Option<&Secret>) -> Result<Option<Secret>, Error> {
    match (sent.map(Secret::expose), old) {
        (Some(sent), Some(old)) if mask::is_masked(sent) => Ok(Some(old.clone())),
        (None, _) | (Some(""), None) => Ok(None),
        (Some(sent), None) if mask::is_masked(sent) => Err(Error::bad_request(format!(
            "The property '{name}' is masked, and there is no value to keep."
        ))),
        (Some(sent), _) => Ok(Some(Secret::new(sent))),
    }
}

fn dead_letter(request: &EndpointRequest, old: Option<&DeadLetter>) -> Result<Option<DeadLetter>, Error> {
    let secret = given(request.dead_letter_secret.as_ref().map(Secret::expose));
    let uri = given(request.dead_letter_uri.as_ref().map(Url::expose));
    match (request.authentication_type, secret, uri) {
        (_, None, None) => Ok(None),
        (AuthenticationType::IdentityBased, Some(_), _) => Err(Error::bad_request(
            "The property 'deadLetterSecret' is for key-based endpoints; an identity-based one takes 'deadLetterUri'.",
        )),
        (AuthenticationType::KeyBased, _, Some(_)) => Err(Error::bad_request(
            "The property 'deadLetterUri' is for identity-based endpoints; a key-based one takes 'deadLetterSecret'.",
        )),
        (AuthenticationType::KeyBased, Some(sent), None) => match old {
            Some(DeadLetter::Secret(old)) if mask::is_masked_url(sent) => {
                Ok(Some(DeadLetter::Secret(old.clone())))
            }
            _ if mask::is_masked_url(sent) => Err(Error::bad_request(
                "The property 'deadLetterSecret' is masked, and there is no value to keep.",
            )),
            _ => container("deadLetterSecret", sent).map(|url| Some(DeadLetter::Secret(Secret::new(url)))),
        },
        (AuthenticationType::IdentityBased, None, Some(sent)) => {
            container("deadLetterUri", sent).map(|url| Some(DeadLetter::Uri(Url::new(url))))
        }
    }
}

fn container<'a>(name: &str, url: &'a str) -> Result<&'a str, Error> {
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
    let has_container = rest
        .and_then(|rest| rest.split_once('/'))
        .is_some_and(|(host, path)| !host.is_empty() && !path.is_empty());
    if has_container {
        Ok(url)
    } else {
        Err(Error::bad_request(format!("The property '{name}' must be the URL of a blob container.")))
    }
}

fn check_identity(request: &EndpointRequest, instance: Option<&ManagedIdentity>) -> Result<(), Error> {
    if request.authentication_type == AuthenticationType::KeyBased {
        return Ok(());
    }
    let has_it = match &request.identity {
        Some(IdentityReference::UserAssigned(id)) => instance.is_some_and(|identity| identity.has_user(id)),
        Some(IdentityReference::SystemAssigned) | None => {
            instance.is_some_and(|identity| identity.system.is_some())
        }
    };
    if has_it {
        return Ok(());
    }
    Err(Error::bad_request(match &request.identity {
        Some(IdentityReference::UserAssigned(id)) => {
            format!("The user assigned identity '{id}' is not assigned to the Digital Twins instance.")
        }
        _ => "The Digital Twins instance has no system assigned identity, which an identity-based endpoint needs.".into(),
    }))
}

fn check_connection_string(name: &str, text: &str) -> Result<(), Error> {
    if ConnectionString::new(text).opens_entity() {
        return Ok(());
    }
    Err(Error::bad_request(format!(
        "The property '{name}' must be a connection string with 'Endpoint=sb://…', 'SharedAccessKeyName', 'SharedAccessKey' and 'EntityPath'."
    )))
}

fn is_bus_uri(uri: &str) -> bool {
    bus_host(uri).is_some()
}

fn given(text: Option<&str>) -> Option<&str> {
    text.filter(|text| !text.trim().is_empty())
}

fn required(name: &str, request: &EndpointRequest) -> Error {
    Error::bad_request(format!(
        "The property '{name}' is required for a {} endpoint of type {}.",
        request.authentication_type.name(),
        request.endpoint_type.name()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    const STRING: &str = "Endpoint=sb://ns/;SharedAccessKeyName=n;SharedAccessKey=k=;EntityPath=e";

    fn request(endpoint_type: EndpointType, authentication_type: AuthenticationType) -> EndpointRequest {
        EndpointRequest {
            endpoint_type,
            authentication_type,
            primary: None,
            secondary: None,
            endpoint_uri: None,
            entity_path: None,
            topic_endpoint: None,
            dead_letter_secret: None,
            dead_letter_uri: None,
            identity: None,
        }
    }

    fn with_keys(primary: &str) -> EndpointRequest {
        let primary = Some(Secret::new(primary));
        EndpointRequest { primary, ..request(EndpointType::EventHub, AuthenticationType::KeyBased) }
    }

    fn made(old: Option<&Properties>, request: &EndpointRequest) -> Result<Properties, Error> {
        put(old, request, None, Timestamp::UNIX_EPOCH)
    }

    fn refusal(request: &EndpointRequest) -> String {
        made(None, request).unwrap_err().to_string()
    }

    #[test]
    fn each_type_of_endpoint_names_what_it_lacks() {
        use AuthenticationType::{IdentityBased, KeyBased};
        use EndpointType::{EventGrid, EventHub, ServiceBus};
        for (endpoint_type, authentication, lacks) in [
            (EventHub, KeyBased, "'connectionStringPrimaryKey'"),
            (ServiceBus, KeyBased, "'primaryConnectionString'"),
            (EventGrid, KeyBased, "'accessKey1'"),
            (EventHub, IdentityBased, "'endpointUri'"),
            (ServiceBus, IdentityBased, "'endpointUri'"),
            (EventGrid, IdentityBased, "'TopicEndpoint'"),
        ] {
            let text = refusal(&request(endpoint_type, authentication));
            assert!(text.contains(lacks), "{text}");
        }
    }

    #[test]
    fn a_connection_string_that_lacks_a_part_is_refused_and_not_repeated() {
        assert!(made(None, &with_keys(STRING)).is_ok());
        for (part, other) in [("sb:", "https:"), ("SharedAccessKey=k=", "x=y"), (";EntityPath=e", "")] {
            let text = refusal(&with_keys(&STRING.replace(part, other)));
            assert!(text.contains("'connectionStringPrimaryKey'") && !text.contains("k="), "{text}");
        }
    }

    #[test]
    fn a_masked_secret_stands_for_the_one_that_is_there() {
        let old = made(None, &with_keys(STRING)).unwrap();
        for masked in ["****", "(PLACEHOLDER)"] {
            assert_eq!(made(Some(&old), &with_keys(masked)).unwrap().target, old.target);
            assert!(refusal(&with_keys(masked)).contains("masked"));
        }
        let other = STRING.replace("k=", "other=");
        assert_ne!(made(Some(&old), &with_keys(&other)).unwrap().target, old.target);
    }

    #[test]
    fn the_type_of_an_endpoint_stays() {
        let old = made(None, &with_keys(STRING)).unwrap();
        let bus = EndpointRequest { endpoint_type: EndpointType::ServiceBus, ..with_keys(STRING) };
        assert!(made(None, &bus).is_ok() && made(Some(&old), &bus).is_err());
    }

    #[test]
    fn an_endpoint_without_keys_needs_an_identity_of_its_instance() {
        let by_identity = EndpointRequest {
            endpoint_uri: Some("sb://ns/".into()),
            entity_path: Some("e".into()),
            ..request(EndpointType::EventHub, AuthenticationType::IdentityBased)
        };
        assert!(refusal(&by_identity).contains("no system assigned identity"));
        let elsewhere = EndpointRequest { endpoint_uri: Some("https://ns/".into()), ..by_identity };
        assert!(refusal(&elsewhere).contains("'sb://'"));
    }

    #[test]
    fn dead_letters_go_to_a_container_in_the_form_that_the_authentication_has() {
        let to =
            |url: &str| EndpointRequest { dead_letter_secret: Some(Secret::new(url)), ..with_keys(STRING) };
        let container = "https://a.blob.core.windows.net/c?sv=1&sig=x";
        let old = made(None, &to(container)).unwrap();
        assert_eq!(old.dead_letter, Some(DeadLetter::Secret(Secret::new(container))));
        let masked = to("https://a.blob.core.windows.net/c?***");
        assert_eq!(made(Some(&old), &masked).unwrap().dead_letter, old.dead_letter);
        assert!(refusal(&masked).contains("masked"));
        assert!(refusal(&to("https://a.blob.core.windows.net/")).contains("blob container"));
        let uri = Some(Url::new(container));
        assert!(
            refusal(&EndpointRequest { dead_letter_uri: uri, ..with_keys(STRING) })
                .contains("'deadLetterSecret'")
        );
    }
}

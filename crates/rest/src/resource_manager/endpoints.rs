//! Endpoints of a Digital Twins instance as Resource Manager shows them: secrets masked, or blank while one is being made.

use base::{Secret, Url};
use resource_manager::endpoint::{
    self, AuthenticationType, BusKind, DeadLetter, EndpointRequest, EndpointType, IdentityReference, Target,
};
use resource_manager::resource::{ProvisioningState, Resource};
use resource_manager::{Error, ResourceId, ResourceManager, ResourceType};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::error::Refusal;
use super::write::{self, Nested};
use super::{At, Outcome, digital_twins, parse, resources};
use crate::wire::{Request, Response};

pub(super) const KIND: &str = "Endpoint";

#[derive(Debug, Deserialize)]
struct EndpointBody {
    name: Option<String>,
    properties: Option<PropertiesBody>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct PropertiesBody {
    endpoint_type: Option<String>,
    authentication_type: Option<String>,
    connection_string_primary_key: Option<Secret>,
    connection_string_secondary_key: Option<Secret>,
    primary_connection_string: Option<Secret>,
    secondary_connection_string: Option<Secret>,
    access_key1: Option<Secret>,
    access_key2: Option<Secret>,
    /// The published schema writes it with a capital.
    #[serde(rename = "TopicEndpoint", alias = "topicEndpoint")]
    topic_endpoint: Option<Url>,
    endpoint_uri: Option<String>,
    entity_path: Option<String>,
    dead_letter_secret: Option<Secret>,
    dead_letter_uri: Option<Url>,
    identity: Option<ReferenceBody>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ReferenceBody {
    #[serde(rename = "type")]
    kind: Option<String>,
    user_assigned_identity: Option<String>,
}

impl ReferenceBody {
    fn read(self) -> Result<IdentityReference, Refusal> {
        let kind = self.kind.map(|kind| kind.to_ascii_lowercase());
        match (kind.as_deref(), self.user_assigned_identity) {
            (None | Some("systemassigned"), None) => Ok(IdentityReference::SystemAssigned),
            (Some("userassigned"), Some(id)) => Ok(IdentityReference::UserAssigned(id)),
            (Some("userassigned"), None) => Err(Refusal::content(
                "The property 'userAssignedIdentity' is required for an identity of type 'UserAssigned'.",
            )),
            _ => {
                Err(Refusal::content("The identity type is not one of 'SystemAssigned' and 'UserAssigned'."))
            }
        }
    }
}

impl PropertiesBody {
    fn read(self) -> Result<EndpointRequest, Refusal> {
        let kind = self.endpoint_type.ok_or_else(|| bad("The property 'endpointType' is required."))?;
        let endpoint_type = EndpointType::parse(&kind).ok_or_else(|| {
            bad(format!("The endpoint type '{kind}' is not one of 'EventHub', 'EventGrid' and 'ServiceBus'."))
        })?;
        let authentication_type = match self.authentication_type {
            None => AuthenticationType::KeyBased,
            Some(text) => AuthenticationType::parse(&text).ok_or_else(|| {
                bad(format!("The authentication type '{text}' is not one of 'KeyBased' and 'IdentityBased'."))
            })?,
        };
        let (primary, secondary) = match endpoint_type {
            EndpointType::EventHub => {
                (self.connection_string_primary_key, self.connection_string_secondary_key)
            }
            EndpointType::ServiceBus => (self.primary_connection_string, self.secondary_connection_string),
            EndpointType::EventGrid => (self.access_key1, self.access_key2),
        };
        Ok(EndpointRequest {
            endpoint_type,
            authentication_type,
            primary,
            secondary,
            endpoint_uri: self.endpoint_uri,
            entity_path: self.entity_path,
            topic_endpoint: self.topic_endpoint,
            dead_letter_secret: self.dead_letter_secret,
            dead_letter_uri: self.dead_letter_uri,
            identity: self.identity.map(ReferenceBody::read).transpose()?,
        })
    }
}

fn bad(message: impl Into<String>) -> Refusal {
    Refusal::Domain(Error::BadRequest(message.into()))
}

fn id(request: &Request) -> ResourceId {
    digital_twins::id(request).child(ResourceType::DigitalTwinsEndpoint, request.param("endpoint"))
}

pub(super) async fn put(at: At, request: &Request) -> Outcome {
    let sent: EndpointBody = parse::body(request)?;
    parse::check_name(request, "endpoint", sent.name.as_deref())?;
    let properties = sent.properties.ok_or_else(|| bad("The property 'properties' is required."))?.read()?;
    let preconditions = parse::preconditions(request, None);
    let accepted = at.manager.put_endpoint(&at.caller, &id(request), &properties, &preconditions).await?;
    let response = resources::answer(&at, 201, &accepted.resource);
    let nested = Nested { kind: KIND, name: Some(&accepted.resource.id.name) };
    Ok(write::poll_digital_twins(request, &at.manager, &accepted, &nested, response))
}

pub(super) async fn delete(at: At, request: &Request) -> Outcome {
    let accepted = at.manager.delete_resource(&at.caller, &id(request)).await?;
    let Some(accepted) = accepted.filter(|accepted| accepted.operation.is_some()) else {
        return Ok(Response::new(204));
    };
    let response = resources::answer(&at, 202, &accepted.resource);
    let nested = Nested { kind: KIND, name: Some(&accepted.resource.id.name) };
    Ok(write::poll_digital_twins(request, &at.manager, &accepted, &nested, response))
}

pub(super) fn body(manager: &ResourceManager, resource: &Resource, own: &endpoint::Properties) -> Value {
    let shown =
        Shown { manager, is_being_made: resource.provisioning_state == ProvisioningState::Provisioning };
    let mut properties = Map::new();
    properties.insert("endpointType".into(), own.target.endpoint_type().name().into());
    properties.insert("authenticationType".into(), own.target.authentication_type().name().into());
    shown.target(&own.target, &mut properties);
    match &own.dead_letter {
        None => {}
        Some(DeadLetter::Secret(secret)) => {
            let url = manager.settings().mask.container_url(secret.expose());
            properties.insert("deadLetterSecret".into(), url.into());
        }
        Some(DeadLetter::Uri(uri)) => {
            properties.insert("deadLetterUri".into(), uri.expose().into());
        }
    }
    match &own.identity {
        None => {}
        Some(IdentityReference::SystemAssigned) => {
            properties
                .insert("identity".into(), json!({"type": "SystemAssigned", "userAssignedIdentity": null}));
        }
        Some(IdentityReference::UserAssigned(id)) => {
            properties.insert("identity".into(), json!({"type": "UserAssigned", "userAssignedIdentity": id}));
        }
    }
    properties.insert("provisioningState".into(), resource.provisioning_state.name().into());
    properties.insert("createdTime".into(), own.created.iso7_offset().into());
    json!({
        "id": resource.id.path(),
        "name": resource.id.name,
        "type": resource.id.resource_type.full_name(),
        "properties": properties,
        "systemData": write::system_data(&resource.system_data)
    })
}

struct Shown<'a> {
    manager: &'a ResourceManager,
    is_being_made: bool,
}

impl Shown<'_> {
    fn target(&self, target: &Target, properties: &mut Map<String, Value>) {
        match target {
            Target::Keys { kind, primary, secondary } => {
                let (first, second) = match kind {
                    BusKind::EventHub => ("connectionStringPrimaryKey", "connectionStringSecondaryKey"),
                    BusKind::ServiceBus => ("primaryConnectionString", "secondaryConnectionString"),
                };
                let masked = self.manager.settings().mask.connection_string(*kind);
                self.secret(first, Some(primary), &masked, properties);
                self.secret(second, secondary.as_ref(), &masked, properties);
            }
            Target::Address { endpoint_uri, entity_path, .. } => {
                properties.insert("endpointUri".into(), endpoint_uri.clone().into());
                properties.insert("entityPath".into(), entity_path.clone().into());
            }
            Target::TopicKeys { topic_endpoint, access_key1, access_key2 } => {
                properties.insert("TopicEndpoint".into(), topic_endpoint.expose().into());
                let masked = self.manager.settings().mask.token();
                self.secret("accessKey1", Some(access_key1), masked, properties);
                self.secret("accessKey2", access_key2.as_ref(), masked, properties);
            }
            Target::Topic { topic_endpoint } => {
                properties.insert("TopicEndpoint".into(), topic_endpoint.expose().into());
            }
        }
    }

    /// A secret that was never given has no member at all.
    fn secret(&self, name: &str, secret: Option<&Secret>, masked: &str, properties: &mut Map<String, Value>) {
        if secret.is_some() {
            properties.insert(name.into(), if self.is_being_made { "" } else { masked }.into());
        }
    }
}

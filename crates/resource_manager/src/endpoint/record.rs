//! The stored properties of a Digital Twins endpoint. Secrets are kept as they were given and shown by nobody.

use base::{Secret, Timestamp, Url};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Properties {
    pub target: Target,
    pub dead_letter: Option<DeadLetter>,
    pub identity: Option<IdentityReference>,
    pub created: Timestamp,
}

/// Where events go and how we prove ourselves there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Target {
    /// An event hub or a Service Bus topic, by connection string.
    Keys { kind: BusKind, primary: Secret, secondary: Option<Secret> },
    /// An event hub or a Service Bus topic, by the instance's identity.
    Address { kind: BusKind, endpoint_uri: String, entity_path: String },
    /// An Event Grid topic by its access keys.
    TopicKeys { topic_endpoint: Url, access_key1: Secret, access_key2: Option<Secret> },
    /// An Event Grid topic by the instance's identity.
    Topic { topic_endpoint: Url },
}

/// The two kinds of endpoint that have the same fields under different names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum BusKind {
    EventHub,
    ServiceBus,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EndpointType {
    EventHub,
    EventGrid,
    ServiceBus,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AuthenticationType {
    KeyBased,
    IdentityBased,
}

/// A blob container for events that cannot be delivered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DeadLetter {
    /// Its URL with a SAS: goes with keys.
    Secret(Secret),
    /// Its URL alone: goes with an identity.
    Uri(Url),
}

/// Which identity of the instance an identity-based endpoint uses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum IdentityReference {
    SystemAssigned,
    UserAssigned(String),
}

impl EndpointType {
    pub fn parse(text: &str) -> Option<Self> {
        let all = [Self::EventHub, Self::EventGrid, Self::ServiceBus];
        all.into_iter().find(|kind| kind.name().eq_ignore_ascii_case(text))
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::EventHub => "EventHub",
            Self::EventGrid => "EventGrid",
            Self::ServiceBus => "ServiceBus",
        }
    }
}

impl AuthenticationType {
    pub fn parse(text: &str) -> Option<Self> {
        [Self::KeyBased, Self::IdentityBased].into_iter().find(|kind| kind.name().eq_ignore_ascii_case(text))
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::KeyBased => "KeyBased",
            Self::IdentityBased => "IdentityBased",
        }
    }
}

impl Target {
    pub fn endpoint_type(&self) -> EndpointType {
        match self {
            Self::Keys { kind, .. } | Self::Address { kind, .. } => match kind {
                BusKind::EventHub => EndpointType::EventHub,
                BusKind::ServiceBus => EndpointType::ServiceBus,
            },
            Self::TopicKeys { .. } | Self::Topic { .. } => EndpointType::EventGrid,
        }
    }

    pub fn authentication_type(&self) -> AuthenticationType {
        match self {
            Self::Keys { .. } | Self::TopicKeys { .. } => AuthenticationType::KeyBased,
            Self::Address { .. } | Self::Topic { .. } => AuthenticationType::IdentityBased,
        }
    }
}

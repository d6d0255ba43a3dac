//! The filters that a device may subscribe to (`iothub-device.md` §2.4). A subscription is one of a few meanings, not a pattern;
//! the text is kept only where it says more.

use base::caps;
use base::ids::IdentityId;

use super::{below_identity, identity_path};

const METHODS: &str = "$iothub/methods/POST/";
const DESIRED: &str = "$iothub/twin/PATCH/properties/desired/";
const TWIN_RESPONSES: &str = "$iothub/twin/res/#";
/// The one filter of the provisioning service.
pub const PROVISIONING_RESPONSES: &str = "$dps/registrations/res/#";

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Filter {
    /// `devices/{d}/messages/devicebound/#`
    CloudToDevice,
    /// `devices/{d}/messages/#`: hand-written clients; means cloud-to-device messages.
    AllMessages,
    /// `#`: hand-written clients; means cloud-to-device messages.
    Everything,
    /// `devices/{d}/modules/{m}/` and then `#`, `inputs/#` or `messages/devicebound/#`, kept here. Nothing is sent there yet:
    /// routed inputs belong to edge gateways.
    ModuleMessages(Box<str>),
    /// `$iothub/methods/POST/#`
    Methods,
    /// `$iothub/methods/POST/{name}/#`
    Method(Box<str>),
    TwinResponses,
    DesiredProperties,
}

/// A longer name can never be called, and would be stored for nothing.
fn is_method_name(name: &str) -> bool {
    (1..=caps::METHOD_NAME_CHARACTERS_MAX).contains(&name.chars().count()) && !name.contains('/')
}

impl Filter {
    /// `None` when the filter is unknown or another identity's.
    pub fn parse(filter: &str, identity: &IdentityId) -> Option<Self> {
        if let Some(rest) = filter.strip_prefix(METHODS) {
            return match rest.strip_suffix('#')?.strip_suffix('/') {
                None if rest == "#" => Some(Self::Methods),
                Some(name) if is_method_name(name) => Some(Self::Method(name.into())),
                _ => None,
            };
        }
        if filter.strip_prefix(DESIRED).is_some_and(|rest| !rest.is_empty()) {
            return Some(Self::DesiredProperties);
        }
        match filter {
            TWIN_RESPONSES => Some(Self::TwinResponses),
            "#" => Some(Self::Everything),
            _ => Self::parse_messages(below_identity(filter, identity)?, identity),
        }
    }

    fn parse_messages(rest: &str, identity: &IdentityId) -> Option<Self> {
        match (rest, identity.module_id.is_some()) {
            ("messages/devicebound/#", false) => Some(Self::CloudToDevice),
            ("messages/#", false) => Some(Self::AllMessages),
            ("#" | "inputs/#" | "messages/devicebound/#", true) => Some(Self::ModuleMessages(rest.into())),
            _ => None,
        }
    }

    /// The text that was subscribed to, for storing and for clients.
    pub fn text(&self, identity: &IdentityId) -> String {
        match self {
            Self::CloudToDevice => format!("{}/messages/devicebound/#", identity_path(identity)),
            Self::AllMessages => format!("{}/messages/#", identity_path(identity)),
            Self::Everything => "#".to_owned(),
            Self::ModuleMessages(rest) => format!("{}/{rest}", identity_path(identity)),
            Self::Methods => format!("{METHODS}#"),
            Self::Method(name) => format!("{METHODS}{name}/#"),
            Self::TwinResponses => TWIN_RESPONSES.to_owned(),
            Self::DesiredProperties => format!("{DESIRED}#"),
        }
    }

    /// Whether a request for the direct method `name` goes to this subscription.
    pub fn takes_method(&self, name: &str) -> bool {
        match self {
            Self::Methods => true,
            Self::Method(own) => **own == *name,
            _ => false,
        }
    }
}

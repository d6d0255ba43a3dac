//! The filters that a device may subscribe to (`iothub-device.md` §2.4, `field-notes.md`). They match by MQTT's rules, and only
//! what is published to this very identity is ever held against them: no filter reaches another device.

use std::borrow::Cow;

use base::caps;
use base::ids::IdentityId;

/// The one filter of the provisioning service.
pub const PROVISIONING_RESPONSES: &str = "$dps/registrations/res/#";

/// What every SDK subscribes to. A million devices share these texts.
const USUAL: [&str; 4] =
    ["$iothub/methods/POST/#", "$iothub/twin/PATCH/properties/desired/#", "$iothub/twin/res/#", "#"];

/// A filter that covers something of what its identity is sent, as it was subscribed to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter(Cow<'static, str>);

/// The kinds of publish that an identity is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    CloudToDevice,
    /// Routed inputs belong to edge gateways: nothing is sent there yet.
    ModuleInput,
    Method,
    TwinResponse,
    DesiredChanged,
}

/// What stands between two slashes of a topic.
#[derive(Clone, Copy)]
enum Level<'a> {
    /// Ids stand here as they are: a `+` or `#` in one is a letter like any other.
    Is(&'a str),
    Any(fn(&str) -> bool),
    /// This one and any that follow: request ids are the device's own and may hold slashes.
    Rest(fn(&str) -> bool),
}

impl Kind {
    const ALL: [Self; 5] =
        [Self::CloudToDevice, Self::ModuleInput, Self::Method, Self::TwinResponse, Self::DesiredChanged];

    /// The levels of the topics of this kind that `identity` is sent; empty where it is sent none.
    fn levels(self, identity: &IdentityId) -> Vec<Level<'_>> {
        use Level::{Any, Is, Rest};
        let device = [Is("devices"), Is(identity.device_id.as_str())];
        match (self, &identity.module_id) {
            (Self::CloudToDevice, None) => {
                [&device[..], &[Is("messages"), Is("devicebound"), Any(anything)]].concat()
            }
            (Self::CloudToDevice, Some(module_id)) => {
                let module = [Is("modules"), Is(module_id.as_str())];
                [&device[..], &module, &[Is("messages"), Is("devicebound"), Any(anything)]].concat()
            }
            (Self::ModuleInput, Some(module_id)) => {
                let module = [Is("modules"), Is(module_id.as_str())];
                [&device[..], &module, &[Is("inputs"), Any(anything), Any(anything)]].concat()
            }
            (Self::ModuleInput, None) => Vec::new(),
            (Self::Method, _) => {
                vec![Is("$iothub"), Is("methods"), Is("POST"), Any(is_method_name), Any(is_request_id)]
            }
            (Self::TwinResponse, _) => {
                vec![Is("$iothub"), Is("twin"), Is("res"), Any(is_status), Rest(is_request_id)]
            }
            (Self::DesiredChanged, _) => {
                let path = [Is("$iothub"), Is("twin"), Is("PATCH"), Is("properties"), Is("desired")];
                [&path[..], &[Any(is_version)]].concat()
            }
        }
    }
}

fn anything(_: &str) -> bool {
    true
}

/// A longer name can never be called.
fn is_method_name(level: &str) -> bool {
    (1..=caps::METHOD_NAME_CHARACTERS_MAX).contains(&level.chars().count())
}

fn is_status(level: &str) -> bool {
    level.len() == 3 && level.bytes().all(|byte| byte.is_ascii_digit())
}

fn is_request_id(level: &str) -> bool {
    level.starts_with("?$rid=")
}

fn is_version(level: &str) -> bool {
    level.starts_with("?$version=")
}

impl Filter {
    /// `None` when the filter covers nothing that `identity` is ever sent, or is too long to be kept.
    pub fn parse(filter: &str, identity: &IdentityId) -> Option<Self> {
        if filter.len() > caps::MQTT_FILTER_BYTES_MAX {
            return None;
        }
        let usual = USUAL.into_iter().find(|usual| *usual == filter);
        let filter = Self(usual.map_or_else(|| Cow::Owned(filter.to_owned()), Cow::Borrowed));
        Kind::ALL.into_iter().any(|kind| filter.reaches(kind, identity)).then_some(filter)
    }

    pub fn text(&self) -> &str {
        &self.0
    }

    /// Whether it covers a topic of this kind that `identity` may be sent.
    pub fn reaches(&self, kind: Kind, identity: &IdentityId) -> bool {
        self.matches(kind.levels(identity).into_iter())
    }

    /// Whether it covers this topic, which must be one that its identity is sent.
    pub fn covers(&self, topic: &str) -> bool {
        self.matches(topic.split('/').map(Level::Is))
    }

    /// The rules of MQTT 3.1.1, §4.7, but that a wildcard where none may stand is a letter like any other.
    fn matches<'a>(&self, mut topic: impl Iterator<Item = Level<'a>>) -> bool {
        let mut filter = self.0.split('/').peekable();
        let (mut is_first, mut is_open) = (true, false);
        while let Some(level) = filter.next() {
            let is_wild = level == "+" || level == "#" && filter.peek().is_none();
            let wanted = topic.next();
            // Wildcards keep away from what begins with `$`; nothing at all begins with an empty list of levels.
            let is_barred = match wanted {
                Some(Level::Is(first)) => first.starts_with('$'),
                _ => true,
            };
            if is_first && is_wild && is_barred {
                return false;
            }
            is_first = false;
            if is_wild && level == "#" {
                return true;
            }
            let fits = match wanted {
                Some(Level::Is(wanted)) => is_wild || level == wanted,
                Some(Level::Any(fits)) => is_wild || fits(level),
                Some(Level::Rest(fits)) => {
                    is_open = true;
                    is_wild || fits(level)
                }
                None => is_open,
            };
            if !fits {
                return false;
            }
        }
        topic.next().is_none()
    }
}

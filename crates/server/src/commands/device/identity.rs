//! A device or module of the registry, and what its client presents to the hub: connection string, token, MQTT login.

use std::time::Duration;

use base::ids::IdentityId;
use base::{Key, Timestamp, sas};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use super::fault::Doing;
use super::hub::Hub;
use super::{KeyName, fault};
use crate::Failure;

/// The version that SDKs of today say when they connect.
const MQTT_VERSION: &str = "2021-04-12";

pub(super) struct Identity {
    pub(super) id: IdentityId,
    /// As the registry tells it.
    pub(super) body: Value,
}

/// The id that `name` and `module` give, or what is wrong with them.
pub(super) fn parse(name: &str, module: Option<&str>) -> Result<IdentityId, Failure> {
    Ok(match module {
        None => IdentityId::device(name.parse()?),
        Some(module) => IdentityId::module(name.parse()?, module.parse()?),
    })
}

/// `/devices/{id}` and what stands for a module below it, escaped; `root` is `devices` or `twins`.
pub(super) fn path(root: &str, id: &IdentityId) -> String {
    let escaped = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
    let device = format!("/{root}/{}", escaped(id.device_id.as_str()));
    match &id.module_id {
        None => device,
        Some(module_id) => format!("{device}/modules/{}", escaped(module_id.as_str())),
    }
}

/// `device d` or `module m of device d`.
pub(super) fn spoken(id: &IdentityId) -> String {
    match &id.module_id {
        None => format!("device {}", id.device_id),
        Some(module_id) => format!("module {module_id} of device {}", id.device_id),
    }
}

/// What selects it on a command line: `d` or `d --module m`.
pub(super) fn arguments(id: &IdentityId) -> String {
    let word = crate::environment::shell_word;
    match &id.module_id {
        None => word(id.device_id.as_str()),
        Some(module_id) => {
            format!("{} --module {}", word(id.device_id.as_str()), word(module_id.as_str()))
        }
    }
}

impl Identity {
    pub(super) async fn find(hub: &Hub, name: &str, module: Option<&str>) -> Result<Self, Failure> {
        let id = parse(name, module)?;
        match hub.get(&path("devices", &id)).await {
            Ok(body) => Ok(Self { id, body }),
            Err(error) => Err(fault::explain(hub, &id, Doing::Read, error).await),
        }
    }

    pub(super) fn text(&self, member: &str) -> &str {
        self.body[member].as_str().unwrap_or_default()
    }

    pub(super) fn key(&self, which: KeyName) -> Result<Key, Failure> {
        let name = match which {
            KeyName::Primary => "primaryKey",
            KeyName::Secondary => "secondaryKey",
        };
        let text = self.body["authentication"]["symmetricKey"][name].as_str();
        let kind = self.body["authentication"]["type"].as_str().unwrap_or_default();
        let key = text.and_then(|text| text.parse().ok());
        key.ok_or_else(|| {
            let who = spoken(&self.id);
            format!("{who} has no keys: it authenticates by {kind}, with a certificate that this command does not have").into()
        })
    }

    pub(super) fn connection_string(&self, hub: &Hub, which: KeyName) -> Result<String, Failure> {
        let module = self.id.module_id.as_ref().map(|id| format!(";ModuleId={id}")).unwrap_or_default();
        let (host, device_id) = (hub.device_host(), &self.id.device_id);
        let key = self.key(which)?;
        Ok(format!("HostName={host};DeviceId={device_id}{module};SharedAccessKey={}", key.text()))
    }

    pub(super) fn user_name(&self, hub: &Hub) -> String {
        format!("{}/{}/?api-version={MQTT_VERSION}", hub.device_host(), self.id)
    }

    /// What an MQTT client presents, good for `life`.
    pub(super) fn login(&self, hub: &Hub, life: Duration) -> Result<Login, Failure> {
        let host = hub.device_host();
        let path = match &self.id.module_id {
            None => format!("{}", self.id.device_id),
            Some(module_id) => format!("{}/modules/{module_id}", self.id.device_id),
        };
        let (key, ends_at) = (self.key(KeyName::Primary)?, hub.clock.now().plus(life));
        Ok(Login {
            client_id: self.id.to_string(),
            user_name: self.user_name(hub),
            token: sas::build(&format!("{host}/devices/{path}"), &key, ends_at, None),
            ends_at,
        })
    }
}

pub(super) struct Login {
    pub(super) client_id: String,
    pub(super) user_name: String,
    /// The password, and a token for every other use.
    pub(super) token: String,
    ends_at: Timestamp,
}

impl Login {
    /// `2026-01-02T03:04:05Z`
    pub(super) fn ends_at(&self) -> String {
        format!("{}Z", self.ends_at.iso_seconds())
    }
}

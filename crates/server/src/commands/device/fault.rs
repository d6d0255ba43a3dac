//! What went wrong in words for people: what it is, and what to do next.

use base::caps;
use base::ids::IdentityId;
use serde_json::Value;
use server::client::{ClientError, Refusal};

use super::hub::Hub;
use super::identity::{arguments, path, spoken};
use crate::Failure;

/// What was to be done with an identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Doing {
    Read,
    Make,
    Change,
    Remove,
    /// Its twin, or a method.
    Use,
}

impl Doing {
    /// What it needs of the hub's policy, as Azure names it.
    fn right(self) -> &'static str {
        match self {
            Self::Read => "RegistryRead",
            Self::Make | Self::Change | Self::Remove => "RegistryWrite",
            Self::Use => "ServiceConnect",
        }
    }
}

/// Why a call about `id` failed. Asks the hub what is there, where that helps.
pub(super) async fn explain(hub: &Hub, id: &IdentityId, doing: Doing, error: ClientError) -> Failure {
    let ClientError::Service(refusal) = error else { return error.into() };
    match refusal.code.as_str() {
        // The path of a module is answered by 401 where its device is missing or disabled.
        "IotHubUnauthorizedAccess" if id.module_id.is_none() || has_device(hub, id).await != Some(false) => {
            denied(hub, doing)
        }
        "IotHubUnauthorizedAccess" | "DeviceNotFound" | "ModuleNotFound" => missing(hub, id, doing).await,
        "DeviceAlreadyExists" | "ModuleAlreadyExistsOnDevice" => exists(hub, id),
        "DeviceNotOnline" => not_online(hub, id).await,
        _ => refused(hub, &refusal),
    }
}

/// Whether the device of an identity is there; `None` where the hub does not tell.
async fn has_device(hub: &Hub, id: &IdentityId) -> Option<bool> {
    match hub.get(&path("devices", &device_of(id))).await {
        Ok(_) => Some(true),
        Err(ClientError::Service(refusal)) if refusal.code == "DeviceNotFound" => Some(false),
        Err(_) => None,
    }
}

fn device_of(id: &IdentityId) -> IdentityId {
    IdentityId::device(id.device_id.clone())
}

pub(super) fn refused(hub: &Hub, refusal: &Refusal) -> Failure {
    format!("{} refused: {refusal}", hub.name).into()
}

fn denied(hub: &Hub, doing: Doing) -> Failure {
    format!(
        "{} does not let its policy {} do this: it wants the right {}. Give the policy that right; where its key was changed a \
         moment ago, try again in a few seconds",
        hub.name,
        hub.policy(),
        doing.right()
    )
    .into()
}

/// The device or the module that is not there, some that are, and how to make it.
async fn missing(hub: &Hub, id: &IdentityId, doing: Doing) -> Failure {
    let (missing, what, list, member) = match &id.module_id {
        Some(module_id) if has_device(hub, id).await == Some(true) => {
            let modules = format!("{}/modules", path("devices", &device_of(id)));
            (id.clone(), format!("device {} has no module {module_id}", id.device_id), modules, "moduleId")
        }
        _ => {
            let devices = format!("/devices?top={}", caps::CLIENT_NAMES_SHOWN_MAX + 1);
            (device_of(id), format!("{} has no device {}", hub.name, id.device_id), devices, "deviceId")
        }
    };
    let there = named(hub, &list, member).await;
    if doing == Doing::Remove {
        return format!("{what}{there}").into();
    }
    let remedy = hub.command(&format!("device create {}", arguments(&missing)));
    format!("{what}{there}. Make it with: {remedy}").into()
}

/// `: it has a, b, c`, a few of what a list holds; nothing where it cannot be read.
async fn named(hub: &Hub, path: &str, member: &str) -> String {
    let Ok(list) = hub.get(path).await else { return String::new() };
    let all = list.as_array().map_or(&[][..], Vec::as_slice);
    let names: Vec<&str> = all.iter().filter_map(|item| item[member].as_str()).collect();
    if names.is_empty() {
        return ": it has none".to_owned();
    }
    let shown = names.iter().take(caps::CLIENT_NAMES_SHOWN_MAX).copied().collect::<Vec<_>>().join(", ");
    let more = if names.len() > caps::CLIENT_NAMES_SHOWN_MAX { " and more" } else { "" };
    format!(": it has {shown}{more}")
}

fn exists(hub: &Hub, id: &IdentityId) -> Failure {
    let (show, delete) = (
        hub.command(&format!("device show {}", arguments(id))),
        hub.command(&format!("device delete {}", arguments(id))),
    );
    format!("{} is there already: see it with {show}, or remove it first with {delete}", spoken(id)).into()
}

async fn not_online(hub: &Hub, id: &IdentityId) -> Failure {
    let who = spoken(id);
    let identity = hub.get(&path("devices", id)).await.unwrap_or(Value::Null);
    if identity["connectionState"] == "Connected" {
        return format!(
            "{who} is connected but does not listen to direct methods: its client must subscribe to $iothub/methods/POST/# \
             (SDKs do so when a method handler is set)"
        )
        .into();
    }
    format!("{who} is not connected: start its client, or wait for it with --connect-timeout SECONDS").into()
}

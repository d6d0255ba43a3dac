//! Devices, their modules and the twins of both.

use std::collections::HashMap;

use base::ids::IdentityId;
use base::json::Object;
use base::{DeviceId, IfMatch, Key, Secret};
use hub::device::rules::{self, Subject};
use hub::device::{
    Authentication, AuthenticationKind, AuthenticationSpec, DeviceSpec, Identity, ModuleSpec, ScopeSpec,
};

use super::{Ground, Outcome, caller};
use crate::Failure;
use crate::seed::entries::Entry;
use crate::seed::entries::hubs::{Device, Module, Twin, has_keys};
use crate::well_known;

const KEY_BYTES: usize = 32;

/// A device stands on the IoT Edge device above it.
pub(super) fn parents_first(devices: &[Entry<Device>]) -> Vec<Entry<Device>> {
    let parents: HashMap<_, _> = devices
        .iter()
        .map(|device| ((&device.what.hub, &device.what.id), device.what.parent.as_ref()))
        .collect();
    let depth = |device: &Device| {
        let mut at = device.parent.as_ref();
        // A circle has no beginning; the hub refuses whichever is tried first.
        (0..devices.len())
            .take_while(|_| {
                let above = at;
                at = above.and_then(|parent| parents.get(&(&device.hub, parent)).copied().flatten());
                above.is_some()
            })
            .count()
    };
    let mut sorted = devices.to_vec();
    sorted.sort_by_key(|device| depth(&device.what));
    sorted
}

pub(super) async fn device(ground: &Ground, device: &Device) -> Result<Outcome, Failure> {
    let hub = ground.hub(&device.hub)?;
    let old = match hub.get_device(&caller(), &device.id).await {
        Ok(view) => Some(view.identity),
        Err(hub::Error::DeviceNotFound(_)) => None,
        Err(error) => return Err(error.into()),
    };
    let id = IdentityId::device(device.id.clone());
    let spec = spec(ground, &hub, device, old.as_ref()).await?;
    let mut outcome = match &old {
        None => {
            hub.put_device(&caller(), &spec, &IfMatch::Absent).await?;
            Outcome::Made
        }
        Some(old) if differs(&spec, device, old)? => {
            hub.put_device(&caller(), &spec, &IfMatch::Any).await?;
            Outcome::Changed
        }
        Some(_) => Outcome::Kept,
    };
    // A new one has its twin already.
    if old.is_some() {
        outcome = outcome.and(twin(&hub, &id, &device.twin).await?);
    }
    for module in &device.modules {
        let made = self::module(ground, &hub, &device.id, &module.what).await;
        outcome = outcome.and(made.map_err(|error| format!("{}: {error}", module.name))?);
    }
    Ok(outcome)
}

/// The whole device: what the seed says, over what is there.
async fn spec(
    ground: &Ground,
    hub: &hub::Hub,
    device: &Device,
    old: Option<&Identity>,
) -> Result<DeviceSpec, Failure> {
    let iot_edge = device.edge.unwrap_or(old.is_some_and(|old| old.iot_edge));
    let own_scope = old.filter(|old| old.iot_edge && iot_edge).and_then(|old| old.device_scope.clone());
    let parent_scopes = match &device.parent {
        Some(parent) => vec![scope_of(hub, parent).await?],
        None => old.map(|old| old.parent_scopes.clone()).unwrap_or_default(),
    };
    let device_scope = if iot_edge { own_scope } else { parent_scopes.first().cloned() };
    let status_reason = old.and_then(|old| old.status_reason.clone());
    let initial = device.twin.over(&Object::new(), &Object::new())?;
    Ok(DeviceSpec {
        device_id: device.id.clone(),
        status: device.status.or(old.map(|old| old.status)).unwrap_or_default(),
        status_reason: device.status_reason.clone().or(status_reason),
        authentication: {
            let known = || well_known::device_keys(device.id.as_str());
            authentication(ground, &device.authentication, old.map(|old| &old.authentication), known)
        },
        iot_edge,
        scopes: ScopeSpec { device_scope, parent_scopes, is_imported: false },
        initial_twin: initial.into(),
    })
}

async fn scope_of(hub: &hub::Hub, parent: &DeviceId) -> Result<String, Failure> {
    let missing = || format!("the parent \"{parent}\" is no IoT Edge device of this hub");
    match hub.get_device(&caller(), parent).await {
        Ok(view) if view.identity.iot_edge => Ok(view.identity.device_scope.ok_or_else(missing)?),
        Ok(_) | Err(hub::Error::DeviceNotFound(_)) => Err(missing().into()),
        Err(error) => Err(error.into()),
    }
}

fn differs(spec: &DeviceSpec, device: &Device, old: &Identity) -> Result<bool, hub::Error> {
    let wanted = rules::authentication(&spec.authentication, Subject::Device)?;
    let is_moved = device.parent.is_some() && spec.scopes.parent_scopes != old.parent_scopes;
    Ok(wanted != old.authentication
        || (spec.status, &spec.status_reason) != (old.status, &old.status_reason)
        || spec.iot_edge != old.iot_edge
        || is_moved)
}

async fn module(
    ground: &Ground,
    hub: &hub::Hub,
    device_id: &DeviceId,
    module: &Module,
) -> Result<Outcome, Failure> {
    let id = IdentityId::module(device_id.clone(), module.id.clone());
    let old = match hub.get_module(&caller(), &id).await {
        Ok(view) => Some(view.identity),
        Err(hub::Error::ModuleNotFound { .. }) => None,
        Err(error) => return Err(error.into()),
    };
    let known = || well_known::device_keys(&format!("{device_id}/{}", module.id));
    let before = old.as_ref().map(|old| &old.authentication);
    let spec = ModuleSpec {
        device_id: device_id.clone(),
        module_id: module.id.clone(),
        managed_by: module.managed_by.clone().or_else(|| old.as_ref().and_then(|old| old.managed_by.clone())),
        authentication: authentication(ground, &module.authentication, before, known),
    };
    let outcome = match &old {
        None => {
            hub.put_module(&caller(), &spec, &IfMatch::Absent).await?;
            Outcome::Made
        }
        Some(old) if is_other_module(&spec, old)? => {
            hub.put_module(&caller(), &spec, &IfMatch::Any).await?;
            Outcome::Changed
        }
        Some(_) => Outcome::Kept,
    };
    Ok(outcome.and(twin(hub, &id, &module.twin).await?))
}

fn is_other_module(spec: &ModuleSpec, old: &Identity) -> Result<bool, hub::Error> {
    // The two modules of an IoT Edge device have no authentication, until their runtime gives them one.
    let subject = match spec.module_id.as_str() {
        "$edgeAgent" | "$edgeHub" => Subject::SystemModule,
        _ => Subject::Module,
    };
    let wanted = rules::authentication(&spec.authentication, subject)?;
    Ok(wanted != old.authentication || spec.managed_by != old.managed_by)
}

/// What the seed says of keys and thumbprints. It leaves open what stays as it is; of one that is new keys are made, or are those
/// that everybody knows.
fn authentication(
    ground: &Ground,
    said: &AuthenticationSpec,
    old: Option<&Authentication>,
    known: impl Fn() -> (Key, Key),
) -> AuthenticationSpec {
    let says_nothing = *said == AuthenticationSpec::default();
    if let Some(old) = old.filter(|_| says_nothing) {
        return same_authentication(old);
    }
    let is_sas = matches!(said.kind, None | Some(AuthenticationKind::Sas))
        && said.primary_thumbprint.is_none()
        && said.secondary_thumbprint.is_none();
    if !is_sas {
        return said.clone();
    }
    let made = || {
        if ground.well_known_keys { known() } else { (Key::generate(KEY_BYTES), Key::generate(KEY_BYTES)) }
    };
    let (primary, secondary) = match old {
        Some(Authentication::Sas { primary_key, secondary_key }) => {
            (primary_key.clone(), secondary_key.clone())
        }
        _ => made(),
    };
    let mut spec = AuthenticationSpec { kind: Some(AuthenticationKind::Sas), ..said.clone() };
    if !has_keys(said) {
        spec.primary_key = Some(Secret::from(&primary));
    }
    spec.secondary_key = spec.secondary_key.or_else(|| Some(Secret::from(&secondary)));
    spec
}

fn same_authentication(old: &Authentication) -> AuthenticationSpec {
    let spec = AuthenticationSpec::default();
    match old {
        Authentication::Sas { primary_key, secondary_key } => AuthenticationSpec {
            kind: Some(AuthenticationKind::Sas),
            primary_key: Some(Secret::from(primary_key)),
            secondary_key: Some(Secret::from(secondary_key)),
            ..spec
        },
        Authentication::SelfSigned { primary_thumbprint, secondary_thumbprint } => AuthenticationSpec {
            kind: Some(AuthenticationKind::SelfSigned),
            primary_thumbprint: primary_thumbprint.clone(),
            secondary_thumbprint: secondary_thumbprint.clone(),
            ..spec
        },
        Authentication::CertificateAuthority => {
            AuthenticationSpec { kind: Some(AuthenticationKind::CertificateAuthority), ..spec }
        }
        Authentication::None => AuthenticationSpec { kind: Some(AuthenticationKind::None), ..spec },
    }
}

/// Tags and desired properties become what the seed says, where it says so.
async fn twin(hub: &hub::Hub, id: &IdentityId, said: &Twin) -> Result<Outcome, Failure> {
    if said.says_nothing() {
        return Ok(Outcome::Kept);
    }
    let now = hub.get_twin(&caller(), id).await?.twin;
    let wanted = said.over(&now.tags, &now.properties.desired.values)?;
    if (&wanted.tags, &wanted.desired) == (&now.tags, &now.properties.desired.values) {
        return Ok(Outcome::Kept);
    }
    hub.replace_twin(&caller(), id, &wanted, &IfMatch::Any).await?;
    Ok(Outcome::Changed)
}

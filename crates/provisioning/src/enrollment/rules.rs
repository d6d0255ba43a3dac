//! What an enrollment may be, and what a PUT makes of it. Values in, value out.

use base::{DeviceId, IfMatch, InstanceId, Timestamp};
use hub::twin::TwinReplacement;
use serde_json::Value;

use super::record::{CustomAllocation, Enrollment, EnrollmentKind, ReprovisionPolicy, new_etag};
use crate::attestation::AttestationDraft;
use crate::error::Error;
use crate::ids::RegistrationId;
use crate::settings::{AllocationPolicy, FindLink, ServiceSettings};
use crate::version::ApiVersion;

/// The oldest version of the webhook's body that can be asked for.
const CUSTOM_ALLOCATION_VERSION_MIN: &str = "2018-09-01-preview";

/// What a caller writes: a full replacement. Read-only members are not in it.
#[derive(Clone, Debug, PartialEq)]
pub struct EnrollmentDraft {
    pub kind: EnrollmentKind,
    pub id: RegistrationId,
    pub device_id: Option<DeviceId>,
    pub optional_device_information: Option<Value>,
    pub attestation: AttestationDraft,
    pub iot_edge: bool,
    pub iot_hub_host_name: Option<String>,
    pub initial_twin: Option<Value>,
    pub is_enabled: bool,
    pub reprovision_policy: Option<ReprovisionPolicy>,
    pub allocation_policy: Option<AllocationPolicy>,
    pub iot_hubs: Vec<String>,
    pub custom_allocation: Option<CustomAllocation>,
    pub credential_policy_name: Option<String>,
}

/// The stored enrollment after a PUT over `old`.
pub fn put(
    instance: &InstanceId,
    old: Option<&Enrollment>,
    draft: &EnrollmentDraft,
    settings: &ServiceSettings,
    find_link: &FindLink<'_, '_>,
    now: Timestamp,
) -> Result<Enrollment, Error> {
    check(draft, old, find_link)?;
    let is_group = draft.kind == EnrollmentKind::Group;
    let attestation = draft.attestation.resolve(old.map(|old| &old.attestation), settings, is_group)?;
    Ok(Enrollment {
        instance: instance.clone(),
        kind: draft.kind,
        id: old.map_or_else(|| draft.id.clone(), |old| old.id.clone()),
        device_id: draft.device_id.clone(),
        optional_device_information: draft.optional_device_information.clone(),
        attestation,
        iot_edge: draft.iot_edge,
        iot_hub_host_name: draft.iot_hub_host_name.clone(),
        initial_twin: draft.initial_twin.clone(),
        etag: new_etag(),
        is_enabled: draft.is_enabled,
        reprovision_policy: draft.reprovision_policy,
        created: old.map_or(now, |old| old.created),
        last_updated: now,
        allocation_policy: draft.allocation_policy,
        iot_hubs: draft.iot_hubs.clone(),
        // Beside another policy a definition has no effect, but it is stored and shown.
        custom_allocation: draft.custom_allocation.clone(),
        credential_policy_name: draft.credential_policy_name.clone(),
    })
}

/// Whether a PUT may go ahead (`dps.md` §3.3).
pub fn check_put(old: Option<&Enrollment>, if_match: &IfMatch) -> Result<(), Error> {
    match (old, if_match) {
        (None, IfMatch::Absent | IfMatch::Any) => Ok(()),
        (Some(_), IfMatch::Absent) => Err(Error::AlreadyExists),
        (Some(old), _) if if_match.allows(&old.etag) => Ok(()),
        _ => Err(Error::PreconditionFailed),
    }
}

/// What names something outside of the enrollment is checked when it is new: a hub that is gone must not keep anybody from
/// disabling the enrollment.
fn check(
    draft: &EnrollmentDraft,
    old: Option<&Enrollment>,
    find_link: &FindLink<'_, '_>,
) -> Result<(), Error> {
    let is_kept = |hub: &str| {
        let before = old.into_iter().flat_map(|old| old.iot_hubs.iter().chain(&old.iot_hub_host_name));
        before.into_iter().any(|before| before.eq_ignore_ascii_case(hub))
    };
    for hub in draft.iot_hubs.iter().chain(&draft.iot_hub_host_name) {
        if !is_kept(hub) && find_link(hub).is_none() {
            return Err(Error::bad(format!("IoT hub '{hub}' is not linked to the provisioning service.")));
        }
    }
    match draft.allocation_policy {
        Some(AllocationPolicy::Static) if draft.iot_hubs.len() != 1 => {
            return Err(Error::bad("The static allocation policy needs exactly one IoT hub."));
        }
        Some(AllocationPolicy::Custom) => match &draft.custom_allocation {
            Some(custom) => check_custom(custom)?,
            None => {
                return Err(Error::bad("The custom allocation policy needs a customAllocationDefinition."));
            }
        },
        _ => {}
    }
    match &draft.initial_twin {
        Some(twin) if old.is_none_or(|old| old.initial_twin.as_ref() != Some(twin)) => check_twin(twin),
        _ => Ok(()),
    }
}

fn check_custom(custom: &CustomAllocation) -> Result<(), Error> {
    let url = custom.webhook_url.expose();
    let has_host = url.split_once("://").is_some_and(|(scheme, rest)| {
        let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
        ["http", "https"].iter().any(|known| known.eq_ignore_ascii_case(scheme)) && !host.is_empty()
    });
    if !has_host || url.contains(char::is_whitespace) {
        return Err(Error::bad(format!("webhookUrl '{url}' is not an absolute http or https URL.")));
    }
    let is_version = custom.api_version.parse::<ApiVersion>().is_ok();
    if !is_version || custom.api_version.as_str() < CUSTOM_ALLOCATION_VERSION_MIN {
        return Err(Error::bad(format!("apiVersion must be {CUSTOM_ALLOCATION_VERSION_MIN} or later.")));
    }
    Ok(())
}

/// The hub's own rules say what a twin may hold: what no hub takes would fail every device that registers.
fn check_twin(twin: &Value) -> Result<(), Error> {
    let checked = TwinReplacement::from_json(twin).and_then(|twin| twin.check());
    checked.map_err(|error| Error::bad(format!("initialTwin is no twin that a hub takes. {error}")))
}

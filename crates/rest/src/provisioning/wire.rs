//! Enrollments on the wire (`dps.md` §3.2). What a caller may not write is ignored, as get-edit-put clients send it back.

use base::{DeviceId, Url};
use provisioning::enrollment::{CustomAllocation, ReprovisionPolicy};
use provisioning::view::RegistrationView;
use provisioning::{
    AllocationPolicy, ApiVersion, Enrollment, EnrollmentDraft, EnrollmentKind, Error, RegistrationId,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::attestation::{AttestationBody, AttestationInput};
use crate::json::{self, Reading};

/// Absent members have no value; only keys are absent although there are some.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct EnrollmentBody<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    registration_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    enrollment_group_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    device_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    registration_state: Option<RegistrationView<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    optional_device_information: Option<&'a Value>,
    attestation: AttestationBody<'a>,
    capabilities: Capabilities,
    #[serde(skip_serializing_if = "Option::is_none")]
    iot_hub_host_name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    initial_twin: Option<&'a Value>,
    etag: String,
    provisioning_status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reprovision_policy: Option<Reprovision>,
    created_date_time_utc: String,
    last_updated_date_time_utc: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    allocation_policy: Option<&'static str>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    iot_hubs: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    custom_allocation_definition: Option<CustomAllocationBody<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    credential_policy_name: Option<&'a str>,
}

#[derive(Clone, Copy, Serialize)]
#[serde(rename_all = "camelCase")]
struct Capabilities {
    iot_edge: bool,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Reprovision {
    update_hub_assignment: bool,
    migrate_device_data: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct CustomAllocationBody<'a> {
    webhook_url: &'a str,
    api_version: &'a str,
}

impl<'a> EnrollmentBody<'a> {
    /// As lists show it: without keys, and without what became of the device.
    pub(super) fn new(enrollment: &'a Enrollment, api_version: &ApiVersion) -> Self {
        let id = enrollment.id.as_str();
        let custom = enrollment.custom_allocation.as_ref();
        let policy = enrollment.credential_policy_name.as_deref();
        Self {
            registration_id: (!enrollment.is_group()).then_some(id),
            enrollment_group_id: enrollment.is_group().then_some(id),
            device_id: enrollment.device_id.as_ref().map(DeviceId::as_str),
            registration_state: None,
            optional_device_information: enrollment.optional_device_information.as_ref(),
            attestation: AttestationBody::new(&enrollment.attestation),
            capabilities: Capabilities { iot_edge: enrollment.iot_edge },
            iot_hub_host_name: enrollment.iot_hub_host_name.as_deref(),
            initial_twin: enrollment.initial_twin.as_ref(),
            etag: enrollment.etag_text(),
            provisioning_status: if enrollment.is_enabled { "enabled" } else { "disabled" },
            reprovision_policy: enrollment.reprovision_policy.map(Reprovision::from),
            created_date_time_utc: enrollment.created.iso7(),
            last_updated_date_time_utc: enrollment.last_updated.iso7(),
            allocation_policy: enrollment.allocation_policy.map(AllocationPolicy::name),
            iot_hubs: &enrollment.iot_hubs,
            custom_allocation_definition: custom.map(|CustomAllocation { webhook_url, api_version }| {
                CustomAllocationBody { webhook_url: webhook_url.expose(), api_version }
            }),
            credential_policy_name: policy.filter(|_| api_version.knows_credential_policies()),
        }
    }

    pub(super) fn with_state(
        enrollment: &'a Enrollment,
        registration_state: Option<RegistrationView<'a>>,
        api_version: &ApiVersion,
    ) -> Self {
        Self { registration_state, ..Self::new(enrollment, api_version) }
    }

    /// For whoever has just written it.
    pub(super) fn with_secrets(enrollment: &'a Enrollment, api_version: &ApiVersion) -> Self {
        let attestation = AttestationBody::with_secrets(&enrollment.attestation);
        Self { attestation, ..Self::new(enrollment, api_version) }
    }
}

impl From<ReprovisionPolicy> for Reprovision {
    fn from(policy: ReprovisionPolicy) -> Self {
        let ReprovisionPolicy { update_hub_assignment, migrate_device_data } = policy;
        Self { update_hub_assignment, migrate_device_data }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct EnrollmentInput {
    registration_id: Option<String>,
    enrollment_group_id: Option<String>,
    device_id: Option<String>,
    optional_device_information: Option<Value>,
    attestation: Option<AttestationInput>,
    capabilities: Option<CapabilitiesInput>,
    iot_hub_host_name: Option<String>,
    initial_twin: Option<Value>,
    provisioning_status: Option<String>,
    reprovision_policy: Option<Reprovision>,
    allocation_policy: Option<String>,
    iot_hubs: Option<Vec<String>>,
    custom_allocation_definition: Option<CustomAllocationInput>,
    credential_policy_name: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CapabilitiesInput {
    iot_edge: Option<bool>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CustomAllocationInput {
    webhook_url: Url,
    api_version: String,
}

impl EnrollmentInput {
    pub(super) fn of(object: Map<String, Value>) -> Result<Self, Error> {
        json::read_value(Value::Object(object), Reading::Tolerant)
            .map_err(|why| Error::bad(format!("The enrollment cannot be read: {why}.")))
    }

    /// `path_id` is the id that the body must repeat, where the path has one.
    pub(super) fn into_draft(
        self,
        kind: EnrollmentKind,
        path_id: Option<&RegistrationId>,
        api_version: &ApiVersion,
    ) -> Result<EnrollmentDraft, Error> {
        let is_group = kind == EnrollmentKind::Group;
        let id = check_id(kind, self.registration_id, self.enrollment_group_id, path_id)?;
        let attestation = self.attestation.ok_or_else(|| Error::bad("attestation is missing."))?;
        let text = |text: Option<String>| text.filter(|text| !text.is_empty());
        let device_id = text(self.device_id).filter(|_| !is_group);
        let given = self.reprovision_policy.map(ReprovisionPolicy::from);
        let custom = self.custom_allocation_definition;
        Ok(EnrollmentDraft {
            kind,
            id,
            device_id: device_id.as_deref().map(parse_device_id).transpose()?,
            optional_device_information: self.optional_device_information.filter(|_| !is_group),
            attestation: attestation.into_draft()?,
            iot_edge: self.capabilities.and_then(|capabilities| capabilities.iot_edge).unwrap_or(false),
            iot_hub_host_name: text(self.iot_hub_host_name),
            initial_twin: self.initial_twin,
            is_enabled: is_enabled(self.provisioning_status.as_deref())?,
            reprovision_policy: given.or_else(|| default_reprovision_policy(api_version)),
            allocation_policy: self.allocation_policy.as_deref().map(parse_policy).transpose()?,
            iot_hubs: self.iot_hubs.unwrap_or_default(),
            custom_allocation: custom.map(|CustomAllocationInput { webhook_url, api_version }| {
                CustomAllocation { webhook_url, api_version }
            }),
            credential_policy_name: text(self.credential_policy_name)
                .filter(|_| api_version.knows_credential_policies()),
        })
    }
}

impl From<Reprovision> for ReprovisionPolicy {
    fn from(policy: Reprovision) -> Self {
        let Reprovision { update_hub_assignment, migrate_device_data } = policy;
        Self { update_hub_assignment, migrate_device_data }
    }
}

fn check_id(
    kind: EnrollmentKind,
    registration_id: Option<String>,
    enrollment_group_id: Option<String>,
    path_id: Option<&RegistrationId>,
) -> Result<RegistrationId, Error> {
    let (name, given) = match kind {
        EnrollmentKind::Individual => ("registrationId", registration_id),
        EnrollmentKind::Group => ("enrollmentGroupId", enrollment_group_id),
    };
    let given = given.ok_or_else(|| Error::bad(format!("{name} is missing.")))?;
    match path_id {
        Some(path_id) if !path_id.is_same(&given) => {
            Err(Error::bad(format!("{name} of the body is not the one of the path.")))
        }
        _ => given.parse().map_err(|error: base::ids::InvalidId| Error::bad(error.to_string())),
    }
}

fn parse_device_id(text: &str) -> Result<DeviceId, Error> {
    text.parse().map_err(|error: base::ids::InvalidId| Error::bad(error.to_string()))
}

fn parse_policy(text: &str) -> Result<AllocationPolicy, Error> {
    AllocationPolicy::parse(text)
        .ok_or_else(|| Error::bad("allocationPolicy must be hashed, geoLatency, static or custom."))
}

fn is_enabled(status: Option<&str>) -> Result<bool, Error> {
    match status.map(str::to_ascii_lowercase).as_deref() {
        None | Some("enabled") => Ok(true),
        Some("disabled") => Ok(false),
        Some(_) => Err(Error::bad("provisioningStatus must be enabled or disabled.")),
    }
}

fn default_reprovision_policy(api_version: &ApiVersion) -> Option<ReprovisionPolicy> {
    let default = ReprovisionPolicy { update_hub_assignment: true, migrate_device_data: true };
    (!api_version.is_sticky()).then_some(default)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    /// JSON of which much has the names and values that an enrollment has.
    fn any_json() -> impl Strategy<Value = Value> {
        let text = prop_oneof![
            "symmetricKey|tpm|x509|static|custom|hashed|enabled|disabled|dev-1|AAAA|https://x|2021-10-01",
            "\\PC{0,12}",
        ];
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            text.prop_map(Value::from),
        ];
        let name = prop_oneof![
            "registrationId|enrollmentGroupId|deviceId|attestation|type|tpm|endorsementKey|x509|clientCertificates",
            "signingCertificates|caReferences|primary|secondary|certificate|info|symmetricKey|primaryKey|capabilities",
            "iotEdge|initialTwin|tags|properties|desired|provisioningStatus|reprovisionPolicy|updateHubAssignment",
            "migrateDeviceData|allocationPolicy|iotHubs|iotHubHostName|customAllocationDefinition|webhookUrl",
        ];
        leaf.prop_recursive(5, 40, 8, move |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                proptest::collection::vec((name.clone(), inner), 0..8)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn no_enrollment_makes_its_reader_panic(members in any_json(), attestation in any_json(), twin in any_json()) {
            let version = "2021-10-01".parse().unwrap();
            let mut body = json!({"registrationId": "dev-1", "enrollmentGroupId": "dev-1", "initialTwin": twin});
            body["attestation"] = attestation;
            if let Value::Object(members) = members {
                body.as_object_mut().unwrap().extend(members);
            }
            for kind in [EnrollmentKind::Individual, EnrollmentKind::Group] {
                let Value::Object(object) = body.clone() else { continue };
                let _ = EnrollmentInput::of(object).and_then(|input| input.into_draft(kind, None, &version));
            }
        }
    }
}

//! What every door shows in the same JSON: errors, registrations, the operation that a device polls (`dps.md` §0.4, §1.1, §3.6).
//! The doors call it, because they may not share among themselves. Pure; it names no path, topic or header.

use base::{Timestamp, caps};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::enrollment::EnrollmentKind;
use crate::error::Error;
use crate::ids::RegistrationId;
use crate::registration::{Assignment, Registration, RegistrationOperation, RegistrationState, Substatus};
use crate::version::ApiVersion;

/// How long a device waits before it asks again; the value that the service's documentation shows.
pub const RETRY_AFTER_SECONDS: u64 = 3;

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ErrorView {
    pub error_code: u32,
    pub tracking_id: String,
    pub message: String,
    pub timestamp_utc: String,
}

impl ErrorView {
    /// With a tracking id of its own.
    pub fn new(error_code: u32, message: impl Into<String>, now: Timestamp) -> Self {
        Self::tracked(uuid::Uuid::new_v4(), error_code, message, now)
    }

    /// For a request that has an id already.
    pub fn tracked(
        tracking_id: uuid::Uuid,
        error_code: u32,
        message: impl Into<String>,
        now: Timestamp,
    ) -> Self {
        let tracking_id = tracking_id.to_string();
        Self { error_code, tracking_id, message: message.into(), timestamp_utc: now.iso7() }
    }
}

/// What register and poll answer.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct OperationView<'a> {
    operation_id: &'a str,
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    registration_state: Option<RegistrationView<'a>>,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RegistrationView<'a> {
    registration_id: &'a str,
    created_date_time_utc: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    assigned_hub: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    device_id: Option<&'a str>,
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    substatus: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error_code: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error_message: Option<String>,
    last_updated_date_time_utc: String,
    etag: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    symmetric_key: Option<GroupView<'a>>,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct GroupView<'a> {
    enrollment_group_id: &'a str,
}

/// Where the one who asks finds the hub of an assignment ([`crate::Service::hub_host`]).
pub type HubHost<'a> = dyn Fn(&Assignment) -> String + 'a;

impl RegistrationOperation {
    pub fn is_over(&self) -> bool {
        !matches!(self.registration.state, RegistrationState::Assigning(_))
    }

    /// As a device of `api_version` reads it; the state comes with the end.
    pub fn view(&self, hub_host: &HubHost<'_>, api_version: &ApiVersion) -> OperationView<'_> {
        let state = self.registration.view_of_device(hub_host, api_version);
        OperationView {
            operation_id: &self.operation_id,
            status: state.status,
            registration_state: self.is_over().then_some(state),
        }
    }
}

impl Registration {
    /// As the device itself reads it, with the group that let it in.
    pub fn view_of_device(&self, hub_host: &HubHost<'_>, api_version: &ApiVersion) -> RegistrationView<'_> {
        let mut view = self.view(hub_host);
        let reprovisioned = Substatus::ReprovisionedToInitialAssignment.name();
        if !api_version.knows_reprovisioned() && view.substatus == Some(reprovisioned) {
            view.substatus = Some(Substatus::InitialAssignment.name());
        }
        view.symmetric_key = match self.enrollment_kind {
            EnrollmentKind::Group => Some(GroupView { enrollment_group_id: self.enrollment_id.as_str() }),
            EnrollmentKind::Individual => None,
        };
        view
    }

    /// As back ends read it: the real substatus, whatever the device was told.
    pub fn view(&self, hub_host: &HubHost<'_>) -> RegistrationView<'_> {
        let mut view = RegistrationView {
            registration_id: self.registration_id.as_str(),
            created_date_time_utc: self.created.iso7(),
            assigned_hub: None,
            device_id: None,
            status: "assigning",
            substatus: None,
            error_code: None,
            error_message: None,
            last_updated_date_time_utc: self.last_updated.iso7(),
            etag: self.etag_text(),
            symmetric_key: None,
        };
        match &self.state {
            RegistrationState::Assigning(_) => {}
            RegistrationState::Assigned { substatus } => {
                view.status = "assigned";
                view.substatus = Some(substatus.name());
                if let Some(assignment) = &self.assignment {
                    view.assigned_hub = Some(hub_host(assignment));
                    view.device_id = Some(assignment.device_id.as_str());
                }
            }
            RegistrationState::Failed { reason } => {
                view.status = "failed";
                view.error_code = Some(reason.code());
                view.error_message = Some(reason.message());
            }
            RegistrationState::Disabled => view.status = "disabled",
        }
        view
    }
}

pub fn check_length(body: &[u8]) -> Result<(), Error> {
    if body.len() > caps::PROVISIONING_MESSAGE_BYTES_MAX { Err(Error::MessageTooLarge) } else { Ok(()) }
}

/// What a device sends along when it registers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RegistrationRequest {
    /// The Plug and Play model that it says to be, in its payload.
    pub model_id: Option<String>,
}

/// Reads a device's request, which must fit its registration. An empty body says nothing; any other is an object, whose payload may be
/// anything.
pub fn read_request(body: &[u8], registration_id: &RegistrationId) -> Result<RegistrationRequest, Error> {
    check_length(body)?;
    if body.iter().all(u8::is_ascii_whitespace) {
        return Ok(RegistrationRequest::default());
    }
    let request: Map<String, Value> = serde_json::from_slice(body)
        .map_err(|_| Error::bad("The registration request is not a JSON object."))?;
    // The service reads names in any case: an id that is spelled otherwise must not count as none.
    let mut ids = request.iter().filter(|(name, _)| name.eq_ignore_ascii_case("registrationId"));
    let is_this_one = |id: &Value| match id {
        Value::Null => true,
        id => id.as_str().is_some_and(|id| registration_id.is_same(id)),
    };
    if !ids.all(|(_, id)| is_this_one(id)) {
        return Err(Error::bad("The registrationId of the body is not the one that was asked for."));
    }
    // What is no model id says nothing, as at the hub.
    let payload = request.iter().find(|(name, _)| name.eq_ignore_ascii_case("payload"));
    let model_id = payload.and_then(|(_, payload)| payload.get("modelId")?.as_str());
    Ok(RegistrationRequest { model_id: model_id.filter(|id| hub::twin::is_model_id(id)).map(str::to_owned) })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn id() -> RegistrationId {
        "Dev-1".parse().unwrap()
    }

    #[test]
    fn every_clients_request_is_taken_and_another_devices_is_not() {
        for body in [
            "",
            " ",
            "{}",
            r#"{"payload":null,"registrationId":"dev-1"}"#,
            r#"{"payload":"text"}"#,
            r#"{"payload":[1,{"a":2}],"tpm":null,"registrationId":null}"#,
        ] {
            assert_eq!(read_request(body.as_bytes(), &id()), Ok(RegistrationRequest::default()), "{body}");
        }
        for body in [
            "{",
            "[]",
            "[null]",
            "1",
            "null",
            r#"{"registrationId":"dev-2"}"#,
            r#"{"registrationId":7}"#,
            r#"{"RegistrationID":"dev-2"}"#,
        ] {
            assert!(read_request(body.as_bytes(), &id()).is_err(), "{body}");
        }
    }

    #[test]
    fn the_model_id_of_a_payload_is_read_and_what_is_none_says_nothing() {
        let of = |payload: &str| {
            let body = format!(r#"{{"registrationId":"dev-1","payload":{payload}}}"#);
            read_request(body.as_bytes(), &id()).unwrap().model_id
        };
        assert_eq!(of(r#"{"modelId":"dtmi:com:example:T;1"}"#).as_deref(), Some("dtmi:com:example:T;1"));
        for payload in ["{}", "[]", r#"{"modelId":7}"#, r#"{"modelId":"T"}"#, r#"{"ModelId":"dtmi:a;1"}"#] {
            assert_eq!(of(payload), None, "{payload}");
        }
    }

    proptest! {
        #[test]
        fn no_body_panics(body in proptest::collection::vec(any::<u8>(), 0..200), text in "\\PC{0,80}") {
            let _ = read_request(&body, &id());
            let _ = read_request(format!("{{\"registrationId\":{text}}}").as_bytes(), &id());
        }
    }
}

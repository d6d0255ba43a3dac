//! Topics that devices publish to (`iothub-device.md` §3.1, §5.1, §6.1; `dps.md` §1.3).

use std::fmt::Write;

use base::ids::IdentityId;

use super::{UnknownTopic, below_identity, identity_path, query_value};

const TWIN_GET: &str = "$iothub/twin/GET/?";
const TWIN_PATCH: &str = "$iothub/twin/PATCH/properties/reported/";
const METHOD_RESPONSE: &str = "$iothub/methods/res/";
const REGISTER: &str = "$dps/registrations/PUT/iotdps-register/?";
const OPERATION_STATUS: &str = "$dps/registrations/GET/iotdps-get-operationstatus/?";

/// What a device says to its hub. Request ids are the device's own, and are given back as they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FromDevice<'a> {
    /// The property bag, not yet parsed.
    Telemetry {
        bag: &'a str,
    },
    GetTwin {
        request_id: &'a str,
    },
    /// Without a request id the patch is applied and not answered. The version is a number, or a fault to be answered.
    PatchReported {
        request_id: Option<&'a str>,
        expected_version: Option<&'a str>,
    },
    /// The status is a number, or the response is of no use.
    MethodResponse {
        status: &'a str,
        request_id: &'a str,
    },
}

impl<'a> FromDevice<'a> {
    /// What `topic` means when `identity` publishes to it. Another identity's topic is as unknown as any.
    pub fn parse(topic: &'a str, identity: &IdentityId) -> Result<Self, UnknownTopic> {
        if let Some(bag) = telemetry_bag(topic, identity) {
            return Ok(Self::Telemetry { bag });
        }
        if let Some(query) = topic.strip_prefix(TWIN_GET) {
            return Ok(Self::GetTwin { request_id: request_id(query).ok_or(UnknownTopic)? });
        }
        if let Some(rest) = topic.strip_prefix(TWIN_PATCH) {
            let query =
                rest.strip_prefix('?').or_else(|| rest.is_empty().then_some("")).ok_or(UnknownTopic)?;
            let expected_version = query_value(query, "$version");
            return Ok(Self::PatchReported { request_id: request_id(query), expected_version });
        }
        let rest = topic.strip_prefix(METHOD_RESPONSE).ok_or(UnknownTopic)?;
        let (status, query) = rest.split_once("/?").ok_or(UnknownTopic)?;
        Ok(Self::MethodResponse { status, request_id: request_id(query).ok_or(UnknownTopic)? })
    }

    /// The topic, as a client writes it.
    pub fn text(&self, identity: &IdentityId) -> String {
        match self {
            Self::Telemetry { bag } => format!("{}/messages/events/{bag}", identity_path(identity)),
            Self::GetTwin { request_id } => format!("{TWIN_GET}$rid={request_id}"),
            Self::PatchReported { request_id, expected_version } => {
                let mut topic = TWIN_PATCH.to_owned();
                let pairs = [("$rid", request_id), ("$version", expected_version)];
                let pairs = pairs.into_iter().filter_map(|(key, value)| value.map(|value| (key, value)));
                for (index, (key, value)) in pairs.enumerate() {
                    let separator = if index == 0 { '?' } else { '&' };
                    write!(topic, "{separator}{key}={value}").expect("a string takes every text");
                }
                topic
            }
            Self::MethodResponse { status, request_id } => {
                format!("{METHOD_RESPONSE}{status}/?$rid={request_id}")
            }
        }
    }
}

/// The bag of a telemetry topic of `identity`; the slash before it may be missing when there is none.
pub fn telemetry_bag<'a>(topic: &'a str, identity: &IdentityId) -> Option<&'a str> {
    let rest = below_identity(topic, identity)?.strip_prefix("messages/events")?;
    if rest.is_empty() { Some(rest) } else { rest.strip_prefix('/') }
}

fn request_id(query: &str) -> Option<&str> {
    query_value(query, "$rid").filter(|request_id| !request_id.is_empty())
}

/// What a device says to the provisioning service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToProvisioning<'a> {
    Register { request_id: &'a str },
    GetOperationStatus { request_id: &'a str, operation_id: &'a str },
}

impl<'a> ToProvisioning<'a> {
    pub fn parse(topic: &'a str) -> Result<Self, UnknownTopic> {
        if let Some(query) = topic.strip_prefix(REGISTER) {
            return Ok(Self::Register { request_id: request_id(query).ok_or(UnknownTopic)? });
        }
        let query = topic.strip_prefix(OPERATION_STATUS).ok_or(UnknownTopic)?;
        let operation_id = query_value(query, "operationId").ok_or(UnknownTopic)?;
        Ok(Self::GetOperationStatus { request_id: request_id(query).ok_or(UnknownTopic)?, operation_id })
    }

    /// The topic, as a client writes it.
    pub fn text(&self) -> String {
        match self {
            Self::Register { request_id } => format!("{REGISTER}$rid={request_id}"),
            Self::GetOperationStatus { request_id, operation_id } => {
                format!("{OPERATION_STATUS}$rid={request_id}&operationId={operation_id}")
            }
        }
    }
}

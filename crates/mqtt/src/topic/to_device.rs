//! Topics that we publish to (`iothub-device.md` §5.1, §6.1; `dps.md` §1.3). Clients pick them apart by hand, each in its own
//! way: `$rid` and `$version` stay literal, `$rid` comes first, a method topic ends with it, and a status has three digits.

use base::ids::IdentityId;

use super::{UnknownTopic, identity_path, query_value};

const TWIN_RESPONSE: &str = "$iothub/twin/res/";
const DESIRED: &str = "$iothub/twin/PATCH/properties/desired/?$version=";
const METHOD: &str = "$iothub/methods/POST/";
const PROVISIONING_RESPONSE: &str = "$dps/registrations/res/";

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToDevice<'a> {
    /// The version comes with an accepted patch only.
    TwinResponse {
        status: u16,
        request_id: &'a str,
        version: Option<u64>,
    },
    DesiredChanged {
        version: u64,
    },
    Method {
        name: &'a str,
        request_id: &'a str,
    },
    ProvisioningResponse {
        status: u16,
        request_id: &'a str,
        retry_after_seconds: Option<u64>,
    },
}

impl<'a> ToDevice<'a> {
    pub fn text(&self) -> String {
        match self {
            Self::TwinResponse { status, request_id, version: None } => {
                format!("{TWIN_RESPONSE}{status:03}/?$rid={request_id}")
            }
            Self::TwinResponse { status, request_id, version: Some(version) } => {
                format!("{TWIN_RESPONSE}{status:03}/?$rid={request_id}&$version={version}")
            }
            Self::DesiredChanged { version } => format!("{DESIRED}{version}"),
            Self::Method { name, request_id } => format!("{METHOD}{name}/?$rid={request_id}"),
            Self::ProvisioningResponse { status, request_id, retry_after_seconds: None } => {
                format!("{PROVISIONING_RESPONSE}{status:03}/?$rid={request_id}")
            }
            Self::ProvisioningResponse { status, request_id, retry_after_seconds: Some(seconds) } => {
                format!("{PROVISIONING_RESPONSE}{status:03}/?$rid={request_id}&retry-after={seconds}")
            }
        }
    }

    /// What a topic from the server means: for clients.
    pub fn parse(topic: &'a str) -> Result<Self, UnknownTopic> {
        if let Some(version) = topic.strip_prefix(DESIRED) {
            return Ok(Self::DesiredChanged { version: version.parse().map_err(|_| UnknownTopic)? });
        }
        if let Some(rest) = topic.strip_prefix(METHOD) {
            let (name, request_id) = rest.split_once("/?$rid=").ok_or(UnknownTopic)?;
            return Ok(Self::Method { name, request_id });
        }
        if let Some(rest) = topic.strip_prefix(TWIN_RESPONSE) {
            let (status, request_id, query) = response(rest)?;
            let version = number(query, "$version")?;
            return Ok(Self::TwinResponse { status, request_id, version });
        }
        let rest = topic.strip_prefix(PROVISIONING_RESPONSE).ok_or(UnknownTopic)?;
        let (status, request_id, query) = response(rest)?;
        let retry_after_seconds = number(query, "retry-after")?;
        Ok(Self::ProvisioningResponse { status, request_id, retry_after_seconds })
    }
}

/// Where an identity is sent messages, with their property bag.
pub fn device_bound(identity: &IdentityId, bag: &str) -> String {
    format!("{}/messages/devicebound/{bag}", identity_path(identity))
}

/// `{status}/?$rid={id}…` as status, request id and the whole query.
fn response(rest: &str) -> Result<(u16, &str, &str), UnknownTopic> {
    let (status, query) = rest.split_once("/?").ok_or(UnknownTopic)?;
    let status = status.parse().map_err(|_| UnknownTopic)?;
    Ok((status, query_value(query, "$rid").ok_or(UnknownTopic)?, query))
}

fn number(query: &str, name: &str) -> Result<Option<u64>, UnknownTopic> {
    query_value(query, name).map(str::parse).transpose().map_err(|_| UnknownTopic)
}

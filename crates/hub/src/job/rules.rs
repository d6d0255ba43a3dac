//! What a job may be, and which devices its condition names. Pure: values in, value out.

use std::collections::BTreeSet;
use std::time::Duration;

use base::{DeviceId, Timestamp, caps};
use query::hub::Condition;
use serde_json::Value;

use super::JobSpec;
use super::record::Action;
use crate::direct_method::{self, MethodRequest};
use crate::error::Error;
use crate::twin::TwinPatch;

/// The devices that a job is for.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Targets {
    All,
    Devices(BTreeSet<DeviceId>),
    Where(Box<Condition>),
}

impl Targets {
    /// A condition that cannot be read is no fault of the request: the job fails by it.
    pub(super) fn parse(condition: Option<&str>) -> Result<Self, String> {
        let text = condition.unwrap_or("*").trim();
        if text == "*" || text.is_empty() {
            return Ok(Self::All);
        }
        let condition = Condition::parse(text).map_err(|error| {
            format!("The queryCondition cannot be read, so no device was touched: {error}")
        })?;
        // An id that no device can have is of none.
        let devices = condition.device_ids().map(|ids| ids.iter().filter_map(|id| id.parse().ok()).collect());
        Ok(devices.map_or_else(|| Self::Where(Box::new(condition)), Self::Devices))
    }
}

/// When the job is to begin, if it may be at all.
pub(super) fn check(spec: &JobSpec, now: Timestamp) -> Result<Timestamp, Error> {
    match &spec.action {
        Action::UpdateTwin { patch } => {
            if patch.get("etag").and_then(Value::as_str) != Some("*") {
                return Err(Error::invalid(ETAG));
            }
            twin_patch(patch)?;
        }
        Action::InvokeMethod { .. } => direct_method::check_request(&method_request(&spec.action)?)?,
    }
    if spec.condition.as_ref().is_some_and(|text| text.chars().count() > caps::QUERY_CHARACTERS_MAX) {
        return Err(Error::invalid("The queryCondition is too long."));
    }
    let start = spec.start.unwrap_or(now).max(now);
    if start > now.plus(Duration::from_secs(caps::JOB_START_SECONDS_MAX)) {
        let hours = caps::JOB_START_SECONDS_MAX / 3600;
        return Err(Error::invalid(format!("startTime must lie within {hours} hours from now.")));
    }
    Ok(start)
}

const ETAG: &str = "Missing or invalid etag for job type ScheduleUpdateTwin. ScheduleUpdateTwin job type is a force update, which only accepts '*' as the Etag.";

pub(super) fn twin_patch(patch: &base::json::Object) -> Result<TwinPatch, Error> {
    TwinPatch::parse(Value::Object(patch.clone()).to_string().as_bytes())
}

/// What a device is asked, of a job that invokes a method.
pub(super) fn method_request(action: &Action) -> Result<MethodRequest, Error> {
    let Action::InvokeMethod { name, payload, connect_timeout_seconds, response_timeout_seconds } = action
    else {
        return Err(Error::BadRequest);
    };
    Ok(MethodRequest {
        name: name.clone(),
        payload: super::record::raw(payload.as_ref())?,
        connect_timeout_seconds: *connect_timeout_seconds,
        response_timeout_seconds: *response_timeout_seconds,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_names_devices_or_all_or_is_wrong() {
        let named = |text: &str| match Targets::parse(Some(text)) {
            Ok(Targets::Devices(ids)) => ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
            other => format!("{other:?}"),
        };
        assert_eq!(Targets::parse(None), Ok(Targets::All));
        assert_eq!(Targets::parse(Some(" * ")), Ok(Targets::All));
        assert_eq!(named("deviceId IN ['b', \"a\",'a']"), "a b");
        assert_eq!(named("DEVICEID in['it''s']"), "it's");
        assert_eq!(named("devices.deviceId = 'x,;'"), "x,;");
        for wrong in [
            "deviceId IN []",
            "deviceId IN ['a'",
            "deviceId IN ['a'] more",
            "deviceId = 'a",
            "deviceId IN ['a',]",
        ] {
            assert!(Targets::parse(Some(wrong)).is_err(), "{wrong}");
        }
        for condition in ["tags.a = 'ü'", "deviceId = 'a' AND tags.b > 1", "NOT deviceId IN ['a']"] {
            assert!(matches!(Targets::parse(Some(condition)), Ok(Targets::Where(_))), "{condition}");
        }
    }
}

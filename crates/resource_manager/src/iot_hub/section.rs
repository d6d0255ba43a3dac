//! Reads one of a hub's sections, member by member, and names what is wrong by its path. Pure.

use std::ops::RangeInclusive;
use std::time::Duration;

use base::caps::{CLOUD_TO_DEVICE_TTL_SECONDS_MAX, CLOUD_TO_DEVICE_TTL_SECONDS_MIN};
use base::iso_duration;
use hub::ServiceBoundQueue;
use serde_json::{Map, Value};

use crate::error::Error;

const DELIVERIES: RangeInclusive<u64> = 1..=100;
pub(super) const TTL_SECONDS: RangeInclusive<u64> =
    CLOUD_TO_DEVICE_TTL_SECONDS_MIN..=CLOUD_TO_DEVICE_TTL_SECONDS_MAX;
const LOCK_SECONDS: RangeInclusive<u64> = 5..=300;

/// Where it stands, for whoever is told what is wrong with it.
pub(super) struct Section<'a> {
    pub(super) path: String,
    value: Option<&'a Value>,
}

impl<'a> Section<'a> {
    pub(super) fn of(sections: &'a Map<String, Value>, name: &str) -> Self {
        Self { path: name.to_owned(), value: sections.get(name) }
    }

    pub(super) fn below(&self, name: &str) -> Section<'a> {
        Section { path: format!("{}.{name}", self.path), value: self.member(name) }
    }

    /// A member that is `null` is not there.
    pub(super) fn member(&self, name: &str) -> Option<&'a Value> {
        self.value?.get(name).filter(|value| !value.is_null())
    }

    pub(super) fn deliveries(&self, default: u32) -> Result<u32, Error> {
        let Some(value) = self.member("maxDeliveryCount") else { return Ok(default) };
        let count = value.as_u64().filter(|count| DELIVERIES.contains(count));
        let count = count.and_then(|count| u32::try_from(count).ok());
        count.ok_or_else(|| {
            let path = &self.path;
            Error::bad_request(format!("The property '{path}.maxDeliveryCount' must be between 1 and 100."))
        })
    }

    pub(super) fn duration(
        &self,
        name: &str,
        default: Duration,
        allowed: RangeInclusive<u64>,
    ) -> Result<Duration, Error> {
        let Some(value) = self.member(name) else { return Ok(default) };
        let duration = value.as_str().and_then(iso_duration::parse);
        duration.filter(|duration| allowed.contains(&duration.as_secs())).ok_or_else(|| {
            let (path, least, most) = (&self.path, allowed.start(), allowed.end());
            Error::bad_request(format!(
                "The property '{path}.{name}' must be an ISO 8601 duration between {least} and {most} seconds."
            ))
        })
    }

    /// What becomes of notices for back ends; what is left out is as in a new hub.
    pub(super) fn queue(&self) -> Result<ServiceBoundQueue, Error> {
        let default = ServiceBoundQueue::default();
        Ok(ServiceBoundQueue {
            lock: self.duration("lockDurationAsIso8601", default.lock, LOCK_SECONDS)?,
            ttl: self.duration("ttlAsIso8601", default.ttl, TTL_SECONDS)?,
            max_delivery_count: self.deliveries(default.max_delivery_count)?,
        })
    }

    /// A text; one that is empty is not there.
    pub(super) fn text(&self, name: &str) -> Result<Option<&'a str>, Error> {
        let Some(value) = self.member(name) else { return Ok(None) };
        let path = &self.path;
        let text = value.as_str();
        let text = text
            .ok_or_else(|| Error::bad_request(format!("The property '{path}.{name}' must be a string.")))?;
        Ok(Some(text).filter(|text| !text.is_empty()))
    }
}

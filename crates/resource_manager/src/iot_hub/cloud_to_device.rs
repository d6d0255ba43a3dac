//! What a hub's section `cloudToDevice` says of messages to devices (`iothub-service.md` §15). The section is shown as it was sent.

use std::time::Duration;

use base::caps::{CLOUD_TO_DEVICE_TTL_SECONDS_MAX, CLOUD_TO_DEVICE_TTL_SECONDS_MIN};
use base::iso_duration;
use hub::{CloudToDevice, Feedback};
use serde_json::{Map, Value};

use super::record::Properties;
use crate::error::Error;

const DELIVERIES: std::ops::RangeInclusive<u64> = 1..=100;
const TTL_SECONDS: std::ops::RangeInclusive<u64> =
    CLOUD_TO_DEVICE_TTL_SECONDS_MIN..=CLOUD_TO_DEVICE_TTL_SECONDS_MAX;
const LOCK_SECONDS: std::ops::RangeInclusive<u64> = 5..=300;

impl Properties {
    /// What the section says; where it says nothing, what a new hub has.
    pub fn cloud_to_device(&self) -> CloudToDevice {
        // It was refused when it was put, if it could be.
        read(&self.sections).unwrap_or_default()
    }
}

/// Refuses a section that no hub would take.
pub(super) fn check(sections: &Map<String, Value>) -> Result<(), Error> {
    read(sections).map(drop)
}

fn read(sections: &Map<String, Value>) -> Result<CloudToDevice, Error> {
    let default = CloudToDevice::default();
    let section = Section { path: "cloudToDevice".to_owned(), value: sections.get("cloudToDevice") };
    let feedback = section.below("feedback");
    Ok(CloudToDevice {
        max_delivery_count: section.deliveries(default.max_delivery_count)?,
        default_ttl: section.duration("defaultTtlAsIso8601", default.default_ttl, TTL_SECONDS)?,
        feedback: Feedback {
            lock: feedback.duration("lockDurationAsIso8601", default.feedback.lock, LOCK_SECONDS)?,
            ttl: feedback.duration("ttlAsIso8601", default.feedback.ttl, TTL_SECONDS)?,
            max_delivery_count: feedback.deliveries(default.feedback.max_delivery_count)?,
        },
    })
}

struct Section<'a> {
    path: String,
    value: Option<&'a Value>,
}

impl<'a> Section<'a> {
    fn below(&self, name: &str) -> Section<'a> {
        Section { path: format!("{}.{name}", self.path), value: self.member(name) }
    }

    /// A member that is `null` is not there.
    fn member(&self, name: &str) -> Option<&'a Value> {
        self.value?.get(name).filter(|value| !value.is_null())
    }

    fn deliveries(&self, default: u32) -> Result<u32, Error> {
        let Some(value) = self.member("maxDeliveryCount") else { return Ok(default) };
        let count = value.as_u64().filter(|count| DELIVERIES.contains(count));
        let count = count.and_then(|count| u32::try_from(count).ok());
        count.ok_or_else(|| {
            let path = &self.path;
            Error::bad_request(format!("The property '{path}.maxDeliveryCount' must be between 1 and 100."))
        })
    }

    fn duration(
        &self,
        name: &str,
        default: Duration,
        allowed: std::ops::RangeInclusive<u64>,
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
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(section: Value) -> Result<CloudToDevice, Error> {
        read(&Map::from_iter([("cloudToDevice".to_owned(), section)]))
    }

    #[test]
    fn what_is_left_out_is_as_of_a_new_hub() {
        assert_eq!(read(&Map::new()).unwrap(), CloudToDevice::default());
        let said =
            of(json!({"maxDeliveryCount": 3, "feedback": {"ttlAsIso8601": "P1D", "maxDeliveryCount": null}}))
                .unwrap();
        assert_eq!((said.max_delivery_count, said.default_ttl), (3, Duration::from_hours(1)));
        assert_eq!((said.feedback.ttl, said.feedback.max_delivery_count), (Duration::from_hours(24), 10));
    }

    #[test]
    fn what_no_hub_takes_is_refused_by_name() {
        for (section, path) in [
            (json!({"maxDeliveryCount": 0}), "cloudToDevice.maxDeliveryCount"),
            (json!({"maxDeliveryCount": "3"}), "cloudToDevice.maxDeliveryCount"),
            (json!({"defaultTtlAsIso8601": "PT59S"}), "cloudToDevice.defaultTtlAsIso8601"),
            (json!({"defaultTtlAsIso8601": "P3D"}), "cloudToDevice.defaultTtlAsIso8601"),
            (
                json!({"feedback": {"lockDurationAsIso8601": "an hour"}}),
                "cloudToDevice.feedback.lockDurationAsIso8601",
            ),
        ] {
            let refused = of(section).unwrap_err().to_string();
            assert!(refused.contains(&format!("'{path}'")), "{refused}");
        }
    }
}

//! What a hub's section `cloudToDevice` says of messages to devices (`iothub-service.md` §15). The section is shown as it was sent.

use hub::CloudToDevice;
use serde_json::{Map, Value};

use super::record::Properties;
use super::section::{Section, TTL_SECONDS};
use crate::error::Error;

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
    let section = Section::of(sections, "cloudToDevice");
    Ok(CloudToDevice {
        max_delivery_count: section.deliveries(default.max_delivery_count)?,
        default_ttl: section.duration("defaultTtlAsIso8601", default.default_ttl, TTL_SECONDS)?,
        feedback: section.below("feedback").queue()?,
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

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

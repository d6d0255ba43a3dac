//! What Resource Manager counts of hubs: their registry, their quotas, and what a subscription uses. Read from counters and from the
//! ends of streams, so that a million devices cost no more than one.

use access::Caller;
use base::{Timestamp, caps};
use hub::device::RegistryStatistics;
use store::{Find, Key};

use super::record::Sku;
use super::{properties, rules};
use crate::ResourceManager;
use crate::error::Error;
use crate::id::ResourceId;
use crate::provider::ResourceType;
use crate::resource::{Properties, Resource};
use crate::subscription;

const SECONDS_OF_DAY: i64 = 24 * 3600;
/// Free hubs of a subscription (IoT Hub quotas).
const FREE_HUBS: u64 = 1;

/// How much of something a hub has used, and may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    pub name: &'static str,
    pub current: u64,
    pub max: u64,
}

/// The same of a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    pub name: &'static str,
    pub display_name: &'static str,
    pub current: u64,
    pub limit: u64,
}

impl ResourceManager {
    /// `IotHubResource_GetStats`.
    pub async fn registry_statistics(
        &self,
        caller: &Caller,
        id: &ResourceId,
    ) -> Result<RegistryStatistics, Error> {
        const READ: &str = "Microsoft.Devices/iotHubs/iotHubStats/Read";
        self.allow(caller, READ, &id.scope(), &id.group.subscription).await?;
        let hub = self.hub_of(&self.must_get(id).await?).await?;
        hub.registry_counts().await.map_err(|error| unavailable(&error))
    }

    /// `IotHubResource_GetQuotaMetrics`. Messages are those of this day, which begins at midnight UTC.
    pub async fn quotas(&self, caller: &Caller, id: &ResourceId) -> Result<[Quota; 2], Error> {
        const READ: &str = "Microsoft.Devices/iotHubs/quotaMetrics/Read";
        self.allow(caller, READ, &id.scope(), &id.group.subscription).await?;
        let resource = self.must_get(id).await?;
        let hub = self.hub_of(&resource).await?;
        let today = hub.now().unix_seconds().div_euclid(SECONDS_OF_DAY) * SECONDS_OF_DAY;
        let messages = hub.events_since(Timestamp::from_unix_seconds(today)).await;
        let devices = hub.device_count().await.map_err(|error| unavailable(&error))?;
        let sku = &properties(&resource)?.sku;
        Ok([
            Quota {
                name: "TotalMessages",
                current: messages.map_err(|error| unavailable(&error))?,
                max: messages_of_day(sku),
            },
            Quota {
                name: "TotalDeviceCount",
                current: devices.unsigned_abs(),
                max: caps::DEVICES_PER_HUB_MAX.unsigned_abs(),
            },
        ])
    }

    /// `ResourceProviderCommon_GetSubscriptionQuota`.
    pub async fn hub_usages(&self, caller: &Caller, subscription: &str) -> Result<Vec<Usage>, Error> {
        const READ: &str = "Microsoft.Devices/usages/Read";
        self.allow(caller, READ, &subscription::scope(subscription), subscription).await?;
        let is_free = |hub: &&Resource| match &hub.properties {
            Properties::IotHub(own) => rules::tier(&own.sku.name) == "Free",
            _ => false,
        };
        let hubs = self.hubs_of_subscription(subscription).await?;
        let current = hubs.iter().filter(is_free).count() as u64;
        let (name, display_name) = ("FreeHubCount", "Free Hub Count");
        Ok(vec![Usage { name, display_name, current, limit: FREE_HUBS }])
    }

    async fn hubs_of_subscription(&self, subscription: &str) -> Result<Vec<Resource>, Error> {
        let kind = ResourceType::IotHub.full_name().to_ascii_lowercase();
        let prefix = Key::new([subscription.to_ascii_lowercase()]);
        let mut all: Vec<Resource> = Vec::new();
        loop {
            let after = all.last().map(|last| last.id.key());
            let find =
                Find::new(prefix.clone(), "resource_type", kind.clone(), caps::RESOURCE_PAGE).after(after);
            let found = self.store.find::<Resource>(find).await?;
            if found.is_empty() {
                return Ok(all);
            }
            all.extend(found.into_iter().map(|stored| stored.record));
        }
    }
}

/// Messages that a hub of this edition takes in a day (IoT Hub quotas).
fn messages_of_day(sku: &Sku) -> u64 {
    let of_unit: u64 = match sku.name.as_str() {
        "F1" => 8_000,
        "B2" | "S2" => 6_000_000,
        "B3" | "S3" => 300_000_000,
        _ => 400_000,
    };
    of_unit * u64::from(sku.capacity)
}

/// A hub that counts refuses nothing: its store failed, or it is being removed.
fn unavailable(error: &hub::Error) -> Error {
    Error::Store(store::StoreError::Unavailable(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_of_a_day_grow_with_the_units() {
        let of = |name: &str, capacity| messages_of_day(&Sku { name: name.into(), capacity });
        assert_eq!(
            [of("F1", 1), of("S1", 2), of("B2", 1), of("S3", 10)],
            [8_000, 800_000, 6_000_000, 3_000_000_000]
        );
    }
}

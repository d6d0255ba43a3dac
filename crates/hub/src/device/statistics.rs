//! Counts of the registry, of connections and of messages. Read from counters and from the ends of the stream, never by counting
//! records.

use access::{Caller, Permission};
use base::{Meter, Timestamp};
use store::{Position, StoreError};

use crate::error::Error;
use crate::hub::Hub;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RegistryStatistics {
    pub total_devices: i64,
    pub enabled_devices: i64,
    pub disabled_devices: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServiceStatistics {
    pub connected_devices: u64,
}

impl Hub {
    /// Registered devices, for whoever runs the server.
    pub async fn device_count(&self) -> Result<i64, Error> {
        Ok(self.store().counter(&self.devices()).await?)
    }

    /// `Statistics_GetDeviceStatistics`.
    pub async fn registry_statistics(&self, caller: &Caller) -> Result<RegistryStatistics, Error> {
        caller.require(Permission::HubStatisticsRead, self.scope())?;
        self.charge(Meter::RegistryRead)?;
        self.registry_counts().await
    }

    /// For Resource Manager, which asks whether the caller may.
    pub async fn registry_counts(&self) -> Result<RegistryStatistics, Error> {
        let total_devices = self.store().counter(&self.devices()).await?;
        let disabled_devices = self.store().counter(&self.disabled_devices()).await?;
        let enabled_devices = total_devices - disabled_devices;
        Ok(RegistryStatistics { total_devices, enabled_devices, disabled_devices })
    }

    /// `Statistics_GetServiceStatistics`.
    pub async fn service_statistics(&self, caller: &Caller) -> Result<ServiceStatistics, Error> {
        caller.require(Permission::HubConnectionStatisticsRead, self.scope())?;
        self.charge(Meter::ServiceOperation)?;
        Ok(ServiceStatistics { connected_devices: self.connected_devices().await? })
    }

    /// What came into the built-in endpoint at `from` or later and is still kept. As many reads as there are partitions.
    pub async fn events_since(&self, from: Timestamp) -> Result<u64, Error> {
        let (streams, stream) = (self.streams(), self.event_stream());
        let mut total = 0;
        for partition in 0..self.partition_count() {
            let end = streams.partition(stream, partition).await?.next_sequence;
            let first = match streams.read(stream, partition, Position::Time(from), 1).await {
                Ok(found) => found.first().map_or(end, |record| record.sequence),
                // What the disk lost came in all the same.
                Err(StoreError::Lost(lost)) => lost.first_sequence,
                Err(error) => return Err(error.into()),
            };
            total += end.saturating_sub(first);
        }
        Ok(total)
    }
}

//! Counts of the registry and of connections. Read from counters, never by counting records.

use access::{Caller, Permission};
use base::Meter;

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
}

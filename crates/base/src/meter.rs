//! The throttle hook: every operation names what it consumes before it does anything.

use std::sync::Arc;
use std::time::Duration;

use crate::ids::InstanceId;

/// What an operation is counted as; the names follow the services' throttling tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Meter {
    RegistryRead,
    RegistryWrite,
    TwinRead,
    TwinUpdate,
    DirectMethod,
    DeviceConnect,
    DeviceToCloud,
    Query,
    ServiceOperation,
    DeviceRegistration,
    DeviceRegistrationPoll,
    ModelOperation,
    DigitalTwinRead,
    DigitalTwinWrite,
    EventRoute,
    ManagementRead,
    ManagementWrite,
}

/// Refused for now; the caller may try again after the given time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("throttled for {retry_after:?}")]
pub struct Throttled {
    pub retry_after: Duration,
}

/// Decides whether an instance may consume once more.
pub trait Limits: Send + Sync {
    fn charge(&self, meter: Meter, instance: &InstanceId) -> Result<(), Throttled>;
}

/// The hook that operations call. Unlimited unless limits are given: a self-hosted server throttles nobody by default.
#[derive(Clone, Default)]
pub struct Throttle(Option<Arc<dyn Limits>>);

impl Throttle {
    pub fn unlimited() -> Self {
        Self(None)
    }

    pub fn with(limits: Arc<dyn Limits>) -> Self {
        Self(Some(limits))
    }

    pub fn charge(&self, meter: Meter, instance: &InstanceId) -> Result<(), Throttled> {
        self.0.as_ref().map_or(Ok(()), |limits| limits.charge(meter, instance))
    }
}

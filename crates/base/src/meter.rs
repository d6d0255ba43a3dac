//! The throttle hook: every operation names what it consumes before it does anything.

use std::sync::Arc;
use std::time::Duration;

use crate::ids::InstanceId;
use crate::measure::Count;

/// What an operation is counted as; the names follow the services' throttling tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Meter {
    RegistryRead,
    RegistryWrite,
    TwinRead,
    TwinUpdate,
    DirectMethod,
    CloudToDevice,
    DeviceConnect,
    DeviceToCloud,
    FileUpload,
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

impl Meter {
    pub const ALL: &[Self] = &[
        Self::RegistryRead,
        Self::RegistryWrite,
        Self::TwinRead,
        Self::TwinUpdate,
        Self::DirectMethod,
        Self::CloudToDevice,
        Self::DeviceConnect,
        Self::DeviceToCloud,
        Self::FileUpload,
        Self::Query,
        Self::ServiceOperation,
        Self::DeviceRegistration,
        Self::DeviceRegistrationPoll,
        Self::ModelOperation,
        Self::DigitalTwinRead,
        Self::DigitalTwinWrite,
        Self::EventRoute,
        Self::ManagementRead,
        Self::ManagementWrite,
    ];

    /// As `/metrics` spells it.
    pub fn name(self) -> &'static str {
        match self {
            Self::RegistryRead => "registry_read",
            Self::RegistryWrite => "registry_write",
            Self::TwinRead => "twin_read",
            Self::TwinUpdate => "twin_update",
            Self::DirectMethod => "direct_method",
            Self::CloudToDevice => "cloud_to_device",
            Self::DeviceConnect => "device_connect",
            Self::DeviceToCloud => "device_to_cloud",
            Self::FileUpload => "file_upload",
            Self::Query => "query",
            Self::ServiceOperation => "service_operation",
            Self::DeviceRegistration => "device_registration",
            Self::DeviceRegistrationPoll => "device_registration_poll",
            Self::ModelOperation => "model_operation",
            Self::DigitalTwinRead => "digital_twin_read",
            Self::DigitalTwinWrite => "digital_twin_write",
            Self::EventRoute => "event_route",
            Self::ManagementRead => "management_read",
            Self::ManagementWrite => "management_write",
        }
    }
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
/// Clones share what they count.
#[derive(Clone, Default)]
pub struct Throttle {
    limits: Option<Arc<dyn Limits>>,
    /// How often each meter was refused.
    refused: Arc<[Count; Meter::ALL.len()]>,
}

impl Throttle {
    pub fn unlimited() -> Self {
        Self::default()
    }

    pub fn with(limits: Arc<dyn Limits>) -> Self {
        Self { limits: Some(limits), ..Self::default() }
    }

    pub fn charge(&self, meter: Meter, instance: &InstanceId) -> Result<(), Throttled> {
        let Some(limits) = &self.limits else { return Ok(()) };
        limits.charge(meter, instance).inspect_err(|_| self.refused[meter as usize].add(1))
    }

    /// How often each meter was refused since the start.
    pub fn refused(&self) -> impl Iterator<Item = (Meter, u64)> + '_ {
        Meter::ALL.iter().map(|meter| (*meter, self.refused[*meter as usize].get()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Nobody;

    impl Limits for Nobody {
        fn charge(&self, meter: Meter, _: &InstanceId) -> Result<(), Throttled> {
            let retry_after = Duration::from_secs(1);
            if meter == Meter::Query { Err(Throttled { retry_after }) } else { Ok(()) }
        }
    }

    #[test]
    fn what_is_refused_is_counted_by_its_meter() {
        let throttle = Throttle::with(Arc::new(Nobody));
        let instance = InstanceId::from_stored("i");
        for meter in Meter::ALL {
            assert_eq!(throttle.clone().charge(*meter, &instance).is_err(), *meter == Meter::Query);
        }
        let refused: Vec<_> = throttle.refused().filter(|(_, count)| *count > 0).collect();
        assert_eq!(refused, [(Meter::Query, 1)]);
        assert!(Meter::ALL.iter().enumerate().all(|(at, meter)| *meter as usize == at));
    }
}

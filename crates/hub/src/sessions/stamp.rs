//! What the hub writes into every message of one connection, encoded once.

use base::ids::IdentityId;
use events::headers::{self, SystemProperty};
use events::stream::partition_of;

use crate::authentication::DeviceAuthentication;

#[derive(Clone, Debug)]
pub(crate) struct Stamp {
    pub(crate) headers: Vec<u8>,
    pub(crate) device_id: String,
    pub(crate) partition: u32,
}

impl Stamp {
    pub(crate) fn of(
        authentication: &DeviceAuthentication,
        model_id: Option<&str>,
        partition_count: u32,
    ) -> Self {
        let IdentityId { device_id, module_id } = &authentication.identity;
        let mut headers = headers::begin();
        let mut push = |property, value: &str| headers::push_system(&mut headers, property, value);
        push(SystemProperty::ConnectionDeviceId, device_id.as_str());
        if let Some(module_id) = module_id {
            push(SystemProperty::ConnectionModuleId, module_id.as_str());
        }
        push(SystemProperty::ConnectionAuthGenerationId, &authentication.generation_id);
        push(SystemProperty::ConnectionAuthMethod, &authentication.auth_method);
        push(SystemProperty::MessageSource, "Telemetry");
        if let Some(model_id) = model_id {
            push(SystemProperty::DataSchema, model_id);
        }
        let device_id = device_id.as_str().to_owned();
        Self { headers, partition: partition_of(&device_id, partition_count), device_id }
    }
}

//! The names that official samples read beside those of the contract. Whose samples, is said at each; one value has many names.

use super::{HubFacts, ProvisioningFacts};

type Named<const N: usize> = [(&'static str, String); N];

/// Of a hub: the samples of azure-sdk-for-c, and of the event hub SDKs for the hub's built-in endpoint.
pub(super) fn for_hub(hub: &HubFacts) -> Named<10> {
    let connection = hub.event_hub_connection_string();
    [
        ("AZ_IOT_HUB_HOSTNAME", hub.host_name.clone()),
        // azure-sdk-for-python, sdk/eventhub.
        ("EVENT_HUB_CONN_STR", connection.clone()),
        ("EVENT_HUB_NAME", hub.event_hub_path.clone()),
        ("EVENT_HUB_HOSTNAME", hub.event_hub_host.clone()),
        ("EVENT_HUB_SAS_POLICY", hub.service_key_name.clone()),
        ("EVENT_HUB_SAS_KEY", hub.service_key.clone()),
        // JavaScript and Go, beside EVENTHUB_CONNECTION_STRING.
        ("EVENTHUB_NAME", hub.event_hub_path.clone()),
        // The builders of the Java SDK; then what many guides say.
        ("AZURE_EVENT_HUBS_CONNECTION_STRING", connection.clone()),
        ("AZURE_EVENT_HUB_CONNECTION_STRING", connection),
        ("AZURE_EVENT_HUB_NAME", hub.event_hub_path.clone()),
    ]
}

/// Of a provisioning service: the device samples of every IoT SDK read the first two, those of azure-sdk-for-c and older ones of C#
/// and Java the others.
pub(super) fn for_provisioning(provisioning: &ProvisioningFacts) -> Named<4> {
    let id_scope = || provisioning.id_scope.clone();
    [
        ("IOTHUB_DEVICE_DPS_ENDPOINT", provisioning.device_host.clone()),
        ("IOTHUB_DEVICE_DPS_ID_SCOPE", id_scope()),
        ("AZ_IOT_PROVISIONING_ID_SCOPE", id_scope()),
        ("DPS_IDSCOPE", id_scope()),
    ]
}

/// Of a device of the default hub, which connects with what the hub's registry tells.
pub(crate) fn for_device(device_id: &str, key: &str, connection_string: &str) -> Named<6> {
    [
        ("IOTHUB_DEVICE_CONNECTION_STRING", connection_string.to_owned()),
        // Older samples of C#.
        ("IOTHUB_DEVICE_CONN_STRING", connection_string.to_owned()),
        ("IOTHUB_DEVICE_ID", device_id.to_owned()),
        // Plug and Play samples of every language choose by it.
        ("IOTHUB_DEVICE_SECURITY_TYPE", "connectionString".to_owned()),
        ("AZ_IOT_HUB_SAS_DEVICE_ID", device_id.to_owned()),
        ("AZ_IOT_HUB_SAS_KEY", key.to_owned()),
    ]
}

/// Of a device that is to register through provisioning, with its own key: that of its enrollment, or derived from its group's.
pub(crate) fn for_registration(registration_id: &str, key: &str) -> Named<7> {
    [
        ("PROVISIONING_REGISTRATION_ID", registration_id.to_owned()),
        ("PROVISIONING_SYMMETRIC_KEY", key.to_owned()),
        ("IOTHUB_DEVICE_SECURITY_TYPE", "DPS".to_owned()),
        ("IOTHUB_DEVICE_DPS_DEVICE_ID", registration_id.to_owned()),
        ("IOTHUB_DEVICE_DPS_DEVICE_KEY", key.to_owned()),
        ("AZ_IOT_PROVISIONING_SAS_REGISTRATION_ID", registration_id.to_owned()),
        ("AZ_IOT_PROVISIONING_SAS_KEY", key.to_owned()),
    ]
}

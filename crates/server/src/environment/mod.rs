//! The variables that point clients at a server (`design.md` §2, and what official samples read), and in [`format`] the ways to
//! write them. Made by `serve`, printed by `twinhub env`, given to the command of `twinhub run`. Pure.

mod format;
mod sample;

use std::collections::BTreeMap;

pub(crate) use format::{Recipe, masks, shell_word, unset, write};
pub(crate) use sample::{for_device, for_registration};

/// Every name that [`variables`] may give.
const NAMES: &[&str] = &[
    // `design.md` §2, in its order.
    "AZURE_AUTHORITY_HOST",
    "AZURE_TENANT_ID",
    "AZURE_CLIENT_ID",
    "AZURE_CLIENT_SECRET",
    "AZURE_SUBSCRIPTION_ID",
    "AZURE_RESOURCE_GROUP",
    "AZURE_RESOURCE_MANAGER_ENDPOINT",
    "AZURE_RESOURCE_MANAGER_AUDIENCE",
    "ARM_CLOUD_METADATA_URL",
    "ARM_TENANT_ID",
    "ARM_CLIENT_ID",
    "ARM_CLIENT_SECRET",
    "ARM_SUBSCRIPTION_ID",
    "ARM_METADATA_HOSTNAME",
    "IOTHUB_HOSTNAME",
    "IOTHUB_CONNECTION_STRING",
    "EVENTHUB_CONNECTION_STRING",
    "PROVISIONING_HOST",
    "PROVISIONING_IDSCOPE",
    "PROVISIONING_CONNECTION_STRING",
    "AZURE_DIGITALTWINS_URL",
    "AZURE_URL",
    "TWINHUB_CA_FILE",
    "SSL_CERT_FILE",
    "REQUESTS_CA_BUNDLE",
    "NODE_EXTRA_CA_CERTS",
    // Of the default storage account: `az storage` and the samples of every SDK.
    "AZURE_STORAGE_CONNECTION_STRING",
    // Of our own clients, and of curl.
    "TWINHUB_MQTT_PORT",
    "CURL_CA_BUNDLE",
    // What samples read.
    "ADT_SERVICE_URL",
    "AZ_IOT_DEVICE_X509_TRUST_PEM_FILE_PATH",
    "AZ_IOT_HUB_HOSTNAME",
    "AZ_IOT_PROVISIONING_ID_SCOPE",
    "AZURE_EVENT_HUB_CONNECTION_STRING",
    "AZURE_EVENT_HUB_NAME",
    "AZURE_EVENT_HUBS_CONNECTION_STRING",
    "DPS_IDSCOPE",
    "EVENT_HUB_CONN_STR",
    "EVENT_HUB_HOSTNAME",
    "EVENT_HUB_NAME",
    "EVENT_HUB_SAS_KEY",
    "EVENT_HUB_SAS_POLICY",
    "EVENTHUB_NAME",
    "IOTHUB_DEVICE_DPS_ENDPOINT",
    "IOTHUB_DEVICE_DPS_ID_SCOPE",
];

/// What the variables are made of.
pub(crate) struct Facts {
    /// `https://host[:port]` of Resource Manager and Entra.
    pub(crate) base_url: String,
    /// `host[:port]` of the same.
    pub(crate) base_host: String,
    pub(crate) tenant_id: String,
    pub(crate) client_id: String,
    pub(crate) client_secret: String,
    pub(crate) subscription_id: String,
    pub(crate) resource_group: String,
    pub(crate) mqtt_port: u16,
    pub(crate) hub: Option<HubFacts>,
    pub(crate) provisioning: Option<ProvisioningFacts>,
    /// `https://host[:port]` of the Digital Twins instance.
    pub(crate) digital_twins_url: Option<String>,
    pub(crate) storage: Option<StorageFacts>,
    pub(crate) ca_file: String,
    pub(crate) ca_bundle: String,
}

pub(crate) struct HubFacts {
    /// Devices' clients take no port with it.
    pub(crate) host_name: String,
    /// `host[:port]` of the service's HTTPS API.
    pub(crate) service_host: String,
    pub(crate) owner_key: String,
    pub(crate) service_key_name: String,
    pub(crate) service_key: String,
    pub(crate) event_hub_host: String,
    pub(crate) event_hub_path: String,
}

pub(crate) struct StorageFacts {
    pub(crate) account: String,
    pub(crate) key: String,
    /// `https://host[:port]`, with the account behind it where the host is an address.
    pub(crate) blob_endpoint: String,
}

pub(crate) struct ProvisioningFacts {
    /// Devices' clients take no port with it.
    pub(crate) device_host: String,
    /// `host[:port]` of the service's HTTPS API.
    pub(crate) service_host: String,
    pub(crate) id_scope: String,
    pub(crate) owner_key: String,
}

/// The variables. What does not exist any more, such as a removed default hub, is left out.
pub(crate) fn variables(facts: &Facts) -> BTreeMap<String, String> {
    let base = &facts.base_url;
    let mut all = vec![
        ("AZURE_AUTHORITY_HOST", base.clone()),
        // The word makes every MSAL skip its question to Microsoft's hosts whether ours may be trusted.
        ("AZURE_TENANT_ID", "adfs".to_owned()),
        ("AZURE_CLIENT_ID", facts.client_id.clone()),
        ("AZURE_CLIENT_SECRET", facts.client_secret.clone()),
        ("AZURE_SUBSCRIPTION_ID", facts.subscription_id.clone()),
        ("AZURE_RESOURCE_GROUP", facts.resource_group.clone()),
        ("AZURE_RESOURCE_MANAGER_ENDPOINT", base.clone()),
        ("AZURE_RESOURCE_MANAGER_AUDIENCE", base.clone()),
        ("ARM_CLOUD_METADATA_URL", format!("{base}/metadata/endpoints?api-version=2019-05-01")),
        ("ARM_TENANT_ID", facts.tenant_id.clone()),
        ("ARM_CLIENT_ID", facts.client_id.clone()),
        ("ARM_CLIENT_SECRET", facts.client_secret.clone()),
        ("ARM_SUBSCRIPTION_ID", facts.subscription_id.clone()),
        ("ARM_METADATA_HOSTNAME", facts.base_host.clone()),
        ("TWINHUB_MQTT_PORT", facts.mqtt_port.to_string()),
        ("TWINHUB_CA_FILE", facts.ca_file.clone()),
        ("SSL_CERT_FILE", facts.ca_bundle.clone()),
        ("REQUESTS_CA_BUNDLE", facts.ca_bundle.clone()),
        ("NODE_EXTRA_CA_CERTS", facts.ca_bundle.clone()),
        ("CURL_CA_BUNDLE", facts.ca_bundle.clone()),
        ("AZ_IOT_DEVICE_X509_TRUST_PEM_FILE_PATH", facts.ca_file.clone()),
    ];
    if let Some(hub) = &facts.hub {
        all.extend(hub.variables());
        all.extend(sample::for_hub(hub));
    }
    if let Some(provisioning) = &facts.provisioning {
        all.extend(provisioning.variables());
        all.extend(sample::for_provisioning(provisioning));
    }
    if let Some(url) = &facts.digital_twins_url {
        let names = ["AZURE_DIGITALTWINS_URL", "AZURE_URL", "ADT_SERVICE_URL"];
        all.extend(names.map(|name| (name, url.clone())));
    }
    if let Some(storage) = &facts.storage {
        all.push(("AZURE_STORAGE_CONNECTION_STRING", storage.connection_string()));
    }
    all.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

impl StorageFacts {
    fn connection_string(&self) -> String {
        let Self { account, key, blob_endpoint } = self;
        format!(
            "DefaultEndpointsProtocol=https;AccountName={account};AccountKey={key};BlobEndpoint={blob_endpoint}"
        )
    }
}

impl HubFacts {
    fn variables(&self) -> [(&'static str, String); 3] {
        let Self { host_name, service_host, owner_key, .. } = self;
        [
            ("IOTHUB_HOSTNAME", host_name.clone()),
            (
                "IOTHUB_CONNECTION_STRING",
                format!(
                    "HostName={service_host};SharedAccessKeyName=iothubowner;SharedAccessKey={owner_key}"
                ),
            ),
            ("EVENTHUB_CONNECTION_STRING", self.event_hub_connection_string()),
        ]
    }

    fn event_hub_connection_string(&self) -> String {
        let Self { service_key_name, service_key, event_hub_host, event_hub_path, .. } = self;
        format!(
            "Endpoint=sb://{event_hub_host}/;SharedAccessKeyName={service_key_name};SharedAccessKey={service_key};EntityPath={event_hub_path}"
        )
    }
}

impl ProvisioningFacts {
    fn variables(&self) -> [(&'static str, String); 3] {
        let Self { device_host, service_host, id_scope, owner_key } = self;
        [
            ("PROVISIONING_HOST", device_host.clone()),
            ("PROVISIONING_IDSCOPE", id_scope.clone()),
            (
                "PROVISIONING_CONNECTION_STRING",
                format!(
                    "HostName={service_host};SharedAccessKeyName=provisioningserviceowner;SharedAccessKey={owner_key}"
                ),
            ),
        ]
    }
}

#[cfg(test)]
mod tests;

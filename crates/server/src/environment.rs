//! The variables that point clients at a server (`design.md` §2) and the four ways to write them.
//! Made by `serve`, printed by `twinhub env`. Pure.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::commands::env::Format;

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
    ];
    if let Some(hub) = &facts.hub {
        all.extend(hub.variables());
    }
    if let Some(provisioning) = &facts.provisioning {
        all.extend(provisioning.variables());
    }
    if let Some(url) = &facts.digital_twins_url {
        all.extend([("AZURE_DIGITALTWINS_URL", url.clone()), ("AZURE_URL", url.clone())]);
    }
    all.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

impl HubFacts {
    fn variables(&self) -> [(&'static str, String); 3] {
        let Self { host_name, service_host, owner_key, service_key_name, .. } = self;
        let Self { service_key, event_hub_host, event_hub_path, .. } = self;
        [
            ("IOTHUB_HOSTNAME", host_name.clone()),
            (
                "IOTHUB_CONNECTION_STRING",
                format!(
                    "HostName={service_host};SharedAccessKeyName=iothubowner;SharedAccessKey={owner_key}"
                ),
            ),
            (
                "EVENTHUB_CONNECTION_STRING",
                format!(
                    "Endpoint=sb://{event_hub_host}/;SharedAccessKeyName={service_key_name};SharedAccessKey={service_key};EntityPath={event_hub_path}"
                ),
            ),
        ]
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

pub(crate) fn write(variables: &BTreeMap<String, String>, tenant_id: &str, format: Format) -> String {
    let mut out = String::new();
    match format {
        Format::Json => {
            out = serde_json::to_string_pretty(variables).expect("strings are plain data");
            out.push('\n');
        }
        Format::Shell => {
            for (name, value) in variables {
                let _ = writeln!(out, "export {name}={}", shell_quoted(value));
            }
        }
        Format::Dotenv => {
            for (name, value) in variables {
                let _ = writeln!(out, "{name}={}", dotenv_quoted(value));
            }
        }
        Format::Az => out = az(variables, tenant_id),
    }
    out
}

/// Single quotes keep everything but themselves.
fn shell_quoted(value: &str) -> String {
    format!("'{}'", value.replace('\'', r"'\''"))
}

/// [`shell_quoted`] where that is needed: plain ids and paths read better without.
pub(crate) fn shell_word(value: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._/:@%+,".contains(&byte);
    if !value.is_empty() && value.bytes().all(is_plain) { value.to_owned() } else { shell_quoted(value) }
}

/// Double quotes, in which dotenv readers know these escapes; `$` would be expanded by some.
fn dotenv_quoted(value: &str) -> String {
    if value.contains(['$', '`']) && !value.contains('\'') {
        return format!("'{value}'");
    }
    format!("\"{}\"", value.replace('\\', r"\\").replace('"', "\\\"").replace('\n', "\\n"))
}

/// Commands for a shell with the Azure CLI (`arm-and-auth.md` §5.3). The authority ends in `adfs`, for which the CLI asks no
/// host of Microsoft's whether ours may be trusted, so that nothing need be remembered in later shells but the trust. A cloud
/// that an earlier server registered is pointed at this one. The name is not `AzureCloud`, which belongs to the CLI.
fn az(variables: &BTreeMap<String, String>, tenant_id: &str) -> String {
    let value = |name: &str| shell_quoted(variables.get(name).map_or("", String::as_str));
    let tenant = shell_quoted(tenant_id);
    let base_url = variables.get("AZURE_AUTHORITY_HOST").map_or("", String::as_str);
    let authority = shell_quoted(&format!("{base_url}/adfs"));
    format!(
        "export REQUESTS_CA_BUNDLE={bundle}\n\
         export SSL_CERT_FILE={bundle}\n\
         export AZURE_CORE_COLLECT_TELEMETRY=false\n\
         if az cloud show --name twinhub >/dev/null 2>&1; then twinhub_verb=update; else twinhub_verb=register; fi\n\
         az cloud \"$twinhub_verb\" --name twinhub --endpoint-resource-manager {endpoint} --endpoint-active-directory {authority}\n\
         az cloud set --name twinhub\n\
         az login --service-principal --username {client} --password {secret} --tenant {tenant}\n\
         az account set --subscription {subscription}\n",
        bundle = value("REQUESTS_CA_BUNDLE"),
        endpoint = value("AZURE_RESOURCE_MANAGER_ENDPOINT"),
        client = value("AZURE_CLIENT_ID"),
        secret = value("AZURE_CLIENT_SECRET"),
        subscription = value("AZURE_SUBSCRIPTION_ID"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> Facts {
        Facts {
            base_url: "https://localhost:8443".into(),
            base_host: "localhost:8443".into(),
            tenant_id: "11111111-2222-3333-4444-555555555555".into(),
            client_id: "app".into(),
            client_secret: "s'e\"c$r`e\\t".into(),
            subscription_id: "sub".into(),
            resource_group: "twinhub".into(),
            mqtt_port: 9883,
            hub: Some(HubFacts {
                host_name: "127.0.0.1".into(),
                service_host: "127.0.0.1:8443".into(),
                owner_key: "a2V5".into(),
                service_key_name: "service".into(),
                service_key: "c2Vy".into(),
                event_hub_host: "127.0.0.1".into(),
                event_hub_path: "hub".into(),
            }),
            provisioning: Some(ProvisioningFacts {
                device_host: "127.0.0.1".into(),
                service_host: "127.0.0.1:8443".into(),
                id_scope: "0ne00000001".into(),
                owner_key: "b3du".into(),
            }),
            digital_twins_url: Some("https://127.0.0.1:8443".into()),
            ca_file: "/data/ca.pem".into(),
            ca_bundle: "/data/ca-bundle.pem".into(),
        }
    }

    /// `design.md` §2, in its order.
    const NAMES: &[&str] = &[
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
        "TWINHUB_MQTT_PORT",
        "SSL_CERT_FILE",
        "REQUESTS_CA_BUNDLE",
        "NODE_EXTRA_CA_CERTS",
    ];

    #[test]
    fn the_names_are_exactly_the_contracts() {
        let made: Vec<String> = variables(&facts()).into_keys().collect();
        let mut wanted = NAMES.to_vec();
        wanted.sort_unstable();
        assert_eq!(made, wanted);
    }

    #[test]
    fn ports_stand_where_clients_take_them_and_nowhere_else() {
        let made = variables(&facts());
        for name in ["IOTHUB_CONNECTION_STRING", "PROVISIONING_CONNECTION_STRING"] {
            assert!(made[name].starts_with("HostName=127.0.0.1:8443;"), "{name}");
        }
        for name in ["IOTHUB_HOSTNAME", "PROVISIONING_HOST"] {
            assert_eq!(made[name], "127.0.0.1", "{name}");
        }
        assert!(made["EVENTHUB_CONNECTION_STRING"].starts_with("Endpoint=sb://127.0.0.1/;"));
        assert_eq!(made["TWINHUB_MQTT_PORT"], "9883");
    }

    #[test]
    fn every_form_but_az_says_adfs_and_az_says_the_guid() {
        let made = variables(&facts());
        assert!(write(&made, "guid", Format::Shell).contains("export AZURE_TENANT_ID='adfs'\n"));
        assert!(write(&made, "guid", Format::Dotenv).contains("\nAZURE_TENANT_ID=\"adfs\"\n"));
        let json: BTreeMap<String, String> =
            serde_json::from_str(&write(&made, "guid", Format::Json)).unwrap();
        assert_eq!(json, made);
        let az = write(&made, "guid", Format::Az);
        assert!(az.contains("--tenant 'guid'") && !az.contains("--tenant 'adfs'"), "{az}");
        assert!(az.contains("--endpoint-active-directory 'https://localhost:8443/adfs'"), "{az}");
    }

    #[cfg(unix)]
    #[test]
    fn a_shell_reads_back_every_value_whatever_is_in_it() {
        let made = variables(&facts());
        let script = format!("{}printf '%s' \"$AZURE_CLIENT_SECRET\"", write(&made, "guid", Format::Shell));
        let output = std::process::Command::new("sh").arg("-c").arg(script).output().unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap(), facts().client_secret);
    }

    #[test]
    fn what_is_gone_is_left_out() {
        let made = variables(&Facts { hub: None, provisioning: None, digital_twins_url: None, ..facts() });
        assert!(!made.keys().any(|name| name.starts_with("IOTHUB") || name.starts_with("PROVISIONING")));
        assert!(!made.contains_key("AZURE_DIGITALTWINS_URL"));
    }
}

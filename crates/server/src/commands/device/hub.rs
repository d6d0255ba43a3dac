//! The hub that a command speaks with: found by the variables of the running server, and by Resource Manager where it is not the
//! default one. Calls carry a shared access policy, as a back end's do.

use std::path::PathBuf;
use std::time::Duration;

use base::hosts::strip_port;
use base::{Clock, ConnectionString};
use serde_json::Value;
use server::client::{ClientError, Https, Management, ServiceApi, Trust, Variables, variable};

use super::At;
use crate::Failure;
use crate::run_file::RunFile;

const HUB_VERSION: &str = "2021-04-12";
const MANAGEMENT_VERSION: &str = "2023-06-30";

pub(super) struct Hub {
    api: ServiceApi,
    pub(super) clock: Clock,
    pub(super) trust: Trust,
    pub(super) mqtt_port: u16,
    pub(super) ca_file: PathBuf,
    /// `hub` or `the default hub`, for people.
    pub(super) name: String,
    at: At,
}

impl Hub {
    pub(super) async fn find(at: &At) -> Result<Self, Failure> {
        let run = RunFile::of_running(&at.place()?)?;
        let ca_file = PathBuf::from(variable(&run.environment, "TWINHUB_CA_FILE")?);
        let pem = std::fs::read_to_string(&ca_file)
            .map_err(|error| format!("{} cannot be read: {error}", ca_file.display()))?;
        let trust = Trust::only(&pem)?;
        let (https, clock) = (Https::new(trust.clone()), Clock::system());
        let (name, connection) = match &at.hub {
            Some(name) => (name.clone(), named(&https, &run.environment, name).await?),
            None => ("the default hub".to_owned(), default(&run.environment)?),
        };
        let api = ServiceApi::new(&connection, https, clock.clone())?;
        Ok(Self { api, clock, trust, mqtt_port: run.mqtt_port, ca_file, name, at: at.clone() })
    }

    /// The host as devices dial it, without a port.
    pub(super) fn device_host(&self) -> &str {
        strip_port(self.api.host())
    }

    pub(super) fn policy(&self) -> &str {
        self.api.policy()
    }

    /// Whether it was asked for by its name.
    pub(super) fn is_named(&self) -> bool {
        self.at.hub.is_some()
    }

    pub(super) fn prints_json(&self) -> bool {
        self.at.json
    }

    /// A command line that reaches the same hub.
    pub(super) fn command(&self, rest: &str) -> String {
        let mut line = format!("twinhub {rest}");
        let data_dir = self.at.data_dir.as_ref().map(|path| path.to_string_lossy().into_owned());
        for (flag, value) in [("--data-dir", data_dir), ("--hub", self.at.hub.clone())] {
            if let Some(value) = value {
                line = format!("{line} {flag} {}", crate::environment::shell_word(&value));
            }
        }
        line
    }

    pub(super) async fn get(&self, path: &str) -> Result<Value, ClientError> {
        self.call("GET", path, &[], &Value::Null).await
    }

    pub(super) async fn call(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &Value,
    ) -> Result<Value, ClientError> {
        self.api.call(method, &versioned(path), headers, body).await
    }

    /// A call whose answer may take longer than a minute.
    pub(super) async fn call_within(
        &self,
        timeout: Duration,
        path: &str,
        body: &Value,
    ) -> Result<Value, ClientError> {
        self.api.within(timeout).call("POST", &versioned(path), &[], body).await
    }
}

fn versioned(path: &str) -> String {
    let separator = if path.contains('?') { '&' } else { '?' };
    format!("{path}{separator}api-version={HUB_VERSION}")
}

fn default(variables: &Variables) -> Result<ConnectionString, Failure> {
    let connection = variables.get("IOTHUB_CONNECTION_STRING").map(ConnectionString::new);
    let missing = "this server has no default hub any more, or it has no policy iothubowner: name another hub with --hub NAME";
    connection.ok_or_else(|| missing.into())
}

/// Any hub of the subscription by its name, with a policy that may do everything.
async fn named(https: &Https, variables: &Variables, name: &str) -> Result<ConnectionString, Failure> {
    let management = Management::sign_in(https, variables).await?;
    let subscription = variable(variables, "AZURE_SUBSCRIPTION_ID")?;
    let all = format!("/subscriptions/{subscription}/providers/Microsoft.Devices/IotHubs");
    let hubs = management.call("GET", &all, MANAGEMENT_VERSION, &Value::Null).await?;
    let hubs = hubs["value"].as_array().cloned().unwrap_or_default();
    let named = |hub: &&Value| hub["name"].as_str().is_some_and(|found| found.eq_ignore_ascii_case(name));
    let Some(hub) = hubs.iter().find(named) else {
        let names: Vec<&str> = hubs.iter().filter_map(|hub| hub["name"].as_str()).collect();
        let there =
            if names.is_empty() { "it has none".to_owned() } else { format!("it has {}", names.join(", ")) };
        return Err(format!("this server has no hub {name}: {there}").into());
    };
    let host = hub["properties"]["hostName"].as_str();
    let host = host.ok_or_else(|| format!("hub {name} is not ready yet: try again in a moment"))?;
    let host =
        format!("{}{}", strip_port(host), port(variable(variables, "AZURE_RESOURCE_MANAGER_ENDPOINT")?));
    let keys = format!("{}/listkeys", hub["id"].as_str().unwrap_or_default());
    let keys = management.call("POST", &keys, MANAGEMENT_VERSION, &Value::Null).await?;
    let policies = keys["value"].as_array().cloned().unwrap_or_default();
    let policy = policies.iter().find(|policy| may_do_everything(policy)).ok_or_else(|| {
        format!("hub {name} has no policy with the rights RegistryWrite, ServiceConnect and DeviceConnect: give it one, such as iothubowner")
    })?;
    let text = |member: &str| policy[member].as_str().unwrap_or_default();
    Ok(ConnectionString::new(format!(
        "HostName={host};SharedAccessKeyName={};SharedAccessKey={}",
        text("keyName"),
        text("primaryKey")
    )))
}

/// `:8443`, or nothing for the standard port: every HTTPS service of a server is behind the same one.
fn port(url: &str) -> &str {
    let authority = url.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    let host = authority.rfind(']').unwrap_or_default();
    authority[host..].find(':').map_or("", |colon| &authority[host + colon..])
}

fn may_do_everything(policy: &Value) -> bool {
    let rights = policy["rights"].as_str().unwrap_or_default();
    let has = |right: &str| rights.split(',').any(|given| given.trim() == right);
    has("RegistryWrite") && has("ServiceConnect") && has("DeviceConnect")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hubs_port_is_that_of_resource_manager() {
        for (url, wanted) in [
            ("https://localhost:8443", ":8443"),
            ("https://localhost:8443/", ":8443"),
            ("https://127.0.0.1", ""),
            ("https://[::1]:8443", ":8443"),
            ("https://[::1]", ""),
        ] {
            assert_eq!(port(url), wanted, "{url}");
        }
    }

    #[test]
    fn only_a_policy_with_every_right_will_do() {
        let with = |rights: &str| may_do_everything(&serde_json::json!({"rights": rights}));
        assert!(with("RegistryWrite, ServiceConnect, DeviceConnect"));
        assert!(!with("RegistryRead, ServiceConnect, DeviceConnect"));
        assert!(!with(""));
    }
}

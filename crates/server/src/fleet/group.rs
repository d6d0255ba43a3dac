//! The enrollment group of a fleet: made with a name of its own, or one that is there already.

use base::{Clock, ConnectionString, Key};
use serde_json::{Value, json};

use super::Fault;
use crate::client::{ClientError, Https, ServiceApi, Variables, variable};

const API_VERSION: &str = "2021-10-01";

/// The provisioning service that `twinhub env` names.
#[derive(Clone)]
pub struct Provisioning {
    api: ServiceApi,
    id_scope: String,
    host: String,
    /// The hub that is asked about the fleet's devices, and so the one that they are given: others may be linked too.
    hub: String,
}

/// Its key makes every device's key.
#[derive(Clone)]
pub struct Group {
    pub id: String,
    pub key: Key,
    pub id_scope: String,
    pub host: String,
}

impl Provisioning {
    pub fn new(variables: &Variables, https: Https, clock: Clock) -> Result<Self, ClientError> {
        let connection = ConnectionString::new(variable(variables, "PROVISIONING_CONNECTION_STRING")?);
        Ok(Self {
            api: ServiceApi::new(&connection, https, clock)?,
            id_scope: variable(variables, "PROVISIONING_IDSCOPE")?.to_owned(),
            host: variable(variables, "PROVISIONING_HOST")?.to_owned(),
            hub: variable(variables, "IOTHUB_HOSTNAME")?.to_owned(),
        })
    }

    /// A new group with a key of its own.
    pub async fn make_group(&self, id: &str, desired: &Value) -> Result<Group, Fault> {
        let key = Key::generate(64);
        let body = json!({
            "enrollmentGroupId": id,
            "attestation": {"type": "symmetricKey", "symmetricKey": {"primaryKey": key.text(), "secondaryKey": key.text()}},
            "initialTwin": {"tags": {"fleet": id}, "properties": {"desired": desired}},
            "allocationPolicy": "static",
            "iotHubs": [self.hub],
        });
        let path = format!("/enrollmentGroups/{id}?api-version={API_VERSION}");
        self.api.call("PUT", &path, &[], &body).await?;
        Ok(self.group(id, key))
    }

    /// A group that is there; says what is wrong with one that devices with keys cannot use.
    pub async fn find_group(&self, id: &str) -> Result<Group, Fault> {
        let escaped = percent_encoding::utf8_percent_encode(id, percent_encoding::NON_ALPHANUMERIC);
        let path = format!("/enrollmentGroups/{escaped}/attestationmechanism?api-version={API_VERSION}");
        let mechanism = match self.api.call("POST", &path, &[], &Value::Null).await {
            Err(ClientError::Service(refusal)) if refusal.status == 404 => {
                let service = self.api.host();
                return Err(Fault::unexpected(format!(
                    "there is no enrollment group {id} at {service}; without --group a new one is made"
                )));
            }
            other => other?,
        };
        let key = mechanism["symmetricKey"]["primaryKey"].as_str().and_then(|key| key.parse().ok());
        let key = key.ok_or_else(|| {
            let kind = mechanism["type"].as_str().unwrap_or("nothing");
            Fault::unexpected(format!(
                "the devices of enrollment group {id} prove who they are by {kind}; simulated ones need a group with symmetric keys"
            ))
        })?;
        Ok(self.group(id, key))
    }

    fn group(&self, id: &str, key: Key) -> Group {
        Group { id: id.to_owned(), key, id_scope: self.id_scope.clone(), host: self.host.clone() }
    }
}

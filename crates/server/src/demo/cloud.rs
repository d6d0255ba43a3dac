//! The cloud side of the demo: the calls a back end makes, with the credentials that `twinhub env` gives it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use base::{Clock, ConnectionString};
use http_body_util::BodyExt;
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::Target;
use crate::client::{self, Answer, ClientError, Https, Management, ServiceApi};
use crate::fleet::{Fault, Group, Provisioning};

const TWINS_VERSION: &str = "2023-10-31";
const TWINS_AUDIENCE: &str = "https://digitaltwins.azure.net";
const HUB_VERSION: &str = "2021-04-12";
const ENDPOINTS_VERSION: &str = "2023-01-31";
const EVENT_HUBS_VERSION: &str = "2024-01-01";
/// The Digital Twins instance that every first start makes.
const INSTANCE: &str = "twins";
/// How long events may take from their change to their stream.
const EVENTS_WITHIN: Duration = Duration::from_secs(20);

/// Clones share connections and tokens.
#[derive(Clone)]
pub(super) struct Cloud {
    target: Target,
    https: Https,
    clock: Clock,
    signed_in: Arc<Mutex<Option<SignedIn>>>,
}

#[derive(Clone)]
struct SignedIn {
    management: Management,
    /// A token for the Digital Twins instance.
    twins: String,
}

pub(super) struct Route {
    pub endpoint: String,
    pub event_hub: String,
}

impl Cloud {
    pub(super) fn new(target: Target, https: Https, clock: Clock) -> Self {
        Self { target, https, clock, signed_in: Arc::default() }
    }

    pub(super) fn variable(&self, name: &str) -> Result<&str, Fault> {
        Ok(client::variable(&self.target.variables, name)?)
    }

    pub(super) async fn sign_in(&self) -> Result<(), Fault> {
        let management = Management::sign_in(&self.https, &self.target.variables).await?;
        let twins = client::token(&self.https, &self.target.variables, TWINS_AUDIENCE).await?;
        *self.signed_in.lock() = Some(SignedIn { management, twins });
        Ok(())
    }

    fn signed_in(&self) -> Result<SignedIn, ClientError> {
        self.signed_in.lock().clone().ok_or_else(|| ClientError::Broken("the demo has not signed in".into()))
    }

    /// A call to the Digital Twins instance. `Null` sends no body.
    pub(super) async fn twins(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &Value,
    ) -> Result<Answer, ClientError> {
        let base =
            self.target.variables.get("AZURE_DIGITALTWINS_URL").map(String::as_str).unwrap_or_default();
        let url = format!("{}{path}?api-version={TWINS_VERSION}", base.trim_end_matches('/'));
        let authorization = format!("Bearer {}", self.signed_in()?.twins);
        let content_type =
            if method == "PATCH" { "application/json-patch+json" } else { "application/json; charset=utf-8" };
        let mut all = vec![("authorization", authorization.as_str()), ("content-type", content_type)];
        all.extend_from_slice(headers);
        self.https.send(method, &url, &all, bytes_of(body)).await
    }

    async fn manage(&self, method: &str, path: &str, version: &str, body: &Value) -> Result<Value, Fault> {
        Ok(self.signed_in()?.management.call(method, path, version, body).await?)
    }

    /// An event hub of this server, an endpoint that names it by connection string, and a route of every twin event to it.
    pub(super) async fn route_twin_events(&self, run_id: &str) -> Result<Route, Fault> {
        let (subscription, group) =
            (self.variable("AZURE_SUBSCRIPTION_ID")?, self.variable("AZURE_RESOURCE_GROUP")?);
        let scope = format!("/subscriptions/{subscription}/resourceGroups/{group}/providers");
        let namespace = format!("{scope}/Microsoft.EventHub/namespaces/twinhub-demo");
        let event_hub = format!("twin-events-{run_id}");
        self.manage(
            "PUT",
            &namespace,
            EVENT_HUBS_VERSION,
            &json!({"location": "eastus", "sku": {"name": "Standard"}}),
        )
        .await?;
        let entity = format!("{namespace}/eventhubs/{event_hub}");
        self.manage("PUT", &entity, EVENT_HUBS_VERSION, &json!({"properties": {"partitionCount": 2}}))
            .await?;
        let keys = format!("{namespace}/authorizationRules/RootManageSharedAccessKey/listKeys");
        let keys = self.manage("POST", &keys, EVENT_HUBS_VERSION, &Value::Null).await?;
        let connection = keys["primaryConnectionString"].as_str().unwrap_or_default();
        let connection = format!("{};EntityPath={event_hub}", connection.trim_end_matches(';'));

        let endpoint = format!("demo-{run_id}");
        let path = format!("{scope}/Microsoft.DigitalTwins/digitalTwinsInstances/{INSTANCE}/endpoints");
        self.make_room(&path).await?;
        let properties = json!({"properties": {
            "endpointType": "EventHub", "authenticationType": "KeyBased", "connectionStringPrimaryKey": connection,
        }});
        let made = self.manage("PUT", &format!("{path}/{endpoint}"), ENDPOINTS_VERSION, &properties).await?;
        if made["properties"]["provisioningState"] != "Succeeded" {
            return Err(Fault::unexpected(format!("the endpoint is {made}")));
        }
        let route =
            json!({"endpointName": endpoint, "filter": "type = 'Microsoft.DigitalTwins.Twin.Update'"});
        let answer = self.twins("PUT", &format!("/eventroutes/demo-{run_id}"), &[], &route).await?;
        expect_success(&answer, "event route")?;
        Ok(Route { endpoint, event_hub })
    }

    /// Removes routes and endpoints of earlier runs: an instance holds six of each.
    async fn make_room(&self, endpoints: &str) -> Result<(), Fault> {
        let routes = self.twins("GET", "/eventroutes", &[], &Value::Null).await?.json();
        for id in names(&routes["value"], "id") {
            self.twins("DELETE", &format!("/eventroutes/{id}"), &[], &Value::Null).await?;
        }
        let present = self.manage("GET", endpoints, ENDPOINTS_VERSION, &Value::Null).await?;
        for name in names(&present["value"], "name") {
            let endpoint = format!("{endpoints}/{name}");
            self.signed_in()?.management.remove(&endpoint, ENDPOINTS_VERSION).await?;
        }
        Ok(())
    }

    /// An enrollment group whose key makes every device's key.
    pub(super) async fn enroll_group(&self, run_id: &str) -> Result<Group, Fault> {
        let variables = &self.target.variables;
        let provisioning = Provisioning::new(variables, self.https.clone(), self.clock.clone())?;
        provisioning.make_group(&format!("demo-{run_id}"), &json!({"intervalSeconds": 60})).await
    }

    /// A call to the hub's service API.
    pub(super) async fn hub(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &Value,
    ) -> Result<Value, Fault> {
        let path = format!("{path}?api-version={HUB_VERSION}");
        Ok(self.service("IOTHUB_CONNECTION_STRING")?.call(method, &path, headers, body).await?)
    }

    /// The API of the service that a connection string of the environment names.
    fn service(&self, connection: &str) -> Result<ServiceApi, Fault> {
        let connection = ConnectionString::new(self.variable(connection)?);
        Ok(ServiceApi::new(&connection, self.https.clone(), self.clock.clone())?)
    }

    /// Reads a stream of live control until `enough` says so of the lines read; in time, or an error.
    pub(super) async fn follow(
        &self,
        query: &str,
        mut enough: impl FnMut(Value) -> bool,
    ) -> Result<(), Fault> {
        let url = format!("{}/_twinhub/events?{query}&follow=true", self.target.admin_url);
        let authorization = format!("Bearer {}", self.target.admin_key);
        let (status, mut body) = self.https.follow("GET", &url, &[("authorization", &authorization)]).await?;
        if !status.is_success() {
            return Err(Fault::unexpected(format!("following {query}: {status}")));
        }
        let read = async {
            let mut pending = Vec::new();
            while let Some(frame) = body.frame().await {
                let frame = frame.map_err(|error| ClientError::Broken(error.to_string()))?;
                pending.extend_from_slice(frame.data_ref().map_or(&[], |data| &data[..]));
                while let Some(end) = pending.iter().position(|byte| *byte == b'\n') {
                    let line: Vec<u8> = pending.drain(..=end).collect();
                    let event = serde_json::from_slice(&line).unwrap_or_default();
                    if enough(event) {
                        return Ok(());
                    }
                }
            }
            Err(Fault::unexpected("the stream of events ended"))
        };
        let seconds = EVENTS_WITHIN.as_secs();
        tokio::time::timeout(EVENTS_WITHIN, read)
            .await
            .unwrap_or_else(|_| Err(ClientError::Timeout(seconds).into()))
    }

    /// Reads update events until all `wanted` have arrived, and insists that every room is among them.
    pub(super) async fn count_twin_events(
        &self,
        route: &Route,
        rooms: &[String],
        wanted: usize,
    ) -> Result<usize, Fault> {
        let mut missing: BTreeSet<&str> = rooms.iter().map(String::as_str).collect();
        let mut seen = 0;
        let query = format!("namespace=twinhub-demo&event-hub={}&from=earliest", route.event_hub);
        let counted = self.follow(&query, |event| {
            seen += 1;
            missing.remove(event["properties"]["cloudEvents:subject"].as_str().unwrap_or_default());
            seen >= wanted
        });
        counted
            .await
            .map_err(|fault| Fault::unexpected(format!("{fault} (after {seen} of {wanted} events)")))?;
        if missing.is_empty() {
            return Ok(seen);
        }
        Err(Fault::unexpected(format!("no event tells of {missing:?}")))
    }

    /// A program for the official Python SDK that registers and connects one more device of the group.
    pub(super) fn device_sample(&self, group: &Group) -> String {
        let device_id = "my-first-device";
        let ca = self.target.variables.get("TWINHUB_CA_FILE").map(String::as_str).unwrap_or_default();
        format!(
            "pip install azure-iot-device && python3 - <<'END'\n\
             from azure.iot.device import IoTHubDeviceClient, ProvisioningDeviceClient\n\
             ca = open({ca:?}).read()\n\
             key = {key:?}\n\
             state = ProvisioningDeviceClient.create_from_symmetric_key(\n    \
                 {host:?}, {device_id:?}, {scope:?}, key, server_verification_cert=ca).register().registration_state\n\
             device = IoTHubDeviceClient.create_from_symmetric_key(key, state.assigned_hub, state.device_id, server_verification_cert=ca)\n\
             device.send_message('{{\"temperature\": 21.5}}')\n\
             print(state.device_id, 'is on', state.assigned_hub, 'and its twin is', device.get_twin())\n\
             device.shutdown()\n\
             END",
            key = group.key.derive(device_id).text(),
            host = group.host,
            scope = group.id_scope,
        )
    }
}

pub(super) fn expect_success(answer: &Answer, what: &str) -> Result<(), Fault> {
    if answer.status.is_success() {
        return Ok(());
    }
    Err(Fault::unexpected(format!("{what}: {} {}", answer.status, String::from_utf8_lossy(&answer.body))))
}

fn bytes_of(body: &Value) -> Vec<u8> {
    if body.is_null() { Vec::new() } else { body.to_string().into_bytes() }
}

fn names(list: &Value, member: &str) -> Vec<String> {
    let items = list.as_array().into_iter().flatten();
    items.filter_map(|item| item[member].as_str().map(str::to_owned)).collect()
}

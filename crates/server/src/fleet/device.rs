//! One device: registers, connects, and does one thing after the other. What goes on at the same time is in [`super::session`].

use base::caps;
use std::time::Duration;

use base::ids::IdentityId;
use base::{Key, sas};
use mqtt::codec::Qos;
use mqtt::topic::from_device::ToProvisioning;
use mqtt::topic::{FromDevice, ToDevice};
use serde_json::{Value, json};

use super::{Fault, Group, Site};
use crate::client::{Login, MqttClient};

pub(super) const TOKEN_LIFE: Duration = Duration::from_hours(1);

pub struct Device {
    pub identity: IdentityId,
    key: Key,
    hub: String,
    connection: Option<MqttClient>,
}

impl Device {
    /// Registers over MQTT with the key derived from the group's; tells the model that it is of, where it is of one.
    pub async fn register(
        id: &str,
        group: &Group,
        site: &Site,
        model_id: Option<&str>,
    ) -> Result<Self, Fault> {
        let device_id = id.parse().map_err(|error| Fault::unexpected(format!("{id}: {error}")))?;
        let key = group.key.derive(id);
        let resource = format!("{}/registrations/{id}", group.id_scope);
        let token = sas::build(&resource, &key, site.clock.now().plus(TOKEN_LIFE), Some("registration"));
        let user_name = format!("{resource}/api-version=2019-03-31&ClientVersion=twinhub");
        let login = Login { client_id: id, user_name: &user_name, password: &token, clean_session: true };
        let mut client = MqttClient::connect(&site.trust, &group.host, site.mqtt_port, &login).await?;
        client.subscribe("$dps/registrations/res/#", Qos::AtLeastOnce).await?;
        let mut ask = json!({"registrationId": id});
        if let Some(model_id) = model_id {
            ask["payload"] = json!({"modelId": model_id});
        }
        client.publish(&ToProvisioning::Register { request_id: "1" }.text(), ask.to_string()).await?;
        let mut answer = provisioning_answer(&mut client, "1").await?;
        for poll in 2..caps::CLIENT_REGISTRATION_POLLS_MAX {
            if answer["status"] != "assigning" {
                break;
            }
            let operation_id = answer["operationId"].as_str().unwrap_or_default().to_owned();
            let request_id = poll.to_string();
            let ask =
                ToProvisioning::GetOperationStatus { request_id: &request_id, operation_id: &operation_id };
            client.publish(&ask.text(), "").await?;
            answer = provisioning_answer(&mut client, &request_id).await?;
            tokio::time::sleep(Duration::from_millis(50 * u64::from(poll))).await;
        }
        client.disconnect().await?;
        let state = &answer["registrationState"];
        let hub = state["assignedHub"].as_str().ok_or_else(|| {
            let why = state["errorMessage"].as_str().or(answer["status"].as_str()).unwrap_or("no status");
            Fault::unexpected(format!("registration ended without a hub: {why}"))
        })?;
        Ok(Self { identity: IdentityId::device(device_id), key, hub: hub.to_owned(), connection: None })
    }

    /// A module of the device, with a key of its own.
    pub(crate) fn module(&self, module_id: &str, key: Key) -> Result<Self, Fault> {
        let module_id = module_id.parse().map_err(|_| Fault::unexpected("the module's id is not valid"))?;
        let identity = IdentityId::module(self.identity.device_id.clone(), module_id);
        Ok(Self { identity, key, hub: self.hub.clone(), connection: None })
    }

    pub(crate) fn hub(&self) -> &str {
        &self.hub
    }

    /// Connects to the assigned hub and subscribes as the SDKs do.
    pub(crate) async fn connect(&mut self, site: &Site) -> Result<(), Fault> {
        self.connection = Some(self.open(site, None).await?);
        Ok(())
    }

    /// A connection for a caller with a loop of its own.
    pub(super) async fn open(&self, site: &Site, model_id: Option<&str>) -> Result<MqttClient, Fault> {
        let (device, module) = (&self.identity.device_id, &self.identity.module_id);
        let path = match module {
            None => format!("{device}"),
            Some(module) => format!("{device}/modules/{module}"),
        };
        let resource = format!("{}/devices/{path}", self.hub);
        let token = sas::build(&resource, &self.key, site.clock.now().plus(TOKEN_LIFE), None);
        let client_id = self.identity.to_string();
        let escaped = |text| percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC);
        let model = model_id.map(|id| format!("&model-id={}", escaped(id))).unwrap_or_default();
        let user_name = format!("{}/{client_id}/?api-version=2021-04-12{model}", self.hub);
        let login =
            Login { client_id: &client_id, user_name: &user_name, password: &token, clean_session: false };
        let mut client = MqttClient::connect(&site.trust, &self.hub, site.mqtt_port, &login).await?;
        for filter in
            ["$iothub/twin/res/#", "$iothub/twin/PATCH/properties/desired/#", "$iothub/methods/POST/#"]
        {
            client.subscribe(filter, Qos::AtMostOnce).await?;
        }
        Ok(client)
    }

    fn connection(&mut self) -> Result<&mut MqttClient, Fault> {
        self.connection.as_mut().ok_or_else(|| Fault::unexpected("the device is not connected"))
    }

    /// Sends one message; returns once it is durable.
    pub(crate) async fn send(&mut self, body: &Value) -> Result<(), Fault> {
        let topic =
            FromDevice::Telemetry { bag: "%24.ct=application%2Fjson&%24.ce=utf-8" }.text(&self.identity);
        Ok(self.connection()?.publish(&topic, body.to_string()).await?)
    }

    /// Reports properties and insists on 204.
    pub(crate) async fn report(&mut self, patch: &Value) -> Result<(), Fault> {
        let ask = FromDevice::PatchReported { request_id: Some("report"), expected_version: None }
            .text(&self.identity);
        self.connection()?.publish(&ask, patch.to_string()).await?;
        let (status, body) = self.twin_answer("report").await?;
        if status == 204 {
            Ok(())
        } else {
            Err(Fault::unexpected(format!("report answered {status}: {body}")))
        }
    }

    pub(crate) async fn read_twin(&mut self) -> Result<Value, Fault> {
        let ask = FromDevice::GetTwin { request_id: "get" }.text(&self.identity);
        self.connection()?.publish(&ask, "").await?;
        let (status, body) = self.twin_answer("get").await?;
        if status == 200 {
            Ok(body)
        } else {
            Err(Fault::unexpected(format!("twin answered {status}: {body}")))
        }
    }

    async fn twin_answer(&mut self, wanted: &str) -> Result<(u16, Value), Fault> {
        let answer = self.connection()?.expect(|publish| match ToDevice::parse(publish.topic.as_str()) {
            Ok(ToDevice::TwinResponse { status, request_id, .. }) if request_id == wanted => {
                Some((status, serde_json::from_slice(&publish.payload).unwrap_or_default()))
            }
            _ => None,
        });
        Ok(answer.await?)
    }

    /// Waits for a desired change that shows `member` with `value`.
    pub(crate) async fn await_desired(&mut self, member: &str, value: &Value) -> Result<(), Fault> {
        let seen = self.connection()?.expect(|publish| {
            let topic = ToDevice::parse(publish.topic.as_str());
            let body: Value = serde_json::from_slice(&publish.payload).unwrap_or_default();
            (matches!(topic, Ok(ToDevice::DesiredChanged { .. })) && body[member] == *value).then_some(())
        });
        Ok(seen.await?)
    }

    /// Waits for one direct method and answers it with what it was asked.
    pub(crate) async fn answer_method(&mut self) -> Result<(), Fault> {
        let request = self.connection()?.expect(|publish| match ToDevice::parse(publish.topic.as_str()) {
            Ok(ToDevice::Method { request_id, .. }) => {
                let asked: Value = serde_json::from_slice(&publish.payload).unwrap_or_default();
                Some((request_id.to_owned(), asked))
            }
            _ => None,
        });
        let (request_id, asked) = request.await?;
        let answer =
            FromDevice::MethodResponse { status: "200", request_id: &request_id }.text(&self.identity);
        Ok(self.connection()?.publish(&answer, json!({"done": asked}).to_string()).await?)
    }

    pub(crate) async fn disconnect(self) {
        if let Some(connection) = self.connection {
            // The demo is over; a connection that is gone already is as good.
            let _ = connection.disconnect().await;
        }
    }
}

async fn provisioning_answer(client: &mut MqttClient, wanted: &str) -> Result<Value, Fault> {
    let answer = client.expect(|publish| match ToDevice::parse(publish.topic.as_str()) {
        Ok(ToDevice::ProvisioningResponse { status, request_id, .. }) if request_id == wanted => {
            Some((status, serde_json::from_slice::<Value>(&publish.payload).unwrap_or_default()))
        }
        _ => None,
    });
    let (status, body) = answer.await?;
    if status < 300 {
        return Ok(body);
    }
    let message = body["message"].as_str().unwrap_or_default().to_owned();
    Err(Fault::Answered { what: "registration", status, message })
}

//! One simulated device: registers, connects, and does what its firmware would do.

use base::caps;
use std::time::Duration;

use base::ids::IdentityId;
use base::{Clock, Key, sas};
use mqtt::codec::Qos;
use mqtt::topic::from_device::ToProvisioning;
use mqtt::topic::{FromDevice, ToDevice};
use serde_json::{Value, json};

use super::Fault;
use super::cloud::Group;
use crate::client::{Login, MqttClient, Trust};

const TOKEN_LIFE: Duration = Duration::from_secs(3600);

pub(super) struct Device {
    pub identity: IdentityId,
    key: Key,
    hub: String,
    connection: Option<MqttClient>,
}

impl Device {
    /// Registers over MQTT with the key derived from the group's.
    pub(super) async fn register(
        id: &str,
        group: &Group,
        trust: &Trust,
        port: u16,
        clock: &Clock,
    ) -> Result<Self, Fault> {
        let key = group.key.derive(id);
        let resource = format!("{}/registrations/{id}", group.id_scope);
        let token = sas::build(&resource, &key, clock.now().plus(TOKEN_LIFE), Some("registration"));
        let user_name = format!("{resource}/api-version=2019-03-31&ClientVersion=twinhub-demo");
        let login = Login { client_id: id, user_name: &user_name, password: &token, clean_session: true };
        let mut client = MqttClient::connect(trust, &group.host, port, &login).await?;
        client.subscribe("$dps/registrations/res/#", Qos::AtLeastOnce).await?;
        client
            .publish(
                &ToProvisioning::Register { request_id: "1" }.text(),
                json!({"registrationId": id}).to_string(),
            )
            .await?;
        let mut answer = provisioning_answer(&mut client, "1").await?;
        for poll in 2..caps::DEMO_REGISTRATION_POLLS_MAX {
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
        let hub = answer["registrationState"]["assignedHub"].as_str();
        let hub =
            hub.ok_or_else(|| Fault::unexpected(format!("{id} was not assigned: {answer}")))?.to_owned();
        let device_id = id.parse().map_err(|_| Fault::unexpected("the device's id is not valid"))?;
        Ok(Self { identity: IdentityId::device(device_id), key, hub, connection: None })
    }

    /// A module of the device, with a key of its own.
    pub(super) fn module(&self, module_id: &str, key: Key) -> Result<Self, Fault> {
        let module_id = module_id.parse().map_err(|_| Fault::unexpected("the module's id is not valid"))?;
        let identity = IdentityId::module(self.identity.device_id.clone(), module_id);
        Ok(Self { identity, key, hub: self.hub.clone(), connection: None })
    }

    pub(super) fn hub(&self) -> &str {
        &self.hub
    }

    /// Connects to the assigned hub and subscribes as the SDKs do.
    pub(super) async fn connect(&mut self, trust: &Trust, port: u16, clock: &Clock) -> Result<(), Fault> {
        let (device, module) = (&self.identity.device_id, &self.identity.module_id);
        let path = match module {
            None => format!("{device}"),
            Some(module) => format!("{device}/modules/{module}"),
        };
        let token = sas::build(
            &format!("{}/devices/{path}", self.hub),
            &self.key,
            clock.now().plus(TOKEN_LIFE),
            None,
        );
        let client_id = self.identity.to_string();
        let user_name = format!("{}/{client_id}/?api-version=2021-04-12", self.hub);
        let login =
            Login { client_id: &client_id, user_name: &user_name, password: &token, clean_session: false };
        let mut client = MqttClient::connect(trust, &self.hub, port, &login).await?;
        for filter in
            ["$iothub/twin/res/#", "$iothub/twin/PATCH/properties/desired/#", "$iothub/methods/POST/#"]
        {
            client.subscribe(filter, Qos::AtMostOnce).await?;
        }
        self.connection = Some(client);
        Ok(())
    }

    fn connection(&mut self) -> Result<&mut MqttClient, Fault> {
        self.connection.as_mut().ok_or_else(|| Fault::unexpected("the device is not connected"))
    }

    /// Sends one message; returns once it is durable.
    pub(super) async fn send(&mut self, body: &Value) -> Result<(), Fault> {
        let topic =
            FromDevice::Telemetry { bag: "%24.ct=application%2Fjson&%24.ce=utf-8" }.text(&self.identity);
        Ok(self.connection()?.publish(&topic, body.to_string()).await?)
    }

    /// Reports properties and insists on 204.
    pub(super) async fn report(&mut self, patch: &Value) -> Result<(), Fault> {
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

    pub(super) async fn read_twin(&mut self) -> Result<Value, Fault> {
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
    pub(super) async fn await_desired(&mut self, member: &str, value: &Value) -> Result<(), Fault> {
        let seen = self.connection()?.expect(|publish| {
            let topic = ToDevice::parse(publish.topic.as_str());
            let body: Value = serde_json::from_slice(&publish.payload).unwrap_or_default();
            (matches!(topic, Ok(ToDevice::DesiredChanged { .. })) && body[member] == *value).then_some(())
        });
        Ok(seen.await?)
    }

    /// Waits for one direct method and answers it with what it was asked.
    pub(super) async fn answer_method(&mut self) -> Result<(), Fault> {
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

    pub(super) async fn disconnect(self) {
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
        Ok(body)
    } else {
        Err(Fault::unexpected(format!("registration answered {status}: {body}")))
    }
}

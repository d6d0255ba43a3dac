//! What the next step of a new device needs: lines to copy, for people and as JSON.

use std::time::Duration;

use base::caps;
use serde_json::{Value, json};

use super::KeyName;
use super::hub::Hub;
use super::identity::{Identity, Login, arguments, spoken};
use crate::Failure;
use crate::environment::shell_word;

/// What a first message says.
const BODY: &str = r#"{"temperature":21.5}"#;

pub(super) struct Next<'a> {
    hub: &'a Hub,
    identity: &'a Identity,
    login: Login,
    connection_string: String,
    topic: String,
}

impl<'a> Next<'a> {
    pub(super) fn of(hub: &'a Hub, identity: &'a Identity) -> Result<Self, Failure> {
        let login = identity.login(hub, Duration::from_secs(caps::CLIENT_SAS_SECONDS))?;
        let connection_string = identity.connection_string(hub, KeyName::Primary)?;
        let topic = mqtt::topic::FromDevice::Telemetry { bag: "" }.text(&identity.id);
        Ok(Self { hub, identity, login, connection_string, topic })
    }

    /// `mosquitto_pub` or `mosquitto_sub` with everything that connects, without what it does.
    fn mosquitto(&self, program: &str) -> String {
        let Login { client_id, user_name, token, .. } = &self.login;
        format!(
            "{program} -h {} -p {} --cafile {} -i {} -u {} -P {} -q 1",
            self.hub.device_host(),
            self.hub.mqtt_port,
            shell_word(&self.hub.ca_file.to_string_lossy()),
            shell_word(client_id),
            shell_word(user_name),
            shell_word(token),
        )
    }

    /// `None` for an id that mosquitto takes for a pattern where it stands in a topic.
    fn publish_line(&self) -> Option<String> {
        let line = format!(
            "{} -t {} -m {}",
            self.mosquitto("mosquitto_pub"),
            shell_word(&self.topic),
            shell_word(BODY)
        );
        (!self.topic.contains(['+', '#'])).then_some(line)
    }

    /// Direct methods and desired properties, as they come.
    fn subscribe_line(&self) -> String {
        let filters = "-t '$iothub/methods/POST/#' -t '$iothub/twin/PATCH/properties/desired/#'";
        format!("{} -v {filters}", self.mosquitto("mosquitto_sub"))
    }

    pub(super) fn json(&self) -> Value {
        let Login { client_id, user_name, token, .. } = &self.login;
        let key = |name: &str| self.identity.body["authentication"]["symmetricKey"][name].clone();
        json!({
            "deviceId": self.identity.id.device_id,
            "moduleId": self.identity.id.module_id,
            "hostName": self.hub.device_host(),
            "primaryKey": key("primaryKey"),
            "secondaryKey": key("secondaryKey"),
            "connectionString": self.connection_string,
            "sasToken": token,
            "sasTokenEndsAt": self.login.ends_at(),
            "mqtt": {
                "host": self.hub.device_host(),
                "port": self.hub.mqtt_port,
                "caFile": self.hub.ca_file,
                "clientId": client_id,
                "userName": user_name,
                "password": token,
                "publishTopic": self.topic,
            },
            "mosquittoPub": self.publish_line(),
            "mosquittoSub": self.subscribe_line(),
        })
    }

    pub(super) fn text(&self) -> String {
        let Self { hub, identity, login, connection_string, .. } = self;
        let who = arguments(&identity.id);
        let command = |what: &str| hub.command(&format!("device {what} {who}"));
        let publish = self.publish_line();
        let publish =
            publish.unwrap_or_else(|| format!("(mosquitto takes no + or # in a topic) {}", command("send")));
        format!(
            "{made} is on {hub_name}.\n\n\
             Connection string, for every SDK:\n  {connection_string}\n\n\
             Send a message with mosquitto:\n  {publish}\n\n\
             Hear direct methods and desired properties (one connection at a time for each device):\n  {subscribe}\n\n\
             Shared access signature, the password of both, until {ends_at}; {sas} makes a new one:\n  {token}\n\n\
             Next:\n  {send}\n  {events}\n{variables}",
            made = capitalized(&spoken(&identity.id)),
            hub_name = hub.name,
            subscribe = self.subscribe_line(),
            ends_at = login.ends_at(),
            token = login.token,
            sas = command("sas"),
            send = command("send"),
            events = hub.command("events"),
            variables = self.variables(),
        )
    }

    /// Nothing for modules and for devices of a hub that was named, which `twinhub env` does not know.
    fn variables(&self) -> String {
        if self.identity.id.module_id.is_some() || self.hub.is_named() {
            return String::new();
        }
        let line = self.hub.command(&format!("env --device {}", arguments(&self.identity.id)));
        format!("  eval \"$({line})\"\n")
    }
}

/// The next step of a device that proves itself by a certificate.
pub(super) struct ByCertificate<'a> {
    pub(super) hub: &'a Hub,
    pub(super) identity: &'a Identity,
}

impl ByCertificate<'_> {
    fn connection_string(&self) -> String {
        let id = &self.identity.id;
        let module = id.module_id.as_ref().map(|id| format!(";ModuleId={id}")).unwrap_or_default();
        format!("HostName={};DeviceId={}{module};x509=true", self.hub.device_host(), id.device_id)
    }

    pub(super) fn json(&self) -> Value {
        json!({
            "deviceId": self.identity.id.device_id,
            "moduleId": self.identity.id.module_id,
            "hostName": self.hub.device_host(),
            "connectionString": self.connection_string(),
            "x509Thumbprint": self.identity.body["authentication"]["x509Thumbprint"],
            "mqtt": {
                "host": self.hub.device_host(),
                "port": self.hub.mqtt_port,
                "caFile": self.hub.ca_file,
                "clientId": self.identity.id.to_string(),
                "userName": self.identity.user_name(self.hub),
                "publishTopic": self.topic(),
            },
        })
    }

    pub(super) fn text(&self) -> String {
        format!(
            "{made} is on {hub_name}. It proves itself by its certificate; no key opens it.\n\n\
             Connection string, for SDKs, which are given certificate and key apart from it:\n  {connection_string}\n\n\
             Send a message with mosquitto, from where the two files are:\n  \
             mosquitto_pub -h {host} -p {port} --cafile {ca_file} --cert certificate.pem --key key.pem -i {client_id} -u {user_name} -q 1 -t {topic} -m {body}\n\n\
             Next:\n  {events}\n",
            made = capitalized(&spoken(&self.identity.id)),
            hub_name = self.hub.name,
            connection_string = self.connection_string(),
            host = self.hub.device_host(),
            port = self.hub.mqtt_port,
            ca_file = shell_word(&self.hub.ca_file.to_string_lossy()),
            client_id = shell_word(&self.identity.id.to_string()),
            user_name = shell_word(&self.identity.user_name(self.hub)),
            topic = shell_word(&self.topic()),
            body = shell_word(BODY),
            events = self.hub.command("events"),
        )
    }

    fn topic(&self) -> String {
        mqtt::topic::FromDevice::Telemetry { bag: "" }.text(&self.identity.id)
    }
}

fn capitalized(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| format!("{}{}", first.to_uppercase(), letters.as_str()))
}

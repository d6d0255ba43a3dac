//! twinhub as the release binary runs it with full durability, reached through its public wire only.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base::{Clock, Key, sas};
use serde_json::{Value, json};
use server::client::{Answer, Https, Trust};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

use crate::Failure;
use crate::clock::now;
use crate::load::{DeviceLogin, Listener};
use crate::loopback;
use crate::process::Process;

const HUB_VERSION: &str = "2021-04-12";
const DIGITAL_TWINS_VERSION: &str = "2023-10-31";
const START_SECONDS_MAX: u64 = 60;
const TOKEN_LIFE: Duration = Duration::from_hours(24);

/// Clients that register devices at once, before anything is measured.
const REGISTERING: usize = 16;

pub(crate) struct Twinhub {
    pub(crate) process: Process,
    pub(crate) plain: Listener,
    pub(crate) encrypted: Listener,
    pub(crate) hub: Hub,
    pub(crate) digital_twins: DigitalTwins,
    /// From its start to the line that says it is ready.
    pub(crate) ready_after: Duration,
}

/// The default hub's service side. Clones share nothing but words.
#[derive(Clone)]
pub(crate) struct Hub {
    base_url: String,
    host_name: String,
    authorization: String,
    trust: Trust,
}

impl Twinhub {
    pub(crate) async fn start(program: &Path, data_dir: &Path) -> Result<Self, Failure> {
        Self::start_with(program, data_dir, &[]).await
    }

    /// With an index for these paths.
    pub(crate) async fn start_indexed(program: &Path, data_dir: &Path, paths: &str) -> Result<Self, Failure> {
        Self::start_with(program, data_dir, &[("TWINHUB_INDEXED_PATHS", paths)]).await
    }

    /// With these variables of its environment.
    pub(crate) async fn start_with(
        program: &Path,
        data_dir: &Path,
        variables: &[(&str, &str)],
    ) -> Result<Self, Failure> {
        let [https, mqtt, mqtt_plain] = loopback::free_ports()?;
        let mut command = Command::new(program);
        command.args(["serve", "--durability", "full", "--listen"]).arg(loopback::address().to_string());
        command.arg("--data-dir").arg(data_dir).current_dir(data_dir.parent().unwrap_or(data_dir));
        for (variable, port) in [("HTTPS", https), ("MQTT", mqtt), ("MQTT_PLAIN", mqtt_plain)] {
            command.env(format!("TWINHUB_PORTS__{variable}"), port.port().to_string());
        }
        command.env("TWINHUB_PORTS__HTTPS_STANDARD", "0").env("TWINHUB_LOG", "warn");
        command.envs(variables.iter().copied());
        let start = now();
        let log = data_dir.with_extension("log");
        let (mut process, stdout) = Process::start(command, &log)?;
        let mut line = String::new();
        let mut stdout = BufReader::new(stdout);
        let reading = stdout.read_line(&mut line);
        tokio::time::timeout(Duration::from_secs(START_SECONDS_MAX), reading).await??;
        let ready_after = start.elapsed();
        if !line.starts_with("twinhub is ready") {
            process.check().map_err(|error| format!("{error}; see {}", log.display()))?;
            return Err(format!("twinhub said {line:?} instead of being ready").into());
        }
        let environment = Environment::of(program, data_dir).await?;
        let hub = Hub::of(&environment, https)?;
        let digital_twins = DigitalTwins::of(&environment, https)?;
        let encrypted = Listener { at: mqtt, trust: Some(hub.trust.clone()) };
        let plain = Listener { at: mqtt_plain, trust: None };
        Ok(Self { process, plain, encrypted, hub, digital_twins, ready_after })
    }
}

/// What `twinhub env` tells.
struct Environment(BTreeMap<String, String>);

impl Environment {
    async fn of(program: &Path, data_dir: &Path) -> Result<Self, Failure> {
        let mut command = Command::new(program);
        let output = command.args(["env", "--format", "json", "--data-dir"]).arg(data_dir).output().await?;
        if !output.status.success() {
            return Err(format!("twinhub env: {}", String::from_utf8_lossy(&output.stderr)).into());
        }
        Ok(Self(serde_json::from_slice(&output.stdout)?))
    }

    fn variable(&self, name: &str) -> Result<&str, Failure> {
        let value = self.0.get(name).map(String::as_str);
        value.ok_or_else(|| format!("twinhub env gives no {name}").into())
    }

    fn trust(&self) -> Result<Trust, Failure> {
        Ok(Trust::only_with_aes_128_gcm(&std::fs::read_to_string(self.variable("TWINHUB_CA_FILE")?)?)?)
    }
}

/// The default Digital Twins instance, as its owner uses it.
pub(crate) struct DigitalTwins {
    base_url: String,
    tenant_id: String,
    client_id: String,
    client_secret: String,
    https: Https,
    trust: Trust,
}

impl DigitalTwins {
    fn of(environment: &Environment, https: SocketAddr) -> Result<Self, Failure> {
        let variable = |name: &str| environment.variable(name).map(str::to_owned);
        Ok(Self {
            base_url: format!("https://{https}"),
            tenant_id: variable("ARM_TENANT_ID")?,
            client_id: variable("ARM_CLIENT_ID")?,
            client_secret: variable("ARM_CLIENT_SECRET")?,
            https: Https::new(environment.trust()?),
            trust: environment.trust()?,
        })
    }

    /// A client with connections of its own.
    pub(crate) fn client(&self, authorization: &str) -> GraphClient {
        GraphClient {
            base_url: self.base_url.clone(),
            authorization: authorization.to_owned(),
            https: Https::new(self.trust.clone()),
        }
    }

    /// The value of an Authorization header.
    pub(crate) async fn sign_in(&self) -> Result<String, Failure> {
        let url = format!("{}/{}/oauth2/v2.0/token", self.base_url, self.tenant_id);
        let body = format!(
            "grant_type=client_credentials&client_id={}&client_secret={}&scope=https%3A%2F%2Fdigitaltwins.azure.net%2F.default",
            self.client_id, self.client_secret
        );
        let headers = [("content-type", "application/x-www-form-urlencoded")];
        let answer = self.https.ask("POST", &url, &headers, body).await?.json();
        let token = answer["access_token"].as_str().ok_or("the token endpoint gave no token")?;
        Ok(format!("Bearer {token}"))
    }

    pub(crate) async fn upload(&self, authorization: &str, models: &[Value]) -> Result<(), Failure> {
        let url = format!("{}/models?api-version={DIGITAL_TWINS_VERSION}", self.base_url);
        let headers = [("authorization", authorization), ("content-type", "application/json")];
        self.https.ask("POST", &url, &headers, serde_json::to_string(models)?).await?;
        Ok(())
    }
}

/// One who asks for digital twins and changes them.
pub(crate) struct GraphClient {
    base_url: String,
    authorization: String,
    https: Https,
}

impl GraphClient {
    async fn ask(&self, method: &str, path: &str, kind: &str, body: String) -> Result<Answer, Failure> {
        let url = format!("{}{path}?api-version={DIGITAL_TWINS_VERSION}", self.base_url);
        let headers = [("authorization", self.authorization.as_str()), ("content-type", kind)];
        Ok(self.https.ask(method, &url, &headers, body).await?)
    }

    pub(crate) async fn put(&self, id: &str, body: &Value) -> Result<(), Failure> {
        let path = format!("/digitaltwins/{id}");
        self.ask("PUT", &path, "application/json", body.to_string()).await.map(drop)
    }

    pub(crate) async fn put_relationship(&self, source: &str, id: &str, body: &Value) -> Result<(), Failure> {
        let path = format!("/digitaltwins/{source}/relationships/{id}");
        self.ask("PUT", &path, "application/json", body.to_string()).await.map(drop)
    }

    pub(crate) async fn get(&self, id: &str) -> Result<Value, Failure> {
        let path = format!("/digitaltwins/{id}");
        Ok(self.ask("GET", &path, "application/json", String::new()).await?.json())
    }

    pub(crate) async fn patch(&self, id: &str, patch: &Value) -> Result<(), Failure> {
        let path = format!("/digitaltwins/{id}");
        self.ask("PATCH", &path, "application/json-patch+json", patch.to_string()).await.map(drop)
    }

    pub(crate) async fn query(&self, text: &str) -> Result<Value, Failure> {
        let body = json!({"query": text}).to_string();
        Ok(self.ask("POST", "/query", "application/json", body).await?.json())
    }
}

impl Hub {
    fn of(environment: &Environment, https: SocketAddr) -> Result<Self, Failure> {
        let connection_string = environment.variable("IOTHUB_CONNECTION_STRING")?;
        let part = |name: &str| {
            let parts = connection_string.split(';').filter_map(|part| part.split_once('='));
            parts.clone().find(|(key, _)| *key == name).map(|(_, value)| value.to_owned())
        };
        let key = part("SharedAccessKey").ok_or("the connection string has no key")?;
        let key = Key::try_from(key).map_err(|error| error.to_string())?;
        let host_name = environment.variable("IOTHUB_HOSTNAME")?.to_owned();
        let expiry = Clock::system().now().plus(TOKEN_LIFE);
        let authorization = sas::build(&host_name, &key, expiry, part("SharedAccessKeyName").as_deref());
        let base_url = format!("https://{https}");
        Ok(Self { base_url, host_name, authorization, trust: environment.trust()? })
    }

    /// A client with connections of its own.
    pub(crate) fn client(&self) -> HubClient {
        HubClient { hub: self.clone(), https: Https::new(self.trust.clone()) }
    }

    /// Registers devices `bench-00000` and on, and hands back how they log in over MQTT.
    pub(crate) async fn register(&self, count: usize) -> Result<Vec<DeviceLogin>, Failure> {
        let key = Key::generate(32);
        let mut registering = tokio::task::JoinSet::new();
        for worker in 0..REGISTERING {
            let (client, key) = (self.client(), key.clone());
            registering.spawn(async move {
                for index in (worker..count).step_by(REGISTERING) {
                    client.put_device(&device_id(index), &key).await?;
                }
                Ok::<_, Failure>(())
            });
        }
        while let Some(registered) = registering.join_next().await {
            registered??;
        }
        Ok((0..count).map(|index| self.login(device_id(index), &key)).collect())
    }

    fn login(&self, device_id: String, key: &Key) -> DeviceLogin {
        let resource = format!("{}/devices/{device_id}", self.host_name);
        let password = sas::build(&resource, key, Clock::system().now().plus(TOKEN_LIFE), None);
        let user_name = format!("{}/{device_id}/?api-version={HUB_VERSION}", self.host_name);
        DeviceLogin { device_id, user_name, password }
    }
}

pub(crate) fn device_id(index: usize) -> String {
    format!("bench-{index:05}")
}

pub(crate) struct HubClient {
    hub: Hub,
    https: Https,
}

impl HubClient {
    async fn put_device(&self, id: &str, key: &Key) -> Result<(), Failure> {
        let keys = json!({"primaryKey": key.text(), "secondaryKey": key.text()});
        let body = json!({"deviceId": id, "authentication": {"type": "sas", "symmetricKey": keys}});
        self.ask("PUT", &format!("/devices/{id}"), &body).await.map(drop)
    }

    pub(crate) async fn patch_twin(&self, id: &str, patch: &Value) -> Result<(), Failure> {
        self.ask("PATCH", &format!("/twins/{id}"), patch).await.map(drop)
    }

    pub(crate) async fn twin(&self, id: &str) -> Result<Value, Failure> {
        self.ask("GET", &format!("/twins/{id}"), &Value::Null).await
    }

    /// The first page of an answer.
    pub(crate) async fn query(&self, text: &str, page: usize) -> Result<Value, Failure> {
        let page = page.to_string();
        let headers = [("x-ms-max-item-count", page.as_str())];
        self.ask_with("POST", "/devices/query", &headers, &json!({"query": text})).await
    }

    async fn ask(&self, method: &str, path: &str, body: &Value) -> Result<Value, Failure> {
        self.ask_with(method, path, &[], body).await
    }

    async fn ask_with(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &Value,
    ) -> Result<Value, Failure> {
        let url = format!("{}{path}?api-version={HUB_VERSION}", self.hub.base_url);
        let authorization = ("authorization", self.hub.authorization.as_str());
        let headers = [&[authorization, ("content-type", "application/json")], headers].concat();
        let body = if body.is_null() { String::new() } else { body.to_string() };
        Ok(self.https.ask(method, &url, &headers, body).await?.json())
    }
}

pub(crate) fn version(program: &Path) -> Option<String> {
    let output = std::process::Command::new(program).arg("--version").output().ok()?;
    Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Where the binary is, checked early: everything else takes minutes.
pub(crate) fn find(program: &Path) -> Result<PathBuf, Failure> {
    let missing = |_| format!("{} is not there: build it with cargo build --release", program.display());
    Ok(program.canonicalize().map_err(missing)?)
}

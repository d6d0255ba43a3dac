//! All devices of the demo, working at the same time, with their times taken.

use base::Key;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::cloud::Cloud;
use crate::fleet::{Device, Fault, Group, Latencies, Site};

pub(super) struct Fleet {
    devices: Vec<Device>,
    /// A module of the first device; modules have twins of their own.
    module: Option<Device>,
    site: Site,
    times: Times,
}

#[derive(Default)]
struct Times {
    register: Latencies,
    connect: Latencies,
    report: Latencies,
    desired: Latencies,
    method: Latencies,
    telemetry: Latencies,
}

const MODULE: &str = "climate";

impl Fleet {
    pub(super) async fn register(site: &Site, group: &Group, ids: &[String]) -> Result<Self, Fault> {
        let mut tasks = JoinSet::new();
        for id in ids {
            let (id, site, group) = (id.clone(), site.clone(), group.clone());
            tasks.spawn(async move {
                let begun_at = site.clock.elapsed();
                let device = Device::register(&id, &group, &site, None).await?;
                Ok::<_, Fault>((device, site.clock.elapsed().since(begun_at)))
            });
        }
        let (mut devices, mut times) = (Vec::new(), Times::default());
        while let Some(done) = tasks.join_next().await {
            let (device, time) = done.map_err(|error| Fault::unexpected(error.to_string()))??;
            devices.push(device);
            times.register.add(time);
        }
        devices.sort_by(|a, b| a.identity.cmp(&b.identity));
        Ok(Self { devices, module: None, site: site.clone(), times })
    }

    pub(super) fn len(&self) -> usize {
        self.devices.len()
    }

    pub(super) fn hub_host(&self) -> &str {
        self.devices.first().map_or("", Device::hub)
    }

    /// Lets every device do `work` at the same time; returns the time each took.
    async fn all<F>(&mut self, work: F) -> Result<Latencies, Fault>
    where
        F: for<'a> Fn(&'a mut Device, usize) -> Work<'a> + Send + Sync + Clone + 'static,
    {
        let mut tasks = JoinSet::new();
        for (index, mut device) in std::mem::take(&mut self.devices).into_iter().enumerate() {
            let (work, clock) = (work.clone(), self.site.clock.clone());
            tasks.spawn(async move {
                let begun_at = clock.elapsed();
                let result = work(&mut device, index).await;
                (device, result.map(|()| clock.elapsed().since(begun_at)))
            });
        }
        let mut times = Latencies::default();
        let mut fault = None;
        while let Some(done) = tasks.join_next().await {
            let (device, result) = done.map_err(|error| Fault::unexpected(error.to_string()))?;
            match result {
                Ok(time) => times.add(time),
                Err(error) => fault = Some(Fault::unexpected(format!("{}: {error}", device.identity))),
            }
            self.devices.push(device);
        }
        self.devices.sort_by(|a, b| a.identity.cmp(&b.identity));
        fault.map_or(Ok(times), Err)
    }

    pub(super) async fn connect(&mut self) -> Result<(), Fault> {
        let site = self.site.clone();
        let times = self.all(move |device, _| {
            let site = site.clone();
            Box::pin(async move { device.connect(&site).await })
        });
        self.times.connect = times.await?;
        Ok(())
    }

    /// Devices report; the cloud sets desired properties; devices receive them. The same for a module of the first device.
    pub(super) async fn set_desired(&mut self, cloud: &Cloud) -> Result<(), Fault> {
        self.times.report = self
            .all(|device, index| {
                Box::pin(async move { device.report(&json!({"firmware": "1.4.2", "slot": index})).await })
            })
            .await?;
        self.add_module(cloud).await?;
        let (cloud_of, clock) = (cloud.clone(), self.site.clock.clone());
        let times = self.all(move |device, index| {
            let cloud = cloud_of.clone();
            Box::pin(async move {
                let target = json!(20 + index % 5);
                let patch = json!({"properties": {"desired": {"targetTemperature": target}}});
                let path = format!("/twins/{}", device.identity.device_id);
                cloud.hub("PATCH", &path, &[], &patch).await?;
                device.await_desired("targetTemperature", &target).await
            })
        });
        self.times.desired = times.await?;
        let begun_at = clock.elapsed();
        let module = self.module.as_mut().ok_or_else(|| Fault::unexpected("there is no module"))?;
        let path = format!("/twins/{}/modules/{MODULE}", module.identity.device_id);
        let before = cloud.hub("GET", &path, &[], &Value::Null).await?;
        let etag = format!("\"{}\"", before["etag"].as_str().unwrap_or_default());
        let patch = json!({"tags": {"role": MODULE}, "properties": {"desired": {"mode": "eco"}}});
        cloud.hub("PATCH", &path, &[("if-match", &etag)], &patch).await?;
        module.await_desired("mode", &json!("eco")).await?;
        self.times.desired.add(clock.elapsed().since(begun_at));
        module.report(&json!({"mode": {"value": "eco", "ac": 200}})).await?;
        let twin = module.read_twin().await?;
        if twin["reported"]["mode"]["value"] != "eco" || twin["desired"]["mode"] != "eco" {
            return Err(Fault::unexpected(format!("the module's twin is {twin}")));
        }
        Ok(())
    }

    async fn add_module(&mut self, cloud: &Cloud) -> Result<(), Fault> {
        let owner = self.devices.first().ok_or_else(|| Fault::unexpected("there is no device"))?;
        let key = Key::generate(32);
        let symmetric = json!({"primaryKey": key.text(), "secondaryKey": key.text()});
        let device_id = owner.identity.device_id.to_string();
        let body = json!({
            "deviceId": device_id, "moduleId": MODULE, "authentication": {"type": "sas", "symmetricKey": symmetric},
        });
        cloud.hub("PUT", &format!("/devices/{device_id}/modules/{MODULE}"), &[], &body).await?;
        let mut module = owner.module(MODULE, key)?;
        module.connect(&self.site).await?;
        self.module = Some(module);
        Ok(())
    }

    pub(super) async fn call_methods(&mut self, cloud: &Cloud) -> Result<(), Fault> {
        let cloud = cloud.clone();
        let times = self.all(move |device, index| {
            let cloud = cloud.clone();
            Box::pin(async move {
                let path = format!("/twins/{}/methods", device.identity.device_id);
                let call = json!({"methodName": "blink", "responseTimeoutInSeconds": 10, "payload": {"times": index}});
                let (answer, answered) = tokio::join!(cloud.hub("POST", &path, &[], &call), device.answer_method());
                answered?;
                let answer = answer?;
                if answer == json!({"status": 200, "payload": {"done": {"times": index}}}) {
                    return Ok(());
                }
                Err(Fault::unexpected(format!("the method answered {answer}")))
            })
        });
        self.times.method = times.await?;
        Ok(())
    }

    /// One message from every device; `temperature` is told the device's index.
    pub(super) async fn send(
        &mut self,
        temperature: impl Fn(usize) -> f64 + Send + Sync + Clone + 'static,
    ) -> Result<(), Fault> {
        let times = self.all(move |device, index| {
            let body = json!({"temperature": temperature(index), "humidity": 40 + index});
            Box::pin(async move { device.send(&body).await })
        });
        let times = times.await?;
        self.times.telemetry.merge(&times);
        Ok(())
    }

    pub(super) fn latencies(&self) -> Vec<(&'static str, Latencies)> {
        let times = &self.times;
        vec![
            ("register through provisioning (TLS, MQTT)", times.register.clone()),
            ("connect and subscribe (TLS, MQTT)", times.connect.clone()),
            ("report properties, acknowledged", times.report.clone()),
            ("desired change, cloud to device", times.desired.clone()),
            ("direct method, there and back", times.method.clone()),
            ("telemetry, durable acknowledgement", times.telemetry.clone()),
        ]
    }

    pub(super) async fn disconnect(self) {
        for device in self.devices.into_iter().chain(self.module) {
            device.disconnect().await;
        }
    }
}

type Work<'a> = std::pin::Pin<Box<dyn Future<Output = Result<(), Fault>> + Send + 'a>>;

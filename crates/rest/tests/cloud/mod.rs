//! A whole server in memory behind its front door: an owner, a resource group, two hubs, a provisioning service linked to both.
//! All of it is made through Resource Manager, as a user would.

#![allow(
    dead_code,
    clippy::unwrap_used,
    reason = "each test binary uses a part of it, and a panic is a test's way to fail"
)]

use std::sync::Mutex;
use std::time::Duration;

use access::directory::{ClientCredentials, NewRoleAssignment};
use access::{Caller, Directory, roles};
use base::hosts::{EveryName, Hosts, Machine};
use base::{Clock, Refusals, Timestamp};
use bytes::Bytes;
use hub::Hubs;

use entrance::Peer;
use provisioning::Services;
use resource_manager::subscription::Subscription;
use rest::{Front, Head, Response, mount};
use serde_json::{Value, json};
use test_house::{Ground, House};

pub(crate) const SUBSCRIPTION: &str = "6e5b9c1d-7e2f-4f0a-9b11-5c2f0f6d7a10";
pub(crate) const GROUP: &str = "myresourcegroup";
pub(crate) const DPS: &str = "mydps";
/// What PowerShell's module asks Resource Manager for.
pub(crate) const ARM_VERSION: &str = "2017-11-15";
const MANAGEMENT: &str = "management.example.test";

pub(crate) struct Cloud {
    pub(crate) front: Front,
    pub(crate) clock: Clock,
    pub(crate) hubs: Hubs,
    pub(crate) services: Services,
    /// The owner's, and that of somebody who has no role here.
    pub(crate) token: String,
    pub(crate) stranger: String,
    /// Every request, as `METHOD path`.
    requests: Mutex<Vec<String>>,
}

impl Cloud {
    pub(crate) async fn new() -> Self {
        Self::on(EveryName).await
    }

    pub(crate) async fn on(machine: impl Machine + 'static) -> Self {
        let clock = Clock::manual(Timestamp::from_unix_seconds(1_750_000_000));
        let hosts = Hosts::new("example.test", 443, machine);
        let settings = resource_manager::Settings { is_synchronous: true, ..Default::default() };
        let house = House::on(Ground { settings, ..Ground::new(clock.clone(), "example.test", hosts) }).await;
        let House { hosts, directory, hubs, services, instances, manager, .. } = house;
        let subscription = Subscription {
            id: SUBSCRIPTION.to_owned(),
            display_name: "test".to_owned(),
            tenant_id: directory.tenant_id().to_owned(),
        };
        manager.ensure_subscription(&subscription).await.unwrap();
        let token = signed_in(&directory, Some(roles::OWNER)).await;
        let stranger = signed_in(&directory, None).await;
        let entra = mount(rest::entra::Entra { directory: directory.clone(), clock: clock.clone() });
        let front = Front {
            hosts: hosts.clone(),
            hub: mount(rest::hub::HubDoor {
                hubs: hubs.clone(),
                directory: directory.clone(),
                clock: clock.clone(),
            }),
            provisioning: mount(rest::provisioning::ProvisioningDoor {
                services: services.clone(),
                directory: directory.clone(),
                clock: clock.clone(),
            }),
            digital_twins: mount(rest::digital_twins::DigitalTwins {
                instances,
                directory: directory.clone(),
                hosts,
            }),
            graph: mount(rest::graph::Graph { directory: directory.clone(), clock: clock.clone() }),
            resource_manager: mount(rest::resource_manager::Management { manager, directory }),
            // The front wants them; nothing here asks them anything.
            storage: entra.clone(),
            admin: entra.clone(),
            refusals: Refusals::new(clock.clone()),
            entra,
        };
        let requests = Mutex::default();
        let cloud = Self { front, clock, hubs, services, token, stranger, requests };
        cloud.make_resources().await;
        cloud.requests.lock().unwrap().clear();
        cloud
    }

    async fn make_resources(&self) {
        self.manage("PUT", "", json!({"location": "West US"})).await;
        let mut links = vec![];
        for hub in ["hub1", "hub2"] {
            let path = format!("/providers/Microsoft.Devices/IotHubs/{hub}");
            let body = json!({"location": "West US", "sku": {"name": "S1", "capacity": 1}, "properties": {}});
            self.manage("PUT", &path, body).await;
            let keys = self.manage("POST", &format!("{path}/listkeys"), Value::Null).await;
            let owner =
                keys["value"].as_array().unwrap().iter().find(|k| k["keyName"] == "iothubowner").unwrap();
            let key = owner["primaryKey"].as_str().unwrap();
            let host = format!("{hub}.azure-devices.example.test");
            links.push(json!({
                "connectionString": format!("HostName={host};SharedAccessKeyName=iothubowner;SharedAccessKey={key}"),
                "location": "West US",
            }));
        }
        let body = json!({"location": "West US", "sku": {"name": "S1"}, "properties": {"iotHubs": links}});
        self.manage("PUT", &service_path(DPS), body).await;
    }

    /// A request of the owner to Resource Manager about something of the group; it must succeed.
    pub(crate) async fn manage(&self, method: &str, path: &str, body: Value) -> Value {
        let response = self.manage_as(&self.token, method, path, &body).await;
        assert!(response.status.is_success(), "{method} {path}: {response:?}");
        response.body_json()
    }

    pub(crate) async fn manage_as(&self, token: &str, method: &str, path: &str, body: &Value) -> Response {
        let version = if path.is_empty() { "2021-04-01" } else { ARM_VERSION };
        let version = if path.contains("IotHubs") { "2021-07-02" } else { version };
        let version = if path.contains("DigitalTwins") { "2023-01-31" } else { version };
        let path =
            format!("/subscriptions/{SUBSCRIPTION}/resourceGroups/{GROUP}{path}?api-version={version}");
        let bearer = format!("Bearer {token}");
        self.send(method, MANAGEMENT, &path, &[("authorization", &bearer)], body).await
    }

    pub(crate) async fn send(
        &self,
        method: &str,
        host: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &Value,
    ) -> Response {
        self.send_to(Peer::default(), method, host, path, headers, body).await
    }

    /// As from a client that reached the address of ours in `peer`.
    pub(crate) async fn send_to(
        &self,
        peer: Peer,
        method: &str,
        host: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &Value,
    ) -> Response {
        let bare = path.split('?').next().unwrap_or(path);
        self.requests.lock().unwrap().push(format!("{method} {bare}"));
        let mut request = http::Request::builder().method(method).uri(path).header("host", host);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let body = match body {
            Value::Null => Bytes::new(),
            body => {
                request = request.header("content-type", "application/json; charset=utf-8");
                Bytes::from(body.to_string())
            }
        };
        let (parts, ()) = request.body(()).unwrap().into_parts();
        self.front.answer(Head::new(&parts, peer), body).await
    }

    /// The requests since the last time.
    pub(crate) fn take_requests(&self) -> Vec<String> {
        std::mem::take(&mut *self.requests.lock().unwrap())
    }

    pub(crate) fn service(&self) -> provisioning::Service {
        self.services.find(DPS).unwrap()
    }

    pub(crate) fn in_an_hour(&self) -> Timestamp {
        self.clock.now().plus(Duration::from_hours(1))
    }
}

pub(crate) fn service_path(name: &str) -> String {
    format!("/providers/Microsoft.Devices/provisioningServices/{name}")
}

/// A token for Resource Manager of a new principal, with `role` in the subscription.
async fn signed_in(directory: &Directory, role: Option<&str>) -> String {
    let principal = directory.create_service_principal("someone").await.unwrap();
    if let Some(role) = role {
        let assignment = NewRoleAssignment {
            id: uuid::Uuid::new_v4().to_string(),
            scope_path: format!("/subscriptions/{SUBSCRIPTION}"),
            role_definition_id: role.to_owned(),
            principal_id: principal.object_id.clone(),
            principal_type: None,
            description: None,
        };
        directory.put_role_assignment(&Caller::system(), assignment).await.unwrap();
    }
    let credentials = ClientCredentials {
        client_id: &principal.app_id,
        client_secret: principal.secrets[0].secret.expose(),
        resource: "https://management.azure.com",
        base_url: "https://management.example.test",
        from: None,
    };
    directory.issue(&credentials).await.unwrap().access_token.expose().to_owned()
}

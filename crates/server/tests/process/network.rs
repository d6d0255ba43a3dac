//! From where the built binary is reached: devices whose sockets are bound to one address or another meet the rules of their hub.

use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};

use serde_json::{Value, json};
use server::client::ClientError;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::stress::Owner;
use super::*;

const LINE: Ipv4Addr = Ipv4Addr::new(127, 99, 1, 2);
const OFFICE: Ipv4Addr = Ipv4Addr::new(127, 98, 1, 2);

/// A server whose default hub has a device `dev1`.
struct Site {
    directory: tempfile::TempDir,
    server: Server,
    trust: Trust,
    key: base::Key,
    hub: String,
    manage: String,
}

impl Site {
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let server = Server::start(directory.path());
        let (variables, manage) = log_in(directory.path()).await;
        let owner = Owner::of(directory.path(), &server);
        assert_eq!(owner.put_device(&server, "dev1").await, 200);
        let pem = std::fs::read_to_string(directory.path().join("ca.pem")).unwrap();
        let key = variables["IOTHUB_CONNECTION_STRING"].rsplit_once("SharedAccessKey=").unwrap().1;
        let hub = format!(
            "/subscriptions/{}/resourceGroups/twinhub/providers/Microsoft.Devices/IotHubs/hub?api-version=2023-06-30",
            variables["AZURE_SUBSCRIPTION_ID"]
        );
        let (key, hub) = (key.parse().unwrap(), server.url(&hub));
        Self { trust: Trust::only(&pem).unwrap(), key, hub, manage, directory, server }
    }

    /// Sets members of the hub's properties, as a client does that reads them, changes them and puts them back.
    async fn set(&self, members: Value) {
        let https = client(self.directory.path());
        let headers = [("authorization", self.manage.as_str()), ("content-type", "application/json")];
        let mut hub = https.ask("GET", &self.hub, &headers, "").await.unwrap().json();
        hub["properties"].as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        https.ask("PUT", &self.hub, &headers, hub.to_string()).await.unwrap();
        let settled = async {
            loop {
                let properties =
                    https.ask("GET", &self.hub, &headers, "").await.unwrap().json()["properties"].clone();
                if properties["provisioningState"] == "Succeeded" {
                    return;
                }
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), settled).await.expect("the hub is changed");
    }

    fn token(&self) -> String {
        let soon = base::Clock::system().now().plus(Duration::from_hours(1));
        base::sas::build(
            &format!("{}/devices/dev1", self.server.address),
            &self.key,
            soon,
            Some("iothubowner"),
        )
    }

    async fn connection(&self, from: Ipv4Addr, port: u16) -> TlsStream<TcpStream> {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddrV4::new(from, 0).into()).unwrap();
        let tcp = socket.connect(format!("{}:{port}", self.server.address).parse().unwrap()).await.unwrap();
        self.trust.over(tcp, &self.server.address, port).await.unwrap()
    }

    async fn mqtt(&self, from: Ipv4Addr) -> Result<MqttClient, ClientError> {
        let user_name = format!("{}/dev1/?api-version=2021-04-12", self.server.address);
        let login =
            Login { client_id: "dev1", user_name: &user_name, password: &self.token(), clean_session: true };
        let connected = MqttClient::over(self.connection(from, 8883).await, &login);
        tokio::time::timeout(Duration::from_secs(30), connected).await.expect("it is answered")
    }

    /// The status of a message that is sent on an open connection of HTTPS.
    async fn sends(&self, stream: &mut TlsStream<TcpStream>) -> u16 {
        let request = format!(
            "POST /devices/dev1/messages/events?api-version=2020-03-13 HTTP/1.1\r\nhost: {}:8443\r\n\
             authorization: {}\r\ncontent-length: 2\r\n\r\n{{}}",
            self.server.address,
            self.token()
        );
        let exchange = async {
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
            let mut body = vec![0; length.map_or(0, |length| length.trim().parse().unwrap())];
            stream.read_exact(&mut body).await.unwrap();
            head.split(' ').nth(1).unwrap().parse().unwrap()
        };
        tokio::time::timeout(Duration::from_secs(30), exchange).await.expect("it is answered")
    }

    async fn lets_in(&self, from: Ipv4Addr) {
        let mut device = self.mqtt(from).await.unwrap_or_else(|error| panic!("{from}: {error}"));
        device.publish("devices/dev1/messages/events/", "{}").await.unwrap();
        assert_eq!(self.sends(&mut self.connection(from, 8443).await).await, 204, "{from}");
    }

    async fn keeps_out(&self, from: Ipv4Addr) {
        let refused = self.mqtt(from).await.err();
        assert!(matches!(refused, Some(ClientError::Refused(_))), "{from}: {refused:?}");
        assert_eq!(self.sends(&mut self.connection(from, 8443).await).await, 401, "{from}");
    }
}

#[tokio::test]
async fn ip_rules_keep_a_device_out_by_the_address_that_its_socket_has() {
    let site = Site::new().await;
    site.lets_in(LINE).await;
    let mut kept = site.connection(LINE, 8443).await;
    assert_eq!(site.sends(&mut kept).await, 204);
    let mut connected = site.mqtt(LINE).await.unwrap();
    site.set(
        json!({"ipFilterRules": [{"filterName": "line", "action": "Reject", "ipMask": "127.99.0.0/16"}]}),
    )
    .await;
    // A change cuts no connection, and every request is judged anew.
    connected.publish("devices/dev1/messages/events/", "{}").await.unwrap();
    assert_eq!(site.sends(&mut kept).await, 401);
    site.keeps_out(LINE).await;
    site.lets_in(OFFICE).await;
    let rule = json!({"filterName": "line", "action": "Allow", "ipMask": "127.99.1.0/24"});
    site.set(json!({"ipFilterRules": [], "networkRuleSets": {"defaultAction": "Deny", "ipRules": [rule]}}))
        .await;
    site.lets_in(LINE).await;
    site.keeps_out(OFFICE).await;
    site.set(json!({"networkRuleSets": null})).await;
    site.lets_in(OFFICE).await;
}

/// An address of this machine that others could have too. Nothing is sent to find it out.
fn address_elsewhere() -> Option<Ipv4Addr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
    socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9)).ok()?;
    match socket.local_addr().unwrap().ip() {
        std::net::IpAddr::V4(address) if !address.is_loopback() => Some(address),
        _ => None,
    }
}

#[tokio::test]
async fn a_hub_without_public_access_lets_in_who_comes_by_a_loopback_address() {
    let Some(elsewhere) = address_elsewhere() else {
        return test_data::did_not_run("this machine has no address but its own");
    };
    let site = Site::new().await;
    site.lets_in(elsewhere).await;
    site.set(json!({"publicNetworkAccess": "Disabled"})).await;
    site.keeps_out(elsewhere).await;
    site.lets_in(OFFICE).await;
    site.set(json!({"publicNetworkAccess": "Enabled"})).await;
    site.lets_in(elsewhere).await;
}

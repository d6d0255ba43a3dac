//! `twinhub events`: what devices send, readable for people and exact for programs.

use std::path::Path;
use std::time::Duration;

use base::{Clock, Key, sas};
use serde_json::{Value, json};
use server::client::{Login, MqttClient, Trust};

use crate::fixture::{Server, client, environment, twinhub};

/// Sends bodies as a new device.
async fn send(directory: &Path, server: &Server, bodies: &[&[u8]]) {
    let variables = environment(directory);
    let owner = &variables["IOTHUB_CONNECTION_STRING"];
    let key: Key = owner.rsplit_once("SharedAccessKey=").unwrap().1.parse().unwrap();
    let soon = Clock::system().now().plus(Duration::from_hours(1));
    let token = sas::build(&server.address, &key, soon, Some("iothubowner"));
    let headers = [("authorization", token.as_str()), ("content-type", "application/json")];
    let url = server.url("/devices/dev1?api-version=2021-04-12");
    client(directory).ask("PUT", &url, &headers, "{\"deviceId\": \"dev1\"}").await.unwrap();

    let user_name = format!("{}/dev1/?api-version=2021-04-12", server.address);
    let resource = format!("{}/devices/dev1", server.address);
    let password = sas::build(&resource, &key, soon, Some("iothubowner"));
    let login = Login { client_id: "dev1", user_name: &user_name, password: &password, clean_session: true };
    let trust = Trust::only(&std::fs::read_to_string(directory.join("ca.pem")).unwrap()).unwrap();
    let mut device = MqttClient::connect(&trust, &server.address, 8883, &login).await.unwrap();
    for body in bodies {
        device.publish("devices/dev1/messages/events/", body.to_vec()).await.unwrap();
    }
    device.disconnect().await.unwrap();
}

#[tokio::test]
async fn a_text_is_shown_to_people_as_text_and_to_programs_by_the_contract() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path());
    let bodies: [&[u8]; 4] =
        ["21,5 °C\nand rising".as_bytes(), b"{\"t\": 1}", b"\xff\x00", b"\x1b]0;title\x07"];
    send(directory.path(), &server, &bodies).await;

    let (ok, printed, said) = twinhub(directory.path(), &["events"]);
    assert!(ok, "{said}");
    let bodies: Vec<_> = printed.lines().filter_map(|line| line.split_once("  Telemetry  ")).collect();
    let bodies: Vec<_> = bodies.iter().map(|(_, body)| *body).collect();
    assert_eq!(bodies, ["21,5 °C\\nand rising", "{\"t\":1}", "base64:/wA=", "base64:G10wO3RpdGxlBw=="]);

    let (ok, printed, said) = twinhub(directory.path(), &["events", "--json"]);
    assert!(ok, "{said}");
    let events = printed.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let telemetry: Vec<_> = events.filter(|event| event["source"] == "Telemetry").collect();
    let told: Vec<_> = telemetry.iter().map(|event| (&event["body"], &event["bodyEncoding"])).collect();
    assert_eq!(told[0], (&json!("MjEsNSDCsEMKYW5kIHJpc2luZw=="), &json!("base64")));
    assert_eq!(told[1], (&json!({"t": 1}), &Value::Null));
    assert_eq!(told[2], (&json!("/wA="), &json!("base64")));
}

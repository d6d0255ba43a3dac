//! Devices at their hub, through the door: what they may do, what they get, and what ends a connection.
#![allow(clippy::unwrap_used, reason = "a test may panic at a surprise")]

mod certificates;
mod cloud_to_device;
mod connect;
mod direct_methods;
mod ends;
#[path = "../fixture/mod.rs"]
mod fixture;
mod refusals;
mod subscriptions;
mod telemetry;
mod twins;
mod websockets;

use access::Caller;
use base::{IfMatch, Key, Meter, sas};
use bytes::Bytes;
use entrance::Peer;
use fixture::client::{Client, ClientError, hub_connect, within};
use fixture::{Fixture, HOST, OTHER_HOST, add_device, closed};
use hub::device::{DeviceSpec, Status};
use hub::direct_method::MethodRequest;
use mqtt::codec::{
    Connect, ConnectReturnCode, Delivery, Packet, PacketId, Publish, Qos, SubAck, Subscribe, Text, Will,
};
use mqtt::topic::ToDevice;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

const TELEMETRY: &str = "devices/dev1/messages/events/";
const MODULE_TELEMETRY: &str = "devices/dev1/modules/mod1/messages/events/";
const TWIN_RESPONSES: &str = "$iothub/twin/res/#";
const DESIRED: &str = "$iothub/twin/PATCH/properties/desired/#";
const METHODS: &str = "$iothub/methods/POST/#";

type Device = Client<DuplexStream>;

fn id(number: u16) -> PacketId {
    PacketId::new(number).unwrap()
}

fn publish(topic: &str, delivery: Delivery, payload: &[u8]) -> Packet {
    let topic = Text::try_from(topic).unwrap();
    Packet::Publish(Publish { delivery, retain: false, topic, payload: Bytes::copy_from_slice(payload) })
}

/// Asks for the twin and gives back status, version and body of the answer.
async fn twin_request(device: &mut Device, topic: &str, payload: &[u8]) -> (u16, Option<u64>, Value) {
    device.publish(topic, payload).await.unwrap();
    let answer = device.next_publish().await.unwrap();
    assert_eq!(answer.delivery, Delivery::AtMostOnce);
    match ToDevice::parse(&answer.topic).unwrap() {
        ToDevice::TwinResponse { status, request_id: "r1", version } => {
            (status, version, serde_json::from_slice(&answer.payload).unwrap_or(Value::Null))
        }
        other => panic!("{other:?}"),
    }
}

fn request(name: &str) -> MethodRequest {
    let payload = serde_json::value::RawValue::from_string("{\"seconds\":3}".into()).unwrap();
    let (connect_timeout_seconds, response_timeout_seconds) = (None, None);
    MethodRequest {
        name: name.into(),
        payload: Some(payload),
        connect_timeout_seconds,
        response_timeout_seconds,
    }
}

fn with_will(connect: Connect) -> Connect {
    let topic = Text::try_from("devices/dev1/messages/events/why=gone").unwrap();
    let will = Will { qos: Qos::AtLeastOnce, retain: true, topic, payload: Bytes::from_static(b"bye") };
    Connect { will: Some(will), ..connect }
}

/// Whether exactly one will has arrived, with everything that makes it one.
async fn has_one_will(fixture: &Fixture) -> bool {
    let messages = fixture.messages().await;
    let wills: Vec<_> =
        messages.iter().filter(|m| m.application("iothub-MessageType") == Some("Will")).collect();
    wills.len() == 1
        && wills[0].body == b"bye"
        && wills[0].application("why") == Some("gone")
        && wills[0].application("mqtt-retain") == Some("true")
}

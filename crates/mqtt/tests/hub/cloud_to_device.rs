//! Messages from the cloud as the device sees them: topics, acknowledgements, order, and what a connection leaves to the next.

use hub::Settlement;
use hub::cloud_to_device::{Ack, Outcome, Properties};

use super::*;

const MESSAGES: &str = "devices/dev1/messages/devicebound/#";

async fn send(fixture: &Fixture, properties: Properties, body: &'static str) {
    let (service, device) = (Caller::system(), "dev1".parse().unwrap());
    fixture
        .hub
        .send_to_device(&service, &device, properties, Bytes::from_static(body.as_bytes()))
        .await
        .unwrap();
}

async fn send_body(fixture: &Fixture, body: &'static str) {
    send(fixture, Properties::default(), body).await;
}

async fn waiting(fixture: &Fixture) -> u32 {
    fixture.hub.get_device(&Caller::system(), &"dev1".parse().unwrap()).await.unwrap().messages
}

/// Waits until so many messages are left in the queue.
async fn left(fixture: &Fixture, count: u32) {
    let is_so = async {
        while waiting(fixture).await != count {
            tokio::task::yield_now().await;
        }
    };
    within(is_so).await.unwrap();
}

/// The next message, which is not acknowledged by that.
async fn received(device: &mut Device) -> Publish {
    match device.receive().await.unwrap() {
        Packet::Publish(message) => message,
        other => panic!("{other:?}"),
    }
}

/// The next message, and what acknowledges it.
async fn next(device: &mut Device) -> (String, PacketId) {
    let message = received(device).await;
    let Delivery::AtLeastOnce { packet_id, is_duplicate: false } = message.delivery else {
        panic!("{message:?}")
    };
    (String::from_utf8(message.payload.to_vec()).unwrap(), packet_id)
}

#[tokio::test]
async fn a_message_comes_with_its_properties_and_is_gone_once_it_is_acknowledged() {
    let fixture = Fixture::new().await;
    let mut device = fixture.device("dev1").await.connect().await;
    let properties = Properties {
        message_id: Some("m1".into()),
        to: Some("/devices/dev1/messages/deviceBound".into()),
        ack: Some(Ack::Full),
        application: vec![("a b".into(), "1/2".into())],
        ..Properties::default()
    };
    send(&fixture, properties, "before").await;
    device.subscribe(MESSAGES, Qos::AtLeastOnce).await.unwrap();
    let message = received(&mut device).await;
    let topic = "devices/dev1/messages/devicebound/%24.mid=m1&%24.to=%2Fdevices%2Fdev1%2Fmessages%2FdeviceBound\
                 &iothub-ack=full&a%20b=1%2F2";
    assert_eq!((&*message.topic, &message.payload[..]), (topic, &b"before"[..]));
    let Delivery::AtLeastOnce { packet_id, is_duplicate: false } = message.delivery else { panic!("QoS 1") };
    send_body(&fixture, "after").await;
    let (body, second) = next(&mut device).await;
    assert_eq!((body.as_str(), waiting(&fixture).await), ("after", 2));
    device.send(&Packet::PubAck(packet_id)).await.unwrap();
    left(&fixture, 1).await;
    device.send(&Packet::PubAck(second)).await.unwrap();
    device.send(&Packet::PubAck(second)).await.unwrap();
    left(&fixture, 0).await;
    let feedback = fixture.hub.receive_feedback(&Caller::system()).await.unwrap().unwrap();
    let told = &feedback.told[0];
    assert_eq!((told.original_message_id.as_deref(), told.outcome), (Some("m1"), Outcome::Success));
}

#[tokio::test]
async fn what_is_not_acknowledged_comes_again_to_the_next_connection_and_what_is_never_does() {
    let fixture = Fixture::new().await;
    let device = fixture.device("dev1").await;
    let clean = || Connect { clean_session: true, ..device.connect_packet() };
    let mut first = fixture.connect(clean()).await.unwrap();
    first.subscribe(MESSAGES, Qos::AtLeastOnce).await.unwrap();
    for body in ["one", "two", "three"] {
        send_body(&fixture, body).await;
    }
    let mut ids = Vec::new();
    for body in ["one", "two", "three"] {
        let (received, packet_id) = next(&mut first).await;
        assert_eq!(received, body);
        ids.push(packet_id);
    }
    first.send(&Packet::PubAck(ids[1])).await.unwrap();
    first.disconnect().await.unwrap();
    left(&fixture, 2).await;
    let mut second = fixture.connect(clean()).await.unwrap();
    second.subscribe("devices/+/messages/devicebound/#", Qos::AtLeastOnce).await.unwrap();
    for body in ["one", "three"] {
        assert_eq!(next(&mut second).await.0, body);
    }
}

#[tokio::test]
async fn at_quality_of_service_0_a_message_is_complete_when_it_is_sent() {
    let fixture = Fixture::new().await;
    let mut device = fixture.device("dev1").await.connect().await;
    send_body(&fixture, "one").await;
    device.subscribe(MESSAGES, Qos::AtMostOnce).await.unwrap();
    let message = device.next_publish().await.unwrap();
    assert_eq!((message.delivery, &message.payload[..]), (Delivery::AtMostOnce, &b"one"[..]));
    left(&fixture, 0).await;
}

#[tokio::test]
async fn a_stored_session_has_the_messages_that_came_while_nobody_was_connected() {
    let fixture = Fixture::new().await;
    let device = fixture.device("dev1").await;
    let lasting = || Connect { clean_session: false, ..device.connect_packet() };
    let mut first = fixture.connect(lasting()).await.unwrap();
    first.subscribe(MESSAGES, Qos::AtLeastOnce).await.unwrap();
    first.disconnect().await.unwrap();
    send_body(&fixture, "meanwhile").await;
    let mut second = fixture.connect(lasting()).await.unwrap();
    assert!(second.session_present());
    assert_eq!(next(&mut second).await.0, "meanwhile");
}

#[tokio::test]
async fn no_more_than_a_window_is_under_way_and_the_rest_follows() {
    let fixture = Fixture::new().await;
    let mut device = fixture.device("dev1").await.connect().await;
    for _ in 0..20 {
        send_body(&fixture, "x").await;
    }
    device.subscribe(MESSAGES, Qos::AtLeastOnce).await.unwrap();
    let mut ids = Vec::new();
    for _ in 0..base::caps::CLOUD_TO_DEVICE_WINDOW {
        ids.push(next(&mut device).await.1);
    }
    device.send(&Packet::PingReq).await.unwrap();
    assert_eq!(device.receive().await.unwrap(), Packet::PingResp, "nothing more comes");
    for packet_id in ids.drain(..4) {
        device.send(&Packet::PubAck(packet_id)).await.unwrap();
    }
    for _ in 0..4 {
        ids.push(next(&mut device).await.1);
    }
    for packet_id in ids {
        device.send(&Packet::PubAck(packet_id)).await.unwrap();
    }
    left(&fixture, 0).await;
}

#[tokio::test]
async fn a_message_that_was_given_back_comes_marked_as_a_duplicate() {
    let fixture = Fixture::new().await;
    let device = fixture.device("dev1").await;
    send_body(&fixture, "x").await;
    let (caller, id) = (Caller::system(), "dev1".parse().unwrap());
    let received = fixture.hub.receive_message(&caller, &id).await.unwrap().unwrap();
    let mut connected = device.connect().await;
    connected.subscribe(MESSAGES, Qos::AtLeastOnce).await.unwrap();
    connected.send(&Packet::PingReq).await.unwrap();
    assert_eq!(connected.receive().await.unwrap(), Packet::PingResp, "somebody holds it");
    let token = received.lock_token.unwrap();
    fixture.hub.settle_message(&caller, &id, token, Settlement::Abandon).await.unwrap();
    let message = connected.next_publish().await.unwrap();
    assert!(matches!(message.delivery, Delivery::AtLeastOnce { is_duplicate: true, .. }), "{message:?}");
}

#[tokio::test]
async fn one_whose_properties_fit_no_topic_holds_up_none_of_the_others() {
    let fixture = Fixture::new().await;
    let mut device = fixture.device("dev1").await.connect().await;
    let application = vec![("large".to_owned(), "/".repeat(30_000))];
    send(&fixture, Properties { application, ..Properties::default() }, "large").await;
    send_body(&fixture, "small").await;
    device.subscribe(MESSAGES, Qos::AtLeastOnce).await.unwrap();
    let (body, packet_id) = next(&mut device).await;
    assert_eq!(body, "small");
    device.send(&Packet::PubAck(packet_id)).await.unwrap();
    left(&fixture, 1).await;
}

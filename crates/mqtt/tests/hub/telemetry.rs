//! Telemetry: durable, in order, stamped.

use super::*;

#[tokio::test]
async fn telemetry_is_durable_before_it_is_acknowledged() {
    let fixture = Fixture::new().await;
    let mut device = fixture.device("dev1").await.connect().await;
    let topic = "devices/dev1/messages/events/%24.mid=m%201&%24.ct=application%2Fjson&%24.ce=utf-8&a%20b=c%2Bd%26e&%24.xyz=1/";
    device.publish(topic, b"{\"t\":21}").await.unwrap();
    let messages = fixture.messages().await;
    let [message] = &messages[..] else { panic!("{messages:?}") };
    assert_eq!(message.body, b"{\"t\":21}");
    assert_eq!(message.system("message-id"), Some("m 1"));
    assert_eq!(message.system("content-type"), Some("application/json"));
    assert_eq!(message.system("content-encoding"), Some("utf-8"));
    assert_eq!(message.system("iothub-connection-device-id"), Some("dev1"));
    assert_eq!(message.system("iothub-message-source"), Some("Telemetry"));
    assert_eq!(message.application, [("a b".to_owned(), "c+d&e".to_owned())]);
}

#[tokio::test]
async fn acknowledgements_come_in_the_order_of_receipt() {
    let fixture = Fixture::new().await;
    let mut device = fixture.device("dev1").await.connect().await;
    let mut bytes = bytes::BytesMut::new();
    for number in 1..=300 {
        let delivery = Delivery::AtLeastOnce { packet_id: id(number), is_duplicate: false };
        publish(TELEMETRY, delivery, b"x").encode(&mut bytes).unwrap();
    }
    device.send_bytes(&bytes).await.unwrap();
    for number in 1..=300 {
        assert_eq!(device.receive().await.unwrap(), Packet::PubAck(id(number)));
    }
    assert_eq!(fixture.messages().await.len(), 300);
}

#[tokio::test]
async fn retain_and_duplicate_show_as_properties_and_stamps_cannot_be_faked() {
    let fixture = Fixture::new().await;
    let mut device = fixture.device("dev1").await.connect().await;
    let topic = format!("{TELEMETRY}iothub-connection-device-id=dev2&%24.cdid=dev2&mqtt-retain=no");
    let topic = Text::try_from(topic).unwrap();
    let delivery = Delivery::AtLeastOnce { packet_id: id(1), is_duplicate: true };
    device
        .send(&Packet::Publish(Publish { delivery, retain: true, topic, payload: Bytes::new() }))
        .await
        .unwrap();
    assert_eq!(device.receive().await.unwrap(), Packet::PubAck(id(1)));
    let messages = fixture.messages().await;
    assert_eq!(
        messages[0].application,
        [("mqtt-retain".into(), "true".into()), ("mqtt-dup".into(), "true".into())]
    );
    assert_eq!(messages[0].system("iothub-connection-device-id"), Some("dev1"));
}

#[tokio::test]
async fn telemetry_at_qos_0_arrives_without_a_word() {
    let fixture = Fixture::new().await;
    let mut device = fixture.device("dev1").await.connect().await;
    device.send(&publish(TELEMETRY, Delivery::AtMostOnce, b"x")).await.unwrap();
    device.publish(TELEMETRY, b"y").await.unwrap();
    let bodies: Vec<_> = fixture.messages().await.into_iter().map(|message| message.body).collect();
    assert_eq!(bodies, [b"x", b"y"]);
}

#[tokio::test]
async fn a_module_sends_as_itself() {
    let fixture = Fixture::new().await;
    fixture.device("dev1").await;
    let module = fixture.module("dev1/mod1").await;
    let mut client = module.connect().await;
    client.publish("devices/dev1/modules/mod1/messages/events/%24.on=out", b"x").await.unwrap();
    let messages = fixture.messages().await;
    let message = messages.last().unwrap();
    assert_eq!(message.system("iothub-connection-module-id"), Some("mod1"));
    assert_eq!(message.system("iothub-outputname"), Some("out"));
    // The device's own topic is not the module's.
    client.send(&publish(TELEMETRY, Delivery::AtMostOnce, b"x")).await.unwrap();
    closed(&mut client).await;
    assert_eq!(fixture.messages().await.len(), messages.len());
}

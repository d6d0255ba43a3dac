//! Direct methods as the device sees them.

use super::*;

#[tokio::test]
async fn a_direct_method_is_asked_and_answered() {
    let fixture = Fixture::new().await;
    let mut device = fixture.device("dev1").await.connect().await;
    device.subscribe(METHODS, Qos::AtMostOnce).await.unwrap();
    let (service, id) = (Caller::system(), "dev1".parse().unwrap());
    for number in 1..=17 {
        let service = fixture.hub.invoke_method(&service, &id, request("reboot"));
        let asked = async {
            let asked = device.next_publish().await.unwrap();
            assert_eq!(*asked.topic, format!("$iothub/methods/POST/reboot/?$rid={number:x}"));
            assert_eq!(&asked.payload[..], b"{\"seconds\":3}");
            let answer = format!("$iothub/methods/res/-5/?$rid={number:X}");
            device.publish(&answer, b"{\"ok\": 1}").await.unwrap();
        };
        let (response, ()) = tokio::join!(service, asked);
        let response = response.unwrap();
        assert_eq!(response.status, -5);
        assert_eq!(response.payload.unwrap().get(), "{\"ok\": 1}");
    }
}

#[tokio::test]
async fn an_answer_that_nobody_waits_for_is_acknowledged_and_forgotten() {
    let fixture = Fixture::new().await;
    let mut device = fixture.device("dev1").await.connect().await;
    for topic in [
        "$iothub/methods/res/200/?$rid=9",
        "$iothub/methods/res/ok/?$rid=1",
        "$iothub/methods/res/200/?$rid=zz",
    ] {
        device.publish(topic, b"").await.unwrap();
    }
}

#[tokio::test]
async fn a_device_that_does_not_listen_to_methods_is_not_online_for_them() {
    let fixture = Fixture::new().await;
    let mut device = fixture.device("dev1").await.connect().await;
    let identity = "dev1".parse().unwrap();
    let refused = fixture.hub.invoke_method(&Caller::system(), &identity, request("reboot")).await;
    assert_eq!(refused.unwrap_err().code(), 404_103);
    device.subscribe("$iothub/methods/POST/stop/#", Qos::AtLeastOnce).await.unwrap();
    let other = fixture.hub.invoke_method(&Caller::system(), &identity, request("reboot")).await;
    assert_eq!(other.unwrap_err().code(), 404_103, "it listens to another method");
    device.subscribe(METHODS, Qos::AtLeastOnce).await.unwrap();
    let filters =
        ["$iothub/methods/POST/stop/#", METHODS].map(|filter| Text::try_from(filter).unwrap()).to_vec();
    device.send(&Packet::Unsubscribe(mqtt::codec::Unsubscribe { packet_id: id(9), filters })).await.unwrap();
    assert_eq!(device.receive().await.unwrap(), Packet::UnsubAck(id(9)));
    let refused = fixture.hub.invoke_method(&Caller::system(), &identity, request("reboot")).await;
    assert_eq!(refused.unwrap_err().code(), 404_103);
}

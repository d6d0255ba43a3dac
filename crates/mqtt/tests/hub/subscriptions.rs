//! What a device may subscribe to, and how long that lasts.

use super::*;

#[tokio::test]
async fn known_filters_are_granted_and_others_are_refused() {
    let fixture = Fixture::new().await;
    let mut device = fixture.device("dev1").await.connect().await;
    assert_eq!(device.subscribe(TWIN_RESPONSES, Qos::AtMostOnce).await.unwrap(), Some(Qos::AtMostOnce));
    assert_eq!(device.subscribe(METHODS, Qos::ExactlyOnce).await.unwrap(), Some(Qos::AtLeastOnce));
    for filter in ["devices/dev2/messages/devicebound/#", "$iothub/streams/#", "whatever"] {
        assert_eq!(device.subscribe(filter, Qos::AtLeastOnce).await.unwrap(), None, "{filter}");
    }
    for filter in ["devices/dev1/messages/devicebound/#", DESIRED, "#"] {
        assert_eq!(device.subscribe(filter, Qos::AtLeastOnce).await.unwrap(), Some(Qos::AtLeastOnce));
    }
    assert_eq!(
        device.subscribe("devices/dev1/messages/#", Qos::AtLeastOnce).await.unwrap(),
        None,
        "the sixth"
    );
}

#[tokio::test]
async fn a_stored_session_is_in_effect_at_once_and_a_clean_one_ends_it() {
    let fixture = Fixture::new().await;
    let device = fixture.device("dev1").await;
    let mut first = device.connect().await;
    first.subscribe(DESIRED, Qos::AtLeastOnce).await.unwrap();
    first.disconnect().await.unwrap();
    let mut second = device.connect().await;
    assert!(second.session_present());
    fixture.patch_desired("dev1", json!({"a": 1})).await;
    assert_eq!(
        &*second.next_publish().await.unwrap().topic,
        "$iothub/twin/PATCH/properties/desired/?$version=2"
    );
    second.disconnect().await.unwrap();
    let clean = Connect { clean_session: true, ..device.connect_packet() };
    let mut third = fixture.connect(clean.clone()).await.unwrap();
    assert!(!third.session_present());
    third.subscribe(METHODS, Qos::AtLeastOnce).await.unwrap();
    third.disconnect().await.unwrap();
    // What a clean session subscribed to went with it.
    assert!(!device.connect().await.session_present());
}

/// What a device hears that has asked for `filters`, when its twin is asked for and patched and two methods are called: the
/// topics, without what differs from call to call.
async fn heard(fixture: &Fixture, device: &mut Device, id: &str, filters: &[&str]) -> Vec<String> {
    for filter in filters {
        let granted = device.subscribe(filter, Qos::AtLeastOnce).await.unwrap();
        assert_eq!(granted, Some(Qos::AtLeastOnce), "{filter}");
    }
    device.publish("$iothub/twin/GET/?$rid=r1", b"").await.unwrap();
    device.publish("$iothub/twin/PATCH/properties/reported/?$rid=r2", b"{}").await.unwrap();
    fixture.patch_desired(id, json!({"a": filters.len()})).await;
    let mut topics = Vec::new();
    for name in ["reboot", "stop"] {
        let (caller, id) = (Caller::system(), id.parse().unwrap());
        let arrives = async {
            while !topics.last().is_some_and(|topic: &String| {
                topic.starts_with("$iothub/methods/POST/") && topic.contains(name)
            }) {
                topics.push(device.next_publish().await.unwrap().topic.to_string());
            }
        };
        // Nobody answers what arrives; of a device that is not there for it the caller is told at once.
        tokio::select! {
            _ = Box::pin(fixture.hub.invoke_method(&caller, &id, request(name))) => {}
            () = arrives => {}
        }
    }
    // Everything has been written when the answer to this has.
    device.publish(&format!("devices/{id}/messages/events/"), b"").await.unwrap();
    topics.extend(std::iter::from_fn(|| device.take_publish()).map(|publish| publish.topic.to_string()));
    let mut topics: Vec<_> =
        topics.iter().map(|topic| topic.split("/?").next().unwrap().to_owned()).collect();
    topics.sort();
    topics
}

#[tokio::test]
async fn a_wider_filter_delivers_what_it_covers_and_nothing_else() {
    const GET: &str = "$iothub/twin/res/200";
    const PATCHED: &str = "$iothub/twin/res/204";
    const CHANGED: &str = "$iothub/twin/PATCH/properties/desired";
    const REBOOT: &str = "$iothub/methods/POST/reboot";
    const STOP: &str = "$iothub/methods/POST/stop";
    let fixture = Fixture::new().await;
    let device = fixture.device("dev1").await;
    let cases: [(&[&str], &[&str]); 12] = [
        (&["$iothub/twin/#"], &[CHANGED, GET, PATCHED]),
        (&["$iothub/methods/#"], &[REBOOT, STOP]),
        (&["$iothub/#"], &[REBOOT, STOP, CHANGED, GET, PATCHED]),
        (&["$iothub/twin/#", "$iothub/#"], &[REBOOT, STOP, CHANGED, GET, PATCHED]),
        (&["$iothub/twin/PATCH/#"], &[CHANGED]),
        (&["$iothub/twin/res/200/#"], &[GET]),
        (&["$iothub/twin/res/+/+"], &[GET, PATCHED]),
        (&["$iothub/+/POST/stop/#"], &[STOP]),
        (&["#"], &[]),
        (&["devices/dev1/messages/#", "devices/+/messages/devicebound/#", "devices/#"], &[]),
        (&["$iothub/methods/POST/#", "$iothub/twin/res/#"], &[REBOOT, STOP, GET, PATCHED]),
        (&["$iothub/methods/POST/reboot/?$rid=ffff"], &[]),
    ];
    for (filters, expected) in cases {
        let clean = Connect { clean_session: true, ..device.connect_packet() };
        let mut client = fixture.connect(clean).await.unwrap();
        assert_eq!(heard(&fixture, &mut client, "dev1", filters).await, expected, "{filters:?}");
        client.disconnect().await.unwrap();
    }
}

#[tokio::test]
async fn no_filter_brings_what_is_another_devices() {
    let fixture = Fixture::new().await;
    let mut device = fixture.device("dev1").await.connect().await;
    let plus = fixture.device("+").await;
    let mut others = [plus.connect().await, fixture.module("dev1/mod1").await.connect().await];
    for other in &mut others {
        for filter in ["$iothub/#", "#"] {
            assert!(other.subscribe(filter, Qos::AtLeastOnce).await.unwrap().is_some());
        }
    }
    for filter in ["devices/+/messages/devicebound/#", "devices/+/messages/#"] {
        assert!(others[0].subscribe(filter, Qos::AtLeastOnce).await.unwrap().is_some(), "{filter}");
        assert_eq!(others[1].subscribe(filter, Qos::AtLeastOnce).await.unwrap(), None, "{filter}");
    }
    let filter = "devices/+/modules/+/#";
    assert_eq!(others[0].subscribe(filter, Qos::AtLeastOnce).await.unwrap(), None);
    assert!(others[1].subscribe(filter, Qos::AtLeastOnce).await.unwrap().is_some());
    assert_eq!(heard(&fixture, &mut device, "dev1", &["$iothub/#"]).await.len(), 5);
    for (other, topic) in others.iter_mut().zip(["devices/+/messages/events/", MODULE_TELEMETRY]) {
        other.publish(topic, b"").await.unwrap();
        assert_eq!(other.take_publish(), None);
    }
}

#[tokio::test]
async fn a_wider_filter_is_in_effect_in_a_stored_session() {
    let fixture = Fixture::new().await;
    let device = fixture.device("dev1").await;
    let mut first = device.connect().await;
    first.subscribe("$iothub/twin/#", Qos::AtLeastOnce).await.unwrap();
    first.subscribe("$iothub/twin/PATCH/#", Qos::AtLeastOnce).await.unwrap();
    let filters = vec![Text::try_from("$iothub/twin/PATCH/#").unwrap()];
    first.send(&Packet::Unsubscribe(mqtt::codec::Unsubscribe { packet_id: id(9), filters })).await.unwrap();
    assert_eq!(first.receive().await.unwrap(), Packet::UnsubAck(id(9)));
    first.disconnect().await.unwrap();
    let mut second = device.connect().await;
    assert!(second.session_present());
    fixture.patch_desired("dev1", json!({"a": 1})).await;
    assert_eq!(
        *second.next_publish().await.unwrap().topic,
        *"$iothub/twin/PATCH/properties/desired/?$version=2"
    );
    assert_eq!(twin_request(&mut second, "$iothub/twin/GET/?$rid=r1", b"").await.0, 200);
}

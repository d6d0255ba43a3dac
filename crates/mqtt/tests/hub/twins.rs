//! Twins of devices and modules: read, reported, desired.

use super::*;

#[tokio::test]
async fn a_device_reads_and_reports_its_twin() {
    let fixture = Fixture::new().await;
    let mut device = fixture.device("dev1").await.connect().await;
    device.subscribe(TWIN_RESPONSES, Qos::AtLeastOnce).await.unwrap();
    let patch = "$iothub/twin/PATCH/properties/reported/?$rid=r1";
    let (status, version, body) = twin_request(&mut device, patch, b"{\"fw\":\"1.0\"}").await;
    assert_eq!((status, version, body), (204, Some(2), Value::Null));
    let (status, version, body) = twin_request(&mut device, "$iothub/twin/GET/?$rid=r1", b" ").await;
    let expected = json!({"desired": {"$version": 1}, "reported": {"fw": "1.0", "$version": 2}});
    assert_eq!((status, version, body), (200, None, expected));
}

#[tokio::test]
async fn a_refused_patch_is_answered_with_an_error_and_changes_nothing() {
    let fixture = Fixture::new().await;
    let mut device = fixture.device("dev1").await.connect().await;
    device.subscribe(TWIN_RESPONSES, Qos::AtLeastOnce).await.unwrap();
    let patch = "$iothub/twin/PATCH/properties/reported/?$rid=r1";
    for (topic, payload, expected_status, expected_code) in [
        (patch.to_owned(), "no json", 400, 400_004),
        (patch.to_owned(), "[]", 400, 400_004),
        (patch.to_owned(), "", 400, 400_004),
        (patch.to_owned(), "{\"$version\":1}", 400, 400_004),
        (format!("{patch}&$version=7"), "{\"a\":1}", 412, 412_001),
        (format!("{patch}&$version=x"), "{\"a\":1}", 400, 400_004),
        (format!("{patch}&$version=-1"), "{\"a\":1}", 400, 400_004),
        (format!("{patch}&$version=18446744073709551616"), "{\"a\":1}", 400, 400_004),
        (patch.to_owned(), "{\"a.b\":1}", 400, 400_004),
        (patch.to_owned(), "{\"a\":[null]}", 400, 400_004),
        (patch.to_owned(), "{\"a\":4503599627370496}", 400, 400_004),
        (patch.to_owned(), "{\"a\":18446744073709551616}", 400, 400_004),
        (patch.to_owned(), &format!("{{\"a\":{}1{}}}", "[".repeat(11), "]".repeat(11)), 400, 400_004),
        (patch.to_owned(), &"[".repeat(60_000), 400, 400_004),
        (patch.to_owned(), &format!("{{\"a\":[{}]}}", vec!["1"; 4096].join(",")), 400, 400_004),
    ] {
        let (status, version, body) = twin_request(&mut device, &topic, payload.as_bytes()).await;
        assert_eq!((status, version), (expected_status, None), "{topic} {payload:.60}");
        assert_eq!(body["errorCode"], expected_code, "{topic} {payload:.60}");
        for member in ["trackingId", "message", "timestampUtc"] {
            assert!(body[member].is_string(), "{member}");
        }
    }
    assert_eq!(fixture.reported("dev1").await, json!({"$version": 1}));
    let largest = format!("{{\"k\":[{},\"1234567\"]}}", vec!["1"; 4095].join(","));
    assert_eq!(twin_request(&mut device, patch, largest.as_bytes()).await.0, 204);
}

#[tokio::test]
async fn without_a_subscription_nothing_is_answered() {
    let fixture = Fixture::new().await;
    let mut device = fixture.device("dev1").await.connect().await;
    device.publish("$iothub/twin/GET/?$rid=1", b"").await.unwrap();
    device.publish("$iothub/twin/PATCH/properties/reported/", b"{\"a\":1}").await.unwrap();
    device.send(&Packet::PingReq).await.unwrap();
    assert_eq!(device.receive().await.unwrap(), Packet::PingResp);
    assert_eq!(fixture.reported("dev1").await, json!({"a": 1, "$version": 2}));
}

#[tokio::test]
async fn a_throttled_device_is_told_where_mqtt_can_tell_it() {
    let fixture = Fixture::new().await;
    let device = fixture.device("dev1").await;
    let mut client = device.connect().await;
    client.subscribe(TWIN_RESPONSES, Qos::AtLeastOnce).await.unwrap();
    fixture.limiter.refuse(&[Meter::DeviceConnect, Meter::TwinRead, Meter::TwinUpdate, Meter::DeviceToCloud]);
    assert_eq!(fixture.refusal(device.connect_packet()).await, ConnectReturnCode::ServerUnavailable);
    for topic in ["$iothub/twin/GET/?$rid=r1", "$iothub/twin/PATCH/properties/reported/?$rid=r1"] {
        let (status, version, body) = twin_request(&mut client, topic, b"{\"a\":1}").await;
        assert_eq!((status, version, &body["errorCode"]), (429, None, &json!(429_001)));
    }
    client.send(&publish(TELEMETRY, Delivery::AtMostOnce, b"x")).await.unwrap();
    assert!(closed(&mut client).await.is_empty());
    assert!(fixture.messages().await.is_empty());
    fixture.limiter.refuse(&[]);
    assert_eq!(fixture.reported("dev1").await, json!({"$version": 1}));
    device.connect().await;
}

#[tokio::test]
async fn a_subscriber_hears_of_every_desired_change_in_order() {
    let fixture = Fixture::new().await;
    let mut device = fixture.device("dev1").await.connect().await;
    fixture.patch_desired("dev1", json!({"before": true})).await;
    device.subscribe(DESIRED, Qos::AtLeastOnce).await.unwrap();
    for n in 1..=5 {
        fixture.patch_desired("dev1", json!({"n": n})).await;
    }
    for n in 1..=5 {
        let change = device.next_publish().await.unwrap();
        assert_eq!(*change.topic, format!("$iothub/twin/PATCH/properties/desired/?$version={}", n + 2));
        let body: Value = serde_json::from_slice(&change.payload).unwrap();
        assert_eq!(body, json!({"n": n, "$version": n + 2}));
    }
}

#[tokio::test]
async fn a_module_has_a_twin_and_methods_of_its_own() {
    let fixture = Fixture::new().await;
    let mut device = fixture.device("dev1").await.connect().await;
    let mut module = fixture.module("dev1/mod1").await.connect().await;
    for client in [&mut device, &mut module] {
        for filter in [TWIN_RESPONSES, DESIRED, METHODS] {
            client.subscribe(filter, Qos::AtLeastOnce).await.unwrap();
        }
    }
    let patch = "$iothub/twin/PATCH/properties/reported/?$rid=r1";
    assert_eq!(twin_request(&mut module, patch, b"{\"fw\":2}").await, (204, Some(2), Value::Null));
    fixture.patch_desired("dev1/mod1", json!({"interval": 30, "old": null})).await;
    let told = module.next_publish().await.unwrap();
    assert_eq!(&*told.topic, "$iothub/twin/PATCH/properties/desired/?$version=2");
    let body: Value = serde_json::from_slice(&told.payload).unwrap();
    assert_eq!(body, json!({"interval": 30, "old": null, "$version": 2}));
    let twin = twin_request(&mut module, "$iothub/twin/GET/?$rid=r1", b"").await;
    let expected = json!({"desired": {"interval": 30, "$version": 2}, "reported": {"fw": 2, "$version": 2}});
    assert_eq!(twin, (200, None, expected));
    let (service, id) = (Caller::system(), "dev1/mod1".parse().unwrap());
    let asked = async {
        assert_eq!(&*module.next_publish().await.unwrap().topic, "$iothub/methods/POST/reboot/?$rid=1");
        module.publish("$iothub/methods/res/200/?$rid=1", b"").await.unwrap();
    };
    let (response, ()) = tokio::join!(fixture.hub.invoke_method(&service, &id, request("reboot")), asked);
    assert_eq!(response.unwrap().status, 200);
    let untouched = json!({"desired": {"$version": 1}, "reported": {"$version": 1}});
    assert_eq!(twin_request(&mut device, "$iothub/twin/GET/?$rid=r1", b"").await, (200, None, untouched));
}

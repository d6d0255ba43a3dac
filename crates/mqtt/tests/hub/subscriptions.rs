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

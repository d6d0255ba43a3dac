//! Telemetry: what is accepted, what is stamped, what lies in the stream.

use std::time::Duration;

use base::caps;
use bytes::Bytes;

use super::{SystemProperty, partition_of};
use crate::testing::{TestHub, properties, start};

#[tokio::test]
async fn a_message_lies_in_the_stream_as_it_was_sent_with_the_hubs_stamps() {
    let hub = TestHub::with_module().await;
    let authentication = hub.authenticate("dev1/mod1").await.unwrap();
    let session = hub.open_session(authentication, Some("dtmi:com:ex:T;1")).await.unwrap();
    let mut message = session.message();
    message.system(SystemProperty::MessageId, "m1").unwrap();
    message.system(SystemProperty::ContentType, "application/json").unwrap();
    message.system(SystemProperty::ConnectionDeviceId, "somebody-else").unwrap();
    message.application("alert", "true").unwrap();
    message.application("empty", "").unwrap();
    message.application("iothub-Connection-device-id", "somebody-else").unwrap();
    hub.send_telemetry(&session, message, Bytes::from_static(b"{\"t\":1}")).await.unwrap();
    let events = hub.events().await;
    let record = events.last().unwrap();
    assert_eq!((record.key.as_str(), record.time, &record.body[..]), ("dev1", start(), &b"{\"t\":1}"[..]));
    let generation = hub.stored("dev1/mod1").await.generation_id;
    let expected = [
        "$iothub-connection-device-id=dev1".to_owned(),
        "$iothub-connection-module-id=mod1".to_owned(),
        format!("$iothub-connection-auth-generation-id={generation}"),
        r#"$iothub-connection-auth-method={"scope":"module","type":"sas","issuer":"iothub","acceptingIpFilterRule":null}"#
            .to_owned(),
        "$iothub-message-source=Telemetry".to_owned(),
        "$dt-dataschema=dtmi:com:ex:T;1".to_owned(),
        "$message-id=m1".to_owned(),
        "$content-type=application/json".to_owned(),
        "alert=true".to_owned(),
        "empty=".to_owned(),
    ];
    assert_eq!(properties(record), expected);
}

#[tokio::test]
async fn messages_of_one_device_stay_in_order_in_one_partition() {
    let hub = TestHub::with_device("dev1").await;
    let session = hub.connect("dev1").await;
    let (done, answers) = std::sync::mpsc::sync_channel(20);
    for n in 0..20_u8 {
        let done = done.clone();
        let body = Bytes::copy_from_slice(&[n]);
        hub.send_telemetry_with(&session, session.message(), body, move |result| {
            done.send((n, result)).unwrap();
        });
    }
    let answers: Vec<_> = answers.iter().take(20).collect();
    assert_eq!(answers, (0..20).map(|n| (n, Ok(()))).collect::<Vec<_>>());
    let bodies: Vec<u8> = hub.events().await.iter().map(|record| record.body[0]).collect();
    assert_eq!(bodies, (0..20).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_message_may_have_256_kib_in_all() {
    let hub = TestHub::with_device("dev1").await;
    let session = hub.connect("dev1").await;
    let message = || {
        let mut message = session.message();
        message.application("name", "value").unwrap();
        message.system(SystemProperty::UserId, "user").unwrap();
        message
    };
    let room = caps::TELEMETRY_BYTES_MAX - "namevalueuser".len();
    hub.send_telemetry(&session, message(), vec![0; room].into()).await.unwrap();
    let refusal = hub.send_telemetry(&session, message(), vec![0; room + 1].into()).await.unwrap_err();
    assert_eq!((refusal.code(), refusal.name()), (413_001, "MessageTooLarge"));
    let mut large = session.message();
    assert!(large.application("n", &"v".repeat(caps::TELEMETRY_BYTES_MAX)).is_err());
    assert_eq!(hub.events().await.len(), 1);
}

#[tokio::test]
async fn an_id_of_a_message_may_have_128_characters() {
    let hub = TestHub::with_device("dev1").await;
    let session = hub.connect("dev1").await;
    let set = |length: usize| session.message().system(SystemProperty::MessageId, &"m".repeat(length));
    assert_eq!(set(128), Ok(()));
    assert_eq!(set(129).unwrap_err().code(), 400_004);
    assert!(session.message().application("", "v").is_err());
}

#[test]
fn a_device_keeps_its_partition_and_devices_spread() {
    let mut counts = [0_u32; 4];
    for n in 0..4000 {
        counts[partition_of(&format!("device-{n}"), 4) as usize] += 1;
    }
    assert!(counts.iter().all(|count| (800..1200).contains(count)), "{counts:?}");
    // A promise: a device's messages stay in their partition when the program is replaced.
    assert_eq!(["dev1", "thermostat-1", "x"].map(|id| partition_of(id, 4)), [0, 1, 3]);
}

#[tokio::test]
async fn a_wall_clock_that_is_wrong_for_a_moment_stamps_no_event() {
    let hub = TestHub::with_device("dev1").await;
    let session = hub.connect("dev1").await;
    let year = 400 * 24 * 3600;
    let send = async || {
        hub.send_telemetry(&session, session.message(), Bytes::from_static(b"x")).await.unwrap();
        hub.events().await.last().unwrap().time
    };
    hub.clock.step(year);
    assert_eq!(send().await, start());
    hub.clock.step(-year);
    hub.clock.advance(Duration::from_secs(1));
    assert_eq!(send().await, start().plus(Duration::from_secs(1)));
}

#[tokio::test]
async fn events_of_a_board_that_learns_the_time_carry_it_a_minute_later_and_never_an_earlier_one_again() {
    let hub = TestHub::with_device("dev1").await;
    let session = hub.connect("dev1").await;
    let send = async || {
        hub.send_telemetry(&session, session.message(), Bytes::from_static(b"x")).await.unwrap();
        hub.events().await.last().unwrap().time
    };
    let first = send().await;
    hub.clock.step(56 * 365 * 24 * 3600);
    assert_eq!(send().await, first);
    hub.clock.advance(Duration::from_secs(60));
    let learnt = send().await;
    assert_eq!(learnt, hub.clock.now());
    hub.clock.step(-2 * 3600);
    assert_eq!(send().await, learnt);
    hub.clock.advance(Duration::from_secs(60));
    assert_eq!(send().await, learnt, "time stands until the wall clock has come so far again");
}

//! Direct methods: every outcome, with a device played by the test and a clock that moves when told.

use std::time::Duration;

use access::{Caller, Right};
use base::caps;
use bytes::Bytes;
use serde_json::value::RawValue;

use super::{MethodRequest, MethodResponse};
use crate::testing::{TestHub, next_command, system, within};
use crate::{Command, Error};

fn request(payload: Option<&str>) -> MethodRequest {
    MethodRequest {
        name: "reboot".into(),
        payload: payload.map(|json| RawValue::from_string(json.to_owned()).unwrap()),
        connect_timeout_seconds: None,
        response_timeout_seconds: None,
    }
}

fn shown(result: Result<MethodResponse, Error>) -> Result<(i32, Option<String>), u32> {
    result
        .map(|response| (response.status, response.payload.map(|raw| raw.get().to_owned())))
        .map_err(|error| error.code())
}

async fn invoke(hub: &TestHub, request: MethodRequest) -> Result<(i32, Option<String>), u32> {
    let id = "dev1".parse().unwrap();
    shown(within(hub.invoke_method(&system(), &id, request)).await)
}

/// Takes the next method and answers it.
async fn answer(
    hub: &TestHub,
    session: &crate::Session,
    status: i32,
    payload: &'static str,
) -> (String, Bytes) {
    match next_command(session).await {
        Command::InvokeMethod { request_id, name, payload: asked } => {
            assert!(hub.complete_method(session, request_id, status, Bytes::from_static(payload.as_bytes())));
            assert!(!hub.complete_method(session, request_id, 0, Bytes::new()), "there is one answer");
            (name, asked)
        }
        other => panic!("{other:?}"),
    }
}

/// Until a caller has found no device and has begun to wait for one.
async fn is_waited_for(hub: &TestHub) {
    while !hub.mailboxes().is_waited_for(&"dev1".parse().unwrap()) {
        tokio::task::yield_now().await;
    }
}

async fn listening(hub: &TestHub) -> crate::Session {
    let session = hub.connect("dev1").await;
    session.listen_to_methods(true);
    session
}

#[tokio::test]
async fn a_device_answers_whatever_status_it_likes() {
    let hub = TestHub::with_device("dev1").await;
    let session = listening(&hub).await;
    let (result, asked) =
        tokio::join!(invoke(&hub, request(Some(r#"{"a": 1.0}"#))), answer(&hub, &session, -7, r#"{"b":2}"#));
    assert_eq!(result, Ok((-7, Some(r#"{"b":2}"#.into()))));
    assert_eq!(asked, ("reboot".into(), Bytes::from_static(br#"{"a": 1.0}"#)));
    let (result, asked) = tokio::join!(invoke(&hub, request(Some("null"))), answer(&hub, &session, 200, ""));
    assert_eq!((result, asked.1), (Ok((200, None)), Bytes::from_static(b"null")));
    let (result, asked) = tokio::join!(invoke(&hub, request(None)), answer(&hub, &session, 200, "null"));
    assert_eq!((result, asked.1), (Ok((200, Some("null".into()))), Bytes::new()));
}

#[tokio::test]
async fn an_answer_that_is_not_json_or_too_large_is_a_bad_gateway() {
    let hub = TestHub::with_device("dev1").await;
    let session = listening(&hub).await;
    let (result, _) = tokio::join!(invoke(&hub, request(None)), answer(&hub, &session, 200, "{no"));
    assert_eq!(result, Err(502_000));
    let large: &'static str = Box::leak(format!("\"{}\"", "x".repeat(caps::METHOD_PAYLOAD_BYTES_MAX)).into());
    let (result, _) = tokio::join!(invoke(&hub, request(None)), answer(&hub, &session, 200, large));
    assert_eq!(result, Err(502_000));
}

#[tokio::test]
async fn a_device_that_is_not_there_or_does_not_listen_is_not_online() {
    let hub = TestHub::with_device("dev1").await;
    assert_eq!(invoke(&hub, request(None)).await, Err(404_103));
    let session = hub.connect("dev1").await;
    assert_eq!(invoke(&hub, request(None)).await, Err(404_103));
    session.listen_to_methods(true);
    session.listen_to_methods(false);
    assert_eq!(invoke(&hub, request(None)).await, Err(404_103));
}

#[tokio::test]
async fn what_is_not_registered_is_not_found() {
    let hub = TestHub::with_device("dev1").await;
    let device = hub.invoke_method(&system(), &"dev2".parse().unwrap(), request(None)).await.unwrap_err();
    assert_eq!((device.code(), device.name()), (404_001, "DeviceNotFound"));
    let module =
        hub.invoke_method(&system(), &"dev1/mod1".parse().unwrap(), request(None)).await.unwrap_err();
    assert_eq!((module.code(), module.name()), (404_010, "ModuleNotFound"));
}

#[tokio::test]
async fn a_device_is_waited_for_as_long_as_the_service_says() {
    let hub = TestHub::with_device("dev1").await;
    let waiting = MethodRequest { connect_timeout_seconds: Some(20), ..request(None) };
    let comes = async {
        within(is_waited_for(&hub)).await;
        hub.clock.advance(Duration::from_secs(19));
        let session = listening(&hub).await;
        answer(&hub, &session, 200, "1").await;
    };
    let (result, ()) = tokio::join!(invoke(&hub, waiting.clone()), comes);
    assert_eq!(result, Ok((200, Some("1".into()))));
    let stays_away = async {
        within(is_waited_for(&hub)).await;
        hub.clock.advance(Duration::from_secs(20));
    };
    let (result, ()) = tokio::join!(invoke(&hub, waiting), stays_away);
    assert_eq!(result, Err(404_103));
}

#[tokio::test]
async fn a_device_that_does_not_answer_in_time_is_a_gateway_timeout() {
    let hub = TestHub::with_device("dev1").await;
    let session = listening(&hub).await;
    let (result, command) = tokio::join!(invoke(&hub, request(None)), async {
        let command = next_command(&session).await;
        hub.clock.advance(Duration::from_secs(caps::METHOD_RESPONSE_SECONDS_DEFAULT));
        command
    });
    assert_eq!(result, Err(504_101));
    let Command::InvokeMethod { request_id, .. } = command else { panic!("no method: {command:?}") };
    assert!(!hub.complete_method(&session, request_id, 200, Bytes::new()), "nobody waits any more");
}

#[tokio::test]
async fn who_waits_is_told_when_the_connection_goes() {
    let hub = TestHub::with_device("dev1").await;
    let session = listening(&hub).await;
    let (result, ()) = tokio::join!(invoke(&hub, request(None)), async {
        next_command(&session).await;
        drop(session);
    });
    assert_eq!(result, Err(404_104));
    let session = listening(&hub).await;
    let (result, _new) = tokio::join!(invoke(&hub, request(None)), async {
        next_command(&session).await;
        hub.connect("dev1").await
    });
    assert_eq!(result, Err(400_027));
    drop(session);
}

#[tokio::test]
async fn methods_in_flight_of_one_device_are_bounded() {
    let hub = TestHub::with_device("dev1").await;
    let session = listening(&hub).await;
    let id = "dev1".parse().unwrap();
    let caller = system();
    let mut waiting = Vec::new();
    for _ in 0..caps::METHODS_IN_FLIGHT_PER_DEVICE_MAX {
        let mut call = Box::pin(hub.invoke_method(&caller, &id, request(None)));
        tokio::select! {
            result = call.as_mut() => panic!("nobody has answered: {result:?}"),
            _ = next_command(&session) => {}
        }
        waiting.push(call);
    }
    let refusal = hub.invoke_method(&caller, &id, request(None)).await.unwrap_err();
    assert_eq!((refusal.code(), refusal.name()), (403_800, "DeviceMaximumInflightMethodExceeded"));
    waiting.pop();
    let (result, ()) = tokio::join!(invoke(&hub, request(None)), async {
        next_command(&session).await;
        hub.clock.advance(Duration::from_secs(30));
    });
    assert_eq!(result, Err(504_101), "a place was free again");
}

#[tokio::test]
async fn times_names_and_payloads_out_of_range_are_refused() {
    let hub = TestHub::with_device("dev1").await;
    let with_times = |connect, response| MethodRequest {
        connect_timeout_seconds: connect,
        response_timeout_seconds: response,
        ..request(None)
    };
    let with_name = |name: &str| MethodRequest { name: name.into(), ..request(None) };
    let string = |length: usize| format!("\"{}\"", "x".repeat(length - 2));
    let refused = [
        (with_times(None, Some(4)), 400_004),
        (with_times(None, Some(301)), 400_004),
        (with_times(Some(301), Some(300)), 400_004),
        (with_times(Some(31), None), 400_004),
        (with_name(""), 400_005),
        (with_name("a b"), 400_004),
        (with_name("a/b"), 400_004),
        (with_name(&"x".repeat(caps::METHOD_NAME_CHARACTERS_MAX + 1)), 400_004),
        (request(Some(&string(caps::METHOD_PAYLOAD_BYTES_MAX + 1))), 413_001),
    ];
    for (request, code) in refused {
        assert_eq!(invoke(&hub, request.clone()).await, Err(code), "{request:?}");
    }
    let accepted = [
        with_times(None, Some(5)),
        with_times(None, Some(300)),
        with_name("component*command"),
        with_name(&"x".repeat(caps::METHOD_NAME_CHARACTERS_MAX)),
        request(Some(&string(caps::METHOD_PAYLOAD_BYTES_MAX))),
    ];
    for request in accepted {
        assert_eq!(invoke(&hub, request.clone()).await, Err(404_103), "{request:?}");
    }
}

#[tokio::test]
async fn only_a_service_invokes_methods() {
    let hub = TestHub::with_device("dev1").await;
    let session = listening(&hub).await;
    for caller in [
        Caller::policy(hub.scope().clone(), "registryReadWrite", &[Right::RegistryWrite]),
        Caller::identity(hub.scope().clone(), "dev1".parse().unwrap()),
        Caller::principal("oid", "app", true, Vec::new()),
    ] {
        let refusal = hub.invoke_method(&caller, &"dev1".parse().unwrap(), request(None)).await.unwrap_err();
        assert_eq!(refusal.code(), 401_002);
    }
    assert_eq!(session.try_next_command(), None);
}

#[tokio::test]
async fn a_wall_clock_that_is_set_ends_no_method_and_keeps_none() {
    for step in [-2 * 3600, 400 * 24 * 3600] {
        let hub = TestHub::with_device("dev1").await;
        let session = listening(&hub).await;
        let sets_the_clock = async {
            next_command(&session).await;
            hub.clock.step(step);
            hub.clock.advance(Duration::from_secs(29));
            tokio::task::yield_now().await;
            assert!(hub.is_connected(&"dev1".parse().unwrap()).await.unwrap());
            hub.clock.advance(Duration::from_secs(1));
        };
        let started = hub.clock.elapsed();
        let (result, ()) = tokio::join!(invoke(&hub, request(None)), sets_the_clock);
        assert_eq!(result, Err(504_101), "a step of {step} s");
        assert_eq!(hub.clock.elapsed().since(started), Duration::from_secs(30));
    }
}

#[tokio::test]
async fn a_stop_ends_at_once_whoever_waits_for_a_device_to_come() {
    let hub = TestHub::with_device("dev1").await;
    let waits = MethodRequest { connect_timeout_seconds: Some(20), ..request(None) };
    let stops = async {
        tokio::task::yield_now().await;
        hub.context.tasks.drain(Duration::from_secs(10)).await;
    };
    let (result, ()) = tokio::join!(invoke(&hub, waits), stops);
    assert_eq!(result, Err(503_005));
}

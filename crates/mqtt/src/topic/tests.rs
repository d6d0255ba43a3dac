//! Every topic in both directions, and texts that are none.

use base::caps;
use proptest::prelude::*;

use super::from_device::ToProvisioning;
use super::*;

fn id(text: &str) -> IdentityId {
    text.parse().unwrap()
}

#[test]
fn a_devices_topics_are_told_apart() {
    let parse = |topic| FromDevice::parse(topic, &id("dev1"));
    assert_eq!(
        parse("devices/dev1/messages/events/%24.mid=1&a=b"),
        Ok(FromDevice::Telemetry { bag: "%24.mid=1&a=b" })
    );
    assert_eq!(parse("devices/dev1/messages/events/"), Ok(FromDevice::Telemetry { bag: "" }));
    assert_eq!(parse("devices/dev1/messages/events"), Ok(FromDevice::Telemetry { bag: "" }));
    assert_eq!(parse("$iothub/twin/GET/?$rid=a-b"), Ok(FromDevice::GetTwin { request_id: "a-b" }));
    let patch = |request_id, expected_version| Ok(FromDevice::PatchReported { request_id, expected_version });
    assert_eq!(parse("$iothub/twin/PATCH/properties/reported/?$rid=7"), patch(Some("7"), None));
    assert_eq!(
        parse("$iothub/twin/PATCH/properties/reported/?$rid=7&$version=3"),
        patch(Some("7"), Some("3"))
    );
    assert_eq!(
        parse("$iothub/twin/PATCH/properties/reported/?$version=3&$rid=7"),
        patch(Some("7"), Some("3"))
    );
    assert_eq!(parse("$iothub/twin/PATCH/properties/reported/"), patch(None, None));
    let response = FromDevice::MethodResponse { status: "200", request_id: "1f" };
    assert_eq!(parse("$iothub/methods/res/200/?$rid=1f"), Ok(response));
}

#[test]
fn other_topics_and_other_identities_topics_are_unknown() {
    for topic in [
        "devices/dev2/messages/events/",
        "devices/dev1/messages/eventsx",
        "devices/dev1/messages/events2/",
        "devices/dev1/modules/m/messages/events/",
        "devices/dev1/messages/devicebound/",
        "devices/dev1",
        "$iothub/twin/GET/?$rid=",
        "$iothub/twin/GET/",
        "$iothub/twin/get/?$rid=1",
        "$iothub/twin/GET/x/?$rid=1",
        "$iothub/twin/PATCH/properties/desired/?$rid=1",
        "$iothub/twin/PATCH/properties/reported/x/?$rid=1",
        "$iothub/methods/res/200/?$rid=",
        "$iothub/methods/POST/m/?$rid=1",
        "$dps/registrations/PUT/iotdps-register/?$rid=1",
        "x",
    ] {
        assert_eq!(FromDevice::parse(topic, &id("dev1")), Err(UnknownTopic), "{topic}");
    }
    assert!(FromDevice::parse("devices/dev1/messages/events/", &id("dev1/m")).is_err());
    assert!(FromDevice::parse("devices/dev1/modules/m/messages/events/", &id("dev1/m")).is_ok());
}

#[test]
fn ids_with_wildcard_characters_are_plain_text() {
    assert!(FromDevice::parse("devices/a+#/messages/events/", &id("a+#")).is_ok());
    assert!(FromDevice::parse("devices/ab/messages/events/", &id("a+")).is_err());
    assert!(FromDevice::parse("devices/a%20/messages/events/", &id("a%20")).is_ok());
    assert_eq!(Filter::parse("devices/a#/messages/devicebound/#", &id("a#")), Some(Filter::CloudToDevice));
}

#[test]
fn what_we_publish_is_spelled_as_clients_read_it() {
    let spelled = [
        (
            ToDevice::TwinResponse { status: 200, request_id: "r", version: None },
            "$iothub/twin/res/200/?$rid=r",
        ),
        (
            ToDevice::TwinResponse { status: 204, request_id: "r", version: Some(4) },
            "$iothub/twin/res/204/?$rid=r&$version=4",
        ),
        (ToDevice::DesiredChanged { version: 9 }, "$iothub/twin/PATCH/properties/desired/?$version=9"),
        (ToDevice::Method { name: "a*b", request_id: "1f" }, "$iothub/methods/POST/a*b/?$rid=1f"),
        (
            ToDevice::ProvisioningResponse { status: 202, request_id: "r", retry_after_seconds: Some(3) },
            "$dps/registrations/res/202/?$rid=r&retry-after=3",
        ),
        (
            ToDevice::ProvisioningResponse { status: 200, request_id: "r", retry_after_seconds: None },
            "$dps/registrations/res/200/?$rid=r",
        ),
    ];
    for (topic, text) in spelled {
        assert_eq!(topic.text(), text);
        assert_eq!(ToDevice::parse(text), Ok(topic));
    }
}

#[test]
fn each_sdks_filter_is_known_and_others_are_not() {
    let (device, module) = (id("d"), id("d/m"));
    for filter in [
        "devices/d/messages/devicebound/#",
        "devices/d/messages/#",
        "#",
        "$iothub/methods/POST/#",
        "$iothub/methods/POST/foo/#",
        "$iothub/twin/res/#",
        "$iothub/twin/PATCH/properties/desired/#",
    ] {
        let parsed = Filter::parse(filter, &device);
        assert_eq!(parsed.map(|parsed| parsed.text(&device)).as_deref(), Some(filter));
    }
    for filter in [
        "devices/d/modules/m/#",
        "devices/d/modules/m/inputs/#",
        "devices/d/modules/m/messages/devicebound/#",
    ] {
        assert!(Filter::parse(filter, &device).is_none());
        let parsed = Filter::parse(filter, &module);
        assert_eq!(parsed.map(|parsed| parsed.text(&module)).as_deref(), Some(filter));
    }
    let method = |length: usize| format!("$iothub/methods/POST/{}/#", "é".repeat(length));
    assert!(Filter::parse(&method(caps::METHOD_NAME_CHARACTERS_MAX), &device).is_some());
    assert_eq!(Filter::parse(&method(caps::METHOD_NAME_CHARACTERS_MAX + 1), &device), None);
    for filter in [
        "devices/other/messages/devicebound/#",
        "devices/d/messages/events/#",
        "devices/+/messages/devicebound/#",
        "$iothub/#",
        "$iothub/twin/res",
        "$iothub/streams/#",
        "$iothub/methods/POST/",
        "$iothub/methods/POST//#",
        "$iothub/methods/POST/a/b/#",
        "$dps/registrations/res/#",
        "+",
    ] {
        assert_eq!(Filter::parse(filter, &device), None, "{filter}");
    }
}

#[test]
fn a_filter_for_one_method_takes_that_method_only() {
    assert!(Filter::Methods.takes_method("reboot"));
    assert!(Filter::Method("reboot".into()).takes_method("reboot"));
    assert!(!Filter::Method("reboot".into()).takes_method("Reboot"));
    assert!(!Filter::Everything.takes_method("reboot"));
}

#[test]
fn the_provisioning_topics_are_told_apart() {
    let register = ToProvisioning::parse("$dps/registrations/PUT/iotdps-register/?$rid=1%2d");
    assert_eq!(register, Ok(ToProvisioning::Register { request_id: "1%2d" }));
    let poll = "$dps/registrations/GET/iotdps-get-operationstatus/?$rid=2&operationId=5.3a.b-c";
    let expected = ToProvisioning::GetOperationStatus { request_id: "2", operation_id: "5.3a.b-c" };
    assert_eq!(expected.text(), poll);
    assert_eq!(ToProvisioning::parse(poll), Ok(expected));
    for topic in [
        "$dps/registrations/PUT/iotdps-register/",
        "$dps/registrations/PUT/iotdps-register/?$rid=",
        "$dps/registrations/GET/iotdps-get-operationstatus/?$rid=1",
        "$dps/registrations/GET/iotdps-register/?$rid=1",
        "devices/d/messages/events/",
    ] {
        assert_eq!(ToProvisioning::parse(topic), Err(UnknownTopic), "{topic}");
    }
}

proptest! {
    #[test]
    fn no_topic_panics(
        topic in r"(devices/|d/|modules/|m/|messages/|events/|\$iothub/|twin/|methods/|res/|POST/|GET/|\?\$rid=|[a-z0-9&=$#+])*|.{0,40}",
    ) {
        for identity in [id("d"), id("d/m")] {
            let _ = FromDevice::parse(&topic, &identity);
            let _ = Filter::parse(&topic, &identity);
        }
        let _ = (ToDevice::parse(&topic), ToProvisioning::parse(&topic));
    }

    #[test]
    fn a_clients_topic_is_read_as_it_was_meant(
        device in "[A-Za-z0-9:.+%_#*?!(),=@;$'-]{1,12}", module in proptest::option::of("[A-Za-z0-9:.+%_#*?!$'-]{1,12}"),
        rid in "[A-Za-z0-9<>%-]{1,12}", version in proptest::option::of("[0-9]{1,4}"), bag in "[a-z=&%]{0,12}",
    ) {
        let identity = id(&module.map_or(device.clone(), |module| format!("{device}/{module}")));
        for topic in [
            FromDevice::Telemetry { bag: &bag },
            FromDevice::GetTwin { request_id: &rid },
            FromDevice::PatchReported { request_id: Some(&rid), expected_version: version.as_deref() },
            FromDevice::PatchReported { request_id: None, expected_version: version.as_deref() },
            FromDevice::MethodResponse { status: "-1", request_id: &rid },
        ] {
            let text = topic.text(&identity);
            prop_assert_eq!(FromDevice::parse(&text, &identity), Ok(topic));
        }
    }
}

//! Every topic in both directions, and texts that are none.

use base::caps;
use proptest::prelude::*;

use super::filter::Kind;
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

/// What a filter covers of the topics that its identity is sent, by kind.
fn kinds(filter: &str, identity: &IdentityId) -> Vec<Kind> {
    let all =
        [Kind::CloudToDevice, Kind::ModuleInput, Kind::Method, Kind::TwinResponse, Kind::DesiredChanged];
    let filter = Filter::parse(filter, identity);
    let reached = |kind: &Kind| filter.as_ref().is_some_and(|filter| filter.reaches(*kind, identity));
    all.into_iter().filter(reached).collect()
}

#[test]
fn each_clients_filter_covers_what_it_says_and_others_are_unknown() {
    use Kind::{CloudToDevice, DesiredChanged, Method, ModuleInput, TwinResponse};
    let (device, module) = (id("d"), id("d/m"));
    for (filter, expected) in [
        // The SDKs.
        ("devices/d/messages/devicebound/#", vec![CloudToDevice]),
        ("$iothub/methods/POST/#", vec![Method]),
        ("$iothub/twin/res/#", vec![TwinResponse]),
        ("$iothub/twin/PATCH/properties/desired/#", vec![DesiredChanged]),
        // The SDK for embedded C, and with it Arduino and FreeRTOS.
        ("devices/+/messages/devicebound/#", vec![CloudToDevice]),
        // Adafruit's library for CircuitPython.
        ("$iothub/methods/#", vec![Method]),
        ("$iothub/twin/res/200/#", vec![TwinResponse]),
        // nanoFramework.
        ("$iothub/twin/#", vec![TwinResponse, DesiredChanged]),
        // Clients written by hand.
        ("$iothub/#", vec![Method, TwinResponse, DesiredChanged]),
        ("$iothub/twin/PATCH/#", vec![DesiredChanged]),
        ("$iothub/methods/POST/foo/#", vec![Method]),
        ("$iothub/methods/POST/+/+", vec![Method]),
        ("$iothub/+/res/#", vec![TwinResponse]),
        ("devices/+/messages/#", vec![CloudToDevice]),
        ("devices/d/messages/#", vec![CloudToDevice]),
        ("devices/#", vec![CloudToDevice]),
        ("#", vec![CloudToDevice]),
        ("+/d/#", vec![CloudToDevice]),
    ] {
        assert_eq!(kinds(filter, &device), expected, "{filter}");
        let text = Filter::parse(filter, &device).unwrap().text().to_owned();
        assert_eq!(text, filter, "it is kept as it was subscribed to");
    }
    for (filter, expected) in [
        ("devices/d/modules/m/#", vec![CloudToDevice, ModuleInput]),
        ("devices/d/modules/m/inputs/#", vec![ModuleInput]),
        ("devices/d/modules/m/messages/devicebound/#", vec![CloudToDevice]),
        ("devices/+/modules/+/#", vec![CloudToDevice, ModuleInput]),
        ("devices/+/modules/m/inputs/+/#", vec![ModuleInput]),
    ] {
        assert_eq!(kinds(filter, &module), expected, "{filter}");
        assert!(Filter::parse(filter, &device).is_none(), "{filter} is a module's");
    }
    for filter in [
        "devices/other/messages/devicebound/#",
        "devices/other/#",
        "devices/D/messages/devicebound/#",
        "devices/+/messages/events/#",
        "devices/d/messages/events/#",
        "devices/d/modules/m/#",
        "$iothub/twin/res",
        "$iothub/twin/res/ok/#",
        "$iothub/twin/GET/#",
        "$iothub/methods/res/#",
        "$iothub/streams/#",
        "$iothub/methods/POST/",
        "$iothub/methods/POST//#",
        "$iothub/methods/POST/a/b/#",
        "$IOTHUB/#",
        "$dps/registrations/res/#",
        "$dps/#",
        "$SYS/#",
        "+",
        "+/twin/res/#",
        "#/messages/devicebound/#",
        "devices/#/messages/devicebound/#",
        "devices/d+/messages/devicebound/#",
    ] {
        assert_eq!(Filter::parse(filter, &device), None, "{filter}");
    }
}

#[test]
fn a_filter_that_could_never_match_or_not_be_kept_is_refused() {
    let method = |length: usize| format!("$iothub/methods/POST/{}/#", "é".repeat(length));
    assert!(Filter::parse(&method(caps::METHOD_NAME_CHARACTERS_MAX), &id("d")).is_some());
    assert_eq!(Filter::parse(&method(caps::METHOD_NAME_CHARACTERS_MAX + 1), &id("d")), None);
    let bag = |length: usize| format!("devices/d/messages/devicebound/{}", "x".repeat(length));
    let longest = caps::MQTT_FILTER_BYTES_MAX - bag(0).len();
    assert!(Filter::parse(&bag(longest), &id("d")).is_some());
    assert_eq!(Filter::parse(&bag(longest + 1), &id("d")), None);
}

#[test]
fn wildcards_in_ids_are_letters() {
    let own = |id: &str| format!("devices/{id}/messages/devicebound/#");
    for device in ["+", "#", "a+b", "a#", "+#"] {
        assert!(Filter::parse(&own(device), &id(device)).is_some(), "{device}");
        assert!(Filter::parse(&own("x"), &id(device)).is_none(), "{device}");
    }
    for (filter, device) in [("#", "x"), ("a+b", "axb"), ("a#", "ab"), ("a+b", "a#b")] {
        assert!(Filter::parse(&own(filter), &id(device)).is_none(), "{filter} is not {device}");
    }
    let other = Filter::parse(&own("+"), &id("x")).unwrap();
    assert!(other.covers("devices/x/messages/devicebound/"), "as a whole level it covers the own id");
}

#[test]
fn a_filter_for_one_method_or_one_status_covers_that_only() {
    let covers = |filter: &str, topic| Filter::parse(filter, &id("d")).unwrap().covers(topic);
    let reboot = "$iothub/methods/POST/reboot/?$rid=1";
    assert!(covers("$iothub/methods/POST/#", reboot));
    assert!(covers("$iothub/methods/POST/reboot/#", reboot));
    assert!(!covers("$iothub/methods/POST/Reboot/#", reboot));
    assert!(!covers("#", reboot));
    assert!(covers("$iothub/twin/res/200/#", "$iothub/twin/res/200/?$rid=a/b"));
    assert!(!covers("$iothub/twin/res/200/#", "$iothub/twin/res/204/?$rid=1&$version=2"));
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

/// Matching by the words of MQTT 3.1.1, §4.7, level by level. A `#` that is not the last level is a letter.
fn matches_plainly(filter: &[&str], topic: &[&str]) -> bool {
    match (filter, topic) {
        (["#"], _) | ([], []) => true,
        ([level, filter @ ..], [wanted, topic @ ..]) => {
            (*level == "+" || level == wanted) && matches_plainly(filter, topic)
        }
        _ => false,
    }
}

fn matches_plainly_as_a_whole(filter: &str, topic: &str) -> bool {
    let (levels, wanted): (Vec<_>, Vec<_>) = (filter.split('/').collect(), topic.split('/').collect());
    let keeps_away = topic.starts_with('$') && (levels[0] == "+" || levels == ["#"]);
    !keeps_away && matches_plainly(&levels, &wanted)
}

/// Topics that `identity` is sent, among them all that `filter` could mean, if it means any.
fn own_topics(identity: &IdentityId, filter: &str) -> Vec<String> {
    let levels: Vec<&str> = filter.split('/').collect();
    let is_wild = |index: usize| levels[index] == "+" || levels[index] == "#" && index + 1 == levels.len();
    let level = |index: usize| levels.get(index).copied().filter(|_| !is_wild(index));
    let either = |usual: &str, index: usize| {
        let other = level(index).unwrap_or(usual);
        [usual.to_owned(), other.to_owned()]
    };
    let rest = |from: usize| {
        let filled = levels.iter().enumerate().skip(from).map(|(index, level)| match *level {
            _ if is_wild(index) && index == from => "?$rid=",
            _ if is_wild(index) => "x",
            level => level,
        });
        let rest = filled.collect::<Vec<_>>().join("/");
        ["?$rid=r".to_owned(), "?$rid=a/b&$version=3".to_owned(), rest]
    };
    let path = identity_path(identity);
    let mut topics = Vec::new();
    let bag = if identity.module_id.is_some() { 6 } else { 4 };
    for bag in either("%24.mid=1", bag) {
        topics.push(format!("{path}/messages/devicebound/{bag}"));
    }
    topics.push(format!("{path}/messages/devicebound/"));
    if identity.module_id.is_some() {
        for input in either("in", 5) {
            topics.extend(either("a=b", 6).map(|bag| format!("{path}/inputs/{input}/{bag}")));
        }
    }
    for name in either("reboot", 3).into_iter().filter(|name| !name.is_empty()) {
        let requests = either("?$rid=1f", 4).into_iter().filter(|request| request.starts_with("?$rid="));
        topics.extend(requests.map(|request| format!("$iothub/methods/POST/{name}/{request}")));
    }
    for status in either("200", 3).into_iter().filter(|status| status.parse::<u16>().is_ok()) {
        let rests = rest(4).into_iter().filter(|rest| rest.starts_with("?$rid=") && status.len() == 3);
        topics.extend(rests.map(|rest| format!("$iothub/twin/res/{status}/{rest}")));
    }
    let versions = either("?$version=4", 5).into_iter().filter(|version| version.starts_with("?$version="));
    topics.extend(versions.map(|version| format!("$iothub/twin/PATCH/properties/desired/{version}")));
    topics
}

/// A filter made of some topic, its own or another's, with wildcards and letters in the place of some levels.
fn any_filter() -> impl Strategy<Value = String> {
    let topics = [
        "devices/d/messages/devicebound/%24.mid=1",
        "devices/+/messages/devicebound/",
        "devices/#/messages/devicebound/a=b",
        "devices/a+b/messages/events/",
        "devices/d/modules/m/inputs/in/a=b",
        "devices/#/modules/+/messages/devicebound/x",
        "$iothub/methods/POST/reboot/?$rid=1f",
        "$iothub/twin/res/200/?$rid=a/b&$version=3",
        "$iothub/twin/PATCH/properties/desired/?$version=4",
        "$iothub/twin/PATCH/properties/reported/?$rid=1",
        "$iothub/twin/GET/?$rid=1",
        "$dps/registrations/res/200/?$rid=1",
    ];
    let change = prop_oneof![
        12 => Just(None),
        4 => Just(Some("+")),
        1 => prop::sample::select(vec!["#", "", "d", "x", "a+b", "$iothub", "204", "2040", "m", "twin"]).prop_map(Some),
    ];
    let changes = proptest::collection::vec(change, 8);
    (prop::sample::select(topics.to_vec()), changes, 1..9_usize, any::<bool>()).prop_map(
        |(topic, changes, length, is_open)| {
            let levels = topic.split('/').zip(changes).map(|(level, change)| change.unwrap_or(level));
            let mut levels: Vec<_> = levels.take(length).collect();
            if is_open {
                levels.push("#");
            }
            levels.join("/")
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, ..ProptestConfig::default() })]

    #[test]
    fn a_filter_is_granted_and_delivers_as_plain_mqtt_would_among_the_own_topics(
        identity in prop::sample::select(vec!["d", "d/m", "+", "#", "a+b", "#/+", "x/#"]),
        filter in any_filter(),
    ) {
        let identity = id(identity);
        let granted = Filter::parse(&filter, &identity);
        let mut is_any_matched = false;
        for topic in own_topics(&identity, &filter) {
            let is_matched = matches_plainly_as_a_whole(&filter, &topic);
            let is_covered = granted.as_ref().is_some_and(|granted| granted.covers(&topic));
            prop_assert_eq!(is_covered, is_matched, "{} against {}", filter, topic);
            is_any_matched |= is_matched;
        }
        prop_assert_eq!(granted.is_some(), is_any_matched, "{} of {}", filter, identity);
    }
}

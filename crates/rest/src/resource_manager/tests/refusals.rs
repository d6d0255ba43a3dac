//! What every operation refuses in the same way: credentials, roles, api-versions, bodies, tags, places, things that are not there.
//! Each refusal leaves the state as it was.

use super::calls::{Call, OpenTo, calls, snapshot, with_everything};
use super::*;

async fn code_of(arm: &Arm, call: &Call, authorization: Option<&str>) -> (u16, String) {
    let headers: Vec<(&str, &str)> = authorization.iter().map(|value| ("authorization", *value)).collect();
    let answer = arm.ask(call.method, &call.url, &headers, &call.body_text()).await;
    if answer.status == 401 {
        let challenge = answer.header_value("www-authenticate").unwrap();
        assert!(challenge.starts_with("Bearer authorization_uri=\"https://"), "{challenge}");
    }
    let code = answer.body_json()["error"]["code"].as_str().unwrap_or_default().to_owned();
    (answer.status.as_u16(), code)
}

#[tokio::test]
async fn without_a_good_token_nothing_is_told_or_changed() {
    let arm = with_everything().await;
    let before = snapshot(&arm).await;
    let digital_twins = token(&arm.directory, &arm.owner, "0b07f429-9f4b-4714-9392-cc5e8e80c8b0").await;
    let another_directory = Arm::new().await.token;
    let tokens = [
        (None, "AuthenticationFailed"),
        (
            Some("SharedAccessSignature sr=all&sig=c2ln&se=1800000000&skn=service".to_owned()),
            "AuthenticationFailed",
        ),
        (Some("Basic b3duZXI6c2VjcmV0".to_owned()), "AuthenticationFailed"),
        (Some("Bearer nonsense".to_owned()), "InvalidAuthenticationToken"),
        (Some(format!("Bearer {}x", arm.token)), "InvalidAuthenticationToken"),
        (Some(format!("Bearer {another_directory}")), "InvalidAuthenticationToken"),
        (Some(format!("Bearer {digital_twins}")), "InvalidAuthenticationTokenAudience"),
    ];
    for call in calls("g", "all") {
        for (authorization, code) in &tokens {
            let refused = code_of(&arm, &call, authorization.as_deref()).await;
            assert_eq!(refused, (401, (*code).to_owned()), "{} {} {authorization:?}", call.method, call.url);
        }
    }
    assert_eq!(snapshot(&arm).await, before);
    arm.clock.advance(Duration::from_secs(5000));
    let expired = format!("Bearer {}", arm.token);
    for call in calls("g", "all") {
        let refused = code_of(&arm, &call, Some(&expired)).await;
        assert_eq!(refused, (401, "ExpiredAuthenticationToken".into()), "{} {}", call.method, call.url);
    }
}

#[tokio::test]
async fn without_a_role_that_names_the_action_nothing_is_told_or_changed() {
    let arm = with_everything().await;
    let subscription = format!("/subscriptions/{RECORDED}");
    let nobody = arm.token_of(None, "").await;
    let elsewhere = arm.token_of(Some(roles::OWNER), &format!("/subscriptions/{EXAMPLES}")).await;
    let data = arm.token_of(Some(roles::DIGITAL_TWINS_DATA_OWNER), &subscription).await;
    let neighbour = arm.token_of(Some(roles::OWNER), &format!("{subscription}/resourceGroups/other")).await;
    let reader = arm.token_of(Some(roles::READER), &subscription).await;
    let before = snapshot(&arm).await;
    let refused = (403, "AuthorizationFailed".to_owned());
    for call in calls("g", "all") {
        let at = format!("{} {}", call.method, call.url);
        let ask = async |token: &str| code_of(&arm, &call, Some(&format!("Bearer {token}"))).await;
        for (who, is_inside) in [(&nobody, false), (&elsewhere, false), (&data, true), (&neighbour, true)] {
            let may = call.open == OpenTo::AnyToken || call.open == OpenTo::AnyRole && is_inside;
            let (status, code) = ask(who).await;
            match (may, call.is_not_there) {
                (true, true) => assert_eq!(status, call.status_not_there, "{at}"),
                (true, false) => assert_eq!(status, 200, "{at}"),
                (false, _) => assert_eq!((status, code), refused, "{at}"),
            }
        }
        let (status, code) = ask(&reader).await;
        match (call.is_read(), call.is_not_there) {
            (true, true) => assert_eq!(status, 404, "{at}"),
            (true, false) => assert!(matches!(status, 200 | 204), "{at} {status}"),
            (false, _) => assert_eq!((status, code), refused, "{at}"),
        }
    }
    assert_eq!(snapshot(&arm).await, before);
}

#[tokio::test]
async fn what_is_not_there_is_named() {
    let arm = Arm::new().await;
    let as_owner = format!("Bearer {}", arm.token);
    let ask = async |call: &Call| code_of(&arm, call, Some(&as_owner)).await;
    for call in calls("nowhere", "all") {
        let makes_the_group = call.method == "PUT" && call.path().ends_with("/nowhere");
        if call.path().contains("/resourceGroups/nowhere")
            && call.method != "HEAD"
            && !makes_the_group
            && !call.is_not_there
        {
            let at = format!("{} {}", call.method, call.url);
            assert_eq!(ask(&call).await, (404, "ResourceGroupNotFound".into()), "{at}");
        }
    }
    let unknown = "11111111-2222-3333-4444-555555555555";
    for call in
        calls("g", "all").into_iter().filter(|call| call.url.contains(RECORDED) && call.method != "HEAD")
    {
        for (subscription, refusal) in
            [(unknown, (404, "SubscriptionNotFound")), ("mine", (400, "InvalidSubscriptionId"))]
        {
            let there = Call { url: call.url.replace(RECORDED, subscription), ..call.clone() };
            let (status, code) = ask(&there).await;
            assert_eq!((status, code.as_str()), refusal, "{} {}", call.method, there.url);
        }
    }
    arm.group(RECORDED, "g").await;
    for call in calls("g", "all") {
        let is_of_a_resource = call.path().contains("-all") || call.path().contains("/all");
        if is_of_a_resource && matches!(call.method, "GET" | "PATCH" | "POST") && !call.is_not_there {
            let (status, code) = ask(&call).await;
            let is_child = call.path().contains("/endpoints") || call.path().contains("/eventhubs");
            assert!(
                status == 404 && (code == "ResourceNotFound" || is_child && code == "ParentResourceNotFound"),
                "{} {} {status} {code}",
                call.method,
                call.url
            );
        }
        if is_of_a_resource && call.method == "DELETE" {
            let (status, _) = ask(&call).await;
            assert!(matches!(status, 204 | 404), "{} {}", call.url, status);
        }
    }
}

#[tokio::test]
async fn the_api_version_is_asked_for_and_checked() {
    let arm = Arm::new().await;
    arm.group(RECORDED, "g").await;
    let instance = |version: &str| twins_url(RECORDED, "g", "all", "").replace(VERSION, version);
    for version in [
        "2020-03-01-preview",
        "2020-10-31",
        "2020-12-01",
        "2021-06-30-preview",
        "2022-05-31",
        "2022-10-31",
        "2023-01-31",
        "2031-01-01",
    ] {
        assert_eq!(arm.get(&instance(version)).await.0, 404, "{version}");
    }
    for (url, code) in [
        (format!("/subscriptions/{RECORDED}/resourceGroups/g"), "MissingApiVersionParameter"),
        (instance("").replace("?api-version=", ""), "MissingApiVersionParameter"),
        (format!("/subscriptions/{RECORDED}?api-version=soon"), "InvalidApiVersionParameter"),
        (instance("2019-01-01"), "NoRegisteredProviderFound"),
        (instance("soon"), "NoRegisteredProviderFound"),
    ] {
        let (status, body) = arm.get(&url).await;
        assert_eq!((status, &body["error"]["code"]), (400, &json!(code)), "{url}");
    }
    for (url, code) in [
        (
            format!(
                "/subscriptions/{RECORDED}/resourceGroups/g/providers/Microsoft.DigitalTwins/pigeons/x?api-version={VERSION}"
            ),
            "InvalidResourceType",
        ),
        (
            format!(
                "/subscriptions/{RECORDED}/resourceGroups/g/providers/Microsoft.Pigeons/x/y?api-version={VERSION}"
            ),
            "InvalidResourceNamespace",
        ),
    ] {
        let (status, body) = arm.get(&url).await;
        assert_eq!((status, &body["error"]["code"]), (404, &json!(code)), "{url}");
    }
    assert_eq!(arm.send("POST", &instance(VERSION), "{}").await.status, 405);
}

#[tokio::test]
async fn malformed_bodies_are_refused_and_nothing_changes() {
    let arm = with_everything().await;
    let before = snapshot(&arm).await;
    let deep = format!("{}{}", "[".repeat(5000), "]".repeat(5000));
    for call in calls("g", "all").iter().filter(|call| call.has_body()) {
        for bad in
            ["", "{", "[]", "7", "\"text\"", "\u{0}", r#"{"tags": 7, "properties": 7, "name": 7}"#, &deep]
        {
            let answer = arm.call_with(call, bad).await;
            assert_eq!(answer.status, 400, "{} {} {bad:.20} {answer:?}", call.method, call.url);
        }
    }
    // A list where an object is due is none, whatever its elements are.
    for call in calls("g", "all").iter().filter(|call| call.has_body()) {
        for member in ["tags", "identity", "sku", "properties"] {
            let mut body = call.body.clone();
            let Some(object) = body.get_mut(member).filter(|value| value.is_object()) else { continue };
            *object = object.as_object().unwrap().values().cloned().collect();
            let answer = arm.call_with(call, &body.to_string()).await;
            assert_eq!(answer.status, 400, "{} {} {body} {answer:?}", call.method, call.url);
        }
    }
    assert_eq!(snapshot(&arm).await, before);
}

/// The call's body, with blanks up to this size.
fn padded(call: &Call, size: usize) -> String {
    let mut body = call.body_text();
    body.extend(std::iter::repeat_n(' ', size - body.len()));
    body
}

/// The call with a member that no operation reads, so deep that the whole body has this depth.
fn nested(call: &Call, depth: usize) -> String {
    let mut body = call.body.clone();
    body["unread"] = (1..depth).fold(json!(1), |inner, _| json!([inner]));
    body.to_string()
}

#[tokio::test]
async fn bodies_are_taken_up_to_their_size_and_depth() {
    let (size, depth) = (base::caps::HTTP_BODY_BYTES_MAX, base::caps::JSON_DEPTH_MAX);
    let arm = with_everything().await;
    for call in calls("g", "all").iter().filter(|call| call.has_body()) {
        let ask = async |body: String| arm.call_with(call, &body).await.status.as_u16();
        let at = format!("{} {}", call.method, call.url);
        for body in [padded(call, size), nested(call, depth)] {
            let status = ask(body).await;
            let is_taken = if call.is_not_there {
                status == call.status_not_there
            } else {
                (200..300).contains(&status)
            };
            assert!(is_taken, "{at} {status}");
            arm.settle().await;
        }
        assert_eq!(ask(padded(call, size + 1)).await, 413, "{at}");
        assert_eq!(ask(nested(call, depth + 1)).await, 400, "{at}");
    }
}

#[tokio::test]
async fn places_and_names_are_held_to_their_rules() {
    let arm = with_everything().await;
    let url = twins_url(RECORDED, "g", "all", "");
    let new = |name: &str| twins_url(RECORDED, "g", name, "");
    let before = arm.get(&url).await.1;
    for (url, body, status, code) in [
        (new("fresh"), json!({}), 400, "LocationRequired"),
        (new("fresh"), json!({"location": ""}), 400, "LocationRequired"),
        (new("fresh"), json!({"location": "atlantis"}), 400, "LocationNotAvailableForResourceType"),
        (url.clone(), json!({"location": "westus2"}), 409, "InvalidResourceLocation"),
        (url.clone(), json!({"location": "eastus", "name": "other"}), 400, "InvalidRequestContent"),
        (
            url.clone(),
            json!({"location": "eastus", "identity": {"type": "Robot"}}),
            400,
            "InvalidRequestContent",
        ),
        (
            url.clone(),
            json!({"location": "eastus", "identity": {"type": "UserAssigned"}}),
            400,
            "InvalidRequestContent",
        ),
        (
            url.clone(),
            json!({"location": "eastus", "properties": {"publicNetworkAccess": "Maybe"}}),
            400,
            "InvalidRequestContent",
        ),
        (
            url.clone(),
            json!({"location": "eastus", "properties": {"privateEndpointConnections": [
            {"properties": {"privateLinkServiceConnectionState": {"status": "Maybe", "description": ""}}}]}}),
            400,
            "InvalidRequestContent",
        ),
        (new("-abc"), json!({"location": "eastus"}), 400, "InvalidResourceName"),
    ] {
        let answer = arm.put(&url, body.clone()).await;
        assert_eq!(
            (answer.status.as_u16(), &answer.body_json()["error"]["code"]),
            (status, &json!(code)),
            "{body}"
        );
    }
    let after = arm.get(&url).await.1;
    for member in ["location", "identity", "tags", "name"] {
        assert_eq!(after[member], before[member]);
    }
    assert_eq!(arm.put(&new("abc"), json!({"location": "East US"})).await.status, 201);
    // Names of instances become host names: nobody else may have one, in whatever group or subscription.
    arm.group(EXAMPLES, "g").await;
    let taken = arm.put(&twins_url(EXAMPLES, "g", "ABC", ""), json!({"location": "eastus"})).await;
    assert_eq!(
        (taken.status.as_u16(), &taken.body_json()["error"]["code"]),
        (409, &json!("NameNotAvailable"))
    );
}

/// Role assignments and certificates have rules of their own for a PUT over what is there.
fn resource_puts() -> impl Iterator<Item = Call> {
    let special = |call: &Call| call.url.contains("/roleAssignments/") || call.url.contains("/certificates/");
    calls("g", "all").into_iter().filter(move |call| call.method == "PUT" && !special(call))
}

#[tokio::test]
async fn a_put_over_what_must_not_be_there_or_over_another_version_changes_nothing() {
    let arm = with_everything().await;
    let before = snapshot(&arm).await;
    let bearer = format!("Bearer {}", arm.token);
    let mut tried = 0;
    for call in resource_puts() {
        for (name, value) in
            [("if-none-match", "*"), ("if-match", "\"AAAAAAAAAAA=\""), ("if-match", "nonsense")]
        {
            let headers = [("authorization", bearer.as_str()), (name, value)];
            let answer = arm.ask(call.method, &call.url, &headers, &call.body_text()).await;
            assert_eq!(answer.status, 412, "{name}: {value} {} {answer:?}", call.url);
            let error = answer.body_json()["error"].clone();
            assert_eq!(error["code"], "PreconditionFailed");
            let says = if name == "if-match" { "'If-Match'" } else { "'If-None-Match'" };
            assert!(error["message"].as_str().unwrap().contains(says), "{error}");
            tried += 1;
        }
    }
    assert!(tried > 20, "only {tried} were tried");
    assert_eq!(snapshot(&arm).await, before);
}

#[tokio::test]
async fn a_put_of_what_must_be_there_makes_nothing_and_one_of_what_must_not_is_taken() {
    let arm = Arm::new().await;
    arm.group(RECORDED, "g").await;
    let bearer = format!("Bearer {}", arm.token);
    let put = async |url: &str, body: &Value, name: &str, value: &str| {
        arm.ask("PUT", url, &[("authorization", bearer.as_str()), (name, value)], &body.to_string())
            .await
            .status
    };
    let group = format!("/subscriptions/{RECORDED}/resourceGroups/h?api-version=2021-04-01");
    let twins = twins_url(RECORDED, "g", "new-twins", "");
    for (url, body) in [(group, json!({"location": "westus"})), (twins, json!({"location": "westus"}))] {
        assert_eq!(put(&url, &body, "if-match", "*").await, 412, "{url}");
        assert_eq!(arm.get(&url).await.0, 404, "{url}");
        assert_eq!(put(&url, &body, "if-none-match", "\"x\"").await, 400, "{url}");
        assert_eq!(put(&url, &body, "if-none-match", "*").await, 201, "{url}");
        arm.settle().await;
        assert_eq!(put(&url, &body, "if-none-match", "*").await, 412, "{url}");
        assert!(put(&url, &body, "if-match", "*").await.is_success(), "{url}");
    }
}

#[tokio::test]
async fn a_body_that_cannot_be_read_is_told_by_its_place_and_in_plain_words() {
    let arm = Arm::new().await;
    arm.group(RECORDED, "g").await;
    let url = twins_url(RECORDED, "g", "twins", "");
    for (body, says) in [
        ("{\n x", "it is not JSON at line 2, column 2"),
        ("{", "the JSON text ends too early"),
        (r#"{"location":7}"#, "'location' must be a text"),
        (r#"{"location":"westus","properties":[]}"#, "'properties' must be an object"),
        (r#"{"location":"westus","tags":{"a":1}}"#, "'tags.a' must be a text"),
    ] {
        let answer = arm.send("PUT", &url, body).await;
        let expected = format!("The request content was invalid and could not be deserialized: '{says}'.");
        assert_eq!(answer.body_json()["error"]["message"], expected, "{body}");
    }
}

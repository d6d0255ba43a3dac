use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::*;

#[derive(Debug, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase")]
struct Body {
    device_id: Option<String>,
    timeout_in_seconds: Option<u64>,
    #[serde(default)]
    is_edge: bool,
    inner: Option<Inner>,
    kind: Option<Kind>,
    tags: Option<Value>,
    list: Option<Vec<Inner>>,
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Inner {
    ratio: f64,
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase")]
enum Kind {
    SelfSigned,
    Sas,
}

#[derive(Deserialize)]
struct Raw {
    payload: Box<RawValue>,
}

fn tolerant(body: &Value) -> Body {
    read(body.to_string().as_bytes(), Reading::Tolerant).unwrap()
}

fn refusal(body: &str, reading: Reading) -> String {
    let both = [
        read::<Body>(body.as_bytes(), reading).unwrap_err(),
        serde_json::from_str(body).map_or_else(
            |_| read::<Body>(body.as_bytes(), reading).unwrap_err(),
            |value| read_value::<Body>(value, reading).unwrap_err(),
        ),
    ];
    assert_eq!(both[0], both[1], "from text and from a value");
    both[0].to_string()
}

#[test]
fn names_and_enumerated_values_are_read_in_any_case_and_numbers_as_texts() {
    let sent = json!({
        "DeviceID": "d", "TIMEOUTInSeconds": "30", "IsEdge": "True", "inner": {"Ratio": "-1.5"}, "Kind": "SELFSIGNED",
        "list": [{"RATIO": 2}]
    });
    let read = tolerant(&sent);
    assert_eq!(read.device_id.as_deref(), Some("d"));
    assert_eq!((read.timeout_in_seconds, read.is_edge), (Some(30), true));
    assert_eq!((read.inner, read.kind), (Some(Inner { ratio: -1.5 }), Some(Kind::SelfSigned)));
    assert_eq!(read.list, Some(vec![Inner { ratio: 2.0 }]));
}

#[test]
fn a_service_that_takes_names_as_published_knows_no_others() {
    let read: Body = read(br#"{"DeviceId":"d","Kind":5}"#, Reading::AsPublished).unwrap();
    assert_eq!((read.device_id, read.kind), (None, None));
    assert_eq!(
        refusal(r#"{"timeoutInSeconds":"30"}"#, Reading::AsPublished),
        "'timeoutInSeconds' must be a whole number within its limits"
    );
    assert_eq!(
        refusal(r#"{"kind":"SAS"}"#, Reading::AsPublished),
        "'kind' must be one of 'selfSigned', 'sas'"
    );
}

#[test]
fn opaque_members_keep_their_names_and_types() {
    let tags = json!({"Status": "30", "deviceid": {"DeviceID": 1, "deviceId": "2"}, "list": [{"a": "1"}]});
    assert_eq!(tolerant(&json!({ "Tags": tags })).tags, Some(tags));
    let text = br#"{"payload": {"B":1e3, "a":  12345678901234567890123}}"#;
    let raw: Raw = read(text, Reading::Tolerant).unwrap();
    assert_eq!(raw.payload.get(), r#"{"B":1e3, "a":  12345678901234567890123}"#);
}

#[test]
fn a_refusal_says_in_plain_words_where_and_what() {
    for (body, says) in [
        ("{\"a\":1,\n x}", "it is not JSON at line 2, column 2"),
        ("{\"a\":1} x", "it is not JSON at line 1, column 9"),
        ("{\"a\":", "the JSON text ends too early"),
        ("", "the JSON text ends too early"),
        ("[]", "the body must be an object"),
        ("[\"d\",30,true]", "the body must be an object"),
        ("null", "the body must be an object"),
        ("7", "the body must be an object"),
        (r#"{"deviceId":7}"#, "'deviceId' must be a text"),
        (r#"{"timeoutInSeconds":-1}"#, "'timeoutInSeconds' must be a whole number within its limits"),
        (r#"{"timeoutInSeconds":1.5}"#, "'timeoutInSeconds' must be a whole number within its limits"),
        (r#"{"timeoutInSeconds":"soon"}"#, "'timeoutInSeconds' must be a whole number within its limits"),
        (
            r#"{"timeoutInSeconds":18446744073709551616}"#,
            "'timeoutInSeconds' must be a whole number within its limits",
        ),
        (r#"{"isEdge":null}"#, "'isEdge' must be true or false"),
        (r#"{"isEdge":"yes"}"#, "'isEdge' must be true or false"),
        (r#"{"inner":[1]}"#, "'inner' must be an object"),
        (r#"{"inner":{}}"#, "'inner.ratio' is missing"),
        (r#"{"inner":{"ratio":1,"Rate":2}}"#, "'inner.Rate' is not known"),
        (r#"{"inner":{"ratio":"x"}}"#, "'inner.ratio' must be a number"),
        (r#"{"list":{}}"#, "'list' must be a list"),
        (r#"{"list":[{"ratio":1},{"ratio":[]}]}"#, "'list[1].ratio' must be a number"),
        (r#"{"list":[{"ratio":1},3]}"#, "'list[1]' must be an object"),
        (r#"{"kind":"password"}"#, "'kind' must be one of 'selfSigned', 'sas'"),
        (r#"{"kind":1}"#, "'kind' must be one of 'selfSigned', 'sas'"),
    ] {
        assert_eq!(refusal(body, Reading::Tolerant), says, "{body}");
    }
    let twice = read::<Body>(br#"{"deviceId":"a","DeviceId":"b"}"#, Reading::Tolerant).unwrap_err();
    assert_eq!(twice.to_string(), "'deviceId' is there twice");
}

#[test]
fn a_refusal_repeats_no_more_of_a_name_than_is_good() {
    let body = format!(r#"{{"inner":{{"ratio":1,"{}":2}}}}"#, "x".repeat(5000));
    assert!(refusal(&body, Reading::Tolerant).len() < 200);
}

proptest::proptest! {
    #[test]
    fn no_body_makes_the_reader_panic(body in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..80)) {
        let _ = read::<Body>(&body, Reading::Tolerant);
        let _ = read::<Body>(format!("{{\"list\":[{}]}}", String::from_utf8_lossy(&body)).as_bytes(), Reading::Tolerant);
    }
}

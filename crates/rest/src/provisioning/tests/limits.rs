//! Sizes just at and just past their limits.

use base::{Key, caps};
use serde_json::json;

use super::fixture::*;

/// The enrollment `dev-1` in exactly `bytes` bytes.
fn enrollment_of(bytes: usize) -> String {
    let with = |filler: usize| {
        let mut body = individual("dev-1");
        body["optionalDeviceInformation"] = json!({"filler": "x".repeat(filler)});
        body.to_string()
    };
    with(bytes - with(0).len())
}

#[tokio::test]
async fn a_message_of_96_kilobytes_is_taken_and_one_byte_more_is_not() {
    let fixture = Fixture::new().await;
    let max = caps::PROVISIONING_MESSAGE_BYTES_MAX;
    assert_eq!(enrollment_of(max).len(), max);
    fixture.ask("PUT", "/enrollments/dev-1").bytes(enrollment_of(max + 1)).send().await.refused(413_000);
    fixture.ask("GET", "/enrollments/dev-1").send().await.refused(404_201);
    let made = fixture.ask("PUT", "/enrollments/dev-1").bytes(enrollment_of(max)).send().await.is(200).json();
    let key = primary_key(&made);
    let payload = |bytes: usize| {
        let empty = json!({"payload": ""}).to_string().len();
        json!({"payload": "x".repeat(bytes - empty)}).to_string()
    };
    let register = |bytes| fixture.device("PUT", "dev-1", "/register", &key).bytes(payload(bytes));
    register(max + 1).send().await.refused(413_000);
    fixture.ask("GET", "/registrations/dev-1").send().await.refused(404_201);
    register(max).send().await.is(202);
}

#[tokio::test]
async fn ids_have_128_characters_and_end_well() {
    let fixture = Fixture::new().await;
    for (id, fits) in [
        ("x".repeat(128), true),
        ("x".repeat(129), false),
        ("a.b_c:d-".to_owned(), true),
        ("ends.".to_owned(), false),
        ("sl%2Fash".to_owned(), false),
        ("%C3%A4".to_owned(), false),
    ] {
        let decoded = percent_encoding::percent_decode_str(&id).decode_utf8_lossy().into_owned();
        for (kind, body) in [("enrollments", individual(&decoded)), ("enrollmentGroups", group(&decoded))] {
            let answer = fixture.ask("PUT", &format!("/{kind}/{id}")).json(&body).send().await;
            if fits {
                answer.is(200)
            } else {
                answer.refused(400_004)
            };
        }
        let answer = fixture.ask("GET", &format!("/registrations/{id}")).send().await;
        if fits {
            answer.refused(404_201)
        } else {
            answer.refused(400_004)
        };
        let answer = fixture.device("PUT", &id, "/register", &Key::generate(32)).send().await;
        if fits {
            answer.refused(401_002)
        } else {
            answer.refused(400_004)
        };
    }
}

#[tokio::test]
async fn a_device_id_has_128_characters_of_the_hubs_alphabet() {
    let fixture = Fixture::new().await;
    for (device_id, fits) in [
        ("x".repeat(128), true),
        ("x".repeat(129), false),
        ("a%b*?!(),=@;$'".to_owned(), true),
        ("a/b".to_owned(), false),
        ("ä".to_owned(), false),
    ] {
        let mut body = individual("dev-1");
        body["deviceId"] = json!(device_id);
        let answer = fixture.ask("PUT", "/enrollments/dev-1").json(&body).send().await;
        if fits {
            let key = primary_key(&answer.is(200).json());
            let told = fixture.register("dev-1", &key).await;
            assert_eq!(told["registrationState"]["deviceId"], device_id);
            fixture.ask("DELETE", "/enrollments/dev-1").send().await.is(204);
        } else {
            answer.refused(400_004);
            fixture.ask("GET", "/enrollments/dev-1").send().await.refused(404_201);
        }
    }
}

#[tokio::test]
async fn json_nests_a_hundred_deep_and_no_deeper() {
    let fixture = Fixture::new().await;
    // The body itself is one level, the member's own lists are the rest.
    let nested = |depth: usize| {
        let mut body = individual("dev-1");
        body["optionalDeviceInformation"] = json!("here");
        let lists = format!("{}7{}", "[".repeat(depth - 1), "]".repeat(depth - 1));
        body.to_string().replace("\"here\"", &lists)
    };
    for depth in [40_000, 1_000, caps::JSON_DEPTH_MAX + 1] {
        fixture.ask("PUT", "/enrollments/dev-1").bytes(nested(depth)).send().await.refused(400_004);
    }
    let made = fixture.ask("PUT", "/enrollments/dev-1").bytes(nested(caps::JSON_DEPTH_MAX)).send().await;
    let key = primary_key(&made.is(200).json());
    let payload = format!("{{\"payload\":{}{}}}", "[".repeat(40_000), "]".repeat(40_000));
    fixture.device("PUT", "dev-1", "/register", &key).bytes(payload).send().await.refused(400_004);
    fixture.ask("GET", "/registrations/dev-1").send().await.refused(404_201);
    assert_eq!(fixture.get("/enrollments/dev-1").await["optionalDeviceInformation"].to_string().len(), 199);
}

#[tokio::test]
async fn a_hundred_and_first_group_is_refused_until_another_goes() {
    let fixture = Fixture::new().await;
    for n in 0..caps::ENROLLMENT_GROUPS_MAX {
        fixture.put_group(&format!("group-{n}")).await;
    }
    let more = fixture.ask("PUT", "/enrollmentGroups/more").json(&group("more"));
    more.send().await.refused(403_000);
    fixture.ask("DELETE", "/enrollmentGroups/group-7").send().await.is(204);
    fixture.put_group("more").await;
}

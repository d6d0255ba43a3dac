//! Sizes just under and just over, and nonsense of every kind: refused cleanly, nothing changed.

use base::caps;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::fixture::{Fixture, HOST, room};

#[tokio::test]
async fn a_request_may_be_as_large_as_the_limit_and_no_larger() {
    let fixture = Fixture::with_rooms(&["a"]).await;
    let body = |bytes: usize| {
        let body =
            json!({"$metadata": {"$model": "dtmi:example:room;1"}, "Comp": {"$metadata": {}}}).to_string();
        format!("{}{}{}", &body[..body.len() - 1], " ".repeat(bytes - body.len()), '}')
    };
    let max = caps::DIGITAL_TWIN_BYTES_MAX;
    fixture.ask("PUT", "/digitaltwins/a").bytes(body(max)).send().await.is(200);
    fixture
        .ask("PUT", "/digitaltwins/a")
        .bytes(body(max + 1))
        .send()
        .await
        .refused(413, "RequestEntityTooLarge");
    let patch = |bytes: usize| format!("[{}]", " ".repeat(bytes - 2));
    fixture.ask("PATCH", "/digitaltwins/a").bytes(patch(max)).send().await.has_no_content();
    fixture
        .ask("PATCH", "/digitaltwins/a")
        .bytes(patch(max + 1))
        .send()
        .await
        .refused(413, "RequestEntityTooLarge");
}

/// A valid model of exactly so many bytes: comments have room for more than a megabyte.
fn model(name: &str, bytes: usize) -> Value {
    let places = 290 * 7;
    let build = |comments: &[usize]| {
        let comment = |place: usize| "x".repeat(comments[place]);
        let value = |n: usize, v: usize| json!({"name": format!("v{v}"), "enumValue": v, "comment": comment(n * 7 + v + 1)});
        let property = |n: usize| {
            let values: Vec<Value> = (0..6).map(|v| value(n, v)).collect();
            json!({"@type": "Property", "name": format!("p{n}"), "comment": comment(n * 7),
                "schema": {"@type": "Enum", "valueSchema": "integer", "enumValues": values}})
        };
        json!({"@id": format!("dtmi:example:{name};1"), "@type": "Interface", "@context": "dtmi:dtdl:context;2",
            "contents": (0..290).map(property).collect::<Vec<_>>()})
    };
    let mut missing = bytes - build(&vec![0; places]).to_string().len();
    let comments: Vec<usize> = (0..places)
        .map(|_| {
            let length = missing.min(512);
            missing -= length;
            length
        })
        .collect();
    assert_eq!(missing, 0);
    build(&comments)
}

#[tokio::test]
async fn a_model_may_be_as_large_as_the_limit_and_no_larger() {
    let fixture = Fixture::with_rooms(&[]).await;
    fixture.ask("POST", "/models").json(&json!([model("max", caps::MODEL_BYTES_MAX)])).send().await.is(201);
    let over = json!([model("over", caps::MODEL_BYTES_MAX + 1)]);
    fixture.ask("POST", "/models").json(&over).send().await.refused(400, "LimitExceeded");
    fixture.ask("GET", "/models/dtmi:example:over;1").send().await.refused(404, "ModelNotFound");
}

/// Megabytes of JSON take their time, which is nobody else's: while no thread is free to read them, others are answered.
#[test]
fn the_models_of_an_upload_are_read_where_no_other_request_waits_for_them() {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(1).max_blocking_threads(1).enable_all().build();
    runtime.unwrap().block_on(async {
        let fixture = Fixture::with_rooms(&["a"]).await;
        let (free, busy) = std::sync::mpsc::sync_channel::<()>(0);
        let thread = tokio::task::spawn_blocking(move || busy.recv());
        let mut upload = std::pin::pin!(fixture.ask("POST", "/models").bytes("[{").send());
        let others = async {
            for _ in 0..20 {
                fixture.ask("GET", "/digitaltwins/a").send().await.is(200);
            }
        };
        tokio::select! {
            biased;
            _ = &mut upload => panic!("the body was read on the way"),
            () = others => {}
        }
        free.send(()).unwrap();
        thread.await.unwrap().unwrap();
        upload.await.refused(400, "InvalidArgument");
    });
}

#[tokio::test]
async fn a_page_of_large_definitions_ends_early_and_nothing_is_lost() {
    let fixture = Fixture::new().await;
    let models: Vec<Value> =
        (0..3).map(|n| model(&format!("m{n}"), caps::MODEL_PAGE_BYTES_MAX / 5)).collect();
    let mut ids = Vec::new();
    for models in [&models[..], &[model("m3", caps::MODEL_BYTES_MAX), model("m4", caps::MODEL_BYTES_MAX)]] {
        fixture.upload(Value::from(models)).await;
        ids.extend(models.iter().map(|model| model["@id"].clone()));
    }
    let mut path = "/models?includeModelDefinition=true&api-version=2023-10-31".to_owned();
    let (mut found, mut pages) = (Vec::new(), 0);
    while !path.is_empty() {
        let page = fixture.ask("GET", &path).send().await.is(200).json();
        found.extend(page["value"].as_array().unwrap().iter().map(|model| model["id"].clone()));
        let next = page["nextLink"].as_str().unwrap_or_default();
        path = next.strip_prefix(&format!("https://{HOST}")).unwrap_or_default().to_owned();
        pages += 1;
    }
    assert_eq!((found, pages), (ids.clone(), 2));
    // Without definitions there is room for all.
    let page = fixture.ask("GET", "/models").send().await.is(200).json();
    assert_eq!(page["value"].as_array().unwrap().len(), ids.len());
}

#[tokio::test]
async fn one_call_takes_so_many_models_and_no_more() {
    let fixture = Fixture::with_rooms(&[]).await;
    let many = |count: usize, prefix: &str| {
        let model = |n: usize| json!({"@id": format!("dtmi:example:{prefix}{n};1"), "@type": "Interface", "@context": "dtmi:dtdl:context;2"});
        json!((0..count).map(model).collect::<Vec<_>>())
    };
    let max = caps::MODELS_PER_CALL_MAX;
    fixture.ask("POST", "/models").json(&many(max, "n")).send().await.is(201);
    fixture.ask("POST", "/models").json(&many(max + 1, "o")).send().await.refused(400, "LimitExceeded");
}

#[tokio::test]
async fn documents_that_nest_too_deep_are_refused_and_not_walked() {
    let fixture = Fixture::with_rooms(&["a"]).await;
    for depth in [90, 120, 10_000] {
        let deep = format!("{}1{}", "{\"x\":".repeat(depth), "}".repeat(depth));
        let body = format!(r#"{{"$metadata":{{"$model":"dtmi:example:room;1"}},"Comp":{{}},"Name":{deep}}}"#);
        for method in ["PUT", "PATCH"] {
            let body = if method == "PUT" {
                body.clone()
            } else {
                format!(r#"[{{"op":"add","path":"/Name","value":{deep}}}]"#)
            };
            let status =
                fixture.ask(method, "/digitaltwins/a").bytes(body).send().await.response.status.as_u16();
            assert!([400, 413].contains(&status), "{method} {depth}: {status}");
        }
        let models = format!("[{}]", room().to_string().replacen("\"double\"", &deep, 1));
        let status = fixture.ask("POST", "/models").bytes(models).send().await.response.status.as_u16();
        assert!([400, 409].contains(&status), "models {depth}: {status}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whatever is sent, the answer is one of the service's refusals and the graph stays.
    #[test]
    fn nonsense_is_never_a_fault_of_the_server(
        bodies in prop::collection::vec(prop_oneof![
            prop::collection::vec(any::<u8>(), 0..80),
            "[\\[\\]{}\",:0-9a-z$/@]{0,60}".prop_map(String::into_bytes),
            "\\[\\{\"op\":\"(add|replace|remove)\",\"path\":\"(/[a-zA-Z$~01-]{0,9}){0,4}\",\"value\":(1|\\{\\}|null|\\[\\])\\}\\]".prop_map(String::into_bytes),
        ], 12),
        id in "[a-zA-Z0-9%$.:;-]{1,12}",
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let fixture = Fixture::with_rooms(&["a"]).await;
            for (method, path) in [
                ("POST", "/models".to_owned()), ("PATCH", "/models/dtmi:example:room;1".to_owned()), ("POST", "/query".to_owned()),
                ("PUT", "/digitaltwins/zz".to_owned()), ("PATCH", "/digitaltwins/a".to_owned()),
                ("PATCH", "/digitaltwins/a/components/Comp".to_owned()), ("PUT", "/digitaltwins/a/relationships/r".to_owned()),
                ("POST", "/digitaltwins/a/telemetry".to_owned()), ("GET", format!("/digitaltwins/{}", id.replace('%', "%25"))),
            ] {
                for body in &bodies {
                    let ask = fixture.ask(method, &path).header("message-id", "m").bytes(body.clone());
                    let status = ask.send().await.response.status.as_u16();
                    assert!(status < 500, "{method} {path} {:?}: {status}", String::from_utf8_lossy(body));
                }
            }
            let twin = fixture.ask("GET", "/digitaltwins/a").send().await.is(200).json();
            assert_eq!(twin["$metadata"]["$model"], "dtmi:example:room;1");
        });
    }
}

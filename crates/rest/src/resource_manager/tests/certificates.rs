//! CA certificates of hubs and provisioning services (`iothub-service.md` §15, `dps.md` §5.4).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use test_certificates::{Certified, authority, leaf};

use super::*;

fn url(rest: &str) -> String {
    let service = "resourceGroups/g/providers/Microsoft.Devices/provisioningServices/ps6256";
    format!("/subscriptions/{RECORDED}/{service}{rest}?api-version=2017-11-15")
}

async fn with_service() -> Arm {
    let arm = Arm::new().await;
    arm.group(RECORDED, "g").await;
    let made =
        arm.put(&url(""), json!({"location": "West US", "sku": {"name": "S1"}, "properties": {}})).await;
    assert_eq!(made.status, 201, "{made:?}");
    arm.settle().await;
    arm
}

/// A hub's certificates are those of a service under another path.
fn hub_url(rest: &str) -> String {
    let hub = "resourceGroups/g/providers/Microsoft.Devices/IotHubs/hub6256";
    format!("/subscriptions/{RECORDED}/{hub}{rest}?api-version=2023-06-30")
}

async fn with_hub() -> Arm {
    let arm = with_service().await;
    let made = arm.put(&hub_url(""), json!({"location": "West US", "sku": {"name": "S1"}})).await;
    assert_eq!(made.status, 201, "{made:?}");
    arm.settle().await;
    arm
}

impl Arm {
    async fn send_if(&self, method: &str, url: &str, if_match: &str, body: &Value) -> Response {
        let bearer = format!("Bearer {}", self.token);
        let headers = [("authorization", bearer.as_str()), ("if-match", if_match)];
        self.ask(method, url, &headers, &body.to_string()).await
    }
}

#[tokio::test]
async fn a_certificate_is_shown_as_recorded() {
    let arm = with_service().await;
    let path = url("/certificates/TestCertificate");
    let made = arm.put(&path, json!({"certificate": STANDARD.encode(certificate("TestCertificate"))})).await;
    assert_eq!(made.status, 200, "{made:?}");
    let shown = made.body_json();
    let properties = &shown["properties"];
    assert_eq!(properties["subject"], "CN=TestCertificate");
    assert_eq!(properties["isVerified"], false);
    assert_eq!(properties["created"], arm.clock.now().rfc1123());
    assert_eq!(properties["updated"], properties["created"]);
    assert!(properties["expiry"].as_str().unwrap().ends_with(" GMT"), "{shown}");
    let thumbprint = properties["thumbprint"].as_str().unwrap();
    assert!(
        thumbprint.len() == 40 && thumbprint.bytes().all(|b| b.is_ascii_digit() || b.is_ascii_uppercase())
    );
    assert_eq!(
        (&shown["name"], &shown["type"]),
        (&json!("TestCertificate"), &json!("Microsoft.Devices/provisioningServices/Certificates"))
    );
    let id = format!("{}/certificates/TestCertificate", url("").split('?').next().unwrap());
    assert_eq!(shown["id"], id);
    assert_eq!(STANDARD.decode(shown["etag"].as_str().unwrap()).unwrap().len(), 8);
    assert_eq!(arm.get(&path).await, (200, shown.clone()));
    assert_eq!(arm.get(&url("/certificates")).await, (200, json!({"value": [shown]})));
    assert_eq!(arm.get(&url("/certificates/testcertificate")).await.0, 200);
    assert_eq!(arm.get(&url("/certificates/other")).await.1["error"]["code"], "ResourceNotFound");
}

#[tokio::test]
async fn a_newer_version_nests_the_members_and_may_say_that_it_is_verified() {
    let arm = with_service().await;
    let path = url("/certificates/ca").replace("2017-11-15", "2022-02-05");
    let made = arm
        .put(
            &path,
            json!({"properties": {"certificate": STANDARD.encode(certificate("ca")), "isVerified": true}}),
        )
        .await;
    assert_eq!((made.status.as_u16(), &made.body_json()["properties"]["isVerified"]), (200, &json!(true)));
    assert!(arm.services.find("ps6256").unwrap().settings().certificates.find("ca").unwrap().is_verified);
}

#[tokio::test]
async fn a_certificate_is_replaced_and_deleted_under_its_etag_alone() {
    let arm = with_service().await;
    let path = url("/certificates/ca");
    let body = json!({"certificate": certificate("ca")});
    let made = arm.put(&path, body.clone()).await.body_json();
    let etag = made["etag"].as_str().unwrap();
    assert_eq!(arm.put(&path, body.clone()).await.status, 412);
    assert_eq!(arm.send_if("PUT", &path, "AAAAAAAbvCY=", &body).await.status, 412);
    assert_eq!(arm.send("DELETE", &path, "").await.status, 412);
    assert_eq!(arm.get(&path).await.1, made);
    arm.clock.advance(Duration::from_mins(1));
    let again = arm.send_if("PUT", &path, etag, &json!({"certificate": certificate("new")})).await;
    assert_eq!((again.status.as_u16(), &again.body_json()["properties"]["subject"]), (200, &json!("CN=new")));
    assert_eq!(again.body_json()["properties"]["created"], made["properties"]["created"]);
    assert_eq!(arm.send_if("DELETE", &path, etag, &Value::Null).await.status, 412);
    let etag = again.body_json()["etag"].as_str().unwrap().to_owned();
    assert_eq!(arm.send_if("DELETE", &path, &etag, &Value::Null).await.status, 200);
    assert_eq!(arm.send_if("DELETE", &path, &etag, &Value::Null).await.status, 204);
    assert_eq!(arm.get(&path).await.0, 404);
}

#[tokio::test]
async fn what_is_no_certificate_or_no_name_is_refused_and_nothing_is_kept() {
    let arm = with_service().await;
    let good = json!({"certificate": certificate("ca")});
    let long = format!("/certificates/{}", "x".repeat(65));
    for (path, body) in [
        ("/certificates/ca", json!({})),
        ("/certificates/ca", json!({"certificate": "nonsense"})),
        ("/certificates/ca", json!({"certificate": 7})),
        ("/certificates/c%20a", good.clone()),
        (long.as_str(), good.clone()),
    ] {
        let refused = arm.put(&url(path), body).await;
        assert_eq!(refused.status, 400, "{path}: {refused:?}");
    }
    assert_eq!(arm.put(&url("/certificates/ca").replace("ps6256", "absent"), good).await.status, 404);
    assert_eq!(arm.get(&url("/certificates")).await.1, json!({"value": []}));
}

#[tokio::test]
async fn a_reader_sees_certificates_and_changes_none_and_nobody_sees_none() {
    let arm = with_hub().await;
    let path = url("/certificates/ca");
    let made = arm.put(&path, json!({"certificate": certificate("ca")})).await.body_json();
    let reader = arm.directory.create_service_principal("reader").await.unwrap();
    grant(&arm.directory, &reader, roles::READER, &format!("/subscriptions/{RECORDED}")).await;
    let bearer = format!("Bearer {}", token(&arm.directory, &reader, "https://management.azure.com").await);
    let body = json!({"certificate": certificate("new")}).to_string();
    for (method, path, status) in [
        ("GET", &path, 200),
        ("GET", &url("/certificates"), 200),
        ("PUT", &path, 403),
        ("DELETE", &path, 403),
        ("POST", &url("/certificates/ca/generateVerificationCode"), 403),
        ("POST", &url("/certificates/ca/verify"), 403),
        ("GET", &hub_url("/certificates"), 200),
        ("PUT", &hub_url("/certificates/ca"), 403),
        ("DELETE", &hub_url("/certificates/ca"), 403),
        ("POST", &hub_url("/certificates/ca/generateVerificationCode"), 403),
        ("POST", &hub_url("/certificates/ca/verify"), 403),
    ] {
        let headers = [("authorization", bearer.as_str()), ("if-match", "*")];
        assert_eq!(arm.ask(method, path, &headers, &body).await.status, status, "{method} {path}");
        assert_eq!(arm.ask(method, path, &[("if-match", "*")], &body).await.status, 401, "{method} {path}");
    }
    assert_eq!(arm.get(&path).await.1, made);
}

#[tokio::test]
async fn an_update_of_the_service_and_a_restart_leave_its_certificates() {
    let arm = with_service().await;
    let path = url("/certificates/ca");
    let made = arm.put(&path, json!({"certificate": certificate("ca")})).await.body_json();
    let body = json!({"location": "West US", "sku": {"name": "S1"}, "tags": {"a": "b"}, "properties": {}});
    assert_eq!(arm.put(&url(""), body).await.status, 201);
    arm.settle().await;
    assert_eq!(arm.get(&path).await.1, made);
    let again = Arm::on(arm.store.clone(), arm.streams.clone(), arm.clock.clone(), Settings::default()).await;
    assert_eq!(again.get(&path).await.1, made);
}

#[tokio::test]
async fn a_certificate_of_a_hub_is_shown_replaced_and_deleted_as_one_of_a_service() {
    let arm = with_hub().await;
    let path = hub_url("/certificates/TestCertificate");
    let body = json!({"properties": {"certificate": STANDARD.encode(certificate("TestCertificate"))}});
    let made = arm.put(&path, body.clone()).await;
    assert_eq!(made.status, 200, "{made:?}");
    let shown = made.body_json();
    assert_eq!(shown["type"], "Microsoft.Devices/IotHubs/Certificates");
    let id = format!("{}/certificates/TestCertificate", hub_url("").split('?').next().unwrap());
    assert_eq!((&shown["id"], &shown["properties"]["isVerified"]), (&json!(id), &json!(false)));
    assert_eq!(arm.get(&path).await, (200, shown.clone()));
    assert_eq!(arm.get(&hub_url("/certificates")).await, (200, json!({"value": [shown]})));
    assert_eq!(arm.get(&url("/certificates")).await.1, json!({"value": []}), "a service has its own");
    assert_eq!(arm.get(&hub_url("/certificates/other")).await.1["error"]["code"], "ResourceNotFound");
    let etag = shown["etag"].as_str().unwrap();
    assert_eq!(arm.put(&path, body.clone()).await.status, 412);
    let verified =
        json!({"properties": {"certificate": STANDARD.encode(certificate("new")), "isVerified": true}});
    let again = arm.send_if("PUT", &path, etag, &verified).await;
    assert_eq!((again.status.as_u16(), &again.body_json()["properties"]["isVerified"]), (200, &json!(true)));
    assert_eq!(arm.send("DELETE", &path, "").await.status, 412);
    let restarted =
        Arm::on(arm.store.clone(), arm.streams.clone(), arm.clock.clone(), Settings::default()).await;
    assert_eq!(restarted.get(&path).await.1, again.body_json());
    assert_eq!(arm.send_if("DELETE", &path, "*", &Value::Null).await.status, 200);
    assert_eq!(arm.send_if("DELETE", &path, "*", &Value::Null).await.status, 204);
}

#[tokio::test]
async fn who_holds_the_key_of_a_certificate_verifies_it_with_a_code() {
    let arm = with_hub().await;
    let (root, impostor) = (Certified::own(authority("root")), Certified::own(authority("root")));
    for url in [url, hub_url] {
        let path = |rest: &str| url(&format!("/certificates/ca{rest}"));
        let made = arm.put(&path(""), json!({"properties": {"certificate": root.pem}})).await.body_json();
        let etag = |shown: &Value| shown["etag"].as_str().unwrap().to_owned();
        let generate = path("/generateVerificationCode");
        assert_eq!(arm.send("POST", &generate, "").await.status, 412, "without its etag");
        let with_code = arm.send_if("POST", &generate, &etag(&made), &Value::Null).await;
        assert_eq!(with_code.status, 200, "{with_code:?}");
        let with_code = with_code.body_json();
        let code = with_code["properties"]["verificationCode"].as_str().unwrap();
        assert_eq!((code.len(), &with_code["properties"]["isVerified"]), (48, &json!(false)));
        assert_ne!(with_code["etag"], made["etag"]);
        assert!(arm.get(&path("")).await.1["properties"].get("verificationCode").is_none());
        let verify = async |proof: &Certified, etag: &str| {
            let body = json!({"certificate": STANDARD.encode(&proof.der)});
            arm.send_if("POST", &path("/verify"), etag, &body).await
        };
        let proof = root.signs(leaf(code));
        assert_eq!(verify(&proof, &etag(&made)).await.status, 412);
        for wrong in [impostor.signs(leaf(code)), root.signs(leaf("dev1"))] {
            let refused = verify(&wrong, &etag(&with_code)).await;
            assert_eq!(
                (refused.status.as_u16(), &refused.body_json()["error"]["code"]),
                (400, &json!("BadRequest"))
            );
        }
        let verified = verify(&proof, &etag(&with_code)).await;
        assert_eq!(verified.status, 200, "{verified:?}");
        assert_eq!(verified.body_json()["properties"]["isVerified"], true);
        assert_eq!(arm.get(&path("")).await.1, verified.body_json());
        assert_eq!(verify(&proof, "*").await.status, 400, "the code is used up");
        let absent = url("/certificates/other/generateVerificationCode");
        assert_eq!(arm.send_if("POST", &absent, "*", &Value::Null).await.status, 404);
    }
}

//! The Entra door against a directory in memory.

use access::directory::ServicePrincipal;
use access::{Directory, audiences};
use base::{Clock, Timestamp};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::*;
use crate::front::{AnyDoor, mount};
use crate::test_wire;
use entrance::Peer;

struct TestEntra {
    door: std::sync::Arc<dyn AnyDoor>,
    directory: Directory,
    clock: Clock,
    principal: ServicePrincipal,
}

impl TestEntra {
    async fn new() -> Self {
        let clock = Clock::manual(Timestamp::from_unix_seconds(1_750_000_000));
        let (store, _) = test_store::open();
        let directory = Directory::open(store, clock.clone(), "localhost", vec![]).await.unwrap();
        let principal = directory.create_service_principal("app").await.unwrap();
        let door = mount(Entra { directory: directory.clone(), clock: clock.clone() });
        Self { door, directory, clock, principal }
    }

    async fn ask(&self, method: &str, path: &str, basic: Option<&str>, body: String) -> (u16, Value) {
        let basic = basic.map(|basic| ("authorization", format!("Basic {}", STANDARD.encode(basic))));
        let response = self.send(method, path, basic.as_slice(), body).await;
        (response.status.as_u16(), response.body_json())
    }

    async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&'static str, String)],
        body: String,
    ) -> Response {
        let mut request =
            http::Request::builder().method(method).uri(path).header("host", "login.localhost:8443");
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        test_wire::answer(&*self.door, request, body, Peer::default()).await
    }

    async fn get(&self, path: &str) -> (u16, Value) {
        self.ask("GET", path, None, String::new()).await
    }

    fn form(&self, rest: &str) -> String {
        let (id, secret) = (&self.principal.app_id, self.principal.secrets[0].secret.expose());
        format!("grant_type=client_credentials&client_id={id}&client_secret={secret}&{rest}")
    }
}

#[tokio::test]
async fn every_url_of_the_configuration_is_at_the_address_that_was_dialled() {
    let test = TestEntra::new().await;
    let tenant = test.directory.tenant_id().to_owned();
    for (path, token_endpoint) in [
        (format!("/{tenant}/v2.0/.well-known/openid-configuration"), format!("/{tenant}/oauth2/v2.0/token")),
        (format!("/{tenant}/.well-known/openid-configuration"), format!("/{tenant}/oauth2/token")),
        ("/common/v2.0/.well-known/openid-configuration".into(), "/common/oauth2/v2.0/token".into()),
        ("/adfs/.well-known/openid-configuration".into(), "/adfs/oauth2/token".into()),
        ("/adfs/v2.0/.well-known/openid-configuration".into(), "/adfs/oauth2/token".into()),
    ] {
        let (status, body) = test.get(&path).await;
        assert_eq!(status, 200, "{path}");
        assert_eq!(body["token_endpoint"], format!("https://login.localhost:8443{token_endpoint}"));
        assert!(
            body["authorization_endpoint"].as_str().unwrap().starts_with("https://login.localhost:8443/")
        );
    }
    let (status, body) = test.get("/nobody/v2.0/.well-known/openid-configuration").await;
    assert_eq!((status, &body["error_codes"][0]), (400, &90002.into()));
    let (_, body) =
        test.get("/common/discovery/instance?api-version=1.1&authorization_endpoint=https://x/t/o").await;
    assert_eq!(body["metadata"][0]["preferred_network"], "login.localhost:8443");
}

#[tokio::test]
async fn a_client_secret_in_the_body_or_the_header_buys_a_token() {
    let test = TestEntra::new().await;
    let body = test.form("scope=https%3A%2F%2Fdigitaltwins.azure.net%2F.default&client_info=1");
    let path = format!("/{}/oauth2/v2.0/token?client-request-id=1", test.directory.tenant_id());
    let (status, answer) = test.ask("POST", &path, None, body).await;
    assert_eq!((status, answer["expires_in"].as_u64()), (200, Some(3599)));
    let token = answer["access_token"].as_str().unwrap();
    assert!(test.directory.authenticate_bearer(token, audiences::DIGITAL_TWINS).await.is_ok());

    let basic = format!("{}:{}", test.principal.app_id, test.principal.secrets[0].secret.expose());
    let body = "grant_type=client_credentials&resource=https%3A%2F%2Fmanagement.azure.com%2F".to_owned();
    let (status, answer) = test.ask("POST", "/common/oauth2/token", Some(&basic), body).await;
    assert_eq!((status, answer["expires_in"].as_str()), (200, Some("3599")), "v1 writes strings");
    assert_eq!(answer["resource"], "https://management.azure.com/");

    let body = test.form("scope=https%3A%2F%2Flocalhost%3A8443%2F%2F.default");
    let (status, answer) = test.ask("POST", "/adfs/oauth2/token", None, body).await;
    assert_eq!((status, answer["expires_in"].as_u64()), (200, Some(3599)), "ADFS writes numbers");
}

#[tokio::test]
async fn each_refusal_has_entras_number() {
    let test = TestEntra::new().await;
    let wrong = |field: &str, value: &str| {
        let form = test.form("scope=https%3A%2F%2Fiothubs.azure.net%2F.default");
        let fields = form.split('&').map(|pair| match pair.split_once('=') {
            Some((name, _)) if name == field => format!("{field}={value}"),
            _ => pair.to_owned(),
        });
        fields.collect::<Vec<_>>().join("&")
    };
    for (body, status, error, number) in [
        (wrong("client_secret", "wrong"), 401, "invalid_client", 7_000_215),
        (wrong("client_secret", ""), 401, "invalid_client", 7_000_216),
        (wrong("client_id", "nobody"), 400, "unauthorized_client", 700_016),
        (wrong("grant_type", "password"), 400, "unsupported_grant_type", 70003),
        (wrong("scope", "User.Read"), 400, "invalid_scope", 1_002_012),
        (wrong("scope", "https://x.example/.default"), 400, "invalid_resource", 500_011),
        (wrong("grant_type", "refresh_token"), 400, "unsupported_grant_type", 70003),
        (wrong("grant_type", ""), 400, "invalid_request", 900_144),
        (wrong("client_id", ""), 400, "invalid_request", 900_144),
        (wrong("scope", ""), 400, "invalid_request", 900_144),
        (wrong("scope", "/.default"), 400, "invalid_scope", 1_002_012),
        (test.form("scope=x/.default&scope=x/.default"), 400, "invalid_request", 9_000_411),
        (test.form("scope=x/.default&client%5Fid=other"), 400, "invalid_request", 9_000_411),
        (assertion(&wrong("client_id", "nobody"), "e30.e30.AA"), 400, "unauthorized_client", 700_016),
        (assertion(&wrong("client_secret", ""), "e30.e30.AA"), 401, "invalid_client", 700_027),
        (assertion(&wrong("client_secret", ""), "e30.e30"), 400, "invalid_request", 50027),
        (test.form("scope=x/.default&client_assertion=e30.e30.AA"), 400, "invalid_request", 900_144),
        ("{\"grant_type\":\"client_credentials\"}".to_owned(), 400, "invalid_request", 900_144),
        ("\u{0}&&=1&%&%zz&+".to_owned(), 400, "invalid_request", 900_144),
        (String::new(), 400, "invalid_request", 900_144),
    ] {
        for path in ["/common/oauth2/v2.0/token", "/adfs/oauth2/token"] {
            let (got, answer) = test.ask("POST", path, None, body.clone()).await;
            assert_eq!((got, answer["error"].as_str()), (status, Some(error)), "{body}: {answer}");
            assert_eq!(answer["error_codes"][0], number, "{body}");
            let description = answer["error_description"].as_str().unwrap();
            assert!(description.starts_with(&format!("AADSTS{number}: ")), "{description}");
            for member in ["timestamp", "trace_id", "correlation_id", "error_uri"] {
                assert!(answer[member].is_string(), "{member}");
            }
        }
    }
}

fn assertion(form: &str, assertion: &str) -> String {
    let kind = "urn%3Aietf%3Aparams%3Aoauth%3Aclient-assertion-type%3Ajwt-bearer";
    format!("{form}&client_assertion_type={kind}&client_assertion={assertion}")
}

#[tokio::test]
async fn every_endpoint_refuses_a_tenant_that_is_not_here() {
    let test = TestEntra::new().await;
    let mut seen = 0;
    for route in test.door.routes().iter().filter(|route| route.template.contains("{tenant}")) {
        for tenant in ["nobody", "11111111-2222-3333-4444-555555555555", "%20", "twinhub.onmicrosoft.com"] {
            let path = route.template.replace("{tenant}", tenant);
            let form = test.form("scope=https%3A%2F%2Fiothubs.azure.net%2F.default");
            let (status, answer) = test.ask(route.method, &path, None, form).await;
            assert_eq!((status, &answer["error_codes"][0]), (400, &90002.into()), "{path}: {answer}");
            seen += 1;
        }
    }
    assert!(seen >= 28, "{seen}");
}

#[tokio::test]
async fn every_endpoint_says_which_method_it_takes() {
    let test = TestEntra::new().await;
    for route in test.door.routes() {
        let path = route.template.replace("{tenant}", "common");
        let other = if route.method == "GET" { "POST" } else { "GET" };
        for method in [other, "DELETE"] {
            let refused = test.send(method, &path, &[], String::new()).await;
            assert_eq!((refused.status.as_u16(), refused.header_value("allow")), (405, Some(route.method)));
            let answer = refused.body_json();
            assert_eq!(answer["error_codes"][0], 900_561, "{path}");
            let said = answer["error_description"].as_str().unwrap();
            assert!(said.contains(&format!("only accepts {} requests", route.method)), "{said}");
        }
    }
}

#[tokio::test]
async fn a_form_has_its_type_and_at_most_sixteen_kilobytes() {
    let test = TestEntra::new().await;
    let form = test.form("scope=https%3A%2F%2Fiothubs.azure.net%2F.default&pad=");
    let padded = |size: usize| format!("{form}{}", "a".repeat(size - form.len()));
    let most = base::caps::UNAUTHENTICATED_BYTES_MAX;
    let path = "/common/oauth2/v2.0/token";
    for (content_type, size, status, number) in [
        ("application/x-www-form-urlencoded", most, 200, None),
        ("Application/X-WWW-Form-Urlencoded; charset=utf-8", most, 200, None),
        ("application/x-www-form-urlencoded", most + 1, 413, Some(90013)),
        ("application/json", most, 400, Some(900_144)),
        ("multipart/form-data; boundary=x", most, 400, Some(900_144)),
        ("", most, 400, Some(900_144)),
    ] {
        let header = ("content-type", content_type.to_owned());
        let answer = test.send("POST", path, &[header], padded(size)).await;
        let body = answer.body_json();
        assert_eq!(
            (answer.status.as_u16(), body["error_codes"][0].as_u64()),
            (status, number),
            "{content_type}"
        );
        assert_eq!(body["access_token"].is_string(), status == 200);
    }
}

#[tokio::test]
async fn who_guesses_secrets_has_to_wait_while_others_are_served() {
    let test = TestEntra::new().await;
    let from = |host: u8| Peer { remote: Some(([10, 0, 0, host], 50_000).into()), ..Peer::default() };
    let right = test.form("scope=https%3A%2F%2Fiothubs.azure.net%2F.default");
    let wrong = right.replace("client_secret=", "client_secret=x");
    let ask = async |host: u8, form: &str| {
        let post = http::Request::post("/common/oauth2/v2.0/token").header("host", "login.localhost");
        test_wire::answer(&*test.door, post, form.to_owned(), from(host)).await
    };
    for _ in 0..base::caps::WRONG_SECRETS_PER_MINUTE_MAX {
        assert_eq!(ask(1, &wrong).await.status, 401);
    }
    for form in [&wrong, &right] {
        let held_up = ask(1, form).await;
        assert_eq!((held_up.status.as_u16(), held_up.header_value("retry-after")), (429, Some("6")));
        assert_eq!(held_up.body_json()["error_codes"][0], 90055);
    }
    assert_eq!(ask(2, &right).await.status, 200);
    test.clock.advance(std::time::Duration::from_secs(6));
    assert_eq!(ask(1, &right).await.status, 200);
}

#[tokio::test]
async fn the_published_key_is_the_one_that_tokens_name() {
    let test = TestEntra::new().await;
    let (_, keys) = test.get("/common/discovery/v2.0/keys").await;
    let key = &keys["keys"][0];
    assert_eq!(key["kid"], test.directory.signing_key().key_id);
    assert_eq!((key["e"].as_str(), key["n"].as_str().unwrap().len()), (Some("AQAB"), 342));
}

#[tokio::test]
async fn who_is_sent_to_sign_in_reads_what_is_missing() {
    let test = TestEntra::new().await;
    for discovery in
        ["/common/v2.0/.well-known/openid-configuration", "/common/.well-known/openid-configuration"]
    {
        let (_, document) = test.get(discovery).await;
        let endpoint = document["authorization_endpoint"].as_str().unwrap();
        let path = endpoint.strip_prefix("https://login.localhost:8443").unwrap();
        let query = "?client_id=x&redirect_uri=https%3A%2F%2Felsewhere.test&state=%3Cscript%3E";
        let answer = test.send("GET", &format!("{path}{query}"), &[], String::new()).await;
        assert_eq!(answer.status, 501);
        assert_eq!(answer.header_value("content-type"), Some("text/html; charset=utf-8"));
        assert_eq!(answer.header_value("location"), None);
        let page = String::from_utf8(answer.body_bytes().to_vec()).unwrap();
        assert!(page.contains("knows no users"), "{page}");
        assert!(
            !page.contains("script") && !page.contains("elsewhere"),
            "nothing of the request is repeated"
        );
    }
    assert_eq!(test.send("GET", "/nobody.test/oauth2/v2.0/authorize", &[], String::new()).await.status, 400);
    let wrong = test.send("POST", "/common/oauth2/v2.0/authorize", &[], String::new()).await;
    assert_eq!((wrong.status.as_u16(), wrong.header_value("allow")), (405, Some("GET")));
}

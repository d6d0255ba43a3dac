//! The Entra door against a directory in memory.

use access::directory::ServicePrincipal;
use access::{Directory, audiences};
use base::{Clock, Timestamp};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use store::{Options, Store};

use super::*;
use crate::front::{AnyDoor, mount};
use crate::test_wire;
use crate::wire::Peer;

struct TestEntra {
    door: std::sync::Arc<dyn AnyDoor>,
    directory: Directory,
    principal: ServicePrincipal,
}

impl TestEntra {
    async fn new() -> Self {
        let clock = Clock::manual(Timestamp::from_unix_seconds(1_750_000_000));
        let store = Store::open(&Options::memory()).unwrap();
        let directory = Directory::open(store, clock.clone(), "localhost", vec![]).await.unwrap();
        let principal = directory.create_service_principal("app").await.unwrap();
        let door = mount(Entra { directory: directory.clone(), clock });
        Self { door, directory, principal }
    }

    async fn ask(&self, method: &str, path: &str, basic: Option<&str>, body: String) -> (u16, Value) {
        let mut request =
            http::Request::builder().method(method).uri(path).header("host", "login.localhost:8443");
        if let Some(basic) = basic {
            request = request.header("authorization", format!("Basic {}", STANDARD.encode(basic)));
        }
        let response = test_wire::answer(&*self.door, request, body, Peer::default()).await;
        (response.status.as_u16(), response.body_json())
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
        (String::new(), 400, "invalid_request", 900_144),
    ] {
        let (got, answer) = test.ask("POST", "/common/oauth2/v2.0/token", None, body.clone()).await;
        assert_eq!((got, answer["error"].as_str()), (status, Some(error)), "{body}: {answer}");
        assert_eq!(answer["error_codes"][0], number);
        assert!(answer["error_description"].as_str().unwrap().starts_with(&format!("AADSTS{number}: ")));
    }
}

#[tokio::test]
async fn the_published_key_is_the_one_that_tokens_name() {
    let test = TestEntra::new().await;
    let (_, keys) = test.get("/common/discovery/v2.0/keys").await;
    let key = &keys["keys"][0];
    assert_eq!(key["kid"], test.directory.signing_key().key_id);
    assert_eq!((key["e"].as_str(), key["n"].as_str().unwrap().len()), (Some("AQAB"), 342));
}

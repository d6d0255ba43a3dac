//! The Graph door against a directory in memory, as `az role assignment` and Terraform ask it.

use std::sync::Arc;

use access::Directory;
use access::directory::{ManagedIdentity, ServicePrincipal};
use base::{Clock, Timestamp, caps};
use serde_json::{Value, json};
use store::{Batch, Store};

use super::*;
use crate::front::{AnyDoor, mount};
use crate::test_wire::{Ask, Told, token};

const STRANGER: &str = "99999999-9999-9999-9999-999999999999";
const IDENTITY: &str = "11111111-1111-1111-1111-111111111111";
const HUB: &str = "/subscriptions/s/resourceGroups/g/providers/Microsoft.Devices/IotHubs/h";

struct World {
    door: Arc<dyn AnyDoor>,
    principal: ServicePrincipal,
    token: String,
    directory: Directory,
    store: Store,
}

struct Answer {
    status: u16,
    body: Value,
}

impl From<Told> for Answer {
    fn from(told: Told) -> Self {
        Self { status: told.response.status.as_u16(), body: told.response.body_json() }
    }
}

impl Answer {
    /// The object ids that a list tells of.
    fn ids(&self) -> Vec<&str> {
        assert_eq!(self.status, 200, "{}", self.body);
        self.body["value"].as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap()).collect()
    }

    fn refused(&self, status: u16, code: &str) {
        assert_eq!((self.status, &self.body["error"]["code"]), (status, &json!(code)), "{}", self.body);
        assert!(self.body["error"]["message"].as_str().is_some_and(|text| !text.is_empty()));
    }
}

impl World {
    async fn new() -> Self {
        let clock = Clock::manual(Timestamp::from_unix_seconds(1_750_000_000));
        let (store, _) = test_store::open();
        let directory = Directory::open(store.clone(), clock.clone(), "localhost", vec![]).await.unwrap();
        let principal = directory.create_service_principal("app").await.unwrap();
        let token = token(&directory, &principal, "https://localhost:8443").await;
        let door = mount(Graph { directory: directory.clone(), clock });
        let world = Self { door, principal, token, directory, store };
        world.enter(IDENTITY, "h").await;
        world
    }

    async fn enter(&self, object_id: &str, display_name: &str) {
        let identity = ManagedIdentity { object_id, app_id: None, display_name, resource_path: HUB };
        let mut batch = Batch::default();
        self.directory.enter_managed_identity(&mut batch, &identity);
        self.store.commit(batch).await.unwrap();
    }

    fn ask(&self, method: &str, path: &str) -> Ask<'_, Answer> {
        Ask::new(&*self.door, method, path.to_owned(), "localhost:8443").bearer(&self.token)
    }

    async fn list(&self, filter: &str) -> Answer {
        let filter = utf8_percent_encode(filter, NON_ALPHANUMERIC);
        self.ask("GET", &format!("/v1.0/servicePrincipals?$filter={filter}")).send().await
    }

    async fn get_by_ids(&self, body: Value) -> Answer {
        self.ask("POST", "/v1.0/directoryObjects/getByIds").json(&body).send().await
    }
}

#[tokio::test]
async fn a_service_principal_is_found_by_what_clients_know_of_it() {
    let world = World::new().await;
    let ServicePrincipal { object_id, app_id, .. } = &world.principal;
    for filter in [
        format!("servicePrincipalNames/any(c:c eq '{app_id}')"),
        format!("appId eq '{app_id}'"),
        format!("appId eq '{}'", app_id.to_uppercase()),
        format!("id eq '{object_id}'"),
        "displayName eq 'app'".to_owned(),
    ] {
        let answer = world.list(&filter).await;
        assert_eq!(answer.ids(), [object_id], "{filter}");
        assert_eq!(answer.body["value"][0]["servicePrincipalNames"], json!([app_id]));
        assert_eq!(answer.body["value"][0]["servicePrincipalType"], "Application");
    }
    assert!(world.list(&format!("servicePrincipalNames/any(c:c eq '{object_id}')")).await.ids().is_empty());
    world.list("startswith(displayName,'a')").await.refused(400, "Request_UnsupportedQuery");
    let one = world.ask("GET", &format!("/v1.0/servicePrincipals/{IDENTITY}")).send().await;
    assert_eq!((one.status, &one.body["servicePrincipalType"]), (200, &json!("ManagedIdentity")));
    assert_eq!(one.body["alternativeNames"], json!([HUB]));
    let gone = world.ask("GET", &format!("/v1.0/servicePrincipals/{STRANGER}")).send().await;
    gone.refused(404, "Request_ResourceNotFound");
}

#[tokio::test]
async fn no_secret_is_told() {
    let world = World::new().await;
    let told = world.list("").await.body.to_string()
        + &world.get_by_ids(json!({"ids": [world.principal.object_id]})).await.body.to_string();
    assert!(told.contains(&world.principal.app_id));
    assert!(!told.contains(world.principal.secrets[0].secret.expose()));
}

#[tokio::test]
async fn objects_are_told_apart_from_ids_that_nobody_has() {
    let world = World::new().await;
    let object_id = &world.principal.object_id;
    let types = json!(["user", "group", "servicePrincipal", "directoryObjectPartnerReference"]);
    let answer = world.get_by_ids(json!({"ids": [object_id, STRANGER, IDENTITY], "types": types})).await;
    assert_eq!(answer.ids(), [object_id, IDENTITY]);
    assert_eq!(answer.body["value"][0]["@odata.type"], "#microsoft.graph.servicePrincipal");
    assert!(world.get_by_ids(json!({"ids": [object_id], "types": ["user"]})).await.ids().is_empty());
    assert!(
        world
            .ask("GET", "/v1.0/users?$filter=userPrincipalName%20eq%20'a@b.c'")
            .send()
            .await
            .ids()
            .is_empty()
    );
    for bad in [json!({}), json!([]), json!({"ids": "x"}), json!({"ids": [7]})] {
        world.get_by_ids(bad).await.refused(400, "BadRequest");
    }
    let ids = |count: usize| json!({"ids": vec![STRANGER; count]});
    assert!(world.get_by_ids(ids(caps::DIRECTORY_OBJECT_IDS_MAX)).await.ids().is_empty());
    world.get_by_ids(ids(caps::DIRECTORY_OBJECT_IDS_MAX + 1)).await.refused(400, "BadRequest");
}

#[tokio::test]
async fn a_list_goes_on_page_by_page() {
    let world = World::new().await;
    for n in 0..caps::RESOURCE_PAGE {
        world.enter(&format!("00000000-0000-0000-0000-{n:012}"), "many").await;
    }
    let first = world.list("").await;
    assert_eq!(first.ids().len(), caps::RESOURCE_PAGE);
    let next =
        first.body["@odata.nextLink"].as_str().unwrap().strip_prefix("https://localhost:8443").unwrap();
    let second = world.ask("GET", next).send().await;
    assert_eq!(second.ids().len(), 2);
    assert!(second.body.get("@odata.nextLink").is_none());
    assert!(first.ids().iter().all(|id| !second.ids().contains(id)));
}

#[tokio::test]
async fn without_a_token_for_graph_nothing_is_told() {
    let world = World::new().await;
    let hub_token = token(&world.directory, &world.principal, "https://iothubs.azure.net").await;
    for authorization in [None, Some("Bearer x".to_owned()), Some(format!("Bearer {hub_token}"))] {
        for (method, path) in [
            ("GET", "/v1.0/servicePrincipals"),
            ("GET", "/v1.0/servicePrincipals/x"),
            ("GET", "/v1.0/users"),
            ("POST", "/v1.0/directoryObjects/getByIds"),
        ] {
            let asked = world.ask(method, path).authorization(authorization.as_deref());
            asked.send().await.refused(401, "InvalidAuthenticationToken");
        }
    }
    world.ask("DELETE", "/v1.0/users").send().await.refused(405, "Request_BadRequest");
}

//! The directory against a store in memory.

use base::{Clock, Scope, Timestamp};
use store::{Options, Store};

use super::*;
use crate::token::audiences;

const BASE: &str = "https://localhost:8443";

struct TestDirectory {
    directory: Directory,
    clock: Clock,
    principal: ServicePrincipal,
}

impl TestDirectory {
    async fn new() -> Self {
        let clock = Clock::manual(Timestamp::from_unix_seconds(1_750_000_000));
        let store = Store::open(&Options::memory()).unwrap();
        let directory =
            Directory::open(store, clock.clone(), "localhost", vec!["10.1.2.3".into()]).await.unwrap();
        let principal = directory.create_service_principal("app").await.unwrap();
        Self { directory, clock, principal }
    }

    async fn ask(&self, secret: &str, resource: &str) -> Result<IssuedToken, GrantError> {
        let client_id = &self.principal.app_id;
        let request = ClientCredentials { client_id, client_secret: secret, resource, base_url: BASE };
        self.directory.issue(&request).await
    }

    async fn token(&self, resource: &str) -> String {
        let secret = self.principal.secrets[0].secret.clone();
        self.ask(secret.expose(), resource).await.unwrap().access_token
    }

    fn assignment(&self, id: &str, scope: &str, role: &str) -> NewRoleAssignment {
        NewRoleAssignment {
            id: id.into(),
            scope_path: scope.into(),
            role_definition_id: format!(
                "/subscriptions/s/providers/Microsoft.Authorization/roleDefinitions/{role}"
            ),
            principal_id: self.principal.object_id.clone(),
            principal_type: None,
            description: None,
        }
    }
}

#[tokio::test]
async fn a_token_names_its_principal_and_is_accepted_by_the_service_it_is_for_alone() {
    let test = TestDirectory::new().await;
    let token = test.token("https://digitaltwins.azure.net").await;
    let caller = test.directory.authenticate_bearer(&token, audiences::DIGITAL_TWINS).await.unwrap();
    assert_eq!(caller.object_id(), test.principal.object_id);
    let refused = test.directory.authenticate_bearer(&token, audiences::HUB).await;
    assert!(matches!(refused, Err(TokenError::Audience { .. })));
}

#[tokio::test]
async fn our_own_address_is_resource_managers_audience() {
    let test = TestDirectory::new().await;
    for resource in
        ["https://localhost:8443", "https://127.0.0.1:8443/", "https://10.1.2.3", "https://a.localhost"]
    {
        let token = test.token(resource).await;
        assert!(
            test.directory.authenticate_bearer(&token, audiences::RESOURCE_MANAGER).await.is_ok(),
            "{resource}"
        );
        assert!(test.directory.authenticate_bearer(&token, audiences::HUB).await.is_err());
    }
}

#[tokio::test]
async fn a_token_lives_an_hour_and_five_minutes_of_grace() {
    let test = TestDirectory::new().await;
    let token = test.token("https://iothubs.azure.net").await;
    test.clock.advance(Duration::from_secs(3599 + 300));
    assert!(test.directory.authenticate_bearer(&token, audiences::HUB).await.is_ok());
    test.clock.advance(Duration::from_secs(1));
    let refused = test.directory.authenticate_bearer(&token, audiences::HUB).await;
    assert!(matches!(refused, Err(TokenError::Expired { .. })));
}

#[tokio::test]
async fn a_token_of_another_tenant_or_with_a_changed_claim_is_refused() {
    let (test, other) = (TestDirectory::new().await, TestDirectory::new().await);
    let token = other.token("https://iothubs.azure.net").await;
    let refused = test.directory.authenticate_bearer(&token, audiences::HUB).await;
    assert!(matches!(refused, Err(TokenError::Signature)));
    let own = test.token("https://iothubs.azure.net").await;
    let parts: Vec<&str> = own.split('.').collect();
    let theirs: Vec<&str> = token.split('.').collect();
    let forged = format!("{}.{}.{}", parts[0], theirs[1], parts[2]);
    let refused = test.directory.authenticate_bearer(&forged, audiences::HUB).await;
    assert!(matches!(refused, Err(TokenError::Signature)));
    for nonsense in ["", ".", "..", "a.b.c", "eyJhbGciOiJub25lIn0.e30."] {
        let refused = test.directory.authenticate_bearer(nonsense, audiences::HUB).await;
        assert!(matches!(refused, Err(TokenError::Malformed)), "{nonsense}");
    }
}

#[tokio::test]
async fn a_token_is_looked_at_up_to_its_greatest_length() {
    let (test, other) = (TestDirectory::new().await, TestDirectory::new().await);
    let theirs = other.token("https://iothubs.azure.net").await;
    let ask = async |bytes: usize| {
        let padded = format!("{theirs}{}", "x".repeat(bytes - theirs.len()));
        test.directory.authenticate_bearer(&padded, audiences::HUB).await
    };
    assert!(matches!(ask(caps::BEARER_TOKEN_BYTES_MAX).await, Err(TokenError::Signature)));
    assert!(matches!(ask(caps::BEARER_TOKEN_BYTES_MAX + 1).await, Err(TokenError::Malformed)));
}

#[tokio::test]
async fn a_wrong_secret_an_unknown_application_and_an_unknown_resource_are_told_apart() {
    let test = TestDirectory::new().await;
    let wrong = test.ask("wrong", "https://iothubs.azure.net").await;
    assert!(matches!(wrong, Err(GrantError::InvalidSecret { .. })));
    let secret = test.principal.secrets[0].secret.clone();
    let unknown = test.ask(secret.expose(), "https://nobody.example").await;
    assert!(matches!(unknown, Err(GrantError::UnknownResource { .. })));
    let request = ClientCredentials { client_id: "x", client_secret: "y", resource: "z", base_url: BASE };
    assert!(matches!(test.directory.issue(&request).await, Err(GrantError::UnknownApplication { .. })));
}

#[tokio::test]
async fn a_role_takes_effect_at_once_and_ends_with_its_assignment() {
    let test = TestDirectory::new().await;
    let scope = Scope::new("/subscriptions/s/resourceGroups/g/providers/Microsoft.DigitalTwins/x/t");
    let token = test.token("https://digitaltwins.azure.net").await;
    let caller = test.directory.authenticate_bearer(&token, audiences::DIGITAL_TWINS).await.unwrap();
    assert!(caller.require(Permission::DigitalTwinQuery, &scope).is_err());

    let new = test.assignment(
        "11111111-0000-0000-0000-000000000000",
        scope.as_str(),
        roles::DIGITAL_TWINS_DATA_READER,
    );
    test.directory.put_role_assignment(&Caller::system(), new.clone()).await.unwrap();
    let caller = test.directory.authenticate_bearer(&token, audiences::DIGITAL_TWINS).await.unwrap();
    assert!(caller.require(Permission::DigitalTwinQuery, &scope).is_ok());
    assert!(caller.require(Permission::ModelWrite, &scope).is_err());

    let removed = test.directory.remove_role_assignment(&Caller::system(), &scope, &new.id).await.unwrap();
    assert_eq!(removed.unwrap().id, new.id);
    let caller = test.directory.authenticate_bearer(&token, audiences::DIGITAL_TWINS).await.unwrap();
    assert!(caller.require(Permission::DigitalTwinQuery, &scope).is_err());
}

#[tokio::test]
async fn the_same_role_for_the_same_principal_at_the_same_scope_exists_once() {
    let test = TestDirectory::new().await;
    let system = Caller::system();
    let first = test.assignment("11111111-0000-0000-0000-000000000000", "/subscriptions/S", roles::OWNER);
    let second = test.assignment("22222222-0000-0000-0000-000000000000", "/subscriptions/s", roles::OWNER);
    let made = test.directory.put_role_assignment(&system, first.clone()).await.unwrap();
    assert_eq!(test.directory.put_role_assignment(&system, first).await.unwrap(), made, "safe to repeat");
    let refused = test.directory.put_role_assignment(&system, second).await;
    assert!(matches!(refused, Err(Error::RoleAssignmentExists { id }) if id == made.id));
    let unknown = test.assignment("33333333-0000-0000-0000-000000000000", "/subscriptions/s", "nonsense");
    let refused = test.directory.put_role_assignment(&system, unknown).await;
    assert!(matches!(refused, Err(Error::RoleDefinitionDoesNotExist { .. })));
}

#[tokio::test]
async fn an_owner_may_assign_roles_and_a_contributor_may_not() {
    let test = TestDirectory::new().await;
    let scope = Scope::new("/subscriptions/s");
    for (role, allowed) in [(roles::OWNER, true), (roles::CONTRIBUTOR, false)] {
        let new = test.assignment(&new_id(), "/subscriptions/s", role);
        let made = test.directory.put_role_assignment(&Caller::system(), new).await.unwrap();
        let caller = test.directory.caller(&test.principal.object_id).await.unwrap();
        let wish = test.assignment(&new_id(), "/subscriptions/s", roles::READER);
        let answer = test.directory.put_role_assignment(&caller, wish).await;
        assert_eq!(answer.is_ok(), allowed, "{role}: {answer:?}");
        test.directory.remove_role_assignment(&Caller::system(), &scope, &made.id).await.unwrap();
    }
}

#[test]
fn a_scope_names_its_resource_in_every_way_that_clients_write_it() {
    for (scope, resource) in [
        ("https://management.azure.com//.default", Some("https://management.azure.com/")),
        ("https://localhost:8443/.default offline_access", Some("https://localhost:8443")),
        ("openid https://digitaltwins.azure.net/.default", Some("https://digitaltwins.azure.net")),
        ("0b07f429-9f4b-4714-9392-cc5e8e80c8b0/.default", Some("0b07f429-9f4b-4714-9392-cc5e8e80c8b0")),
        ("https://iothubs.azure.net", Some("https://iothubs.azure.net")),
        ("openid profile", None),
        ("", None),
    ] {
        assert_eq!(token::resource_of_scope(scope), resource, "{scope}");
    }
}

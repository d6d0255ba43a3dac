//! The directory against a store in memory.

use base::{Clock, Scope, Timestamp};
use store::{Store, retry_on_conflict};

use super::*;
use crate::roles;
use crate::token::audiences;

const BASE: &str = "https://localhost:8443";

struct TestDirectory {
    directory: Directory,
    store: Store,
    clock: Clock,
    principal: ServicePrincipal,
}

impl TestDirectory {
    async fn new() -> Self {
        let clock = Clock::manual(Timestamp::from_unix_seconds(1_750_000_000));
        let (store, _) = test_store::open();
        let directory = open(&store, &clock).await;
        let principal = directory.create_service_principal("app").await.unwrap();
        Self { directory, store, clock, principal }
    }

    /// Another server of the same tenant.
    async fn other_node(&self) -> Directory {
        open(&self.store, &self.clock).await
    }

    async fn ask(&self, secret: &str, resource: &str) -> Result<IssuedToken, GrantError> {
        let client_id = &self.principal.app_id;
        let request =
            ClientCredentials { client_id, client_secret: secret, resource, base_url: BASE, from: None };
        self.directory.issue(&request).await
    }

    async fn token(&self, resource: &str) -> String {
        let secret = self.principal.secrets[0].secret.clone();
        self.ask(secret.expose(), resource).await.unwrap().access_token.expose().to_owned()
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

async fn open(store: &Store, clock: &Clock) -> Directory {
    Directory::open(store.clone(), clock.clone(), "localhost", vec!["10.1.2.3".into()]).await.unwrap()
}

#[tokio::test]
async fn a_signing_key_that_lay_in_the_tenants_record_goes_into_the_vault_and_tokens_stay_good() {
    let test = TestDirectory::new().await;
    let token = test.token("https://iothubs.azure.net").await;
    let vault = crate::secrets::Vault::open(test.store.clone(), None).await.unwrap();
    for _ in 0..2 {
        let context = Context {
            store: test.store.clone(),
            clock: test.clock.clone(),
            domain: "localhost".to_owned(),
            own_hosts: Vec::new(),
            vault: Some(vault.clone()),
        };
        let directory = Directory::with(context).await.unwrap();
        assert_eq!(directory.tenant_id(), test.directory.tenant_id());
        assert!(directory.authenticate_bearer(&token, audiences::HUB).await.is_ok());
        let tenant = test.store.get::<record::TenantRecord>(&record::TenantRecord::key()).await.unwrap();
        assert!(tenant.unwrap().record.signing_key.is_none(), "it is in one place");
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
async fn a_token_that_was_verified_is_known_again_until_roles_change_and_still_asked_whom_it_is_for() {
    let test = TestDirectory::new().await;
    let token = test.token("https://iothubs.azure.net").await;
    for _ in 0..2 {
        assert!(test.directory.authenticate_bearer(&token, audiences::HUB).await.is_ok());
        let refused = test.directory.authenticate_bearer(&token, audiences::DIGITAL_TWINS).await;
        assert!(matches!(refused, Err(TokenError::Audience { .. })));
        assert_eq!(test.directory.0.verified.len(), 1);
    }
    let assignment =
        test.assignment("11111111-1111-1111-1111-111111111111", "/subscriptions/s", roles::OWNER);
    test.directory.put_role_assignment(&Caller::system(), assignment).await.unwrap();
    assert_eq!(test.directory.0.verified.len(), 0);
    assert!(test.directory.authenticate_bearer(&token, audiences::HUB).await.is_ok());
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
    let request =
        ClientCredentials { client_id: "x", client_secret: "y", resource: "z", base_url: BASE, from: None };
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
    assert!(matches!(refused, Err(RoleError::RoleAssignmentExists { id }) if id == made.id));
    let unknown = test.assignment("33333333-0000-0000-0000-000000000000", "/subscriptions/s", "nonsense");
    let refused = test.directory.put_role_assignment(&system, unknown).await;
    assert!(matches!(refused, Err(RoleError::RoleDefinitionDoesNotExist { .. })));
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
        match test.directory.put_role_assignment(&caller, wish.clone()).await {
            Ok(_) => assert!(allowed, "{role}"),
            Err(RoleError::Denied(denied)) => {
                assert!(!allowed, "{role}");
                assert_eq!(denied.action, "Microsoft.Authorization/roleAssignments/write");
            }
            Err(error) => panic!("{role}: {error}"),
        }
        test.directory.remove_role_assignment(&Caller::system(), &scope, &made.id).await.unwrap();
        test.directory.remove_role_assignment(&Caller::system(), &scope, &wish.id).await.unwrap();
    }
}

#[tokio::test]
async fn who_may_not_remove_an_assignment_leaves_it_there() {
    let test = TestDirectory::new().await;
    let scope = Scope::new("/subscriptions/s");
    let new = test.assignment(&new_id(), "/subscriptions/s", roles::CONTRIBUTOR);
    let made = test.directory.put_role_assignment(&Caller::system(), new).await.unwrap();
    let caller = test.directory.caller(&test.principal.object_id).await.unwrap();
    let refused = test.directory.remove_role_assignment(&caller, &scope, &made.id).await;
    assert!(matches!(refused, Err(RoleError::Denied(_))), "{refused:?}");
    assert_eq!(test.directory.get_role_assignment(&caller, &scope, &made.id).await.unwrap(), made);
}

#[tokio::test]
async fn what_another_node_takes_away_is_gone_after_a_few_seconds() {
    let test = TestDirectory::new().await;
    let (scope, other) = (Scope::new("/subscriptions/s"), test.other_node().await);
    let read = Permission::Management("Microsoft.Resources/subscriptions/read");
    let new = test.assignment(&new_id(), "/subscriptions/s", roles::READER);
    let made = test.directory.put_role_assignment(&Caller::system(), new).await.unwrap();
    let may = async || {
        let caller = test.directory.caller(&test.principal.object_id).await.unwrap();
        caller.require(read, &scope).is_ok()
    };
    assert!(may().await);
    other.remove_role_assignment(&Caller::system(), &scope, &made.id).await.unwrap();
    test.clock.advance(Duration::from_secs(caps::GRANTS_CACHED_SECONDS - 1));
    assert!(may().await, "read once in a while, not for every request");
    test.clock.advance(Duration::from_secs(1));
    assert!(!may().await);
}

#[tokio::test]
async fn a_principal_that_nobody_knows_needs_its_type_said() {
    let test = TestDirectory::new().await;
    let (system, stranger) = (Caller::system(), new_id());
    let wish = |principal_type: Option<&str>| NewRoleAssignment {
        principal_id: stranger.clone(),
        principal_type: principal_type.map(str::to_owned),
        ..test.assignment(&new_id(), "/subscriptions/s", roles::EVENT_HUBS_DATA_SENDER)
    };
    let refused = test.directory.put_role_assignment(&system, wish(None)).await;
    assert!(matches!(refused, Err(RoleError::PrincipalNotFound { .. })), "{refused:?}");
    let refused = test.directory.put_role_assignment(&system, wish(Some("Robot"))).await;
    assert!(matches!(refused, Err(RoleError::BadRequestFormat)), "{refused:?}");
    let scope = Scope::new("/subscriptions/s");
    let may_send = async || test.directory.allows(&stranger, Permission::EventHubSend, &scope).await.unwrap();
    assert!(!may_send().await);
    test.directory.put_role_assignment(&system, wish(Some("ServicePrincipal"))).await.unwrap();
    assert!(may_send().await);
    assert!(!test.directory.allows(&stranger, Permission::EventHubReceive, &scope).await.unwrap());
    assert!(matches!(test.directory.caller(&stranger).await, Err(TokenError::UnknownPrincipal { .. })));

    let known = NewRoleAssignment {
        principal_type: Some("User".into()),
        ..test.assignment(&new_id(), "/subscriptions/s", roles::READER)
    };
    let refused = test.directory.put_role_assignment(&system, known).await;
    assert!(matches!(refused, Err(RoleError::UnmatchedPrincipalType { .. })), "{refused:?}");
}

#[tokio::test]
async fn ids_that_are_no_guids_are_refused() {
    let test = TestDirectory::new().await;
    let wish = |id: &str| test.assignment(id, "/subscriptions/s", roles::READER);
    for id in ["", "a", "11111111000000000000000000000000", "{11111111-0000-0000-0000-000000000000}"] {
        let refused = test.directory.put_role_assignment(&Caller::system(), wish(id)).await;
        assert!(matches!(refused, Err(RoleError::InvalidRoleAssignmentId { .. })), "{id}: {refused:?}");
        let wish = NewRoleAssignment { principal_id: id.into(), ..wish(&new_id()) };
        let refused = test.directory.put_role_assignment(&Caller::system(), wish).await;
        assert!(matches!(refused, Err(RoleError::InvalidPrincipalId)), "{id}: {refused:?}");
    }
}

/// How often a race is run that only some runs lose.
const ROUNDS: usize = 30;

#[expect(clippy::disallowed_methods, reason = "requests of a test, which it waits for")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guid_names_one_assignment_in_the_whole_tenant_whoever_comes_first() {
    let test = Arc::new(TestDirectory::new().await);
    for _ in 0..ROUNDS {
        let id = new_id();
        let put = |scope: &'static str| {
            let (test, new) = (test.clone(), test.assignment(&id, scope, roles::READER));
            tokio::spawn(async move { test.directory.put_role_assignment(&Caller::system(), new).await })
        };
        let (a, b) = (put("/subscriptions/a"), put("/subscriptions/b"));
        let (a, b) = (a.await.unwrap(), b.await.unwrap());
        assert!(a.is_ok() != b.is_ok(), "{a:?} {b:?}");
        let refused = if a.is_ok() { b } else { a };
        assert!(matches!(refused, Err(RoleError::RoleAssignmentUpdateNotPermitted)), "{refused:?}");
        let held = test.directory.role_assignments_of(&test.principal.object_id).await.unwrap();
        assert_eq!(held.len(), 1);
        test.directory.remove_role_assignments_of(&test.principal.object_id).await.unwrap();
    }
}

#[expect(clippy::disallowed_methods, reason = "requests of a test, which it waits for")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_puts_of_the_same_assignment_at_the_same_time_make_one() {
    let test = Arc::new(TestDirectory::new().await);
    for _ in 0..ROUNDS {
        let put = |id: &str| {
            let (test, new) = (test.clone(), test.assignment(id, "/subscriptions/s", roles::READER));
            tokio::spawn(async move {
                let (directory, system) = (&test.directory, Caller::system());
                let put = async || directory.try_put_role_assignment(&system, &new, Batch::default()).await;
                retry_on_conflict(put).await
            })
        };
        let id = new_id();
        let (one, two) = (put(&id), put(&id));
        let (one, two) = (one.await.unwrap().unwrap(), two.await.unwrap().unwrap());
        assert_eq!(one.assignment, two.assignment);
        assert!(one.is_new != two.is_new);
        for refused in [put(&new_id()), put(&new_id())] {
            let refused = refused.await.unwrap();
            let names_it =
                matches!(&refused, Err(RoleError::RoleAssignmentExists { id: held }) if *held == id);
            assert!(names_it, "{refused:?}");
        }
        test.directory.remove_role_assignments_of(&test.principal.object_id).await.unwrap();
    }
}

#[tokio::test]
async fn what_is_said_of_an_assignment_may_change_and_who_holds_what_where_may_not() {
    let test = TestDirectory::new().await;
    let (system, id) = (Caller::system(), new_id());
    let new = test.assignment(&id, "/subscriptions/s", roles::READER);
    let made = test.directory.put_role_assignment(&system, new.clone()).await.unwrap();
    test.clock.advance(Duration::from_secs(1));
    let described = NewRoleAssignment { description: Some("why".into()), ..new.clone() };
    let described = test.directory.put_role_assignment(&system, described).await.unwrap();
    assert_eq!(described.description.as_deref(), Some("why"));
    assert!(described.updated_on > made.updated_on && described.created_on == made.created_on);
    for other in [
        NewRoleAssignment { scope_path: "/subscriptions/t".into(), ..new.clone() },
        NewRoleAssignment { role_definition_id: roles::OWNER.into(), ..new.clone() },
        NewRoleAssignment { principal_id: new_id(), principal_type: Some("User".into()), ..new.clone() },
    ] {
        let refused = test.directory.put_role_assignment(&system, other).await;
        assert!(matches!(refused, Err(RoleError::RoleAssignmentUpdateNotPermitted)), "{refused:?}");
    }
    let held = test.directory.list_role_assignments(&system, &Scope::root()).await.unwrap();
    assert_eq!(held, [described]);
}

#[tokio::test]
async fn a_managed_identity_is_a_principal_for_as_long_as_it_is_in_the_directory() {
    let test = TestDirectory::new().await;
    let (system, object_id) = (Caller::system(), new_id());
    let identity = ManagedIdentity {
        object_id: &object_id,
        app_id: None,
        display_name: "app",
        resource_path: "/subscriptions/s/resourceGroups/g/providers/Microsoft.Devices/IotHubs/app",
    };
    let mut batch = Batch::default();
    test.directory.enter_managed_identity(&mut batch, &identity);
    test.store.commit(batch).await.unwrap();
    let found = test.directory.ensure_service_principal("app").await.unwrap();
    assert_eq!(found.object_id, test.principal.object_id, "nobody logs in as a resource of the same name");
    let entered = test.directory.service_principal(&object_id).await.unwrap().unwrap();
    let credentials = ClientCredentials {
        client_id: &entered.app_id,
        client_secret: "",
        resource: "https://iothubs.azure.net",
        base_url: BASE,
        from: None,
    };
    let refused = test.directory.issue(&credentials).await;
    assert!(matches!(refused, Err(GrantError::InvalidSecret { .. })), "{refused:?}");

    let new = NewRoleAssignment {
        principal_id: object_id.clone(),
        ..test.assignment(&new_id(), "/subscriptions/s", roles::EVENT_HUBS_DATA_SENDER)
    };
    test.directory.put_role_assignment(&system, new.clone()).await.unwrap();
    let scope = Scope::new("/subscriptions/s/resourceGroups/g/providers/Microsoft.EventHub/namespaces/n");
    assert!(test.directory.allows(&object_id, Permission::EventHubSend, &scope).await.unwrap());

    assert!(test.directory.caller(&object_id).await.is_ok());
    test.directory.remove_managed_identity(&object_id).await.unwrap();
    assert!(test.directory.caller(&object_id).await.is_err());
    assert!(!test.directory.allows(&object_id, Permission::EventHubSend, &scope).await.unwrap());
    let refused = test.directory.put_role_assignment(&system, new).await;
    assert!(matches!(refused, Err(RoleError::PrincipalNotFound { .. })), "{refused:?}");
}

#[tokio::test]
async fn the_first_application_is_found_among_any_number_of_principals() {
    let test = TestDirectory::new().await;
    let mut batch = Batch::default();
    for n in 0..=caps::RESOURCE_PAGE {
        // Ids that sort before every other.
        let object_id = format!("00000000-0000-0000-0000-{n:012}");
        let (display_name, resource_path) = ("other", "/subscriptions/s");
        let identity = ManagedIdentity { object_id: &object_id, app_id: None, display_name, resource_path };
        test.directory.enter_managed_identity(&mut batch, &identity);
    }
    test.store.commit(batch).await.unwrap();
    let found = test.directory.ensure_service_principal("app").await.unwrap();
    assert_eq!(found.object_id, test.principal.object_id);
}

#[tokio::test]
async fn the_number_of_assignments_is_bounded_and_what_is_removed_makes_room() {
    let test = TestDirectory::new().await;
    let system = Caller::system();
    let put = async |n: usize| {
        let scope = format!("/subscriptions/{n}");
        let new = test.assignment(&format!("00000000-0000-0000-0000-{n:012}"), &scope, roles::READER);
        test.directory.put_role_assignment(&system, new).await
    };
    for n in 0..caps::ROLE_ASSIGNMENTS_MAX {
        put(n).await.unwrap();
    }
    let refused = put(caps::ROLE_ASSIGNMENTS_MAX).await;
    assert!(matches!(refused, Err(RoleError::RoleAssignmentLimitExceeded)), "{refused:?}");
    test.directory.forget_scope(&Scope::new("/subscriptions/7")).await.unwrap();
    put(caps::ROLE_ASSIGNMENTS_MAX).await.unwrap();
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

#[tokio::test]
async fn an_application_is_ensured_as_its_operator_wants_it() {
    let test = TestDirectory::new().await;
    let wanted = |app_id: Option<&str>, secret: Option<&str>| Application {
        display_name: "dashboard".into(),
        app_id: app_id.map(str::to_owned),
        secret: secret.map(Secret::new),
    };
    let ensure = async |app_id, secret| test.directory.ensure_application(&wanted(app_id, secret)).await;
    let made = ensure(Some("AAAA"), Some("first")).await.unwrap();
    assert!(made.is_new);
    assert_eq!(made.principal.app_id, "aaaa");
    let again = ensure(Some("aaaa"), Some("first")).await.unwrap();
    assert!(!again.is_new && !again.is_changed);
    assert_eq!(again.principal.secrets[0].key_id, made.principal.secrets[0].key_id);
    let left_open = ensure(None, None).await.unwrap();
    assert!(!left_open.is_changed);
    let other = ensure(None, Some("second")).await.unwrap();
    assert!(other.is_changed);
    assert_eq!(other.principal.secrets.iter().map(|one| one.secret.expose()).collect::<Vec<_>>(), ["second"]);
    let refused = ensure(Some("bbbb"), None).await.unwrap_err();
    assert!(matches!(refused, ApplicationError::OtherClientId { .. }));
    let taken = Application { display_name: "another".into(), ..wanted(Some("aaaa"), None) };
    let refused = test.directory.ensure_application(&taken).await.unwrap_err();
    assert!(matches!(refused, ApplicationError::ClientIdTaken(_)));
}

//! Role definitions and role assignments as `az role` and Terraform ask for them, and how long an assignment lives.

use super::*;
use crate::digital_twins::DigitalTwins;

const VERSION: &str = "2022-04-01";
const STRANGER: &str = "99999999-9999-9999-9999-999999999999";

fn subscription() -> String {
    format!("/subscriptions/{RECORDED}")
}

fn group() -> String {
    format!("{}/resourceGroups/g", subscription())
}

fn twins() -> String {
    format!("{}/providers/Microsoft.DigitalTwins/digitalTwinsInstances/twins-1", group())
}

fn assignment(scope: &str, id: &str) -> String {
    format!("{scope}/providers/Microsoft.Authorization/roleAssignments/{id}?api-version={VERSION}")
}

fn assignments(scope: &str, filter: &str) -> String {
    format!("{scope}/providers/Microsoft.Authorization/roleAssignments?{filter}api-version={VERSION}")
}

fn definition(role: &str) -> String {
    format!("{}/providers/Microsoft.Authorization/roleDefinitions/{role}", subscription())
}

fn wish(role: &str, principal_id: &str, principal_type: Option<&str>) -> Value {
    let mut properties = json!({"roleDefinitionId": definition(role), "principalId": principal_id});
    if let Some(principal_type) = principal_type {
        properties["principalType"] = principal_type.into();
    }
    json!({"properties": properties})
}

fn new_id() -> String {
    uuid::Uuid::new_v4().to_string()
}

impl Arm {
    /// A server with a group and, in it, a Digital Twins instance that has an identity.
    async fn with_twins() -> Self {
        let arm = Self::new().await;
        arm.group(RECORDED, "g").await;
        arm.put_twins(json!({"location": "eastus", "identity": {"type": "SystemAssigned"}})).await;
        arm
    }

    async fn put_twins(&self, body: Value) -> Value {
        let url = twins_url(RECORDED, "g", "twins-1", "");
        let answer = self.put(&url, body).await;
        assert!(answer.status.is_success(), "{answer:?}");
        self.settle().await;
        self.get(&url).await.1
    }

    async fn assign(&self, scope: &str, body: &Value) -> (u16, Value) {
        let answer = self.put(&assignment(scope, &new_id()), body.clone()).await;
        (answer.status.as_u16(), answer.body_json())
    }

    /// Who holds a role at exactly this scope.
    async fn holders(&self, scope: &str) -> Vec<String> {
        let (status, body) = self.get(&assignments(scope, "$filter=atScope()&")).await;
        assert_eq!(status, 200, "{body}");
        let all = body["value"].as_array().unwrap().clone();
        let here = all.iter().filter(|one| one["properties"]["scope"] == scope);
        here.map(|one| one["properties"]["principalId"].as_str().unwrap().to_owned()).collect()
    }

    async fn refused(&self, scope: &str, body: &Value, status: u16, code: &str) {
        let (got, answer) = self.assign(scope, body).await;
        assert_eq!((got, &answer["error"]["code"]), (status, &json!(code)), "{scope} {body} {answer}");
    }
}

#[tokio::test]
async fn az_finds_a_role_by_its_name_and_by_its_guid() {
    let arm = Arm::with_twins().await;
    for scope in [String::new(), subscription(), group(), twins()] {
        let list = format!("{scope}/providers/Microsoft.Authorization/roleDefinitions");
        let url = format!(
            "{list}?$filter=roleName%20eq%20'Azure%20Digital%20Twins%20Data%20Owner'&api-version=2022-05-01-preview"
        );
        let (status, body) = arm.get(&url).await;
        assert_eq!((status, body["value"].as_array().unwrap().len()), (200, 1), "{scope} {body}");
        let role = &body["value"][0];
        assert_eq!(role["name"], roles::DIGITAL_TWINS_DATA_OWNER);
        let prefix = if scope.is_empty() { String::new() } else { subscription() };
        let id = format!(
            "{prefix}/providers/Microsoft.Authorization/roleDefinitions/{}",
            roles::DIGITAL_TWINS_DATA_OWNER
        );
        assert_eq!(role["id"], json!(id), "az compares it with what assignments say");
        assert_eq!(role["properties"]["permissions"][0]["dataActions"].as_array().unwrap().len(), 7);
        let (status, one) =
            arm.get(&format!("{list}/{}?api-version={VERSION}", roles::DIGITAL_TWINS_DATA_OWNER)).await;
        assert_eq!((status, &one), (200, role));
        let (_, all) =
            arm.get(&format!("{list}?$filter=type%20eq%20'BuiltInRole'&api-version={VERSION}")).await;
        assert_eq!(all["value"].as_array().unwrap().len(), roles::ALL.len());
        let (_, none) =
            arm.get(&format!("{list}?$filter=type%20eq%20'CustomRole'&api-version={VERSION}")).await;
        assert_eq!(none["value"], json!([]));
        let (status, unknown) = arm.get(&format!("{list}/{STRANGER}?api-version={VERSION}")).await;
        assert_eq!((status, &unknown["error"]["code"]), (404, &json!("RoleDefinitionDoesNotExist")));
        let (status, bad) =
            arm.get(&format!("{list}?$filter=colour%20eq%20'red'&api-version={VERSION}")).await;
        assert_eq!((status, &bad["error"]["code"]), (400, &json!("InvalidFilterInQueryString")));
    }
}

#[tokio::test]
async fn a_role_is_given_shown_and_taken_at_every_kind_of_scope() {
    let arm = Arm::with_twins().await;
    let namespace = format!("{}/providers/Microsoft.EventHub/namespaces/events", group());
    let hub = format!("{namespace}/eventhubs/one");
    for made in [&namespace, &hub] {
        let answer = arm.put(&format!("{made}?api-version=2024-01-01"), json!({"location": "eastus"})).await;
        assert!(answer.status.is_success(), "{answer:?}");
        arm.settle().await;
    }
    for scope in [subscription(), group(), twins(), namespace, hub] {
        let id = new_id();
        let url = assignment(&scope, &id);
        let body = wish(roles::READER, STRANGER, Some("ServicePrincipal"));
        let made = arm.put(&url, body.clone()).await;
        assert_eq!(made.status, 201, "{scope} {made:?}");
        let made = made.body_json();
        let path = format!("{scope}/providers/Microsoft.Authorization/roleAssignments/{id}");
        let of_it = |name: &str| made["properties"][name].clone();
        assert_eq!((&made["id"], &made["name"]), (&json!(path), &json!(id)));
        assert_eq!(made["type"], "Microsoft.Authorization/roleAssignments");
        assert_eq!(of_it("scope"), json!(scope));
        assert_eq!(of_it("roleDefinitionId"), json!(definition(roles::READER)));
        assert_eq!(
            (of_it("principalId"), of_it("principalType")),
            (json!(STRANGER), json!("ServicePrincipal"))
        );
        assert_eq!(of_it("createdBy"), json!(arm.owner.object_id));
        assert_eq!(arm.get(&url).await, (200, made.clone()));
        assert_eq!(arm.put(&url, body).await.status, 200, "the same again");
        assert_eq!(arm.holders(&scope).await.iter().filter(|id| *id == STRANGER).count(), 1);
        let removed = arm.delete(&url.to_uppercase().replace("API-VERSION", "api-version")).await;
        assert_eq!((removed.status.as_u16(), removed.body_json()), (200, made), "in any case of letters");
        assert_eq!(arm.delete(&url).await.status, 204);
        let (status, gone) = arm.get(&url).await;
        assert_eq!((status, &gone["error"]["code"]), (404, &json!("RoleAssignmentNotFound")));
    }
}

#[tokio::test]
async fn lists_show_what_their_filters_name() {
    let arm = Arm::with_twins().await;
    for (scope, role) in [(subscription(), roles::READER), (group(), roles::READER), (twins(), roles::OWNER)]
    {
        let (status, body) = arm.assign(&scope, &wish(role, STRANGER, Some("User"))).await;
        assert_eq!(status, 201, "{body}");
    }
    let count = async |scope: &str, filter: &str| {
        let (status, body) = arm.get(&assignments(scope, filter)).await;
        assert_eq!(status, 200, "{body}");
        body["value"].as_array().unwrap().len()
    };
    // The owner's own role is at the subscription.
    for (filter, at_subscription, at_group, at_twins) in [
        ("", 4, 4, 4),
        ("$filter=atScope()&", 2, 3, 4),
        ("$filter=principalId%20eq%20'99999999-9999-9999-9999-999999999999'&", 3, 3, 3),
        ("$filter=assignedTo('99999999-9999-9999-9999-999999999999')&", 3, 3, 3),
        ("$filter=atScope()+and+assignedTo('99999999-9999-9999-9999-999999999999')&", 1, 2, 3),
        ("$filter=principalId%20eq%20'11111111-9999-9999-9999-999999999999'&", 0, 0, 0),
    ] {
        assert_eq!(count(&subscription(), filter).await, at_subscription, "{filter}");
        assert_eq!(count(&group(), filter).await, at_group, "{filter}");
        assert_eq!(count(&twins(), filter).await, at_twins, "{filter}");
    }
    let (status, body) = arm.get(&assignments(&group(), "$filter=asTarget()&")).await;
    assert_eq!((status, &body["error"]["code"]), (400, &json!("InvalidFilterInQueryString")));
}

#[tokio::test]
async fn each_way_to_ask_wrongly_has_its_own_answer() {
    let arm = Arm::with_twins().await;
    let scope = twins();
    let known = arm.owner.object_id.clone();
    let right = wish(roles::READER, &known, None);
    assert_eq!(arm.assign(&scope, &right).await.0, 201);
    arm.refused(&scope, &right, 409, "RoleAssignmentExists").await;
    arm.refused(&scope, &wish(roles::READER, STRANGER, None), 400, "PrincipalNotFound").await;
    arm.refused(&scope, &wish(roles::OWNER, &known, Some("Group")), 400, "UnmatchedPrincipalType").await;
    arm.refused(&scope, &wish(roles::OWNER, STRANGER, Some("Robot")), 400, "BadRequestFormat").await;
    arm.refused(&scope, &wish(STRANGER, &known, None), 400, "RoleDefinitionDoesNotExist").await;
    arm.refused(&scope, &wish(roles::OWNER, "me", None), 400, "InvalidPrincipalId").await;
    let mut conditional = wish(roles::OWNER, &known, None);
    conditional["properties"]["condition"] = "@Resource[x] StringEquals 'y'".into();
    arm.refused(&scope, &conditional, 400, "BadRequest").await;
    let named = arm.put(&assignment(&scope, "mine"), wish(roles::OWNER, &known, None)).await;
    assert_eq!(
        (named.status.as_u16(), &named.body_json()["error"]["code"]),
        (400, &json!("InvalidRoleAssignmentId"))
    );
    let missing = format!("{}x", twins());
    arm.refused(&missing, &right, 404, "ResourceNotFound").await;
    let foreign = format!("{}/providers/Microsoft.Web/sites/x", group());
    arm.refused(&foreign, &right, 404, "ResourceNotFound").await;
    arm.refused("/providers/Microsoft.Management/managementGroups/m", &right, 404, "InvalidScope").await;
    arm.refused("", &right, 403, "AuthorizationFailed").await;
    assert_eq!(arm.holders(&scope).await, [known]);
}

#[tokio::test]
async fn terraform_makes_reads_changes_and_destroys_a_role_assignment() {
    let arm = Arm::with_twins().await;
    // azurerm_role_assignment with role_definition_name and skip_service_principal_aad_check = true, as its provider sends it.
    let filter = "%24filter=roleName+eq+%27Azure+Digital+Twins+Data+Owner%27&";
    let list = format!(
        "{}/providers/Microsoft.Authorization/roleDefinitions?{filter}api-version=2022-05-01-preview",
        twins()
    );
    let (status, found) = arm.get(&list).await;
    assert_eq!((status, found["value"].as_array().unwrap().len()), (200, 1));
    let role = found["value"][0]["id"].as_str().unwrap().to_owned();
    let id = new_id();
    let url = assignment(&twins(), &id);
    assert_eq!(arm.get(&url).await.0, 404, "it looks for one that is there already");
    let mut sent = json!({"description": "", "principalId": STRANGER, "principalType": "ServicePrincipal", "roleDefinitionId": role});
    let made = arm.put(&url, json!({"properties": sent})).await;
    assert_eq!(made.status, 201, "{made:?}");
    let (status, read) = arm.get(&url).await;
    assert_eq!((status, &read), (200, &made.body_json()));
    assert_eq!(
        read["properties"]["scope"],
        json!(twins()),
        "a scope that reads otherwise would be made anew"
    );
    let (status, read_role) = arm
        .get(&format!(
            "{}?api-version=2022-05-01-preview",
            read["properties"]["roleDefinitionId"].as_str().unwrap()
        ))
        .await;
    assert_eq!(
        (status, &read_role["properties"]["roleName"]),
        (200, &json!("Azure Digital Twins Data Owner"))
    );
    // An update sends everything back that was read.
    sent = read["properties"].clone();
    sent["description"] = "why".into();
    let changed = arm.put(&url, json!({"properties": sent})).await;
    assert_eq!(changed.status, 200, "{changed:?}");
    assert_eq!(arm.get(&url).await.1["properties"]["description"], "why");
    assert_eq!(arm.delete(&url).await.status, 200);
    assert_eq!(arm.get(&url).await.0, 404);
}

#[tokio::test]
async fn a_role_goes_with_the_resource_that_it_was_given_at() {
    let arm = Arm::with_twins().await;
    let identity = format!("{}/providers/Microsoft.ManagedIdentity/userAssignedIdentities/user-1", group());
    let body = json!({"location": "eastus"});
    let user = || format!("{identity}?api-version=2023-01-31");
    assert_eq!(arm.put(&user(), body.clone()).await.status, 201);
    let right = wish(roles::OWNER, STRANGER, Some("User"));
    for (scope, url) in [(twins(), twins_url(RECORDED, "g", "twins-1", "")), (identity.clone(), user())] {
        assert_eq!(arm.assign(&scope, &right).await.0, 201, "{scope}");
        assert_eq!(arm.holders(&scope).await, [STRANGER], "{scope}");
        assert!(arm.delete(&url).await.status.is_success());
        arm.settle().await;
        assert!(arm.put(&url, body.clone()).await.status.is_success());
        arm.settle().await;
        assert!(arm.holders(&scope).await.is_empty(), "{scope}: the next of the same name inherits nothing");
    }
    for scope in [group(), twins(), identity] {
        assert_eq!(arm.assign(&scope, &right).await.0, 201, "{scope}");
    }
    let group_url = format!("{}?api-version=2024-11-01", group());
    assert_eq!(arm.delete(&group_url).await.status, 202);
    arm.refused(&group(), &wish(roles::READER, STRANGER, Some("User")), 409, "ResourceGroupBeingDeleted")
        .await;
    arm.settle().await;
    arm.group(RECORDED, "g").await;
    assert!(arm.holders(&group()).await.is_empty());
    let all =
        arm.directory.list_role_assignments(&access::Caller::system(), &base::Scope::root()).await.unwrap();
    assert!(all.iter().all(|one| one.principal_id != STRANGER), "{all:?}");
}

#[tokio::test]
async fn nothing_is_given_at_a_resource_that_is_going() {
    let arm = Arm::with_twins().await;
    assert_eq!(arm.delete(&twins_url(RECORDED, "g", "twins-1", "")).await.status, 202);
    arm.refused(&twins(), &wish(roles::OWNER, STRANGER, Some("User")), 409, "Conflict").await;
    arm.settle().await;
    arm.refused(&twins(), &wish(roles::OWNER, STRANGER, Some("User")), 404, "ResourceNotFound").await;
}

#[tokio::test]
async fn a_managed_identity_is_a_principal_until_its_resource_gives_it_up() {
    let arm = Arm::with_twins().await;
    let url = twins_url(RECORDED, "g", "twins-1", "");
    let identity_of = |resource: &Value| resource["identity"]["principalId"].as_str().unwrap().to_owned();
    let first = identity_of(&arm.get(&url).await.1);
    let sender = |principal: &str| wish(roles::EVENT_HUBS_DATA_SENDER, principal, None);
    assert_eq!(arm.assign(&group(), &sender(&first)).await.0, 201);
    let same = identity_of(
        &arm.put_twins(json!({"location": "eastus", "identity": {"type": "SystemAssigned"}})).await,
    );
    assert_eq!((&same, arm.holders(&group()).await), (&first, vec![first.clone()]));

    arm.put_twins(json!({"location": "eastus"})).await;
    assert!(arm.holders(&group()).await.is_empty(), "what it was given goes with it");
    arm.refused(&group(), &sender(&first), 400, "PrincipalNotFound").await;

    let second = identity_of(
        &arm.put_twins(json!({"location": "eastus", "identity": {"type": "SystemAssigned"}})).await,
    );
    assert_ne!(second, first);
    assert_eq!(arm.assign(&group(), &sender(&second)).await.0, 201);
    let user = format!(
        "{}/providers/Microsoft.ManagedIdentity/userAssignedIdentities/user-1?api-version=2023-01-31",
        group()
    );
    let third = arm.put(&user, json!({"location": "eastus"})).await.body_json();
    let third = third["properties"]["principalId"].as_str().unwrap().to_owned();
    assert_eq!(arm.assign(&group(), &sender(&third)).await.0, 201);
    assert_eq!(arm.put(&user, json!({"location": "eastus", "tags": {"a": "b"}})).await.status, 200);
    assert!(arm.holders(&group()).await.contains(&third));

    assert_eq!(arm.delete(&user).await.status, 200);
    assert_eq!(arm.holders(&group()).await, std::slice::from_ref(&second));
    assert_eq!(arm.delete(&url).await.status, 202);
    arm.settle().await;
    assert!(arm.holders(&group()).await.is_empty());
    for gone in [&second, &third] {
        assert!(arm.directory.service_principal(gone).await.unwrap().is_none());
    }
}

#[tokio::test]
async fn whoever_owns_the_subscription_gives_himself_the_data_of_a_new_instance() {
    let arm = Arm::with_twins().await;
    let (instances, directory) = (arm.instances.clone(), arm.directory.clone());
    let door = mount(DigitalTwins { instances, directory, hosts: arm.manager.hosts().clone() });
    let host = "twins-1.api.eus.digitaltwins.azure.net";
    let bearer = token(&arm.directory, &arm.owner, "https://digitaltwins.azure.net").await;
    let ask = async || {
        let request = http::Request::builder()
            .method("GET")
            .uri("/models?api-version=2023-10-31")
            .header("host", host)
            .header("authorization", format!("Bearer {bearer}"));
        let answer = test_wire::answer(&*door, request, String::new(), Peer::default()).await;
        (answer.status.as_u16(), answer.body_json())
    };
    let (status, body) = ask().await;
    assert_eq!((status, &body["error"]["code"]), (403, &json!("AuthorizationFailed")), "{body}");
    let id = new_id();
    let url = assignment(&twins(), &id);
    let body = wish(roles::DIGITAL_TWINS_DATA_OWNER, &arm.owner.object_id, None);
    assert_eq!(arm.put(&url, body).await.status, 201);
    assert_eq!(ask().await.0, 200);
    assert_eq!(arm.delete(&url).await.status, 200);
    assert_eq!(ask().await.0, 403);
}

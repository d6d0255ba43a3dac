//! What Update-AzDigitalTwinsInstance sends in each of its parameter sets, as arm-and-auth.md §3.1 tables it.

use super::*;

const GROUP: &str = "azps_test_group";
const NAME: &str = "azps-dt";
const API: &str = "2022-05-31";

/// The bound parameters of one invocation.
#[derive(Clone, Default)]
struct Parameters {
    tag: Option<Value>,
    enable_system_assigned_identity: Option<bool>,
    public_network_access: Option<&'static str>,
    private_endpoint_connection: Option<Value>,
    no_wait: bool,
}

/// `-ResourceGroupName -ResourceName`, or `-InputObject` with the id of an object from the pipeline, in whatever case.
enum Named {
    ByName,
    ByObject(String),
}

impl Named {
    fn url(&self) -> String {
        match self {
            Self::ByName => format!(
                "/subscriptions/{RECORDED}/resourceGroups/{GROUP}/providers/Microsoft.DigitalTwins/digitalTwinsInstances/{NAME}?api-version={API}"
            ),
            Self::ByObject(id) => format!("{id}?api-version={API}"),
        }
    }
}

/// The cmdlet: GET, merge, PUT of the writable members, poll, GET. Gives back what it prints.
async fn update(arm: &Arm, named: &Named, parameters: &Parameters) -> Value {
    let url = named.url();
    let (status, fetched) = arm.get(&url).await;
    assert_eq!(status, 200, "{fetched}");
    let had_system = fetched["identity"]["type"].as_str().is_some_and(|kind| kind.contains("SystemAssigned"));
    let identity = if parameters.enable_system_assigned_identity.unwrap_or(had_system) {
        "SystemAssigned"
    } else {
        "None"
    };
    let properties = &fetched["properties"];
    let mut body = json!({
        "identity": {"type": identity},
        "location": fetched["location"],
        "properties": {
            "publicNetworkAccess": parameters.public_network_access.map_or(properties["publicNetworkAccess"].clone(), Value::from)
        }
    });
    let connections = parameters
        .private_endpoint_connection
        .clone()
        .or_else(|| properties.get("privateEndpointConnections").cloned());
    if let Some(connections) = connections {
        body["properties"]["privateEndpointConnections"] = connections;
    }
    let tags = parameters.tag.clone().unwrap_or_else(|| fetched["tags"].clone());
    if !tags.is_null() {
        body["tags"] = tags;
    }
    let accepted = arm.put(&url, body).await;
    assert_eq!(accepted.status, 201, "{accepted:?}");
    let poll = accepted.header_value("azure-asyncoperation").unwrap().to_owned();
    assert_eq!(accepted.body_json()["properties"]["provisioningState"], "Updating");
    if parameters.no_wait {
        return json!({"Target": poll});
    }
    let (_, status) = arm.get(&poll).await;
    assert_eq!(status["status"], "Running");
    arm.settle().await;
    let (_, status) = arm.get(&poll).await;
    assert_eq!(status["status"], "Succeeded", "{status}");
    let (_, updated) = arm.get(&url).await;
    assert_eq!(updated["properties"]["provisioningState"], "Succeeded");
    updated
}

async fn with_instance(body: Value) -> Arm {
    let arm = Arm::new().await;
    arm.group(RECORDED, GROUP).await;
    let created = arm.put(&Named::ByName.url(), body).await;
    assert_eq!(created.status, 201, "{created:?}");
    arm.settle().await;
    arm
}

#[tokio::test]
async fn a_tag_replaces_all_tags_and_nothing_else_changes() {
    let arm = with_instance(
        json!({"location": "eastus", "identity": {"type": "SystemAssigned"}, "tags": {"old": "1"}}),
    )
    .await;
    let (_, before) = arm.get(&Named::ByName.url()).await;
    let tag = Parameters { tag: Some(json!({"abc": "123"})), ..Parameters::default() };
    let after = update(&arm, &Named::ByName, &tag).await;
    assert_eq!(after["tags"], json!({"abc": "123"}));
    for member in ["identity", "location", "id", "name"] {
        assert_eq!(after[member], before[member], "{member}");
    }
    for member in ["createdTime", "hostName", "publicNetworkAccess", "privateEndpointConnections"] {
        assert_eq!(after["properties"][member], before["properties"][member], "{member}");
    }
    assert_ne!(after["properties"]["lastUpdatedTime"], before["properties"]["lastUpdatedTime"]);
    assert_eq!(after["systemData"]["createdAt"], before["systemData"]["createdAt"]);
    assert_ne!(after["systemData"]["lastModifiedAt"], before["systemData"]["lastModifiedAt"]);
}

#[tokio::test]
async fn an_object_from_the_pipeline_names_the_instance_in_any_case() {
    let arm = with_instance(json!({"location": "eastus"})).await;
    let (_, object) = arm.get(&Named::ByName.url()).await;
    let id = object["id"].as_str().unwrap();
    for (at, id) in [id.to_owned(), id.to_lowercase(), id.to_uppercase()].into_iter().enumerate() {
        let parameters = Parameters { tag: Some(json!({"n": at.to_string()})), ..Parameters::default() };
        let after = update(&arm, &Named::ByObject(id), &parameters).await;
        assert_eq!(after["tags"]["n"], at.to_string());
        assert_eq!(after["id"], object["id"], "the id keeps the case of its creation");
    }
}

#[tokio::test]
async fn the_system_assigned_identity_goes_on_stays_and_goes_off() {
    let arm = with_instance(json!({"location": "eastus"})).await;
    let (_, before) = arm.get(&Named::ByName.url()).await;
    assert!(before.get("identity").is_none(), "{before}");
    let on = Parameters { enable_system_assigned_identity: Some(true), ..Parameters::default() };
    let first = update(&arm, &Named::ByName, &on).await["identity"].clone();
    assert_eq!(first["type"], "SystemAssigned");
    uuid::Uuid::parse_str(first["principalId"].as_str().unwrap()).unwrap();
    assert_eq!(first["tenantId"], arm.directory.tenant_id());
    let kept =
        update(&arm, &Named::ByName, &Parameters { tag: Some(json!({})), ..Parameters::default() }).await;
    assert_eq!(kept["identity"], first, "not given: the identity is kept");
    assert_eq!(update(&arm, &Named::ByName, &on).await["identity"], first);
    let off = Parameters { enable_system_assigned_identity: Some(false), ..Parameters::default() };
    assert!(update(&arm, &Named::ByName, &off).await.get("identity").is_none());
    let again = update(&arm, &Named::ByName, &on).await["identity"].clone();
    assert_ne!(again["principalId"], first["principalId"], "a new identity is another one");
}

#[tokio::test]
async fn the_identities_of_users_fall_to_the_cmdlet_that_does_not_know_them() {
    let arm = Arm::new().await;
    arm.group(RECORDED, GROUP).await;
    let user = format!(
        "/subscriptions/{RECORDED}/resourceGroups/{GROUP}/providers/Microsoft.ManagedIdentity/userAssignedIdentities/user"
    );
    let body = json!({"location": "eastus", "identity": {"type": "SystemAssigned,UserAssigned", "userAssignedIdentities": {user: {}}}});
    assert_eq!(arm.put(&Named::ByName.url(), body).await.status, 201);
    arm.settle().await;
    let tag = Parameters { tag: Some(json!({"a": "b"})), ..Parameters::default() };
    let after = update(&arm, &Named::ByName, &tag).await;
    assert_eq!(after["identity"]["type"], "SystemAssigned");
    assert!(after["identity"].get("userAssignedIdentities").is_none());
}

#[tokio::test]
async fn public_network_access_is_set_and_kept() {
    let arm = with_instance(json!({"location": "eastus"})).await;
    let closed = Parameters { public_network_access: Some("Disabled"), ..Parameters::default() };
    let after = update(&arm, &Named::ByName, &closed).await;
    assert_eq!(after["properties"]["publicNetworkAccess"], "Disabled");
    let after = update(&arm, &Named::ByName, &Parameters::default()).await;
    assert_eq!(after["properties"]["publicNetworkAccess"], "Disabled", "not given: it is kept");
    let open = Parameters { public_network_access: Some("Enabled"), ..Parameters::default() };
    assert_eq!(update(&arm, &Named::ByName, &open).await["properties"]["publicNetworkAccess"], "Enabled");
}

#[tokio::test]
async fn private_endpoint_connections_are_stored_shown_and_kept() {
    let arm = with_instance(json!({"location": "eastus"})).await;
    let connection = json!({"properties": {
        "groupIds": ["API"],
        "privateLinkServiceConnectionState": {"status": "Approved", "description": "fine", "actionsRequired": "None"}
    }});
    let with = Parameters { private_endpoint_connection: Some(json!([connection])), ..Parameters::default() };
    let after = update(&arm, &Named::ByName, &with).await;
    let shown = &after["properties"]["privateEndpointConnections"];
    assert_eq!(shown.as_array().unwrap().len(), 1);
    assert_same(&connection, &shown[0], Like::AtLeast, "connection");
    let later =
        update(&arm, &Named::ByName, &Parameters { tag: Some(json!({"t": "1"})), ..Parameters::default() })
            .await;
    let kept = &later["properties"]["privateEndpointConnections"];
    assert_eq!(kept[0]["id"], shown[0]["id"]);
    assert_eq!(kept[0]["properties"], shown[0]["properties"]);
    assert_eq!(
        kept[0]["systemData"], shown[0]["systemData"],
        "what is sent back as it was has not been written"
    );
    let mut closed = kept.clone();
    closed[0]["properties"]["privateLinkServiceConnectionState"]["status"] = json!("Rejected");
    let with = Parameters { private_endpoint_connection: Some(closed), ..Parameters::default() };
    arm.clock.advance(std::time::Duration::from_secs(60));
    let changed = &update(&arm, &Named::ByName, &with).await["properties"]["privateEndpointConnections"][0];
    assert_eq!(changed["systemData"]["createdAt"], kept[0]["systemData"]["createdAt"]);
    assert_ne!(changed["systemData"]["lastModifiedAt"], kept[0]["systemData"]["lastModifiedAt"]);
    let without = Parameters { private_endpoint_connection: Some(json!([])), ..Parameters::default() };
    assert_eq!(
        update(&arm, &Named::ByName, &without).await["properties"]["privateEndpointConnections"],
        json!([])
    );
}

#[tokio::test]
async fn without_waiting_the_target_is_where_to_poll() {
    let arm = with_instance(json!({"location": "eastus"})).await;
    let parameters = Parameters { tag: Some(json!({"a": "1"})), no_wait: true, ..Parameters::default() };
    let printed = update(&arm, &Named::ByName, &parameters).await;
    let target = printed["Target"].as_str().unwrap();
    let (_, now) = arm.get(&Named::ByName.url()).await;
    assert_eq!(now["properties"]["provisioningState"], "Updating");
    assert_eq!(now["tags"], Value::Null);
    assert!(now["properties"].get("privateEndpointConnections").is_none());
    assert!(now["properties"]["hostName"].is_string());
    let again = Parameters { tag: Some(json!({"b": "2"})), no_wait: true, ..Parameters::default() };
    update(&arm, &Named::ByName, &again).await;
    arm.settle().await;
    assert_eq!(arm.get(target).await.1["status"], "Succeeded");
    let (_, now) = arm.get(&Named::ByName.url()).await;
    assert_eq!(now["tags"], json!({"b": "2"}), "the later of two updates wins");
    assert_eq!(now["properties"]["provisioningState"], "Succeeded");
}

#[tokio::test]
async fn the_published_spelling_and_the_location_can_be_polled_too() {
    let arm = with_instance(json!({"location": "eastus"})).await;
    let accepted = arm.put(&Named::ByName.url(), json!({"location": "eastus", "tags": {"x": "y"}})).await;
    let status = accepted
        .header_value("azure-asyncoperation")
        .unwrap()
        .replace("operationsStatuses", "operationStatuses");
    let location = accepted.header_value("location").unwrap().to_owned();
    assert_eq!(arm.get(&status).await.1["status"], "Running");
    let pending = arm.send("GET", &location, "").await;
    assert_eq!((pending.status.as_u16(), pending.body_bytes().len()), (202, 0));
    assert_eq!(pending.header_value("location"), Some(location.as_str()));
    arm.settle().await;
    let (status, body) = arm.get(&location).await;
    assert_eq!((status, &body["tags"]), (200, &json!({"x": "y"})));
}

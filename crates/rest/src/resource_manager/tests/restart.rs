//! What outlives a request outlives the server too; and a server that finishes everything at once.

use super::*;

#[tokio::test]
async fn operations_that_a_stop_cut_off_are_finished_by_the_next_start() {
    let arm = Arm::new().await;
    arm.group(RECORDED, "g").await;
    arm.group(RECORDED, "gone").await;
    arm.put(&twins_url(RECORDED, "gone", "old", ""), json!({"location": "eastus"})).await;
    arm.settle().await;
    let created = arm.put(&twins_url(RECORDED, "g", "new", ""), json!({"location": "eastus"})).await;
    let poll = created.header_value("azure-asyncoperation").unwrap().to_owned();
    arm.delete(&format!("/subscriptions/{RECORDED}/resourcegroups/gone?api-version=2024-11-01")).await;
    let Arm { store, streams, clock, .. } = arm;

    let arm = Arm::on(store, streams, clock, Settings::default()).await;
    assert_eq!(arm.get(&poll).await.1["status"], "Running");
    assert!(arm.instances.find("new").is_none() && arm.instances.find("old").is_some());
    arm.settle().await;
    assert_eq!(arm.get(&poll).await.1["status"], "Succeeded");
    assert!(arm.instances.find("new").is_some() && arm.instances.find("old").is_none());
    assert_eq!(
        arm.get(&twins_url(RECORDED, "gone", "old", "")).await.1["error"]["code"],
        "ResourceGroupNotFound"
    );
    arm.settle().await;
    assert_eq!(arm.get(&poll).await.1["status"], "Succeeded", "to look again does no harm");
    arm.clock.advance(Duration::from_secs(base::caps::OPERATION_KEPT_SECONDS + 1));
    arm.manager.reconcile().await;
    let token = token(&arm.directory, &arm.owner, "https://management.azure.com").await;
    let bearer = format!("Bearer {token}");
    assert_eq!(
        arm.ask("GET", &poll, &[("authorization", &bearer)], "").await.status,
        404,
        "ended operations are forgotten in time"
    );
}

#[tokio::test]
async fn a_synchronous_server_leaves_nothing_to_poll() {
    let arm = Arm::with(Settings { is_synchronous: true, ..Settings::default() }).await;
    arm.group(RECORDED, "g").await;
    let url = twins_url(RECORDED, "g", "twins", "");
    for (method, body, status) in [
        ("PUT", json!({"location": "eastus"}), 201),
        ("PUT", json!({"location": "eastus", "tags": {"a": "b"}}), 201),
        ("PATCH", json!({"tags": {"c": "d"}}), 200),
    ] {
        let answer = arm.send(method, &url, &body.to_string()).await;
        assert_eq!(answer.status.as_u16(), status);
        assert!(
            answer.header_value("azure-asyncoperation").is_none()
                && answer.header_value("location").is_none()
        );
        let shown = answer.body_json();
        assert_eq!(shown["properties"]["provisioningState"], "Succeeded");
        assert_eq!(shown["tags"], body.get("tags").cloned().unwrap_or_default());
    }
    assert_eq!(arm.delete(&url).await.status, 204);
    assert_eq!(arm.get(&url).await.0, 404);
    let group = format!("/subscriptions/{RECORDED}/resourcegroups/g?api-version=2024-11-01");
    assert_eq!(arm.delete(&group).await.status, 200);
    assert_eq!(arm.get(&group).await.0, 404);
}

#[tokio::test]
async fn the_loop_finishes_operations_when_their_time_comes() {
    let arm = Arm::new().await;
    arm.manager.start();
    arm.group(RECORDED, "g").await;
    let created = arm.put(&twins_url(RECORDED, "g", "twins", ""), json!({"location": "eastus"})).await;
    let poll = created.header_value("azure-asyncoperation").unwrap().to_owned();
    assert_eq!(arm.get(&poll).await.1["status"], "Running");
    arm.clock.advance(Duration::from_secs(1));
    for _ in 0..1000 {
        if arm.get(&poll).await.1["status"] == "Succeeded" {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("the loop did not finish the operation");
}

#[tokio::test]
async fn the_defaults_are_made_once_and_stay_deleted() {
    let arm = Arm::new().await;
    let defaults =
        resource_manager::Defaults::new("11111111-2222-3333-4444-555555555555", arm.directory.tenant_id());
    let made = arm.manager.ensure_defaults(&defaults).await.unwrap();
    assert_eq!(arm.services.find("dps").unwrap().settings().linked_hubs.len(), 1);
    assert!(arm.hubs.find("hub").is_some() && arm.instances.find("twins").is_some());
    assert!(arm.manager.resource(&access::Caller::system(), &made.storage_account).await.is_ok());
    assert_eq!(arm.manager.hosts().default_instance(base::hosts::Service::Hub).as_deref(), Some("hub"));
    let caller = access::Caller::system();
    arm.manager.delete_resource(&caller, &made.digital_twins).await.unwrap();
    arm.settle().await;
    arm.manager.ensure_defaults(&defaults).await.unwrap();
    assert!(arm.instances.find("twins").is_none());
}

/// What a version without storage accounts noted of its first start.
#[derive(Clone, serde::Serialize, serde::Deserialize)]
struct EarlierFirstStart {
    ended: base::Timestamp,
}

impl store::Record for EarlierFirstStart {
    const TABLE: store::Table = store::table::FIRST_START;

    fn key(&self) -> store::Key {
        store::Key::new(["first_start"])
    }
}

#[tokio::test]
async fn a_server_of_an_earlier_version_gets_a_storage_account_once_where_there_is_room_for_it() {
    for has_group in [true, false] {
        let arm = Arm::new().await;
        let defaults = resource_manager::Defaults::new(RECORDED, arm.directory.tenant_id());
        let made = arm.manager.ensure_defaults(&defaults).await.unwrap();
        let caller = access::Caller::system();
        arm.manager.delete_resource(&caller, &made.storage_account).await.unwrap();
        if !has_group {
            let group = format!("/subscriptions/{RECORDED}/resourcegroups/twinhub?api-version=2024-11-01");
            arm.delete(&group).await;
        }
        arm.settle().await;
        let has_account = async || arm.manager.resource(&caller, &made.storage_account).await.is_ok();
        arm.manager.ensure_defaults(&defaults).await.unwrap();
        assert!(!has_account().await, "what was deleted stays deleted");
        let mut batch = store::Batch::default();
        batch.put(&EarlierFirstStart { ended: arm.clock.now() });
        arm.store.commit(batch).await.unwrap();
        arm.manager.ensure_defaults(&defaults).await.unwrap();
        assert_eq!(has_account().await, has_group);
        arm.manager.ensure_defaults(&defaults).await.unwrap();
        assert_eq!(has_account().await, has_group);
    }
}

#[tokio::test]
async fn an_update_that_fails_gives_back_what_was_there() {
    let arm = Arm::new().await;
    arm.group(RECORDED, "g").await;
    arm.put(&twins_url(RECORDED, "g", "twins", ""), json!({"location": "eastus"})).await;
    let namespace = |rest: &str| {
        format!(
            "/subscriptions/{RECORDED}/resourceGroups/g/providers/Microsoft.EventHub/namespaces/my-namespace{rest}?api-version=2024-01-01"
        )
    };
    arm.put(&namespace(""), json!({"location": "eastus"})).await;
    arm.settle().await;
    let endpoint = twins_url(RECORDED, "g", "twins", "/endpoints/abc");
    let far = "Endpoint=sb://far.example.com/;SharedAccessKeyName=n;SharedAccessKey=k=;EntityPath=far";
    let near = "Endpoint=sb://my-namespace.servicebus.azure.net/;SharedAccessKeyName=n;SharedAccessKey=k=;EntityPath=none";
    let body = |string: &str| json!({"properties": {"endpointType": "EventHub", "connectionStringPrimaryKey": string}});
    assert_eq!(arm.put(&endpoint, body(far)).await.status, 201);
    arm.settle().await;
    let failing = arm.put(&endpoint, body(near)).await;
    let (status, result) =
        (failing.header_value("azure-asyncoperation").unwrap(), failing.header_value("location").unwrap());
    arm.settle().await;
    let (_, told) = arm.get(status).await;
    assert_eq!(
        (&told["status"], &told["error"]["code"]),
        (&json!("Failed"), &json!("EndpointValidationFailed"))
    );
    assert_eq!(arm.get(result).await.1["properties"]["provisioningState"], "Failed");
    let kept = arm.events.endpoint(&arm.manager_instance("twins"), "abc").await.unwrap().unwrap();
    let events::Target::EventHub(events::Address::ConnectionString(secret)) = kept.target else { panic!() };
    assert_eq!(secret.expose(), far, "events still go where they went");
    let again = arm.put(&endpoint, arm.get(&endpoint).await.1).await;
    assert_eq!(again.status, 201);
    arm.settle().await;
    assert_eq!(
        arm.get(&endpoint).await.1["properties"]["provisioningState"],
        "Succeeded",
        "the old secret is back"
    );
}

//! The life of the instances behind resources: to look at one never starts it, and what is removed leaves no name behind.

use super::*;

fn url(provider_and_name: &str, version: &str) -> String {
    format!("/subscriptions/{RECORDED}/resourceGroups/g/providers/{provider_and_name}?api-version={version}")
}

#[tokio::test]
async fn to_look_at_what_is_being_deleted_does_not_bring_its_host_back() {
    let arm = Arm::new().await;
    arm.group(RECORDED, "g").await;
    let twins = url("Microsoft.DigitalTwins/digitalTwinsInstances/my-twins", VERSION);
    let hub = url("Microsoft.Devices/IotHubs/my-hub", "2023-06-30");
    let service = url("Microsoft.Devices/provisioningServices/my-dps", "2021-10-15");
    let sku = json!({"name": "S1", "capacity": 1});
    for (url, body) in [
        (&twins, json!({"location": "eastus"})),
        (&hub, json!({"location": "eastus", "sku": sku, "properties": {}})),
        (&service, json!({"location": "eastus", "sku": sku, "properties": {}})),
    ] {
        assert_eq!(arm.put(url, body).await.status, 201, "{url}");
    }
    arm.settle().await;
    let hosts = arm.manager.hosts();
    assert_eq!(hosts.all(&base::hosts::Dialled::here()).len(), 3);

    // The reconciler is between two steps: the instance has ended, the resource is still there.
    arm.instances.remove(arm.instances.find("my-twins").unwrap().id()).await.unwrap();
    arm.hubs.remove(arm.hubs.find("my-hub").unwrap().instance()).await.unwrap();
    arm.services.remove(arm.services.find("my-dps").unwrap().instance()).await.unwrap();
    for url in [&twins, &hub, &service] {
        assert_eq!(arm.get(url).await.0, 200, "{url}");
    }
    assert_eq!(hosts.all(&base::hosts::Dialled::here()), []);
}

/// The three default resources, as their owner would delete them and make them again.
async fn with_defaults() -> (Arm, [(base::hosts::Service, String, &'static str, Value); 3]) {
    use base::hosts::Service;
    let arm = Arm::new().await;
    let defaults = resource_manager::Defaults::new(RECORDED, arm.directory.tenant_id());
    arm.manager.ensure_defaults(&defaults).await.unwrap();
    let url = |provider_and_name: &str, version: &str| {
        format!(
            "/subscriptions/{RECORDED}/resourceGroups/twinhub/providers/{provider_and_name}?api-version={version}"
        )
    };
    let sku = json!({"location": "eastus", "sku": {"name": "S1", "capacity": 1}, "properties": {}});
    let resources = [
        (
            Service::DigitalTwins,
            url("Microsoft.DigitalTwins/digitalTwinsInstances/twins", VERSION),
            "twins",
            json!({"location": "eastus"}),
        ),
        (Service::Hub, url("Microsoft.Devices/IotHubs/hub", "2023-06-30"), "hub", sku.clone()),
        (Service::Provisioning, url("Microsoft.Devices/provisioningServices/dps", "2021-10-15"), "dps", sku),
    ];
    (arm, resources)
}

#[tokio::test]
async fn a_default_that_is_deleted_and_made_again_is_the_default_again() {
    let (arm, resources) = with_defaults().await;
    let hosts = arm.manager.hosts();
    for (service, url, name, body) in resources {
        let before = hosts.names_of(service, name);
        assert!(before.contains(&"localhost".to_owned()), "{before:?}");
        assert!(arm.delete(&url).await.status.is_success());
        arm.settle().await;
        assert_eq!((arm.get(&url).await.0, hosts.default_instance(service)), (404, None));
        assert_eq!(arm.put(&url, body.clone()).await.status, 201);
        arm.settle().await;
        assert_eq!(hosts.default_instance(service).as_deref(), Some(name));
        assert_eq!(hosts.names_of(service, name), before);
        let another = url.replace(&format!("/{name}?"), "/another?");
        assert_eq!(arm.put(&another, body).await.status, 201);
        arm.settle().await;
        assert_eq!(hosts.default_instance(service).as_deref(), Some(name), "there is one already");
    }
}

#[tokio::test]
async fn nothing_is_put_on_what_is_being_deleted() {
    let (arm, resources) = with_defaults().await;
    for (_, url, _, body) in resources {
        let before = arm.get(&url).await.1;
        assert!(arm.delete(&url).await.status.is_success());
        let refused = arm.put(&url, body.clone()).await;
        assert_eq!(
            (refused.status.as_u16(), &refused.body_json()["error"]["code"]),
            (409, &json!("Conflict"))
        );
        let refused = arm.patch(&url, json!({"tags": {"late": "1"}})).await;
        assert_eq!(refused.status, 409);
        arm.settle().await;
        assert_eq!(arm.get(&url).await.0, 404, "the deletion goes on: {before}");
        assert_eq!(arm.put(&url, body).await.status, 201, "and then there is room");
        arm.settle().await;
    }
}

#[tokio::test]
async fn a_resource_and_its_operation_are_accepted_in_one_commit() {
    let (arm, resources) = with_defaults().await;
    for (_, url, _, body) in resources {
        let mut before = arm.store.commits_total();
        let mut committed = || {
            let now = arm.store.commits_total();
            now - std::mem::replace(&mut before, now)
        };
        assert_eq!(arm.put(&url, body.clone()).await.status.as_u16() / 100, 2);
        assert_eq!(committed(), 1, "a change");
        let fresh = url.replace(&format!("/{}?", url_name(&url)), "/fresh?");
        assert_eq!(arm.put(&fresh, body).await.status, 201);
        assert_eq!(committed(), 1, "something new, with its name");
        assert!(arm.delete(&url).await.status.is_success());
        assert_eq!(committed(), 1, "a deletion");
        arm.settle().await;
    }
}

fn url_name(url: &str) -> &str {
    url.split('?').next().and_then(|path| path.rsplit('/').next()).unwrap()
}

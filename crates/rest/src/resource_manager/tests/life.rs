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
    assert_eq!(hosts.all().len(), 3);

    // The reconciler is between two steps: the instance has ended, the resource is still there.
    arm.instances.remove(arm.instances.find("my-twins").unwrap().id()).await.unwrap();
    arm.hubs.remove(arm.hubs.find("my-hub").unwrap().instance()).await.unwrap();
    arm.services.remove(arm.services.find("my-dps").unwrap().instance()).await.unwrap();
    for url in [&twins, &hub, &service] {
        assert_eq!(arm.get(url).await.0, 200, "{url}");
    }
    assert_eq!(hosts.all(), []);
}

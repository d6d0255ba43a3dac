//! What is counted of hubs, as Resource Manager shows it: registry, quotas, usages, and how routing endpoints do
//! (`iothub-service.md` §15).

use resource_manager::ResourceType;
use resource_manager::iot_hub::{EndpointHealth, Quota, Usage};
use serde_json::{Value, json};

use super::{At, Outcome, parse};
use crate::wire::{Request, Response};

pub(super) async fn registry(at: At, request: &Request) -> Outcome {
    let id = parse::resource(request, ResourceType::IotHub);
    let counts = at.manager.registry_statistics(&at.caller, &id).await?;
    Ok(Response::json(
        200,
        &json!({
            "totalDeviceCount": counts.total_devices,
            "enabledDeviceCount": counts.enabled_devices,
            "disabledDeviceCount": counts.disabled_devices
        }),
    ))
}

pub(super) async fn quotas(at: At, request: &Request) -> Outcome {
    let id = parse::resource(request, ResourceType::IotHub);
    let quotas = at.manager.quotas(&at.caller, &id).await?;
    let quota = |Quota { name, current, max }: &Quota| json!({"name": name, "currentValue": current, "maxValue": max});
    Ok(Response::json(200, &json!({"value": quotas.iter().map(quota).collect::<Value>()})))
}

pub(super) async fn usages(at: At, request: &Request) -> Outcome {
    let subscription = request.param("subscription");
    let usages = at.manager.hub_usages(&at.caller, subscription).await?;
    let path = format!("/subscriptions/{subscription}/providers/Microsoft.Devices/usages");
    let usage = |usage: &Usage| {
        json!({
            "id": format!("{path}/{}", usage.name),
            "type": path,
            "unit": "Count",
            "currentValue": usage.current,
            "limit": usage.limit,
            "name": {"value": usage.name, "localizedValue": usage.display_name}
        })
    };
    Ok(Response::json(200, &json!({"value": usages.iter().map(usage).collect::<Value>()})))
}

pub(super) async fn endpoint_health(at: At, request: &Request) -> Outcome {
    let id = parse::resource(request, ResourceType::IotHub);
    let health = at.manager.endpoint_health(&at.caller, &id).await?;
    let one = |EndpointHealth { endpoint_id, status }: &EndpointHealth| json!({"endpointId": endpoint_id, "healthStatus": status});
    Ok(Response::json(200, &json!({"value": health.iter().map(one).collect::<Value>()})))
}

//! Tenants, subscriptions, their locations and providers.

use resource_manager::location::{self, Location};
use resource_manager::provider;
use resource_manager::subscription::Subscription;
use serde_json::{Map, Value, json};

use super::{At, Outcome};
use crate::wire::{Request, Response};

pub(super) async fn tenants(at: At, _: &Request) -> Outcome {
    let tenants = at.manager.tenants(&at.caller).await?;
    let own = at.directory.tenant_id();
    let domain = at.directory.domain();
    let body = |id: &String| {
        let name = if id == own { at.directory.tenant_display_name() } else { "twinhub" };
        json!({
            "id": format!("/tenants/{id}"),
            "tenantId": id,
            "displayName": name,
            "domains": [domain],
            "defaultDomain": domain,
            "tenantCategory": "Home",
            "tenantType": "AAD",
            "countryCode": "US"
        })
    };
    Ok(Response::json(200, &json!({"value": tenants.iter().map(body).collect::<Vec<_>>()})))
}

pub(super) async fn list(at: At, _: &Request) -> Outcome {
    let subscriptions = at.manager.subscriptions(&at.caller).await?;
    let value: Vec<Value> = subscriptions.iter().map(subscription).collect();
    let count = value.len();
    Ok(Response::json(200, &json!({"value": value, "count": {"type": "Total", "value": count}})))
}

pub(super) async fn get(at: At, request: &Request) -> Outcome {
    let found = at.manager.subscription(&at.caller, request.param("subscription")).await?;
    Ok(Response::json(200, &subscription(&found)))
}

fn subscription(subscription: &Subscription) -> Value {
    json!({
        "id": format!("/subscriptions/{}", subscription.id),
        "authorizationSource": "RoleBased",
        "managedByTenants": [],
        "subscriptionId": subscription.id,
        "tenantId": subscription.tenant_id,
        "displayName": subscription.display_name,
        "state": "Enabled",
        "subscriptionPolicies": {
            "locationPlacementId": "Public_2014-09-01",
            "quotaId": "PayAsYouGo_2014-09-01",
            "spendingLimit": "Off"
        }
    })
}

pub(super) async fn locations(at: At, request: &Request) -> Outcome {
    let id = request.param("subscription");
    let all = at.manager.locations(&at.caller, id).await?;
    let body = |location: &Location| {
        json!({
            "id": format!("/subscriptions/{id}/locations/{}", location.name),
            "name": location.name,
            "type": "Region",
            "displayName": location.display_name,
            "regionalDisplayName": format!("({}) {}", location.geography, location.display_name),
            "metadata": {"regionType": "Physical", "regionCategory": "Recommended", "geographyGroup": location.geography}
        })
    };
    Ok(Response::json(200, &json!({"value": all.iter().map(body).collect::<Vec<_>>()})))
}

pub(super) async fn providers(at: At, request: &Request) -> Outcome {
    let id = request.param("subscription");
    let mut value = Vec::new();
    for namespace in provider::NAMESPACES {
        let (namespace, is_registered) = at.manager.provider(&at.caller, id, namespace).await?;
        value.push(provider_body(id, namespace, is_registered));
    }
    Ok(Response::json(200, &json!({"value": value})))
}

pub(super) async fn provider(at: At, request: &Request) -> Outcome {
    let (id, namespace) = (request.param("subscription"), request.param("namespace"));
    let (namespace, is_registered) = at.manager.provider(&at.caller, id, namespace).await?;
    Ok(Response::json(200, &provider_body(id, namespace, is_registered)))
}

pub(super) async fn register(at: At, request: &Request) -> Outcome {
    set_provider(at, request, true).await
}

pub(super) async fn unregister(at: At, request: &Request) -> Outcome {
    set_provider(at, request, false).await
}

async fn set_provider(at: At, request: &Request, is_registered: bool) -> Outcome {
    let (id, namespace) = (request.param("subscription"), request.param("namespace"));
    let (namespace, is_registered) =
        at.manager.set_provider(&at.caller, id, namespace, is_registered).await?;
    Ok(Response::json(200, &provider_body(id, namespace, is_registered)))
}

fn provider_body(subscription: &str, namespace: &str, is_registered: bool) -> Value {
    let types = provider::TYPES.iter().filter(|row| row.namespace == namespace);
    let types: Vec<Value> = types.map(resource_type).collect();
    json!({
        "id": format!("/subscriptions/{subscription}/providers/{namespace}"),
        "namespace": namespace,
        "resourceTypes": types,
        "registrationState": if is_registered { "Registered" } else { "NotRegistered" },
        "registrationPolicy": "RegistrationRequired"
    })
}

fn resource_type(row: &provider::TypeRow) -> Value {
    let names = location::ALL.iter().map(|location| location.display_name);
    let locations: Vec<&str> = if row.is_regional { names.collect() } else { Vec::new() };
    let mut body = Map::new();
    body.insert("resourceType".into(), row.type_name.into());
    body.insert("locations".into(), json!(locations));
    body.insert("apiVersions".into(), json!(row.api_versions));
    let is_tracked = row.resource_type.is_some_and(|kind| kind.parent().is_none());
    let capabilities =
        if is_tracked { "CrossResourceGroupResourceMove, SupportsTags, SupportsLocation" } else { "None" };
    body.insert("capabilities".into(), capabilities.into());
    Value::Object(body)
}

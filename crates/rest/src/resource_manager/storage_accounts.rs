//! Storage accounts as Resource Manager shows them.

use resource_manager::resource::{NameAvailability, ProvisioningState, Resource, Tags};
use resource_manager::storage_account::{AccountKey, Properties, Put};
use resource_manager::{ResourceId, ResourceType};
use serde::Deserialize;
use serde_json::{Value, json};

use super::error::Refusal;
use super::parse::{self, NameBody};
use super::{At, Outcome, resources};
use crate::wire::{Request, Response};

#[derive(Debug, Deserialize)]
struct AccountBody {
    name: Option<String>,
    location: Option<String>,
    tags: Option<Tags>,
    sku: Option<SkuBody>,
    kind: Option<String>,
}

#[derive(Debug, Deserialize)]
struct SkuBody {
    name: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct KeyBody {
    key_name: Option<String>,
}

fn id(request: &Request) -> ResourceId {
    parse::resource(request, ResourceType::StorageAccount)
}

pub(super) async fn put(at: At, request: &Request) -> Outcome {
    let sent: AccountBody = parse::body(request)?;
    parse::check_name(request, "name", sent.name.as_deref())?;
    let put = Put {
        location: sent.location,
        tags: sent.tags,
        sku: sent.sku.and_then(|sku| sku.name),
        kind: sent.kind,
        preconditions: parse::preconditions(request, None),
    };
    let accepted = at.manager.put_storage_account(&at.caller, &id(request), &put).await?;
    Ok(resources::answer(&at, 200, &accepted.resource))
}

pub(super) async fn delete(at: At, request: &Request) -> Outcome {
    let accepted = at.manager.delete_resource(&at.caller, &id(request)).await?;
    Ok(Response::empty(if accepted.is_some() { 200 } else { 204 }))
}

pub(super) async fn check_name(at: At, request: &Request) -> Outcome {
    let sent: NameBody = parse::body(request)?;
    let (name, subscription) = (sent.name()?, request.param("subscription"));
    let available =
        at.manager.check_name(&at.caller, subscription, ResourceType::StorageAccount, name).await?;
    Ok(Response::json(
        200,
        &match available {
            NameAvailability::Available => json!({"nameAvailable": true}),
            NameAvailability::Invalid(message) => {
                json!({"nameAvailable": false, "reason": "AccountNameInvalid", "message": message})
            }
            NameAvailability::AlreadyExists => json!({
                "nameAvailable": false,
                "reason": "AlreadyExists",
                "message": format!("The storage account named {name} is already taken.")
            }),
        },
    ))
}

pub(super) async fn list_keys(at: At, request: &Request) -> Outcome {
    Ok(keys(&at.manager.storage_account_keys(&at.caller, &id(request)).await?))
}

pub(super) async fn regenerate_key(at: At, request: &Request) -> Outcome {
    let sent: KeyBody = parse::body(request)?;
    let name = sent.key_name.ok_or_else(|| Refusal::content("The property 'keyName' is required."))?;
    Ok(keys(&at.manager.regenerate_storage_account_key(&at.caller, &id(request), &name).await?))
}

fn keys(keys: &[AccountKey]) -> Response {
    let key = |key: &AccountKey| {
        json!({
            "keyName": key.name,
            "value": key.value,
            "permissions": "FULL",
            "creationTime": key.made.iso_trimmed()
        })
    };
    Response::json(200, &json!({"keys": keys.iter().map(key).collect::<Vec<_>>()}))
}

pub(super) fn sku(own: &Properties) -> Value {
    let tier = own.sku.split('_').next().unwrap_or_default();
    json!({"name": own.sku, "tier": tier})
}

pub(super) fn body(at: &At, resource: &Resource, own: &Properties) -> Value {
    let state = match resource.provisioning_state {
        ProvisioningState::Provisioning => "Creating",
        other => other.name(),
    };
    let endpoint = at.manager.blob_endpoint(&resource.id.name, &at.dialled);
    json!({
        "id": resource.id.path(),
        "name": resource.id.name,
        "type": "Microsoft.Storage/storageAccounts",
        "location": resource.location,
        "tags": resource.tags.clone().unwrap_or_default(),
        "sku": sku(own),
        "kind": own.kind,
        "properties": {
            "provisioningState": state,
            "creationTime": own.created.iso_trimmed(),
            "primaryEndpoints": {"blob": endpoint},
            "primaryLocation": resource.location,
            "statusOfPrimary": "available",
            "supportsHttpsTrafficOnly": true,
            "allowBlobPublicAccess": false,
            "allowSharedKeyAccess": true,
            "minimumTlsVersion": "TLS1_2",
            "accessTier": "Hot",
            "isHnsEnabled": false,
            "publicNetworkAccess": "Enabled"
        }
    })
}

//! What answers have in common: headers, pages, system data, identities, and where to poll.

use base::{Page, Timestamp};
use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use resource_manager::identity::ManagedIdentity;
use resource_manager::operation::{Kind, Operation};
use resource_manager::resource::SystemData;
use resource_manager::{Accepted, ResourceManager, provider};
use serde_json::{Map, Value, json};

use crate::wire::{Head, Request, Response};

/// The headers of every answer (`arm-and-auth.md` §1.2).
pub(super) fn headers(head: &Head, response: Response, now: Timestamp) -> Response {
    let request_id = head.request_id.to_string();
    let correlation = head.header("x-ms-correlation-request-id").unwrap_or(&request_id).to_owned();
    let at = now.iso_seconds().replace(['-', ':'], "");
    let (left, kind) = match head.method.as_str() {
        "GET" | "HEAD" => ("11999", "reads"),
        "DELETE" => ("14999", "deletes"),
        _ => ("1199", "writes"),
    };
    let mut response = response
        .header("cache-control", "no-cache")
        .header("pragma", "no-cache")
        .header("expires", "-1")
        .header("strict-transport-security", "max-age=31536000; includeSubDomains")
        .header("x-content-type-options", "nosniff")
        .header("date", &now.rfc1123())
        .header("x-ms-request-id", &request_id)
        .header("x-ms-correlation-request-id", &correlation)
        .header("x-ms-routing-request-id", &format!("LOCAL:{at}Z:{}", uuid::Uuid::new_v4()))
        .header(&format!("x-ms-ratelimit-remaining-subscription-{kind}"), left);
    let wants_echo =
        head.header("x-ms-return-client-request-id").is_some_and(|text| text.eq_ignore_ascii_case("true"));
    if let Some(id) = head.header("x-ms-client-request-id").filter(|_| wants_echo) {
        response = response.header("x-ms-client-request-id", id);
    }
    response
}

/// A page of items, with the address of the next one.
pub(super) fn page<T>(request: &Request, page: &Page<T>, mut item: impl FnMut(&T) -> Value) -> Response {
    let mut body = Map::new();
    body.insert("value".into(), Value::Array(page.items.iter().map(&mut item).collect()));
    if let Some(next) = &page.next {
        let kept = request.raw_query.split('&').filter(|pair| {
            let name = pair.split('=').next().unwrap_or_default().replace("%24", "$");
            !pair.is_empty() && !name.eq_ignore_ascii_case("$skiptoken")
        });
        let query: Vec<&str> = kept.collect();
        let token = utf8_percent_encode(next.as_str(), NON_ALPHANUMERIC);
        let link =
            format!("{}{}?{}&$skiptoken={token}", request.base_url(), request.raw_path, query.join("&"));
        body.insert("nextLink".into(), link.into());
    }
    Response::json(200, &Value::Object(body))
}

pub(super) fn system_data(data: &SystemData) -> Value {
    json!({
        "createdBy": data.created_by,
        "createdByType": data.created_by_type,
        "createdAt": data.created_at.iso_trimmed(),
        "lastModifiedBy": data.last_modified_by,
        "lastModifiedByType": data.last_modified_by_type,
        "lastModifiedAt": data.last_modified_at.iso_trimmed(),
    })
}

/// `identity` of an answer. The ids of user-assigned identities show once their resource is made.
pub(super) fn identity(identity: &ManagedIdentity, separator: &str, shows_users: bool) -> Value {
    let mut body = Map::new();
    body.insert("type".into(), identity.type_name(separator).into());
    if let Some(system) = &identity.system {
        body.insert("principalId".into(), system.principal_id.clone().into());
        body.insert("tenantId".into(), system.tenant_id.clone().into());
    }
    if !identity.users.is_empty() {
        let users = identity.users.iter().map(|(id, ids)| {
            let shown = if shows_users {
                json!({"clientId": ids.client_id, "principalId": ids.principal_id})
            } else {
                json!({})
            };
            (id.clone(), shown)
        });
        body.insert("userAssignedIdentities".into(), Value::Object(users.collect()));
    }
    Value::Object(body)
}

/// When to ask again.
pub(super) fn retry_after(manager: &ResourceManager, response: Response) -> Response {
    response.header("retry-after", &manager.settings().retry_after_seconds.to_string())
}

/// What `operationResults` of the Digital Twins provider holds in base64.
pub(super) struct Nested<'a> {
    pub(super) kind: &'static str,
    /// The child's name, for operations on one.
    pub(super) name: Option<&'a str>,
}

/// Adds the addresses to poll for an operation of the Digital Twins provider, if it is not done yet.
pub(super) fn poll_digital_twins(
    request: &Request,
    manager: &ResourceManager,
    accepted: &Accepted,
    nested: &Nested<'_>,
    response: Response,
) -> Response {
    let Some(operation) = &accepted.operation else { return response };
    let base = format!(
        "{}/subscriptions/{}/providers/{}/locations/{}",
        request.base_url(),
        accepted.resource.id.group.subscription,
        provider::DIGITAL_TWINS,
        operation.location
    );
    let version = request.api_version().unwrap_or_default();
    let result = opaque(operation, accepted, request.param("name"), nested);
    let response = response
        .header(
            "azure-asyncoperation",
            &format!("{base}/operationsStatuses/{}?api-version={version}", operation.id),
        )
        .header("location", &format!("{base}/operationResults/{result}?api-version={version}"));
    retry_after(manager, response)
}

/// As the live service writes it; connections, whose state their instance does not show, name their operation too.
fn opaque(operation: &Operation, accepted: &Accepted, instance: &str, nested: &Nested<'_>) -> String {
    let kind = match operation.kind() {
        Kind::Create => "Create",
        Kind::Delete => "Delete",
    };
    let mut body = Map::new();
    body.insert("operationKind".into(), kind.into());
    body.insert("resourceKind".into(), nested.kind.into());
    body.insert("resourceGroupName".into(), accepted.resource.id.group.name.clone().into());
    body.insert("resourceName".into(), instance.into());
    if let Some(name) = nested.name {
        body.insert("nestedResourceName".into(), name.into());
    }
    if nested.kind == super::private_link::KIND {
        body.insert("operationId".into(), operation.id.clone().into());
    }
    STANDARD_NO_PAD.encode(Value::Object(body).to_string()).replace('+', "-").replace('/', "_")
}

/// Adds the addresses to poll for an operation of `Microsoft.Devices`, if it is not done yet.
pub(super) fn poll_devices(
    request: &Request,
    manager: &ResourceManager,
    accepted: &Accepted,
    response: Response,
) -> Response {
    let Some(operation) = &accepted.operation else { return response };
    let version = request.api_version().unwrap_or_default();
    let id = &accepted.resource.id;
    let url = format!("{}{id}/operationResults/{}?api-version={version}", request.base_url(), operation.id);
    let response =
        response.header("azure-asyncoperation", &format!("{url}&asyncinfo")).header("location", &url);
    retry_after(manager, response)
}

/// Adds the address to poll for an operation that only has a result.
pub(super) fn poll_result(
    request: &Request,
    manager: &ResourceManager,
    operation: &Operation,
    response: Response,
) -> Response {
    let version = request.api_version().unwrap_or_default();
    let subscription = &operation.group().subscription;
    let url = format!(
        "{}/subscriptions/{subscription}/operationresults/{}?api-version={version}",
        request.base_url(),
        operation.id
    );
    retry_after(manager, response.header("location", &url))
}

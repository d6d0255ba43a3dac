//! Polling: the status of an operation, and its result as a synchronous call would have given it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use resource_manager::operation::{Kind, Operation, State};
use resource_manager::{Error, GroupId, ResourceId, ResourceType};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::error::Refusal;
use super::{At, Outcome, private_link, resources, write};
use crate::wire::{Request, Response};

/// `Azure-AsyncOperation` of the Digital Twins provider.
pub(super) async fn status(at: At, request: &Request) -> Outcome {
    let subscription = request.param("subscription");
    let operation = at.manager.operation(&at.caller, subscription, request.param("operation")).await?;
    let mut body = Map::new();
    // The live service leaves the provider out of this id.
    let id = format!(
        "/subscriptions/{subscription}/locations/{}/operationsStatuses/{}",
        operation.location, operation.id
    );
    body.insert("id".into(), id.into());
    body.insert("name".into(), operation.id.clone().into());
    body.insert("status".into(), status_name(&operation).into());
    body.insert("startTime".into(), operation.started.iso7().into());
    match &operation.state {
        State::Running { .. } => {}
        State::Succeeded { ended } => {
            body.insert("endTime".into(), ended.iso7().into());
        }
        State::Failed { ended, code, message } => {
            body.insert("endTime".into(), ended.iso7().into());
            body.insert("error".into(), json!({"code": code, "message": message}));
        }
    }
    let response = Response::json(200, &Value::Object(body));
    Ok(if operation.is_running() { write::retry_after(&at.manager, response) } else { response })
}

/// `operationResults` of `Microsoft.Devices`: its status when `asyncinfo` asks for it, else its result.
pub(super) async fn devices_result(at: At, request: &Request) -> Outcome {
    let subscription = request.param("subscription");
    let operation = at.manager.operation(&at.caller, subscription, request.param("operation")).await?;
    if request.query("asyncinfo").is_none() {
        return Ok(result(&at, request, &operation, 200));
    }
    let mut body = Map::new();
    body.insert("status".into(), status_name(&operation).into());
    if let State::Failed { code, message, .. } = &operation.state {
        body.insert("error".into(), json!({"code": code, "message": message}));
    }
    let response = Response::json(200, &Value::Object(body));
    Ok(if operation.is_running() { write::retry_after(&at.manager, response) } else { response })
}

/// `operationresults` of a subscription, for deletions.
pub(super) async fn group_result(at: At, request: &Request) -> Outcome {
    let subscription = request.param("subscription");
    let operation = at.manager.operation(&at.caller, subscription, request.param("operation")).await?;
    Ok(result(&at, request, &operation, 200))
}

/// 202 with the same address while it runs, then `done`, or the error that it ended with.
fn result(at: &At, request: &Request, operation: &Operation, done: u16) -> Response {
    match &operation.state {
        State::Running { .. } => pending(at, request),
        State::Succeeded { .. } => Response::empty(done),
        State::Failed { code, message, .. } => {
            Response::json(409, &json!({"error": {"code": code, "message": message}}))
        }
    }
}

/// What `Location` of the Digital Twins provider carries.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Opaque {
    operation_kind: String,
    resource_group_name: String,
    resource_name: String,
    nested_resource_name: Option<String>,
    operation_id: Option<String>,
}

/// `Location` of the Digital Twins provider: reads the state of the resource that the operation is about.
pub(super) async fn digital_twins_result(at: At, request: &Request) -> Outcome {
    let text = request.param("result");
    let unknown = || Refusal::Domain(Error::OperationNotFound(text.chars().take(64).collect()));
    let bytes = STANDARD_NO_PAD
        .decode(text.replace('-', "+").replace('_', "/").trim_end_matches('='))
        .map_err(|_| unknown())?;
    let opaque: Opaque = serde_json::from_slice(&bytes).map_err(|_| unknown())?;
    let group = GroupId::new(request.param("subscription"), &opaque.resource_group_name);
    let instance = ResourceId::new(&group, ResourceType::DigitalTwinsInstance, &opaque.resource_name);
    let is_delete = opaque.operation_kind.eq_ignore_ascii_case("Delete");
    if let Some(id) = &opaque.operation_id {
        return connection_result(&at, request, &instance, &opaque, id).await;
    }
    let id = match &opaque.nested_resource_name {
        Some(name) => instance.child(ResourceType::DigitalTwinsEndpoint, name),
        None => instance,
    };
    let read = at.manager.resource(&at.caller, &id).await;
    let resource = match read {
        Ok(resource) => resource,
        Err(
            Error::ResourceNotFound(..)
            | Error::ParentResourceNotFound { .. }
            | Error::ResourceGroupNotFound(_),
        ) if is_delete => return Ok(Response::new(204)),
        Err(error) => return Err(error.into()),
    };
    if !resource.provisioning_state.is_terminal() {
        return Ok(pending(&at, request));
    }
    Ok(Response::json(200, &resources::body(&at, &resource)))
}

async fn connection_result(
    at: &At,
    request: &Request,
    instance: &ResourceId,
    opaque: &Opaque,
    id: &str,
) -> Outcome {
    let operation = at.manager.operation(&at.caller, request.param("subscription"), id).await?;
    if operation.is_running() || operation.kind() == Kind::Delete {
        return Ok(result(at, request, &operation, 204));
    }
    let name = opaque.nested_resource_name.as_deref().unwrap_or_default();
    let connection = at.manager.private_endpoint_connection(&at.caller, instance, name).await?;
    Ok(Response::json(200, &private_link::body(instance, &connection)))
}

fn pending(at: &At, request: &Request) -> Response {
    let url = format!("{}{}?{}", request.base_url(), request.raw_path, request.raw_query);
    write::retry_after(&at.manager, Response::empty(202).header("location", &url))
}

fn status_name(operation: &Operation) -> &'static str {
    match operation.state {
        State::Running { .. } => "Running",
        State::Succeeded { .. } => "Succeeded",
        State::Failed { .. } => "Failed",
    }
}

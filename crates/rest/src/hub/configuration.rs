//! Configurations on the wire (`iothub-service.md` §13).

use std::collections::BTreeMap;

use access::Permission;
use base::IfMatch;
use base::json::Object;
use hub::configuration::{
    Configuration, ConfigurationId, ConfigurationInput, ConfigurationView, Content, ContentInput, QueryFaults,
};
use serde::{Deserialize, Serialize};

use super::device::check_same;
use super::{HubAt, HubDoor, Refusal, body, device_id, handler, tagged};
use crate::router::Routes;
use crate::wire::{Request, Response};

pub(super) fn routes() -> Routes<HubDoor> {
    Routes::new()
        .on("GET", "/configurations", "Configuration_GetConfigurations", handler!(list))
        .requires(Permission::ConfigurationRead)
        .on("POST", "/configurations/testQueries", "Configuration_TestQueries", handler!(test))
        .requires(Permission::ConfigurationTestQueries)
        .on("GET", "/configurations/{id}", "Configuration_Get", handler!(get))
        .requires(Permission::ConfigurationRead)
        .on("PUT", "/configurations/{id}", "Configuration_CreateOrUpdate", handler!(put))
        .requires(Permission::ConfigurationWrite)
        .on("DELETE", "/configurations/{id}", "Configuration_Delete", handler!(delete))
        .requires(Permission::ConfigurationDelete)
        .on(
            "POST",
            "/devices/{id}/applyConfigurationContent",
            "Configuration_ApplyOnEdgeDevice",
            handler!(apply),
        )
        .requires(Permission::ConfigurationApply)
}

async fn list(at: &HubAt, _: &Request) -> Result<Response, Refusal> {
    let all = at.hub.list_configurations(&at.caller).await?;
    let all: Vec<_> = all.iter().map(ConfigurationBody::from).collect();
    Ok(Response::json(200, &all))
}

async fn get(at: &HubAt, request: &Request) -> Result<Response, Refusal> {
    Ok(answer(&at.hub.get_configuration(&at.caller, &id(request)?).await?))
}

async fn put(at: &HubAt, request: &Request) -> Result<Response, Refusal> {
    let (sent, id) = (body::<ConfigurationInput>(request)?, id(request)?);
    check_same("id", sent.id.as_deref(), id.as_str())?;
    Ok(answer(&at.hub.put_configuration(&at.caller, &sent.into_spec(id), &if_match(request)).await?))
}

async fn delete(at: &HubAt, request: &Request) -> Result<Response, Refusal> {
    at.hub.delete_configuration(&at.caller, &id(request)?, &if_match(request)).await?;
    Ok(Response::new(204))
}

async fn test(at: &HubAt, request: &Request) -> Result<Response, Refusal> {
    let QueriesInput { target_condition, custom_metric_queries } = body(request)?;
    let metrics = custom_metric_queries.unwrap_or_default();
    let faults = at.hub.test_configuration_queries(&at.caller, target_condition.as_deref(), &metrics)?;
    let QueryFaults { target_condition, metrics } = faults;
    Ok(Response::json(
        200,
        &FaultsBody { target_condition_error: target_condition, custom_metric_query_errors: metrics },
    ))
}

async fn apply(at: &HubAt, request: &Request) -> Result<Response, Refusal> {
    let content = body::<ContentInput>(request)?.into_spec();
    at.hub.apply_configuration_content(&at.caller, &device_id(request)?, &content).await?;
    Ok(Response::new(204))
}

fn answer(view: &ConfigurationView) -> Response {
    tagged(&view.configuration.etag.to_string(), &ConfigurationBody::from(view))
}

fn id(request: &Request) -> Result<ConfigurationId, Refusal> {
    request.param("id").parse().map_err(|error: base::ids::InvalidId| Refusal::Malformed(error.to_string()))
}

/// Of configurations only a quoted tag counts; any other is as if none were sent (`iothub-service.md` §0.1). A star needs no quotes:
/// the client of Java replaces with one alone.
fn if_match(request: &Request) -> IfMatch {
    let is_quoted = |text: &str| text.len() > 1 && text.starts_with('"') && text.ends_with('"');
    match request.header("if-match").map(str::trim) {
        Some(text) if text == "*" || is_quoted(text) => request.if_match(),
        _ => IfMatch::Absent,
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct QueriesInput {
    target_condition: Option<String>,
    custom_metric_queries: Option<BTreeMap<String, String>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct FaultsBody {
    target_condition_error: Option<String>,
    custom_metric_query_errors: BTreeMap<String, String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ConfigurationBody<'a> {
    id: &'a str,
    schema_version: Option<&'a str>,
    labels: Option<&'a BTreeMap<String, String>>,
    content: ContentBody<'a>,
    target_condition: Option<&'a str>,
    created_time_utc: String,
    last_updated_time_utc: String,
    priority: i32,
    system_metrics: MetricsBody<'a>,
    metrics: MetricsBody<'a>,
    etag: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
#[expect(clippy::enum_variant_names, reason = "the service's names")]
enum ContentBody<'a> {
    DeviceContent(&'a Object),
    ModuleContent(&'a Object),
    ModulesContent(&'a Object),
}

#[derive(Serialize)]
struct MetricsBody<'a> {
    results: &'a BTreeMap<String, u64>,
    queries: BTreeMap<&'a str, &'a str>,
}

impl<'a> From<&'a ConfigurationView> for ConfigurationBody<'a> {
    fn from(view: &'a ConfigurationView) -> Self {
        let Configuration { id, schema_version, labels, content, target_condition, .. } = &view.configuration;
        let content = match content {
            Content::DeviceContent(keys) => ContentBody::DeviceContent(keys),
            Content::ModuleContent(keys) => ContentBody::ModuleContent(keys),
            Content::ModulesContent(modules) => ContentBody::ModulesContent(modules),
        };
        let system = view.system_queries.iter().map(|(name, text)| (*name, text.as_str())).collect();
        let custom = view.configuration.metrics.iter().map(|(name, text)| (name.as_str(), text.as_str()));
        Self {
            id: id.as_str(),
            schema_version: schema_version.as_deref(),
            labels: labels.as_ref(),
            content,
            target_condition: target_condition.as_deref(),
            created_time_utc: view.configuration.created.iso7(),
            last_updated_time_utc: view.configuration.updated.iso7(),
            priority: view.configuration.priority,
            system_metrics: MetricsBody { results: &view.system_results, queries: system },
            metrics: MetricsBody { results: &view.custom_results, queries: custom.collect() },
            etag: view.configuration.etag.to_string(),
        }
    }
}

//! Trying a hub's routes on a message that was never sent (`iothub-service.md` §15.3).

use std::collections::BTreeMap;

use base::json::Object;
use query::SyntaxError;
use resource_manager::ResourceType;
use resource_manager::iot_hub::{RouteTest, TestMessage};
use serde::Deserialize;
use serde_json::{Value, json};

use super::error::Refusal;
use super::{At, Outcome, parse};
use crate::wire::{Request, Response};

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct TestBody {
    routing_source: Option<String>,
    route: Option<RouteBody>,
    message: Option<MessageBody>,
    twin: Option<Object>,
}

#[derive(Debug, Deserialize)]
struct RouteBody {
    condition: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct MessageBody {
    body: Option<String>,
    app_properties: Option<BTreeMap<String, String>>,
    system_properties: Option<BTreeMap<String, String>>,
}

impl MessageBody {
    fn with(self, twin: Option<Object>) -> TestMessage {
        let (system, application) = (self.system_properties, self.app_properties);
        let body = self.body.unwrap_or_default();
        TestMessage::new(system.unwrap_or_default(), application.unwrap_or_default(), &body, twin)
    }
}

pub(super) async fn all(at: At, request: &Request) -> Outcome {
    let sent: TestBody = parse::body(request)?;
    let message = sent.message.ok_or_else(|| Refusal::content("The property 'message' is required."))?;
    let message = message.with(sent.twin);
    let (id, source) = (parse::resource(request, ResourceType::IotHub), sent.routing_source);
    let routes = at.manager.test_routes(&at.caller, &id, source.as_deref(), &message).await?;
    let routes: Value = routes.into_iter().map(|route| json!({"properties": route})).collect();
    Ok(Response::json(200, &json!({"routes": routes})))
}

pub(super) async fn one(at: At, request: &Request) -> Outcome {
    let sent: TestBody = parse::body(request)?;
    let route = sent.route.ok_or_else(|| Refusal::content("The property 'route' is required."))?;
    let message = sent.message.unwrap_or_default().with(sent.twin);
    let (id, condition) = (parse::resource(request, ResourceType::IotHub), route.condition);
    let test = at.manager.test_route(&at.caller, &id, &condition.unwrap_or_default(), &message).await?;
    let (result, errors) = match &test {
        RouteTest::Truth(Some(true)) => ("true", json!([])),
        RouteTest::Truth(Some(false)) => ("false", json!([])),
        RouteTest::Truth(None) => ("undefined", json!([])),
        RouteTest::NoCondition(error) => ("false", json!([compilation_error(error)])),
    };
    Ok(Response::json(200, &json!({"result": result, "details": {"compilationErrors": errors}})))
}

/// Columns count from 1.
fn compilation_error(error: &SyntaxError) -> Value {
    json!({
        "message": error.message,
        "severity": "error",
        "location": {
            "start": {"line": error.line, "column": error.position + 1},
            "end": {"line": error.end_line, "column": error.end_position + 1}
        }
    })
}

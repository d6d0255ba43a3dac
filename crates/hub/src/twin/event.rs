//! Events of twins and identities, as back ends read them from the hub's event stream (`iothub-service.md` §12).
//! Pushed into the batch of the change they tell of, so that neither exists without the other.

use base::Timestamp;
use events::headers::{self, SystemProperty};
use serde_json::{Value, json};
use store::Batch;

use super::DeviceTwin;
use super::rules::Applied;
use crate::hub::Hub;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    Update,
    Replace,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lifecycle {
    Created,
    Deleted,
}

/// What the kinds of events differ in.
struct Kind {
    source: &'static str,
    schema: &'static str,
    operation: &'static str,
}

pub(crate) fn push_change(batch: &mut Batch, hub: &Hub, applied: &Applied, change: Change, now: Timestamp) {
    let (operation, body) = match change {
        Change::Update => ("updateTwin", Value::Object(applied.change.clone())),
        Change::Replace => ("replaceTwin", whole(&applied.twin)),
    };
    let kind = Kind { source: "twinChangeEvents", schema: "twinChangeNotification", operation };
    push(batch, hub, &applied.twin, &kind, &body, now);
}

pub(crate) fn push_lifecycle(
    batch: &mut Batch,
    hub: &Hub,
    twin: &DeviceTwin,
    what: Lifecycle,
    now: Timestamp,
) {
    let operation = match what {
        Lifecycle::Created => "createDeviceIdentity",
        Lifecycle::Deleted => "deleteDeviceIdentity",
    };
    let kind = Kind { source: "deviceLifecycleEvents", schema: "deviceLifecycleNotification", operation };
    push(batch, hub, twin, &kind, &whole(twin), now);
}

fn whole(twin: &DeviceTwin) -> Value {
    let mut body = json!({ "deviceId": twin.identity.device_id });
    if let Some(module_id) = &twin.identity.module_id {
        body["moduleId"] = json!(module_id);
    }
    body["etag"] = json!(twin.etag);
    body["version"] = json!(twin.version);
    body["tags"] = Value::Object(twin.tags.clone());
    body["properties"] = json!({
        "desired": twin.properties.desired.with_metadata(),
        "reported": twin.properties.reported.with_metadata(),
    });
    body
}

fn push(batch: &mut Batch, hub: &Hub, twin: &DeviceTwin, kind: &Kind, body: &Value, now: Timestamp) {
    let (device_id, module_id) = (twin.identity.device_id.as_str(), twin.identity.module_id.as_ref());
    let mut headers = headers::begin();
    let mut system = |property, value: &str| headers::push_system(&mut headers, property, value);
    system(SystemProperty::CorrelationId, &base::secret::random_hex(6));
    system(SystemProperty::UserId, hub.name());
    system(SystemProperty::ContentType, "application/json");
    system(SystemProperty::ContentEncoding, "utf-8");
    system(SystemProperty::ConnectionDeviceId, device_id);
    if let Some(module_id) = module_id {
        system(SystemProperty::ConnectionModuleId, module_id.as_str());
    }
    system(SystemProperty::MessageSource, kind.source);
    let mut application = |name: &str, value: &str| headers::push_application(&mut headers, name, value);
    application("hubName", hub.name());
    application("deviceId", device_id);
    if let Some(module_id) = module_id {
        application("moduleId", module_id.as_str());
    }
    application("opType", kind.operation);
    application("iothub-message-schema", kind.schema);
    application("operationTimestamp", &now.iso7());
    hub.push_event(batch, device_id, headers, body.to_string().into_bytes());
}

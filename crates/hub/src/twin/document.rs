//! A twin as services see it: what `GET /twins` answers and what queries and conditions address, by the names that both use
//! (`iothub-service.md` §4.1, §5.2).

use base::Timestamp;
use base::json::Object;
use serde_json::{Value, json};

use super::TwinView;

impl TwinView {
    /// Members in the order that the service has them.
    pub fn document(&self) -> Value {
        let Self { twin, identity, connection, messages } = self;
        let mut all = Object::new();
        let mut add = |name: &str, value: Value| {
            all.insert(name.to_owned(), value);
        };
        add("deviceId", twin.identity.device_id.as_str().into());
        if let Some(module_id) = &twin.identity.module_id {
            add("moduleId", module_id.as_str().into());
        }
        add("etag", twin.etag.to_string().into());
        add("deviceEtag", identity.etag_text().into());
        add("status", identity.status.name().into());
        add("statusReason", identity.status_reason.as_deref().into());
        add("statusUpdateTime", date(identity.status_updated_time).into());
        add("connectionState", connection_state(connection.connected).into());
        add("lastActivityTime", date(connection.last_activity_time).into());
        add("cloudToDeviceMessageCount", (*messages).into());
        add("authenticationType", identity.authentication.type_name().into());
        let (primary, secondary) = identity.authentication.thumbprints();
        add("x509Thumbprint", json!({"primaryThumbprint": primary, "secondaryThumbprint": secondary}));
        add("modelId", twin.model_id.as_str().into());
        add("version", twin.version.into());
        add("tags", Value::Object(twin.tags.clone()));
        let (desired, reported) = (&twin.properties.desired, &twin.properties.reported);
        add("properties", json!({"desired": desired.with_metadata(), "reported": reported.with_metadata()}));
        add("capabilities", json!({"iotEdge": identity.iot_edge}));
        if !twin.configurations.is_empty() {
            add("configurations", json!(twin.configurations));
        }
        if let Some(scope) = &identity.device_scope {
            add("deviceScope", scope.as_str().into());
        }
        if !identity.parent_scopes.is_empty() {
            add("parentScopes", identity.parent_scopes.clone().into());
        }
        Value::Object(all)
    }
}

pub fn connection_state(connected: bool) -> &'static str {
    if connected { "Connected" } else { "Disconnected" }
}

/// Azure's dates: seven digits of a second, and none at all for "never".
pub fn date(at: Timestamp) -> String {
    if at == Timestamp::NEVER { format!("{}Z", at.iso_seconds()) } else { at.iso7() }
}

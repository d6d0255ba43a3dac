//! A line of the file that an export writes and an import reads (`iothub-service.md` §9): an identity and its twin.

use base::IfMatch;
use base::json::Object;
use serde_json::{Value, json};

use crate::device::{Authentication, BulkItem, Change, Draft, Identity, ImportMode};
use crate::error::Error;
use crate::twin::DeviceTwin;
use crate::twin::rules::TwinParts;

/// Writes a line with its end.
pub(super) fn write(to: &mut Vec<u8>, identity: &Identity, twin: &DeviceTwin, excludes_keys: bool) {
    let mut line = Object::new();
    let mut add = |name: &str, value: Value| {
        line.insert(name.to_owned(), value);
    };
    add("id", identity.id.device_id.as_str().into());
    if let Some(module_id) = &identity.id.module_id {
        add("moduleId", module_id.as_str().into());
    }
    add("eTag", identity.etag_text().into());
    add("status", identity.status.name().into());
    if let Some(reason) = &identity.status_reason {
        add("statusReason", reason.as_str().into());
    }
    add("authentication", authentication(&identity.authentication, excludes_keys));
    add("twinETag", twin.etag.to_string().into());
    add("tags", Value::Object(twin.tags.clone()));
    let (desired, reported) = (&twin.properties.desired, &twin.properties.reported);
    add("properties", json!({"desired": desired.with_metadata(), "reported": reported.with_metadata()}));
    if identity.id.module_id.is_none() {
        add("capabilities", json!({"iotEdge": identity.iot_edge}));
    }
    if let Some(managed_by) = &identity.managed_by {
        add("managedBy", managed_by.as_str().into());
    }
    if let Some(scope) = &identity.device_scope {
        add("deviceScope", scope.as_str().into());
    }
    if !identity.parent_scopes.is_empty() {
        add("parentScopes", identity.parent_scopes.clone().into());
    }
    to.extend_from_slice(Value::Object(line).to_string().as_bytes());
    to.push(b'\n');
}

fn authentication(authentication: &Authentication, excludes_keys: bool) -> Value {
    let keys = match authentication {
        Authentication::Sas { primary_key, secondary_key } if !excludes_keys => {
            (Some(primary_key.text()), Some(secondary_key.text()))
        }
        _ => (None, None),
    };
    let (primary, secondary) = authentication.thumbprints();
    json!({
        "symmetricKey": {"primaryKey": keys.0, "secondaryKey": keys.1},
        "x509Thumbprint": {"primaryThumbprint": primary, "secondaryThumbprint": secondary},
        "type": authentication.type_name(),
    })
}

/// What a line asks for.
#[derive(Clone, Debug)]
pub(super) struct Line {
    pub(super) item: BulkItem,
    /// What the twin of an identity that is there becomes; nothing, where the line says nothing of it.
    pub(super) twin: Option<TwinChange>,
}

/// What is not said stays as it is.
#[derive(Clone, Debug)]
pub(super) struct TwinChange {
    pub(super) tags: Option<Object>,
    pub(super) desired: Option<Object>,
    pub(super) if_match: IfMatch,
}

impl Line {
    pub(super) fn read(text: &[u8]) -> Result<Self, Error> {
        let mut item = BulkItem::read(text).map_err(Error::DeserializationError)?;
        let Ok(Change::Write(draft, _)) = &mut item.change else { return Ok(Self { item, twin: None }) };
        let parts = match TwinParts::parse_item(text) {
            Ok(parts) => parts,
            Err(error) => return Ok(Self { item: BulkItem { change: Err(error), ..item }, twin: None }),
        };
        let TwinParts { tags, desired, reported, etag } = parts;
        let initial = match &mut **draft {
            Draft::Device(spec) => {
                spec.scopes.is_imported = true;
                &mut spec.initial_twin
            }
            Draft::Module(_, twin) => twin,
        };
        initial.reported = reported.unwrap_or_default();
        let asks_for_etag =
            matches!(item.mode, ImportMode::UpdateIfMatchEtag | ImportMode::CreateOrUpdateIfMatchEtag);
        let if_match = if asks_for_etag { IfMatch::parse(etag.as_deref()) } else { IfMatch::Any };
        let twin = (tags.is_some() || desired.is_some()).then_some(TwinChange { tags, desired, if_match });
        Ok(Self { item, twin })
    }
}

/// A line of the log of failures.
pub(super) fn write_failure(to: &mut Vec<u8>, (device_id, module_id): (&str, Option<&str>), error: &Error) {
    let mut line = Object::new();
    line.insert("deviceId".to_owned(), device_id.into());
    if let Some(module_id) = module_id {
        line.insert("moduleId".to_owned(), module_id.into());
    }
    line.insert("errorCode".to_owned(), error.code().into());
    line.insert("errorStatus".to_owned(), error.to_string().into());
    to.extend_from_slice(Value::Object(line).to_string().as_bytes());
    to.push(b'\n');
}

//! How models are stored, when they may go out of use or away, and the one patch that they take. Pure.

use base::{InstanceId, Timestamp};
use dtdl::Dtmi;
use serde_json::Value;
use serde_json::value::RawValue;

use super::record::{Definition, Model};
use super::snapshot::Snapshot;
use crate::Error;
use crate::json_patch::{Action, Operation, PatchError};

/// One for each model of an upload: they differ by a tick at least and never fall behind the last upload.
pub(crate) fn upload_times(snapshot: &Snapshot, now: Timestamp) -> impl Iterator<Item = Timestamp> {
    let last = snapshot.set.as_ref().map(|set| set.record.last_upload_time.ticks());
    (last.map_or(now.ticks(), |last| now.ticks().max(last + 1))..).map(Timestamp::from_ticks)
}

pub(crate) fn records(
    instance: &InstanceId,
    compiled: &dtdl::Model,
    text: Box<RawValue>,
    upload_time: Timestamp,
) -> (Model, Definition) {
    let model = Model {
        instance: instance.clone(),
        id: compiled.id.clone(),
        upload_time,
        decommissioned: false,
        display_name: compiled.about.display_name.clone(),
        description: compiled.about.description.clone(),
        extends: compiled.extends.clone(),
        components: compiled.components().cloned().collect(),
    };
    let definition = Definition { instance: instance.clone(), id: model.id.clone(), upload_time, text };
    (model, definition)
}

/// `[{"op":"replace","path":"/decommissioned","value":true|false}]` and nothing else.
pub(crate) fn decommission(patch: &[Operation]) -> Result<bool, PatchError> {
    let [operation] = patch else {
        return Err(PatchError::Forbidden(
            patch.get(1).map_or_else(String::new, |second| second.path.to_string()),
        ));
    };
    match (&operation.action, operation.path.segments()) {
        (Action::Replace(Value::Bool(decommissioned)), [name]) if name == "decommissioned" => {
            Ok(*decommissioned)
        }
        _ => Err(PatchError::Forbidden(operation.path.to_string())),
    }
}

/// A model may go out of use once nothing that is in use builds on it.
pub(crate) fn check_decommission(id: &Dtmi, snapshot: &Snapshot) -> Result<(), Error> {
    let in_use: Vec<&str> = snapshot
        .references_to(id)
        .filter(|model| !model.decommissioned)
        .map(|model| model.id.as_str())
        .collect();
    if in_use.is_empty() { Ok(()) } else { Err(Error::ModelReferencesNotDecommissioned(in_use.join(", "))) }
}

pub(crate) fn check_delete(id: &Dtmi, snapshot: &Snapshot) -> Result<(), Error> {
    let referring: Vec<&str> = snapshot.references_to(id).map(|model| model.id.as_str()).collect();
    if referring.is_empty() { Ok(()) } else { Err(Error::ModelReferencesNotDeleted(referring.join(", "))) }
}

//! What a set of models must fulfil before it is stored, and the one patch that models take. Pure.

use base::{InstanceId, Timestamp, caps};
use dtdl::{Dtmi, Issue, Options};
use serde_json::Value;

use super::record::Model;
use super::snapshot::Snapshot;
use crate::Error;
use crate::json_patch::{Action, Operation, PatchError};

/// The checks of POST /models, in the service's order, up to the parser.
pub(crate) fn check_upload(definitions: &[Value], snapshot: &Snapshot) -> Result<(), Error> {
    if definitions.is_empty() || !definitions.iter().all(Value::is_object) {
        return Err(Error::PayloadInvalid);
    }
    if definitions.len() > caps::MODELS_PER_CALL_MAX {
        return Err(Error::LimitExceeded(format!(
            "The number of models in a request cannot exceed {}.",
            caps::MODELS_PER_CALL_MAX
        )));
    }
    if definitions.iter().any(|definition| definition.to_string().len() > caps::MODEL_BYTES_MAX) {
        return Err(Error::LimitExceeded(format!("A model cannot exceed {} bytes.", caps::MODEL_BYTES_MAX)));
    }
    for definition in definitions {
        refuse_other_versions(definition)?;
    }
    let existing: Vec<&str> = ids(definitions).filter(|id| is_stored(id, snapshot)).collect();
    if !existing.is_empty() {
        return Err(Error::ModelAlreadyExists(existing.join(", ")));
    }
    let count = snapshot.models.len() + definitions.len();
    if i64::try_from(count).is_ok_and(|count| count > caps::MODELS_PER_INSTANCE_MAX) {
        return Err(Error::LimitExceeded(format!(
            "The number of models in an instance cannot exceed {}.",
            caps::MODELS_PER_INSTANCE_MAX
        )));
    }
    Ok(())
}

fn ids(definitions: &[Value]) -> impl Iterator<Item = &str> {
    definitions.iter().filter_map(|definition| definition.get("@id")?.as_str())
}

fn is_stored(id: &str, snapshot: &Snapshot) -> bool {
    id.parse().is_ok_and(|id: Dtmi| snapshot.get(&id).is_some())
}

/// A context that names a DTDL version which the service does not take. Anything else wrong with it is the parser's to tell.
fn refuse_other_versions(definition: &Value) -> Result<(), Error> {
    let first = match definition.get("@context") {
        Some(Value::Array(contexts)) => contexts.first(),
        other => other,
    };
    let version =
        first.and_then(Value::as_str).and_then(|context| context.strip_prefix("dtmi:dtdl:context;"));
    match version {
        Some(version) if !matches!(version, "2" | "3") => {
            let id = definition.get("@id").and_then(Value::as_str).unwrap_or("without @id");
            Err(Error::ModelVersionNotSupported(id.chars().take(caps::ID_CHARACTERS_MAX).collect()))
        }
        _ => Ok(()),
    }
}

/// Parses an upload against what is stored already.
pub(crate) fn compile(definitions: &[Value], snapshot: &Snapshot) -> Result<Vec<dtdl::Model>, Error> {
    let known = |id: &Dtmi| snapshot.models.get(id).cloned();
    dtdl::parse_models(definitions, &known, &Options::azure_digital_twins())
        .map_err(|issues| refusal(&issues))
}

/// The service tells the first problem of all; we tell as many as fit a message.
fn refusal(issues: &[Issue]) -> Error {
    const SHOWN_MAX: usize = 10;
    let shown: Vec<String> = issues.iter().take(SHOWN_MAX).map(|issue| issue.message.clone()).collect();
    Error::DtdlParserError(shown.join(" "))
}

/// The records of an upload. Times differ by a tick at least and never fall behind the last upload.
pub(crate) fn records(
    instance: &InstanceId,
    definitions: &[Value],
    compiled: &[dtdl::Model],
    snapshot: &Snapshot,
    now: Timestamp,
) -> Vec<Model> {
    let last = snapshot.set.as_ref().map(|set| set.record.last_upload_time.ticks());
    let first = last.map_or(now.ticks(), |last| now.ticks().max(last + 1));
    let model = |((definition, compiled), ticks): ((&Value, &dtdl::Model), i64)| Model {
        instance: instance.clone(),
        id: compiled.id.clone(),
        upload_time: Timestamp::from_ticks(ticks),
        decommissioned: false,
        definition: definition.clone(),
    };
    definitions.iter().zip(compiled).zip(first..).map(model).collect()
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
        .into_iter()
        .filter(|data| !data.decommissioned)
        .map(|data| data.id.as_str())
        .collect();
    if in_use.is_empty() { Ok(()) } else { Err(Error::ModelReferencesNotDecommissioned(in_use.join(", "))) }
}

pub(crate) fn check_delete(id: &Dtmi, snapshot: &Snapshot) -> Result<(), Error> {
    let referring: Vec<&str> = snapshot.references_to(id).into_iter().map(|data| data.id.as_str()).collect();
    if referring.is_empty() { Ok(()) } else { Err(Error::ModelReferencesNotDeleted(referring.join(", "))) }
}

//! What a set of models must fulfil before it is stored, and the one patch that models take. Pure.

use std::collections::BTreeSet;

use base::{InstanceId, Timestamp, caps};
use dtdl::{Dtmi, Issue, Options};
use serde_json::Value;
use serde_json::value::{RawValue, to_raw_value};

use super::compiled::Compilation;
use super::record::{Definition, Model};
use super::snapshot::Snapshot;
use crate::Error;
use crate::json_patch::{Action, Operation, PatchError};

/// The checks of POST /models, in the service's order, up to the parser. The answer is the definitions as they will be stored.
pub(crate) fn check_upload(definitions: &[Value], snapshot: &Snapshot) -> Result<Vec<Box<RawValue>>, Error> {
    if definitions.is_empty() || !definitions.iter().all(Value::is_object) {
        return Err(Error::PayloadInvalid);
    }
    if definitions.len() > caps::MODELS_PER_CALL_MAX {
        return Err(Error::LimitExceeded(format!(
            "The number of models in a request cannot exceed {}.",
            caps::MODELS_PER_CALL_MAX
        )));
    }
    let texts: Vec<Box<RawValue>> =
        definitions.iter().map(to_raw_value).collect::<Result<_, _>>().map_err(|_| Error::PayloadInvalid)?;
    if texts.iter().any(|text| text.get().len() > caps::MODEL_BYTES_MAX) {
        return Err(Error::LimitExceeded(format!("A model cannot exceed {} bytes.", caps::MODEL_BYTES_MAX)));
    }
    for definition in definitions {
        refuse_other_versions(definition)?;
    }
    let existing: Vec<&str> = ids(definitions).filter(|id| is_stored(id, snapshot)).collect();
    if !existing.is_empty() {
        return Err(Error::ModelAlreadyExists(existing.join(", ")));
    }
    let count = snapshot.len() + definitions.len();
    if i64::try_from(count).is_ok_and(|count| count > caps::MODELS_PER_INSTANCE_MAX) {
        return Err(Error::LimitExceeded(format!(
            "The number of models in an instance cannot exceed {}.",
            caps::MODELS_PER_INSTANCE_MAX
        )));
    }
    Ok(texts)
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

/// Every identifier that the definitions mention: what they extend and contain is among them, in whatever words they say so.
pub(crate) fn named(definitions: &[Value]) -> BTreeSet<Dtmi> {
    fn walk(value: &Value, found: &mut BTreeSet<Dtmi>) {
        match value {
            Value::String(text) if text.starts_with("dtmi:") => found.extend(text.parse::<Dtmi>()),
            Value::Array(items) => items.iter().for_each(|item| walk(item, found)),
            // The target of a relationship need not be there.
            Value::Object(members) => {
                members
                    .iter()
                    .filter(|(name, _)| *name != "target")
                    .for_each(|(_, member)| walk(member, found));
            }
            _ => {}
        }
    }
    let mut found = BTreeSet::new();
    for definition in definitions {
        walk(definition, &mut found);
    }
    found
}

/// Parses an upload against what is stored already.
pub(crate) fn compile(definitions: &[Value], stored: &Compilation) -> Result<Vec<dtdl::Model>, Error> {
    dtdl::parse_models(definitions, &|id| stored.get(id), &Options::azure_digital_twins()).map_err(|issues| {
        // The parser knows nothing of models that do not compile and calls them undefined.
        let broken = stored.broken().map(|(id, why)| format!("{id} is stored but cannot be used: {why}."));
        Error::DtdlParserError(broken.take(1).chain([sentences(&issues)]).collect::<Vec<_>>().join(" "))
    })
}

/// The service tells the first problem of all; we tell as many as fit a message.
pub(crate) fn sentences(issues: &[Issue]) -> String {
    const SHOWN_MAX: usize = 10;
    let shown: Vec<&str> = issues.iter().take(SHOWN_MAX).map(|issue| issue.message.as_str()).collect();
    shown.join(" ")
}

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

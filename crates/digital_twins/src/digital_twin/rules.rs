//! How a digital twin is created, replaced and patched: documents in, a document out. Pure; time and etag are arguments.
//! Called by the operations. A document leaves here only if it fits its model.

use std::collections::{BTreeMap, BTreeSet};

use base::json::Object;
use base::{InstanceId, Timestamp, caps};
use serde_json::{Value, json};

use super::record::DigitalTwin;
use super::validation;
use crate::json_patch::{self, Action, Operation, PatchError, Pointer};
use crate::model::{Shape, Shaped, Snapshot};
use crate::{DigitalTwinId, Error};

/// What a write needs to know beside its input.
pub(crate) struct Write<'a> {
    pub models: &'a Snapshot,
    /// Of the model that the draft names.
    pub shape: Shaped,
    pub etag: String,
    pub now: Timestamp,
}

/// A twin taken apart: contents without metadata, and the metadata beside them. Its model is known, what that allows not yet.
#[derive(Default)]
pub(crate) struct Draft {
    model: String,
    /// Properties and components, in order; components hold no `$metadata` here.
    contents: Object,
    /// By component (none for the root) and property.
    metadata: BTreeMap<Place, Metadata>,
    /// When each component was last written.
    components: BTreeMap<String, String>,
    touched: Touched,
}

/// A property: the component it is in, if any, and its name.
type Place = (Option<String>, String);

#[derive(Default, Clone)]
struct Metadata {
    last_update_time: String,
    source_time: Option<String>,
}

/// What a write touched: a member of the root, whole or (for a component) one property of it.
type Touched = BTreeSet<(String, Option<String>)>;

impl Draft {
    /// From the body of PUT.
    pub(crate) fn of_body(body: &Object) -> Result<Self, Error> {
        let model = body.get("$metadata").and_then(|metadata| metadata.get("$model"));
        let Some(Value::String(model)) = model else {
            return Err(Error::twin_invalid(vec![
                "$metadata.$model is required and must be a model id.".to_owned(),
            ]));
        };
        let mut draft = take_apart(body);
        draft.model.clone_from(model);
        draft.touched = draft.contents.keys().map(|name| (name.clone(), None)).collect();
        Ok(draft)
    }

    /// A twin behind a patch document.
    pub(crate) fn patched(twin: &DigitalTwin, operations: &[Operation]) -> Result<Self, Error> {
        let mut draft = take_apart(&twin.document);
        let mut touched = Touched::new();
        for operation in operations {
            draft.apply(operation, &mut touched)?;
        }
        draft.touched = touched;
        Ok(draft)
    }

    /// The id of the model that the twin will have.
    pub(crate) fn model(&self) -> &str {
        &self.model
    }
}

/// A twin from the body of PUT, replacing whatever was there `before`.
pub(crate) fn create(
    instance: &InstanceId,
    id: &DigitalTwinId,
    draft: Draft,
    before: Option<&DigitalTwin>,
    write: Write,
) -> Result<DigitalTwin, Error> {
    let shape = write.shape.clone().map_err(|why| Error::twin_invalid(vec![why]))?;
    refuse_decommissioned(&draft.model, before, write.models)?;
    refuse_bad_source_times(&draft)?;
    finish(instance, id, draft, &shape, write)
}

/// The twin after a patch document, all of it or none.
pub(crate) fn patch(twin: &DigitalTwin, draft: Draft, write: Write) -> Result<DigitalTwin, Error> {
    let shape = write.shape.clone().map_err(|why| Error::twin_invalid(vec![why]))?;
    refuse_decommissioned(&draft.model, Some(twin), write.models)?;
    refuse_bad_source_times(&draft)?;
    refuse_undeclared(&draft, &shape)?;
    finish(&twin.instance, &twin.id, draft, &shape, write)
}

/// A model out of use takes no twins any more; those that it has stay fully usable.
fn refuse_decommissioned(model: &str, before: Option<&DigitalTwin>, models: &Snapshot) -> Result<(), Error> {
    let is_decommissioned =
        model.parse().ok().and_then(|id| models.get(&id)).is_some_and(|model| model.decommissioned);
    if is_decommissioned && before.is_none_or(|before| before.model() != model) {
        return Err(Error::ModelDecommissioned(model.to_owned()));
    }
    Ok(())
}

/// What the patch itself wrote outside of the model is its own fault; what an earlier model left is a bad twin.
fn refuse_undeclared(draft: &Draft, shape: &Shape) -> Result<(), PatchError> {
    for (name, below) in &draft.touched {
        let Some(value) = draft.contents.get(name) else { continue };
        match (shape.components.get(name), below) {
            (Some(component), Some(property)) => {
                let is_there = value.get(property).is_some();
                if is_there && component.resolved.property(property).is_none() {
                    return Err(PatchError::Undeclared(property.clone()));
                }
            }
            (None, Some(property))
                if draft.metadata.contains_key(&(Some(name.clone()), property.clone())) =>
            {
                return Err(PatchError::Unresolved(format!("/{name}/$metadata/{property}/sourceTime")));
            }
            (None, _) if shape.resolved.property(name).is_none() => {
                return Err(PatchError::Undeclared(name.clone()));
            }
            _ => {}
        }
    }
    Ok(())
}

fn refuse_bad_source_times(draft: &Draft) -> Result<(), Error> {
    let is_time = |text: &str| {
        text.len() <= caps::SOURCE_TIME_BYTES_MAX
            && (text.parse::<Timestamp>().is_ok() || format!("{text}Z").parse::<Timestamp>().is_ok())
    };
    let bad = draft
        .metadata
        .iter()
        .find(|(_, metadata)| metadata.source_time.as_deref().is_some_and(|t| !is_time(t)));
    match bad {
        Some(((_, name), _)) => Err(Error::twin_invalid(vec![format!(
            "The sourceTime of {name} is not an ISO 8601 date and time."
        )])),
        None => Ok(()),
    }
}

fn finish(
    instance: &InstanceId,
    id: &DigitalTwinId,
    draft: Draft,
    shape: &Shape,
    write: Write,
) -> Result<DigitalTwin, Error> {
    let mut violations = validation::twin(shape, &draft.contents);
    let bytes = Value::Object(draft.contents.clone()).to_string().len();
    if bytes > caps::DIGITAL_TWIN_BYTES_MAX {
        violations.push(format!("The twin is larger than {} bytes.", caps::DIGITAL_TWIN_BYTES_MAX));
    }
    // The service takes no component without its metadata, not even an empty one.
    let bare = shape.components.keys().filter(|name| {
        draft.contents.get(*name).is_some_and(Value::is_object) && !draft.components.contains_key(*name)
    });
    violations
        .extend(bare.map(|name| format!("The component {name} must have $metadata, which may be empty.")));
    // Only components have metadata; taken apart before the model was known, it would be lost in silence here.
    let misplaced = draft.components.keys().filter(|name| shape.resolved.property(name).is_some());
    violations.extend(
        misplaced.map(|name| format!("The value of {name} is invalid: the name '$metadata' is not allowed.")),
    );
    if !violations.is_empty() {
        return Err(Error::twin_invalid(violations));
    }
    let document = draft.assemble(id, shape, write);
    Ok(DigitalTwin { instance: instance.clone(), id: id.clone(), document })
}

/// Splits a document of a client or of the store. `$`-members of the root other than `$dtId` and `$etag` are left for
/// validation to refuse.
fn take_apart(document: &Object) -> Draft {
    let mut draft = Draft::default();
    for (name, value) in document {
        match name.as_str() {
            "$dtId" | "$etag" => {}
            "$metadata" => draft.take_metadata(None, value),
            _ => {
                let value = draft.take_member(name, value.clone());
                draft.contents.insert(name.clone(), value);
            }
        }
    }
    draft
}

impl Draft {
    /// A component's `$metadata` goes aside; everything else stays.
    fn take_member(&mut self, name: &str, mut value: Value) -> Value {
        self.components.remove(name);
        if let Value::Object(members) = &mut value
            && let Some(metadata) = members.shift_remove("$metadata")
        {
            let time = metadata.get("$lastUpdateTime").and_then(Value::as_str).unwrap_or_default();
            self.components.insert(name.to_owned(), time.to_owned());
            self.metadata.retain(|(component, _), _| component.as_deref() != Some(name));
            self.take_metadata(Some(name), &metadata);
        }
        value
    }

    fn take_metadata(&mut self, component: Option<&str>, metadata: &Value) {
        let Some(metadata) = metadata.as_object() else { return };
        if component.is_none()
            && let Some(Value::String(model)) = metadata.get("$model")
        {
            self.model.clone_from(model);
        }
        for (name, entry) in metadata.iter().filter(|(name, _)| !name.starts_with('$')) {
            let text = |key: &str| entry.get(key).and_then(Value::as_str).map(str::to_owned);
            let entry = Metadata {
                last_update_time: text("lastUpdateTime").unwrap_or_default(),
                // What is no text is kept as its JSON, to be refused as no time.
                source_time: text("sourceTime").or_else(|| {
                    entry.get("sourceTime").filter(|value| !value.is_null()).map(Value::to_string)
                }),
            };
            self.metadata.insert((component.map(str::to_owned), name.clone()), entry);
        }
    }

    fn apply(&mut self, operation: &Operation, touched: &mut Touched) -> Result<(), PatchError> {
        let path = &operation.path;
        let segments: Vec<&str> = path.segments().iter().map(String::as_str).collect();
        match segments.as_slice() {
            ["$metadata", "$model"] => self.set_model(operation),
            ["$metadata", name, "sourceTime"] if !name.starts_with('$') => {
                touched.insert(((*name).to_owned(), None));
                self.set_source_time(None, name, operation)
            }
            [component, "$metadata", name, "sourceTime"]
                if !component.starts_with('$') && !name.starts_with('$') =>
            {
                touched.insert(((*component).to_owned(), Some((*name).to_owned())));
                self.set_source_time(Some(component), name, operation)
            }
            [] | [_, "$metadata", ..] => Err(PatchError::Forbidden(path.to_string())),
            [name, ..] if name.starts_with('$') => Err(PatchError::Forbidden(path.to_string())),
            [name] => {
                touched.insert(((*name).to_owned(), None));
                self.set_member(name, operation)
            }
            [name, below, ..] => {
                touched.insert(((*name).to_owned(), Some((*below).to_owned())));
                self.set_below(path, &operation.action)
            }
        }
    }

    fn set_model(&mut self, operation: &Operation) -> Result<(), PatchError> {
        match &operation.action {
            Action::Add(Value::String(model)) | Action::Replace(Value::String(model)) => {
                self.model.clone_from(model);
                Ok(())
            }
            _ => Err(PatchError::Forbidden(operation.path.to_string())),
        }
    }

    /// Recorded: `replace` sets a time that was not there before. The property itself must be there.
    fn set_source_time(
        &mut self,
        component: Option<&str>,
        name: &str,
        operation: &Operation,
    ) -> Result<(), PatchError> {
        let unresolved = || PatchError::Unresolved(operation.path.to_string());
        let holder = match component {
            None => Some(&self.contents),
            Some(component) => self.contents.get(component).and_then(Value::as_object),
        };
        if !holder.is_some_and(|members| members.contains_key(name)) {
            return Err(unresolved());
        }
        let entry = self.metadata.entry((component.map(str::to_owned), name.to_owned())).or_default();
        match &operation.action {
            Action::Add(Value::String(time)) | Action::Replace(Value::String(time)) => {
                entry.source_time = Some(time.clone());
            }
            Action::Remove if entry.source_time.is_some() => entry.source_time = None,
            Action::Remove => return Err(PatchError::NotFound("sourceTime".to_owned())),
            Action::Add(_) | Action::Replace(_) => {
                return Err(PatchError::Forbidden(operation.path.to_string()));
            }
        }
        Ok(())
    }

    fn set_member(&mut self, name: &str, operation: &Operation) -> Result<(), PatchError> {
        let action = match &operation.action {
            Action::Add(value) => Action::Add(self.take_member(name, value.clone())),
            Action::Replace(value) if self.contents.contains_key(name) => {
                Action::Replace(self.take_member(name, value.clone()))
            }
            other => other.clone(),
        };
        if action == Action::Remove {
            self.components.remove(name);
            self.metadata.remove(&(None, name.to_owned()));
            self.metadata.retain(|(component, _), _| component.as_deref() != Some(name));
        }
        self.apply_below(&operation.path, &action)
    }

    fn set_below(&mut self, path: &Pointer, action: &Action) -> Result<(), PatchError> {
        if let (Action::Remove, [component, name]) = (action, path.segments()) {
            self.metadata.remove(&(Some(component.clone()), name.clone()));
        }
        self.apply_below(path, action)
    }

    fn apply_below(&mut self, path: &Pointer, action: &Action) -> Result<(), PatchError> {
        let mut contents = Value::Object(std::mem::take(&mut self.contents));
        let result = json_patch::apply(&mut contents, path.segments(), action);
        if let Value::Object(contents) = contents {
            self.contents = contents;
        }
        result
    }

    /// The document in Azure's order: ids, members as they came, metadata in the order of the members.
    fn assemble(mut self, id: &DigitalTwinId, shape: &Shape, write: Write) -> Object {
        let touched = &std::mem::take(&mut self.touched);
        let now = write.now.iso_trimmed();
        let mut document = Object::new();
        let mut metadata = Object::new();
        metadata.insert("$model".to_owned(), Value::from(self.model.clone()));
        metadata.insert("$lastUpdateTime".to_owned(), Value::from(now.clone()));
        document.insert("$dtId".to_owned(), Value::from(id.as_str()));
        document.insert("$etag".to_owned(), Value::from(write.etag));
        for (name, value) in std::mem::take(&mut self.contents) {
            let is_whole = touched.contains(&(name.clone(), None));
            match value {
                Value::Object(members) if shape.components.contains_key(&name) => {
                    let component = self.assemble_component(&name, members, touched, &now);
                    document.insert(name, component);
                }
                value => {
                    let is_touched = is_whole || touched.iter().any(|(touched, _)| *touched == name);
                    let entry = self.metadata_of(&(None, name.clone()), is_touched, &now);
                    metadata.insert(name.clone(), entry);
                    document.insert(name, value);
                }
            }
        }
        document.insert("$metadata".to_owned(), Value::Object(metadata));
        document
    }

    fn assemble_component(&mut self, name: &str, mut members: Object, touched: &Touched, now: &str) -> Value {
        let is_whole = touched.contains(&(name.to_owned(), None));
        let is_touched = is_whole || touched.iter().any(|(touched, _)| touched == name);
        let before = self.components.get(name).filter(|time| !is_touched && !time.is_empty());
        let mut metadata = Object::new();
        metadata.insert("$lastUpdateTime".to_owned(), Value::from(before.map_or(now, String::as_str)));
        for property in members.keys() {
            let is_touched = is_whole || touched.contains(&(name.to_owned(), Some(property.clone())));
            let entry = self.metadata_of(&(Some(name.to_owned()), property.clone()), is_touched, now);
            metadata.insert(property.clone(), entry);
        }
        members.insert("$metadata".to_owned(), Value::Object(metadata));
        Value::Object(members)
    }

    fn metadata_of(&self, place: &Place, is_touched: bool, now: &str) -> Value {
        let before = self.metadata.get(place).cloned().unwrap_or_default();
        let is_new = is_touched || before.last_update_time.is_empty();
        let time = if is_new { now } else { before.last_update_time.as_str() };
        match before.source_time {
            Some(source_time) => json!({"lastUpdateTime": time, "sourceTime": source_time}),
            None => json!({"lastUpdateTime": time}),
        }
    }
}

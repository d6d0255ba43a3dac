//! What routes deliver: CloudEvents of twins, relationships and telemetry (digital-twins.md §6.3), put into the outbox by the
//! batch that makes the change. The rest of the house carries them as opaque envelopes.

use base::Timestamp;
use base::json::Object;
use events::headers::{self, SystemProperty};
use events::outbox::{self, Destination, Envelope};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use store::Batch;

use crate::json_patch::Operation;
use crate::{DigitalTwin, Instance, Relationship};

pub const TWIN_CREATE: &str = "Microsoft.DigitalTwins.Twin.Create";
pub const TWIN_UPDATE: &str = "Microsoft.DigitalTwins.Twin.Update";
pub const TWIN_DELETE: &str = "Microsoft.DigitalTwins.Twin.Delete";
pub const RELATIONSHIP_CREATE: &str = "Microsoft.DigitalTwins.Relationship.Create";
pub const RELATIONSHIP_UPDATE: &str = "Microsoft.DigitalTwins.Relationship.Update";
pub const RELATIONSHIP_DELETE: &str = "Microsoft.DigitalTwins.Relationship.Delete";
pub const TELEMETRY: &str = "microsoft.iot.telemetry";

/// `CloudEvents` 1.0, members in the order that the documentation prints.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CloudEvent {
    pub specversion: String,
    pub id: String,
    #[serde(rename = "type")]
    pub kind: String,
    pub source: String,
    pub data: Value,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    pub time: String,
    pub datacontenttype: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
    /// The model that telemetry is of; nothing else has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dataschema: Option<String>,
}

impl CloudEvent {
    fn new(instance: &Instance, kind: &str, subject: String, data: Value) -> Self {
        Self {
            specversion: "1.0".to_owned(),
            id: uuid::Uuid::new_v4().to_string(),
            kind: kind.to_owned(),
            source: instance.host_name().to_owned(),
            data,
            subject: Some(subject),
            time: instance.now().iso7(),
            datacontenttype: "application/json".to_owned(),
            traceparent: instance.traceparent().map(str::to_owned),
            dataschema: None,
        }
    }

    /// The attributes as message properties, named as the AMQP binding of `CloudEvents` names them.
    pub fn properties(&self) -> Vec<(String, String)> {
        let all = [
            ("specversion", Some(&self.specversion)),
            ("id", Some(&self.id)),
            ("type", Some(&self.kind)),
            ("source", Some(&self.source)),
            ("subject", self.subject.as_ref()),
            ("time", Some(&self.time)),
            ("traceparent", self.traceparent.as_ref()),
            ("dataschema", self.dataschema.as_ref()),
        ];
        let present = all.into_iter().filter_map(|(name, value)| Some((name, value?)));
        present.map(|(name, value)| (format!("cloudEvents:{name}"), value.clone())).collect()
    }
}

pub(crate) fn digital_twin_created(instance: &Instance, batch: &mut Batch, twin: &DigitalTwin) {
    whole_twin(instance, batch, TWIN_CREATE, twin);
}

pub(crate) fn digital_twin_deleted(instance: &Instance, batch: &mut Batch, twin: &DigitalTwin) {
    whole_twin(instance, batch, TWIN_DELETE, twin);
}

pub(crate) fn digital_twin_updated(
    instance: &Instance,
    batch: &mut Batch,
    twin: &DigitalTwin,
    patch: &[Operation],
) {
    let data = json!({"modelId": twin.model(), "patch": patch.iter().map(entry).collect::<Vec<_>>()});
    push(
        instance,
        batch,
        twin.id().as_str(),
        CloudEvent::new(instance, TWIN_UPDATE, twin.id().to_string(), data),
    );
}

/// A PUT over an existing twin is told as the patch that it amounts to.
pub(crate) fn digital_twin_replaced(
    instance: &Instance,
    batch: &mut Batch,
    old: &DigitalTwin,
    new: &DigitalTwin,
) {
    let mut patch = difference(old.document(), new.document());
    if old.model() != new.model() {
        patch.insert(0, json!({"value": new.model(), "path": "/$metadata/$model", "op": "replace"}));
    }
    let data = json!({"modelId": new.model(), "patch": patch});
    push(
        instance,
        batch,
        new.id().as_str(),
        CloudEvent::new(instance, TWIN_UPDATE, new.id().to_string(), data),
    );
}

pub(crate) fn relationship_created(instance: &Instance, batch: &mut Batch, relationship: &Relationship) {
    whole_relationship(instance, batch, RELATIONSHIP_CREATE, relationship);
}

pub(crate) fn relationship_deleted(instance: &Instance, batch: &mut Batch, relationship: &Relationship) {
    whole_relationship(instance, batch, RELATIONSHIP_DELETE, relationship);
}

pub(crate) fn relationship_updated(
    instance: &Instance,
    batch: &mut Batch,
    source: &DigitalTwin,
    relationship: &Relationship,
    patch: &[Operation],
) {
    let patch = patch.iter().map(entry).collect();
    relationship_patched(instance, batch, source, relationship, patch);
}

pub(crate) fn relationship_replaced(
    instance: &Instance,
    batch: &mut Batch,
    source: &DigitalTwin,
    old: &Relationship,
    new: &Relationship,
) {
    let mut patch = difference(old.document(), new.document());
    for name in ["$targetId", "$relationshipName"] {
        let (before, after) = (old.document().get(name), new.document().get(name));
        if before != after {
            patch.insert(0, json!({"value": after, "path": format!("/{name}"), "op": "replace"}));
        }
    }
    relationship_patched(instance, batch, source, new, patch);
}

/// What telemetry is published with, beside its body.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Telemetry<'a> {
    pub message_id: &'a str,
    pub source_time: Option<Timestamp>,
    pub component: Option<&'a str>,
    /// The model of the twin or of the component.
    pub model: &'a str,
    pub body: &'a Object,
}

pub(crate) fn telemetry(instance: &Instance, batch: &mut Batch, twin: &DigitalTwin, telemetry: &Telemetry) {
    let id = twin.id();
    let event = CloudEvent {
        id: telemetry.message_id.to_owned(),
        source: format!("{}/digitaltwins/{id}", instance.host_name()),
        subject: telemetry.component.map(str::to_owned),
        time: telemetry.source_time.unwrap_or_else(|| instance.now()).iso7(),
        dataschema: Some(telemetry.model.to_owned()),
        ..CloudEvent::new(instance, TELEMETRY, String::new(), Value::Object(telemetry.body.clone()))
    };
    push(instance, batch, id.as_str(), event);
}

fn whole_twin(instance: &Instance, batch: &mut Batch, kind: &str, twin: &DigitalTwin) {
    let data = Value::Object(twin.document().clone());
    push(instance, batch, twin.id().as_str(), CloudEvent::new(instance, kind, twin.id().to_string(), data));
}

fn whole_relationship(instance: &Instance, batch: &mut Batch, kind: &str, relationship: &Relationship) {
    let data = Value::Object(relationship.document().clone());
    let event = CloudEvent::new(instance, kind, subject(relationship), data);
    push(instance, batch, relationship.source().as_str(), event);
}

fn relationship_patched(
    instance: &Instance,
    batch: &mut Batch,
    source: &DigitalTwin,
    relationship: &Relationship,
    patch: Vec<Value>,
) {
    let data = json!({"modelId": source.model(), "patch": patch});
    let event = CloudEvent::new(instance, RELATIONSHIP_UPDATE, subject(relationship), data);
    push(instance, batch, relationship.source().as_str(), event);
}

fn subject(relationship: &Relationship) -> String {
    format!("{}/relationships/{}", relationship.source(), relationship.id())
}

/// One step of a patch in the order of members that events have.
fn entry(operation: &Operation) -> Value {
    let (path, op) = (operation.path.to_string(), operation.action.name());
    match operation.action.value() {
        Some(value) => json!({"value": value, "path": path, "op": op}),
        None => json!({"path": path, "op": op}),
    }
}

/// The patch over the plain members that leads from one document to the other.
fn difference(old: &Object, new: &Object) -> Vec<Value> {
    let plain = |members: &Object| -> Vec<(String, Value)> {
        let own = members.iter().filter(|(name, _)| !name.starts_with('$'));
        own.map(|(name, value)| (name.clone(), without_metadata(value))).collect()
    };
    let (old, new) = (plain(old), plain(new));
    let value_of = |members: &[(String, Value)], name: &str| members.iter().find(|(n, _)| n == name).cloned();
    let path = |name: &str| format!("/{}", name.replace('~', "~0").replace('/', "~1"));
    let gone = old.iter().filter(|(name, _)| value_of(&new, name).is_none());
    let mut patch: Vec<Value> = gone.map(|(name, _)| json!({"path": path(name), "op": "remove"})).collect();
    for (name, value) in &new {
        match value_of(&old, name) {
            None => patch.push(json!({"value": value, "path": path(name), "op": "add"})),
            Some((_, before)) if before != *value => {
                patch.push(json!({"value": value, "path": path(name), "op": "replace"}));
            }
            Some(_) => {}
        }
    }
    patch
}

fn without_metadata(value: &Value) -> Value {
    let mut value = value.clone();
    if let Value::Object(members) = &mut value {
        members.shift_remove("$metadata");
    }
    value
}

/// Events of one twin, its edges and its telemetry keep their order: the twin is the partition key.
fn push(instance: &Instance, batch: &mut Batch, twin: &str, event: CloudEvent) {
    let mut headers = headers::begin();
    headers::push_system(&mut headers, SystemProperty::ContentType, &event.datacontenttype);
    for (name, value) in event.properties() {
        headers::push_application(&mut headers, &name, &value);
    }
    let envelope = Envelope {
        instance: instance.id().clone(),
        partition_key: twin.to_owned(),
        time: instance.now(),
        destination: Destination::Routes,
        headers,
        body: serde_json::to_vec(&event.data).expect("an event is plain data"),
    };
    outbox::push(batch, &envelope);
}

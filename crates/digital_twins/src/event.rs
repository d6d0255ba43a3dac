//! What routes deliver: `CloudEvents` of twins, relationships and telemetry (digital-twins.md §6.3), put into the outbox by the
//! batch that makes the change. The rest of the house carries them as opaque envelopes.

use base::Timestamp;
use base::json::Object;
use events::headers::{self, SystemProperty};
use events::route::ATTRIBUTE_PREFIX;
use events::{Destination, Envelope, outbox};
use serde_json::{Value, json};
use store::Batch;

use crate::json_patch::Operation;
use crate::{DigitalTwin, Instance, Relationship};

pub(crate) const TWIN_CREATE: &str = "Microsoft.DigitalTwins.Twin.Create";
pub(crate) const TWIN_UPDATE: &str = "Microsoft.DigitalTwins.Twin.Update";
pub(crate) const TWIN_DELETE: &str = "Microsoft.DigitalTwins.Twin.Delete";
pub(crate) const RELATIONSHIP_CREATE: &str = "Microsoft.DigitalTwins.Relationship.Create";
pub(crate) const RELATIONSHIP_UPDATE: &str = "Microsoft.DigitalTwins.Relationship.Update";
pub(crate) const RELATIONSHIP_DELETE: &str = "Microsoft.DigitalTwins.Relationship.Delete";
pub(crate) const TELEMETRY: &str = "microsoft.iot.telemetry";

/// The attributes of a `CloudEvent` 1.0 and its data.
struct CloudEvent {
    id: String,
    kind: &'static str,
    source: String,
    data: Value,
    subject: Option<String>,
    time: Timestamp,
    traceparent: Option<String>,
    /// The model that telemetry is of; nothing else has one.
    dataschema: Option<String>,
}

impl CloudEvent {
    fn new(instance: &Instance, kind: &'static str, subject: String, data: Value) -> Self {
        Self {
            id: uuid::Uuid::new_v4().to_string(),
            kind,
            source: instance.host_name().to_owned(),
            data,
            subject: Some(subject),
            time: instance.now(),
            traceparent: instance.traceparent().map(str::to_owned),
            dataschema: None,
        }
    }

    /// The binary mode of the AMQP binding: the body is the data alone, attributes are message properties.
    fn headers(&self) -> Vec<u8> {
        let time = self.time.iso7();
        let attributes = [
            ("specversion", Some("1.0")),
            ("id", Some(self.id.as_str())),
            ("type", Some(self.kind)),
            ("source", Some(self.source.as_str())),
            ("subject", self.subject.as_deref()),
            ("time", Some(time.as_str())),
            ("traceparent", self.traceparent.as_deref()),
            ("dataschema", self.dataschema.as_deref()),
        ];
        let mut headers = headers::begin();
        headers::push_system(&mut headers, SystemProperty::ContentType, "application/json");
        for (name, value) in attributes {
            if let Some(value) = value {
                headers::push_application(&mut headers, &format!("{ATTRIBUTE_PREFIX}{name}"), value);
            }
        }
        headers
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
        &CloudEvent::new(instance, TWIN_UPDATE, twin.id().to_string(), data),
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
        &CloudEvent::new(instance, TWIN_UPDATE, new.id().to_string(), data),
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
    let patch: Vec<Value> = patch.iter().map(entry).collect();
    relationship_patched(instance, batch, source, relationship, &patch);
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
    relationship_patched(instance, batch, source, new, &patch);
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
        time: telemetry.source_time.unwrap_or_else(|| instance.now()),
        dataschema: Some(telemetry.model.to_owned()),
        ..CloudEvent::new(instance, TELEMETRY, String::new(), Value::Object(telemetry.body.clone()))
    };
    push(instance, batch, id.as_str(), &event);
}

fn whole_twin(instance: &Instance, batch: &mut Batch, kind: &'static str, twin: &DigitalTwin) {
    let data = Value::Object(twin.document().clone());
    push(instance, batch, twin.id().as_str(), &CloudEvent::new(instance, kind, twin.id().to_string(), data));
}

fn whole_relationship(
    instance: &Instance,
    batch: &mut Batch,
    kind: &'static str,
    relationship: &Relationship,
) {
    let data = Value::Object(relationship.document().clone());
    let event = CloudEvent::new(instance, kind, subject(relationship), data);
    push(instance, batch, relationship.source().as_str(), &event);
}

fn relationship_patched(
    instance: &Instance,
    batch: &mut Batch,
    source: &DigitalTwin,
    relationship: &Relationship,
    patch: &[Value],
) {
    let data = json!({"modelId": source.model(), "patch": patch});
    let event = CloudEvent::new(instance, RELATIONSHIP_UPDATE, subject(relationship), data);
    push(instance, batch, relationship.source().as_str(), &event);
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
    let mut steps: Vec<Value> = gone.map(|(name, _)| json!({"path": path(name), "op": "remove"})).collect();
    for (name, value) in &new {
        match value_of(&old, name) {
            None => steps.push(json!({"value": value, "path": path(name), "op": "add"})),
            Some((_, before)) if before != *value => {
                steps.push(json!({"value": value, "path": path(name), "op": "replace"}));
            }
            Some(_) => {}
        }
    }
    steps
}

fn without_metadata(value: &Value) -> Value {
    let mut value = value.clone();
    if let Value::Object(members) = &mut value {
        members.shift_remove("$metadata");
    }
    value
}

/// Events of one twin, its edges and its telemetry keep their order: the twin is the partition key.
fn push(instance: &Instance, batch: &mut Batch, twin: &str, event: &CloudEvent) {
    let envelope = Envelope {
        instance: instance.id().clone(),
        partition_key: twin.to_owned(),
        time: instance.now(),
        destination: Destination::Routes,
        headers: event.headers(),
        body: serde_json::to_vec(&event.data).expect("JSON can be written"),
    };
    outbox::push(batch, &envelope);
}

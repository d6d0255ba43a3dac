//! What a relationship must fulfil: a declared name, a fitting target, declared properties. Pure.
//! Called by the operations; a document leaves here only if the source's model allows it.

use base::caps;
use base::json::Object;
use serde_json::Value;

use super::record::Relationship;
use crate::digital_twin::validation;
use crate::json_patch::{self, Operation, PatchError};
use crate::model::{Shaped, Snapshot};
use crate::{DigitalTwin, DigitalTwinId, Error, RelationshipId};

const OWN_MEMBERS: [&str; 5] = ["$relationshipId", "$etag", "$sourceId", "$relationshipName", "$targetId"];

/// All models, and what a twin of the source's may hold.
type Models<'a> = (&'a Snapshot, Shaped);

/// What the body of PUT says of the ends; the path says the rest.
pub(crate) fn target_of(source: &DigitalTwinId, body: &Object) -> Result<DigitalTwinId, Error> {
    let missing: Vec<String> = ["$relationshipName", "$targetId"]
        .into_iter()
        .filter(|name| !matches!(body.get(*name), Some(Value::String(text)) if !text.is_empty()))
        .map(|name| format!("{name} is required and must be a string."))
        .collect();
    if !missing.is_empty() {
        return Err(Error::relationship_invalid(missing));
    }
    let target = body.get("$targetId").and_then(Value::as_str).unwrap_or_default();
    let target: DigitalTwinId = target.parse().map_err(|_| Error::TargetDigitalTwinNotFound)?;
    if target == *source { Err(Error::OperationNotAllowed) } else { Ok(target) }
}

/// A relationship from the body of PUT, replacing whatever was there.
pub(crate) fn create(
    (source, target): (&DigitalTwin, &DigitalTwin),
    id: &RelationshipId,
    body: &Object,
    models: Models,
    etag: String,
) -> Result<Relationship, Error> {
    let name = body.get("$relationshipName").and_then(Value::as_str).unwrap_or_default();
    let mut document = Object::new();
    document.insert("$relationshipId".to_owned(), Value::from(id.as_str()));
    document.insert("$etag".to_owned(), Value::from(etag));
    document.insert("$sourceId".to_owned(), Value::from(source.id().as_str()));
    document.insert("$relationshipName".to_owned(), Value::from(name));
    document.insert("$targetId".to_owned(), Value::from(target.id().as_str()));
    let properties = body.iter().filter(|(name, _)| !OWN_MEMBERS.contains(&name.as_str()));
    document.extend(properties.map(|(name, value)| (name.clone(), value.clone())));
    let relationship = Relationship {
        instance: source.instance.clone(),
        source: source.id().clone(),
        id: id.clone(),
        target: target.id().clone(),
        document,
    };
    validate(&relationship, Some(target), models)?;
    Ok(relationship)
}

/// The relationship after a patch document, all of it or none. Its ends and its name stay.
pub(crate) fn patch(
    old: &Relationship,
    operations: &[Operation],
    models: Models,
    etag: String,
) -> Result<Relationship, Error> {
    let mut document = Value::Object(old.document.clone());
    for operation in operations {
        match operation.path.segments() {
            [name, ..] if !name.starts_with('$') => {
                json_patch::apply(&mut document, operation.path.segments(), &operation.action)?;
            }
            _ => return Err(PatchError::Forbidden(operation.path.to_string()).into()),
        }
    }
    let Value::Object(mut document) = document else { return Err(Error::PayloadInvalid) };
    document.insert("$etag".to_owned(), Value::from(etag));
    let new = Relationship { document, ..old.clone() };
    validate(&new, None, models)?;
    Ok(new)
}

/// `target`: its model is checked too, which an existing relationship has behind it.
fn validate(
    relationship: &Relationship,
    target: Option<&DigitalTwin>,
    (models, shape): Models,
) -> Result<(), Error> {
    let shape = shape.map_err(|why| Error::relationship_invalid(vec![why]))?;
    let declared = shape.resolved.relationship(relationship.name()).ok_or(Error::RelationshipNotInModel)?;
    if let (Some(wanted), Some(target)) = (&declared.target, target) {
        check_target(wanted, target, models)?;
    }
    let properties: Object = relationship
        .document
        .iter()
        .filter(|(name, _)| !OWN_MEMBERS.contains(&name.as_str()))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    let mut violations = validation::relationship(declared, &properties);
    let bytes = Value::Object(relationship.document.clone()).to_string().len();
    if bytes > caps::DIGITAL_TWIN_BYTES_MAX {
        violations.push(format!("The relationship is larger than {} bytes.", caps::DIGITAL_TWIN_BYTES_MAX));
    }
    if violations.is_empty() { Ok(()) } else { Err(Error::relationship_invalid(violations)) }
}

/// A target whose model has been deleted is still taken as a target.
fn check_target(wanted: &dtdl::Dtmi, target: &DigitalTwin, models: &Snapshot) -> Result<(), Error> {
    let Ok(model) = target.model().parse::<dtdl::Dtmi>() else { return Ok(()) };
    if models.get(&model).is_none() || models.is_subtype(&model, wanted) {
        return Ok(());
    }
    Err(Error::InvalidRelationship(format!(
        "The target twin {} is of the model {model}, but the relationship requires {wanted}.",
        target.id()
    )))
}

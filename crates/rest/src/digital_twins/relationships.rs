//! `/digitaltwins/{id}/relationships` and `/incomingrelationships`.

use base::json::Object;
use digital_twins::{DigitalTwinId, Error, Relationship, RelationshipId};
use serde::Serialize;

use super::request::{changed, continuation, if_match, if_none_match, next_link, object, patch, twin_id};
use super::{At, Outcome};
use crate::wire::{Request, Response};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ListBody<'a> {
    value: Vec<&'a Object>,
    next_link: Option<String>,
}

/// The recorded order of members differs from the other lists.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct IncomingListBody<'a> {
    next_link: Option<String>,
    value: Vec<IncomingBody<'a>>,
}

#[derive(Serialize)]
struct IncomingBody<'a> {
    #[serde(rename = "$relationshipId")]
    relationship_id: &'a str,
    #[serde(rename = "$sourceId")]
    source_id: &'a str,
    #[serde(rename = "$relationshipName")]
    relationship_name: &'a str,
    #[serde(rename = "$relationshipLink")]
    relationship_link: String,
}

impl<'a> From<&'a Relationship> for IncomingBody<'a> {
    fn from(relationship: &'a Relationship) -> Self {
        let (source, id) = (relationship.source(), relationship.id());
        Self {
            relationship_id: id.as_str(),
            source_id: source.as_str(),
            relationship_name: relationship.name(),
            relationship_link: format!("/digitaltwins/{source}/relationships/{id}"),
        }
    }
}

pub(super) async fn get(at: At, request: Request) -> Outcome {
    let (source, id) = ids(&request)?;
    let relationship = at.instance.get_relationship(&at.caller, &source, &id).await?;
    Ok(read(&relationship))
}

pub(super) async fn put(at: At, request: Request) -> Outcome {
    let ((source, id), body) = (ids(&request)?, object(&request)?);
    let if_none_match = if_none_match(&request);
    let relationship =
        at.instance.put_relationship(&at.caller, (&source, &id), &body, &if_none_match).await?;
    Ok(read(&relationship))
}

pub(super) async fn update(at: At, request: Request) -> Outcome {
    let ((source, id), if_match, patch) = (ids(&request)?, if_match(&request)?, patch(&request)?);
    let relationship = at.instance.update_relationship(&at.caller, (&source, &id), &patch, &if_match).await?;
    Ok(changed(relationship.etag()))
}

pub(super) async fn delete(at: At, request: Request) -> Outcome {
    let ((source, id), if_match) = (ids(&request)?, if_match(&request)?);
    at.instance.delete_relationship(&at.caller, (&source, &id), &if_match).await?;
    Ok(Response::empty(204))
}

pub(super) async fn list(at: At, request: Request) -> Outcome {
    let (source, name) = (twin_id(&request)?, request.query("relationshipName"));
    let page =
        at.instance.list_relationships(&at.caller, &source, name, continuation(&request).as_ref()).await?;
    let value = page.items.iter().map(Relationship::document).collect();
    Ok(Response::json(200, &ListBody { value, next_link: next_link(&request, page.next.as_ref()) }))
}

pub(super) async fn list_incoming(at: At, request: Request) -> Outcome {
    let target = twin_id(&request)?;
    let page =
        at.instance.list_incoming_relationships(&at.caller, &target, continuation(&request).as_ref()).await?;
    let value = page.items.iter().map(IncomingBody::from).collect();
    Ok(Response::json(200, &IncomingListBody { next_link: next_link(&request, page.next.as_ref()), value }))
}

fn ids(request: &Request) -> Result<(DigitalTwinId, RelationshipId), Error> {
    let id = request.param("relationship").parse().map_err(|_| Error::RelationshipIdInvalid)?;
    Ok((twin_id(request)?, id))
}

fn read(relationship: &Relationship) -> Response {
    Response::json(200, relationship.document()).header("etag", relationship.etag())
}

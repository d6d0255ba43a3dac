//! `/models`: wire forms of models and their five operations.

use std::borrow::Cow;

use digital_twins::{Dtmi, Error, LanguageMap, ModelData, ModelQuery};
use serde::Serialize;
use serde_json::Value;

use super::request::{continuation, flag, model_id, next_link, page_max, patch};
use super::{At, Outcome};
use crate::wire::{Request, Response};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ModelBody<'a> {
    id: &'a str,
    description: &'a LanguageMap,
    display_name: &'a LanguageMap,
    decommissioned: bool,
    upload_time: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<Cow<'a, Value>>,
}

impl<'a> From<&'a ModelData> for ModelBody<'a> {
    fn from(data: &'a ModelData) -> Self {
        Self {
            id: data.id.as_str(),
            description: &data.description,
            display_name: &data.display_name,
            decommissioned: data.decommissioned,
            upload_time: data.upload_time.iso7_offset(),
            model: data.definition.as_ref().map(Cow::Borrowed),
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ListBody<'a> {
    value: Vec<ModelBody<'a>>,
    next_link: Option<String>,
}

pub(super) async fn add(at: At, request: Request) -> Outcome {
    let models = at.instance.create_models(&at.caller, request.body).await?;
    let created: Vec<ModelBody> = models.iter().map(ModelBody::from).collect();
    Ok(Response::json(201, &created))
}

pub(super) async fn list(at: At, request: Request) -> Outcome {
    // Given once per id, or all in one with commas, as one client can only do it. Empty is how another says none.
    let ids = request.query_all("dependenciesFor").flat_map(|ids| ids.split(',')).filter(|id| !id.is_empty());
    let dependencies_for = ids.map(model_id).collect::<Result<_, _>>()?;
    let query = ModelQuery {
        dependencies_for,
        include_definition: flag(&request, "includeModelDefinition")?,
        page_max: page_max(&request)?,
        continuation: continuation(&request),
    };
    let page = at.instance.list_models(&at.caller, &query).await?;
    let value = page.items.iter().map(ModelBody::from).collect();
    Ok(Response::json(200, &ListBody { value, next_link: next_link(&request, page.next.as_ref()) }))
}

pub(super) async fn get(at: At, request: Request) -> Outcome {
    let (id, include_definition) = (id(&request)?, flag(&request, "includeModelDefinition")?);
    let data = at.instance.get_model(&at.caller, &id, include_definition).await?;
    Ok(Response::json(200, &ModelBody::from(&data)))
}

pub(super) async fn update(at: At, request: Request) -> Outcome {
    at.instance.update_model(&at.caller, &id(&request)?, &patch(&request)?).await?;
    Ok(Response::empty(204))
}

pub(super) async fn delete(at: At, request: Request) -> Outcome {
    at.instance.delete_model(&at.caller, &id(&request)?).await?;
    Ok(Response::empty(204))
}

fn id(request: &Request) -> Result<Dtmi, Error> {
    model_id(request.param("id"))
}

//! `/digitaltwins/{id}` with its components and telemetry. Documents go through as the domain holds them, which is as Azure
//! writes them; only the oldest api-version shows less.

use base::json::Object;
use digital_twins::{Error, Telemetry};

use super::request::{changed, if_match, if_none_match, object, patch, twin_id};
use super::{At, Outcome};
use crate::wire::{Request, Response};

pub(super) async fn get(at: At, request: Request) -> Outcome {
    let twin = at.instance.get_digital_twin(&at.caller, &twin_id(&request)?).await?;
    Ok(read(&at, twin.etag(), twin.document()))
}

pub(super) async fn put(at: At, request: Request) -> Outcome {
    let (id, body) = (twin_id(&request)?, object(&request)?);
    let twin = at.instance.put_digital_twin(&at.caller, &id, &body, &if_none_match(&request)).await?;
    Ok(read(&at, twin.etag(), twin.document()))
}

pub(super) async fn update(at: At, request: Request) -> Outcome {
    let (id, if_match, patch) = (twin_id(&request)?, if_match(&request)?, patch(&request)?);
    let twin = at.instance.update_digital_twin(&at.caller, &id, &patch, &if_match).await?;
    Ok(changed(twin.etag()))
}

pub(super) async fn delete(at: At, request: Request) -> Outcome {
    let (id, if_match) = (twin_id(&request)?, if_match(&request)?);
    at.instance.delete_digital_twin(&at.caller, &id, &if_match).await?;
    Ok(Response::empty(204))
}

pub(super) async fn get_component(at: At, request: Request) -> Outcome {
    let id = twin_id(&request)?;
    let component = at.instance.get_component(&at.caller, &id, request.param("component")).await?;
    Ok(read(&at, &component.etag, &component.document))
}

pub(super) async fn update_component(at: At, request: Request) -> Outcome {
    let (id, if_match, patch) = (twin_id(&request)?, if_match(&request)?, patch(&request)?);
    let name = request.param("component");
    let twin = at.instance.update_component(&at.caller, &id, name, &patch, &if_match).await?;
    Ok(changed(twin.etag()))
}

pub(super) async fn send_telemetry(at: At, request: Request) -> Outcome {
    at.instance.send_telemetry(&at.caller, &twin_id(&request)?, &telemetry(&request)?).await?;
    Ok(Response::empty(204))
}

pub(super) async fn send_component_telemetry(at: At, request: Request) -> Outcome {
    let (id, telemetry) = (twin_id(&request)?, telemetry(&request)?);
    let component = request.param("component");
    at.instance.send_component_telemetry(&at.caller, &id, component, &telemetry).await?;
    Ok(Response::empty(204))
}

fn telemetry(request: &Request) -> Result<Telemetry, Error> {
    let message_id = request.header("message-id").ok_or(Error::MessageIdInvalid)?.to_owned();
    let name = "Telemetry-Source-Time";
    let source_time = match request.headers.get(name) {
        None => None,
        Some(value) => {
            let time = value.to_str().ok().and_then(|text| text.parse().ok());
            Some(time.ok_or(Error::ArgumentInvalid(name))?)
        }
    };
    Ok(Telemetry { message_id, source_time, body: object(request)? })
}

fn read(at: &At, etag: &str, document: &Object) -> Response {
    Response::json(200, &at.version.document(document)).header("etag", etag)
}

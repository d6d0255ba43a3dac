//! Import and export of a hub's registry as Resource Manager shows them (`iothub-service.md` §15).

use base::Timestamp;
use hub::file_upload::ContainerUri;
use hub::registry_job::{Kind, RegistryJob, RegistryJobSpec};
use resource_manager::{ResourceId, ResourceType};
use serde::Deserialize;
use serde_json::{Value, json};

use super::error::Refusal;
use super::{At, Outcome, parse};
use crate::wire::{Request, Response};

/// Of both; each has members that the other has not.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct JobRequest {
    export_blob_container_uri: Option<String>,
    exclude_keys: Option<bool>,
    export_blob_name: Option<String>,
    input_blob_container_uri: Option<String>,
    input_blob_name: Option<String>,
    output_blob_container_uri: Option<String>,
    authentication_type: Option<String>,
    include_configurations: Option<bool>,
    configurations_blob_name: Option<String>,
}

pub(super) async fn export(at: At, request: &Request) -> Outcome {
    let sent: JobRequest = parse::body(request)?;
    let required = |name: &str| Refusal::content(format!("The property '{name}' is required."));
    let output = sent.export_blob_container_uri.clone().ok_or_else(|| required("exportBlobContainerUri"))?;
    let spec = RegistryJobSpec {
        output: Some(ContainerUri::new(output)),
        output_blob: sent.export_blob_name.clone(),
        excludes_keys: sent.exclude_keys.ok_or_else(|| required("excludeKeys"))?,
        ..sent.into_spec(Kind::Export)?
    };
    create(at, request, &spec).await
}

pub(super) async fn import(at: At, request: &Request) -> Outcome {
    let sent: JobRequest = parse::body(request)?;
    let required = |name: &str| Refusal::content(format!("The property '{name}' is required."));
    let input = sent.input_blob_container_uri.clone().ok_or_else(|| required("inputBlobContainerUri"))?;
    let output = sent.output_blob_container_uri.clone().ok_or_else(|| required("outputBlobContainerUri"))?;
    let spec = RegistryJobSpec {
        input: Some(ContainerUri::new(input)),
        input_blob: sent.input_blob_name.clone(),
        output: Some(ContainerUri::new(output)),
        ..sent.into_spec(Kind::Import)?
    };
    create(at, request, &spec).await
}

pub(super) async fn list(at: At, request: &Request) -> Outcome {
    let jobs = at.manager.registry_jobs(&at.caller, &id(request)).await?;
    Ok(Response::json(200, &json!({"value": jobs.iter().map(body).collect::<Vec<_>>()})))
}

pub(super) async fn get(at: At, request: &Request) -> Outcome {
    let job = at.manager.registry_job(&at.caller, &id(request), request.param("jobId")).await?;
    Ok(Response::json(200, &body(&job)))
}

async fn create(at: At, request: &Request, spec: &RegistryJobSpec) -> Outcome {
    let job = at.manager.create_registry_job(&at.caller, &id(request), spec).await?;
    Ok(Response::json(200, &body(&job)))
}

fn id(request: &Request) -> ResourceId {
    parse::resource(request, ResourceType::IotHub)
}

impl JobRequest {
    fn into_spec(self, kind: Kind) -> Result<RegistryJobSpec, Refusal> {
        let is_identity_based = match self.authentication_type.as_deref() {
            None => false,
            Some(text) if text.eq_ignore_ascii_case("keyBased") => false,
            Some(text) if text.eq_ignore_ascii_case("identityBased") => true,
            Some(_) => {
                let message = "The property 'authenticationType' must be 'keyBased' or 'identityBased'.";
                return Err(Refusal::content(message));
            }
        };
        Ok(RegistryJobSpec {
            includes_configurations: self.include_configurations.unwrap_or_default(),
            configurations_blob: self.configurations_blob_name,
            is_identity_based,
            ..RegistryJobSpec::new(kind)
        })
    }
}

fn body(job: &RegistryJob) -> Value {
    json!({
        "jobId": job.job_id.as_str(),
        "startTimeUtc": job.created.rfc1123(),
        "endTimeUtc": job.end.map(Timestamp::rfc1123),
        "type": job.action.type_name(),
        "status": job.status.name(),
        "failureReason": job.failure,
        "statusMessage": null,
        "parentJobId": null,
    })
}

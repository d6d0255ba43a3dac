//! Import and export of the registry on the wire (`iothub-service.md` §9).

use access::Permission;
use base::Timestamp;
use base::ids::InvalidId;
use hub::file_upload::ContainerUri;
use hub::registry_job::{Kind, RegistryJob, RegistryJobId, RegistryJobSpec};
use serde::{Deserialize, Serialize};

use super::{HubAt, HubDoor, Refusal, body, handler};
use crate::router::Routes;
use crate::wire::{Request, Response};

pub(super) fn routes() -> Routes<HubDoor> {
    Routes::new()
        .on("GET", "/jobs", "Jobs_GetImportExportJobs", handler!(list))
        .requires(Permission::RegistryRead)
        .on("POST", "/jobs/create", "Jobs_CreateImportExportJob", handler!(create))
        .requires(Permission::RegistryWrite)
        .on("GET", "/jobs/{id}", "Jobs_GetImportExportJob", handler!(get))
        .requires(Permission::RegistryRead)
        .on("DELETE", "/jobs/{id}", "Jobs_CancelImportExportJob", handler!(cancel))
        .requires(Permission::RegistryWrite)
}

async fn create(at: &HubAt, request: &Request) -> Result<Response, Refusal> {
    let spec = body::<JobInput>(request)?.into_spec()?;
    let job = at.hub.create_registry_job(&at.caller, &spec).await?;
    Ok(Response::json(200, &JobBody::from(&job)))
}

async fn list(at: &HubAt, _: &Request) -> Result<Response, Refusal> {
    let jobs = at.hub.list_registry_jobs(&at.caller).await?;
    Ok(Response::json(200, &jobs.iter().map(JobBody::from).collect::<Vec<_>>()))
}

async fn get(at: &HubAt, request: &Request) -> Result<Response, Refusal> {
    let job = at.hub.get_registry_job(&at.caller, &job_id(request)?).await?;
    Ok(Response::json(200, &JobBody::from(&job)))
}

async fn cancel(at: &HubAt, request: &Request) -> Result<Response, Refusal> {
    at.hub.cancel_registry_job(&at.caller, &job_id(request)?).await?;
    Ok(Response::new(204))
}

/// What cannot be an id is one of no job.
fn job_id(request: &Request) -> Result<RegistryJobId, Refusal> {
    let id = request.param("id");
    id.parse().map_err(|error: InvalidId| hub::Error::JobNotFound(error.value).into())
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct JobInput {
    r#type: Option<String>,
    input_blob_container_uri: Option<String>,
    input_blob_name: Option<String>,
    output_blob_container_uri: Option<String>,
    output_blob_name: Option<String>,
    exclude_keys_in_export: Option<bool>,
    storage_authentication_type: Option<String>,
    include_configurations: Option<bool>,
    configurations_blob_name: Option<String>,
}

impl JobInput {
    fn into_spec(self) -> Result<RegistryJobSpec, Refusal> {
        let is = |text: &str, name: &str| text.eq_ignore_ascii_case(name);
        let kind = match self.r#type.as_deref() {
            Some(kind) if is(kind, "export") => Kind::Export,
            Some(kind) if is(kind, "import") => Kind::Import,
            _ => return Err(Refusal::Malformed("type must be export or import.".to_owned())),
        };
        let is_identity_based = match self.storage_authentication_type.as_deref() {
            None => false,
            Some(kind) if is(kind, "keyBased") => false,
            Some(kind) if is(kind, "identityBased") => true,
            Some(_) => {
                let why = "storageAuthenticationType must be keyBased or identityBased.";
                return Err(Refusal::Malformed(why.to_owned()));
            }
        };
        Ok(RegistryJobSpec {
            kind,
            input: self.input_blob_container_uri.map(ContainerUri::new),
            input_blob: self.input_blob_name,
            output: self.output_blob_container_uri.map(ContainerUri::new),
            output_blob: self.output_blob_name,
            excludes_keys: self.exclude_keys_in_export.unwrap_or_default(),
            includes_configurations: self.include_configurations.unwrap_or_default(),
            configurations_blob: self.configurations_blob_name,
            is_identity_based,
        })
    }
}

/// Containers are named and not shown: what opens them is in their names.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct JobBody<'a> {
    job_id: &'a str,
    start_time_utc: String,
    end_time_utc: Option<String>,
    r#type: &'static str,
    status: &'static str,
    progress: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    input_blob_container_uri: Option<&'static str>,
    output_blob_container_uri: &'static str,
    exclude_keys_in_export: bool,
    include_configurations: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    configurations_blob_name: Option<&'a str>,
    storage_authentication_type: &'static str,
    failure_reason: Option<&'a str>,
}

impl<'a> From<&'a RegistryJob> for JobBody<'a> {
    fn from(job: &'a RegistryJob) -> Self {
        let kind = job.action.type_name();
        Self {
            job_id: job.job_id.as_str(),
            start_time_utc: job.created.iso7(),
            end_time_utc: job.end.map(Timestamp::iso7),
            r#type: kind,
            status: job.status.name(),
            progress: job.percent(),
            input_blob_container_uri: (kind == "import").then_some(""),
            output_blob_container_uri: "",
            exclude_keys_in_export: job.action.excludes_keys(),
            include_configurations: job.action.configurations().is_some(),
            configurations_blob_name: job.action.configurations(),
            storage_authentication_type: "keyBased",
            failure_reason: job.failure.as_deref(),
        }
    }
}

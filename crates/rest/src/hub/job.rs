//! Scheduled jobs on the wire (`iothub-service.md` §8).

use access::Permission;
use base::Timestamp;
use hub::direct_method::MethodRequest;
use hub::job::{Action, Job, JobFilter, JobId, JobSpec};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::method::MethodInput;
use super::{HubAt, HubDoor, Refusal, body, handler};
use crate::paging::{self, Paging};
use crate::router::Routes;
use crate::wire::{Request, Response};

pub(super) fn routes() -> Routes<HubDoor> {
    Routes::new()
        .on("GET", "/jobs/v2/query", "Jobs_QueryScheduledJobs", handler!(list))
        .requires(Permission::JobRead)
        .on("GET", "/jobs/v2/{id}", "Jobs_GetScheduledJob", handler!(get))
        .requires(Permission::JobRead)
        .on("PUT", "/jobs/v2/{id}", "Jobs_CreateScheduledJob", handler!(create))
        .requires(Permission::JobWrite)
        .on("POST", "/jobs/v2/{id}/cancel", "Jobs_CancelScheduledJob", handler!(cancel))
        .requires(Permission::JobDelete)
}

async fn create(at: &HubAt, request: &Request) -> Result<Response, Refusal> {
    let job_id = job_id(request)?;
    let spec = body::<JobInput>(request)?.into_spec(job_id)?;
    let job = at.hub.create_job(&at.caller, &spec).await?;
    Ok(Response::json(200, &JobBody::from(&job)))
}

async fn get(at: &HubAt, request: &Request) -> Result<Response, Refusal> {
    let job_id = job_id(request)?;
    Ok(match at.hub.get_job(&at.caller, &job_id).await? {
        Some(job) => Response::json(200, &JobBody::from(&job)),
        None => Response::json(200, &UNKNOWN),
    })
}

async fn cancel(at: &HubAt, request: &Request) -> Result<Response, Refusal> {
    let job = at.hub.cancel_job(&at.caller, &job_id(request)?).await?;
    Ok(Response::json(200, &JobBody::from(&job)))
}

async fn list(at: &HubAt, request: &Request) -> Result<Response, Refusal> {
    let named = |name: &str| request.query(name).filter(|value| !value.is_empty());
    let filter = JobFilter { job_type: named("jobType"), status: named("jobStatus") };
    let Paging { size, from } = Paging::of(request).map_err(Refusal::Malformed)?;
    let page = at.hub.list_jobs(&at.caller, filter, size, from.as_ref()).await?;
    let jobs: Vec<_> = page.items.iter().map(JobBody::from).collect();
    Ok(paging::page("JobResponse", &jobs, page.next.as_ref()))
}

fn job_id(request: &Request) -> Result<JobId, Refusal> {
    request.param("id").parse().map_err(|error: base::ids::InvalidId| Refusal::Malformed(error.to_string()))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct JobInput {
    job_id: Option<String>,
    r#type: Option<String>,
    update_twin: Option<Map<String, Value>>,
    cloud_to_device_method: Option<MethodInput>,
    query_condition: Option<String>,
    start_time: Option<String>,
    max_execution_time_in_seconds: Option<u64>,
}

impl JobInput {
    fn into_spec(self, job_id: JobId) -> Result<JobSpec, Refusal> {
        let wrong = |why: &str| Refusal::Malformed(why.to_owned());
        if self.job_id.is_some_and(|id| id != job_id.as_str()) {
            return Err(wrong("jobId of the body is not that of the path."));
        }
        let action = match self.r#type.as_deref() {
            Some("scheduleUpdateTwin") => {
                let patch = self.update_twin.ok_or_else(|| wrong("updateTwin is missing."))?;
                Action::UpdateTwin { patch }
            }
            Some("scheduleDeviceMethod") => {
                let method =
                    self.cloud_to_device_method.ok_or_else(|| wrong("cloudToDeviceMethod is missing."))?;
                Action::from(MethodRequest::from(method))
            }
            _ => return Err(wrong("type must be scheduleUpdateTwin or scheduleDeviceMethod.")),
        };
        let start = self.start_time.filter(|text| !text.is_empty());
        let start = start.map(|text| text.parse::<Timestamp>()).transpose();
        Ok(JobSpec {
            job_id,
            action,
            condition: self.query_condition,
            start: start.map_err(|_| wrong("startTime is no time of ISO 8601."))?,
            max_execution_seconds: self.max_execution_time_in_seconds.filter(|seconds| *seconds > 0),
        })
    }
}

/// What the service says of a job that is not there.
const UNKNOWN: Unknown = Unknown { job_id: None, r#type: "unknown", status: "unknown" };

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Unknown {
    job_id: Option<&'static str>,
    r#type: &'static str,
    status: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct JobBody<'a> {
    job_id: &'a str,
    query_condition: Option<&'a str>,
    created_time: String,
    start_time: String,
    end_time: Option<String>,
    max_execution_time_in_seconds: u64,
    r#type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    cloud_to_device_method: Option<MethodBody<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    update_twin: Option<&'a Map<String, Value>>,
    status: &'static str,
    failure_reason: Option<&'a str>,
    status_message: Option<&'a str>,
    device_job_statistics: StatisticsBody,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct MethodBody<'a> {
    method_name: &'a str,
    payload: Option<&'a RawValue>,
    response_timeout_in_seconds: Option<u64>,
    connect_timeout_in_seconds: Option<u64>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
#[expect(clippy::struct_field_names, reason = "the service's names")]
struct StatisticsBody {
    device_count: u64,
    failed_count: u64,
    succeeded_count: u64,
    running_count: u64,
    pending_count: u64,
}

impl<'a> From<&'a Job> for JobBody<'a> {
    fn from(job: &'a Job) -> Self {
        let (update_twin, cloud_to_device_method) = match &job.action {
            Action::UpdateTwin { patch } => (Some(patch), None),
            Action::InvokeMethod { name, payload, connect_timeout_seconds, response_timeout_seconds } => {
                let payload = payload.as_deref().and_then(|text| serde_json::from_str(text).ok());
                let method = MethodBody {
                    method_name: name,
                    payload,
                    response_timeout_in_seconds: *response_timeout_seconds,
                    connect_timeout_in_seconds: *connect_timeout_seconds,
                };
                (None, Some(method))
            }
        };
        Self {
            job_id: job.job_id.as_str(),
            query_condition: job.condition.as_deref(),
            created_time: job.created.iso7(),
            start_time: job.start.iso7(),
            end_time: job.end.map(Timestamp::iso7),
            max_execution_time_in_seconds: job.max_execution_seconds,
            r#type: job.action.type_name(),
            cloud_to_device_method,
            update_twin,
            status: job.status.name(),
            failure_reason: job.failure.as_deref(),
            status_message: None,
            device_job_statistics: StatisticsBody {
                device_count: job.progress.devices(),
                failed_count: job.progress.failed,
                succeeded_count: job.progress.succeeded,
                running_count: job.progress.running,
                pending_count: 0,
            },
        }
    }
}

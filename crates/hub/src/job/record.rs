//! A job as it lies in the store, with its progress: what it has done to a device and that it has come so far are one batch. Beside it
//! one record of each device that it has touched, which `devices.jobs` shows.

use base::json::Object;
use base::{DeviceId, InstanceId, Timestamp, caps};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use store::{Key, Record, Table, table};

use crate::direct_method::MethodRequest;
use crate::error::Error;

base::checked_string!(
    /// A job's id, as the service takes them (`iothub-service.md` §8).
    JobId,
    "1 to 64 characters of a-z 0-9 - '",
    is_job_id
);

fn is_job_id(text: &str) -> bool {
    (1..=caps::JOB_ID_CHARACTERS_MAX).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-'".contains(&b))
}

/// What is done to each device.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Action {
    /// A patch of the twin, as it was sent.
    UpdateTwin { patch: Object },
    /// The payload is JSON text.
    InvokeMethod {
        name: String,
        payload: Option<String>,
        connect_timeout_seconds: Option<u64>,
        response_timeout_seconds: Option<u64>,
    },
}

impl Action {
    /// The spelling of `type` and `jobType`.
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::UpdateTwin { .. } => "scheduleUpdateTwin",
            Self::InvokeMethod { .. } => "scheduleDeviceMethod",
        }
    }
}

impl From<MethodRequest> for Action {
    fn from(request: MethodRequest) -> Self {
        Self::InvokeMethod {
            name: request.name,
            payload: request.payload.map(|raw| raw.get().to_owned()),
            connect_timeout_seconds: request.connect_timeout_seconds,
            response_timeout_seconds: request.response_timeout_seconds,
        }
    }
}

pub(super) fn raw(payload: Option<&String>) -> Result<Option<Box<RawValue>>, Error> {
    let raw = payload.map(|text| RawValue::from_string(text.clone())).transpose();
    raw.map_err(|_| Error::invalid("The payload is no JSON."))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum JobStatus {
    Queued,
    Scheduled,
    Running,
    Completed,
    Failed,
    Cancelled,
}

impl JobStatus {
    pub fn name(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Scheduled => "scheduled",
            Self::Running => "running",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    pub(super) fn has_begun(self) -> bool {
        !matches!(self, Self::Queued | Self::Scheduled)
    }

    pub(super) fn is_over(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled)
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Job {
    pub instance: InstanceId,
    pub job_id: JobId,
    pub action: Action,
    /// Which devices, as it was sent.
    pub condition: Option<String>,
    pub created: Timestamp,
    /// When it may begin.
    pub start: Timestamp,
    /// When it did.
    pub begun: Option<Timestamp>,
    pub end: Option<Timestamp>,
    pub max_execution_seconds: u64,
    pub status: JobStatus,
    pub failure: Option<String>,
    pub progress: Progress,
}

/// How far a job has come. Devices are gone through in the order of their ids.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Progress {
    /// Up to this device each that it is for was touched.
    pub(super) after: Option<DeviceId>,
    /// There is no device behind that one.
    pub(super) is_through: bool,
    pub succeeded: u64,
    pub failed: u64,
    /// Methods that were sent and not answered.
    pub running: u64,
}

impl Progress {
    pub fn devices(&self) -> u64 {
        self.succeeded + self.failed + self.running
    }

    pub(super) fn count(&mut self, status: DeviceJobStatus) {
        match status {
            DeviceJobStatus::Running => self.running += 1,
            DeviceJobStatus::Completed => self.succeeded += 1,
            DeviceJobStatus::Failed => self.failed += 1,
        }
    }

    /// A method that was under way has come to an end.
    pub(super) fn settle(&mut self, status: DeviceJobStatus) {
        self.running = self.running.saturating_sub(1);
        self.count(status);
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum DeviceJobStatus {
    Running,
    Completed,
    Failed,
}

/// What a job did to one device.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeviceJob {
    pub instance: InstanceId,
    pub job_id: JobId,
    pub device_id: DeviceId,
    pub job_type: String,
    pub status: DeviceJobStatus,
    pub created: Timestamp,
    pub start: Timestamp,
    pub updated: Timestamp,
    pub end: Option<Timestamp>,
    /// What the device answered to a method.
    pub response: Option<Response>,
    pub error: Option<Failure>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Response {
    pub status: i32,
    /// JSON text.
    pub payload: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    pub code: String,
    pub description: String,
}

impl From<&Error> for Failure {
    fn from(error: &Error) -> Self {
        Self { code: error.name().to_owned(), description: error.to_string() }
    }
}

impl DeviceJob {
    /// A device that a job comes to now.
    pub(super) fn begun(job: &Job, device_id: DeviceId, now: Timestamp) -> Self {
        Self {
            instance: job.instance.clone(),
            job_id: job.job_id.clone(),
            device_id,
            job_type: job.action.type_name().to_owned(),
            status: DeviceJobStatus::Running,
            created: job.created,
            start: now,
            updated: now,
            end: None,
            response: None,
            error: None,
        }
    }

    pub(super) fn ended(mut self, result: Result<Option<Response>, Failure>, now: Timestamp) -> Self {
        (self.updated, self.end) = (now, Some(now));
        match result {
            Ok(response) => (self.status, self.response) = (DeviceJobStatus::Completed, response),
            Err(error) => (self.status, self.error) = (DeviceJobStatus::Failed, Some(error)),
        }
        self
    }

    /// As queries over `devices.jobs` see it.
    pub fn document(&self) -> Value {
        let mut document = json!({
            "deviceId": self.device_id,
            "jobId": self.job_id,
            "jobType": self.job_type,
            "status": self.status,
            "startTimeUtc": self.start.iso7(),
            "createdDateTimeUtc": self.created.iso7(),
            "lastUpdatedDateTimeUtc": self.updated.iso7(),
        });
        if let Some(end) = self.end {
            document["endTimeUtc"] = json!(end.iso7());
        }
        if let Some(Response { status, payload }) = &self.response {
            let payload = payload.as_deref().and_then(|text| serde_json::from_str::<Value>(text).ok());
            document["outcome"] = json!({"deviceMethodResponse": {"status": status, "payload": payload}});
        }
        if let Some(error) = &self.error {
            document["error"] = json!(error);
        }
        document
    }
}

pub(super) fn job_key(instance: &InstanceId, job_id: &JobId) -> Key {
    Key::instance(instance).child(job_id.as_str())
}

impl Record for Job {
    const TABLE: Table = table::JOB;

    fn key(&self) -> Key {
        job_key(&self.instance, &self.job_id)
    }
}

impl Record for DeviceJob {
    const TABLE: Table = table::DEVICE_JOB;

    fn key(&self) -> Key {
        job_key(&self.instance, &self.job_id).child(self.device_id.as_str())
    }

    fn columns(&self) -> Vec<Option<String>> {
        let is_under_way = self.status == DeviceJobStatus::Running;
        vec![is_under_way.then(|| self.job_id.to_string())]
    }
}

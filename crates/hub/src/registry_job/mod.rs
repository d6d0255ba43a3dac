//! Import and export of the device registry (`iothub-service.md` §9): a file with a line for each identity, in a container that whoever
//! asks for the job opens. `export` and `import` do the work in steps, one house at a time (`run`).
//!
//! A step writes the job's own record and so how far it has come, and is refused when anybody else has. An export that is cut off
//! writes the block again that it was at, under the same name. An import notes what was there of each line's identity before it does
//! the line; whoever goes on leaves alone what has changed since, so that no line is done twice and none fails because of itself. Of
//! twins only writes that ask for an etag are told apart so: the others are the same a second time.

mod configurations;
mod export;
mod import;
mod line;
mod record;
mod rules;
mod run;
#[cfg(test)]
mod tests;

use std::time::Duration;

use access::{Caller, Permission};
use base::{Meter, caps};
use bytes::Bytes;
use store::{Batch, CommitError, Counter, Key, Scan, Stored, retry_on_conflict};

pub use self::record::{Action, RegistryJob, RegistryJobId, Status};
use self::record::{Progress, key_of};
use crate::due::Work;
use crate::error::Error;
use crate::file_upload::{ContainerFault, ContainerUri};
use crate::hub::Hub;
use crate::settings::HubSettings;

/// What a caller asks for, as far as it is said.
#[derive(Clone, Debug)]
pub struct RegistryJobSpec {
    pub kind: Kind,
    pub input: Option<ContainerUri>,
    pub input_blob: Option<String>,
    /// Where an export goes to, and where the failures of an import are told.
    pub output: Option<ContainerUri>,
    pub output_blob: Option<String>,
    pub excludes_keys: bool,
    pub includes_configurations: bool,
    pub configurations_blob: Option<String>,
    /// Containers are to be opened by the hub's identity, and not by their signature.
    pub is_identity_based: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Export,
    Import,
}

impl RegistryJobSpec {
    pub fn new(kind: Kind) -> Self {
        Self {
            kind,
            input: None,
            input_blob: None,
            output: None,
            output_blob: None,
            excludes_keys: false,
            includes_configurations: false,
            configurations_blob: None,
            is_identity_based: false,
        }
    }
}

impl Hub {
    /// `Jobs_CreateImportExportJob`. Durable when it returns, with containers that could be written and read just now.
    pub async fn create_registry_job(
        &self,
        caller: &Caller,
        spec: &RegistryJobSpec,
    ) -> Result<RegistryJob, Error> {
        caller.require(Permission::RegistryWrite, self.scope())?;
        if spec.kind == Kind::Import {
            // Any line may ask for it.
            caller.require(Permission::RegistryDelete, self.scope())?;
        }
        self.charge(Meter::ServiceOperation)?;
        let writes_twins = caller.require(Permission::TwinWrite, self.scope()).is_ok();
        let action = rules::action(spec, writes_twins)?;
        let job_id = RegistryJobId::generate();
        self.check_containers(&job_id, &action).await?;
        let hub = self.clone();
        self.to_the_end(async move {
            let insert = async || hub.insert_registry_job(&job_id, &action).await;
            let job = retry_on_conflict(insert).await?;
            if let Err(error) = hub.take_up_registry_job(&job.job_id).await {
                tracing::debug!(%error, job = %job.job_id, "it begins when it is looked for next");
            }
            Ok(job)
        })
        .await
    }

    /// Writes to the output container and takes that away again; looks for what is to be imported.
    async fn check_containers(&self, job_id: &RegistryJobId, action: &Action) -> Result<(), Error> {
        let files = &self.context().file_storage;
        let (Action::Export { output, .. } | Action::Import { output, .. }) = action;
        let (probe, ids) = (rules::probe_name(job_id), [rules::block_id(job_id, 0)]);
        let written = async {
            files.put_block(output, &probe, &ids[0], Bytes::from_static(b"\n")).await?;
            files.commit_blocks(output, &probe, &ids).await
        };
        written.await.map_err(|fault| refused(fault, "write to"))?;
        files.remove(output, &probe).await.map_err(|fault| refused(fault, "delete from"))?;
        let Action::Import { input, blob, .. } = action else { return Ok(()) };
        match files.read(input, blob, 0, 1).await {
            Ok(Some(_)) => Ok(()),
            Ok(None) => Err(Error::InvalidStorageEndpointOrBlob(format!(
                "The blob '{blob}' is not in the input blob container."
            ))),
            Err(ContainerFault::Refused(why)) => Err(Error::BlobContainerValidationError(format!(
                "Unauthorized to read from input blob container: {why}"
            ))),
            Err(fault) => Err(Error::InvalidStorageEndpoint(fault.to_string())),
        }
    }

    async fn insert_registry_job(
        &self,
        job_id: &RegistryJobId,
        action: &Action,
    ) -> Result<RegistryJob, Error> {
        let now = self.now();
        let job = RegistryJob {
            instance: self.instance().clone(),
            job_id: job_id.clone(),
            action: action.clone(),
            created: now,
            end: None,
            status: Status::Enqueued,
            failure: None,
            faults: 0,
            progress: Progress::default(),
        };
        let mut batch = Batch::default();
        batch.guard_exists::<HubSettings>(Key::instance(self.instance()));
        batch.insert(&job);
        batch.put(&self.due(now, Work::RegistryJob(job.job_id.clone())));
        batch.add(self.active_registry_jobs(), 1, caps::REGISTRY_JOBS_ACTIVE_MAX);
        batch.add(self.registry_jobs(), 1, caps::JOBS_KEPT_MAX);
        match self.store().commit(batch).await {
            Ok(_) => Ok(job),
            Err(CommitError::CounterLimit { counter, .. }) if counter == ACTIVE => {
                Err(Error::JobQuotaExceeded(
                    "An import or export job of the hub is enqueued or running, and only one may be."
                        .to_owned(),
                ))
            }
            Err(CommitError::CounterLimit { .. }) => Err(Error::too_many_jobs_kept()),
            Err(error) => Err(error.into()),
        }
    }

    /// `Jobs_GetImportExportJob`.
    pub async fn get_registry_job(
        &self,
        caller: &Caller,
        job_id: &RegistryJobId,
    ) -> Result<RegistryJob, Error> {
        caller.require(Permission::RegistryRead, self.scope())?;
        self.charge(Meter::ServiceOperation)?;
        let found = self.registry_job(job_id).await?;
        Ok(found.ok_or_else(|| Error::JobNotFound(job_id.to_string()))?.record)
    }

    /// `Jobs_GetImportExportJobs`: all that are kept, by id.
    pub async fn list_registry_jobs(&self, caller: &Caller) -> Result<Vec<RegistryJob>, Error> {
        caller.require(Permission::RegistryRead, self.scope())?;
        self.charge(Meter::ServiceOperation)?;
        let mut all: Vec<RegistryJob> = Vec::new();
        loop {
            let after = all.last().map(store::Record::key);
            let scan = Scan::new(Key::instance(self.instance()), caps::SCAN_PAGE).after(after);
            let page = self.store().scan::<RegistryJob>(scan).await?;
            let is_last = page.len() < caps::SCAN_PAGE;
            all.extend(page.into_iter().map(|stored| stored.record));
            if is_last {
                return Ok(all);
            }
        }
    }

    /// `Jobs_CancelImportExportJob`. What an import has done stays done; an export leaves no file.
    pub async fn cancel_registry_job(&self, caller: &Caller, job_id: &RegistryJobId) -> Result<(), Error> {
        caller.require(Permission::RegistryWrite, self.scope())?;
        self.charge(Meter::ServiceOperation)?;
        retry_on_conflict(async || {
            let found = self.registry_job(job_id).await?.filter(|job| !job.record.status.is_over());
            let old = found.ok_or_else(|| Error::JobNotFound(job_id.to_string()))?;
            let mut batch = Batch::default();
            self.end_registry_job(&mut batch, &old, Status::Cancelled, None);
            Ok(self.store().commit(batch).await.map(drop)?)
        })
        .await
    }

    async fn registry_job(&self, job_id: &RegistryJobId) -> Result<Option<Stored<RegistryJob>>, Error> {
        Ok(self.store().get::<RegistryJob>(&key_of(self.instance(), job_id)).await?)
    }

    /// What opens its containers goes with its end, the rest of it a month later.
    fn end_registry_job(
        &self,
        batch: &mut Batch,
        old: &Stored<RegistryJob>,
        status: Status,
        failure: Option<String>,
    ) {
        let now = self.now();
        let (mut progress, action) = (old.record.progress.clone(), old.record.action.closed());
        progress.under_way = None;
        let job = RegistryJob { status, failure, end: Some(now), action, progress, ..old.record.clone() };
        batch.replace(old, &job);
        batch.add(self.active_registry_jobs(), -1, caps::REGISTRY_JOBS_ACTIVE_MAX);
        let forgotten = now.plus(Duration::from_secs(caps::JOB_KEPT_SECONDS));
        batch.put(&self.due(forgotten, Work::ForgetRegistryJob(job.job_id.clone())));
    }

    pub(crate) async fn forget_registry_job(&self, job_id: &RegistryJobId) -> Result<(), Error> {
        let (now, kept) = (self.now(), Duration::from_secs(caps::JOB_KEPT_SECONDS));
        let is_old = |job: &Stored<RegistryJob>| job.record.end.is_some_and(|end| end.plus(kept) <= now);
        let Some(job) = self.registry_job(job_id).await?.filter(is_old) else { return Ok(()) };
        let mut batch = Batch::default();
        batch.delete(&job);
        batch.add(self.registry_jobs(), -1, caps::JOBS_KEPT_MAX);
        match self.store().commit(batch).await {
            // Another server has forgotten it.
            Err(CommitError::Conflict) => Ok(()),
            done => Ok(done.map(drop)?),
        }
    }

    /// Those that have not ended.
    fn active_registry_jobs(&self) -> Counter {
        Counter::new(self.instance(), ACTIVE)
    }

    fn registry_jobs(&self) -> Counter {
        Counter::new(self.instance(), "registry_jobs")
    }
}

const ACTIVE: &str = "registry_jobs/active";

impl RegistryJob {
    /// How much of it is done, in percent. All of it only at its end.
    pub fn percent(&self) -> u32 {
        if self.status == Status::Completed { 100 } else { rules::percent(&self.progress) }
    }

    /// Lines of an import that could not be done.
    pub fn failures(&self) -> u64 {
        self.progress.failures
    }
}

fn refused(fault: ContainerFault, what: &str) -> Error {
    match fault {
        ContainerFault::Refused(why) => Error::BlobContainerValidationError(format!(
            "Unauthorized to {what} output blob container: {why}"
        )),
        fault => Error::InvalidStorageEndpoint(fault.to_string()),
    }
}

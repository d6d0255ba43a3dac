//! How an import or export is done: by one house at a time under a lease. A container that does not answer is tried again later, one
//! that refuses ends the job.

use std::time::Duration;

use base::caps;
use bytes::Bytes;
use store::{Batch, Key, Stored, retry_on_conflict};

use super::record::{Action, Progress, RegistryJob, RegistryJobId, Status};
use crate::due::Work;
use crate::error::Error;
use crate::file_upload::{ContainerFault, ContainerUri};
use crate::held::Held;
use crate::hub::Hub;
use crate::settings::HubSettings;

const LEASE: Duration = Duration::from_secs(caps::JOB_LEASE_SECONDS);

/// One house's work at a job.
pub(super) struct Run {
    pub(super) hub: Hub,
    pub(super) held: Held,
    pub(super) job: Stored<RegistryJob>,
    /// Of a file that is imported.
    pub(super) part: Option<Part>,
}

/// What was read last of a file, and from where on.
pub(super) struct Part {
    pub(super) blob: String,
    pub(super) from: u64,
    pub(super) bytes: Bytes,
    pub(super) blob_bytes: u64,
}

/// What is in the way of a step.
#[derive(Debug)]
pub(super) enum Fault {
    Hub(Error),
    Container(ContainerFault),
    /// The file cannot be read, however often it is tried.
    File(String),
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Hub(error)
    }
}

impl From<store::StoreError> for Fault {
    fn from(error: store::StoreError) -> Self {
        Self::Hub(error.into())
    }
}

impl From<ContainerFault> for Fault {
    fn from(fault: ContainerFault) -> Self {
        Self::Container(fault)
    }
}

impl Hub {
    /// Begins a job or goes on with it, unless it has ended or another house is at it.
    pub(crate) async fn take_up_registry_job(&self, job_id: &RegistryJobId) -> Result<(), Error> {
        if self.registry_job(job_id).await?.is_none_or(|job| job.record.status.is_over()) {
            return Ok(());
        }
        // Should this house end meanwhile, whoever looks then goes on.
        let mut batch = Batch::default();
        batch.put(&self.due_again(caps::JOB_LEASE_SECONDS, Work::RegistryJob(job_id.clone())));
        self.store().commit(batch).await?;
        let name = format!("registry_job/{}/{job_id}", self.instance().as_str());
        let Some(held) = self.hold(&name, LEASE).await? else { return Ok(()) };
        let (hub, job_id) = (self.clone(), job_id.clone());
        self.context().tasks.spawn(async move {
            if let Err(error) = hub.run_registry_job(held.clone(), &job_id).await {
                tracing::debug!(%error, job = held.name(), "the job goes on later");
            }
            hub.give_back(&held).await;
        });
        Ok(())
    }

    pub(super) async fn run_registry_job(&self, held: Held, job_id: &RegistryJobId) -> Result<(), Error> {
        // The house before may have gone on until just now: from here on any other's step is refused.
        let begun = retry_on_conflict(async || self.begin_registry_job(job_id).await).await?;
        let Some(job) = begun else { return Ok(()) };
        let mut run = Run { hub: self.clone(), held, job, part: None };
        let is_through = match &run.job.record.action {
            Action::Export { .. } => run.export().await,
            Action::Import { .. } => run.import().await,
        };
        match is_through {
            Ok(true) => run.end(Status::Completed, None).await,
            Ok(false) => Ok(()),
            Err(Fault::Hub(error)) => Err(error),
            Err(Fault::Container(ContainerFault::Unreachable(why))) => run.put_off(why).await,
            Err(Fault::Container(fault)) => run.end(Status::Failed, Some(fault.to_string())).await,
            Err(Fault::File(why)) => run.end(Status::Failed, Some(why)).await,
        }
    }

    /// `None`: it has ended.
    pub(super) async fn begin_registry_job(
        &self,
        job_id: &RegistryJobId,
    ) -> Result<Option<Stored<RegistryJob>>, Error> {
        let found = self.registry_job(job_id).await?.filter(|job| !job.record.status.is_over());
        let Some(old) = found else { return Ok(None) };
        let job = RegistryJob { status: Status::Running, ..old.record.clone() };
        let mut batch = Batch::default();
        batch.replace(&old, &job);
        Ok(Some(self.store().commit(batch).await?.stored(job)))
    }
}

impl Run {
    pub(super) fn progress(&self) -> Progress {
        self.job.record.progress.clone()
    }

    /// Writes a step, unless the job was cancelled or another house has written one.
    pub(super) async fn write(&mut self, progress: Progress) -> Result<(), Error> {
        self.replace(RegistryJob { progress, faults: 0, ..self.job.record.clone() }).await
    }

    async fn replace(&mut self, job: RegistryJob) -> Result<(), Error> {
        let mut batch = Batch::default();
        batch.guard_exists::<HubSettings>(Key::instance(self.hub.instance()));
        batch.replace(&self.job, &job);
        self.job = self.hub.store().commit(batch).await?.stored(job);
        Ok(())
    }

    /// Whether another step may begin. The lease is kept as long as it is asked.
    pub(super) async fn goes_on(&mut self) -> Result<bool, Error> {
        self.hub.keep(&mut self.held).await?;
        Ok(!self.hub.is_ending())
    }

    /// A file as a whole, in few blocks.
    pub(super) async fn put(&self, at: &ContainerUri, blob: &str, bytes: Bytes) -> Result<(), Fault> {
        let (files, job_id) = (&self.hub.context().file_storage, &self.job.record.job_id);
        let mut ids = Vec::new();
        for (number, block) in (0..).zip(bytes.chunks(caps::REGISTRY_JOB_BLOCK_BYTES)) {
            let id = super::rules::block_id(job_id, number);
            files.put_block(at, blob, &id, bytes.slice_ref(block)).await?;
            ids.push(id);
        }
        Ok(files.commit_blocks(at, blob, &ids).await?)
    }

    async fn end(&mut self, status: Status, failure: Option<String>) -> Result<(), Error> {
        let mut batch = Batch::default();
        self.hub.end_registry_job(&mut batch, &self.job, status, failure);
        self.hub.store().commit(batch).await?;
        Ok(())
    }

    async fn put_off(&mut self, why: String) -> Result<(), Error> {
        let faults = self.job.record.faults + 1;
        if faults >= caps::REGISTRY_JOB_FAULTS_MAX {
            return self.end(Status::Failed, Some(why)).await;
        }
        tracing::warn!(job = self.held.name(), why, "a job's container is tried again later");
        self.replace(RegistryJob { faults, ..self.job.record.clone() }).await
    }
}

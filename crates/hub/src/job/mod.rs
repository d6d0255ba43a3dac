//! Jobs: one change of many twins, or one method of many devices, at a time to come (`iothub-service.md` §8). What a job has done and how
//! far it has come commit together, so that whoever goes on with it touches no device twice; `run` does the work, `due` begins it.

mod record;
mod rules;
mod run;
#[cfg(test)]
mod tests;

use std::time::Duration;

use access::{Caller, Permission};
use base::{Continuation, Meter, Page, Timestamp, caps};
use store::{Batch, CommitError, Counter, Key, Record as _, Scan, Stored, retry_on_conflict};

use self::record::job_key;
pub use self::record::{
    Action, DeviceJob, DeviceJobStatus, Failure, Job, JobId, JobStatus, Progress, Response,
};
use crate::due::Work;
use crate::error::Error;
use crate::hub::Hub;
use crate::settings::HubSettings;

/// What a caller asks for.
#[derive(Clone, Debug)]
pub struct JobSpec {
    pub job_id: JobId,
    pub action: Action,
    /// Which devices: the WHERE clause of a query, `*` or nothing for all.
    pub condition: Option<String>,
    /// Now, if it is left out or has been.
    pub start: Option<Timestamp>,
    pub max_execution_seconds: Option<u64>,
}

/// Which jobs are listed; names as the service spells them.
#[derive(Clone, Copy, Debug, Default)]
pub struct JobFilter<'a> {
    pub job_type: Option<&'a str>,
    pub status: Option<&'a str>,
}

impl JobFilter<'_> {
    fn takes(&self, job: &Job) -> bool {
        let is = |wanted: Option<&str>, name: &str| wanted.is_none_or(|want| want.eq_ignore_ascii_case(name));
        is(self.job_type, job.action.type_name()) && is(self.status, job.status.name())
    }
}

impl Hub {
    /// `Jobs_CreateScheduledJob`. Durable when it returns, as it was then; begins at once where its time has come.
    pub async fn create_job(&self, caller: &Caller, spec: &JobSpec) -> Result<Job, Error> {
        caller.require(Permission::JobWrite, self.scope())?;
        self.charge(Meter::ServiceOperation)?;
        let start = rules::check(spec, self.now())?;
        let (hub, spec) = (self.clone(), spec.clone());
        self.to_the_end(async move {
            let job = retry_on_conflict(async || hub.insert_job(&spec, start).await).await?;
            if let Err(error) = hub.take_up_job(&job.job_id).await {
                tracing::debug!(%error, job = %job.job_id, "it begins when it is looked for next");
            }
            Ok(job)
        })
        .await
    }

    async fn insert_job(&self, spec: &JobSpec, start: Timestamp) -> Result<Job, Error> {
        if self.job(&spec.job_id).await?.is_some() {
            return Err(Error::JobAlreadyExists(spec.job_id.to_string()));
        }
        let job = Job {
            instance: self.instance().clone(),
            job_id: spec.job_id.clone(),
            action: spec.action.clone(),
            condition: spec.condition.clone(),
            created: self.now(),
            start,
            begun: None,
            end: None,
            max_execution_seconds: spec.max_execution_seconds.unwrap_or(caps::JOB_SECONDS_DEFAULT),
            status: JobStatus::Queued,
            failure: None,
            progress: Progress::default(),
        };
        let mut batch = Batch::default();
        batch.guard_exists::<HubSettings>(Key::instance(self.instance()));
        batch.insert(&job);
        batch.put(&self.due(start, Work::Job(job.job_id.clone())));
        batch.add(self.active_jobs(), 1, caps::JOBS_ACTIVE_MAX);
        batch.add(self.jobs(), 1, caps::JOBS_KEPT_MAX);
        match self.store().commit(batch).await {
            Ok(_) => Ok(job),
            Err(CommitError::CounterLimit { counter, .. }) if counter == ACTIVE => {
                Err(Error::ThrottlingMaxActiveJobCountExceeded(caps::JOBS_ACTIVE_MAX))
            }
            Err(CommitError::CounterLimit { .. }) => Err(Error::too_many_jobs_kept()),
            Err(error) => Err(error.into()),
        }
    }

    /// `Jobs_GetScheduledJob`. That there is none is an answer of the service, not a refusal.
    pub async fn get_job(&self, caller: &Caller, job_id: &JobId) -> Result<Option<Job>, Error> {
        caller.require(Permission::JobRead, self.scope())?;
        self.charge(Meter::ServiceOperation)?;
        Ok(self.job(job_id).await?.map(|stored| stored.record))
    }

    /// `Jobs_CancelScheduledJob`: only before it has begun.
    pub async fn cancel_job(&self, caller: &Caller, job_id: &JobId) -> Result<Job, Error> {
        caller.require(Permission::JobDelete, self.scope())?;
        self.charge(Meter::ServiceOperation)?;
        retry_on_conflict(async || {
            let old = self.job(job_id).await?.ok_or_else(|| Error::JobNotFound(job_id.to_string()))?;
            if old.record.status.has_begun() {
                return Err(Error::OperationNotAllowedInCurrentState(old.record.status.name()));
            }
            let mut batch = Batch::default();
            let job = self.end_job(&mut batch, &old, JobStatus::Cancelled, None);
            self.store().commit(batch).await?;
            Ok(job)
        })
        .await
    }

    /// `Jobs_QueryScheduledJobs`.
    pub async fn list_jobs(
        &self,
        caller: &Caller,
        filter: JobFilter<'_>,
        page_size: usize,
        from: Option<&Continuation>,
    ) -> Result<Page<Job>, Error> {
        caller.require(Permission::JobRead, self.scope())?;
        self.charge(Meter::ServiceOperation)?;
        let decoded = from.map(Continuation::decode::<JobId>).transpose();
        let mut after = decoded.map_err(|error| Error::invalid(error.to_string()))?;
        let mut items = Vec::new();
        loop {
            let scan = Scan::new(Key::instance(self.instance()), caps::SCAN_PAGE);
            let behind = after.as_ref().map(|job_id| job_key(self.instance(), job_id));
            let page = self.store().scan::<Job>(scan.after(behind)).await?;
            let is_last = page.len() < caps::SCAN_PAGE;
            for Stored { record: job, .. } in page {
                let job_id = job.job_id.clone();
                if filter.takes(&job) {
                    if items.len() == page_size {
                        return Ok(Page { items, next: after.as_ref().map(Continuation::encode) });
                    }
                    items.push(job);
                }
                after = Some(job_id);
            }
            if is_last {
                return Ok(Page { items, next: None });
            }
        }
    }

    pub(crate) async fn job(&self, job_id: &JobId) -> Result<Option<Stored<Job>>, Error> {
        Ok(self.store().get::<Job>(&job_key(self.instance(), job_id)).await?)
    }

    /// A job that comes to its end; it is forgotten a month later.
    fn end_job(
        &self,
        batch: &mut Batch,
        old: &Stored<Job>,
        status: JobStatus,
        failure: Option<String>,
    ) -> Job {
        let now = self.now();
        let job = Job { status, failure, end: Some(now), ..old.record.clone() };
        batch.replace(old, &job);
        batch.add(self.active_jobs(), -1, caps::JOBS_ACTIVE_MAX);
        let forgotten = now.plus(Duration::from_secs(caps::JOB_KEPT_SECONDS));
        batch.put(&self.due(forgotten, Work::ForgetJob(job.job_id.clone())));
        job
    }

    /// The job goes last, so that what is cut off is done again.
    pub(crate) async fn forget_job(&self, job_id: &JobId) -> Result<(), Error> {
        let (now, kept) = (self.now(), Duration::from_secs(caps::JOB_KEPT_SECONDS));
        let is_old = |job: &Stored<Job>| job.record.end.is_some_and(|end| end.plus(kept) <= now);
        let Some(job) = self.job(job_id).await?.filter(is_old) else { return Ok(()) };
        loop {
            let scan = Scan::new(job_key(self.instance(), job_id), caps::SCAN_PAGE);
            let page = self.store().scan::<DeviceJob>(scan).await?;
            let mut batch = Batch::default();
            for device in &page {
                batch.remove::<DeviceJob>(device.record.key());
            }
            let is_last = page.len() < caps::SCAN_PAGE;
            if is_last {
                batch.delete(&job);
                batch.add(self.jobs(), -1, caps::JOBS_KEPT_MAX);
            }
            match self.store().commit(batch).await {
                // Another server has forgotten it.
                Err(CommitError::Conflict) => return Ok(()),
                done => done.map(drop)?,
            }
            if is_last {
                return Ok(());
            }
        }
    }

    /// Jobs that have not ended.
    fn active_jobs(&self) -> Counter {
        Counter::new(self.instance(), ACTIVE)
    }

    fn jobs(&self) -> Counter {
        Counter::new(self.instance(), "jobs")
    }
}

const ACTIVE: &str = "jobs/active";

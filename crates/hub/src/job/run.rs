//! How a job is done: by one house at a time under a lease, some devices after another. Every step writes the job itself and is refused
//! when anybody else has; a method is written down before it is sent, so that what is cut off is told as failed and never sent again.

use std::collections::BTreeSet;
use std::time::Duration;

use base::ids::IdentityId;
use base::{DeviceId, Timestamp, caps};
use query::hub::Condition;
use store::{Batch, CommitError, Find, Key, Scan, Stored, retry_on_conflict};
use tokio::sync::mpsc;

use super::record::{Action, DeviceJob, DeviceJobStatus, Failure, Job, JobId, JobStatus, Progress, Response};
use super::rules::{self, Targets};
use crate::configuration::Fence;
use crate::direct_method::MethodRequest;
use crate::due::Work;
use crate::error::Error;
use crate::held::Held;
use crate::hub::Hub;
use crate::identity::{DEVICE, identity_key};
use crate::settings::HubSettings;
use crate::twin::rules as twin_rules;
use crate::twin::{DeviceTwin, TwinPatch};

const LEASE: Duration = Duration::from_secs(caps::JOB_LEASE_SECONDS);

/// What a step finds of itself when it could not be written.
pub(super) enum Step {
    Done,
    /// A device's record changed meanwhile: with fewer at once it is less likely.
    Again,
}

/// The devices that come next.
struct Next {
    twins: Vec<Stored<DeviceTwin>>,
    progress: Progress,
}

/// A method that was sent, and what became of it.
type Told = (Stored<DeviceJob>, Result<Option<Response>, Failure>);

/// One house's work at a job.
pub(super) struct Run {
    pub(super) hub: Hub,
    pub(super) held: Held,
    pub(super) job: Stored<Job>,
    pub(super) targets: Targets,
}

impl Hub {
    /// Begins a job or goes on with it, unless its time has not come, it has ended, or another house is at it.
    pub(crate) async fn take_up_job(&self, job_id: &JobId) -> Result<(), Error> {
        let Some(job) = self.job(job_id).await?.filter(|job| !job.record.status.is_over()) else {
            return Ok(());
        };
        if job.record.start > self.now() {
            return self.schedule_job(&job).await;
        }
        // Should this house end meanwhile, whoever looks then goes on.
        let mut batch = Batch::default();
        batch.put(&self.due_again(caps::JOB_LEASE_SECONDS, Work::Job(job_id.clone())));
        self.store().commit(batch).await?;
        let name = format!("job/{}/{job_id}", self.instance().as_str());
        let Some(held) = self.hold(&name, LEASE).await? else { return Ok(()) };
        let (hub, job_id) = (self.clone(), job_id.clone());
        self.context().tasks.spawn(async move {
            if let Err(error) = hub.run_job(held.clone(), &job_id).await {
                tracing::debug!(%error, job = held.name(), "the job goes on later");
            }
            hub.give_back(&held).await;
        });
        Ok(())
    }

    async fn schedule_job(&self, job: &Stored<Job>) -> Result<(), Error> {
        let mut batch = Batch::default();
        batch.put(&self.due(job.record.start, Work::Job(job.record.job_id.clone())));
        batch.replace(job, &Job { status: JobStatus::Scheduled, ..job.record.clone() });
        match self.store().commit(batch).await {
            // It was cancelled.
            Err(CommitError::Conflict) => Ok(()),
            done => Ok(done.map(drop)?),
        }
    }

    pub(super) async fn run_job(&self, held: Held, job_id: &JobId) -> Result<(), Error> {
        // The house before may have gone on until just now: from here on any other's step is refused.
        let Some(job) = retry_on_conflict(async || self.begin_job(job_id).await).await? else {
            return Ok(());
        };
        let parsed = Targets::parse(job.record.condition.as_deref());
        let targets = parsed.clone().unwrap_or(Targets::All);
        let mut run = Run { hub: self.clone(), held, job, targets };
        run.end_what_was_cut_off().await?;
        if let Err(why) = parsed {
            return run.end(JobStatus::Failed, Some(why)).await;
        }
        match run.job.record.action.clone() {
            Action::UpdateTwin { patch } => run.patch_twins(&rules::twin_patch(&patch)?).await?,
            action @ Action::InvokeMethod { .. } => run.invoke_methods(&action).await?,
        }
        if run.job.record.progress.is_through {
            return run.end(JobStatus::Completed, None).await;
        }
        if run.is_overtime() {
            let seconds = run.job.record.max_execution_seconds;
            let why = format!("The job did not end within {seconds} seconds, its maxExecutionTimeInSeconds.");
            return run.end(JobStatus::Failed, Some(why)).await;
        }
        Ok(())
    }

    /// `None`: it has ended.
    pub(super) async fn begin_job(&self, job_id: &JobId) -> Result<Option<Stored<Job>>, Error> {
        let Some(old) = self.job(job_id).await?.filter(|job| !job.record.status.is_over()) else {
            return Ok(None);
        };
        let begun = old.record.begun.or(Some(self.now()));
        let job = Job { status: JobStatus::Running, begun, ..old.record.clone() };
        let mut batch = Batch::default();
        batch.replace(&old, &job);
        Ok(Some(self.store().commit(batch).await?.stored(job)))
    }
}

impl Run {
    /// Whatever was under way at the house before has no answer any more.
    async fn end_what_was_cut_off(&mut self) -> Result<(), Error> {
        loop {
            let job_id = self.job.record.job_id.as_str();
            let find =
                Find::new(Key::instance(self.hub.instance()), "under_way", job_id, caps::JOB_DEVICES_AT_ONCE);
            let left = self.hub.store().find::<DeviceJob>(find).await?;
            if left.is_empty() {
                return Ok(());
            }
            let (mut batch, mut job) = (Batch::default(), self.job.record.clone());
            for device in &left {
                let ended = device.record.clone().ended(Err(cut_off()), self.hub.now());
                job.progress.settle(ended.status);
                batch.replace(device, &ended);
            }
            self.write(batch, job).await?;
        }
    }

    /// One patch of many twins, as many at once as nobody else is writing.
    async fn patch_twins(&mut self, patch: &TwinPatch) -> Result<(), Error> {
        let (mut size, mut again) = (caps::JOB_DEVICES_AT_ONCE, 0);
        while self.goes_on().await? {
            match self.patch_some(patch, size).await? {
                Step::Done => (size, again) = (caps::JOB_DEVICES_AT_ONCE, 0),
                Step::Again if again < caps::CONFLICT_RETRIES_MAX => {
                    (size, again) = ((size / 2).max(1), again + 1);
                }
                Step::Again => return Err(Error::ServerBusy),
            }
        }
        Ok(())
    }

    pub(super) async fn patch_some(&mut self, patch: &TwinPatch, size: usize) -> Result<Step, Error> {
        let fence = self.hub.fence().await?;
        let Next { twins, mut progress } = self.next(size).await?;
        let (mut batch, mut told, now) = (Batch::default(), Vec::new(), self.hub.now());
        fence.guard(&self.hub, &mut batch);
        for twin in &twins {
            let device_id = twin.record.identity.device_id.clone();
            let applied = match twin_rules::apply(&twin.record, patch, now) {
                Ok(Some(applied)) => Ok(Some(self.hub.settled(&fence, &twin.record, applied).await?)),
                other => other,
            };
            if let Ok(Some(applied)) = &applied {
                self.hub.change_twin(&mut batch, twin, applied);
            }
            let device = DeviceJob::begun(&self.job.record, device_id, now);
            let device = device.ended(applied.as_ref().map(|_| None).map_err(Failure::from), now);
            progress.count(device.status);
            batch.insert(&device);
            if let Ok(Some(applied)) = applied {
                told.extend(applied.desired_notification.map(|patch| (applied.twin, patch)));
            }
        }
        let job = Job { progress, ..self.job.record.clone() };
        match self.write_fenced(batch, job, Some(fence)).await {
            Ok(()) => {}
            Err(Error::Conflict) if self.is_unchanged().await? => return Ok(Step::Again),
            Err(error) => return Err(error),
        }
        self.hub.tell_desired(told).await;
        Ok(Step::Done)
    }

    /// One method of many devices, some at the same time.
    async fn invoke_methods(&mut self, action: &Action) -> Result<(), Error> {
        let (tell, mut told) = mpsc::channel::<Told>(caps::JOB_METHODS_AT_ONCE);
        let mut under_way = 0;
        loop {
            let goes_on = self.goes_on().await?;
            if goes_on && under_way < caps::JOB_METHODS_AT_ONCE {
                under_way += self.attempt(action, caps::JOB_METHODS_AT_ONCE - under_way, &tell).await?;
                continue;
            }
            if under_way == 0 {
                return Ok(());
            }
            tokio::select! {
                Some((device, result)) = told.recv() => {
                    under_way -= 1;
                    self.settle(&device, result).await?;
                }
                // The lease goes on meanwhile.
                () = self.hub.clock().sleep(LEASE / 3) => {}
            }
        }
    }

    /// Writes down that methods are sent, and sends them; gives how many.
    async fn attempt(
        &mut self,
        action: &Action,
        size: usize,
        tell: &mpsc::Sender<Told>,
    ) -> Result<usize, Error> {
        let Next { twins, mut progress } = self.next(size).await?;
        let (mut batch, now) = (Batch::default(), self.hub.now());
        let begun = |twin: &Stored<DeviceTwin>| {
            DeviceJob::begun(&self.job.record, twin.record.identity.device_id.clone(), now)
        };
        let devices: Vec<DeviceJob> = twins.iter().map(begun).collect();
        for device in &devices {
            progress.count(DeviceJobStatus::Running);
            batch.insert(device);
        }
        self.write(batch, Job { progress, ..self.job.record.clone() }).await?;
        let revision = self.job.revision;
        let sent = devices.len();
        for device in devices {
            let (hub, request, tell) = (self.hub.clone(), rules::method_request(action)?, tell.clone());
            let until = self.overtime();
            self.hub.context().tasks.spawn(async move {
                let result = hub.invoke_for_job(&device.device_id, &request, until).await;
                // Nobody hears it when the run has ended: whoever goes on says that it was cut off.
                drop(tell.send((Stored { record: device, revision }, result)).await);
            });
        }
        Ok(sent)
    }

    async fn settle(
        &mut self,
        device: &Stored<DeviceJob>,
        result: Result<Option<Response>, Failure>,
    ) -> Result<(), Error> {
        let (mut batch, mut job) = (Batch::default(), self.job.record.clone());
        let ended = device.record.clone().ended(result, self.hub.now());
        job.progress.settle(ended.status);
        batch.replace(device, &ended);
        self.write(batch, job).await
    }

    async fn end(&mut self, status: JobStatus, failure: Option<String>) -> Result<(), Error> {
        let mut batch = Batch::default();
        self.hub.end_job(&mut batch, &self.job, status, failure);
        self.hub.store().commit(batch).await?;
        Ok(())
    }

    /// Writes a step, unless another house has written one.
    async fn write(&mut self, batch: Batch, job: Job) -> Result<(), Error> {
        self.write_fenced(batch, job, None).await
    }

    async fn write_fenced(&mut self, mut batch: Batch, job: Job, fence: Option<Fence>) -> Result<(), Error> {
        batch.guard_exists::<HubSettings>(Key::instance(self.hub.instance()));
        batch.replace(&self.job, &job);
        let committed = match fence {
            Some(fence) => self.hub.commit_fenced(batch, fence).await?,
            None => self.hub.store().commit(batch).await?,
        };
        self.job = committed.stored(job);
        Ok(())
    }

    async fn is_unchanged(&self) -> Result<bool, Error> {
        let now = self.hub.job(&self.job.record.job_id).await?;
        Ok(now.is_some_and(|now| now.revision == self.job.revision))
    }

    /// Whether more devices may be taken up. The lease is kept as long as it is asked.
    async fn goes_on(&mut self) -> Result<bool, Error> {
        self.hub.keep(&mut self.held).await?;
        Ok(!self.hub.is_ending() && !self.job.record.progress.is_through && !self.is_overtime())
    }

    fn overtime(&self) -> Timestamp {
        let begun = self.job.record.begun.unwrap_or(self.job.record.start);
        begun.plus(Duration::from_secs(self.job.record.max_execution_seconds))
    }

    fn is_overtime(&self) -> bool {
        self.hub.now() >= self.overtime()
    }

    /// The next devices that the job is for, and how far it has come with them.
    async fn next(&self, size: usize) -> Result<Next, Error> {
        let mut progress = self.job.record.progress.clone();
        let twins = match &self.targets {
            Targets::All => self.next_of_all(&mut progress, size).await?,
            Targets::Devices(ids) => self.next_of(ids, &mut progress, size).await?,
            Targets::Where(condition) => self.next_where(condition, &mut progress, size).await?,
        };
        Ok(Next { twins, progress })
    }

    async fn next_of_all(
        &self,
        progress: &mut Progress,
        size: usize,
    ) -> Result<Vec<Stored<DeviceTwin>>, Error> {
        let instance = self.hub.instance();
        let key = |device_id: &DeviceId| identity_key(instance, &IdentityId::device(device_id.clone()));
        let scan = Scan::new(Key::new([instance.as_str(), DEVICE]), size);
        let twins = self.hub.store().scan::<DeviceTwin>(scan.after(progress.after.as_ref().map(key))).await?;
        progress.is_through = twins.len() < size;
        if let Some(last) = twins.last() {
            progress.after = Some(last.record.identity.device_id.clone());
        }
        Ok(twins)
    }

    async fn next_of(
        &self,
        ids: &BTreeSet<DeviceId>,
        progress: &mut Progress,
        size: usize,
    ) -> Result<Vec<Stored<DeviceTwin>>, Error> {
        use std::ops::Bound::{Excluded, Unbounded};
        let after = progress.after.clone();
        let left = ids.range((after.as_ref().map_or(Unbounded, Excluded), Unbounded));
        let next: Vec<DeviceId> = left.take(size).cloned().collect();
        progress.is_through = next.len() < size;
        if let Some(last) = next.last() {
            progress.after = Some(last.clone());
        }
        self.twins_of(&next).await
    }

    /// At most one look's worth: where few are meant, a step may find nobody and come further all the same.
    async fn next_where(
        &self,
        condition: &Condition,
        progress: &mut Progress,
        size: usize,
    ) -> Result<Vec<Stored<DeviceTwin>>, Error> {
        let after = progress.after.as_ref().map(|device_id| vec![device_id.to_string()]);
        let caller = access::Caller::system();
        let (ids, looked_at) = self.hub.devices_where(caller.object_id(), condition, after, size).await?;
        progress.is_through = looked_at.is_none();
        progress.after = looked_at.or_else(|| progress.after.take());
        self.twins_of(&ids).await
    }

    async fn twins_of(&self, ids: &[DeviceId]) -> Result<Vec<Stored<DeviceTwin>>, Error> {
        let mut twins = Vec::new();
        for device_id in ids {
            let key = identity_key(self.hub.instance(), &IdentityId::device(device_id.clone()));
            // Who is not there is not meant, as a condition means it.
            twins.extend(self.hub.store().get::<DeviceTwin>(&key).await?);
        }
        Ok(twins)
    }
}

impl Hub {
    /// Waits where the hub has no room for another method now: nothing was sent then.
    async fn invoke_for_job(
        &self,
        device_id: &DeviceId,
        request: &MethodRequest,
        until: Timestamp,
    ) -> Result<Option<Response>, Failure> {
        let (caller, id) = (access::Caller::system(), IdentityId::device(device_id.clone()));
        loop {
            match self.invoke_method(&caller, &id, request.clone()).await {
                Ok(answer) => {
                    let payload = answer.payload.map(|raw| raw.get().to_owned());
                    return Ok(Some(Response { status: answer.status, payload }));
                }
                Err(Error::ThrottlingException { retry_after, .. }) if self.now() < until => {
                    self.clock().sleep(retry_after).await;
                }
                Err(error) => return Err(Failure::from(&error)),
            }
        }
    }
}

fn cut_off() -> Failure {
    let description = "The server stopped after the method was sent and before its answer was stored.";
    Failure { code: "ServerError".to_owned(), description: description.to_owned() }
}

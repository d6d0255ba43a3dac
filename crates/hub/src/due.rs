//! What a hub has to do at a time to come, as records in the order of their times: one read finds the first of all hubs. Whoever
//! notes work here writes it in the batch that makes it necessary, and takes the note away in the batch that does it.

use std::time::Duration;

use base::tasks::Stopping;
use base::{DeviceId, InstanceId, Timestamp, caps};
use serde::{Deserialize, Serialize};
use store::{Batch, Key, Record, Scan, Table, table};

use crate::cloud_to_device::Told;
use crate::error::Error;
use crate::file_upload::FileNotification;
use crate::hub::Hub;
use crate::hubs::Hubs;
use crate::job::JobId;
use crate::registry_job::RegistryJobId;

/// Notes of all hubs lie together, and no instance has this id.
const REALM: &str = "due";

/// What is to be done, and to what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "kind", content = "of")]
pub(crate) enum Work {
    /// Messages of this device's queue expire.
    Queue(DeviceId),
    /// Feedback expires.
    Feedback,
    /// Notifications of uploaded files expire.
    FileNotifications,
    /// A job begins, or may have lost the house that was at it.
    Job(JobId),
    /// A walk behind a change of a configuration begins, or may have lost the house that was at it.
    Configurations,
    /// Metrics of configurations are counted.
    Metrics,
    /// An import or export begins, or may have lost the house that was at it.
    RegistryJob(RegistryJobId),
    ForgetRegistryJob(RegistryJobId),
    /// A job that ended long ago is forgotten.
    ForgetJob(JobId),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Due {
    pub(crate) at: Timestamp,
    pub(crate) instance: InstanceId,
    #[serde(flatten)]
    pub(crate) work: Work,
}

impl Record for Due {
    const TABLE: Table = table::DUE;

    fn key(&self) -> Key {
        let (kind, of) = match &self.work {
            Work::Queue(device_id) => ("queue", device_id.as_str()),
            Work::Feedback => ("feedback", ""),
            Work::FileNotifications => ("fileNotifications", ""),
            Work::Job(job_id) => ("job", job_id.as_str()),
            Work::ForgetJob(job_id) => ("forgetJob", job_id.as_str()),
            Work::RegistryJob(job_id) => ("registryJob", job_id.as_str()),
            Work::ForgetRegistryJob(job_id) => ("forgetRegistryJob", job_id.as_str()),
            Work::Configurations => ("configurations", ""),
            Work::Metrics => ("metrics", ""),
        };
        // Ticks before the year 1 do not come up.
        let at = format!("{:020}", self.at.ticks().max(0));
        Key::new([REALM, &at, self.instance.as_str(), kind, of])
    }
}

impl Hub {
    pub(crate) fn due(&self, at: Timestamp, work: Work) -> Due {
        Due { at, instance: self.instance().clone(), work }
    }

    /// At the next of the times that all houses say alike, so that their notes are one.
    pub(crate) fn due_again(&self, every_seconds: u64, work: Work) -> Due {
        let every = i64::try_from(every_seconds).expect("a small number");
        let at = (self.now().unix_seconds() / every + 1) * every;
        self.due(Timestamp::from_unix_seconds(at), work)
    }

    async fn does(&self, due: &Due) -> Result<(), Error> {
        match &due.work {
            Work::Queue(device_id) => self.expire_messages(device_id).await,
            Work::Feedback => self.expire_notices::<Told>(due.at).await,
            Work::FileNotifications => self.expire_notices::<FileNotification>(due.at).await,
            Work::Job(job_id) => self.take_up_job(job_id).await,
            Work::ForgetJob(job_id) => self.forget_job(job_id).await,
            Work::RegistryJob(job_id) => self.take_up_registry_job(job_id).await,
            Work::ForgetRegistryJob(job_id) => self.forget_registry_job(job_id).await,
            Work::Configurations => self.take_up_walk().await,
            Work::Metrics => self.take_up_metrics().await,
        }
    }
}

impl Hubs {
    /// Does what is due, now and from now on, until the process stops.
    pub fn keep_time(&self) {
        let context = &self.kind().context;
        let (hubs, stopping) = (self.clone(), context.tasks.stopping());
        let work = move || hubs.clone().keep_doing_what_is_due(stopping.clone());
        context.tasks.keep("due work", &context.clock, work);
    }

    async fn keep_doing_what_is_due(self, mut stopping: Stopping) {
        let clock = self.kind().context.clock.clone();
        while !stopping.has_begun() {
            if let Err(error) = self.do_what_is_due().await {
                tracing::debug!(%error, "what is due is done later");
            }
            tokio::select! {
                () = clock.sleep(Duration::from_secs(caps::DUE_POLL_SECONDS)) => {}
                () = stopping.wait() => {}
            }
        }
    }

    /// Everything whose time has come. Of several servers each may do it; what one has done the other finds done.
    pub async fn do_what_is_due(&self) -> Result<(), Error> {
        let context = &self.kind().context;
        loop {
            let now = context.clock.stamp();
            let page = context.store.scan::<Due>(Scan::new(Key::new([REALM]), caps::DUE_PAGE)).await?;
            let due = page.iter().take_while(|due| due.record.at <= now);
            let (mut tried, mut failed) = (0, Ok(()));
            for due in due {
                // What fails stays noted, and holds up nothing of other hubs.
                failed = failed.and(self.do_one(&due.record).await);
                tried += 1;
            }
            failed?;
            if tried < caps::DUE_PAGE {
                return Ok(());
            }
        }
    }

    async fn do_one(&self, due: &Due) -> Result<(), Error> {
        if let Some(hub) = self.get(&due.instance) {
            hub.does(due).await?;
        }
        // Done, of a hub that has gone, or of what is no longer there.
        let mut batch = Batch::default();
        batch.remove::<Due>(due.key());
        self.kind().context.store.commit(batch).await?;
        Ok(())
    }
}

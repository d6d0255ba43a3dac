//! Whether this server does what it is for, for `/readyz`: the disk takes what it is given, and the work behind the doors goes on.
//! What exactly is wrong stands in the log.

use std::time::Duration;

use base::tasks::{Stopping, Tasks};
use base::{Clock, caps};
use store::{Store, Streams};

#[derive(Clone)]
pub(crate) struct Health {
    pub(crate) store: Store,
    pub(crate) streams: Streams,
    pub(crate) tasks: Tasks,
}

impl Health {
    /// What is wrong, in sentences for anyone to read; empty when nothing is.
    pub(crate) fn troubles(&self) -> Vec<String> {
        let mut troubles = Vec::new();
        if self.store.is_failing() {
            troubles.push("records cannot be written".to_owned());
        }
        troubles.extend(self.store.fault());
        if self.streams.is_failing() {
            troubles.push("events cannot be written".to_owned());
        }
        let task = |name: &str| format!("the {name} failed and is begun again");
        troubles.extend(self.tasks.failing().into_iter().map(task));
        troubles
    }

    /// What one should know of a server that is ready, in sentences too.
    pub(crate) fn remarks(&self) -> Vec<String> {
        let is_alone = self.store.has_standby() == Some(false);
        let remark = || "acknowledged means one disk: the database has no synchronous standby".to_owned();
        is_alone.then(remark).into_iter().collect()
    }

    /// A disk that failed is tried from time to time: where everybody waits until it is well, nobody else would find out.
    pub(crate) fn keep_trying_the_disk(&self, clock: &Clock) {
        let (health, time, stopping) = (self.clone(), clock.clone(), self.tasks.stopping());
        let work = move || health.clone().try_the_disk(time.clone(), stopping.clone());
        self.tasks.keep("disk", clock, work);
    }

    async fn try_the_disk(self, clock: Clock, mut stopping: Stopping) {
        loop {
            tokio::select! {
                () = clock.sleep(Duration::from_secs(caps::DISK_TRIED_SECONDS)) => {}
                () = stopping.wait() => return,
            }
            if self.store.is_failing() && self.store.try_to_write().await.is_ok() {
                tracing::info!("records can be written again");
            }
            if self.streams.is_failing() && self.streams.try_to_write().await.is_ok() {
                tracing::info!("events can be written again");
            }
        }
    }
}

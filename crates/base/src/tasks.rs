//! Tasks that outlive a request. They are told to stop at shutdown and waited for, so nothing is cut in the middle.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// The set of long-running tasks of one server. Clones share it.
#[derive(Clone)]
pub struct Tasks {
    set: Arc<Mutex<JoinSet<()>>>,
    stop: Arc<watch::Sender<bool>>,
}

/// A part of the server that may end before it does, such as an address that belongs to one instance.
pub struct Part {
    stop: Arc<watch::Sender<bool>>,
    end: watch::Sender<bool>,
}

impl Part {
    /// Tells the part's tasks to stop, because the part ends or the server does.
    pub fn stopping(&self) -> Stopping {
        Stopping(self.stop.subscribe())
    }

    /// Tells that the part ends while the server goes on: nobody waits for its tasks.
    pub fn ending(&self) -> Stopping {
        Stopping(self.end.subscribe())
    }

    pub fn end(&self) {
        self.stop.send_replace(true);
        self.end.send_replace(true);
    }
}

/// Tells a task that shutdown has begun.
#[derive(Clone)]
pub struct Stopping(watch::Receiver<bool>);

impl Stopping {
    pub fn has_begun(&self) -> bool {
        *self.0.borrow()
    }

    /// Resolves once shutdown has begun.
    pub async fn wait(&mut self) {
        // An error means that the server is gone, which is as good as a stop.
        let _ = self.0.wait_for(|stopping| *stopping).await;
    }
}

impl Default for Tasks {
    fn default() -> Self {
        Self::new()
    }
}

impl Tasks {
    pub fn new() -> Self {
        Self { set: Arc::default(), stop: Arc::new(watch::channel(false).0) }
    }

    pub fn stopping(&self) -> Stopping {
        Stopping(self.stop.subscribe())
    }

    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut set = self.set.lock();
        // Finished tasks are reaped here, so that the set holds only what runs.
        while set.try_join_next().is_some() {}
        set.spawn(task);
    }

    pub fn part(&self) -> Part {
        let part = Part { stop: Arc::new(watch::channel(false).0), end: watch::channel(false).0 };
        let (mut all, mut own, stop) = (self.stopping(), part.stopping(), part.stop.clone());
        self.spawn(async move {
            tokio::select! {
                () = own.wait() => {}
                () = all.wait() => { stop.send_replace(true); }
            }
        });
        part
    }

    /// Tells every task to stop and waits; whatever still runs after `patience` is dropped. Returns how many were.
    pub async fn drain(&self, patience: Duration) -> usize {
        self.stop.send_replace(true);
        let mut set = std::mem::take(&mut *self.set.lock());
        let all_ended = async { while set.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(patience, all_ended).await;
        set.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn draining_waits_for_tasks_that_stop_when_told() {
        let tasks = Tasks::new();
        let mut stopping = tasks.stopping();
        tasks.spawn(async move { stopping.wait().await });
        assert_eq!(tasks.drain(Duration::from_secs(5)).await, 0);
    }

    #[tokio::test]
    async fn a_part_ends_alone_or_with_everything() {
        let tasks = Tasks::new();
        let (one, other) = (tasks.part(), tasks.part());
        one.end();
        assert!(one.stopping().has_begun() && one.ending().has_begun());
        assert!(!other.stopping().has_begun() && !tasks.stopping().has_begun());
        assert_eq!(tasks.drain(Duration::from_secs(5)).await, 0);
        assert!(other.stopping().has_begun() && !other.ending().has_begun());
    }
}

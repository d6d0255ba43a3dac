//! Tasks that outlive a request. They are told to stop at shutdown and waited for, so nothing is cut in the middle. Those that the
//! server cannot be without are begun again when they panic.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};

use crate::{Clock, caps};

/// The set of long-running tasks of one server. Clones share it.
#[derive(Clone)]
pub struct Tasks {
    set: Arc<Mutex<JoinSet<()>>>,
    stop: Arc<watch::Sender<bool>>,
    panics: Arc<Mutex<Panics>>,
}

#[derive(Default)]
struct Panics {
    total: u64,
    /// Kept tasks that panicked and have not run for long since, with how many tasks of the name there are.
    failing: BTreeMap<&'static str, usize>,
}

impl Panics {
    fn begins_to_fail(&mut self, name: &'static str) {
        *self.failing.entry(name).or_default() += 1;
    }

    fn recovers(&mut self, name: &'static str) {
        if let Some(count) = self.failing.get_mut(name) {
            *count -= 1;
        }
        self.failing.retain(|_, count| *count > 0);
    }
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
        Self { set: Arc::default(), stop: Arc::new(watch::channel(false).0), panics: Arc::default() }
    }

    pub fn stopping(&self) -> Stopping {
        Stopping(self.stop.subscribe())
    }

    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut set = self.set.lock();
        // Finished tasks are reaped here, so that the set holds only what runs.
        self.reap(&mut set);
        set.spawn(task);
    }

    /// How many tasks run now.
    pub fn running(&self) -> usize {
        let mut set = self.set.lock();
        self.reap(&mut set);
        set.len()
    }

    fn reap(&self, set: &mut JoinSet<()>) {
        while let Some(ended) = set.try_join_next() {
            self.note(&ended);
        }
    }

    /// Runs work that the server cannot be without. Where it panics, it is begun again after a pause, and [`Self::failing`] names it
    /// until it has gone well for a while. Work that ends is over.
    pub fn keep<F>(&self, name: &'static str, clock: &Clock, work: impl Fn() -> F + Send + 'static)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let (tasks, clock, mut stopping) = (self.clone(), clock.clone(), self.stopping());
        self.spawn(async move {
            let mut failures = 0;
            loop {
                // A set of one, so that the work is dropped with us.
                let mut running = JoinSet::new();
                running.spawn(work());
                let mut ended = None;
                if failures > 0 {
                    tokio::select! {
                        one = running.join_next() => ended = one,
                        () = clock.sleep(Duration::from_secs(caps::TASK_RECOVERED_SECONDS)) => {
                            failures = 0;
                            tasks.panics.lock().recovers(name);
                            tracing::info!(task = name, "goes well again");
                        }
                    }
                }
                if ended.is_none() {
                    ended = running.join_next().await;
                }
                if !ended.is_some_and(|ended| tasks.note(&ended)) {
                    if failures > 0 {
                        tasks.panics.lock().recovers(name);
                    }
                    return;
                }
                if failures == 0 {
                    tasks.panics.lock().begins_to_fail(name);
                }
                failures += 1;
                tracing::error!(task = name, failures, "panicked and is begun again");
                let pause = 1_u64.checked_shl(failures).unwrap_or(u64::MAX).min(caps::TASK_PAUSE_SECONDS_MAX);
                tokio::select! {
                    () = clock.sleep(Duration::from_secs(pause)) => {}
                    () = stopping.wait() => return,
                }
            }
        });
    }

    /// Kept tasks that panicked of late.
    pub fn failing(&self) -> Vec<&'static str> {
        self.panics.lock().failing.keys().copied().collect()
    }

    /// Tasks of any kind that panicked, as far as it is known by now.
    pub fn panics_total(&self) -> u64 {
        self.panics.lock().total
    }

    /// Whether a task ended in a panic; counts it.
    fn note(&self, ended: &Result<(), JoinError>) -> bool {
        let panicked = ended.as_ref().is_err_and(JoinError::is_panic);
        if panicked {
            self.panics.lock().total += 1;
        }
        panicked
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
    async fn a_kept_task_that_panics_is_begun_again_and_named_until_it_goes_well() {
        let (tasks, clock) = (Tasks::new(), Clock::manual(crate::Timestamp::UNIX_EPOCH));
        let (begun, mut seen) = watch::channel(0);
        let stopping = tasks.stopping();
        tasks.keep("relay", &clock, move || {
            begun.send_modify(|count| *count += 1);
            let (panics, mut stopping) = (*begun.borrow() <= 2, stopping.clone());
            async move {
                assert!(!panics, "as the test wants");
                stopping.wait().await;
            }
        });
        let step = async |seconds| {
            for _ in 0..20 {
                tokio::task::yield_now().await;
            }
            clock.advance(Duration::from_secs(seconds));
            for _ in 0..20 {
                tokio::task::yield_now().await;
            }
        };
        step(0).await;
        assert_eq!((*seen.borrow_and_update(), tasks.failing()), (1, vec!["relay"]));
        step(2).await;
        assert_eq!((*seen.borrow_and_update(), tasks.failing()), (2, vec!["relay"]));
        step(3).await;
        assert_eq!(*seen.borrow(), 2, "it pauses longer each time");
        step(1).await;
        assert_eq!((*seen.borrow(), tasks.failing(), tasks.panics_total()), (3, vec!["relay"], 2));
        step(caps::TASK_RECOVERED_SECONDS).await;
        assert_eq!(tasks.failing(), Vec::<&str>::new());
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

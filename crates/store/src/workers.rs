//! Threads for blocking reads: each owns a context (a connection, or nothing) and runs one job after the other.
//! Used by records and streams, so that a slow read never holds an async worker.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;

use tokio::sync::oneshot;

use crate::error::StoreError;
use crate::queue::Queue;

type Job<C> = Box<dyn FnOnce(&C) + Send>;

pub(crate) struct Workers<C> {
    jobs: Arc<Queue<Job<C>>>,
    threads: Vec<JoinHandle<()>>,
}

impl<C: Send + 'static> Workers<C> {
    pub(crate) fn start(name: &str, contexts: Vec<C>, waiting_max: usize) -> Result<Self, StoreError> {
        let jobs = Arc::new(Queue::new(waiting_max));
        let mut threads = Vec::new();
        for context in contexts {
            let jobs = Arc::clone(&jobs);
            let work = move || run(&jobs, &context);
            threads.push(std::thread::Builder::new().name(name.to_owned()).spawn(work)?);
        }
        Ok(Self { jobs, threads })
    }

    /// Runs `work` on one of the threads. Work whose asker has gone is not begun.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&C) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (answer, answered) = oneshot::channel();
        let job: Job<C> = Box::new(move |context| {
            if !answer.is_closed() {
                let result = work(context);
                // The asker may have gone meanwhile, and then nobody needs the answer.
                let _ = answer.send(result);
            }
        });
        self.jobs.push_when_room(job).await?;
        answered.await.unwrap_or_else(|_| Err(StoreError::Unavailable("a reader panicked".into())))
    }

    /// Ends the threads after what they are doing.
    pub(crate) fn stop(&mut self) {
        self.jobs.close();
        join(self.threads.drain(..));
    }
}

fn run<C>(jobs: &Queue<Job<C>>, context: &C) {
    while let Some(taken) = jobs.take(1) {
        for job in taken {
            // One bad job must not cost a thread; its asker sees the dropped answer.
            let _ = catch_unwind(AssertUnwindSafe(|| job(context)));
        }
    }
}

/// Waits for threads to end. A thread that drops the last handle of its own store must not wait for itself.
pub(crate) fn join(threads: impl IntoIterator<Item = JoinHandle<()>>) {
    let own = std::thread::current().id();
    for thread in threads.into_iter().filter(|thread| thread.thread().id() != own) {
        // A panic was reported on its own thread.
        let _ = thread.join();
    }
}

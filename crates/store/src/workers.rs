//! Threads for blocking reads: each owns a context (a connection, or nothing) and runs one job after the other.
//! Used by records and streams, so that a slow read never holds an async worker.

use std::io::Write;
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

/// Starts a thread that the store cannot be without. A panic in it ends the process: what it was about to do is unknown, those who
/// wait for it would wait for ever, and a start recovers everything that was acknowledged (ADR 5).
pub(crate) fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> std::io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name(name.to_owned()).spawn(move || or_end(work))
}

/// Does such a thread's work where one is.
pub(crate) fn or_end<T>(work: impl FnOnce() -> T) -> T {
    let guard = EndsProcess;
    let done = work();
    std::mem::forget(guard);
    done
}

struct EndsProcess;

impl Drop for EndsProcess {
    fn drop(&mut self) {
        let thread = std::thread::current();
        let name = thread.name().unwrap_or_default().to_owned();
        // Not by way of the log, which may be behind; and stderr may be read by nobody.
        let (said, heard) = std::sync::mpsc::sync_channel(1);
        let say = move || {
            let text = "panicked: the server ends; nothing acknowledged is lost";
            let _ = writeln!(std::io::stderr(), "the thread {name} {text}");
            let _ = said.try_send(());
        };
        if std::thread::Builder::new().spawn(say).is_ok() {
            let _ = heard.recv_timeout(std::time::Duration::from_secs(1));
        }
        std::process::abort();
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

#[cfg(test)]
mod tests {
    use std::process::Command;

    /// Set where the test runs itself as the process that is to end.
    const IN_CHILD: &str = "TWINHUB_TEST_PANICS";

    #[test]
    fn a_panic_in_a_thread_that_writes_ends_the_process() {
        if std::env::var_os(IN_CHILD).is_some() {
            let thread = super::spawn("log-write", || panic!("as the test wants")).unwrap();
            let _ = thread.join();
            return;
        }
        let name = "workers::tests::a_panic_in_a_thread_that_writes_ends_the_process";
        let mut again = Command::new(std::env::current_exe().unwrap());
        let output = again.args([name, "--exact", "--nocapture"]).env(IN_CHILD, "1").output().unwrap();
        assert!(!output.status.success());
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("the thread log-write panicked"), "{said}");
    }
}

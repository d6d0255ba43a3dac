//! The engine on PostgreSQL (`docs/adr`): any number of servers may share one database. Everything is read from the primary; commits
//! run in groups over connections of their own. No statement here is anything but plain SQL: no triggers, procedures, advisory locks
//! or notifications.

mod checks;
mod chunks;
mod committer;
mod config;
mod connection;
mod database;
mod declared;
mod document;
pub(crate) mod escape;
mod failure;
mod faults;
mod hosts;
pub(crate) mod lane;
mod leases;
mod line;
mod outbox;
pub(crate) mod query;
mod reactor;
pub(crate) mod receive;
mod records;
mod resolve;
mod schema;
pub(crate) mod sessions;
mod sql;
mod streams;
mod tables;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use base::caps;
use base::measure::{Histogram, SYNC_MICROS};
use deadpool_postgres::{
    Hook, HookError, Manager, ManagerConfig, Object, Pool, PoolError, RecyclingMethod, Timeouts,
};
use parking_lot::{Mutex, RwLock};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_postgres_rustls::MakeRustlsConnect;

pub(crate) use self::checks::Condition;
use self::committer::{Committer, Desk, Request};
pub(crate) use self::config::Config;
pub(crate) use self::connection::Connection;
use self::connection::Connector;
pub(crate) use self::database::Database;
#[cfg(test)]
pub(crate) use self::declared::index_name as index_name_for_test;
use self::leases::Spare;
pub(crate) use self::outbox::PostgresOutbox;
use self::reactor::Reactor;
pub(crate) use self::streams::PostgresStreams;
use crate::declared::DeclaredPath;
use crate::error::StoreError;
use crate::queue::Queue;
use crate::turns::Turns;

/// One server's part of a database. Clones share it.
#[derive(Clone)]
pub(crate) struct Postgres(Arc<Inner>);

struct Inner {
    readers: Pool,
    turns: Turns,
    /// The paths that have their indexes.
    declared: RwLock<Vec<DeclaredPath>>,
    condition: Arc<Mutex<Condition>>,
    desk: Arc<Desk>,
    sessions: Arc<sessions::Desk>,
    /// The committers, and who writes sessions.
    workers: Mutex<Vec<JoinHandle<()>>>,
    /// For single statements that write.
    spare: Mutex<Option<Spare>>,
    /// Of the primary that readers are connected to.
    readers_timeline: AtomicU64,
    /// Dropped last: the others' connections live on it.
    reactor: Reactor,
}

impl Postgres {
    /// Connects, looks whether the database keeps what it acknowledges, and brings its tables up to date. Blocks the thread.
    pub(crate) fn open(config: Config) -> Result<Self, StoreError> {
        let reactor = Reactor::start()?;
        let (handle, own) = (reactor.handle().clone(), config.clone());
        let (node, condition) = reactor.wait_for(async move { prepare(&own, &handle).await })??;
        let readers = readers(&config, reactor.handle())?;
        let condition = Arc::new(Mutex::new(condition));
        reactor.handle().spawn(watch(config.clone(), reactor.handle().clone(), Arc::downgrade(&condition)));
        let desk = Arc::new(Desk {
            database: Database { config, handle: reactor.handle().clone(), node },
            queue: Queue::weighing(caps::COMMIT_QUEUE_MAX, caps::COMMIT_QUEUE_BYTES_MAX, Request::bytes),
            syncs: Arc::new(Histogram::new(SYNC_MICROS)),
            outbox: watch::Sender::new(0),
        });
        let committer = |slot| reactor.handle().spawn(Committer::new(Arc::clone(&desk), slot).run());
        let mut workers: Vec<_> = (0..caps::COMMITTERS).map(committer).collect();
        let database = desk.database.clone();
        let sessions = reactor.wait_for(async move { sessions::Desk::open(&database).await })??;
        let sessions = Arc::new(sessions);
        workers.push(reactor.handle().spawn(Arc::clone(&sessions).work(desk.database.clone())));
        Ok(Self(Arc::new(Inner {
            readers,
            readers_timeline: AtomicU64::new(0),
            turns: Turns::new(caps::DATABASE_QUERIES),
            declared: RwLock::default(),
            condition,
            desk,
            sessions,
            workers: Mutex::new(workers),
            spare: Mutex::new(None),
            reactor,
        })))
    }

    /// The same, with the indexes of declared paths.
    pub(crate) fn open_with(config: Config, paths: Vec<DeclaredPath>) -> Result<Self, StoreError> {
        let opened = Self::open(config)?;
        let declaring = opened.clone();
        opened.0.reactor.wait_for(async move { declaring.declare(paths).await })??;
        Ok(opened)
    }

    /// Blocks, as opening does.
    pub(crate) fn refuse_unfinished_move(&self) -> Result<(), StoreError> {
        let asked = self.clone();
        self.0.reactor.wait_for(async move { receive::refuse_unfinished(&asked).await })?
    }

    /// A connection for reads, of a bounded number; waits for one to become free. It keeps prepared statements.
    pub(crate) async fn reader(&self) -> Result<Object, StoreError> {
        // What is left of connections to the primary before, which might wake up and answer with what is long past.
        let timeline = self.0.desk.database.config.hosts.timeline();
        if self.0.readers_timeline.swap(timeline, Ordering::SeqCst) != timeline {
            self.0.readers.retain(|_, _| false);
        }
        self.0.readers.get().await.map_err(|error| match error {
            PoolError::Backend(error) => error.into(),
            PoolError::Timeout(_) => StoreError::Busy,
            PoolError::Closed => StoreError::Closed,
            other => StoreError::Unavailable(other.to_string()),
        })
    }

    /// Makes the indexes of these paths, and drops those of others. Queries use them from then on.
    pub(crate) async fn declare(&self, paths: Vec<DeclaredPath>) -> Result<(), StoreError> {
        declared::settle(&self.0.desk.database, &paths).await?;
        *self.0.declared.write() = paths;
        Ok(())
    }

    fn declared(&self) -> Vec<DeclaredPath> {
        self.0.declared.read().clone()
    }

    fn tls(&self) -> MakeRustlsConnect {
        self.0.desk.database.config.tls.clone()
    }

    /// Whose query runs next.
    pub(crate) fn turns(&self) -> &Turns {
        &self.0.turns
    }

    /// A connection of one's own, to write over.
    pub(crate) async fn connect(&self) -> Result<Connection, StoreError> {
        self.0.desk.database.connect().await
    }

    /// What names this opening of the database among all that there are and ever were: rows of `node` and of `commit_mark`.
    #[cfg(test)]
    pub(crate) fn node(&self) -> i32 {
        self.0.desk.database.node
    }

    /// For parts that write over lines of their own, in tasks on its runtime.
    #[allow(dead_code, reason = "streams write over lines of their own")]
    pub(crate) fn database(&self) -> &Database {
        &self.0.desk.database
    }

    /// The runtime of connections.
    pub(crate) fn handle(&self) -> &Handle {
        self.0.reactor.handle()
    }

    pub(crate) fn chunks(&self) -> &Self {
        self
    }

    fn sessions(&self) -> &sessions::Desk {
        &self.0.sessions
    }

    fn spare(&self) -> &Mutex<Option<Spare>> {
        &self.0.spare
    }

    fn desk(&self) -> &Desk {
        &self.0.desk
    }

    /// Changes with every commit of this store that wrote to the outbox; a hint, since other stores write too.
    pub(crate) fn outbox_written(&self) -> watch::Receiver<u64> {
        self.0.desk.outbox.subscribe()
    }

    /// Takes no change any more and finishes those that wait. Blocks the thread.
    fn end(&self) {
        self.0.close();
    }

    /// Looks now instead of in its time.
    #[cfg(test)]
    async fn look_now(&self) {
        let looked = look(&self.database().config, self.handle()).await;
        self.0.condition.lock().renew(looked);
    }

    /// How well the database kept things when it was last looked at.
    pub(crate) fn condition(&self) -> Condition {
        self.0.condition.lock().clone()
    }
}

impl Inner {
    fn close(&self) {
        self.desk.queue.close();
        self.sessions.close();
        let workers = std::mem::take(&mut *self.workers.lock());
        self.finish(workers);
    }

    /// Blocks the thread until tasks have ended that hear elsewhere that they shall.
    fn finish(&self, tasks: impl IntoIterator<Item = JoinHandle<()>>) {
        let tasks: Vec<_> = tasks.into_iter().collect();
        if tasks.is_empty() {
            return;
        }
        let ended = self.reactor.wait_for(async move {
            for task in tasks {
                if task.await.is_err() {
                    tracing::error!("what writes to the database panicked");
                }
            }
        });
        if ended.is_err() {
            tracing::error!("the database's runtime ended before its commits");
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.close();
    }
}

async fn prepare(config: &Config, handle: &Handle) -> Result<(i32, Condition), StoreError> {
    let condition = look(config, handle).await?;
    let mut client = connection::plain(config, handle).await?;
    let (one, other) = (Connection::open(config, handle).await?, Connection::open(config, handle).await?);
    checks::refuse_pooler(&one, &other).await?;
    schema::run(&mut client).await?;
    let text = "INSERT INTO node (version, until) VALUES ($1, now()) RETURNING id";
    let row = client.query_one(text, &[&env!("CARGO_PKG_VERSION")]).await?;
    if !condition.has_standby {
        tracing::warn!("the database has no synchronous standby: what is acknowledged is on one disk");
    }
    Ok((row.get(0), condition))
}

fn readers(config: &Config, handle: &Handle) -> Result<Pool, StoreError> {
    let connector = Connector { config: config.clone(), handle: handle.clone() };
    let hosts = Arc::clone(&config.hosts);
    let recycling = ManagerConfig { recycling_method: RecyclingMethod::Fast };
    let manager = Manager::from_connect(config.database.clone(), connector, recycling);
    let wait = Some(Duration::from_secs(caps::DATABASE_ANSWER_SECONDS_MAX));
    Pool::builder(manager)
        .max_size(caps::DATABASE_READERS)
        .timeouts(Timeouts { wait, create: wait, recycle: wait })
        .runtime(deadpool_postgres::Runtime::Tokio1)
        .post_create(Hook::async_fn(|client, _| {
            Box::pin(
                async move { client.batch_execute(&settings_of_readers()).await.map_err(HookError::Backend) },
            )
        }))
        .post_create(Hook::async_fn(move |client, _| {
            let hosts = Arc::clone(&hosts);
            Box::pin(async move {
                let refused = |error: StoreError| HookError::message(error.to_string());
                hosts.refuse_earlier(client).await.map_err(refused)
            })
        }))
        .build()
        .map_err(|error| StoreError::Unavailable(error.to_string()))
}

/// Whatever becomes of us, the server ends a query: in time, or soon after our socket is closed. Tables are joined in the order in
/// which `render` names them: to try every order of those of five hops takes the planner seconds.
fn settings_of_readers() -> String {
    let (longest, look) = (caps::QUERY_SECONDS_MAX, caps::DATABASE_ANSWER_SECONDS_MAX);
    format!(
        "SET statement_timeout = '{longest}s'; SET client_connection_check_interval = '{look}s'; SET join_collapse_limit = 1"
    )
}

/// Looks every minute, until the store is gone. A database that has become unsafe is told of, and the server is not ready; it goes on
/// all the same: a commit there is as good as its operator made it, and to refuse them all would be a second failure.
async fn watch(config: Config, handle: Handle, condition: std::sync::Weak<Mutex<Condition>>) {
    let mut pause = caps::DATABASE_LOOK_SECONDS;
    loop {
        tokio::time::sleep(Duration::from_secs(pause)).await;
        let looked = look(&config, &handle).await;
        let Some(condition) = condition.upgrade() else { return };
        let mut condition = condition.lock();
        condition.renew(looked);
        // What is wrong is looked at more often, so that the end of it is not told late.
        pause =
            if condition.fault.is_some() { caps::DISK_TRIED_SECONDS } else { caps::DATABASE_LOOK_SECONDS };
    }
}

async fn look(config: &Config, handle: &Handle) -> Result<Condition, StoreError> {
    config.hosts.look_around(&config.tls).await;
    checks::look(&*Connection::open(config, handle).await?, config.durability).await
}

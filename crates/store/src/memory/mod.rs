//! An engine in memory that is plain, slow and obvious, and hostile where it is told to be: the reference for the others, and what the
//! simulation of the whole house runs on. Several stores may share one database, as several servers do. Only tests are built with it.

mod chunks;
mod faults;
mod outbox;
mod query;
mod records;
mod sessions;
mod state;
mod streams;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use base::{Clock, caps};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::JoinSet;

use self::faults::Faults;
pub use self::faults::Odds;
use self::state::State;
use self::streams::{Request, Tails};
use crate::engine::Engine;
use crate::error::StoreError;
use crate::queue::Queue;
use crate::sessions::Node;
use crate::store::Store;

/// What all stores on it share, and what outlives each of them. Clones share it.
#[derive(Clone)]
pub struct Database(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    clock: Clock,
    faults: Faults,
    /// One for each store that was opened.
    tails: Mutex<Vec<Arc<Tails>>>,
}

/// One store on a database. Clones share it.
#[derive(Clone)]
pub(crate) struct Memory(Arc<Opened>);

struct Opened {
    part: Part,
    /// Appends and the node's lease; they end with the store, whatever they were about to do.
    _tasks: Mutex<JoinSet<()>>,
}

/// What the tasks of a store share with it.
#[derive(Clone)]
struct Part {
    database: Database,
    node: Arc<Mutex<Node>>,
    tails: Arc<Tails>,
    queue: Arc<Queue<Request>>,
    written: watch::Sender<u64>,
    is_closed: Arc<AtomicBool>,
}

impl Database {
    /// An empty one, by whose clock leases end.
    pub fn new(clock: Clock) -> Self {
        Self::hostile(clock, 0, Odds::NONE)
    }

    /// One that does by this seed whatever the contract allows.
    pub fn hostile(clock: Clock, seed: u64, odds: Odds) -> Self {
        Self(Arc::new(Shared {
            state: Mutex::default(),
            faults: Faults::new(clock.clone(), seed, odds),
            clock,
            tails: Mutex::default(),
        }))
    }

    /// From now on it goes wrong so often; gives how often it did before.
    pub fn set_odds(&self, odds: Odds) -> Odds {
        self.0.faults.set(odds)
    }

    /// Takes everything from a store, as if its process had died at this moment. Its lease ends in time.
    pub fn cut_off(&self, node: Node) {
        self.0.state.lock().cut_off.insert(node.number);
    }

    /// Counters over records that are not what they count, as text.
    pub fn miscounted(&self) -> Vec<String> {
        self.0.state.lock().miscounted()
    }

    /// Everything that is kept of instances whose id begins so, as text.
    pub fn left_of(&self, instance: &str) -> Vec<String> {
        self.0.state.lock().left_of(instance)
    }

    /// A number for what is kept: keys, revisions, counters and the ends of streams. Documents hold keys that no seed rules.
    pub fn sum(&self) -> u64 {
        self.0.state.lock().sum()
    }
}

impl Store {
    /// Another store on a database, like another server on it. Within a runtime, on which it lives.
    pub fn on_memory(database: &Database) -> Self {
        Self::of(Engine::Memory(Box::new(Memory::open(database))))
    }
}

impl Memory {
    pub(crate) fn open(database: &Database) -> Self {
        let node = database.0.state.lock().join(database.now(), lease());
        let (tails, queue) = (Arc::new(Tails::default()), Arc::new(Queue::new(caps::LOG_APPEND_QUEUE_MAX)));
        database.0.tails.lock().push(Arc::clone(&tails));
        let part = Part {
            database: database.clone(),
            node: Arc::new(Mutex::new(node)),
            tails,
            queue,
            written: watch::Sender::new(0),
            is_closed: Arc::default(),
        };
        let mut tasks = JoinSet::new();
        tasks.spawn(streams::work(part.clone()));
        tasks.spawn(streams::keep_looking(part.clone()));
        tasks.spawn(sessions::keep_living(part.clone()));
        Self(Arc::new(Opened { part, _tasks: Mutex::new(tasks) }))
    }

    pub(crate) fn live(&self) -> &Self {
        self
    }

    pub(crate) fn chunks(&self) -> &Self {
        self
    }

    pub(crate) fn node(&self) -> Node {
        *self.0.part.node.lock()
    }

    fn part(&self) -> &Part {
        &self.0.part
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        self.part.queue.close();
        self.part.database.0.tails.lock().retain(|tails| !Arc::ptr_eq(tails, &self.part.tails));
    }
}

impl Part {
    fn faults(&self) -> &Faults {
        &self.database.0.faults
    }

    /// Something that is done in one step, or not at all, at some moment between the question and the answer.
    async fn step<T>(&self, step: impl FnOnce(&mut State) -> T) -> Result<T, StoreError> {
        self.faults().before().await?;
        let done = self.now(step)?;
        self.faults().after().await;
        Ok(done)
    }

    /// The same for what changes something: whether it was done may stay unknown.
    async fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> Result<T, StoreError> {
        self.faults().before().await?;
        if self.faults().loses() {
            self.faults().after().await;
            return Err(StoreError::Unknown("it was not done, and nobody says so".into()));
        }
        let done = self.now(change)?;
        self.faults().after().await;
        if self.faults().forgets() {
            return Err(StoreError::Unknown("it was done, and nobody says so".into()));
        }
        Ok(done)
    }

    fn now<T>(&self, step: impl FnOnce(&mut State) -> T) -> Result<T, StoreError> {
        let mut state = self.database.0.state.lock();
        if state.cut_off.contains(&self.node.lock().number) {
            return Err(StoreError::Closed);
        }
        Ok(step(&mut state))
    }
}

impl Database {
    fn now(&self) -> base::Elapsed {
        self.0.clock.elapsed()
    }
}

fn lease() -> Duration {
    Duration::from_secs(caps::NODE_LEASE_SECONDS)
}

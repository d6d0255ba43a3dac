//! The outbox as its relay sees it: what was committed and is not told yet, in lanes of which each is one server's at a time.
//! Rows of one partition key are in one lane, in the order of their commits; across keys there is no order that anybody may lean on.

mod embedded;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use base::InstanceId;
use tokio::sync::watch;

use self::embedded::Embedded;
use crate::batch::{Batch, OutboxRow};
use crate::engine::Outbox as _;
use crate::error::StoreError;
use crate::postgres::PostgresOutbox;
use crate::store::Store;
use crate::streams::{NewRecord, StreamId, Streams};

/// The right to empty lanes for a while. Whoever lost it is refused when it comes with what it did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Names of leases and their epochs, by name; none where there is one server alone.
    pub(crate) leases: Vec<(String, u64)>,
}

/// Whose lane this is delivers what is parked too: what waits for an endpoint stays in order where one server knows of it.
const OF_PARKED: &str = "outbox/00";

impl Claim {
    fn of_parked(self) -> Option<Self> {
        if self.leases.is_empty() {
            return Some(self);
        }
        let lease = self.leases.into_iter().find(|(name, _)| name == OF_PARKED)?;
        Some(Self { leases: vec![lease] })
    }
}

/// What becomes of rows of one instance: all of it, or nothing.
#[derive(Default)]
pub struct Errand {
    /// Goes to streams.
    pub appends: Vec<Append>,
    /// Is kept, such as events that are parked.
    pub batch: Batch,
    /// Leaves the outbox.
    pub done: Vec<u64>,
}

/// Records for one partition, each with the id of the row it comes from.
pub struct Append {
    pub stream: StreamId,
    pub partition: u32,
    /// One source gives its ids in rising order on an engine whose ids rise.
    pub source: u64,
    pub records: Vec<(u64, NewRecord)>,
}

/// Clones share it.
#[derive(Clone)]
pub struct Outbox(Arc<Engine>);

enum Engine {
    Embedded(Embedded),
    Postgres(PostgresOutbox),
    #[cfg(any(test, feature = "memory"))]
    Memory(crate::memory::Memory),
}

macro_rules! on_engine {
    ($outbox:expr, $name:ident => $call:expr) => {
        match &*$outbox.0 {
            Engine::Embedded($name) => $call,
            Engine::Postgres($name) => $call,
            #[cfg(any(test, feature = "memory"))]
            Engine::Memory($name) => $call,
        }
    };
}

impl Outbox {
    /// Of a store and of the streams beside it.
    pub fn new(store: &Store, streams: &Streams) -> Self {
        #[cfg(any(test, feature = "memory"))]
        if let Some(memory) = streams.memory() {
            return Self(Arc::new(Engine::Memory(memory.clone())));
        }
        Self(Arc::new(match streams.database() {
            Some(database) => Engine::Postgres(PostgresOutbox::new(database.postgres())),
            None => Engine::Embedded(Embedded::new(store.clone(), streams.clone())),
        }))
    }

    /// What this server may empty now; `None` when others have it all. To be asked before each pass: it lasts for seconds.
    pub async fn claim(&self) -> Result<Option<Claim>, StoreError> {
        on_engine!(self, engine => engine.claim().await)
    }

    /// The right to deliver what is parked; `None` when another server does.
    pub async fn claim_parked(&self) -> Result<Option<Claim>, StoreError> {
        Ok(self.claim().await?.and_then(Claim::of_parked))
    }

    /// At most `limit` of the oldest rows, those of a key in order, but for those of instances that are held.
    pub async fn rows(
        &self,
        claim: &Claim,
        held: &HashSet<InstanceId>,
        limit: usize,
    ) -> Result<Vec<OutboxRow>, StoreError> {
        on_engine!(self, engine => engine.rows(claim, held, limit).await)
    }

    /// Appends, keeps and takes out, exactly once. Each errand is done whole or not at all: the instances of those that were not,
    /// and why, are given. What streams can never hold is given up alone.
    pub async fn run(
        &self,
        claim: &Claim,
        errands: HashMap<InstanceId, Errand>,
    ) -> Result<HashMap<InstanceId, StoreError>, StoreError> {
        on_engine!(self, engine => engine.run(claim, errands).await)
    }

    /// Bytes of what waits, by instance.
    pub async fn bytes(&self) -> Result<Vec<(InstanceId, u64)>, StoreError> {
        on_engine!(self, engine => engine.bytes().await)
    }

    /// Changes with every commit of this server that wrote to the outbox.
    pub fn written(&self) -> watch::Receiver<u64> {
        on_engine!(self, engine => engine.written())
    }

    /// How often to look for what other servers wrote; `None` where there are none.
    pub fn pause(&self) -> Option<Duration> {
        on_engine!(self, engine => engine.pause())
    }
}

//! What an engine must give, one trait for each part of it, and the engines that there are. Private to `store`: the house sees
//! `Store` and `Streams`, and nothing above knows which engine keeps them. The contract suite runs on every one of them.

mod chunks;
mod leases;
mod outbox;
mod records;
mod sessions;
mod streams;

use std::pin::Pin;

pub(crate) use self::chunks::Chunks;
pub(crate) use self::leases::Leases;
pub(crate) use self::outbox::Outbox;
pub(crate) use self::records::{Range, Raw, Records};
pub(crate) use self::sessions::Sessions;
pub(crate) use self::streams::Streams;
use crate::postgres::Postgres;
use crate::sqlite::Sqlite;

/// A closed set: who adds an engine adds an arm, and the compiler lists what it must give.
pub(crate) enum Engine {
    Sqlite(Box<Sqlite>),
    Postgres(Postgres),
    #[cfg(any(test, feature = "memory"))]
    Memory(Box<crate::memory::Memory>),
}

/// The same call on whichever engine it is.
macro_rules! on_engine {
    ($engine:expr, $name:ident => $call:expr) => {
        match $engine {
            $crate::engine::Engine::Sqlite($name) => $call,
            $crate::engine::Engine::Postgres($name) => $call,
            #[cfg(any(test, feature = "memory"))]
            $crate::engine::Engine::Memory($name) => $call,
        }
    };
}

/// The same for what is waited for. Work over the network is a future apart: a request that waits for an embedded engine would carry
/// its size, and the compiler its depth, through the whole house.
macro_rules! ask_engine {
    ($engine:expr, $name:ident => $call:expr) => {
        match $engine {
            $crate::engine::Engine::Sqlite($name) => $call.await,
            $crate::engine::Engine::Postgres($name) => $crate::engine::apart($call).await,
            #[cfg(any(test, feature = "memory"))]
            $crate::engine::Engine::Memory($name) => $crate::engine::apart($call).await,
        }
    };
}

pub(crate) fn apart<'f, T>(
    work: impl Future<Output = T> + Send + 'f,
) -> Pin<Box<dyn Future<Output = T> + Send + 'f>> {
    Box::pin(work)
}

pub(crate) use ask_engine;
pub(crate) use on_engine;

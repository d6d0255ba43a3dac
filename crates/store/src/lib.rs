//! Records, counters and the outbox, and streams, on an engine that nobody else sees: by default `SQLite` and our own segmented log.
//! Called by the domain crates; it knows tables and bytes, never a service's rules. No engine's type leaves this crate.

mod batch;
pub mod changes;
pub mod chunks;
mod compiled;
mod declared;
mod directory_lock;
mod engine;
mod error;
mod health;
pub mod instances;
mod judge;
mod key;
pub mod leases;
#[cfg(any(test, feature = "memory"))]
pub mod memory;
mod outbox;
mod postgres;
mod queue;
mod record;
mod render;
mod report;
mod retry;
pub mod sessions;
mod sqlite;
mod store;
pub mod streams;
pub mod table;
pub mod transfer;
mod turns;
mod workers;

pub use batch::{Batch, Committed, Counter, OutboxEntry, OutboxRow};
pub use compiled::Rows;
pub use declared::{DeclaredPath, InvalidDeclaredPath};
pub use error::{CommitError, StoreError};
pub use instances::Instances;
pub use key::{Find, Key, Scan};
pub use outbox::{Append, Claim, Errand, Outbox};
pub use record::{Record, Revision, Stored};
pub use report::Report;
pub use retry::{MayConflict, retry_on_conflict};
pub use sqlite::chunks as chunk_files;
pub use sqlite::repair::{check_records, repair_records};
pub use sqlite::snapshot::Snapshot;
pub use store::{Durability, Location, Options, Store};
pub use streams::copy::LogFileCopy;
pub use streams::repair::{check_log, repair_log};
pub use streams::{Appended, LogDamage, LogRecord, Lost, NewRecord, Position, StreamId, Streams};
pub use table::Table;

#[cfg(test)]
mod contract;
#[cfg(test)]
mod contract_chunks;
#[cfg(test)]
mod contract_sessions;

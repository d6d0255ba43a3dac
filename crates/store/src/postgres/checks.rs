//! What a database must be before anything is promised on it: what it is set to, and whether we talk to the database itself.
//! Looked at when the store is opened, and every minute.

use tokio_postgres::{Client, Row};

use super::connection::Connection;
use crate::error::StoreError;
use crate::store::Durability;

const VERSION_MIN: i32 = 150_000;

const SETTINGS: &str = "SELECT current_setting('server_version_num')::int, current_setting('fsync'), \
    current_setting('full_page_writes'), current_setting('synchronous_commit'), \
    current_setting('synchronous_standby_names'), pg_is_in_recovery(), pg_encoding_to_char(encoding), \
    datcollate, datctype FROM pg_database WHERE datname = current_database()";

/// What was found, for whoever asks how well things are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Condition {
    /// Whether an acknowledged commit is on a second machine.
    pub(crate) has_standby: bool,
    /// Why such a database would be refused, of one that has become so.
    pub(crate) fault: Option<String>,
}

impl Condition {
    /// What another look has found.
    pub(super) fn renew(&mut self, looked: Result<Self, StoreError>) {
        match looked {
            Ok(found) => {
                if self.fault.is_some() {
                    tracing::info!("the database is as it must be again");
                }
                *self = found;
            }
            Err(StoreError::Refused(fault)) => {
                tracing::error!(fault, "the database is not as it must be");
                self.fault = Some(fault);
            }
            // Away, or it takes no writes.
            Err(error) => {
                tracing::warn!(%error, "the database could not be looked at");
                self.fault
                    .get_or_insert_with(|| "the database cannot be reached, or takes no writes".to_owned());
            }
        }
    }
}

struct Found {
    version: i32,
    fsync: String,
    full_page_writes: String,
    synchronous_commit: String,
    standbys: String,
    is_standby: bool,
    encoding: String,
    collation: String,
    character_type: String,
}

impl Found {
    fn of(row: &Row) -> Self {
        Self {
            version: row.get(0),
            fsync: row.get(1),
            full_page_writes: row.get(2),
            synchronous_commit: row.get(3),
            standbys: row.get(4),
            is_standby: row.get(5),
            encoding: row.get(6),
            collation: row.get(7),
            character_type: row.get(8),
        }
    }

    /// The first thing for which nothing may be promised.
    fn fault(&self, durability: Durability) -> Option<String> {
        if self.version < VERSION_MIN {
            return Some("PostgreSQL 15 or later is needed".into());
        }
        if self.encoding != "UTF8" {
            return Some(format!("its encoding is {} and must be UTF8", self.encoding));
        }
        let by_bytes = |name: &str| matches!(name, "C" | "POSIX" | "C.UTF-8" | "C.utf8");
        if !by_bytes(&self.collation)
            || !matches!(self.character_type.as_str(), "C" | "POSIX" | "C.UTF-8" | "C.utf8")
        {
            return Some(format!("it orders texts by {} and must by C, which is by bytes", self.collation));
        }
        if self.is_standby {
            return Some("it is a standby".into());
        }
        if durability == Durability::Relaxed {
            return None;
        }
        let off = [("fsync", &self.fsync), ("full_page_writes", &self.full_page_writes)];
        if let Some((name, _)) = off.iter().find(|(_, value)| *value != "on") {
            return Some(format!("{name} is off: what is acknowledged could be lost"));
        }
        if !matches!(self.synchronous_commit.as_str(), "on" | "remote_apply") {
            return Some(format!("synchronous_commit is {} and must be on", self.synchronous_commit));
        }
        None
    }
}

/// What is set, or why the database is refused.
pub(super) async fn look(client: &Client, durability: Durability) -> Result<Condition, StoreError> {
    let row = client.query_one(SETTINGS, &[]).await?;
    let found = Found::of(&row);
    match found.fault(durability) {
        Some(fault) => Err(StoreError::Refused(format!("the database: {fault}"))),
        None => Ok(Condition { has_standby: !found.standbys.trim().is_empty(), fault: None }),
    }
}

/// Refuses a pooler that gives each transaction another session: what one connection sets must be seen on it later, and on no
/// other, also while the other is in a transaction.
pub(super) async fn refuse_pooler(one: &Connection, other: &Connection) -> Result<(), StoreError> {
    let read = "SELECT coalesce(current_setting('twinhub.probe', true), ''), pg_backend_pid()";
    one.batch_execute("SET twinhub.probe = 'one'").await?;
    other.batch_execute("BEGIN").await?;
    let others = other.query_one(read, &[]).await?;
    let ours = one.query_one(read, &[]).await?;
    other.batch_execute("ROLLBACK").await?;
    let (seen, process): (String, i32) = (others.get(0), others.get(1));
    let (kept, own): (String, i32) = (ours.get(0), ours.get(1));
    if seen.is_empty() && kept == "one" && process != own {
        return Ok(());
    }
    Err(StoreError::Refused(
        "the database: sessions are shared by a pooler in between; let it pool sessions, not transactions"
            .into(),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Found {
        Found {
            version: 150_004,
            fsync: "on".into(),
            full_page_writes: "on".into(),
            synchronous_commit: "on".into(),
            standbys: String::new(),
            is_standby: false,
            encoding: "UTF8".into(),
            collation: "C".into(),
            character_type: "C".into(),
        }
    }

    #[test]
    fn a_database_that_could_lose_or_reorder_things_is_refused() {
        assert_eq!(good().fault(Durability::Full), None);
        let bad = [
            Found { version: 140_010, ..good() },
            Found { encoding: "SQL_ASCII".into(), ..good() },
            Found { collation: "en_US.UTF-8".into(), ..good() },
            Found { is_standby: true, ..good() },
        ];
        for found in bad {
            assert!(found.fault(Durability::Full).is_some() && found.fault(Durability::Relaxed).is_some());
        }
        let unsafe_ones = [
            Found { fsync: "off".into(), ..good() },
            Found { full_page_writes: "off".into(), ..good() },
            Found { synchronous_commit: "local".into(), ..good() },
            Found { synchronous_commit: "remote_write".into(), ..good() },
        ];
        for found in unsafe_ones {
            assert!(found.fault(Durability::Full).is_some() && found.fault(Durability::Relaxed).is_none());
        }
    }
}

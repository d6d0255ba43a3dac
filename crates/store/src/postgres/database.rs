//! A database, and what names this opening of it among all that there are and ever were: what every part that writes needs.

use std::time::Duration;

use base::caps;
use tokio::runtime::Handle;
use tokio::time::timeout;

use super::config::Config;
use super::connection::Connection;
use super::line::Line;
use super::resolve;
use crate::error::StoreError;

#[derive(Clone)]
pub(crate) struct Database {
    pub(super) config: Config,
    /// The runtime that connections live on.
    pub(super) handle: Handle,
    /// Names rows of `node` and `commit_mark`.
    pub(super) node: i32,
}

impl Database {
    pub(crate) async fn connect(&self) -> Result<Connection, StoreError> {
        Connection::open(&self.config, &self.handle).await
    }

    /// A connection that writes under a mark of its own. Each slot has one at a time: 0 and up are the committers'.
    pub(crate) async fn line(&self, slot: i32) -> Result<Line, StoreError> {
        let opened = async { Line::over(self.connect().await?, self.node, slot).await };
        let patience = Duration::from_secs(caps::DATABASE_ANSWER_SECONDS_MAX);
        timeout(patience, opened).await.unwrap_or_else(|_| Err(no_answer()))
    }

    /// Whether a group was committed whose answer was lost, and is as durable as any; None when that was not learned in time. Its
    /// line must have been dropped.
    pub(crate) async fn resolve(&self, slot: i32, group_no: i64) -> Option<bool> {
        resolve::resolve(self, slot, group_no).await
    }
}

pub(super) fn no_answer() -> StoreError {
    StoreError::Unavailable("the database does not answer".into())
}

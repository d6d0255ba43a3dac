//! What became of a group whose answer was lost: its mark says. Whoever still holds it on the server, holds the mark's row, so this
//! waits for the end; and a group that did not make it finds its mark moved, should it ever wake up.

use std::time::Duration;

use base::caps;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::database::Database;
use crate::error::StoreError;

/// Whether the group was committed, and is as durable as any; None when that was not learned in time.
pub(super) async fn resolve(database: &Database, slot: i32, group_no: i64) -> Option<bool> {
    let deadline = Instant::now() + Duration::from_secs(caps::DATABASE_UNKNOWN_SECONDS_MAX);
    loop {
        // One attempt may hang at a server that is frozen, while another is the primary by now.
        let attempt =
            timeout(Duration::from_secs(caps::DATABASE_ANSWER_SECONDS_MAX), ask(database, slot, group_no));
        match timeout_at(deadline, attempt).await {
            Ok(Ok(Ok(is_committed))) => return Some(is_committed),
            Ok(Ok(Err(error))) => tracing::debug!(%error, slot, group_no, "a group is not resolved yet"),
            Ok(Err(_)) => {}
            Err(_) => return None,
        }
        timeout_at(deadline, sleep(Duration::from_millis(caps::DATABASE_PAUSE_MILLIS))).await.ok()?;
    }
}

/// A group that is not there gets the number behind its own as its mark: not its own, which a lost answer of ours would leave
/// ambiguous. One that is there has its mark written once more, so that this commit, when it is acknowledged, has carried the
/// group's to the standby too.
async fn ask(database: &Database, slot: i32, group_no: i64) -> Result<bool, StoreError> {
    let connection = database.connect().await?;
    let notices = connection.notices();
    // Shorter than our own patience, so that the server does not keep an attempt that we have given up.
    let begin = format!("BEGIN; SET LOCAL lock_timeout = '{}s'", caps::DATABASE_ANSWER_SECONDS_MAX - 1);
    connection.batch_execute(&begin).await?;
    let find = "SELECT group_no FROM commit_mark WHERE node = $1 AND slot = $2 FOR UPDATE";
    let found: i64 = connection.query_one(find, &[&database.node, &slot]).await?.get(0);
    let is_committed = found == group_no;
    if !is_committed && found != group_no - 1 && found != group_no + 1 {
        return Err(StoreError::Unavailable(format!("the mark is {found}, which is none of ours")));
    }
    let left = if is_committed { group_no } else { group_no + 1 };
    let leave = "UPDATE commit_mark SET group_no = $3 WHERE node = $1 AND slot = $2";
    connection.execute(leave, &[&database.node, &slot, &left]).await?;
    connection.batch_execute("COMMIT").await?;
    if connection.notices() != notices {
        return Err(StoreError::Unavailable("the database warned of a commit".into()));
    }
    Ok(is_committed)
}

//! Connection state and last activity: volatile at the node that holds the session, written to records of their own every few
//! seconds, read from both. The flush runs for as long as the hub; losing the last seconds in a crash is allowed.

use std::time::Duration;

use base::ids::IdentityId;
use base::tasks::Stopping;
use base::{Timestamp, caps};
use store::sessions::Owner;
use store::{Batch, CommitError, Record, Stored};

use super::record::Activity;
use crate::error::Error;
use crate::hub::Hub;
use crate::identity::{Identity, identity_key};
use crate::mailbox::Known;

/// What an identity or twin shows of its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connection {
    pub connected: bool,
    pub state_updated_time: Timestamp,
    pub last_activity_time: Timestamp,
}

impl Connection {
    pub const NEVER: Self =
        Self { connected: false, state_updated_time: Timestamp::NEVER, last_activity_time: Timestamp::NEVER };
}

/// What is shown of a connection: that it stands says its owner alone; when it was last heard of, whoever heard of the latest session.
pub(crate) fn shown(
    identity: &Identity,
    owner: Option<Owner>,
    known: Option<&Known>,
    stored: Option<&Activity>,
) -> Connection {
    let stored = stored.filter(|activity| activity.generation_id == identity.generation_id);
    let known = known.map(|known| (known.epoch, known.at, known.last_activity));
    let stored = stored.map(|activity| {
        let at = activity.connection_state_updated_time;
        (activity.session_epoch, at, activity.last_activity_time)
    });
    // Of one epoch, what this node knows is the newer.
    let heard = if stored.map(|heard| heard.0) > known.map(|heard| heard.0) { stored } else { known };
    let (_, heard_at, last_activity) = heard.unwrap_or((0, Timestamp::NEVER, Timestamp::NEVER));
    match owner {
        Some(Owner { since, .. }) => Connection {
            connected: true,
            state_updated_time: since,
            last_activity_time: last_activity.max(since),
        },
        None => {
            Connection { connected: false, state_updated_time: heard_at, last_activity_time: last_activity }
        }
    }
}

/// What one flush writes of one identity.
pub(super) struct Flush {
    activity: Activity,
    known: Known,
}

impl Hub {
    pub(crate) fn start_flushing_activity(&self) {
        let (hub, stopping) = (self.clone(), self.context().tasks.stopping());
        let work = move || hub.clone().keep_flushing_activity(stopping.clone());
        self.context().tasks.keep("activity", self.clock(), work);
    }

    async fn keep_flushing_activity(self, mut stopping: Stopping) {
        let pause = Duration::from_secs(caps::ACTIVITY_FLUSH_SECONDS);
        while !stopping.has_begun() && !self.is_closed() {
            tokio::select! {
                () = self.clock().sleep(pause) => {}
                () = stopping.wait() => {}
            }
            self.mailboxes().close_other_lives(self.node());
            self.flush_activity().await;
        }
    }

    /// Writes what the last flush did not see. Safe to call at any time.
    pub async fn flush_activity(&self) {
        for page in self.unflushed().chunks(caps::ACTIVITY_FLUSH_PAGE) {
            match self.flush_page(page, Before::AsKnown).await {
                Ok(()) => {}
                // Another node has written, or somebody's identity has gone meanwhile: the others must not suffer for it.
                Err(CommitError::Conflict) => self.flush_one_by_one(page).await,
                Err(error) => tracing::warn!(%error, "activity was not flushed"),
            }
        }
    }

    pub(super) fn unflushed(&self) -> Vec<Flush> {
        let flush = |(id, known)| Flush { activity: activity(self, &id, &known), known };
        self.mailboxes().unflushed().into_iter().map(flush).collect()
    }

    async fn flush_one_by_one(&self, page: &[Flush]) {
        for flush in page {
            let id = &flush.activity.id;
            match self.flush_page(std::slice::from_ref(flush), Before::AsRead).await {
                Ok(()) => {}
                Err(CommitError::Conflict) => {
                    // Else somebody writes it at this moment, and the next flush comes to it again.
                    if let Ok(None) = self.store().get::<Identity>(&flush.activity.key()).await {
                        self.mailboxes().flushed(id, &flush.known, None);
                    }
                }
                Err(error) => tracing::warn!(%error, "activity was not flushed"),
            }
        }
    }

    async fn flush_page(&self, page: &[Flush], before: Before) -> Result<(), CommitError> {
        let mut batch = Batch::default();
        let mut written = Vec::with_capacity(page.len());
        for flush in page {
            written.push(self.add_flush(&mut batch, flush, before).await?);
        }
        let committed = if batch.is_empty() { None } else { Some(self.store().commit(batch).await?) };
        for (flush, written) in page.iter().zip(written) {
            let revision = committed.filter(|_| written).map(|committed| committed.revision);
            self.mailboxes().flushed(&flush.activity.id, &flush.known, revision);
        }
        Ok(())
    }

    /// Gives whether there is something to write.
    pub(super) async fn add_flush(
        &self,
        batch: &mut Batch,
        flush: &Flush,
        before: Before,
    ) -> Result<bool, CommitError> {
        let Flush { activity, known } = flush;
        let key = activity.key();
        if let (Before::AsKnown, Some(revision)) = (before, known.revision) {
            // Nobody but this session has written since, so what lies there is older.
            batch.replace(&Stored { record: activity.clone(), revision }, activity);
        } else {
            match self.store().get::<Activity>(&key).await? {
                None => batch.insert(activity),
                Some(old) => match activity.over(&old.record) {
                    Some(merged) => batch.replace(&old, &merged),
                    None => return Ok(false),
                },
            }
        }
        batch.guard_exists::<Identity>(key);
        Ok(true)
    }

    pub(crate) async fn connection(&self, identity: &Identity) -> Result<Connection, Error> {
        let owner = self.owner(&identity.id).await?;
        let known = self.mailboxes().known(&identity.id, &identity.generation_id);
        let holds_it =
            owner.is_some() && owner.map(|owner| owner.epoch) == known.as_ref().map(|known| known.epoch);
        let stored = if holds_it {
            None
        } else {
            self.store().get::<Activity>(&identity_key(self.instance(), &identity.id)).await?
        };
        Ok(shown(identity, owner, known.as_ref(), stored.as_ref().map(|stored| &stored.record)))
    }
}

/// Where a flush learns what lies in the store.
#[derive(Clone, Copy)]
pub(super) enum Before {
    AsKnown,
    AsRead,
}

fn activity(hub: &Hub, id: &IdentityId, known: &Known) -> Activity {
    Activity {
        instance: hub.instance().clone(),
        id: id.clone(),
        generation_id: known.generation_id.clone(),
        session_epoch: known.epoch,
        connected: known.connected,
        connection_state_updated_time: known.at,
        last_activity_time: known.last_activity,
    }
}

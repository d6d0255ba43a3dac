//! Connection state and last activity: volatile here, written to records of their own every few seconds, read from both.
//! The flush runs for as long as the hub; losing the last seconds in a crash is allowed.

use std::time::Duration;

use base::ids::IdentityId;
use base::tasks::Stopping;
use base::{Timestamp, caps};
use store::{Batch, CommitError, Stored};

use super::{Ended, Sessions};
use crate::device::{Activity, Identity, identity_key};
use crate::hub::Hub;

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

impl Sessions {
    /// What is known without the store: of a live session, or of one that ended moments ago.
    pub(crate) fn connection(&self, id: &IdentityId, generation_id: &str) -> Option<Connection> {
        let state = self.0.state.lock();
        if let Some(live) = state.live.get(id).filter(|live| live.generation_id == generation_id) {
            let (state_updated_time, last_activity_time) = (live.connected_at, live.last_activity());
            return Some(Connection { connected: true, state_updated_time, last_activity_time });
        }
        let ended = state.ended.get(id).filter(|ended| ended.generation_id == generation_id)?;
        let (state_updated_time, last_activity_time) = (ended.at, ended.last_activity);
        Some(Connection { connected: false, state_updated_time, last_activity_time })
    }

    /// Activity that no flush has seen yet. Ended sessions stay until [`Self::flushed`].
    pub(super) fn unflushed(&self, hub: &Hub) -> Vec<Activity> {
        let activity = |id: &IdentityId, generation_id: &str, connected, at, last| Activity {
            instance: hub.instance().clone(),
            id: id.clone(),
            generation_id: generation_id.to_owned(),
            connected,
            connection_state_updated_time: at,
            last_activity_time: last,
        };
        let state = self.0.state.lock();
        let live = state.live.values().filter(|live| live.take_unflushed());
        let live = live.map(|s| activity(&s.id, &s.generation_id, true, s.connected_at, s.last_activity()));
        let ended = state.ended.iter();
        let ended = ended.map(|(id, s)| activity(id, &s.generation_id, false, s.at, s.last_activity));
        live.chain(ended).collect()
    }

    fn flushed(&self, written: &[Activity]) {
        let mut state = self.0.state.lock();
        for activity in written.iter().filter(|activity| !activity.connected) {
            let same = |ended: &Ended| ended.at == activity.connection_state_updated_time;
            if state.ended.get(&activity.id).is_some_and(same) {
                state.ended.remove(&activity.id);
            }
        }
    }
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
            self.flush_activity().await;
        }
    }

    /// Writes what the last flush did not see. Safe to call at any time.
    pub async fn flush_activity(&self) {
        let activities = self.sessions().unflushed(self);
        for page in activities.chunks(caps::ACTIVITY_FLUSH_PAGE) {
            match self.store().commit(activity_batch(page)).await {
                Ok(_) => {}
                // Somebody's identity has gone meanwhile: the others must not suffer for it.
                Err(CommitError::Conflict) => self.flush_one_by_one(page).await,
                Err(error) => tracing::warn!(%error, "activity was not flushed"),
            }
            self.sessions().flushed(page);
        }
    }

    async fn flush_one_by_one(&self, page: &[Activity]) {
        for activity in page {
            let batch = activity_batch(std::slice::from_ref(activity));
            if let Err(CommitError::Store(error)) = self.store().commit(batch).await {
                tracing::warn!(%error, "activity was not flushed");
            }
        }
    }

    pub(crate) async fn connection(&self, identity: &Identity) -> Result<Connection, crate::Error> {
        if let Some(connection) = self.sessions().connection(&identity.id, &identity.generation_id) {
            return Ok(connection);
        }
        let key = identity_key(self.instance(), &identity.id);
        let stored = self.store().get::<Activity>(&key).await?;
        Ok(stored.map_or(Connection::NEVER, |stored| from_record(&stored, identity)))
    }
}

/// Whoever has no session is not connected, whatever was last written.
pub(crate) fn from_record(stored: &Stored<Activity>, identity: &Identity) -> Connection {
    let activity = &stored.record;
    if activity.generation_id != identity.generation_id {
        return Connection::NEVER;
    }
    Connection {
        connected: false,
        state_updated_time: activity.connection_state_updated_time,
        last_activity_time: activity.last_activity_time,
    }
}

pub(super) fn activity_batch(page: &[Activity]) -> Batch {
    let mut batch = Batch::default();
    for activity in page {
        batch.guard_exists::<Identity>(identity_key(&activity.instance, &activity.id));
        batch.put(activity);
    }
    batch
}

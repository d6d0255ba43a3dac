//! The configurations of a hub as a process keeps them, and how a write of a twin and a change of a configuration do not miss each
//! other. Whoever writes twins takes a fence first: it says which configurations he judged by. A change of a configuration is one of
//! the hub's settings too, so on a store that others share a write with an older fence is refused; in one process the walk over all
//! twins begins when the last such write has ended. A hub that never had one reads and checks nothing.

use std::sync::{Arc, Weak};

use parking_lot::RwLock;
use store::{Batch, CommitError, Committed, Key, Revision, Stored};
use tokio::sync::Notify;

use super::targets::Set;
use crate::error::Error;
use crate::hub::Hub;
use crate::settings::HubSettings;
use crate::twin::DeviceTwin;
use crate::twin::rules::Applied;

struct Known {
    /// How many changes of configurations there had been.
    generation: u64,
    set: Set,
    gone: Arc<Notify>,
}

impl Drop for Known {
    fn drop(&mut self) {
        self.gone.notify_waiters();
    }
}

/// What one process knows of a hub's configurations.
pub(crate) struct Gate {
    state: RwLock<State>,
    gone: Arc<Notify>,
}

struct State {
    now: Arc<Known>,
    /// By which writes that are under way may have judged.
    before: Vec<Weak<Known>>,
}

impl Default for Gate {
    fn default() -> Self {
        let gone = Arc::new(Notify::new());
        let now = Arc::new(Known { generation: 0, set: Set::default(), gone: gone.clone() });
        Self { state: RwLock::new(State { now, before: Vec::new() }), gone }
    }
}

impl Gate {
    fn at(&self, generation: u64) -> Option<Arc<Known>> {
        let state = self.state.read();
        (state.now.generation == generation).then(|| state.now.clone())
    }

    fn learn(&self, generation: u64, set: Set) {
        let known = Arc::new(Known { generation, set, gone: self.gone.clone() });
        let mut state = self.state.write();
        if generation > state.now.generation {
            let before = std::mem::replace(&mut state.now, known);
            state.before.retain(|known| known.strong_count() > 0);
            state.before.push(Arc::downgrade(&before));
        }
    }

    /// Waits until nobody in this process writes by configurations that are not the present ones.
    pub(super) async fn until_all_know(&self) {
        loop {
            let gone = self.gone.notified();
            tokio::pin!(gone);
            gone.as_mut().enable();
            if self.state.read().before.iter().all(|known| known.strong_count() == 0) {
                return;
            }
            gone.await;
        }
    }
}

/// What a write of twins is judged by. Held until the write is committed.
pub(crate) struct Fence {
    known: Arc<Known>,
    /// Of the settings that say so.
    revision: Revision,
}

impl Fence {
    pub(super) fn generation(&self) -> u64 {
        self.known.generation
    }

    /// Other processes may have changed a configuration since.
    pub(crate) fn guard(&self, hub: &Hub, batch: &mut Batch) {
        if hub.store().is_shared() {
            batch.guard_revision::<HubSettings>(Key::instance(hub.instance()), self.revision);
        }
    }

    /// A new twin, as the configurations have it from the start.
    pub(crate) fn settle_new(&self, hub: &Hub, twin: DeviceTwin, is_edge: bool) -> DeviceTwin {
        let mut applied = Applied::unchanged(twin);
        self.settle(hub, &mut applied, is_edge);
        applied.twin
    }

    pub(crate) fn settle(&self, hub: &Hub, applied: &mut Applied, is_edge: bool) {
        if !self.known.set.has_no_say(&applied.twin) {
            let old = applied.twin.properties.desired.clone();
            self.known.set.settle(applied, &old, is_edge, hub.now());
        }
    }
}

impl Hub {
    /// Before a twin is changed.
    pub(crate) async fn fence(&self) -> Result<Fence, Error> {
        loop {
            let (revision, settings) = self.seen_settings();
            if let Some(known) = self.gate().at(settings.configurations) {
                return Ok(Fence { known, revision });
            }
            self.read_configurations().await?;
        }
    }

    /// A changed twin with what the configurations make of it.
    pub(crate) async fn settled(
        &self,
        fence: &Fence,
        old: &DeviceTwin,
        mut applied: Applied,
    ) -> Result<Applied, Error> {
        let set = &fence.known.set;
        if set.has_no_say(&applied.twin) {
            return Ok(applied);
        }
        let is_edge = set.has_deployments() && old.identity.module_id.is_none() && self.is_edge(old).await?;
        set.settle(&mut applied, &old.properties.desired, is_edge, self.now());
        Ok(applied)
    }

    async fn is_edge(&self, twin: &DeviceTwin) -> Result<bool, Error> {
        Ok(self.identity(&twin.identity).await?.is_some_and(|identity| identity.record.iot_edge))
    }

    /// Commits a write of twins, and keeps its fence until then.
    pub(crate) async fn commit_fenced(&self, batch: Batch, fence: Fence) -> Result<Committed, CommitError> {
        let committed = self.store().commit(batch).await;
        drop(fence);
        if matches!(committed, Err(CommitError::Conflict)) && self.store().is_shared() {
            // Perhaps of the settings, of which this process has not heard yet.
            self.see_settings().await?;
        }
        committed
    }

    pub(super) async fn see_settings(&self) -> Result<Option<Stored<HubSettings>>, store::StoreError> {
        let stored = self.store().get::<HubSettings>(&Key::instance(self.instance())).await?;
        if let Some(stored) = &stored {
            self.offer_settings(stored.clone());
        }
        Ok(stored)
    }

    async fn read_configurations(&self) -> Result<(), Error> {
        loop {
            let before = self.see_settings().await?.ok_or(Error::IotHubNotFound)?.record.configurations;
            let all = self.stored_configurations().await?;
            let after = self.see_settings().await?.ok_or(Error::IotHubNotFound)?.record.configurations;
            if before == after {
                self.gate().learn(after, Set::new(all.iter().map(|stored| &stored.record)));
                return Ok(());
            }
        }
    }
}

//! After a change of a configuration: a walk over all twins, some after another, by one house at a time under a lease. How far it has
//! come is a record that every step writes, so whoever goes on with it begins there; a change that comes meanwhile begins it anew.

use std::time::Duration;

use base::caps;
use base::ids::IdentityId;
use store::{Batch, CommitError, Key, Scan, StoreError, Stored};

use super::record::Walk;
use crate::due::Work;
use crate::error::Error;
use crate::held::Held;
use crate::hub::Hub;
use crate::identity::identity_key;
use crate::settings::HubSettings;
use crate::twin::DeviceTwin;
use crate::twin::rules::Applied;

const LEASE: Duration = Duration::from_secs(caps::CONFIGURATION_LEASE_SECONDS);

/// How a step went.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    Done,
    Over,
    /// A twin changed meanwhile: with fewer at once it is less likely.
    Again,
    /// A configuration changed, or another house is at it.
    Anew,
}

/// One house's work at a walk.
pub(super) struct Run {
    pub(super) hub: Hub,
    pub(super) held: Held,
    pub(super) walk: Stored<Walk>,
    /// How far it has come, which may be further than what is written.
    pub(super) after: Option<IdentityId>,
    pub(super) unwritten: usize,
}

impl Hub {
    /// Commits a change of configurations that twins may feel, and begins the walk.
    pub(super) async fn commit_configurations(&self, mut batch: Batch) -> Result<(), CommitError> {
        // An end of the hub is a conflict, too.
        let settings = self.see_settings().await?.ok_or(CommitError::Conflict)?;
        let generation = settings.record.configurations + 1;
        let changed = HubSettings { configurations: generation, ..settings.record.clone() };
        batch.replace(&settings, &changed);
        batch.put(&Walk { instance: self.instance().clone(), generation, after: None, is_over: false });
        batch.put(&self.due(self.now(), Work::Configurations));
        let committed = self.store().commit(batch).await?;
        self.offer_settings(committed.stored(changed));
        Ok(())
    }

    /// Begins a walk or goes on with it, unless it is over or another house is at it.
    pub(crate) async fn take_up_walk(&self) -> Result<(), Error> {
        if self.walk().await?.is_none_or(|walk| walk.record.is_over) {
            return Ok(());
        }
        // Should this house end meanwhile, whoever looks then goes on.
        let mut batch = Batch::default();
        batch.put(&self.due_again(caps::CONFIGURATION_LEASE_SECONDS, Work::Configurations));
        self.store().commit(batch).await?;
        let Some(held) = self.take_walk().await? else { return Ok(()) };
        let hub = self.clone();
        self.context().tasks.spawn(async move { hub.walk_under(held).await });
        Ok(())
    }

    pub(super) async fn take_walk(&self) -> Result<Option<Held>, StoreError> {
        let name = format!("configurations/{}", self.instance().as_str());
        self.hold(&name, LEASE).await
    }

    async fn walk_under(&self, mut held: Held) {
        loop {
            let done = self.run_walk(held.clone()).await;
            self.give_back(&held).await;
            // A change that came when the walk was just over found the lease taken.
            let is_left = self.walk().await.is_ok_and(|walk| walk.is_some_and(|walk| !walk.record.is_over));
            match done {
                Ok(()) if is_left && !self.is_ending() => {}
                Ok(()) => return,
                Err(error) => return tracing::debug!(%error, walk = held.name(), "the walk goes on later"),
            }
            match self.take_walk().await {
                Ok(Some(next)) => held = next,
                _ => return,
            }
        }
    }

    pub(super) async fn run_walk(&self, held: Held) -> Result<(), Error> {
        while let Some(mut run) = Run::begin(self, held.clone()).await? {
            let (mut size, mut again) = (caps::CONFIGURATION_TWINS_AT_ONCE, 0);
            loop {
                if !run.goes_on().await? {
                    return Ok(());
                }
                match run.step(size).await? {
                    Step::Done => (size, again) = (caps::CONFIGURATION_TWINS_AT_ONCE, 0),
                    Step::Again if again < caps::CONFLICT_RETRIES_MAX => {
                        (size, again) = ((size / 2).max(1), again + 1);
                    }
                    Step::Again => return Err(Error::ServerBusy),
                    Step::Over => {
                        self.take_up_metrics().await?;
                        break;
                    }
                    Step::Anew => break,
                }
            }
        }
        Ok(())
    }

    pub(super) async fn walk(&self) -> Result<Option<Stored<Walk>>, Error> {
        Ok(self.store().get::<Walk>(&Key::instance(self.instance())).await?)
    }
}

impl Run {
    /// `None`: there is nothing to be walked. From here on any other house's step is refused.
    pub(super) async fn begin(hub: &Hub, held: Held) -> Result<Option<Self>, Error> {
        loop {
            let Some(walk) = hub.walk().await?.filter(|walk| !walk.record.is_over) else { return Ok(None) };
            // This process must know what the walk is for, and nobody in it may write by anything older.
            hub.see_settings().await?;
            drop(hub.fence().await?);
            hub.gate().until_all_know().await;
            let mut batch = Batch::default();
            batch.guard_exists::<HubSettings>(Key::instance(hub.instance()));
            batch.replace(&walk, &walk.record);
            match hub.store().commit(batch).await {
                Ok(committed) => {
                    let after = walk.record.after.as_deref().and_then(|id| id.parse().ok());
                    let walk = committed.stored(walk.record);
                    return Ok(Some(Self { hub: hub.clone(), held, walk, after, unwritten: 0 }));
                }
                Err(CommitError::Conflict) if hub.is_closed() => return Ok(None),
                Err(CommitError::Conflict) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// The next twins, at most `size`.
    pub(super) async fn step(&mut self, size: usize) -> Result<Step, Error> {
        let fence = self.hub.fence().await?;
        if fence.generation() != self.walk.record.generation {
            return Ok(Step::Anew);
        }
        let instance = self.hub.instance();
        let behind = self.after.as_ref().map(|id| identity_key(instance, id));
        let scan = Scan::new(Key::instance(instance), size).after(behind);
        let twins = self.hub.store().scan::<DeviceTwin>(scan).await?;
        let is_over = twins.len() < size;
        let (mut batch, mut told) = (Batch::default(), Vec::new());
        for twin in &twins {
            let unchanged = Applied::unchanged(twin.record.clone());
            let applied = self.hub.settled(&fence, &twin.record, unchanged).await?;
            if applied.twin != twin.record {
                self.hub.change_twin(&mut batch, twin, &applied);
                told.extend(applied.desired_notification.map(|patch| (applied.twin, patch)));
            }
        }
        let after = twins.last().map(|twin| twin.record.identity.clone()).or_else(|| self.after.clone());
        if batch.is_empty() && !is_over && self.unwritten < caps::CONFIGURATION_PAGES_UNWRITTEN_MAX {
            (self.after, self.unwritten) = (after, self.unwritten + 1);
            return Ok(Step::Done);
        }
        fence.guard(&self.hub, &mut batch);
        let text = after.as_ref().map(ToString::to_string);
        let walk = Walk { after: text, is_over, ..self.walk.record.clone() };
        batch.guard_exists::<HubSettings>(Key::instance(instance));
        batch.replace(&self.walk, &walk);
        match self.hub.commit_fenced(batch, fence).await {
            Ok(committed) => self.walk = committed.stored(walk),
            Err(CommitError::Conflict) if self.is_unchanged().await? => return Ok(Step::Again),
            Err(CommitError::Conflict) => return Ok(Step::Anew),
            Err(error) => return Err(error.into()),
        }
        (self.after, self.unwritten) = (after, 0);
        self.hub.tell_desired(told).await;
        Ok(if is_over { Step::Over } else { Step::Done })
    }

    async fn is_unchanged(&self) -> Result<bool, Error> {
        Ok(self.hub.walk().await?.is_some_and(|walk| walk.revision == self.walk.revision))
    }

    /// Whether there may be another step. The lease is kept as long as it is asked.
    async fn goes_on(&mut self) -> Result<bool, Error> {
        self.hub.keep(&mut self.held).await?;
        Ok(!self.hub.is_ending())
    }
}

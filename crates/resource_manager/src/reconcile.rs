//! What outlives a request: making, changing and deleting the instances behind resources, and deleting whole groups.
//! One loop, woken by a poke or by time, without input: everything it needs is stored, and everything it does may be done twice.

use std::time::Duration;

use base::tasks::Stopping;
use base::{Elapsed, Scope, caps};
use store::{Batch, Counter, Find, Key, Record, StoreError, Stored, retry_on_conflict};

use crate::ResourceManager;
use crate::error::Error;
use crate::id::{GroupId, ResourceId};
use crate::operation::{Operation, State, Target, Work};
use crate::provider::ResourceType;
use crate::resource::{ClaimedName, Properties, ProvisioningState, Resource};
use crate::turn::{self, Turn};
use crate::{event_hub, instance, private_endpoint};

/// After a failure of the store or of a service, the next attempt.
const RETRY: Duration = Duration::from_secs(1);
/// Without anything to do, expired operations are looked for this often.
const IDLE: Duration = Duration::from_hours(1);

/// Why an operation could not be finished.
pub(crate) enum Fault {
    /// Try again: nothing is wrong with the request.
    Later(Error),
    /// The service behind the resource refuses it for good.
    Refused { code: &'static str, message: String },
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Later(error)
    }
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        Self::Later(Error::Store(error))
    }
}

impl ResourceManager {
    /// Starts the loop. What a stopped server left undone is done first.
    pub fn start(&self) {
        let (manager, stopping) = (self.clone(), self.tasks.stopping());
        self.tasks
            .keep("reconciler", &self.clock, move || manager.clone().keep_reconciling(stopping.clone()));
    }

    async fn keep_reconciling(self, mut stopping: Stopping) {
        loop {
            let next = self.reconcile().await;
            tokio::select! {
                () = stopping.wait() => return,
                () = self.wake.notified() => {}
                () = self.clock.sleep_until(next) => {}
            }
        }
    }

    /// Finishes every operation that is due. Returns when to look again.
    pub async fn reconcile(&self) -> Elapsed {
        let idle = self.clock.elapsed().plus(IDLE);
        match self.reconcile_due().await {
            Ok(next) => next.unwrap_or(idle),
            Err(error) => {
                tracing::warn!(?error, "operations could not be read; trying again");
                self.clock.elapsed().plus(RETRY)
            }
        }
    }

    async fn reconcile_due(&self) -> Result<Option<Elapsed>, Error> {
        let running = self.running().await?;
        let is_due = |operation: &Stored<Operation>| operation.record.waits(self.clock.stamp()).is_zero();
        let next = if !running.iter().any(is_due) {
            self.next_of(&running)
        } else if let Some(turn) = self.turn().await? {
            self.finish_due(turn, running).await?
        } else {
            Some(self.clock.elapsed().plus(turn::LOOKED_EVERY))
        };
        self.forget_old_operations().await?;
        Ok(next)
    }

    /// In the order of their acceptance: the later of two changes must win.
    async fn running(&self) -> Result<Vec<Stored<Operation>>, Error> {
        let mut running = self.operations_in("running").await?;
        running.sort_by_key(|operation| operation.revision);
        Ok(running)
    }

    /// When the first of them is due.
    fn next_of(&self, waiting: &[Stored<Operation>]) -> Option<Elapsed> {
        let (now, stamp) = (self.clock.elapsed(), self.clock.stamp());
        waiting.iter().map(|operation| now.plus(operation.record.waits(stamp))).min()
    }

    async fn finish_due(
        &self,
        turn: Turn,
        running: Vec<Stored<Operation>>,
    ) -> Result<Option<Elapsed>, Error> {
        let work = async {
            // Another's turn may just have ended.
            let running = if self.store.is_shared() { self.running().await? } else { running };
            Ok(self.finish_all_due(running).await)
        };
        turn.run(Box::pin(work)).await
    }

    /// Gives when to look for those that are left.
    async fn finish_all_due(&self, running: Vec<Stored<Operation>>) -> Option<Elapsed> {
        let mut next: Option<Elapsed> = None;
        for operation in running {
            let mut pause = operation.record.waits(self.clock.stamp());
            if pause.is_zero() {
                match self.finish(&operation.record).await {
                    Ok(()) => continue,
                    Err(error) => {
                        tracing::warn!(
                            ?error,
                            operation = operation.record.id,
                            "an operation waits; trying again"
                        );
                        pause = RETRY;
                    }
                }
            }
            let again = self.clock.elapsed().plus(pause);
            next = Some(next.map_or(again, |next| next.min(again)));
        }
        next
    }

    /// Finishes what a start that was cut short left running, due or not.
    pub(crate) async fn finish_all(&self) -> Result<(), Error> {
        let work = async {
            for operation in self.running().await? {
                self.finish(&operation.record).await?;
            }
            Ok(())
        };
        self.next_turn().await?.run(Box::pin(work)).await
    }

    async fn operations_in(&self, state: &str) -> Result<Vec<Stored<Operation>>, Error> {
        let find = Find::new(Key::new([Operation::REALM]), "state", state, caps::RESOURCE_PAGE);
        Ok(self.store.find::<Operation>(find).await?)
    }

    async fn forget_old_operations(&self) -> Result<(), Error> {
        let Some(now) = self.clock.forgetting_time() else { return Ok(()) };
        let oldest = now.minus(Duration::from_secs(caps::OPERATION_KEPT_SECONDS));
        let mut batch = Batch::default();
        for stored in self.operations_in("ended").await? {
            let (State::Succeeded { ended } | State::Failed { ended, .. }) = &stored.record.state else {
                continue;
            };
            if *ended < oldest {
                batch.remove::<Operation>(stored.record.key());
            }
        }
        if !batch.is_empty() {
            self.store.commit(batch).await?;
        }
        Ok(())
    }

    pub(crate) fn begin_operation(&self, target: Target, work: Work, location: Option<&str>) -> Operation {
        let now = self.clock.stamp();
        let delay = if self.settings.is_synchronous { Duration::ZERO } else { self.settings.delay };
        let location = crate::location::normalise(location.unwrap_or("global"));
        Operation::begin(target, work, &location, now, now.plus(delay))
    }

    /// Finishes an operation within its request. The outer error is ours, the inner one the operation's.
    pub(crate) async fn finish_now(&self, operation: &Operation) -> Result<Result<(), Error>, Error> {
        self.next_turn().await?.run(Box::pin(self.finish(operation))).await?;
        let stored = self.store.get::<Operation>(&operation.key()).await?;
        Ok(match stored.map(|stored| stored.record.state) {
            Some(State::Failed { message, .. }) => Err(Error::Conflict(message)),
            _ => Ok(()),
        })
    }

    async fn finish(&self, operation: &Operation) -> Result<(), Error> {
        let outcome = match &operation.target {
            Target::Group(group) => self.finish_group_delete(operation, group).await,
            Target::Resource(id) => self.finish_resource(operation, id).await,
        };
        match outcome {
            Ok(()) => Ok(()),
            Err(Fault::Later(error)) => Err(error),
            Err(Fault::Refused { code, message }) => self.fail(operation, code, message).await,
        }
    }

    async fn finish_resource(&self, operation: &Operation, id: &ResourceId) -> Result<(), Fault> {
        let Some(stored) = self.stored(id).await? else {
            self.remove_previous_identity(operation, None).await?;
            return Ok(self.end(operation, Batch::default()).await?);
        };
        match &operation.work {
            Work::Delete => {
                self.remove_resource(&stored.record).await?;
                Ok(retry_on_conflict(async || self.end(operation, Batch::default()).await).await?)
            }
            Work::DeleteGroup => Ok(()),
            Work::Create | Work::Update { .. } => {
                self.ensure_behind(&stored.record).await?;
                self.remove_previous_identity(operation, Some(&stored.record)).await?;
                Ok(self.settle(operation, id).await?)
            }
            Work::UpdateConnection { .. } | Work::DeleteConnection { .. } => {
                Ok(self.settle(operation, id).await?)
            }
        }
    }

    /// An identity that an update took away goes once the update cannot fail any more.
    async fn remove_previous_identity(
        &self,
        operation: &Operation,
        now: Option<&Resource>,
    ) -> Result<(), Error> {
        let Work::Update { previous, .. } = &operation.work else { return Ok(()) };
        Ok(self.remove_lost_identity(previous, now).await?)
    }

    /// Writes what the end of an operation shows in its resource, together with the end itself.
    async fn settle(&self, operation: &Operation, id: &ResourceId) -> Result<(), Error> {
        retry_on_conflict(async || {
            let mut batch = Batch::default();
            if let Some(old) = self.stored(id).await? {
                let mut next = old.record.clone();
                self.apply_end(operation, &mut next)?;
                batch.replace(&old, &next);
            }
            self.end(operation, batch).await
        })
        .await
    }

    fn apply_end(&self, operation: &Operation, next: &mut Resource) -> Result<(), Error> {
        let now = self.clock.now();
        match &operation.work {
            Work::Update { tags: Some(tags), .. } => next.tags.clone_from(tags),
            Work::UpdateConnection { name, state } => {
                let connections = private_endpoint::connections_mut(next)?;
                if let Some(connection) = connections.iter_mut().find(|known| known.name == *name) {
                    connection.state.clone_from(state);
                }
            }
            Work::DeleteConnection { name } => {
                private_endpoint::connections_mut(next)?.retain(|known| known.name != *name);
            }
            Work::Create | Work::Update { .. } | Work::Delete | Work::DeleteGroup => {}
        }
        let is_last = next.operation.as_deref() == Some(operation.id.as_str());
        if is_last && next.provisioning_state != ProvisioningState::Deleting {
            next.provisioning_state = ProvisioningState::Succeeded;
        }
        next.version = crate::resource::next_version(Some(next), now);
        if let Properties::DigitalTwinsInstance(properties) = &mut next.properties {
            properties.last_updated = now;
        }
        Ok(())
    }

    /// Ends an operation well, with `batch`. One that has ended already stays as it is.
    async fn end(&self, operation: &Operation, mut batch: Batch) -> Result<(), Error> {
        let Some(old) = self.store.get::<Operation>(&operation.key()).await? else { return Ok(()) };
        if !old.record.is_running() {
            return Ok(());
        }
        let state = State::Succeeded { ended: self.clock.stamp() };
        batch.replace(&old, &Operation { state, ..old.record.clone() });
        self.store.commit(batch).await?;
        Ok(())
    }

    /// Ends an operation badly: an update gives back what was there before.
    async fn fail(&self, operation: &Operation, code: &str, message: String) -> Result<(), Error> {
        retry_on_conflict(async || {
            let mut batch = Batch::default();
            let Some(old) = self.store.get::<Operation>(&operation.key()).await? else { return Ok(()) };
            let (code, message) = (code.to_owned(), message.clone());
            let state = State::Failed { ended: self.clock.stamp(), code, message };
            batch.replace(&old, &Operation { state, ..old.record.clone() });
            if let Target::Resource(id) = &operation.target
                && let Some(old) = self.stored(id).await?
                && old.record.operation.as_deref() == Some(operation.id.as_str())
            {
                let mut next = match &operation.work {
                    Work::Update { previous, .. } => (**previous).clone(),
                    _ => old.record.clone(),
                };
                next.provisioning_state = ProvisioningState::Failed;
                next.version = crate::resource::next_version(Some(&old.record), self.clock.now());
                batch.replace(&old, &next);
                self.remove_lost_identity(&old.record, Some(&next)).await?;
            }
            self.store.commit(batch).await?;
            Ok(())
        })
        .await
    }

    async fn finish_group_delete(&self, operation: &Operation, group: &GroupId) -> Result<(), Fault> {
        // Children come with their parents, and what a caller adds meanwhile is refused, so that this ends.
        for resource in self.all_in_group(group).await? {
            if resource.id.parent.is_none() {
                self.remove_resource(&resource).await?;
            }
        }
        self.forget_roles(&group.scope()).await?;
        let mut batch = Batch::default();
        batch.remove::<crate::group::ResourceGroup>(group.key());
        Ok(self.end(operation, batch).await?)
    }

    /// Removes a resource, its children first, and what stands behind each.
    async fn remove_resource(&self, resource: &Resource) -> Result<(), Fault> {
        for child_type in resource.id.resource_type.children() {
            while let Some(child) = self.first_child(&resource.id, *child_type).await? {
                self.remove_one(&child).await?;
            }
        }
        self.remove_one(resource).await
    }

    async fn first_child(
        &self,
        parent: &ResourceId,
        child_type: ResourceType,
    ) -> Result<Option<Resource>, Error> {
        let page = self.scan_page(parent.children_key(child_type), None).await?;
        Ok(page.items.into_iter().next())
    }

    async fn remove_one(&self, resource: &Resource) -> Result<(), Fault> {
        self.remove_behind(resource).await?;
        self.forget_roles(&resource.id.scope()).await?;
        retry_on_conflict(async || {
            let Some(stored) = self.stored(&resource.id).await? else { return Ok(()) };
            self.remove_lost_identity(&stored.record, None).await?;
            let mut batch = Batch::default();
            batch.delete(&stored);
            let holder = self.name_holder(resource.id.resource_type, &resource.id.name).await?;
            if holder.is_some_and(|holder| holder == resource.id) {
                batch.remove::<ClaimedName>(ClaimedName::of(&resource.id).key());
            }
            if let Some(counter) = self.counter_of(&stored.record).await? {
                batch.add(counter, -1, i64::MAX);
            }
            self.store.commit(batch).await?;
            Ok::<_, Error>(())
        })
        .await?;
        Ok(())
    }

    /// A later resource of the same name must not inherit who might do what with this one.
    async fn forget_roles(&self, scope: &Scope) -> Result<(), Fault> {
        Ok(self.directory.forget_scope(scope).await.map_err(Error::from)?)
    }

    /// The counter that holds how many children of this type a parent has.
    async fn counter_of(&self, resource: &Resource) -> Result<Option<Counter>, Error> {
        let Some(parent_id) = resource.id.parent_id() else { return Ok(None) };
        let Some(parent) = self.stored(&parent_id).await? else { return Ok(None) };
        Ok(match resource.id.resource_type {
            ResourceType::DigitalTwinsEndpoint => {
                Some(Counter::new(&instance::properties(&parent.record)?.instance, "endpoints"))
            }
            ResourceType::EventHub => {
                Some(Counter::new(&event_hub::namespace(&parent.record)?.instance, "eventhubs"))
            }
            _ => None,
        })
    }
}

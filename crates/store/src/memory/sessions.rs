//! Nodes, sessions and leases: rows of which each is judged when it is asked for.

use std::time::Duration;

use base::ids::IdentityId;
use base::{DeviceId, Elapsed, InstanceId, Timestamp, caps};

use super::state::{Held, Life, Row, State};
use super::{Memory, Part, lease};
use crate::engine;
use crate::error::StoreError;
use crate::leases::Lease;
use crate::sessions::{Begun, Node, Owner};

/// Prolongs the life of a store's node; where it was over, another begins.
pub(super) async fn keep_living(part: Part) {
    loop {
        part.database.0.clock.sleep(Duration::from_secs(caps::NODE_LEASE_RENEWED_SECONDS)).await;
        if part.faults().before().await.is_err() {
            continue;
        }
        let (now, node) = (part.database.now(), *part.node.lock());
        let lost = part.faults().ends_a_lease();
        let lived = part.now(|state| {
            if lost && let Some(life) = state.life(node, now) {
                life.until = now;
            }
            if let Some(life) = state.life(node, now) {
                life.until = now.plus(lease());
            } else {
                let life = state.nodes.entry(node.number).or_insert(Life { epoch: 0, until: now });
                (life.epoch, life.until) = (life.epoch + 1, now.plus(lease()));
            }
            state.nodes[&node.number].epoch
        });
        match lived {
            Ok(epoch) => part.node.lock().epoch = epoch,
            Err(_) => return,
        }
    }
}

impl State {
    pub(super) fn join(&mut self, now: Elapsed, lease: Duration) -> Node {
        let number = self.nodes.len().try_into().unwrap_or(u32::MAX);
        self.nodes.insert(number, Life { epoch: 1, until: now.plus(lease) });
        Node { number, epoch: 1 }
    }

    /// The node's life, if it is not over.
    fn life(&mut self, node: Node, now: Elapsed) -> Option<&mut Life> {
        self.nodes.get_mut(&node.number).filter(|life| life.epoch == node.epoch && life.until > now)
    }

    fn lives(&self, node: Node, now: Elapsed) -> bool {
        self.nodes.get(&node.number).is_some_and(|life| life.epoch == node.epoch && life.until > now)
    }

    /// What the last one that began under an identity was told.
    fn begun(&self, row: &Row, now: Elapsed) -> Begun {
        let previous = row.previous.filter(|previous| self.lives(previous.node, now));
        Begun { epoch: row.epoch, previous }
    }

    /// Sessions of an instance that count.
    fn living(&self, instance: &InstanceId, now: Elapsed) -> impl Iterator<Item = (&IdentityId, Owner)> {
        let rows = self.sessions.iter().filter(move |((of, _), _)| of == instance);
        let owners = rows.filter_map(|((_, identity), row)| Some((identity, row.owner?)));
        owners.filter(move |(_, owner)| self.lives(owner.node, now))
    }

    fn held(&mut self, lease: &Lease, now: Elapsed) -> Option<&mut Held> {
        self.leases.get_mut(&lease.name).filter(|held| held.epoch == lease.epoch && held.until > now)
    }

    /// Under a greater epoch than ever before, unless somebody holds it.
    fn take(&mut self, name: &str, node: u32, now: Elapsed, until: Elapsed) -> Option<u64> {
        let held = self.leases.entry(name.to_owned()).or_insert(Held { node, epoch: 0, until: now });
        if held.until > now {
            return None;
        }
        *held = Held { node, epoch: held.epoch + 1, until };
        Some(held.epoch)
    }

    /// The same for whoever may hold it already: then it is prolonged.
    pub(super) fn take_or_keep(
        &mut self,
        name: &str,
        node: u32,
        now: Elapsed,
        until: Elapsed,
    ) -> Option<u64> {
        match self.leases.get_mut(name) {
            Some(held) if held.until > now && held.node == node => {
                held.until = until;
                Some(held.epoch)
            }
            _ => self.take(name, node, now, until),
        }
    }
}

impl engine::Sessions for Memory {
    async fn join(&self, lease: Duration) -> Result<Node, StoreError> {
        let database = &self.part().database;
        self.part().change(|state| state.join(database.now(), lease)).await
    }

    async fn keep(&self, node: Node, lease: Duration) -> Result<bool, StoreError> {
        let database = &self.part().database;
        let kept = self.part().change(|state| {
            let now = database.now();
            state.life(node, now).map(|life| life.until = now.plus(lease)).is_some()
        });
        kept.await
    }

    async fn leave(&self, node: Node) -> Result<(), StoreError> {
        let database = &self.part().database;
        let left = self.part().change(|state| {
            let now = database.now();
            if let Some(life) = state.life(node, now) {
                life.until = now;
            }
        });
        left.await
    }

    async fn lives(&self, node: Node) -> Result<bool, StoreError> {
        let database = &self.part().database;
        self.part().step(|state| state.lives(node, database.now())).await
    }

    async fn begin(
        &self,
        node: Node,
        instance: &InstanceId,
        identity: &IdentityId,
        since: Timestamp,
    ) -> Result<Begun, StoreError> {
        let database = &self.part().database;
        let begun = self.part().change(|state| {
            let place = (instance.clone(), identity.clone());
            let row = state.sessions.entry(place).or_default();
            row.epoch += 1;
            row.previous = row.owner.replace(Owner { node, epoch: row.epoch, since });
            let row = row.clone();
            state.begun(&row, database.now())
        });
        begun.await
    }

    async fn begun(
        &self,
        node: Node,
        instance: &InstanceId,
        identity: &IdentityId,
        since: Timestamp,
    ) -> Result<Option<Begun>, StoreError> {
        let database = &self.part().database;
        let begun = self.part().step(|state| {
            let is_it = |owner: &Owner| {
                owner.node == node && owner.since == since && state.lives(node, database.now())
            };
            let row = state.sessions.get(&(instance.clone(), identity.clone()));
            let row = row.filter(|row| row.owner.as_ref().is_some_and(is_it));
            row.map(|row| state.begun(row, database.now()))
        });
        begun.await
    }

    async fn end(
        &self,
        instance: &InstanceId,
        identity: &IdentityId,
        epoch: u64,
    ) -> Result<bool, StoreError> {
        let ended = self.part().change(|state| {
            let row = state.sessions.get_mut(&(instance.clone(), identity.clone()));
            let row = row.filter(|row| row.owner.is_some_and(|owner| owner.epoch == epoch));
            row.map(|row| row.owner = None).is_some()
        });
        ended.await
    }

    async fn owners(
        &self,
        instance: &InstanceId,
        identities: &[IdentityId],
    ) -> Result<Vec<Option<Owner>>, StoreError> {
        let database = &self.part().database;
        let owners = self.part().step(|state| {
            let row = |identity: &IdentityId| state.sessions.get(&(instance.clone(), identity.clone()));
            let owner = |identity| row(identity).and_then(|row| row.owner);
            let living = |owner: &Owner| state.lives(owner.node, database.now());
            identities.iter().map(|identity| owner(identity).filter(living)).collect()
        });
        owners.await
    }

    async fn of_device(
        &self,
        instance: &InstanceId,
        device_id: &DeviceId,
    ) -> Result<Vec<(IdentityId, Owner)>, StoreError> {
        let database = &self.part().database;
        let found = self.part().step(|state| {
            let living = state.living(instance, database.now());
            let of_device = living.filter(|(identity, _)| identity.device_id == *device_id);
            of_device.map(|(identity, owner)| (identity.clone(), owner)).collect()
        });
        found.await
    }

    async fn list(
        &self,
        instance: &InstanceId,
        after: Option<&IdentityId>,
        limit: usize,
    ) -> Result<Vec<(IdentityId, Owner)>, StoreError> {
        let database = &self.part().database;
        let found = self.part().step(|state| {
            let living = state.living(instance, database.now());
            let behind = living.filter(|(identity, _)| after.is_none_or(|after| *identity > after));
            behind.take(limit).map(|(identity, owner)| (identity.clone(), owner)).collect()
        });
        found.await
    }

    async fn connected_devices(&self, instance: &InstanceId) -> Result<u64, StoreError> {
        let database = &self.part().database;
        let count = self.part().step(|state| {
            let living = state.living(instance, database.now());
            living.filter(|(identity, _)| identity.module_id.is_none()).count() as u64
        });
        count.await
    }

    async fn remove_instance(&self, instance: &InstanceId) -> Result<(), StoreError> {
        self.part().change(|state| state.sessions.retain(|(of, _), _| of != instance)).await
    }
}

impl engine::Leases for Memory {
    async fn take(&self, name: &str, node: Node, length: Duration) -> Result<Option<Lease>, StoreError> {
        let database = &self.part().database;
        let taken = self.part().change(|state| {
            let now = database.now();
            let epoch = state.take(name, node.number, now, now.plus(length))?;
            Some(Lease { name: name.to_owned(), node, epoch })
        });
        taken.await
    }

    async fn renew(&self, lease: &Lease, length: Duration) -> Result<bool, StoreError> {
        let (database, lost) = (&self.part().database, self.part().faults().ends_a_lease());
        let renewed = self.part().change(|state| {
            let now = database.now();
            let Some(held) = state.held(lease, now) else { return false };
            held.until = if lost { now } else { now.plus(length) };
            !lost
        });
        renewed.await
    }

    async fn give_back(&self, lease: &Lease) -> Result<(), StoreError> {
        let database = &self.part().database;
        let given = self.part().change(|state| {
            let now = database.now();
            if let Some(held) = state.held(lease, now) {
                held.until = now;
            }
        });
        given.await
    }
}

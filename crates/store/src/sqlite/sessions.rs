//! Nodes, sessions and leases of the embedded engine: in memory, because a restart ends them all. Only how often the database was
//! opened is stored, and leads every epoch, so that none comes twice. Nothing here waits for the disk.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use base::clock::Elapsed;
use base::ids::IdentityId;
use base::{Clock, DeviceId, InstanceId, Timestamp};
use parking_lot::Mutex;
use rusqlite::Connection;

use crate::engine;
use crate::error::StoreError;
use crate::leases::Lease;
use crate::sessions::{Begun, Node, Owner};

/// Epochs of one opening are less than this apart: more than a process can hand out.
const EPOCHS_PER_OPENING_BITS: u32 = 40;
const FOR_EVER: Duration = Duration::MAX;

pub(crate) struct Live {
    clock: Clock,
    /// This process, which lives for as long as the store is open.
    own: Node,
    state: Mutex<State>,
}

struct State {
    last_epoch: u64,
    nodes: BTreeMap<u32, Life>,
    instances: HashMap<InstanceId, Instance>,
    leases: HashMap<String, Held>,
}

/// The latest life under one number.
struct Life {
    epoch: u64,
    until: Elapsed,
}

#[derive(Default)]
struct Instance {
    owners: BTreeMap<IdentityId, Owner>,
    /// How many devices each node has here, so that nobody counts them one by one.
    devices: HashMap<Node, u64>,
}

struct Held {
    epoch: u64,
    until: Elapsed,
}

impl Live {
    /// Notes durably that the database was opened once more.
    pub(crate) fn open(connection: &Connection) -> Result<Self, StoreError> {
        let text = "INSERT INTO meta VALUES ('openings', '1')
            ON CONFLICT (name) DO UPDATE SET value = CAST(value AS INTEGER) + 1 RETURNING CAST(value AS INTEGER)";
        let opening: u64 = connection.query_row(text, [], |row| row.get(0))?;
        Ok(Self::new(Clock::system(), opening << EPOCHS_PER_OPENING_BITS))
    }

    pub(crate) fn new(clock: Clock, last_epoch: u64) -> Self {
        let mut state =
            State { last_epoch, nodes: BTreeMap::new(), instances: HashMap::new(), leases: HashMap::new() };
        let own = state.join(clock.elapsed(), FOR_EVER);
        Self { clock, own, state: Mutex::new(state) }
    }

    pub(crate) fn node(&self) -> Node {
        self.own
    }
}

impl State {
    fn next_epoch(&mut self) -> u64 {
        self.last_epoch += 1;
        self.last_epoch
    }

    fn join(&mut self, now: Elapsed, lease: Duration) -> Node {
        let taken = |number: &u32| self.nodes.get(number).is_some_and(|life| life.until > now);
        let number = (0..u32::MAX).find(|number| !taken(number)).expect("fewer nodes than numbers");
        let (epoch, until) = (self.next_epoch(), now.plus(lease));
        self.nodes.insert(number, Life { epoch, until });
        Node { number, epoch }
    }

    /// The node's life, if it is not over.
    fn life(&mut self, node: Node, now: Elapsed) -> Option<&mut Life> {
        self.nodes.get_mut(&node.number).filter(|life| life.epoch == node.epoch && life.until > now)
    }

    fn lives(&self, node: Node, now: Elapsed) -> bool {
        self.nodes.get(&node.number).is_some_and(|life| life.epoch == node.epoch && life.until > now)
    }

    fn held(&mut self, lease: &Lease, now: Elapsed) -> Option<&mut Held> {
        self.leases.get_mut(&lease.name).filter(|held| held.epoch == lease.epoch && held.until > now)
    }

    /// Those of `owners` whose node lives, in their order.
    fn living<'a>(
        &self,
        owners: impl Iterator<Item = (&'a IdentityId, &'a Owner)>,
        now: Elapsed,
        limit: usize,
    ) -> Vec<(IdentityId, Owner)> {
        let living = owners.filter(|(_, owner)| self.lives(owner.node, now));
        living.take(limit).map(|(identity, owner)| (identity.clone(), *owner)).collect()
    }
}

impl Instance {
    fn set(&mut self, identity: &IdentityId, owner: Owner) -> Option<Owner> {
        self.count(identity, owner.node, 1);
        let previous = self.owners.insert(identity.clone(), owner);
        if let Some(previous) = previous {
            self.count(identity, previous.node, -1);
        }
        previous
    }

    fn remove(&mut self, identity: &IdentityId) {
        if let Some(owner) = self.owners.remove(identity) {
            self.count(identity, owner.node, -1);
        }
    }

    fn count(&mut self, identity: &IdentityId, node: Node, delta: i64) {
        if identity.module_id.is_some() {
            return;
        }
        let devices = self.devices.entry(node).or_insert(0);
        *devices = devices.saturating_add_signed(delta);
        if *devices == 0 {
            self.devices.remove(&node);
        }
    }
}

impl engine::Sessions for Live {
    async fn join(&self, lease: Duration) -> Result<Node, StoreError> {
        Ok(self.state.lock().join(self.clock.elapsed(), lease))
    }

    async fn keep(&self, node: Node, lease: Duration) -> Result<bool, StoreError> {
        let now = self.clock.elapsed();
        let mut state = self.state.lock();
        let Some(life) = state.life(node, now) else { return Ok(false) };
        life.until = now.plus(lease);
        Ok(true)
    }

    async fn leave(&self, node: Node) -> Result<(), StoreError> {
        let now = self.clock.elapsed();
        if let Some(life) = self.state.lock().life(node, now) {
            life.until = now;
        }
        Ok(())
    }

    async fn lives(&self, node: Node) -> Result<bool, StoreError> {
        Ok(self.state.lock().lives(node, self.clock.elapsed()))
    }

    async fn begin(
        &self,
        node: Node,
        instance: &InstanceId,
        identity: &IdentityId,
        since: Timestamp,
    ) -> Result<Begun, StoreError> {
        let now = self.clock.elapsed();
        let mut state = self.state.lock();
        let epoch = state.next_epoch();
        if !state.instances.contains_key(instance) {
            state.instances.insert(instance.clone(), Instance::default());
        }
        let sessions = state.instances.get_mut(instance).expect("it is there now");
        let previous = sessions.set(identity, Owner { node, epoch, since });
        let previous = previous.filter(|previous| state.lives(previous.node, now));
        Ok(Begun { epoch, previous })
    }

    async fn begun(
        &self,
        node: Node,
        instance: &InstanceId,
        identity: &IdentityId,
        since: Timestamp,
    ) -> Result<Option<Begun>, StoreError> {
        let state = self.state.lock();
        let owner = state.instances.get(instance).and_then(|sessions| sessions.owners.get(identity));
        let begun = owner.filter(|owner| owner.node == node && owner.since == since);
        let begun = begun.filter(|owner| state.lives(owner.node, self.clock.elapsed()));
        Ok(begun.map(|owner| Begun { epoch: owner.epoch, previous: None }))
    }

    async fn end(
        &self,
        instance: &InstanceId,
        identity: &IdentityId,
        epoch: u64,
    ) -> Result<bool, StoreError> {
        let mut state = self.state.lock();
        let Some(sessions) = state.instances.get_mut(instance) else { return Ok(false) };
        let stands = sessions.owners.get(identity).is_some_and(|owner| owner.epoch == epoch);
        if stands {
            sessions.remove(identity);
        }
        Ok(stands)
    }

    async fn owners(
        &self,
        instance: &InstanceId,
        identities: &[IdentityId],
    ) -> Result<Vec<Option<Owner>>, StoreError> {
        let now = self.clock.elapsed();
        let state = self.state.lock();
        let sessions = state.instances.get(instance);
        let owner = |identity| sessions.and_then(|sessions| sessions.owners.get(identity)).copied();
        let living = |owner: &Owner| state.lives(owner.node, now);
        Ok(identities.iter().map(|identity| owner(identity).filter(living)).collect())
    }

    async fn of_device(
        &self,
        instance: &InstanceId,
        device_id: &DeviceId,
    ) -> Result<Vec<(IdentityId, Owner)>, StoreError> {
        let state = self.state.lock();
        let Some(sessions) = state.instances.get(instance) else { return Ok(Vec::new()) };
        let from = sessions.owners.range(IdentityId::device(device_id.clone())..);
        let of_device = from.take_while(|(identity, _)| identity.device_id == *device_id);
        Ok(state.living(of_device, self.clock.elapsed(), usize::MAX))
    }

    async fn list(
        &self,
        instance: &InstanceId,
        after: Option<&IdentityId>,
        limit: usize,
    ) -> Result<Vec<(IdentityId, Owner)>, StoreError> {
        use std::ops::Bound::{Excluded, Unbounded};
        let state = self.state.lock();
        let Some(sessions) = state.instances.get(instance) else { return Ok(Vec::new()) };
        let behind = sessions.owners.range((after.map_or(Unbounded, Excluded), Unbounded));
        Ok(state.living(behind, self.clock.elapsed(), limit))
    }

    async fn connected_devices(&self, instance: &InstanceId) -> Result<u64, StoreError> {
        let now = self.clock.elapsed();
        let state = self.state.lock();
        let Some(sessions) = state.instances.get(instance) else { return Ok(0) };
        let living = sessions.devices.iter().filter(|(node, _)| state.lives(**node, now));
        Ok(living.map(|(_, devices)| devices).sum())
    }

    async fn remove_instance(&self, instance: &InstanceId) -> Result<(), StoreError> {
        self.state.lock().instances.remove(instance);
        Ok(())
    }
}

impl engine::Leases for Live {
    async fn take(&self, name: &str, node: Node, length: Duration) -> Result<Option<Lease>, StoreError> {
        let now = self.clock.elapsed();
        let mut state = self.state.lock();
        if state.leases.get(name).is_some_and(|held| held.until > now) {
            return Ok(None);
        }
        let epoch = state.next_epoch();
        state.leases.insert(name.to_owned(), Held { epoch, until: now.plus(length) });
        Ok(Some(Lease { name: name.to_owned(), node, epoch }))
    }

    async fn renew(&self, lease: &Lease, length: Duration) -> Result<bool, StoreError> {
        let now = self.clock.elapsed();
        let mut state = self.state.lock();
        let Some(held) = state.held(lease, now) else { return Ok(false) };
        held.until = now.plus(length);
        Ok(true)
    }

    async fn give_back(&self, lease: &Lease) -> Result<(), StoreError> {
        let now = self.clock.elapsed();
        let mut state = self.state.lock();
        if state.held(lease, now).is_some() {
            // Epochs come from one counter, so nothing of it need be remembered.
            state.leases.remove(&lease.name);
        }
        Ok(())
    }
}

//! The one life of every instance: a hub, a provisioning service, a Digital Twins instance, a namespace. Each kind's crate says
//! how one starts and is drained; when that happens, and what is left on disk in between, is decided here and nowhere else.
//! Hosts are registered and forgotten by it alone.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use base::hosts::{Hosts, Service};
use base::{Clock, InstanceId, Timestamp, caps};
use parking_lot::RwLock;
use serde::{Deserialize, Serialize};

use crate::batch::Batch;
use crate::changes::{Keeper, Kept, Reading};
use crate::error::{CommitError, StoreError};
use crate::key::{Key, Scan};
use crate::record::{Record, Revision, Stored};
use crate::retry::{MayConflict, retry_on_conflict};
use crate::store::Store;
use crate::table::{self, Table};

/// What an operator decides of an instance: one record, whose key is the instance id. Whatever is written into an instance
/// guards that this record exists.
pub trait Settings: Record {
    const SERVICE: Service;

    fn instance(&self) -> &InstanceId;
    fn name(&self) -> &str;
    fn location(&self) -> &str;
    /// Whether it answers at hosts that name no instance. Kinds that are never reached so have no default.
    fn is_default(&self) -> bool {
        false
    }
    /// Decided once, when the instance is made.
    fn set_default(&mut self, _: bool) {}
    /// Takes from the settings before these what never changes in an instance's life.
    fn keep(&mut self, old: &Self);
}

/// What one kind of instance does at the turns of its life.
pub trait Kind: Send + Sync + 'static {
    type Settings: Settings;
    type Instance: Clone + Send + Sync + 'static;

    fn clock(&self) -> &Clock;

    /// Makes what must be there before an instance is found, outside the records: a stream. Safe to repeat.
    fn prepare(&self, _: &Self::Settings) -> impl Future<Output = Result<(), StoreError>> + Send {
        async { Ok(()) }
    }

    fn start(&self, settings: Current<Self::Settings>) -> Self::Instance;

    /// Refuses whatever comes from now on and cuts what is connected here. Safe to repeat. Every process does it with its own.
    fn close(&self, _: &Self::Instance) {}

    /// Cuts what is connected elsewhere. Done by who removes the instance. Safe to repeat.
    fn drain(&self, _: &Self::Instance) -> impl Future<Output = ()> + Send {
        async {}
    }

    /// Removes what lies outside the records. Called when the outbox holds nothing of the instance any more, so that no relay
    /// brings it back. Safe to repeat.
    fn remove_streams(&self, _: &InstanceId) -> impl Future<Output = Result<(), StoreError>> + Send {
        async { Ok(()) }
    }
}

/// The settings of an instance as the last commit left them. Clones share them.
pub struct Current<S>(Arc<RwLock<(Revision, Arc<S>)>>);

impl<S> Clone for Current<S> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<S> Current<S> {
    fn new(stored: Stored<S>) -> Self {
        Self(Arc::new(RwLock::new((stored.revision, Arc::new(stored.record)))))
    }

    pub fn get(&self) -> Arc<S> {
        Arc::clone(&self.0.read().1)
    }

    /// With the revision by which a write can insist on them.
    pub fn seen(&self) -> (Revision, Arc<S>) {
        let present = self.0.read();
        (present.0, Arc::clone(&present.1))
    }

    /// Of two changes the later one stays, whoever tells of it last.
    pub fn offer(&self, stored: Stored<S>) {
        let mut present = self.0.write();
        if stored.revision > present.0 {
            *present = (stored.revision, Arc::new(stored.record));
        }
    }
}

impl<S: Settings + Clone> Current<S> {
    /// Changes what the settings hold for their instance itself and [`Settings::keep`] leaves alone. `None`: the instance has ended.
    pub async fn change<T, E>(
        &self,
        store: &Store,
        change: impl Fn(&mut S) -> Result<T, E>,
    ) -> Result<Option<T>, E>
    where
        E: From<StoreError> + From<CommitError> + MayConflict,
    {
        let key = Key::instance(self.get().instance());
        retry_on_conflict(async || {
            let Some(old) = store.get::<S>(&key).await? else { return Ok(None) };
            let mut new = old.record.clone();
            let result = change(&mut new)?;
            let mut batch = Batch::default();
            batch.replace(&old, &new);
            let committed = store.commit(batch).await?;
            self.offer(committed.stored(new));
            Ok(Some(result))
        })
        .await
    }
}

/// An instance that has ended for good. Written with its end, so that neither a late change nor a crash brings it back. Each start
/// sweeps once more behind it and forgets it: at once, or where others share the store once it is so old that none of them is
/// still making it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Ended {
    kind: String,
    instance: InstanceId,
    unix_seconds: i64,
}

impl Ended {
    fn key_of<S: Settings>(instance: &InstanceId) -> Key {
        Key::new([S::TABLE.name, instance.as_str()])
    }

    fn is_of_the_past(&self, now: Option<Timestamp>) -> bool {
        let kept = caps::ENDED_INSTANCE_KEPT_SECONDS;
        now.is_some_and(|now| now.unix_seconds().saturating_sub(self.unix_seconds) > kept)
    }
}

impl Record for Ended {
    const TABLE: Table = table::ENDED_INSTANCE;

    fn key(&self) -> Key {
        Key::new([self.kind.as_str(), self.instance.as_str()])
    }
}

/// All instances of one kind. Clones share them.
pub struct Instances<K: Kind>(Arc<Inner<K>>);

#[expect(clippy::disallowed_types, reason = "the one lock that is held across I/O (ARCHITECTURE.md)")]
type Turn = tokio::sync::Mutex<()>;

struct Inner<K: Kind> {
    kind: K,
    store: Store,
    hosts: Hosts,
    /// Starts and ends take turns, each until it is stored. Nobody who only looks for an instance waits for it.
    turn: Turn,
    live: RwLock<Live<K>>,
}

struct Live<K: Kind> {
    by_id: HashMap<InstanceId, (Current<K::Settings>, K::Instance)>,
    /// In lower case.
    by_name: BTreeMap<String, InstanceId>,
    /// Found by nobody any more, but not yet gone: a removal that failed half-way is repeated from here.
    ending: HashMap<InstanceId, (Current<K::Settings>, K::Instance)>,
}

impl<K: Kind> Live<K> {
    /// Takes out those whose end is none of ours.
    fn take(&mut self, is_gone: impl Fn(&InstanceId) -> bool) -> Vec<(Current<K::Settings>, K::Instance)> {
        self.by_name.retain(|_, id| !is_gone(id));
        self.by_id.extract_if(|id, _| is_gone(id)).map(|(_, found)| found).collect()
    }
}

impl<K: Kind> Keeper for Instances<K> {
    fn kept(&self) -> Vec<Kept> {
        vec![Kept::of::<K::Settings>()]
    }

    fn read_again(&self) -> Reading<'_> {
        Box::pin(Self::read_again(self))
    }
}

impl<K: Kind> Clone for Instances<K> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<K: Kind> Instances<K> {
    pub fn new(kind: K, store: Store, hosts: Hosts) -> Self {
        let live = Live { by_id: HashMap::new(), by_name: BTreeMap::new(), ending: HashMap::new() };
        Self(Arc::new(Inner { kind, store, hosts, turn: Turn::new(()), live: RwLock::new(live) }))
    }

    pub fn kind(&self) -> &K {
        &self.0.kind
    }

    /// Finishes every removal that a stop cut off, then starts every stored instance. Called once, before the doors open.
    pub async fn load(&self) -> Result<(), StoreError> {
        self.sweep_ended().await?;
        self.stored().await?.into_iter().for_each(|stored| drop(self.start(stored)));
        Ok(())
    }

    /// Starts what another process made, gives new settings to what it changed, and lets go of what it removed; what else there is
    /// to an end is that process's.
    pub async fn read_again(&self) -> Result<(), StoreError> {
        let _turn = self.0.turn.lock().await;
        self.follow().await
    }

    /// In one's turn: nothing begins or ends here meanwhile.
    async fn follow(&self) -> Result<(), StoreError> {
        let stored = self.stored().await?;
        let there: HashSet<&InstanceId> = stored.iter().map(|stored| stored.record.instance()).collect();
        let gone = |id: &InstanceId| !there.contains(id);
        let ended: Vec<_> = self.0.live.write().take(gone);
        for (settings, instance) in ended {
            self.0.kind.close(&instance);
            // Before another of its name begins.
            self.0.hosts.forget(K::Settings::SERVICE, settings.get().name());
        }
        for record in stored {
            drop(self.start(record));
        }
        Ok(())
    }

    async fn stored(&self) -> Result<Vec<Stored<K::Settings>>, StoreError> {
        let mut all = Vec::new();
        loop {
            let after = all.last().map(|last: &Stored<K::Settings>| last.record.key());
            let page = self.0.store.scan(Scan::new(Key::all(), caps::SCAN_PAGE).after(after)).await?;
            if page.is_empty() {
                return Ok(all);
            }
            all.extend(page);
        }
    }

    /// Makes the instance, or gives an existing one new settings, but for what [`Settings::keep`] keeps. Safe to repeat. One that
    /// is made while its kind has no default becomes it, so that whoever deletes the default and makes it again finds it where it
    /// was. An instance that was removed is never made again: that is a conflict.
    pub async fn ensure(&self, settings: K::Settings) -> Result<K::Instance, CommitError> {
        let _turn = self.0.turn.lock().await;
        let (store, ended) = (&self.0.store, Ended::key_of::<K::Settings>(settings.instance()));
        if store.is_shared() {
            // Whether there is a default is decided by what there is now.
            self.follow().await?;
        }
        if store.get::<Ended>(&ended).await?.is_some() {
            return Err(CommitError::Conflict);
        }
        let made = retry_on_conflict(async || {
            let mut settings = settings.clone();
            let mut batch = Batch::default();
            batch.guard_absent::<Ended>(ended.clone());
            match store.get::<K::Settings>(&settings.key()).await? {
                None => {
                    settings.set_default(self.0.hosts.default_instance(K::Settings::SERVICE).is_none());
                    batch.insert(&settings);
                }
                Some(old) => {
                    settings.set_default(old.record.is_default());
                    settings.keep(&old.record);
                    batch.replace(&old, &settings);
                }
            }
            self.0.kind.prepare(&settings).await?;
            let committed = store.commit(batch).await?;
            Ok::<_, CommitError>(committed.stored(settings))
        })
        .await;
        if made.is_err() && store.get::<Ended>(&ended).await?.is_some() {
            // It was removed by another process meanwhile, whose sweep may have come before what was prepared here.
            self.sweep(settings.instance()).await?;
        }
        Ok(self.start(made?))
    }

    /// Ends the instance and forgets everything of it. Safe to repeat after a crash in the middle: each step leaves what the
    /// next one needs.
    pub async fn remove(&self, id: &InstanceId) -> Result<(), StoreError> {
        self.end(id).await?;
        let ending = self.0.live.read().ending.get(id).cloned();
        if let Some((_, instance)) = &ending {
            self.0.kind.close(instance);
            self.0.kind.drain(instance).await;
        }
        self.sweep(id).await?;
        if let Some((settings, _)) = ending {
            self.0.hosts.forget(K::Settings::SERVICE, settings.get().name());
            self.0.live.write().ending.remove(id);
        }
        Ok(())
    }

    /// By name, in any case.
    pub fn find(&self, name: &str) -> Option<K::Instance> {
        let live = self.0.live.read();
        let id = live.by_name.get(&name.to_ascii_lowercase())?;
        live.by_id.get(id).map(|(_, instance)| instance.clone())
    }

    pub fn get(&self, id: &InstanceId) -> Option<K::Instance> {
        self.0.live.read().by_id.get(id).map(|(_, instance)| instance.clone())
    }

    /// One that another process may have made a moment ago.
    pub async fn get_now(&self, id: &InstanceId) -> Result<Option<K::Instance>, StoreError> {
        if self.get(id).is_none() && self.0.store.is_shared() {
            self.read_again().await?;
        }
        Ok(self.get(id))
    }

    /// In the order of their names.
    pub fn all(&self) -> Vec<K::Instance> {
        let live = self.0.live.read();
        let in_order = live.by_name.values().filter_map(|id| live.by_id.get(id));
        in_order.map(|(_, instance)| instance.clone()).collect()
    }

    /// Gives a live instance its settings, or starts it.
    fn start(&self, stored: Stored<K::Settings>) -> K::Instance {
        let id = stored.record.instance().clone();
        if let Some((settings, instance)) = self.0.live.read().by_id.get(&id) {
            settings.offer(stored);
            return instance.clone();
        }
        let settings = &stored.record;
        let name = settings.name().to_ascii_lowercase();
        // Before anybody finds it: what it answers carries its host.
        self.0.hosts.register(K::Settings::SERVICE, &name, settings.location(), settings.is_default());
        let current = Current::new(stored);
        let instance = self.0.kind.start(current.clone());
        let mut live = self.0.live.write();
        live.by_name.insert(name, id.clone());
        live.by_id.insert(id, (current, instance.clone()));
        instance
    }

    /// First its record, on which every write insists, so that nothing comes behind the sweep; and nobody finds it any more.
    async fn end(&self, id: &InstanceId) -> Result<(), StoreError> {
        let _turn = self.0.turn.lock().await;
        let mut batch = Batch::default();
        let (kind, unix_seconds) =
            (K::Settings::TABLE.name.to_owned(), self.0.kind.clock().stamp().unix_seconds());
        batch.put(&Ended { kind, instance: id.clone(), unix_seconds });
        batch.remove::<K::Settings>(Key::instance(id));
        self.0.store.commit(batch).await.map_err(CommitError::unconditional)?;
        let mut live = self.0.live.write();
        if let Some(found) = live.by_id.remove(id) {
            live.by_name.remove(&found.0.get().name().to_ascii_lowercase());
            live.ending.insert(id.clone(), found);
        }
        Ok(())
    }

    async fn sweep(&self, id: &InstanceId) -> Result<(), StoreError> {
        self.0.store.remove_instance(id).await?;
        self.0.kind.remove_streams(id).await
    }

    async fn sweep_ended(&self) -> Result<(), StoreError> {
        let (store, now) = (&self.0.store, self.0.kind.clock().forgetting_time());
        let mut after = None;
        loop {
            let scan = Scan::new(Key::new([K::Settings::TABLE.name]), caps::SCAN_PAGE).after(after);
            let page = store.scan::<Ended>(scan).await?;
            let Some(last) = page.last() else { return Ok(()) };
            after = Some(last.record.key());
            let mut batch = Batch::default();
            for Stored { record: ended, .. } in &page {
                self.sweep(&ended.instance).await?;
                if !store.is_shared() || ended.is_of_the_past(now) {
                    batch.remove::<Ended>(ended.key());
                }
            }
            if !batch.is_empty() {
                store.commit(batch).await.map_err(CommitError::unconditional)?;
            }
        }
    }
}

#[cfg(test)]
mod tests;

//! Queues of what a hub tells its back ends: feedback on messages, and notifications of uploaded files (`iothub-service.md` §7.4, §7.5).
//! Single notices, which whoever asks for them gets by the batch, holds for a while and settles. Kept for as long as the hub's setting
//! says, whether anybody asks or not. What a notice says is its noun's affair.

mod record;

use std::time::Duration;

use access::{Caller, Permission};
use base::{DeviceId, Meter, Timestamp, caps};
use serde::Serialize;
use serde::de::DeserializeOwned;
use store::{Batch, Counter, Key, Record, Scan, Stored, Table, retry_on_conflict};

use self::record::{Taken, Waiting};
use crate::due::Work;
use crate::error::Error;
use crate::hub::Hub;
use crate::lock::{Lock, LockToken, Settlement};
use crate::settings::{HubSettings, ServiceBoundQueue};

/// What one of the queues holds.
pub(crate) trait Notice: Clone + Serialize + DeserializeOwned + Send + Sync + 'static {
    /// As the counter and the log call the queue.
    const NAME: &'static str;
    const WAITING: Table;
    const GIVEN: Table;
    /// How many are given out together.
    const TOGETHER: usize;
    const EXPIRY: Work;
    const PERMISSION: Permission;

    fn queue(settings: &HubSettings) -> ServiceBoundQueue;
    fn enqueued(&self) -> Timestamp;
    fn device_id(&self) -> &DeviceId;
}

/// What somebody who asks gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Given<N> {
    pub told: Vec<N>,
    pub enqueued: Timestamp,
    pub lock_token: LockToken,
}

/// What is given out next.
enum Next<N> {
    /// What was given back, or held for too long.
    Again(Stored<Taken<N>>),
    /// What is new, under this number.
    New(u64),
}

impl Hub {
    fn notice_counter<N: Notice>(&self) -> Counter {
        Counter::new(self.instance(), N::NAME)
    }

    /// Whether more is kept. Where nobody fetches it, new notices are lost rather than what they tell of not done.
    pub(crate) async fn has_room_for<N: Notice>(&self) -> Result<bool, Error> {
        let waiting = self.store().counter(&self.notice_counter::<N>()).await?;
        let has_room = waiting < caps::NOTICES_WAITING_MAX;
        if !has_room {
            tracing::warn!(
                hub = self.name(),
                queue = N::NAME,
                waiting,
                "notices are lost: as many as are kept wait for somebody who fetches them"
            );
        }
        Ok(has_room)
    }

    /// Tells it, if the batch commits.
    pub(crate) fn push_notice<N: Notice>(&self, batch: &mut Batch, sequence: u64, told: N) {
        let expires = told.enqueued().plus(N::queue(&self.settings()).ttl);
        batch.insert(&Waiting { instance: self.instance().clone(), sequence, told, expires });
        batch.add(self.notice_counter::<N>(), 1, i64::MAX);
        // One look for all that expires within the same while.
        let step = Duration::from_secs(caps::NOTICES_EXPIRY_STEP_SECONDS);
        let steps = expires.since(Timestamp::UNIX_EPOCH).as_secs() / step.as_secs() + 1;
        let at = Timestamp::UNIX_EPOCH.plus(Duration::from_secs(steps * step.as_secs()));
        batch.put(&self.due(at, N::EXPIRY));
    }

    /// What nobody holds, in the order in which it came: what was given back first, then what is new.
    pub(crate) async fn receive_notices<N: Notice>(
        &self,
        caller: &Caller,
    ) -> Result<Option<Given<N>>, Error> {
        caller.require(N::PERMISSION, self.scope())?;
        self.charge(Meter::ServiceOperation)?;
        retry_on_conflict(async || match self.next_notices::<N>().await? {
            Next::Again(free) => self.give_again(&free).await.map(Some),
            Next::New(number) => self.give_new(number).await,
        })
        .await
    }

    async fn next_notices<N: Notice>(&self) -> Result<Next<N>, Error> {
        let (now, mut after, mut last) = (self.now(), None, 0);
        loop {
            let scan = Scan::new(Key::instance(self.instance()), caps::SCAN_PAGE).after(after);
            let page = self.store().scan::<Taken<N>>(scan).await?;
            let is_last_page = page.len() < caps::SCAN_PAGE;
            last = page.last().map_or(last, |taken| taken.record.number);
            after = page.last().map(|taken| taken.record.key());
            if let Some(free) = page.into_iter().find(|taken| taken.record.is_free(now)) {
                return Ok(Next::Again(free));
            }
            if is_last_page {
                // Two that are given out in one moment must not have one number.
                let number = u64::try_from(now.ticks()).unwrap_or_default();
                return Ok(Next::New(number.max(last + 1)));
            }
        }
    }

    fn lock_of<N: Notice>(&self, number: u64) -> Lock {
        Lock::new(number, self.now(), N::queue(&self.settings()).lock)
    }

    async fn give_again<N: Notice>(&self, free: &Stored<Taken<N>>) -> Result<Given<N>, Error> {
        let lock = self.lock_of::<N>(free.record.number);
        let taken = Taken { lock: Some(lock), ..free.record.clone() };
        let mut batch = Batch::default();
        batch.replace(free, &taken);
        self.store().commit(batch).await?;
        Ok(Given { told: taken.told, enqueued: taken.enqueued, lock_token: lock.token })
    }

    async fn give_new<N: Notice>(&self, number: u64) -> Result<Option<Given<N>>, Error> {
        let scan = Scan::new(Key::instance(self.instance()), N::TOGETHER);
        let waiting = self.store().scan::<Waiting<N>>(scan).await?;
        let Some(last) = waiting.last() else { return Ok(None) };
        let lock = self.lock_of::<N>(number);
        let taken = Taken {
            instance: self.instance().clone(),
            number,
            told: waiting.iter().map(|stored| stored.record.told.clone()).collect(),
            enqueued: last.record.told.enqueued(),
            expires: last.record.expires,
            delivery_count: 0,
            lock: Some(lock),
        };
        let mut batch = Batch::default();
        for stored in &waiting {
            batch.delete(stored);
        }
        batch.add(self.notice_counter::<N>(), -count(waiting.len()), i64::MAX);
        batch.insert(&taken);
        self.store().commit(batch).await?;
        Ok(Some(Given { told: taken.told, enqueued: taken.enqueued, lock_token: lock.token }))
    }

    /// What becomes of notices that somebody holds. Given back too often they are dropped.
    pub(crate) async fn settle_notices<N: Notice>(
        &self,
        caller: &Caller,
        token: LockToken,
        settlement: Settlement,
    ) -> Result<(), Error> {
        caller.require(N::PERMISSION, self.scope())?;
        self.charge(Meter::ServiceOperation)?;
        let key = Taken::<N>::key_of(self.instance(), token.number);
        retry_on_conflict(async || {
            let held = self.store().get::<Taken<N>>(&key).await?;
            let is_held = |held: &Stored<Taken<N>>| {
                held.record.lock.is_some_and(|lock| lock.is_held_by(token, self.now()))
            };
            let held = held.filter(is_held).ok_or(Error::DeviceMessageLockLost)?;
            let mut back = Taken { lock: None, ..held.record.clone() };
            back.delivery_count += 1;
            let mut batch = Batch::default();
            let max = N::queue(&self.settings()).max_delivery_count;
            if settlement == Settlement::Abandon && back.delivery_count < max {
                batch.replace(&held, &back);
            } else {
                batch.delete(&held);
            }
            self.store().commit(batch).await?;
            Ok(())
        })
        .await
    }

    /// Drops what was not fetched or not settled in time.
    pub(crate) async fn expire_notices<N: Notice>(&self, now: Timestamp) -> Result<(), Error> {
        let page = || Scan::new(Key::instance(self.instance()), caps::SCAN_PAGE);
        retry_on_conflict(async || {
            loop {
                let waiting = self.store().scan::<Waiting<N>>(page()).await?;
                let taken = self.store().scan::<Taken<N>>(page()).await?;
                let mut batch = Batch::default();
                let old = waiting.iter().filter(|stored| stored.record.expires <= now);
                let dropped = old.map(|stored| batch.delete(stored)).count();
                let old = taken.iter().filter(|stored| stored.record.expires <= now);
                let dropped_taken = old.map(|stored| batch.delete(stored)).count();
                batch.add(self.notice_counter::<N>(), -count(dropped), i64::MAX);
                self.store().commit(batch).await?;
                if dropped.max(dropped_taken) < caps::SCAN_PAGE {
                    return Ok(());
                }
            }
        })
        .await
    }
}

fn count(records: usize) -> i64 {
    i64::try_from(records).unwrap_or(i64::MAX)
}

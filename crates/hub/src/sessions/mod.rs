//! Connections of devices and modules: one session per identity, a newer one takes over by its greater epoch.
//! Doors open sessions and drain their commands; operations send through `deliver` and nothing else. It knows no protocol.

mod activity;
mod mailbox;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;
use std::task::{Context, Poll};

use base::ids::IdentityId;
use base::{Clock, Meter, Timestamp, caps};
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::oneshot;

pub use self::activity::Connection;
pub(crate) use self::activity::from_record;
pub use self::mailbox::{CloseReason, Command, MethodAnswer};
use self::mailbox::{Mailbox, Refused};
use crate::authentication::DeviceAuthentication;
use crate::error::Error;
use crate::hub::Hub;
use crate::telemetry::Stamp;

/// The live sessions of one hub. Clones share them.
#[derive(Clone)]
pub struct Sessions(Arc<Shared>);

struct Shared {
    clock: Clock,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    last_epoch: u64,
    live: HashMap<IdentityId, Arc<Mailbox>>,
    /// Sessions that ended and whose last activity is not in the store yet.
    ended: HashMap<IdentityId, Ended>,
    /// Direct methods that wait for a device to come.
    waiting: HashMap<IdentityId, Vec<oneshot::Sender<()>>>,
    methods_in_flight: HashMap<IdentityId, usize>,
    /// Identities whose filters are being written, and the newer sessions that wait for the end of that.
    storing_filters: HashMap<IdentityId, Vec<oneshot::Sender<()>>>,
}

#[derive(Clone, Debug, PartialEq)]
struct Ended {
    generation_id: String,
    at: Timestamp,
    last_activity: Timestamp,
}

/// What can be sent to a connected device.
pub enum Delivery {
    /// Changed desired properties as JSON with `$version`, in whatever order the changes were committed.
    Desired {
        version: u64,
        patch: Bytes,
    },
    Method {
        name: String,
        payload: Bytes,
        answer: oneshot::Sender<MethodAnswer>,
    },
}

/// There is no session, or it does not take this kind of delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the device is not connected or does not listen")]
pub struct NotListening;

/// An open connection, held by its door. Dropping it ends the session.
pub struct Session {
    hub: Hub,
    mailbox: Arc<Mailbox>,
    pub(crate) authentication: DeviceAuthentication,
    pub(crate) stamp: Stamp,
}

impl Hub {
    /// Opens a session and takes over the identity's earlier one, which is told to close. `model_id` is what the device
    /// announced, if anything; the twin keeps it.
    pub async fn open_session(
        &self,
        authentication: DeviceAuthentication,
        model_id: Option<&str>,
    ) -> Result<Session, Error> {
        let id = authentication.identity.clone();
        authentication.caller.require_identity(&id, self.scope())?;
        self.charge(Meter::DeviceConnect)?;
        let mailbox = self.sessions().open(&id, &authentication.generation_id);
        let stamp = Stamp::of(&authentication, model_id, self.partition_count());
        let session = Session { hub: self.clone(), mailbox, authentication, stamp };
        // Whoever disabled or removed the identity since it proved itself found no session to cut.
        let identity = self.connectable(&id).await.map_err(|refused| refused.error)?;
        if identity.generation_id != session.authentication.generation_id || self.is_closed() {
            return Err(Error::IotHubUnauthorizedAccess);
        }
        if let Some(model_id) = model_id {
            self.keep_model_id(&id, model_id).await?;
        }
        Ok(session)
    }
}

impl Session {
    pub fn hub(&self) -> &Hub {
        &self.hub
    }

    pub fn epoch(&self) -> u64 {
        self.mailbox.epoch
    }

    pub fn identity(&self) -> &IdentityId {
        &self.authentication.identity
    }

    pub fn authentication(&self) -> &DeviceAuthentication {
        &self.authentication
    }

    /// The next thing to do for the connection. After `Close` there is nothing else. May be dropped while it waits.
    pub async fn next_command(&self) -> Command {
        std::future::poll_fn(|cx| self.poll_command(cx, true)).await
    }

    /// [`Self::next_command`] for a connection's one task. A door that takes nothing now, because its device does not read,
    /// still hears of `Close`.
    pub fn poll_command(&self, cx: &mut Context<'_>, takes: bool) -> Poll<Command> {
        self.mailbox.poll_next(cx, takes)
    }

    /// [`Self::next_command`] without waiting.
    pub fn try_next_command(&self) -> Option<Command> {
        self.mailbox.try_next()
    }

    /// The device has been heard of.
    pub fn touch(&self) {
        self.mailbox.touch(self.hub.now());
    }

    /// From now on changed desired properties arrive, each version once and in order, beginning behind the one that a read
    /// of the twin after this call shows at the least.
    pub async fn subscribe_desired(&self) -> Result<(), Error> {
        self.mailbox.begin_desired();
        let twin = self.hub.twin(self.identity()).await?;
        self.mailbox.start_desired(twin.record.properties.desired.version);
        Ok(())
    }

    pub fn unsubscribe_desired(&self) {
        self.mailbox.stop_desired();
    }

    /// Whether the device takes direct methods; whoever waits for that is woken.
    pub fn listen_to_methods(&self, listens: bool) {
        self.mailbox.listen_to_methods(listens);
        if listens {
            self.hub.sessions().wake(self.identity());
        }
    }

    pub(crate) fn answer_method(&self, request_id: u64, answer: MethodAnswer) -> bool {
        self.mailbox.answer_method(request_id, answer)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.hub.sessions().end(&self.mailbox);
    }
}

impl Sessions {
    pub(crate) fn new(clock: Clock) -> Self {
        Self(Arc::new(Shared { clock, state: Mutex::default() }))
    }

    /// Sends to a device: the one way to do so.
    pub fn deliver(&self, id: &IdentityId, delivery: Delivery) -> Result<(), NotListening> {
        let mailbox = self.0.state.lock().live.get(id).cloned().ok_or(NotListening)?;
        mailbox.offer(delivery).map_err(|Refused| NotListening)
    }

    pub fn is_connected(&self, id: &IdentityId) -> bool {
        self.0.state.lock().live.get(id).is_some_and(|mailbox| mailbox.closed().is_none())
    }

    pub fn connected_devices(&self) -> u64 {
        let state = self.0.state.lock();
        state.live.keys().filter(|id| id.module_id.is_none()).count() as u64
    }

    /// Cuts the session of one identity, if there is one.
    pub fn close(&self, id: &IdentityId, reason: CloseReason) {
        if let Some(mailbox) = self.0.state.lock().live.get(id) {
            mailbox.close(reason);
        }
    }

    /// Cuts the sessions of a device and of all its modules.
    pub(crate) fn close_device(&self, device_id: &base::DeviceId, reason: CloseReason) {
        let state = self.0.state.lock();
        let of_device = state.live.iter().filter(|(id, _)| id.device_id == *device_id);
        of_device.for_each(|(_, mailbox)| mailbox.close(reason));
    }

    pub(crate) fn close_all(&self) {
        self.0.state.lock().live.values().for_each(|mailbox| mailbox.close(CloseReason::HubRemoved));
    }

    fn open(&self, id: &IdentityId, generation_id: &str) -> Arc<Mailbox> {
        let now = self.0.clock.stamp();
        let mut state = self.0.state.lock();
        state.last_epoch += 1;
        let mailbox = Arc::new(Mailbox::new(id.clone(), generation_id, state.last_epoch, now));
        state.ended.remove(id);
        if let Some(displaced) = state.live.insert(id.clone(), Arc::clone(&mailbox)) {
            displaced.close(CloseReason::TakenOver);
        }
        mailbox
    }

    /// Ends a session, unless a newer one has taken its place already.
    fn end(&self, mailbox: &Arc<Mailbox>) {
        mailbox.close(CloseReason::Ended);
        let mut state = self.0.state.lock();
        if state.live.get(&mailbox.id).is_some_and(|live| live.epoch == mailbox.epoch) {
            state.live.remove(&mailbox.id);
            let (at, last_activity) = (self.0.clock.stamp(), mailbox.last_activity());
            let ended = Ended { generation_id: mailbox.generation_id.clone(), at, last_activity };
            state.ended.insert(mailbox.id.clone(), ended);
        }
    }

    /// Resolves when the identity next comes to listen to methods; at once if it does already.
    pub(crate) async fn listening(&self, id: &IdentityId) {
        while let Some(woken) = self.wait_in_line(id) {
            // An error means that the line was dissolved; look again.
            let _ = woken.await;
        }
    }

    fn wait_in_line(&self, id: &IdentityId) -> Option<oneshot::Receiver<()>> {
        let mut state = self.0.state.lock();
        if state.live.get(id).is_some_and(|mailbox| mailbox.listens_to_methods()) {
            return None;
        }
        let (wake, woken) = oneshot::channel();
        let waiting = state.waiting.entry(id.clone()).or_default();
        waiting.retain(|other| !other.is_closed());
        waiting.push(wake);
        Some(woken)
    }

    fn wake(&self, id: &IdentityId) {
        let waiting = self.0.state.lock().waiting.remove(id);
        for wake in waiting.into_iter().flatten() {
            // Nobody waits any more: fine.
            let _ = wake.send(());
        }
    }

    /// Leave to write the stored filters of an identity. `None`: the session is not, or no longer, the one in place. A newer
    /// one waits with [`Self::filters_settled`] before it reads them, and so at most one writes at a time.
    pub(crate) fn store_filters(&self, session: &Session) -> Option<StoringFilters> {
        let mailbox = &session.mailbox;
        let mut state = self.0.state.lock();
        let is_in_place = state.live.get(&mailbox.id).is_some_and(|live| live.epoch == mailbox.epoch);
        if !is_in_place || mailbox.closed().is_some() {
            return None;
        }
        state.storing_filters.insert(mailbox.id.clone(), Vec::new());
        Some(StoringFilters { sessions: self.clone(), id: mailbox.id.clone() })
    }

    /// Resolves when no displaced session writes the filters of an identity any more.
    pub(crate) async fn filters_settled(&self, id: &IdentityId) {
        let settled = {
            let mut state = self.0.state.lock();
            let Some(waiting) = state.storing_filters.get_mut(id) else { return };
            let (wake, settled) = oneshot::channel();
            waiting.retain(|other: &oneshot::Sender<()>| !other.is_closed());
            waiting.push(wake);
            settled
        };
        // An error means the same: the write is over.
        let _ = settled.await;
    }

    /// Takes one of the places for direct methods of an identity. `None`: all are taken.
    pub(crate) fn method_place(&self, id: &IdentityId) -> Option<MethodPlace> {
        let mut state = self.0.state.lock();
        let in_flight = state.methods_in_flight.entry(id.clone()).or_insert(0);
        if *in_flight >= caps::METHODS_IN_FLIGHT_PER_DEVICE_MAX {
            return None;
        }
        *in_flight += 1;
        Some(MethodPlace { sessions: self.clone(), id: id.clone() })
    }
}

/// The leave to write an identity's filters, given back when dropped.
pub(crate) struct StoringFilters {
    sessions: Sessions,
    id: IdentityId,
}

impl Drop for StoringFilters {
    fn drop(&mut self) {
        // Whoever waits hears of it as its sender goes.
        self.sessions.0.state.lock().storing_filters.remove(&self.id);
    }
}

/// One of the places for direct methods of an identity, given back when dropped.
pub(crate) struct MethodPlace {
    sessions: Sessions,
    id: IdentityId,
}

impl Drop for MethodPlace {
    fn drop(&mut self) {
        let mut state = self.sessions.0.state.lock();
        let left = state.methods_in_flight.get(&self.id).map_or(0, |count| count - 1);
        if left > 0 {
            state.methods_in_flight.insert(self.id.clone(), left);
            return;
        }
        // The last one takes the line of those who waited with it.
        state.methods_in_flight.remove(&self.id);
        state.waiting.remove(&self.id);
    }
}

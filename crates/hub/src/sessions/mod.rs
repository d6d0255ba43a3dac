//! Connections of devices and modules: one session per identity on all nodes, a newer one takes over by its greater epoch.
//! Doors open sessions and drain their commands. It knows no protocol, and not which operations make use of a session.

mod stamp;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod two_houses;

use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use base::ids::IdentityId;
use base::{Meter, Timestamp, caps};
use store::StoreError;
use store::sessions::{Begun, Node, Owner};

pub(crate) use self::stamp::Stamp;
use crate::authentication::DeviceAuthentication;
use crate::bus::CloseReason;
use crate::error::Error;
use crate::hub::Hub;
use crate::mailbox::{Command, Mailbox, MethodAnswer, UnderWay};

/// An open connection, held by its door. Dropping it ends the session.
pub struct Session {
    hub: Hub,
    mailbox: Arc<Mailbox>,
    authentication: DeviceAuthentication,
    stamp: Stamp,
}

impl Hub {
    /// Opens a session and takes over the identity's earlier one, wherever it is; that one is told to close before this returns.
    /// `model_id` is what the device announced, if anything; the twin keeps it.
    pub async fn open_session(
        &self,
        authentication: DeviceAuthentication,
        model_id: Option<&str>,
    ) -> Result<Session, Error> {
        let id = authentication.identity.clone();
        authentication.caller.require_identity(&id, self.scope())?;
        self.charge(Meter::DeviceConnect)?;
        let stamp = Stamp::of(&authentication, model_id, self.partition_count());
        let (session, _opening) = self.to_the_end(self.clone().begin_session(authentication, stamp)).await?;
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

    /// To be run to its end: a connection that goes away meanwhile leaves no row that nobody holds, and no earlier session that nobody
    /// told. What is announced is so until the second one is dropped.
    async fn begin_session(
        self,
        authentication: DeviceAuthentication,
        stamp: Stamp,
    ) -> Result<(Session, UnderWay), Error> {
        let id = authentication.identity.clone();
        let opening = self.mailboxes().announce(&id);
        let (node, since) = (self.node(), self.mailboxes().since(&opening, self.now()));
        let begun = self.begin(node, &id, since).await?;
        let owner = Owner { node, epoch: begun.epoch, since };
        let mailbox = self.mailboxes().enter(&opening, &authentication.generation_id, owner);
        let session = Session { hub: self.clone(), mailbox, authentication, stamp };
        if let Some(previous) = begun.previous {
            self.displace(id, previous).await;
        }
        Ok((session, opening))
    }

    /// Where the store does not know what it did, it is asked until it does.
    async fn begin(&self, node: Node, id: &IdentityId, since: Timestamp) -> Result<Begun, StoreError> {
        let sessions = self.store().sessions();
        let unknown = match sessions.begin(node, self.instance(), id, since).await {
            Err(StoreError::Unknown(why)) => StoreError::Unknown(why),
            known => return known,
        };
        for _ in 0..caps::CLOSE_TRIES_MAX {
            self.clock().sleep(Duration::from_millis(caps::CLOSE_RETRY_MS)).await;
            match sessions.begun(node, self.instance(), id, since).await {
                Ok(begun) => return begun.ok_or(unknown),
                Err(StoreError::Closed) => return Err(StoreError::Closed),
                Err(error) => tracing::debug!(identity = %id, %error, "whether a session began is not known"),
            }
        }
        tracing::warn!(identity = %id, "whether a session began could not be found out");
        Err(unknown)
    }

    /// A node that cannot be reached is told behind the connection that took over: nobody finds its session any more.
    async fn displace(&self, id: IdentityId, previous: Owner) {
        if self.bus().close(self.address(&id, previous), CloseReason::TakenOver).await.is_ok() {
            return;
        }
        let hub = self.clone();
        self.context().tasks.spawn(async move {
            if let Err(error) = hub.close_confirmed(&id, previous, CloseReason::TakenOver).await {
                tracing::warn!(identity = %id, %error, "a displaced session was not closed");
            }
        });
    }

    /// A row that stays behind a session shows a device as connected that is not.
    async fn end_session(self, id: IdentityId, epoch: u64) {
        for _ in 0..caps::CLOSE_TRIES_MAX {
            match self.store().sessions().end(self.instance(), &id, epoch).await {
                Ok(_) | Err(StoreError::Closed) => return,
                Err(error) => tracing::debug!(identity = %id, %error, "the end of a session was not stored"),
            }
            self.clock().sleep(Duration::from_millis(caps::CLOSE_RETRY_MS)).await;
        }
        tracing::warn!(identity = %id, "the end of a session could not be stored");
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

    /// Takes a later proof of the same identity, for protocols that renew a token on an open connection: from now on the session
    /// lasts as long as that one. What is stamped on its messages stays as it began.
    pub fn renew(&mut self, authentication: DeviceAuthentication) -> Result<(), Error> {
        authentication.caller.require_identity(self.identity(), self.hub.scope())?;
        let is_same = authentication.identity == self.authentication.identity
            && authentication.generation_id == self.authentication.generation_id;
        if !is_same {
            return Err(Error::IotHubUnauthorizedAccess);
        }
        self.authentication = authentication;
        Ok(())
    }

    pub(crate) fn mailbox(&self) -> &Mailbox {
        &self.mailbox
    }

    pub(crate) fn stamp(&self) -> &Stamp {
        &self.stamp
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
            self.hub.mailboxes().wake(self.identity());
        }
    }

    pub(crate) fn answer_method(&self, request_id: u64, answer: MethodAnswer) -> bool {
        self.mailbox.answer_method(request_id, answer)
    }

    /// Leave to do what must be over before a successor begins: to write what it reads, to take what it takes. `None`: there is a
    /// successor already, or the session was closed.
    pub(crate) fn leave_to_work(&self) -> Option<UnderWay> {
        self.hub.mailboxes().leave_to_work(&self.mailbox)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.hub.mailboxes().end(&self.mailbox);
        let end = self.hub.clone().end_session(self.identity().clone(), self.epoch());
        let mut end = Box::pin(end);
        // An engine in this process is done at once, and nothing need outlive the connection.
        if end.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending() {
            self.hub.context().tasks.spawn(end);
        }
    }
}

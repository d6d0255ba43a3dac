//! A device or module at its hub: what it publishes becomes operations, what the hub has for it becomes publishes
//! (`iothub-device.md` §2.4–§6). One loop per connection, entered after CONNECT. The rules of twins, methods and messages are
//! the hub's.

mod device_bound;
mod inbox;
mod publish;
mod telemetry;
mod wire;

use std::future::poll_fn;
use std::task::{Context, Poll};
use std::time::Duration;

use access::NetworkTarget;
use base::{Dismissal, Refused, caps};
use bytes::{Bytes, BytesMut};
use entrance::Peer;
use hub::cloud_to_device::Received;
use hub::twin::is_model_id;
use hub::{CloseReason, Command, Error, Hub, Session};
use tokio::io::{AsyncRead, AsyncWrite};

use self::inbox::Inbox;
use crate::codec::{
    self, ConnAck, Connect, ConnectReturnCode, Delivery, Packet, SubAck, Subscribe, Unsubscribe, Will,
};
use crate::connect::Credential;
use crate::door;
use crate::link::{End, Link};
use crate::owed::Owed;
use crate::subscriptions::Subscriptions;
use crate::topic::ToDevice;
use crate::topic::filter::Kind;
use crate::user_name::HubUserName;

/// A device that has proved who it is, and whose earlier connection has been told to go.
pub(crate) struct Admission {
    session: Session,
    /// What a stored session was subscribed to; it is in effect already.
    stored: Option<Subscriptions>,
}

pub(crate) async fn admit(
    hub: Hub,
    name: &HubUserName,
    credential: &Credential,
    peer: &Peer,
    clean_session: bool,
) -> Result<Admission, Refused<Error>> {
    let refused = |why| Refused::new(Error::IotHubUnauthorizedAccess, why);
    hub.settings().network().check(peer.remote_address(), NetworkTarget::DeviceApi).map_err(refused)?;
    let authentication = match credential {
        Credential::Sas(token) => hub.authenticate_device(&name.host, &name.identity, token).await?,
        Credential::Certificate if peer.client_certificates.is_empty() => {
            return Err(refused("it presented neither a password nor a certificate"));
        }
        Credential::Certificate => {
            hub.authenticate_device_by_certificate(&name.identity, &peer.client_certificates).await?
        }
    };
    let model_id = name.model_id.as_deref().filter(|id| is_model_id(id));
    let session = hub.open_session(authentication, model_id).await?;
    let stored = restore(&session, clean_session).await?;
    Ok(Admission { session, stored })
}

/// Brings a stored session back to life, or ends it for good if the client wants a clean one.
async fn restore(session: &Session, clean_session: bool) -> Result<Option<Subscriptions>, Error> {
    let Some(filters) = session.hub().stored_filters(session).await? else { return Ok(None) };
    if clean_session {
        session.hub().remove_filters(session).await?;
        return Ok(None);
    }
    let subscriptions = Subscriptions::from_stored(session.identity(), &filters);
    if subscriptions.reach(Kind::DesiredChanged, session.identity()) {
        session.subscribe_desired().await?;
    }
    session.listen_to_methods(subscriptions.reach(Kind::Method, session.identity()));
    session.listen_to_messages(subscriptions.reach(Kind::CloudToDevice, session.identity()));
    Ok(Some(subscriptions))
}

impl Admission {
    /// Answers the CONNECT; what the client has already sent behind it is handled next.
    pub(crate) fn enter<S>(self, mut link: Link<S>, connect: Connect) -> Box<Connection<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send,
    {
        let grace = Duration::from_secs(caps::SAS_CONNECTION_GRACE_SECONDS);
        let expires_at = self.session.authentication().expires_at;
        link.cut_at(expires_at.map(|expires_at| expires_at.plus(grace)));
        link.keep_alive(connect.keep_alive_seconds);
        link.allow_packets_of(caps::MQTT_PACKET_BYTES_MAX);
        let session_present = self.stored.is_some();
        let connack = ConnAck { session_present, return_code: ConnectReturnCode::Accepted };
        connack.encode(link.out()).expect("a CONNACK fits");
        let state = State {
            owed: Owed::default(),
            subscriptions: self.stored.unwrap_or_default(),
            outlives_connection: !connect.clean_session,
            will: connect.will.map(|will| Box::new(detached(&will))),
            inbox: None,
        };
        Box::new(Connection { link, session: self.session, state })
    }
}

/// A will outlives the read buffer of its CONNECT, which holds the password too.
fn detached(will: &Will) -> Will {
    let topic = codec::Text::try_from(will.topic.as_str()).expect("it was a text before");
    Will { topic, payload: Bytes::copy_from_slice(&will.payload), ..*will }
}

pub(crate) struct Connection<S> {
    link: Link<S>,
    session: Session,
    state: State,
}

/// What one connection remembers.
struct State {
    owed: Owed,
    subscriptions: Subscriptions,
    /// Whether the subscriptions are stored (clean session 0).
    outlives_connection: bool,
    will: Option<Box<Will>>,
    inbox: Option<Box<Inbox>>,
}

/// Whether a device's publish is answered with one.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Answered {
    WithPublish,
    WithNone,
}

enum Woken {
    Moved,
    Command(Command),
    Messages(Vec<Received>),
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Connection<S> {
    /// Says whether it was the server that wanted no more. Boxed, because a future that takes it by value holds it more than
    /// once.
    pub(crate) async fn run(mut self: Box<Self>) -> Option<Box<Dismissal>> {
        let end = self.drive().await;
        let (service, device) = (self.session.hub().name().to_owned(), self.session.identity().to_string());
        tracing::debug!(hub = service, identity = device, ?end, "a connection ended");
        let dismissal =
            end.refusal().map(|why| Box::new(Dismissal::of_device(door::NAME, service, device, why)));
        Box::pin(self.leave(end)).await;
        dismissal
    }

    async fn leave(mut self: Box<Self>, end: End) {
        if end != End::Disconnect {
            self.publish_will().await;
        }
        self.finish_inbox().await;
        drop(self.session);
        self.link.finish().await;
    }

    async fn drive(&mut self) -> End {
        let Self { link, session, state } = self;
        loop {
            let done = match turn(link, session, state).await {
                Ok(Woken::Command(command)) => state.obey(command, session, link),
                Ok(Woken::Messages(messages)) => {
                    let written = state.deliver(&messages, session, link.out());
                    for _ in 0..written {
                        link.note_sent();
                    }
                    Ok(())
                }
                Ok(Woken::Moved) => Ok(()),
                Err(end) => Err(end),
            };
            if let Err(end) = done {
                return end;
            }
        }
    }

    async fn finish_inbox(&mut self) {
        let Some(inbox) = self.state.inbox.take() else { return };
        if let Err(error) = inbox.finish(&self.session).await {
            tracing::debug!(identity = %self.session.identity(), %error, "messages were not completed");
        }
    }

    async fn publish_will(&mut self) {
        let Some(will) = self.state.will.take() else { return };
        if let Err(error) = telemetry::publish_will(&self.session, &will).await {
            tracing::debug!(identity = %self.session.identity(), %error, "a will was not published");
        }
    }
}

/// Handles every packet that is there, then waits until something happens.
async fn turn<S: AsyncRead + AsyncWrite + Unpin + Send>(
    link: &mut Link<S>,
    session: &Session,
    state: &mut State,
) -> Result<Woken, End> {
    while state.may_take(link)
        && let Some(packet) = link.next_packet()?
    {
        let is_done = match &packet {
            Packet::Publish(publish) => state.try_send_telemetry(publish, session)?,
            _ => false,
        };
        // Boxed because few packets wait for anything, and every connection would hold the room for it.
        if !is_done {
            Box::pin(state.take(packet, session, link)).await?;
        }
    }
    if link.is_stopping() && state.owed.is_empty() && link.is_written() {
        return Err(End::Stopping);
    }
    poll_fn(|cx| state.poll(cx, link, session)).await
}

impl State {
    /// A device that does not take its answers, or for which much is under way, has to wait.
    fn may_take<S: AsyncRead + AsyncWrite + Unpin>(&self, link: &Link<S>) -> bool {
        !self.owed.is_full() && !link.is_clogged() && !link.is_stopping()
    }

    fn poll<S: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        link: &mut Link<S>,
        session: &Session,
    ) -> Poll<Result<Woken, End>> {
        if let Poll::Ready(settled) = self.owed.poll_settle(cx, link.out()) {
            return Poll::Ready(settled.map(|()| Woken::Moved).map_err(End::from));
        }
        if let Poll::Ready(command) = session.poll_command(cx, !link.is_clogged()) {
            return Poll::Ready(Ok(Woken::Command(command)));
        }
        // Behind the commands: one that closes the session says why, and a closed one is given no messages.
        if !link.is_clogged()
            && let Poll::Ready(found) = self.poll_inbox(cx, session)
        {
            return Poll::Ready(found.map(Woken::Messages).map_err(End::from));
        }
        let may_read = self.may_take(link);
        link.poll(cx, may_read).map_ok(|_| Woken::Moved)
    }

    fn poll_inbox(&mut self, cx: &mut Context<'_>, session: &Session) -> Poll<Result<Vec<Received>, Error>> {
        let Some(inbox) = &mut self.inbox else { return Poll::Pending };
        let found = inbox.poll(cx, session);
        if inbox.is_idle() {
            self.inbox = None;
        }
        found
    }

    async fn take<S: AsyncRead + AsyncWrite + Unpin + Send>(
        &mut self,
        packet: Packet,
        session: &Session,
        link: &mut Link<S>,
    ) -> Result<(), End> {
        match packet {
            Packet::Publish(publish) => {
                if self.publish(publish, session, link.out()).await? == Answered::WithPublish {
                    link.note_sent();
                }
                Ok(())
            }
            Packet::Subscribe(subscribe) => self.subscribe(subscribe, session, link.out()).await,
            Packet::Unsubscribe(unsubscribe) => self.unsubscribe(unsubscribe, session, link.out()).await,
            Packet::PingReq => {
                session.touch();
                Packet::PingResp.encode(link.out()).expect("a PINGRESP fits");
                Ok(())
            }
            Packet::PubAck(id) => {
                session.touch();
                if let Some(inbox) = &mut self.inbox {
                    inbox.acknowledge(id);
                }
                Ok(())
            }
            Packet::Disconnect => Err(End::Disconnect),
            Packet::Connect(_) | Packet::ForeignConnect { .. } => Err(End::Violation("a second CONNECT")),
            Packet::PubRec(_) | Packet::PubRel(_) | Packet::PubComp(_) => Err(End::Violation("QoS 2")),
            Packet::ConnAck(_) | Packet::SubAck(_) | Packet::UnsubAck(_) | Packet::PingResp => {
                Err(End::Violation("a packet that only servers send"))
            }
        }
    }

    /// A SUBACK says that the subscription works: the twin is read and methods are taken before it leaves.
    async fn subscribe(
        &mut self,
        subscribe: Subscribe,
        session: &Session,
        out: &mut BytesMut,
    ) -> Result<(), End> {
        let before = self.subscriptions.clone();
        let filters = subscribe.filters.iter();
        let granted = filters
            .map(|(filter, qos)| self.subscriptions.subscribe(session.identity(), filter, *qos))
            .collect();
        self.apply(&before, session).await?;
        let suback = SubAck { packet_id: subscribe.packet_id, granted };
        self.owed.answer(out, |out| suback.encode(out).expect("shorter than the SUBSCRIBE"));
        Ok(())
    }

    async fn unsubscribe(
        &mut self,
        unsubscribe: Unsubscribe,
        session: &Session,
        out: &mut BytesMut,
    ) -> Result<(), End> {
        let before = self.subscriptions.clone();
        for filter in &unsubscribe.filters {
            self.subscriptions.unsubscribe(filter);
        }
        self.apply(&before, session).await?;
        let unsuback = Packet::UnsubAck(unsubscribe.packet_id);
        self.owed.answer(out, |out| unsuback.encode(out).expect("an UNSUBACK fits"));
        Ok(())
    }

    /// Tells the hub what the device now hears. Devices subscribe to the same filters whenever they connect, so only a change
    /// is worth a write.
    async fn apply(&mut self, before: &Subscriptions, session: &Session) -> Result<(), Error> {
        session.touch();
        if self.subscriptions == *before {
            return Ok(());
        }
        let reach = |subscriptions: &Subscriptions, kind| subscriptions.reach(kind, session.identity());
        let hears_desired = |subscriptions| reach(subscriptions, Kind::DesiredChanged);
        match (hears_desired(before), hears_desired(&self.subscriptions)) {
            (false, true) => session.subscribe_desired().await?,
            (true, false) => session.unsubscribe_desired(),
            _ => {}
        }
        session.listen_to_methods(reach(&self.subscriptions, Kind::Method));
        session.listen_to_messages(reach(&self.subscriptions, Kind::CloudToDevice));
        if self.outlives_connection {
            session.hub().store_filters(session, self.subscriptions.stored()).await?;
        }
        Ok(())
    }

    /// Does what the hub asks of the connection. Both kinds of publish go out at QoS 0: neither is kept for later.
    fn obey<S: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        command: Command,
        session: &Session,
        link: &mut Link<S>,
    ) -> Result<(), End> {
        let (topic, payload, method) = match command {
            Command::DesiredChanged { version, patch } => {
                (ToDevice::DesiredChanged { version }.text(), patch, None)
            }
            Command::InvokeMethod { request_id, name, payload } => {
                let hex = format!("{request_id:x}");
                (ToDevice::Method { name: &name, request_id: &hex }.text(), payload, Some(request_id))
            }
            Command::MessagesWaiting => {
                self.inbox.get_or_insert_default().look();
                return Ok(());
            }
            Command::Close(reason) => return Err(End::Closed(reason)),
        };
        if !self.subscriptions.cover(&topic) {
            if let Some(request_id) = method {
                session.hub().decline_method(session, request_id);
            }
            return Ok(());
        }
        let written = codec::write_publish(link.out(), Delivery::AtMostOnce, false, &topic, &payload);
        written.map_err(|_| End::Violation("a publish that does not fit"))?;
        link.note_sent();
        Ok(())
    }
}

impl From<Error> for End {
    fn from(error: Error) -> Self {
        match error {
            // The session had been closed already, and its reason is the hub's.
            Error::DeviceConnectionClosedRemotely => Self::Closed(CloseReason::Ended),
            error => Self::Refused(error.name()),
        }
    }
}

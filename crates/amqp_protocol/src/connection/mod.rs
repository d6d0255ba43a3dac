//! One connection from the side that was called: bytes in, events out, and what is to be sent in a buffer. It keeps the rules of the
//! standard's part 2 for layers, sessions, links, windows and credit; what an address means, and who may reach it, is its owner's.
//! It never waits: its owner reads, writes, and watches the time.

mod link;
mod session;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};

use bytes::{Bytes, BytesMut};

use self::link::Link;
use self::session::Session;
use crate::decode::Malformed;
use crate::frame::{self, FRAME_BYTES_MIN, Frame, Protocol};
use crate::performative::{Attach, Begin, DeliveryState, Detach, Error, Open, Performative, Role, Sasl};
use crate::terminus::{Source, Target};
use crate::text::{Symbol, Text};
use crate::value::Map;

/// A link by the numbers that its other side gave session and link; ours are the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkKey {
    pub channel: u16,
    pub handle: u32,
}

/// A delivery of a session. Ours and those of the other side are counted apart.
pub type DeliveryId = u32;

/// What somebody may cost: less before he has said who he is.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    pub frame_bytes_max: u32,
    pub message_bytes_max: usize,
    pub sessions_max: usize,
    /// Of all sessions together.
    pub links_max: usize,
}

/// What the other side has done, for the owner to act on.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// Wants [`Connection::authenticated`].
    Authenticate {
        mechanism: Symbol,
        response: Bytes,
    },
    /// Wants [`Connection::open`].
    Opened(Box<Open>),
    /// Wants [`Connection::accept`] or [`Connection::refuse`].
    Attached {
        link: LinkKey,
        attach: Box<Attach>,
    },
    /// The other side takes deliveries, perhaps. With `drain` it wants those that there are now, and then [`Connection::drained`].
    Credit {
        link: LinkKey,
        drain: bool,
    },
    /// A whole message. One that is not settled wants [`Connection::settle`].
    Delivered {
        link: LinkKey,
        delivery: Delivery,
    },
    /// What became of a delivery of ours. One that is not `settled` wants [`Connection::settle_sent`].
    Outcome {
        link: LinkKey,
        id: DeliveryId,
        state: Option<DeliveryState>,
        settled: bool,
    },
    Detached {
        link: LinkKey,
        closed: bool,
        error: Option<Error>,
    },
    /// A session with all of its links.
    Ended {
        channel: u16,
        links: Vec<LinkKey>,
        error: Option<Error>,
    },
    /// Nothing comes any more, and nothing goes out but what is in the buffer.
    Closed(Option<Error>),
}

#[derive(Clone, Debug, PartialEq)]
pub struct Delivery {
    pub id: DeliveryId,
    pub tag: Bytes,
    pub format: u32,
    pub settled: bool,
    pub message: Bytes,
}

/// How a link is answered.
#[derive(Clone, Debug, Default)]
pub struct Accepted {
    pub source: Option<Source>,
    pub target: Option<Target>,
    pub properties: Map,
    pub offered_capabilities: Vec<Symbol>,
}

/// What ends a connection: to be said to the other side with [`Connection::close`].
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Fault {
    /// Its bytes are not AMQP, or not where they stand.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    #[error("{0} is not expected here")]
    OutOfPlace(&'static str),
    #[error("the channel {0} has no session")]
    NoSession(u16),
    #[error("the handle {0} has no link")]
    NoLink(u32),
    #[error("the handle {0} has a link already")]
    HandleInUse(u32),
    #[error("there are more sessions than may be")]
    Sessions,
    #[error("there are more links than may be")]
    Links,
    #[error("a session's window was not kept to")]
    Window,
    #[error("more deliveries are not settled than may be")]
    Unsettled,
}

impl Fault {
    /// The condition of the standard that says so.
    pub fn condition(&self) -> &'static str {
        match self {
            Self::Malformed(Malformed::FrameSize | Malformed::FrameHeader) => "amqp:connection:framing-error",
            Self::Malformed(_) => "amqp:decode-error",
            Self::OutOfPlace(_) | Self::NoSession(_) => "amqp:not-allowed",
            Self::NoLink(_) => "amqp:session:unattached-handle",
            Self::HandleInUse(_) => "amqp:session:handle-in-use",
            Self::Sessions | Self::Links | Self::Unsettled => "amqp:resource-limit-exceeded",
            Self::Window => "amqp:session:window-violation",
        }
    }

    pub fn error(&self) -> Error {
        Error::new(self.condition(), self.to_string())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The first header is to come, or the one behind SASL.
    Header {
        after_sasl: bool,
    },
    SaslInit,
    /// The owner judges.
    SaslOutcome,
    Open,
    /// The owner answers.
    Opening,
    Opened,
    /// We have closed, and what comes before the other side has is not looked at.
    Closing,
    Closed,
}

pub struct Connection {
    state: State,
    bounds: Bounds,
    /// What is offered to who comes with SASL.
    mechanisms: Vec<Symbol>,
    /// How large a frame the other side takes.
    frame_bytes_max: u32,
    idle_time_out_ms: Option<u32>,
    sessions: BTreeMap<u16, Session>,
    events: VecDeque<Event>,
    output: BytesMut,
}

impl Connection {
    pub fn new(bounds: Bounds, mechanisms: Vec<Symbol>) -> Self {
        Self {
            state: State::Header { after_sasl: false },
            bounds,
            mechanisms,
            frame_bytes_max: FRAME_BYTES_MIN,
            idle_time_out_ms: None,
            sessions: BTreeMap::new(),
            events: VecDeque::new(),
            output: BytesMut::new(),
        }
    }

    /// From here on somebody may cost more, or less.
    pub fn bound(&mut self, bounds: Bounds) {
        self.bounds = bounds;
    }

    /// What is to be sent. Whoever has sent it takes it away.
    pub fn output(&mut self) -> &mut BytesMut {
        self.sessions.iter_mut().for_each(|(channel, session)| session.flush(*channel, &mut self.output));
        &mut self.output
    }

    /// After how long without a frame the other side gives up; [`Connection::say_alive`] in time keeps it.
    pub fn idle_time_out_ms(&self) -> Option<u32> {
        self.idle_time_out_ms
    }

    pub fn say_alive(&mut self) {
        frame::put_empty(&mut self.output);
    }

    pub fn is_closed(&self) -> bool {
        self.state == State::Closed
    }

    /// What has happened next by what came in. `None`: more must come.
    pub fn next(&mut self, input: &mut BytesMut) -> Result<Option<Event>, Fault> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Ok(Some(event));
            }
            let has_more = match self.state {
                State::Header { after_sasl } => self.header(input, after_sasl)?,
                State::SaslInit => self.sasl(input)?,
                State::Open | State::Opened | State::Closing => self.frame(input)?,
                // The owner has not answered yet, or nobody reads any more.
                State::SaslOutcome | State::Opening | State::Closed => false,
            };
            if !has_more && self.events.is_empty() {
                return Ok(None);
            }
        }
    }

    fn header(&mut self, input: &mut BytesMut, after_sasl: bool) -> Result<bool, Fault> {
        let Some(protocol) = Protocol::take(input)? else { return Ok(false) };
        self.output.extend_from_slice(&protocol.header());
        self.state = match protocol {
            Protocol::Amqp => State::Open,
            Protocol::Sasl if after_sasl => return Err(Fault::OutOfPlace("SASL")),
            Protocol::Sasl => {
                let mechanisms = Sasl::Mechanisms(std::mem::take(&mut self.mechanisms));
                frame::put(&mut self.output, Protocol::Sasl, 0, &mechanisms, &[]);
                State::SaslInit
            }
        };
        Ok(true)
    }

    fn sasl(&mut self, input: &mut BytesMut) -> Result<bool, Fault> {
        let Some(frame) = Frame::take(input, Protocol::Sasl, self.bounds.frame_bytes_max)? else {
            return Ok(false);
        };
        let Sasl::Init { mechanism, response, .. } = frame.sasl()? else {
            return Err(Fault::OutOfPlace("what is no SASL init"));
        };
        self.state = State::SaslOutcome;
        self.events.push_back(Event::Authenticate { mechanism, response: response.unwrap_or_default() });
        Ok(true)
    }

    /// Whether somebody is let in by SASL; who is not is told so and nothing more.
    pub fn authenticated(&mut self, is_let_in: bool) {
        if self.state == State::SaslOutcome {
            let outcome = Sasl::Outcome(u8::from(!is_let_in));
            frame::put(&mut self.output, Protocol::Sasl, 0, &outcome, &[]);
            self.state = if is_let_in { State::Header { after_sasl: true } } else { State::Closed };
        }
    }

    fn frame(&mut self, input: &mut BytesMut) -> Result<bool, Fault> {
        let Some(frame) = Frame::take(input, Protocol::Amqp, self.bounds.frame_bytes_max)? else {
            return Ok(false);
        };
        if frame.body.is_empty() {
            return Ok(true);
        }
        let channel = frame.channel;
        if self.state == State::Closing {
            if let (Performative::Close(_), _) = frame.performative()? {
                self.state = State::Closed;
            }
            return Ok(true);
        }
        let (performative, payload) = frame.performative()?;
        match (self.state, performative) {
            (State::Open, Performative::Open(open)) => self.opened(open),
            (State::Open, _) => return Err(Fault::OutOfPlace("anything but open")),
            (_, Performative::Open(_)) => return Err(Fault::OutOfPlace("a second open")),
            (_, Performative::Close(error)) => {
                self.put(0, &Performative::Close(None));
                self.state = State::Closed;
                self.sessions.clear();
                self.events.push_back(Event::Closed(error));
            }
            (_, Performative::Begin(begin)) => self.begin(channel, &begin)?,
            (_, Performative::End(error)) => self.end(channel, error)?,
            (_, performative) => self.in_session(channel, performative, &payload)?,
        }
        Ok(true)
    }

    fn opened(&mut self, open: Open) {
        self.frame_bytes_max = open.max_frame_size.max(FRAME_BYTES_MIN);
        self.idle_time_out_ms = open.idle_time_out_ms.filter(|millis| *millis > 0);
        self.state = State::Opening;
        self.events.push_back(Event::Opened(Box::new(open)));
    }

    /// Our half of the opening.
    pub fn open(&mut self, open: Open) {
        if self.state == State::Opening {
            self.put(0, &Performative::Open(open));
            self.state = State::Opened;
        }
    }

    fn begin(&mut self, channel: u16, begin: &Begin) -> Result<(), Fault> {
        if self.sessions.contains_key(&channel) {
            return Err(Fault::OutOfPlace("a second begin"));
        }
        if self.sessions.len() >= self.bounds.sessions_max {
            return Err(Fault::Sessions);
        }
        let (session, answer) = Session::begin(channel, begin);
        self.sessions.insert(channel, session);
        self.put(channel, &Performative::Begin(answer));
        Ok(())
    }

    fn end(&mut self, channel: u16, error: Option<Error>) -> Result<(), Fault> {
        let session = self.sessions.remove(&channel).ok_or(Fault::NoSession(channel))?;
        if !session.is_ending {
            self.put(channel, &Performative::End(None));
            let links = session.attached().map(|handle| LinkKey { channel, handle }).collect();
            self.events.push_back(Event::Ended { channel, links, error });
        }
        Ok(())
    }

    fn in_session(&mut self, channel: u16, performative: Performative, payload: &Bytes) -> Result<(), Fault> {
        let links: usize = self.sessions.values().map(Session::link_count).sum();
        let session = self.sessions.get_mut(&channel).ok_or(Fault::NoSession(channel))?;
        if session.is_ending {
            return Ok(());
        }
        let key = |handle| LinkKey { channel, handle };
        match performative {
            Performative::Attach(attach) => {
                if links >= self.bounds.links_max {
                    return Err(Fault::Links);
                }
                let handle = session.attach(&attach)?;
                self.events.push_back(Event::Attached { link: key(handle), attach });
            }
            Performative::Flow(flow) => {
                let credit = session.flow(channel, &flow, self.frame_bytes_max, &mut self.output)?;
                if let Some((handle, drain)) = credit {
                    self.events.push_back(Event::Credit { link: key(handle), drain });
                }
            }
            Performative::Transfer(transfer) => {
                let (handle, bytes_max) = (transfer.handle, self.bounds.message_bytes_max);
                let taken = session.transfer(channel, &transfer, payload, bytes_max, &mut self.output)?;
                match taken {
                    session::Taken::Part => {}
                    session::Taken::Whole(delivery) => {
                        self.events.push_back(Event::Delivered { link: key(handle), delivery });
                    }
                    session::Taken::Refused(error) => {
                        let error_told = error.clone();
                        self.detach(key(handle), Some(error));
                        let link = key(handle);
                        self.events.push_back(Event::Detached {
                            link,
                            closed: true,
                            error: Some(error_told),
                        });
                    }
                }
            }
            Performative::Disposition(disposition) => {
                for (handle, id) in session.outcomes(&disposition) {
                    let (state, settled) = (disposition.state.clone(), disposition.settled);
                    self.events.push_back(Event::Outcome { link: key(handle), id, state, settled });
                }
            }
            Performative::Detach(detach) => {
                if session.detached(detach.handle)? {
                    let answer = Detach { handle: detach.handle, closed: detach.closed, error: None };
                    self.put(channel, &Performative::Detach(answer));
                    let (link, Detach { closed, error, .. }) = (key(detach.handle), detach);
                    self.events.push_back(Event::Detached { link, closed, error });
                }
            }
            _ => return Err(Fault::OutOfPlace("this performative")),
        }
        Ok(())
    }

    /// Our half of a link. We take from it nothing before [`Connection::grant`].
    pub fn accept(&mut self, link: LinkKey, attach: &Attach, accepted: Accepted) {
        if self.link(link).is_none() {
            return;
        }
        let Accepted { source, target, properties, offered_capabilities } = accepted;
        let answer = Attach { source, target, offered_capabilities, properties, ..self.half(attach) };
        self.put(link.channel, &Performative::Attach(Box::new(answer)));
    }

    /// No link: its answer has neither source nor target, and a detach that says why follows (`messaging.md` §0.1).
    pub fn refuse(&mut self, link: LinkKey, attach: &Attach, error: Error) {
        if self.link(link).is_none() {
            return;
        }
        let answer = self.half(attach);
        self.put(link.channel, &Performative::Attach(Box::new(answer)));
        self.detach(link, Some(error));
    }

    /// The answer to an attach, without what the owner says of it.
    fn half(&self, attach: &Attach) -> Attach {
        let role = attach.role.other();
        Attach {
            name: attach.name.clone(),
            handle: attach.handle,
            role,
            snd_settle_mode: attach.snd_settle_mode,
            rcv_settle_mode: attach.rcv_settle_mode,
            source: None,
            target: None,
            unsettled: None,
            incomplete_unsettled: false,
            initial_delivery_count: (role == Role::Sender).then_some(0),
            max_message_size: Some(self.bounds.message_bytes_max as u64),
            offered_capabilities: Vec::new(),
            desired_capabilities: Vec::new(),
            properties: Map::default(),
        }
    }

    /// Ends a link for good. What still comes by it is dropped.
    pub fn detach(&mut self, link: LinkKey, error: Option<Error>) {
        let Some(session) = self.sessions.get_mut(&link.channel) else { return };
        if session.detach(link.handle) {
            session.flush(link.channel, &mut self.output);
            let detach = Detach { handle: link.handle, closed: true, error };
            self.put(link.channel, &Performative::Detach(detach));
        }
    }

    /// Ends a session with all that is in it.
    pub fn end_session(&mut self, channel: u16, error: Option<Error>) {
        if let Some(session) = self.sessions.get_mut(&channel).filter(|session| !session.is_ending) {
            session.flush(channel, &mut self.output);
            session.is_ending = true;
            self.put(channel, &Performative::End(error));
        }
    }

    /// Ends the connection; one that has not begun ends without a word.
    pub fn close(&mut self, error: Option<Error>) {
        match self.state {
            State::Closing | State::Closed => return,
            State::Opening | State::Opened => {}
            State::Open => {
                // A close without an open before it is none.
                self.put(0, &Performative::Open(Open::named(Text::default())));
            }
            State::Header { .. } | State::SaslInit | State::SaslOutcome => {
                self.state = State::Closed;
                return;
            }
        }
        if self.state == State::Opening {
            self.put(0, &Performative::Open(Open::named(Text::default())));
        }
        self.sessions.iter_mut().for_each(|(channel, session)| session.flush(*channel, &mut self.output));
        self.put(0, &Performative::Close(error));
        self.sessions.clear();
        self.state = State::Closing;
    }

    /// Lets the other side send `credit` deliveries from here on.
    pub fn grant(&mut self, link: LinkKey, credit: u32) {
        if let Some(session) = self.sessions.get_mut(&link.channel) {
            session.grant(link.channel, link.handle, credit, &mut self.output);
        }
    }

    /// How many more deliveries the other side may send by what it was granted.
    pub fn granted(&self, link: LinkKey) -> u32 {
        self.link(link).filter(|link| link.role == Role::Receiver).map_or(0, |link| link.credit)
    }

    /// How many deliveries may be sent now.
    pub fn credit(&self, link: LinkKey) -> u32 {
        let Some(session) = self.sessions.get(&link.channel) else { return 0 };
        session.credit(link.handle)
    }

    /// Sends a message, in as many frames as it needs. `None`: the link has no credit, or is none to send by.
    pub fn send(
        &mut self,
        link: LinkKey,
        tag: Bytes,
        format: u32,
        settled: bool,
        message: Bytes,
    ) -> Option<DeliveryId> {
        let session = self.sessions.get_mut(&link.channel)?;
        let sent = session::Sent { tag, format, settled, message };
        session.send(link, sent, self.frame_bytes_max, &mut self.output)
    }

    /// All that there was has been sent to who drains a link.
    pub fn drained(&mut self, link: LinkKey) {
        if let Some(session) = self.sessions.get_mut(&link.channel) {
            session.drained(link.channel, link.handle, &mut self.output);
        }
    }

    /// What we make of a delivery, which is done with then.
    pub fn settle(&mut self, link: LinkKey, id: DeliveryId, state: DeliveryState) {
        if let Some(session) = self.sessions.get_mut(&link.channel) {
            session.settle(link.channel, id, state, &mut self.output);
        }
    }

    /// What the other side made of a delivery of ours has been done.
    pub fn settle_sent(&mut self, link: LinkKey, id: DeliveryId, state: DeliveryState) {
        if let Some(session) = self.sessions.get_mut(&link.channel) {
            session.settle_sent(link.channel, id, state, &mut self.output);
        }
    }

    fn link(&self, link: LinkKey) -> Option<&Link> {
        self.sessions.get(&link.channel)?.link(link.handle)
    }

    fn put(&mut self, channel: u16, performative: &Performative) {
        frame::put(&mut self.output, Protocol::Amqp, channel, performative, &[]);
    }
}

impl Open {
    /// One that asks for nothing and takes what the standard lets it.
    pub fn named(container_id: Text) -> Self {
        Self {
            container_id,
            hostname: None,
            max_frame_size: u32::MAX,
            channel_max: u16::MAX,
            idle_time_out_ms: None,
            offered_capabilities: Vec::new(),
            desired_capabilities: Vec::new(),
            properties: Map::default(),
        }
    }
}

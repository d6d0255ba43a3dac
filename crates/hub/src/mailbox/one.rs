//! What waits for one connection: a bounded queue of commands that takes no memory while it is empty, the direct methods that
//! wait for an answer, and the order of desired properties. Called by the registry beside it; it must never block.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};

use base::ids::IdentityId;
use base::{Timestamp, caps};
use bytes::Bytes;
use parking_lot::Mutex;
use store::sessions::Node;
use tokio::sync::oneshot;

use crate::bus::{CloseReason, Delivery};

/// What a door does for its connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// `patch` is JSON with `$version`, as the device gets it.
    DesiredChanged {
        version: u64,
        patch: Bytes,
    },
    /// `payload` is JSON, or empty when the service gave none. Answered with `Hub::complete_method`.
    InvokeMethod {
        request_id: u64,
        name: String,
        payload: Bytes,
    },
    /// Messages may wait for the device: `Session::waiting_messages` gives them.
    MessagesWaiting,
    Close(CloseReason),
}

/// What became of a direct method at its device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum MethodAnswer {
    /// What the device sent back.
    Sent { status: i32, payload: Bytes },
    /// The device listens to other methods only.
    Declined,
}

/// What an offer was taken for.
#[derive(Debug)]
pub(super) enum Offered {
    Taken,
    /// Resolves with the device's answer; with an error when the session ends before it.
    Awaits(oneshot::Receiver<MethodAnswer>),
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Refused;

pub(crate) struct Mailbox {
    pub(super) id: IdentityId,
    pub(super) generation_id: String,
    pub(crate) epoch: u64,
    pub(super) node: Node,
    pub(super) connected_at: Timestamp,
    last_activity_ticks: AtomicI64,
    flushed_ticks: AtomicI64,
    /// Of the record of activity, when it holds what this session wrote last; 0 when that is not known.
    pub(super) activity_revision: AtomicU64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Command>,
    desired: Desired,
    listens_to_methods: bool,
    messages: Messages,
    methods: HashMap<u64, oneshot::Sender<MethodAnswer>>,
    last_request_id: u64,
    closed: Option<CloseReason>,
    /// The door that waits for something to do.
    waiting: Option<Waker>,
}

/// Changes are committed in the order of their versions but told of in any; here they fall into line again.
#[derive(Default)]
enum Desired {
    #[default]
    Off,
    /// Subscribed, but the version to start behind is not known yet.
    Starting(BTreeMap<u64, Bytes>),
    On {
        delivered: u64,
        early: BTreeMap<u64, Bytes>,
    },
}

/// Whether the device takes messages, and whether it is to be told of some.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Messages {
    #[default]
    Off,
    Quiet,
    Waiting,
}

impl Mailbox {
    pub(super) fn new(id: IdentityId, generation_id: &str, node: Node, epoch: u64, now: Timestamp) -> Self {
        Self {
            id,
            generation_id: generation_id.to_owned(),
            epoch,
            node,
            connected_at: now,
            last_activity_ticks: AtomicI64::new(now.ticks()),
            flushed_ticks: AtomicI64::new(Timestamp::NEVER.ticks()),
            activity_revision: AtomicU64::new(0),
            state: Mutex::default(),
        }
    }

    pub(crate) fn touch(&self, now: Timestamp) {
        self.last_activity_ticks.fetch_max(now.ticks(), Ordering::Relaxed);
    }

    pub(super) fn last_activity(&self) -> Timestamp {
        Timestamp::from_ticks(self.last_activity_ticks.load(Ordering::Relaxed))
    }

    /// Whether there is activity that no flush has seen; counts it as seen.
    pub(super) fn take_unflushed(&self) -> bool {
        let now = self.last_activity_ticks.load(Ordering::Relaxed);
        self.flushed_ticks.swap(now, Ordering::Relaxed) != now
    }

    pub(super) fn offer(&self, delivery: Delivery) -> Result<Offered, Refused> {
        let mut state = self.state.lock();
        if state.closed.is_some() {
            return Err(Refused);
        }
        let offered = match delivery {
            Delivery::Desired { version, patch } => {
                state.offer_desired(version, patch)?;
                Offered::Taken
            }
            Delivery::Method { name, payload, .. } => Offered::Awaits(state.offer_method(name, payload)?),
            Delivery::CloudToDevice => {
                if state.messages == Messages::Off {
                    return Err(Refused);
                }
                state.messages = Messages::Waiting;
                Offered::Taken
            }
        };
        state.wake();
        Ok(offered)
    }

    pub(crate) fn try_next(&self) -> Option<Command> {
        self.state.lock().next()
    }

    /// The next command. Whoever does not take any now is told of the end all the same.
    pub(crate) fn poll_next(&self, cx: &mut Context<'_>, takes: bool) -> Poll<Command> {
        let mut state = self.state.lock();
        let command = if takes { state.next() } else { state.closed.map(Command::Close) };
        if let Some(command) = command {
            return Poll::Ready(command);
        }
        if state.waiting.as_ref().is_none_or(|waiting| !waiting.will_wake(cx.waker())) {
            state.waiting = Some(cx.waker().clone());
        }
        Poll::Pending
    }

    /// The first reason stands. What waited is dropped, and with it everyone who waits for a method's answer is told.
    pub(super) fn close(&self, reason: CloseReason) {
        let mut state = self.state.lock();
        if state.closed.is_none() {
            state.close(reason);
        }
        state.wake();
    }

    pub(crate) fn closed(&self) -> Option<CloseReason> {
        self.state.lock().closed
    }

    pub(crate) fn listen_to_methods(&self, listens: bool) {
        self.state.lock().listens_to_methods = listens;
    }

    pub(crate) fn listen_to_messages(&self, listens: bool) {
        let mut state = self.state.lock();
        match (listens, state.messages) {
            (true, Messages::Off) => state.messages = Messages::Waiting,
            (true, _) => {}
            (false, _) => state.messages = Messages::Off,
        }
        state.wake();
    }

    pub(crate) fn answer_method(&self, request_id: u64, answer: MethodAnswer) -> bool {
        let waiting = self.state.lock().methods.remove(&request_id);
        waiting.is_some_and(|waiting| waiting.send(answer).is_ok())
    }

    pub(crate) fn begin_desired(&self) {
        let mut state = self.state.lock();
        if matches!(state.desired, Desired::Off) {
            state.desired = Desired::Starting(BTreeMap::new());
        }
    }

    /// `version` is what a read of the twin showed after [`Self::begin_desired`].
    pub(crate) fn start_desired(&self, version: u64) {
        let mut state = self.state.lock();
        if let Desired::Starting(early) = &mut state.desired {
            let early = early.split_off(&(version + 1));
            state.desired = Desired::On { delivered: version, early };
            state.release_desired();
        }
        state.wake();
    }

    pub(crate) fn stop_desired(&self) {
        self.state.lock().desired = Desired::Off;
    }
}

impl State {
    fn next(&mut self) -> Option<Command> {
        let command = self.queue.pop_front();
        if self.queue.is_empty() {
            // An idle connection holds no buffer.
            self.queue = VecDeque::new();
        }
        if command.is_some() || self.closed.is_some() {
            return command.or(self.closed.map(Command::Close));
        }
        if self.messages == Messages::Waiting {
            self.messages = Messages::Quiet;
            return Some(Command::MessagesWaiting);
        }
        None
    }

    fn wake(&mut self) {
        if let Some(waiting) = self.waiting.take() {
            waiting.wake();
        }
    }

    fn push(&mut self, command: Command) {
        if self.queue.len() >= caps::SESSION_QUEUE_MAX {
            self.close(CloseReason::QueueFull);
        } else if self.closed.is_none() {
            self.queue.push_back(command);
        }
    }

    fn close(&mut self, reason: CloseReason) {
        self.closed = Some(reason);
        self.queue = VecDeque::new();
        self.methods = HashMap::new();
        self.desired = Desired::Off;
    }

    fn offer_desired(&mut self, version: u64, patch: Bytes) -> Result<(), Refused> {
        let early = match &mut self.desired {
            Desired::Off => return Err(Refused),
            Desired::On { delivered, .. } if version <= *delivered => return Ok(()),
            Desired::Starting(early) | Desired::On { early, .. } => early,
        };
        early.insert(version, patch);
        if early.len() > caps::SESSION_QUEUE_MAX {
            self.close(CloseReason::QueueFull);
            return Ok(());
        }
        self.release_desired();
        Ok(())
    }

    /// Moves what follows the last delivered version without a gap into the queue.
    fn release_desired(&mut self) {
        let mut next = Vec::new();
        if let Desired::On { delivered, early } = &mut self.desired {
            while let Some(patch) = early.remove(&(*delivered + 1)) {
                *delivered += 1;
                next.push(Command::DesiredChanged { version: *delivered, patch });
            }
        }
        for command in next {
            self.push(command);
        }
    }

    fn offer_method(
        &mut self,
        name: String,
        payload: Bytes,
    ) -> Result<oneshot::Receiver<MethodAnswer>, Refused> {
        if !self.listens_to_methods {
            return Err(Refused);
        }
        self.methods.retain(|_, waiting| !waiting.is_closed());
        self.last_request_id += 1;
        let request_id = self.last_request_id;
        let (answer, answered) = oneshot::channel();
        self.methods.insert(request_id, answer);
        self.push(Command::InvokeMethod { request_id, name, payload });
        Ok(answered)
    }
}

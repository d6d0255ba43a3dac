//! What waits for one connection: a bounded queue of commands that takes no memory while it is empty, the direct methods that
//! wait for an answer, and the order of desired properties. Called by the sessions beside it; it must never block.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::atomic::{AtomicI64, Ordering};
use std::task::{Context, Poll, Waker};

use base::ids::IdentityId;
use base::{Timestamp, caps};
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::Delivery;

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
    Close(CloseReason),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// 400027: a newer connection of the same identity.
    TakenOver,
    DeviceDisabled,
    DeviceDeleted,
    HubRemoved,
    /// The connection does not take what is sent to it; the device comes back and reads its twin.
    QueueFull,
    /// The door itself has let the session go.
    Ended,
}

/// What became of a direct method.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MethodAnswer {
    /// What the device sent back.
    Sent { status: i32, payload: Bytes },
    /// The device listens to other methods only.
    Declined,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Refused;

pub(super) struct Mailbox {
    pub(super) id: IdentityId,
    pub(super) generation_id: String,
    pub(super) epoch: u64,
    pub(super) connected_at: Timestamp,
    last_activity_ticks: AtomicI64,
    flushed_ticks: AtomicI64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Command>,
    desired: Desired,
    listens_to_methods: bool,
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

impl Mailbox {
    pub(super) fn new(id: IdentityId, generation_id: &str, epoch: u64, now: Timestamp) -> Self {
        Self {
            id,
            generation_id: generation_id.to_owned(),
            epoch,
            connected_at: now,
            last_activity_ticks: AtomicI64::new(now.ticks()),
            flushed_ticks: AtomicI64::new(Timestamp::NEVER.ticks()),
            state: Mutex::default(),
        }
    }

    pub(super) fn touch(&self, now: Timestamp) {
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

    pub(super) fn offer(&self, delivery: Delivery) -> Result<(), Refused> {
        let mut state = self.state.lock();
        if state.closed.is_some() {
            return Err(Refused);
        }
        match delivery {
            Delivery::Desired { version, patch } => state.offer_desired(version, patch)?,
            Delivery::Method { name, payload, answer } => state.offer_method(name, payload, answer)?,
        }
        state.wake();
        Ok(())
    }

    pub(super) fn try_next(&self) -> Option<Command> {
        self.state.lock().next()
    }

    /// The next command. Whoever does not take any now is told of the end all the same.
    pub(super) fn poll_next(&self, cx: &mut Context<'_>, takes: bool) -> Poll<Command> {
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

    pub(super) fn closed(&self) -> Option<CloseReason> {
        self.state.lock().closed
    }

    pub(super) fn listen_to_methods(&self, listens: bool) {
        self.state.lock().listens_to_methods = listens;
    }

    pub(super) fn listens_to_methods(&self) -> bool {
        let state = self.state.lock();
        state.listens_to_methods && state.closed.is_none()
    }

    pub(super) fn answer_method(&self, request_id: u64, answer: MethodAnswer) -> bool {
        let waiting = self.state.lock().methods.remove(&request_id);
        waiting.is_some_and(|waiting| waiting.send(answer).is_ok())
    }

    pub(super) fn begin_desired(&self) {
        let mut state = self.state.lock();
        if matches!(state.desired, Desired::Off) {
            state.desired = Desired::Starting(BTreeMap::new());
        }
    }

    /// `version` is what a read of the twin showed after [`Self::begin_desired`].
    pub(super) fn start_desired(&self, version: u64) {
        let mut state = self.state.lock();
        if let Desired::Starting(early) = &mut state.desired {
            let early = early.split_off(&(version + 1));
            state.desired = Desired::On { delivered: version, early };
            state.release_desired();
        }
        state.wake();
    }

    pub(super) fn stop_desired(&self) {
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
        command.or(self.closed.map(Command::Close))
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
        answer: oneshot::Sender<MethodAnswer>,
    ) -> Result<(), Refused> {
        if !self.listens_to_methods {
            return Err(Refused);
        }
        self.methods.retain(|_, waiting| !waiting.is_closed());
        self.last_request_id += 1;
        let request_id = self.last_request_id;
        self.methods.insert(request_id, answer);
        self.push(Command::InvokeMethod { request_id, name, payload });
        Ok(())
    }
}

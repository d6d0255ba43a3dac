//! Cloud-to-device messages on their way to one device (`iothub-device.md` §4.1): which are under way, under which packet ids, and
//! what is done at the hub for them meanwhile. There only while a message is under way; it knows no topic.

use std::collections::BTreeMap;
use std::num::NonZeroU16;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use base::caps;
use hub::cloud_to_device::Received;
use hub::{Error, Session};

use crate::codec::PacketId;

type Working<T> = Pin<Box<dyn Future<Output = Result<T, Error>> + Send>>;

#[derive(Default)]
pub(super) struct Inbox {
    /// Numbers of messages that the device has not acknowledged.
    under_way: BTreeMap<PacketId, u64>,
    last_id: u16,
    /// Acknowledged, and still to be taken out of the queue.
    acknowledged: Vec<u64>,
    /// Cannot be sent over this protocol. They stay in the queue for another.
    unfit: Vec<u64>,
    /// Whether there may be more in the queue.
    looks: bool,
    work: Work,
}

/// One thing at a time, so that no message is looked for that is being completed.
#[derive(Default)]
enum Work {
    #[default]
    None,
    Looking(Working<Vec<Received>>),
    Completing(Working<()>),
}

impl Inbox {
    /// Messages may wait in the queue.
    pub(super) fn look(&mut self) {
        self.looks = true;
    }

    /// Nothing is left to do, and nothing to remember.
    pub(super) fn is_idle(&self) -> bool {
        let is_working = !matches!(self.work, Work::None);
        !is_working && !self.looks && self.under_way.is_empty() && self.acknowledged.is_empty()
    }

    /// A packet id for a message that waits for its acknowledgement.
    pub(super) fn track(&mut self, sequence: u64) -> PacketId {
        loop {
            self.last_id = self.last_id.wrapping_add(1);
            // The window is far smaller than the ids are many.
            if let Some(id) = NonZeroU16::new(self.last_id).filter(|id| !self.under_way.contains_key(id)) {
                self.under_way.insert(id, sequence);
                return id;
            }
        }
    }

    /// The device has a message for good.
    pub(super) fn complete(&mut self, sequence: u64) {
        self.acknowledged.push(sequence);
    }

    /// An id that is not under way is of no message: some clients acknowledge what needs none.
    pub(super) fn acknowledge(&mut self, id: PacketId) {
        self.acknowledged.extend(self.under_way.remove(&id));
    }

    pub(super) fn leave_out(&mut self, sequence: u64) {
        self.unfit.push(sequence);
    }

    /// Messages to be sent, as soon as some are found.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        session: &Session,
    ) -> Poll<Result<Vec<Received>, Error>> {
        loop {
            match &mut self.work {
                Work::Completing(work) => {
                    let done = ready!(work.as_mut().poll(cx));
                    self.work = Work::None;
                    done?;
                }
                Work::Looking(work) => {
                    let found = ready!(work.as_mut().poll(cx));
                    self.work = Work::None;
                    let found = found?;
                    // What is there behind a full window is looked for when it has room again.
                    self.looks |= self.under_way.len() + found.len() >= caps::CLOUD_TO_DEVICE_WINDOW;
                    if !found.is_empty() {
                        return Poll::Ready(Ok(found));
                    }
                }
                Work::None if !self.acknowledged.is_empty() => {
                    let acknowledged = std::mem::take(&mut self.acknowledged);
                    self.work = Work::Completing(Box::pin(session.complete_messages(acknowledged)));
                }
                Work::None if self.looks && self.under_way.len() < caps::CLOUD_TO_DEVICE_WINDOW => {
                    self.looks = false;
                    let known = self.under_way.values().chain(&self.unfit).copied().collect();
                    self.work = Work::Looking(Box::pin(session.waiting_messages(known)));
                }
                Work::None => return Poll::Pending,
            }
        }
    }

    /// Completes what was acknowledged, before the session ends.
    pub(super) async fn finish(mut self, session: &Session) -> Result<(), Error> {
        if let Work::Completing(work) = std::mem::take(&mut self.work) {
            work.await?;
        }
        if self.acknowledged.is_empty() {
            return Ok(());
        }
        session.complete_messages(self.acknowledged).await
    }
}

//! One session: its windows, its links, and what is not settled in it.

use std::collections::{BTreeMap, VecDeque};

use base::caps;
use bytes::{Bytes, BytesMut};

use super::link::{Link, Partial, Phase};
use super::{Delivery, DeliveryId, Fault, LinkKey};
use crate::frame::{self, Protocol};
use crate::performative::{
    Attach, Begin, DeliveryState, Disposition, Error, Flow, Performative, Role, Transfer,
};
use crate::value::Map;

pub(super) struct Session {
    /// Of the next transfer that comes.
    next_incoming_id: u32,
    /// Transfers that the other side may still send by what it was told.
    incoming_window: u32,
    /// Of our next transfer.
    next_outgoing_id: u32,
    /// Transfers that the other side still takes.
    remote_window: u32,
    next_delivery_id: DeliveryId,
    links: BTreeMap<u32, Link>,
    /// Deliveries of ours that are not settled, and by which link they went.
    sent: BTreeMap<DeliveryId, u32>,
    /// Deliveries of the other side that are not settled.
    received: BTreeMap<DeliveryId, u32>,
    /// What has no room in the window: at most one message of each link, since a link with one has no credit.
    waiting: VecDeque<Outgoing>,
    /// Accepted deliveries, one behind another, that are told together.
    accepted: Option<(DeliveryId, DeliveryId)>,
    pub(super) is_ending: bool,
}

/// A message on its way out.
pub(super) struct Sent {
    pub(super) tag: Bytes,
    pub(super) format: u32,
    pub(super) settled: bool,
    pub(super) message: Bytes,
}

struct Outgoing {
    transfer: Transfer,
    rest: Bytes,
}

/// What became of a transfer.
pub(super) enum Taken {
    Part,
    Whole(Delivery),
    /// Its link has to end.
    Refused(Error),
}

impl Session {
    pub(super) fn begin(channel: u16, begin: &Begin) -> (Self, Begin) {
        let session = Self {
            next_incoming_id: begin.next_outgoing_id,
            incoming_window: caps::AMQP_SESSION_WINDOW,
            next_outgoing_id: 0,
            remote_window: begin.incoming_window,
            next_delivery_id: 0,
            links: BTreeMap::new(),
            sent: BTreeMap::new(),
            received: BTreeMap::new(),
            waiting: VecDeque::new(),
            accepted: None,
            is_ending: false,
        };
        let answer = Begin {
            remote_channel: Some(channel),
            next_outgoing_id: 0,
            incoming_window: caps::AMQP_SESSION_WINDOW,
            outgoing_window: caps::AMQP_SESSION_WINDOW,
            handle_max: begin.handle_max,
            offered_capabilities: Vec::new(),
            desired_capabilities: Vec::new(),
            properties: Map::default(),
        };
        (session, answer)
    }

    pub(super) fn link(&self, handle: u32) -> Option<&Link> {
        self.links.get(&handle)
    }

    pub(super) fn link_count(&self) -> usize {
        self.links.len()
    }

    /// The handles of links that both sides have.
    pub(super) fn attached(&self) -> impl Iterator<Item = u32> {
        self.links.iter().filter(|(_, link)| link.is_attached()).map(|(handle, _)| *handle)
    }

    pub(super) fn attach(&mut self, attach: &Attach) -> Result<u32, Fault> {
        if self.links.contains_key(&attach.handle) {
            return Err(Fault::HandleInUse(attach.handle));
        }
        self.links.insert(attach.handle, Link::new(attach));
        Ok(attach.handle)
    }

    /// Whether there was something to be detached.
    pub(super) fn detach(&mut self, handle: u32) -> bool {
        let Some(link) = self.links.get_mut(&handle).filter(|link| link.is_attached()) else { return false };
        link.phase = Phase::Detaching;
        link.partial = None;
        self.forget(handle);
        true
    }

    /// The other side detaches; whether the owner has to hear of it.
    pub(super) fn detached(&mut self, handle: u32) -> Result<bool, Fault> {
        let link = self.links.remove(&handle).ok_or(Fault::NoLink(handle))?;
        self.forget(handle);
        Ok(link.is_attached())
    }

    /// Nothing of a link is settled any more, or sent.
    fn forget(&mut self, handle: u32) {
        self.sent.retain(|_, by| *by != handle);
        self.received.retain(|_, by| *by != handle);
        self.waiting.retain(|outgoing| outgoing.transfer.handle != handle);
    }

    pub(super) fn flow(
        &mut self,
        channel: u16,
        flow: &Flow,
        frame_bytes_max: u32,
        output: &mut BytesMut,
    ) -> Result<Option<(u32, bool)>, Fault> {
        let expected = flow.next_incoming_id.unwrap_or(0);
        // What is on its way counts against the window. More than there is room for is on its way after a window was made smaller.
        let on_the_way = self.next_outgoing_id.wrapping_sub(expected);
        self.remote_window = flow.incoming_window.saturating_sub(on_the_way);
        self.send_waiting(channel, frame_bytes_max, output);
        let Some(handle) = flow.handle else {
            if flow.echo {
                self.put_flow(channel, None, output);
            }
            return Ok(None);
        };
        let link = self.links.get_mut(&handle).ok_or(Fault::NoLink(handle))?;
        if !link.is_attached() {
            return Ok(None);
        }
        let mut credit = None;
        match link.role {
            Role::Sender => {
                // The receiver's view of the count may be older than what was sent since.
                let seen = flow.delivery_count.unwrap_or(0);
                let sent_since = link.delivery_count.wrapping_sub(seen);
                link.credit = flow.link_credit.unwrap_or(0).saturating_sub(sent_since);
                credit = Some((handle, flow.drain));
            }
            Role::Receiver => {
                if let Some(count) = flow.delivery_count {
                    // A sender that drains skips what it does not use.
                    let skipped = count.wrapping_sub(link.delivery_count);
                    link.credit = link.credit.saturating_sub(skipped);
                    link.delivery_count = count;
                }
            }
        }
        if flow.echo {
            self.put_flow(channel, Some(handle), output);
        }
        Ok(credit)
    }

    pub(super) fn transfer(
        &mut self,
        channel: u16,
        transfer: &Transfer,
        payload: &Bytes,
        message_bytes_max: usize,
        output: &mut BytesMut,
    ) -> Result<Taken, Fault> {
        self.next_incoming_id = self.next_incoming_id.wrapping_add(1);
        self.incoming_window = self.incoming_window.checked_sub(1).ok_or(Fault::Window)?;
        if self.incoming_window < caps::AMQP_SESSION_WINDOW / 2 {
            self.incoming_window = caps::AMQP_SESSION_WINDOW;
            self.put_flow(channel, None, output);
        }
        let handle = transfer.handle;
        let link = self.links.get_mut(&handle).ok_or(Fault::NoLink(handle))?;
        if !link.is_attached() {
            return Ok(Taken::Part);
        }
        if link.role == Role::Sender {
            return Err(Fault::OutOfPlace("a transfer to its sender"));
        }
        let mut partial = match link.partial.take() {
            Some(partial) => partial,
            None if link.credit == 0 => {
                let condition = "amqp:link:transfer-limit-exceeded";
                return Ok(Taken::Refused(Error::new(condition, "There is no credit for this delivery.")));
            }
            None => link.begin_delivery(transfer)?,
        };
        if transfer.aborted {
            return Ok(Taken::Part);
        }
        partial.settled |= transfer.settled.unwrap_or(false);
        if partial.message.len() + payload.len() > message_bytes_max {
            let text = format!("A message has at most {message_bytes_max} bytes here.");
            return Ok(Taken::Refused(Error::new("amqp:link:message-size-exceeded", text)));
        }
        if transfer.more {
            partial.message.extend_from_slice(payload);
            link.partial = Some(partial);
            return Ok(Taken::Part);
        }
        let Partial { id, tag, format, settled, mut message } = partial;
        // What comes in one frame is not copied.
        let message = if message.is_empty() {
            payload.clone()
        } else {
            message.extend_from_slice(payload);
            message.freeze()
        };
        if !settled {
            if self.received.len() >= caps::AMQP_UNSETTLED_MAX {
                return Err(Fault::Unsettled);
            }
            self.received.insert(id, handle);
        }
        Ok(Taken::Whole(Delivery { id, tag, format, settled, message }))
    }

    /// Which deliveries of ours a disposition is about.
    pub(super) fn outcomes(&mut self, disposition: &Disposition) -> Vec<(u32, DeliveryId)> {
        let (first, last) = (disposition.first, disposition.last.unwrap_or(disposition.first));
        let of = match disposition.role {
            Role::Receiver => &mut self.sent,
            Role::Sender => &mut self.received,
        };
        let is_in = |id: u32| id.wrapping_sub(first) <= last.wrapping_sub(first);
        let found = of.iter().filter(|(id, _)| is_in(**id)).map(|(id, handle)| (*handle, *id)).collect();
        if disposition.settled {
            of.retain(|id, _| !is_in(*id));
        }
        match disposition.role {
            Role::Receiver => found,
            // They settle what we have not said a word of yet: then nobody waits for one.
            Role::Sender => Vec::new(),
        }
    }

    pub(super) fn grant(&mut self, channel: u16, handle: u32, credit: u32, output: &mut BytesMut) {
        let Some(link) = self.links.get_mut(&handle) else { return };
        if link.is_attached() && link.role == Role::Receiver {
            link.credit = credit;
            self.put_flow(channel, Some(handle), output);
        }
    }

    pub(super) fn credit(&self, handle: u32) -> u32 {
        let is_behind = self.waiting.iter().any(|outgoing| outgoing.transfer.handle == handle);
        let link = self.links.get(&handle).filter(|link| link.is_attached() && link.role == Role::Sender);
        let room = u32::try_from(caps::AMQP_UNSETTLED_MAX - self.sent.len().min(caps::AMQP_UNSETTLED_MAX));
        let room = room.expect("a small number");
        if is_behind { 0 } else { link.map_or(0, |link| link.credit.min(room)) }
    }

    pub(super) fn send(
        &mut self,
        key: LinkKey,
        sent: Sent,
        frame_bytes_max: u32,
        output: &mut BytesMut,
    ) -> Option<DeliveryId> {
        if self.is_ending || self.credit(key.handle) == 0 {
            return None;
        }
        let link = self.links.get_mut(&key.handle)?;
        link.credit -= 1;
        link.delivery_count = link.delivery_count.wrapping_add(1);
        let id = self.next_delivery_id;
        self.next_delivery_id = id.wrapping_add(1);
        if !sent.settled {
            self.sent.insert(id, key.handle);
        }
        let transfer = Transfer {
            handle: key.handle,
            delivery_id: Some(id),
            delivery_tag: Some(sent.tag),
            message_format: Some(sent.format),
            settled: Some(sent.settled),
            ..Transfer::default()
        };
        self.waiting.push_back(Outgoing { transfer, rest: sent.message });
        self.send_waiting(key.channel, frame_bytes_max, output);
        Some(id)
    }

    /// Frames of what waits, as many as the window takes.
    fn send_waiting(&mut self, channel: u16, frame_bytes_max: u32, output: &mut BytesMut) {
        self.flush(channel, output);
        while self.remote_window > 0
            && let Some(outgoing) = self.waiting.front_mut()
        {
            self.remote_window -= 1;
            self.next_outgoing_id = self.next_outgoing_id.wrapping_add(1);
            if outgoing.put(channel, frame_bytes_max as usize, output) {
                self.waiting.pop_front();
            }
        }
    }

    pub(super) fn drained(&mut self, channel: u16, handle: u32, output: &mut BytesMut) {
        let Some(link) = self.links.get_mut(&handle) else { return };
        if link.is_attached() && link.role == Role::Sender {
            link.delivery_count = link.delivery_count.wrapping_add(link.credit);
            link.credit = 0;
            self.put_flow(channel, Some(handle), output);
        }
    }

    pub(super) fn settle(
        &mut self,
        channel: u16,
        id: DeliveryId,
        state: DeliveryState,
        output: &mut BytesMut,
    ) {
        if self.received.remove(&id).is_none() || self.is_ending {
            return;
        }
        if state != DeliveryState::Accepted {
            self.flush(channel, output);
            put_disposition(channel, Role::Receiver, (id, id), state, output);
            return;
        }
        match &mut self.accepted {
            Some((_, last)) if last.wrapping_add(1) == id => *last = id,
            accepted => {
                if let Some(before) = accepted.replace((id, id)) {
                    put_disposition(channel, Role::Receiver, before, DeliveryState::Accepted, output);
                }
            }
        }
    }

    /// Writes what was kept back to be told together.
    pub(super) fn flush(&mut self, channel: u16, output: &mut BytesMut) {
        if let Some(accepted) = self.accepted.take() {
            put_disposition(channel, Role::Receiver, accepted, DeliveryState::Accepted, output);
        }
    }

    pub(super) fn settle_sent(
        &mut self,
        channel: u16,
        id: DeliveryId,
        state: DeliveryState,
        output: &mut BytesMut,
    ) {
        if self.sent.remove(&id).is_some() && !self.is_ending {
            put_disposition(channel, Role::Sender, (id, id), state, output);
        }
    }

    fn put_flow(&self, channel: u16, handle: Option<u32>, output: &mut BytesMut) {
        let link = handle.and_then(|handle| self.links.get(&handle));
        let flow = Flow {
            next_incoming_id: Some(self.next_incoming_id),
            incoming_window: self.incoming_window,
            next_outgoing_id: self.next_outgoing_id,
            outgoing_window: caps::AMQP_SESSION_WINDOW,
            handle,
            delivery_count: link.map(|link| link.delivery_count),
            link_credit: link.map(|link| link.credit),
            available: link.map(|_| 0),
            drain: false,
            echo: false,
            properties: Map::default(),
        };
        frame::put(output, Protocol::Amqp, channel, &Performative::Flow(flow), &[]);
    }
}

fn put_disposition(
    channel: u16,
    role: Role,
    (first, last): (DeliveryId, DeliveryId),
    state: DeliveryState,
    output: &mut BytesMut,
) {
    let (last, state) = (Some(last), Some(state));
    let disposition = Disposition { role, first, last, settled: true, state, batchable: false };
    frame::put(output, Protocol::Amqp, channel, &Performative::Disposition(disposition), &[]);
}

impl Outgoing {
    /// Writes its next frame; whether it was the last one.
    fn put(&mut self, channel: u16, frame_bytes_max: usize, output: &mut BytesMut) -> bool {
        let begin = output.len();
        // The header first, to see what it leaves of the frame. A flag takes as many bytes whatever it says.
        self.transfer.more = true;
        let transfer = Performative::Transfer(self.transfer.clone());
        let header_bytes = frame::put(output, Protocol::Amqp, channel, &transfer, &[]);
        output.truncate(begin);
        let room = frame_bytes_max.saturating_sub(header_bytes).max(1);
        let part = self.rest.split_to(room.min(self.rest.len()));
        self.transfer.more = !self.rest.is_empty();
        let transfer = Performative::Transfer(self.transfer.clone());
        frame::put(output, Protocol::Amqp, channel, &transfer, &part);
        // Only the first frame of a delivery says what it is.
        let Transfer { handle, settled, .. } = self.transfer;
        self.transfer = Transfer { handle, settled, ..Transfer::default() };
        self.rest.is_empty()
    }
}

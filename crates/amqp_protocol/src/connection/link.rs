//! One link of a session.

use bytes::{Bytes, BytesMut};

use super::Fault;
use crate::performative::{Attach, Role, Transfer};

/// What a link is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Attached,
    /// We have detached; the other side has not heard of it, or not answered.
    Detaching,
}

/// Our end of a link.
pub(super) struct Link {
    /// Ours.
    pub(super) role: Role,
    pub(super) phase: Phase,
    /// Deliveries that may still be sent, by whoever sends.
    pub(super) credit: u32,
    /// Deliveries so far; it wraps.
    pub(super) delivery_count: u32,
    /// A message that has not come whole.
    pub(super) partial: Option<Partial>,
}

pub(super) struct Partial {
    pub(super) id: u32,
    pub(super) tag: Bytes,
    pub(super) format: u32,
    pub(super) settled: bool,
    pub(super) message: BytesMut,
}

impl Link {
    pub(super) fn new(attach: &Attach) -> Self {
        Self {
            role: attach.role.other(),
            phase: Phase::Attached,
            credit: 0,
            // Of a receiver's it is where the sender begins to count.
            delivery_count: match attach.role {
                Role::Sender => attach.initial_delivery_count.unwrap_or(0),
                Role::Receiver => 0,
            },
            partial: None,
        }
    }

    /// The first transfer of a delivery, which takes one of its credit.
    pub(super) fn begin_delivery(&mut self, transfer: &Transfer) -> Result<Partial, Fault> {
        self.credit -= 1;
        self.delivery_count = self.delivery_count.wrapping_add(1);
        Ok(Partial {
            id: transfer.delivery_id.ok_or(Fault::OutOfPlace("a delivery without an id"))?,
            tag: transfer.delivery_tag.clone().unwrap_or_default(),
            format: transfer.message_format.unwrap_or(0),
            settled: false,
            message: BytesMut::new(),
        })
    }

    pub(super) fn is_attached(&self) -> bool {
        self.phase == Phase::Attached
    }
}

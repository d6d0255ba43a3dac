//! What frames say: the performatives of connections, sessions and links (part 2 of the standard), outcomes (part 3), and what is said in SASL's layer (part 5).

use bytes::{Bytes, BytesMut};

use crate::decode::{Decode, Decoder, Malformed};
use crate::encode::{Composite, Encode};
use crate::terminus::{Source, Target};
use crate::text::{Symbol, Text};
use crate::value::{Map, Value};

#[derive(Clone, Debug, PartialEq)]
pub enum Performative {
    Open(Open),
    Begin(Begin),
    Attach(Box<Attach>),
    Flow(Flow),
    Transfer(Transfer),
    Disposition(Disposition),
    Detach(Detach),
    End(Option<Error>),
    Close(Option<Error>),
}

#[derive(Clone, Debug, PartialEq)]
pub enum Sasl {
    Mechanisms(Vec<Symbol>),
    Init {
        mechanism: Symbol,
        response: Option<Bytes>,
        hostname: Option<Text>,
    },
    Challenge(Bytes),
    Response(Bytes),
    /// 0 is the only one with which things go on.
    Outcome(u8),
}

#[derive(Clone, Debug, PartialEq)]
pub struct Open {
    pub container_id: Text,
    pub hostname: Option<Text>,
    pub max_frame_size: u32,
    pub channel_max: u16,
    /// After this long without a frame its sender takes the other side for dead.
    pub idle_time_out_ms: Option<u32>,
    pub offered_capabilities: Vec<Symbol>,
    pub desired_capabilities: Vec<Symbol>,
    pub properties: Map,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Begin {
    /// In an answer: which session of the other side this is the other half of.
    pub remote_channel: Option<u16>,
    pub next_outgoing_id: u32,
    pub incoming_window: u32,
    pub outgoing_window: u32,
    pub handle_max: u32,
    pub offered_capabilities: Vec<Symbol>,
    pub desired_capabilities: Vec<Symbol>,
    pub properties: Map,
}

/// Which end of a link somebody is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Sender,
    Receiver,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum SenderSettleMode {
    Unsettled,
    Settled,
    #[default]
    Mixed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum ReceiverSettleMode {
    #[default]
    First,
    /// The receiver says what it makes of a delivery, and settles once the sender has.
    Second,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Attach {
    pub name: Text,
    pub handle: u32,
    pub role: Role,
    pub snd_settle_mode: SenderSettleMode,
    pub rcv_settle_mode: ReceiverSettleMode,
    pub source: Option<Source>,
    pub target: Option<Target>,
    /// What was not settled when the link was last there, by delivery tags.
    pub unsettled: Option<Map>,
    pub incomplete_unsettled: bool,
    pub initial_delivery_count: Option<u32>,
    pub max_message_size: Option<u64>,
    pub offered_capabilities: Vec<Symbol>,
    pub desired_capabilities: Vec<Symbol>,
    pub properties: Map,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Flow {
    pub next_incoming_id: Option<u32>,
    pub incoming_window: u32,
    pub next_outgoing_id: u32,
    pub outgoing_window: u32,
    /// Without one it is about the session alone.
    pub handle: Option<u32>,
    pub delivery_count: Option<u32>,
    pub link_credit: Option<u32>,
    pub available: Option<u32>,
    pub drain: bool,
    pub echo: bool,
    pub properties: Map,
}

/// A message or a part of one, which follows it in its frame.
#[expect(clippy::struct_excessive_bools, reason = "they are the standard's")]
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Transfer {
    pub handle: u32,
    pub delivery_id: Option<u32>,
    pub delivery_tag: Option<Bytes>,
    pub message_format: Option<u32>,
    pub settled: Option<bool>,
    pub more: bool,
    pub rcv_settle_mode: Option<ReceiverSettleMode>,
    pub state: Option<DeliveryState>,
    pub resume: bool,
    pub aborted: bool,
    pub batchable: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Disposition {
    pub role: Role,
    pub first: u32,
    pub last: Option<u32>,
    pub settled: bool,
    pub state: Option<DeliveryState>,
    pub batchable: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Detach {
    pub handle: u32,
    pub closed: bool,
    pub error: Option<Error>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Error {
    pub condition: Symbol,
    pub description: Option<Text>,
    pub info: Map,
}

#[derive(Clone, Debug, PartialEq)]
pub enum DeliveryState {
    Received {
        section_number: u32,
        section_offset: u64,
    },
    Accepted,
    Rejected(Option<Error>),
    Released,
    Modified {
        delivery_failed: bool,
        undeliverable_here: bool,
        message_annotations: Map,
    },
    /// Of an extension, such as transactions.
    Other(Value),
}

const OPEN: u64 = 0x10;
const BEGIN: u64 = 0x11;
const ATTACH: u64 = 0x12;
const FLOW: u64 = 0x13;
const TRANSFER: u64 = 0x14;
const DISPOSITION: u64 = 0x15;
const DETACH: u64 = 0x16;
const END: u64 = 0x17;
const CLOSE: u64 = 0x18;
const ERROR: u64 = 0x1d;
const RECEIVED: u64 = 0x23;
const ACCEPTED: u64 = 0x24;
const REJECTED: u64 = 0x25;
const RELEASED: u64 = 0x26;
const MODIFIED: u64 = 0x27;
const SASL_MECHANISMS: u64 = 0x40;
const SASL_INIT: u64 = 0x41;
const SASL_CHALLENGE: u64 = 0x42;
const SASL_RESPONSE: u64 = 0x43;
const SASL_OUTCOME: u64 = 0x44;

impl Decode for Performative {
    fn decode(decoder: &mut Decoder) -> Result<Self, Malformed> {
        let descriptor = decoder.descriptor()?;
        let mut f = decoder.fields()?;
        let performative = match descriptor {
            OPEN => Self::Open(Open {
                container_id: f.required()?,
                hostname: f.optional()?,
                max_frame_size: f.or(u32::MAX)?,
                channel_max: f.or(u16::MAX)?,
                idle_time_out_ms: f.optional()?,
                offered_capabilities: {
                    // Locales, which nobody uses.
                    f.or(Vec::<Symbol>::new())?;
                    f.or(Vec::<Symbol>::new())?;
                    f.or(Vec::new())?
                },
                desired_capabilities: f.or(Vec::new())?,
                properties: f.or(Map::default())?,
            }),
            BEGIN => Self::Begin(Begin {
                remote_channel: f.optional()?,
                next_outgoing_id: f.required()?,
                incoming_window: f.required()?,
                outgoing_window: f.required()?,
                handle_max: f.or(u32::MAX)?,
                offered_capabilities: f.or(Vec::new())?,
                desired_capabilities: f.or(Vec::new())?,
                properties: f.or(Map::default())?,
            }),
            ATTACH => Self::Attach(Box::new(Attach {
                name: f.required()?,
                handle: f.required()?,
                role: f.required()?,
                snd_settle_mode: f.or(SenderSettleMode::default())?,
                rcv_settle_mode: f.or(ReceiverSettleMode::default())?,
                source: f.optional()?,
                target: f.optional()?,
                unsettled: f.optional()?,
                incomplete_unsettled: f.or(false)?,
                initial_delivery_count: f.optional()?,
                max_message_size: f.optional()?,
                offered_capabilities: f.or(Vec::new())?,
                desired_capabilities: f.or(Vec::new())?,
                properties: f.or(Map::default())?,
            })),
            FLOW => Self::Flow(Flow {
                next_incoming_id: f.optional()?,
                incoming_window: f.required()?,
                next_outgoing_id: f.required()?,
                outgoing_window: f.required()?,
                handle: f.optional()?,
                delivery_count: f.optional()?,
                link_credit: f.optional()?,
                available: f.optional()?,
                drain: f.or(false)?,
                echo: f.or(false)?,
                properties: f.or(Map::default())?,
            }),
            TRANSFER => Self::Transfer(Transfer {
                handle: f.required()?,
                delivery_id: f.optional()?,
                delivery_tag: f.optional()?,
                message_format: f.optional()?,
                settled: f.optional()?,
                more: f.or(false)?,
                rcv_settle_mode: f.optional()?,
                state: f.optional()?,
                resume: f.or(false)?,
                aborted: f.or(false)?,
                batchable: f.or(false)?,
            }),
            DISPOSITION => Self::Disposition(Disposition {
                role: f.required()?,
                first: f.required()?,
                last: f.optional()?,
                settled: f.or(false)?,
                state: f.optional()?,
                batchable: f.or(false)?,
            }),
            DETACH => {
                Self::Detach(Detach { handle: f.required()?, closed: f.or(false)?, error: f.optional()? })
            }
            END => Self::End(f.optional()?),
            CLOSE => Self::Close(f.optional()?),
            _ => return Err(Malformed::Descriptor),
        };
        f.end()?;
        Ok(performative)
    }
}

impl Encode for Performative {
    fn encode(&self, out: &mut BytesMut) {
        match self {
            Self::Open(open) => Composite::begin(out, OPEN)
                .field(&open.container_id)
                .field(&open.hostname)
                .field(&open.max_frame_size)
                .field(&open.channel_max)
                .field(&open.idle_time_out_ms)
                .field(&NULL)
                .field(&NULL)
                .field(&open.offered_capabilities)
                .field(&open.desired_capabilities)
                .field(&open.properties)
                .end(),
            Self::Begin(begin) => Composite::begin(out, BEGIN)
                .field(&begin.remote_channel)
                .field(&begin.next_outgoing_id)
                .field(&begin.incoming_window)
                .field(&begin.outgoing_window)
                .field(&begin.handle_max)
                .field(&begin.offered_capabilities)
                .field(&begin.desired_capabilities)
                .field(&begin.properties)
                .end(),
            Self::Attach(attach) => Composite::begin(out, ATTACH)
                .field(&attach.name)
                .field(&attach.handle)
                .field(&attach.role)
                .field(&attach.snd_settle_mode)
                .field(&attach.rcv_settle_mode)
                .field(&attach.source)
                .field(&attach.target)
                .field(&attach.unsettled)
                .field(&attach.incomplete_unsettled)
                .field(&attach.initial_delivery_count)
                .field(&attach.max_message_size)
                .field(&attach.offered_capabilities)
                .field(&attach.desired_capabilities)
                .field(&attach.properties)
                .end(),
            Self::Flow(flow) => Composite::begin(out, FLOW)
                .field(&flow.next_incoming_id)
                .field(&flow.incoming_window)
                .field(&flow.next_outgoing_id)
                .field(&flow.outgoing_window)
                .field(&flow.handle)
                .field(&flow.delivery_count)
                .field(&flow.link_credit)
                .field(&flow.available)
                .field(&flow.drain)
                .field(&flow.echo)
                .field(&flow.properties)
                .end(),
            Self::Transfer(transfer) => Composite::begin(out, TRANSFER)
                .field(&transfer.handle)
                .field(&transfer.delivery_id)
                .field(&transfer.delivery_tag)
                .field(&transfer.message_format)
                .field(&transfer.settled)
                .field(&transfer.more)
                .field(&transfer.rcv_settle_mode)
                .field(&transfer.state)
                .field(&transfer.resume)
                .field(&transfer.aborted)
                .field(&transfer.batchable)
                .end(),
            Self::Disposition(disposition) => Composite::begin(out, DISPOSITION)
                .field(&disposition.role)
                .field(&disposition.first)
                .field(&disposition.last)
                .field(&disposition.settled)
                .field(&disposition.state)
                .field(&disposition.batchable)
                .end(),
            Self::Detach(detach) => Composite::begin(out, DETACH)
                .field(&detach.handle)
                .field(&detach.closed)
                .field(&detach.error)
                .end(),
            Self::End(error) => Composite::begin(out, END).field(error).end(),
            Self::Close(error) => Composite::begin(out, CLOSE).field(error).end(),
        }
    }
}

pub(crate) const NULL: Option<u32> = None;

impl Decode for Sasl {
    fn decode(decoder: &mut Decoder) -> Result<Self, Malformed> {
        let descriptor = decoder.descriptor()?;
        let mut f = decoder.fields()?;
        let said = match descriptor {
            SASL_MECHANISMS => Self::Mechanisms(f.required()?),
            SASL_INIT => {
                Self::Init { mechanism: f.required()?, response: f.optional()?, hostname: f.optional()? }
            }
            SASL_CHALLENGE => Self::Challenge(f.required()?),
            SASL_RESPONSE => Self::Response(f.required()?),
            SASL_OUTCOME => Self::Outcome(f.required()?),
            _ => return Err(Malformed::Descriptor),
        };
        f.end()?;
        Ok(said)
    }
}

impl Encode for Sasl {
    fn encode(&self, out: &mut BytesMut) {
        match self {
            Self::Mechanisms(names) => Composite::begin(out, SASL_MECHANISMS).field(names).end(),
            Self::Init { mechanism, response, hostname } => {
                Composite::begin(out, SASL_INIT).field(mechanism).field(response).field(hostname).end();
            }
            Self::Challenge(bytes) => Composite::begin(out, SASL_CHALLENGE).field(bytes).end(),
            Self::Response(bytes) => Composite::begin(out, SASL_RESPONSE).field(bytes).end(),
            Self::Outcome(code) => Composite::begin(out, SASL_OUTCOME).field(code).field(&NULL).end(),
        }
    }
}

/// A number of a few, and what each stands for.
macro_rules! choice {
    ($type:ident: $number:ty { $($arm:ident = $value:literal),+ }) => {
        impl Decode for $type {
            fn decode(decoder: &mut Decoder) -> Result<Self, Malformed> {
                match <$number>::decode(decoder)? {
                    $($value => Ok(Self::$arm),)+
                    #[allow(unreachable_patterns, reason = "both of a bool are something")]
                    _ => Err(Malformed::Choice),
                }
            }
        }

        impl Encode for $type {
            fn encode(&self, out: &mut BytesMut) {
                let number: $number = match self { $(Self::$arm => $value),+ };
                number.encode(out);
            }
        }
    };
}

choice!(Role: bool { Sender = false, Receiver = true });
choice!(SenderSettleMode: u8 { Unsettled = 0, Settled = 1, Mixed = 2 });
choice!(ReceiverSettleMode: u8 { First = 0, Second = 1 });

impl Role {
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::Sender => Self::Receiver,
            Self::Receiver => Self::Sender,
        }
    }
}

impl Error {
    pub fn new(condition: &'static str, description: impl Into<String>) -> Self {
        let condition = Symbol::from_static(condition);
        Self { condition, description: Some(description.into().into()), info: Map::default() }
    }
}

impl Decode for Error {
    fn decode(decoder: &mut Decoder) -> Result<Self, Malformed> {
        if decoder.descriptor()? != ERROR {
            return Err(Malformed::Descriptor);
        }
        let mut f = decoder.fields()?;
        let error =
            Self { condition: f.required()?, description: f.optional()?, info: f.or(Map::default())? };
        f.end()?;
        Ok(error)
    }
}

impl Encode for Error {
    fn encode(&self, out: &mut BytesMut) {
        let fields = Composite::begin(out, ERROR).field(&self.condition).field(&self.description);
        fields.field(&self.info).end();
    }
}

impl Decode for DeliveryState {
    fn decode(decoder: &mut Decoder) -> Result<Self, Malformed> {
        let begin = decoder.clone();
        let descriptor = decoder.descriptor();
        let is_known = descriptor.is_ok_and(|code| (RECEIVED..=MODIFIED).contains(&code));
        if !is_known {
            *decoder = begin;
            return match decoder.value()? {
                value @ Value::Described(_) => Ok(Self::Other(value)),
                _ => Err(Malformed::Descriptor),
            };
        }
        let mut f = decoder.fields()?;
        let state = match descriptor {
            Ok(RECEIVED) => Self::Received { section_number: f.required()?, section_offset: f.required()? },
            Ok(ACCEPTED) => Self::Accepted,
            Ok(REJECTED) => Self::Rejected(f.optional()?),
            Ok(RELEASED) => Self::Released,
            _ => Self::Modified {
                delivery_failed: f.or(false)?,
                undeliverable_here: f.or(false)?,
                message_annotations: f.or(Map::default())?,
            },
        };
        f.end()?;
        Ok(state)
    }
}

impl Encode for DeliveryState {
    fn encode(&self, out: &mut BytesMut) {
        match self {
            Self::Received { section_number, section_offset } => {
                Composite::begin(out, RECEIVED).field(section_number).field(section_offset).end();
            }
            Self::Accepted => Composite::begin(out, ACCEPTED).end(),
            Self::Rejected(error) => Composite::begin(out, REJECTED).field(error).end(),
            Self::Released => Composite::begin(out, RELEASED).end(),
            Self::Modified { delivery_failed, undeliverable_here, message_annotations } => {
                let fields = Composite::begin(out, MODIFIED).field(delivery_failed);
                fields.field(undeliverable_here).field(message_annotations).end();
            }
            Self::Other(value) => value.encode(out),
        }
    }
}

//! Messages: the sections that follow a transfer (part 3 of the standard, 3.2).

use bytes::{Bytes, BytesMut};

use crate::decode::{Decode, Decoder, Malformed};
use crate::encode::{self, Composite, Encode};
use crate::text::{Symbol, Text};
use crate::value::{Map, Value};

/// The format of a message whose data sections each hold a whole message: several sent as one (`messaging.md` §1.3).
pub const BATCH_FORMAT: u32 = 0x8001_3700;

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Message {
    pub header: Option<Header>,
    pub delivery_annotations: Map,
    pub message_annotations: Map,
    pub properties: Option<Properties>,
    pub application_properties: Map,
    pub body: Body,
    pub footer: Map,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Header {
    pub durable: bool,
    /// 4 where nothing is said.
    pub priority: Option<u8>,
    pub ttl_ms: Option<u32>,
    pub first_acquirer: bool,
    pub delivery_count: u32,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Properties {
    /// A string, a UUID, a whole number or binary: an answer repeats it as it came.
    pub message_id: Option<Value>,
    pub user_id: Option<Bytes>,
    pub to: Option<Text>,
    pub subject: Option<Text>,
    pub reply_to: Option<Text>,
    pub correlation_id: Option<Value>,
    pub content_type: Option<Symbol>,
    pub content_encoding: Option<Symbol>,
    /// Milliseconds since 1970, like the next one.
    pub absolute_expiry_time: Option<Timestamp>,
    pub creation_time: Option<Timestamp>,
    pub group_id: Option<Text>,
    pub group_sequence: Option<u32>,
    pub reply_to_group_id: Option<Text>,
}

/// Milliseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timestamp(pub i64);

#[derive(Clone, Debug, Default, PartialEq)]
pub enum Body {
    #[default]
    Empty,
    /// One section after another.
    Data(Vec<Bytes>),
    Sequence(Vec<Vec<Value>>),
    Value(Value),
}

const HEADER: u64 = 0x70;
const DELIVERY_ANNOTATIONS: u64 = 0x71;
const MESSAGE_ANNOTATIONS: u64 = 0x72;
const PROPERTIES: u64 = 0x73;
const APPLICATION_PROPERTIES: u64 = 0x74;
const DATA: u64 = 0x75;
const SEQUENCE: u64 = 0x76;
const VALUE: u64 = 0x77;
const FOOTER: u64 = 0x78;

impl Message {
    /// Reads all sections, in any order.
    pub fn parse(bytes: Bytes) -> Result<Self, Malformed> {
        let mut decoder = Decoder::new(bytes);
        let mut message = Self::default();
        while !decoder.is_at_end() {
            match decoder.descriptor()? {
                HEADER => message.header = Some(Header::fields(&mut decoder)?),
                DELIVERY_ANNOTATIONS => message.delivery_annotations = Map::decode(&mut decoder)?,
                MESSAGE_ANNOTATIONS => message.message_annotations = Map::decode(&mut decoder)?,
                PROPERTIES => message.properties = Some(Properties::fields(&mut decoder)?),
                APPLICATION_PROPERTIES => message.application_properties = Map::decode(&mut decoder)?,
                FOOTER => message.footer = Map::decode(&mut decoder)?,
                section => message.body.add(section, &mut decoder)?,
            }
        }
        Ok(message)
    }
}

impl Body {
    fn add(&mut self, section: u64, decoder: &mut Decoder) -> Result<(), Malformed> {
        match (section, &mut *self) {
            (DATA, Self::Data(sections)) => sections.push(Bytes::decode(decoder)?),
            (DATA, Self::Empty) => *self = Self::Data(vec![Bytes::decode(decoder)?]),
            (SEQUENCE, Self::Sequence(sections)) => sections.push(list(decoder)?),
            (SEQUENCE, Self::Empty) => *self = Self::Sequence(vec![list(decoder)?]),
            (VALUE, Self::Empty) => *self = Self::Value(decoder.value()?),
            _ => return Err(Malformed::Descriptor),
        }
        Ok(())
    }
}

fn list(decoder: &mut Decoder) -> Result<Vec<Value>, Malformed> {
    match decoder.value()? {
        Value::List(values) => Ok(values),
        _ => Err(Malformed::Descriptor),
    }
}

impl Header {
    fn fields(decoder: &mut Decoder) -> Result<Self, Malformed> {
        let mut f = decoder.fields()?;
        let header = Self {
            durable: f.or(false)?,
            priority: f.optional()?,
            ttl_ms: f.optional()?,
            first_acquirer: f.or(false)?,
            delivery_count: f.or(0)?,
        };
        f.end()?;
        Ok(header)
    }
}

impl Properties {
    fn fields(decoder: &mut Decoder) -> Result<Self, Malformed> {
        let mut f = decoder.fields()?;
        let properties = Self {
            message_id: f.optional()?,
            user_id: f.optional()?,
            to: f.optional()?,
            subject: f.optional()?,
            reply_to: f.optional()?,
            correlation_id: f.optional()?,
            content_type: f.optional()?,
            content_encoding: f.optional()?,
            absolute_expiry_time: f.optional()?,
            creation_time: f.optional()?,
            group_id: f.optional()?,
            group_sequence: f.optional()?,
            reply_to_group_id: f.optional()?,
        };
        f.end()?;
        Ok(properties)
    }
}

impl Decode for Timestamp {
    fn decode(decoder: &mut Decoder) -> Result<Self, Malformed> {
        let code = decoder.peek()?;
        match decoder.value()? {
            Value::Timestamp(at) => Ok(Self(at)),
            _ => Err(Malformed::Type(code)),
        }
    }
}

impl Encode for Timestamp {
    fn encode(&self, out: &mut BytesMut) {
        Value::Timestamp(self.0).encode(out);
    }
}

impl Encode for Message {
    fn encode(&self, out: &mut BytesMut) {
        if let Some(header) = &self.header {
            Composite::begin(out, HEADER)
                .field(&header.durable)
                .field(&header.priority)
                .field(&header.ttl_ms)
                .field(&header.first_acquirer)
                .field(&header.delivery_count)
                .end();
        }
        section(out, DELIVERY_ANNOTATIONS, &self.delivery_annotations);
        section(out, MESSAGE_ANNOTATIONS, &self.message_annotations);
        if let Some(properties) = &self.properties {
            properties.encode(out);
        }
        section(out, APPLICATION_PROPERTIES, &self.application_properties);
        self.body.encode(out);
        section(out, FOOTER, &self.footer);
    }
}

/// What says nothing is left out.
fn section(out: &mut BytesMut, descriptor: u64, map: &Map) {
    if !map.is_empty() {
        encode::descriptor(out, descriptor);
        map.encode(out);
    }
}

impl Encode for Properties {
    fn encode(&self, out: &mut BytesMut) {
        Composite::begin(out, PROPERTIES)
            .field(&self.message_id)
            .field(&self.user_id)
            .field(&self.to)
            .field(&self.subject)
            .field(&self.reply_to)
            .field(&self.correlation_id)
            .field(&self.content_type)
            .field(&self.content_encoding)
            .field(&self.absolute_expiry_time)
            .field(&self.creation_time)
            .field(&self.group_id)
            .field(&self.group_sequence)
            .field(&self.reply_to_group_id)
            .end();
    }
}

impl Encode for Body {
    fn encode(&self, out: &mut BytesMut) {
        match self {
            Self::Empty => {}
            Self::Data(sections) => {
                for data in sections {
                    encode::descriptor(out, DATA);
                    data.encode(out);
                }
            }
            Self::Sequence(sections) => {
                for values in sections {
                    encode::descriptor(out, SEQUENCE);
                    Value::List(values.clone()).encode(out);
                }
            }
            Self::Value(value) => {
                encode::descriptor(out, VALUE);
                value.encode(out);
            }
        }
    }
}

//! The two ends of a link: what is sent from, and where to (part 3 of the standard, 3.5).

use bytes::BytesMut;

use crate::decode::{Decode, Decoder, Malformed};
use crate::encode::{Composite, Encode};
use crate::performative::{DeliveryState, NULL};
use crate::text::{Symbol, Text};
use crate::value::Map;

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Source {
    pub address: Option<Text>,
    pub durable: u32,
    pub expiry_policy: Option<Symbol>,
    pub timeout: u32,
    pub dynamic: bool,
    pub dynamic_node_properties: Map,
    pub distribution_mode: Option<Symbol>,
    pub filter: Map,
    pub default_outcome: Option<DeliveryState>,
    pub outcomes: Vec<Symbol>,
    pub capabilities: Vec<Symbol>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Target {
    Node(Node),
    /// Of transactions, or of an extension: its descriptor.
    Other(u64),
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Node {
    pub address: Option<Text>,
    pub durable: u32,
    pub expiry_policy: Option<Symbol>,
    pub timeout: u32,
    pub dynamic: bool,
    pub dynamic_node_properties: Map,
    pub capabilities: Vec<Symbol>,
}

const SOURCE: u64 = 0x28;
const TARGET: u64 = 0x29;
const COORDINATOR: u64 = 0x30;

impl Decode for Source {
    fn decode(decoder: &mut Decoder) -> Result<Self, Malformed> {
        if decoder.descriptor()? != SOURCE {
            return Err(Malformed::Descriptor);
        }
        let mut f = decoder.fields()?;
        let source = Self {
            address: f.optional()?,
            durable: f.or(0)?,
            expiry_policy: f.optional()?,
            timeout: f.or(0)?,
            dynamic: f.or(false)?,
            dynamic_node_properties: f.or(Map::default())?,
            distribution_mode: f.optional()?,
            filter: f.or(Map::default())?,
            default_outcome: f.optional()?,
            outcomes: f.or(Vec::new())?,
            capabilities: f.or(Vec::new())?,
        };
        f.end()?;
        Ok(source)
    }
}

impl Encode for Source {
    fn encode(&self, out: &mut BytesMut) {
        Composite::begin(out, SOURCE)
            .field(&self.address)
            .field(&self.durable)
            .field(&self.expiry_policy)
            .field(&self.timeout)
            .field(&self.dynamic)
            .field(&self.dynamic_node_properties)
            .field(&self.distribution_mode)
            .field(&self.filter)
            .field(&self.default_outcome)
            .field(&self.outcomes)
            .field(&self.capabilities)
            .end();
    }
}

impl Target {
    pub fn address(&self) -> Option<&Text> {
        match self {
            Self::Node(node) => node.address.as_ref(),
            Self::Other(_) => None,
        }
    }
}

impl Decode for Target {
    fn decode(decoder: &mut Decoder) -> Result<Self, Malformed> {
        let descriptor = decoder.descriptor()?;
        let mut f = decoder.fields()?;
        if descriptor != TARGET {
            f.end()?;
            return Ok(Self::Other(descriptor));
        }
        let node = Node {
            address: f.optional()?,
            durable: f.or(0)?,
            expiry_policy: f.optional()?,
            timeout: f.or(0)?,
            dynamic: f.or(false)?,
            dynamic_node_properties: f.or(Map::default())?,
            capabilities: f.or(Vec::new())?,
        };
        f.end()?;
        Ok(Self::Node(node))
    }
}

impl Encode for Target {
    fn encode(&self, out: &mut BytesMut) {
        match self {
            Self::Node(node) => Composite::begin(out, TARGET)
                .field(&node.address)
                .field(&node.durable)
                .field(&node.expiry_policy)
                .field(&node.timeout)
                .field(&node.dynamic)
                .field(&node.dynamic_node_properties)
                .field(&node.capabilities)
                .end(),
            Self::Other(COORDINATOR) => Composite::begin(out, COORDINATOR).field(&NULL).end(),
            Self::Other(descriptor) => Composite::begin(out, *descriptor).end(),
        }
    }
}

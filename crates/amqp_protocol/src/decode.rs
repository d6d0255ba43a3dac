//! Bytes to values. What is read costs no more memory than a small multiple of its bytes: depth, and how many values one frame may
//! hold, have caps, and a number of elements is never believed before it is held against the bytes that are there.

use base::caps;
use bytes::Bytes;

use crate::text::{Symbol, Text};
use crate::value::{Map, Value};

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    #[error("it ends too early")]
    Short,
    #[error("it goes on after its end")]
    Long,
    #[error("the format code {0:#04x} does not exist")]
    FormatCode(u8),
    #[error("a value is of another type than its place wants: format code {0:#04x}")]
    Type(u8),
    #[error("a text is not UTF-8")]
    Text,
    #[error("a character is none")]
    Char,
    #[error("a number stands for nothing")]
    Choice,
    #[error("a map has a key without a value")]
    Map,
    #[error("a field is missing that must be there")]
    Missing,
    #[error("it is nested too deeply")]
    Depth,
    #[error("it holds too many values")]
    Values,
    #[error("its descriptor is unknown here")]
    Descriptor,
    #[error("a frame is larger than agreed")]
    FrameSize,
    #[error("a frame's header is wrong")]
    FrameHeader,
}

/// Reads values one after another from a slice of a buffer.
#[derive(Clone)]
pub struct Decoder {
    bytes: Bytes,
    at: usize,
    depth: usize,
    values: usize,
}

/// What can be read from its bytes.
pub trait Decode: Sized {
    fn decode(decoder: &mut Decoder) -> Result<Self, Malformed>;
}

/// Where the elements of a list, map or array are.
struct Compound {
    end: usize,
    count: usize,
}

impl Decoder {
    pub fn new(bytes: Bytes) -> Self {
        Self { bytes, at: 0, depth: 0, values: caps::AMQP_VALUES_MAX }
    }

    pub fn is_at_end(&self) -> bool {
        self.at == self.bytes.len()
    }

    pub fn at(&self) -> usize {
        self.at
    }

    /// What has not been read.
    pub fn rest(self) -> Bytes {
        self.bytes.slice(self.at..)
    }

    /// A part that was read, as it stands.
    pub fn slice(&self, from: usize, to: usize) -> Bytes {
        self.bytes.slice(from..to)
    }

    pub(crate) fn peek(&self) -> Result<u8, Malformed> {
        self.bytes.get(self.at).copied().ok_or(Malformed::Short)
    }

    pub(crate) fn byte(&mut self) -> Result<u8, Malformed> {
        let byte = self.peek()?;
        self.at += 1;
        Ok(byte)
    }

    fn fixed<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let end = self.at.checked_add(N).ok_or(Malformed::Short)?;
        let taken = self.bytes.get(self.at..end).ok_or(Malformed::Short)?;
        self.at = end;
        Ok(taken.try_into().expect("as long as asked"))
    }

    fn bytes(&mut self, length: usize) -> Result<Bytes, Malformed> {
        let end =
            self.at.checked_add(length).filter(|end| *end <= self.bytes.len()).ok_or(Malformed::Short)?;
        let taken = self.bytes.slice(self.at..end);
        self.at = end;
        Ok(taken)
    }

    fn length(&mut self, is_long: bool) -> Result<usize, Malformed> {
        if is_long { Ok(u32::from_be_bytes(self.fixed()?) as usize) } else { Ok(self.byte()?.into()) }
    }

    /// Binary data or a text.
    fn variable(&mut self, code: u8) -> Result<Bytes, Malformed> {
        let length = self.length(code >= 0xb0)?;
        self.bytes(length)
    }

    fn compound(&mut self, is_long: bool) -> Result<Compound, Malformed> {
        let size = self.length(is_long)?;
        let end = self.at.checked_add(size).filter(|end| *end <= self.bytes.len()).ok_or(Malformed::Short)?;
        let count = self.length(is_long)?;
        // Every element has at least one byte, but in arrays of what says everything by its type, which nobody sends.
        if count > end.checked_sub(self.at).ok_or(Malformed::Short)? {
            return Err(Malformed::Short);
        }
        Ok(Compound { end, count })
    }

    fn close(&self, compound: &Compound) -> Result<(), Malformed> {
        match self.at.cmp(&compound.end) {
            std::cmp::Ordering::Equal => Ok(()),
            std::cmp::Ordering::Less => Err(Malformed::Long),
            std::cmp::Ordering::Greater => Err(Malformed::Short),
        }
    }

    /// Reads `inner` one level further down.
    fn deeper<T>(&mut self, inner: impl FnOnce(&mut Self) -> Result<T, Malformed>) -> Result<T, Malformed> {
        if self.depth == caps::AMQP_DEPTH_MAX {
            return Err(Malformed::Depth);
        }
        self.depth += 1;
        let read = inner(self);
        self.depth -= 1;
        read
    }

    /// The descriptor of what follows: a number, or a name of the standard in its place.
    pub(crate) fn descriptor(&mut self) -> Result<u64, Malformed> {
        match self.byte()? {
            0x00 => {}
            other => return Err(Malformed::Type(other)),
        }
        match self.value()? {
            Value::Ulong(code) => Ok(code),
            Value::Symbol(name) => named(&name).ok_or(Malformed::Descriptor),
            _ => Err(Malformed::Descriptor),
        }
    }

    /// Begins the fields of a composite; gives how to read them.
    pub(crate) fn fields(&mut self) -> Result<Fields<'_>, Malformed> {
        let compound = match self.byte()? {
            0x45 => Compound { end: self.at, count: 0 },
            code @ (0xc0 | 0xd0) => self.compound(code == 0xd0)?,
            other => return Err(Malformed::Type(other)),
        };
        Ok(Fields { left: compound.count, compound, decoder: self })
    }

    pub fn value(&mut self) -> Result<Value, Malformed> {
        let code = self.byte()?;
        self.value_of(code)
    }

    fn value_of(&mut self, code: u8) -> Result<Value, Malformed> {
        self.values = self.values.checked_sub(1).ok_or(Malformed::Values)?;
        Ok(match code {
            0x00 => self.deeper(|decoder| {
                let descriptor = decoder.value()?;
                let value = decoder.value()?;
                Ok(Value::Described(Box::new((descriptor, value))))
            })?,
            0x40 => Value::Null,
            0x41 => Value::Bool(true),
            0x42 => Value::Bool(false),
            0x56 => match self.byte()? {
                0 => Value::Bool(false),
                1 => Value::Bool(true),
                _ => return Err(Malformed::Choice),
            },
            0x50 => Value::Ubyte(self.byte()?),
            0x60 => Value::Ushort(u16::from_be_bytes(self.fixed()?)),
            0x70 => Value::Uint(u32::from_be_bytes(self.fixed()?)),
            0x52 => Value::Uint(self.byte()?.into()),
            0x43 => Value::Uint(0),
            0x80 => Value::Ulong(u64::from_be_bytes(self.fixed()?)),
            0x53 => Value::Ulong(self.byte()?.into()),
            0x44 => Value::Ulong(0),
            0x51 => Value::Byte(i8::from_be_bytes(self.fixed()?)),
            0x61 => Value::Short(i16::from_be_bytes(self.fixed()?)),
            0x71 => Value::Int(i32::from_be_bytes(self.fixed()?)),
            0x54 => Value::Int(i8::from_be_bytes(self.fixed()?).into()),
            0x81 => Value::Long(i64::from_be_bytes(self.fixed()?)),
            0x55 => Value::Long(i8::from_be_bytes(self.fixed()?).into()),
            0x72 => Value::Float(f32::from_be_bytes(self.fixed()?)),
            0x82 => Value::Double(f64::from_be_bytes(self.fixed()?)),
            0x74 => Value::Decimal32(self.fixed()?),
            0x84 => Value::Decimal64(self.fixed()?),
            0x94 => Value::Decimal128(self.fixed()?),
            0x73 => Value::Char(char::from_u32(u32::from_be_bytes(self.fixed()?)).ok_or(Malformed::Char)?),
            0x83 => Value::Timestamp(i64::from_be_bytes(self.fixed()?)),
            0x98 => Value::Uuid(self.fixed()?),
            0xa0 | 0xb0 => Value::Binary(self.variable(code)?),
            0xa1 | 0xb1 => Value::String(self.variable(code)?.try_into()?),
            0xa3 | 0xb3 => Value::Symbol(Text::try_from(self.variable(code)?)?.into()),
            0x45 => Value::List(Vec::new()),
            0xc0 | 0xd0 => {
                let compound = self.compound(code == 0xd0)?;
                let list = self.deeper(|decoder| (0..compound.count).map(|_| decoder.value()).collect())?;
                self.close(&compound)?;
                Value::List(list)
            }
            0xc1 | 0xd1 => Value::Map(self.map(code)?),
            0xe0 | 0xf0 => Value::Array(self.array(code)?),
            other => return Err(Malformed::FormatCode(other)),
        })
    }

    fn map(&mut self, code: u8) -> Result<Map, Malformed> {
        let compound = self.compound(code == 0xd1)?;
        if !compound.count.is_multiple_of(2) {
            return Err(Malformed::Map);
        }
        let pair = |decoder: &mut Self| Ok((decoder.value()?, decoder.value()?));
        let members = self.deeper(|decoder| (0..compound.count / 2).map(|_| pair(decoder)).collect())?;
        self.close(&compound)?;
        Ok(Map(members))
    }

    fn array(&mut self, code: u8) -> Result<Vec<Value>, Malformed> {
        let compound = self.compound(code == 0xf0)?;
        let items = self.deeper(|decoder| {
            if compound.count == 0 && decoder.at == compound.end {
                return Ok(Vec::new());
            }
            // What the elements are stands once before all of them.
            let mut code = decoder.byte()?;
            let mut descriptor = None;
            if code == 0x00 {
                descriptor = Some(decoder.value()?);
                code = decoder.byte()?;
            }
            if code == 0x00 {
                return Err(Malformed::FormatCode(code));
            }
            let item = |decoder: &mut Self| {
                let value = decoder.value_of(code)?;
                Ok(match &descriptor {
                    None => value,
                    Some(descriptor) => Value::Described(Box::new((descriptor.clone(), value))),
                })
            };
            (0..compound.count).map(|_| item(decoder)).collect()
        })?;
        self.close(&compound)?;
        Ok(items)
    }
}

/// The fields of a composite, one after another. Those at its end may be left out.
pub(crate) struct Fields<'d> {
    decoder: &'d mut Decoder,
    compound: Compound,
    left: usize,
}

impl Fields<'_> {
    pub(crate) fn optional<T: Decode>(&mut self) -> Result<Option<T>, Malformed> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        if self.decoder.peek()? == 0x40 {
            self.decoder.byte()?;
            return Ok(None);
        }
        self.decoder.deeper(T::decode).map(Some)
    }

    pub(crate) fn required<T: Decode>(&mut self) -> Result<T, Malformed> {
        self.optional()?.ok_or(Malformed::Missing)
    }

    pub(crate) fn or<T: Decode>(&mut self, default: T) -> Result<T, Malformed> {
        Ok(self.optional()?.unwrap_or(default))
    }

    /// What a later version of the standard might add is skipped.
    pub(crate) fn end(mut self) -> Result<(), Malformed> {
        while self.left > 0 {
            self.optional::<Value>()?;
        }
        self.decoder.close(&self.compound)
    }
}

/// The descriptors of the standard by their names.
fn named(name: &str) -> Option<u64> {
    Some(match name {
        "amqp:open:list" => 0x10,
        "amqp:begin:list" => 0x11,
        "amqp:attach:list" => 0x12,
        "amqp:flow:list" => 0x13,
        "amqp:transfer:list" => 0x14,
        "amqp:disposition:list" => 0x15,
        "amqp:detach:list" => 0x16,
        "amqp:end:list" => 0x17,
        "amqp:close:list" => 0x18,
        "amqp:error:list" => 0x1d,
        "amqp:received:list" => 0x23,
        "amqp:accepted:list" => 0x24,
        "amqp:rejected:list" => 0x25,
        "amqp:released:list" => 0x26,
        "amqp:modified:list" => 0x27,
        "amqp:source:list" => 0x28,
        "amqp:target:list" => 0x29,
        "amqp:coordinator:list" => 0x30,
        "amqp:sasl-mechanisms:list" => 0x40,
        "amqp:sasl-init:list" => 0x41,
        "amqp:sasl-challenge:list" => 0x42,
        "amqp:sasl-response:list" => 0x43,
        "amqp:sasl-outcome:list" => 0x44,
        "amqp:header:list" => 0x70,
        "amqp:delivery-annotations:map" => 0x71,
        "amqp:message-annotations:map" => 0x72,
        "amqp:properties:list" => 0x73,
        "amqp:application-properties:map" => 0x74,
        "amqp:data:binary" => 0x75,
        "amqp:amqp-sequence:list" => 0x76,
        "amqp:amqp-value:*" => 0x77,
        "amqp:footer:map" => 0x78,
        _ => return None,
    })
}

impl Decode for Value {
    fn decode(decoder: &mut Decoder) -> Result<Self, Malformed> {
        decoder.value()
    }
}

/// A type that one arm of [`Value`] is.
macro_rules! decode_as {
    ($type:ty, $arm:ident) => {
        impl Decode for $type {
            fn decode(decoder: &mut Decoder) -> Result<Self, Malformed> {
                let code = decoder.peek()?;
                match decoder.value()? {
                    Value::$arm(value) => Ok(value),
                    _ => Err(Malformed::Type(code)),
                }
            }
        }
    };
}

decode_as!(bool, Bool);
decode_as!(u8, Ubyte);
decode_as!(u16, Ushort);
decode_as!(u32, Uint);
decode_as!(u64, Ulong);
decode_as!(Bytes, Binary);
decode_as!(Text, String);
decode_as!(Symbol, Symbol);
decode_as!(Map, Map);

/// A field of several symbols may hold one that is no array.
impl Decode for Vec<Symbol> {
    fn decode(decoder: &mut Decoder) -> Result<Self, Malformed> {
        let code = decoder.peek()?;
        let one = |value| match value {
            Value::Symbol(name) => Ok(name),
            _ => Err(Malformed::Type(code)),
        };
        match decoder.value()? {
            Value::Array(values) => values.into_iter().map(one).collect(),
            value => one(value).map(|name| vec![name]),
        }
    }
}

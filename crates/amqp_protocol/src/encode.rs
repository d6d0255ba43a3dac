//! Values to bytes. Composites are always written with all of their fields: clients read them by position, and some fail where fields
//! at the end were left out, which the standard allows (`messaging.md` §0.1).

use bytes::{BufMut, Bytes, BytesMut};

use crate::text::{Symbol, Text};
use crate::value::{Map, Value};

/// What can be written.
pub trait Encode {
    fn encode(&self, out: &mut BytesMut);
}

/// Room for the widest header of a list, map or array behind its format code: size and count.
const WIDE: usize = 8;

/// A list, map or array whose size and count come before what it holds.
struct Compound {
    at: usize,
    wide: u8,
    narrow: u8,
}

impl Compound {
    fn begin(out: &mut BytesMut, wide: u8, narrow: u8) -> Self {
        let at = out.len();
        out.put_bytes(0, 1 + WIDE);
        Self { at, wide, narrow }
    }

    fn end(self, out: &mut BytesMut, count: usize) {
        let begin = self.at + 1 + WIDE;
        let length = out.len() - begin;
        if let (Ok(size), Ok(count)) = (u8::try_from(length + 1), u8::try_from(count)) {
            out.copy_within(begin.., self.at + 3);
            out.truncate(self.at + 3 + length);
            out[self.at] = self.narrow;
            out[self.at + 1] = size;
            out[self.at + 2] = count;
        } else {
            let of = |number: usize| u32::try_from(number).expect("frames are far smaller").to_be_bytes();
            out[self.at] = self.wide;
            out[self.at + 1..self.at + 5].copy_from_slice(&of(length + 4));
            out[self.at + 5..self.at + 9].copy_from_slice(&of(count));
        }
    }
}

/// A described list that is being written, field by field.
pub struct Composite<'o> {
    out: &'o mut BytesMut,
    compound: Compound,
    count: usize,
}

impl<'o> Composite<'o> {
    pub fn begin(out: &'o mut BytesMut, descriptor: u64) -> Self {
        self::descriptor(out, descriptor);
        let compound = Compound::begin(out, 0xd0, 0xc0);
        Self { out, compound, count: 0 }
    }

    #[must_use]
    pub fn field(mut self, value: &impl Encode) -> Self {
        value.encode(self.out);
        self.count += 1;
        self
    }

    pub fn end(self) {
        self.compound.end(self.out, self.count);
    }
}

pub(crate) fn descriptor(out: &mut BytesMut, code: u64) {
    out.put_u8(0x00);
    code.encode(out);
}

fn variable(out: &mut BytesMut, narrow: u8, bytes: &[u8]) {
    if let Ok(length) = u8::try_from(bytes.len()) {
        out.put_slice(&[narrow, length]);
        out.put_slice(bytes);
    } else {
        out.put_u8(narrow + 0x10);
        wide(out, bytes);
    }
}

impl<T: Encode> Encode for Option<T> {
    fn encode(&self, out: &mut BytesMut) {
        match self {
            None => out.put_u8(0x40),
            Some(value) => value.encode(out),
        }
    }
}

impl Encode for bool {
    fn encode(&self, out: &mut BytesMut) {
        out.put_u8(if *self { 0x41 } else { 0x42 });
    }
}

impl Encode for u8 {
    fn encode(&self, out: &mut BytesMut) {
        out.put_slice(&[0x50, *self]);
    }
}

impl Encode for u16 {
    fn encode(&self, out: &mut BytesMut) {
        out.put_u8(0x60);
        out.put_u16(*self);
    }
}

impl Encode for u32 {
    fn encode(&self, out: &mut BytesMut) {
        match (*self, u8::try_from(*self)) {
            (0, _) => out.put_u8(0x43),
            (_, Ok(small)) => out.put_slice(&[0x52, small]),
            (number, _) => {
                out.put_u8(0x70);
                out.put_u32(number);
            }
        }
    }
}

impl Encode for u64 {
    fn encode(&self, out: &mut BytesMut) {
        match (*self, u8::try_from(*self)) {
            (0, _) => out.put_u8(0x44),
            (_, Ok(small)) => out.put_slice(&[0x53, small]),
            (number, _) => {
                out.put_u8(0x80);
                out.put_u64(number);
            }
        }
    }
}

impl Encode for i32 {
    fn encode(&self, out: &mut BytesMut) {
        if let Ok(small) = i8::try_from(*self) {
            out.put_u8(0x54);
            out.put_i8(small);
        } else {
            out.put_u8(0x71);
            out.put_i32(*self);
        }
    }
}

impl Encode for i64 {
    fn encode(&self, out: &mut BytesMut) {
        if let Ok(small) = i8::try_from(*self) {
            out.put_u8(0x55);
            out.put_i8(small);
        } else {
            out.put_u8(0x81);
            out.put_i64(*self);
        }
    }
}

impl Encode for Bytes {
    fn encode(&self, out: &mut BytesMut) {
        variable(out, 0xa0, self);
    }
}

impl Encode for Text {
    fn encode(&self, out: &mut BytesMut) {
        variable(out, 0xa1, self.as_bytes());
    }
}

impl Encode for Symbol {
    fn encode(&self, out: &mut BytesMut) {
        variable(out, 0xa3, self.as_bytes());
    }
}

impl Encode for Map {
    fn encode(&self, out: &mut BytesMut) {
        let compound = Compound::begin(out, 0xd1, 0xc1);
        for (key, value) in &self.0 {
            key.encode(out);
            value.encode(out);
        }
        compound.end(out, self.0.len() * 2);
    }
}

/// Several symbols, as capabilities are written; none are null.
impl Encode for Vec<Symbol> {
    fn encode(&self, out: &mut BytesMut) {
        if self.is_empty() {
            return out.put_u8(0x40);
        }
        let compound = Compound::begin(out, 0xf0, 0xe0);
        out.put_u8(0xb3);
        for name in self {
            wide(out, name.as_bytes());
        }
        compound.end(out, self.len());
    }
}

fn wide(out: &mut BytesMut, bytes: &[u8]) {
    out.put_u32(u32::try_from(bytes.len()).expect("frames are far smaller"));
    out.put_slice(bytes);
}

impl Encode for Value {
    fn encode(&self, out: &mut BytesMut) {
        match self {
            Self::Null => out.put_u8(0x40),
            Self::Bool(is_so) => is_so.encode(out),
            Self::Ubyte(number) => number.encode(out),
            Self::Ushort(number) => number.encode(out),
            Self::Uint(number) => number.encode(out),
            Self::Ulong(number) => number.encode(out),
            Self::Int(number) => number.encode(out),
            Self::Long(number) => number.encode(out),
            Self::Binary(bytes) => bytes.encode(out),
            Self::String(text) => text.encode(out),
            Self::Symbol(name) => name.encode(out),
            Self::List(values) if values.is_empty() => out.put_u8(0x45),
            Self::List(values) => {
                let compound = Compound::begin(out, 0xd0, 0xc0);
                for value in values {
                    value.encode(out);
                }
                compound.end(out, values.len());
            }
            Self::Map(map) => map.encode(out),
            Self::Array(values) => array(out, values),
            Self::Described(described) => {
                out.put_u8(0x00);
                described.0.encode(out);
                described.1.encode(out);
            }
            fixed => {
                out.put_u8(fixed.wide_code());
                fixed.put_wide(out);
            }
        }
    }
}

/// The elements of an array have one format code, the widest of their type, so that any of them fits.
fn array(out: &mut BytesMut, values: &[Value]) {
    let compound = Compound::begin(out, 0xf0, 0xe0);
    let first = match values.first() {
        Some(Value::Described(described)) => {
            out.put_u8(0x00);
            described.0.encode(out);
            Some(&described.1)
        }
        first => first,
    };
    out.put_u8(first.map_or(0x40, Value::wide_code));
    for value in values {
        match value {
            Value::Described(described) => described.1.put_wide(out),
            value => value.put_wide(out),
        }
    }
    compound.end(out, values.len());
}

impl Value {
    /// The format code that all values of its type can have.
    fn wide_code(&self) -> u8 {
        match self {
            Self::Null => 0x40,
            Self::Bool(_) => 0x56,
            Self::Ubyte(_) => 0x50,
            Self::Ushort(_) => 0x60,
            Self::Uint(_) => 0x70,
            Self::Ulong(_) => 0x80,
            Self::Byte(_) => 0x51,
            Self::Short(_) => 0x61,
            Self::Int(_) => 0x71,
            Self::Long(_) => 0x81,
            Self::Float(_) => 0x72,
            Self::Double(_) => 0x82,
            Self::Decimal32(_) => 0x74,
            Self::Decimal64(_) => 0x84,
            Self::Decimal128(_) => 0x94,
            Self::Char(_) => 0x73,
            Self::Timestamp(_) => 0x83,
            Self::Uuid(_) => 0x98,
            Self::Binary(_) => 0xb0,
            Self::String(_) => 0xb1,
            Self::Symbol(_) => 0xb3,
            Self::List(_) => 0xd0,
            Self::Map(_) => 0xd1,
            Self::Array(_) => 0xf0,
            Self::Described(_) => 0x00,
        }
    }

    /// What follows that code.
    fn put_wide(&self, out: &mut BytesMut) {
        match self {
            Self::Null => {}
            Self::Bool(is_so) => out.put_u8((*is_so).into()),
            Self::Ubyte(number) => out.put_u8(*number),
            Self::Ushort(number) => out.put_u16(*number),
            Self::Uint(number) => out.put_u32(*number),
            Self::Ulong(number) => out.put_u64(*number),
            Self::Byte(number) => out.put_i8(*number),
            Self::Short(number) => out.put_i16(*number),
            Self::Int(number) => out.put_i32(*number),
            Self::Long(number) | Self::Timestamp(number) => out.put_i64(*number),
            Self::Float(number) => out.put_f32(*number),
            Self::Double(number) => out.put_f64(*number),
            Self::Decimal32(bytes) => out.put_slice(bytes),
            Self::Decimal64(bytes) => out.put_slice(bytes),
            Self::Decimal128(bytes) | Self::Uuid(bytes) => out.put_slice(bytes),
            Self::Char(character) => out.put_u32((*character).into()),
            Self::Binary(bytes) => wide(out, bytes),
            Self::String(text) => wide(out, text.as_bytes()),
            Self::Symbol(name) => wide(out, name.as_bytes()),
            Self::List(_) | Self::Map(_) | Self::Array(_) | Self::Described(_) => put_compound(self, out),
        }
    }
}

/// A list, map or array as an element of an array: with the wide header, which is all that such an element has of its own.
fn put_compound(value: &Value, out: &mut BytesMut) {
    let at = out.len();
    out.put_bytes(0, WIDE);
    let count = match value {
        Value::List(values) => {
            for value in values {
                value.encode(out);
            }
            values.len()
        }
        Value::Map(map) => {
            for (key, value) in &map.0 {
                key.encode(out);
                value.encode(out);
            }
            map.0.len() * 2
        }
        Value::Array(values) => {
            out.put_u8(values.first().map_or(0x40, Value::wide_code));
            for value in values {
                value.put_wide(out);
            }
            values.len()
        }
        _ => 0,
    };
    let of = |number: usize| u32::try_from(number).expect("frames are far smaller").to_be_bytes();
    let size = out.len() - at - 4;
    out[at..at + 4].copy_from_slice(&of(size));
    out[at + 4..at + WIDE].copy_from_slice(&of(count));
}

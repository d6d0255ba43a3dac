//! Values of any type, as they stand in maps, annotations and bodies.

use bytes::Bytes;

use crate::text::{Symbol, Text};

/// A value of AMQP's type system (part 1 of the standard). What is binary or text shares the buffer that it came in.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Null,
    Bool(bool),
    Ubyte(u8),
    Ushort(u16),
    Uint(u32),
    Ulong(u64),
    Byte(i8),
    Short(i16),
    Int(i32),
    Long(i64),
    Float(f32),
    Double(f64),
    Decimal32([u8; 4]),
    Decimal64([u8; 8]),
    Decimal128([u8; 16]),
    Char(char),
    /// Milliseconds since 1970.
    Timestamp(i64),
    Uuid([u8; 16]),
    Binary(Bytes),
    String(Text),
    Symbol(Symbol),
    List(Vec<Value>),
    Map(Map),
    /// All of one type.
    Array(Vec<Value>),
    /// What it is, and the value that says it.
    Described(Box<(Value, Value)>),
}

/// Members in the order in which they stand; a name that stands there twice is found once.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Map(pub Vec<(Value, Value)>);

impl Value {
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            Self::Symbol(name) => Some(name),
            _ => None,
        }
    }

    /// A whole number of any width and sign.
    pub fn as_i64(&self) -> Option<i64> {
        Some(match self {
            Self::Ubyte(number) => (*number).into(),
            Self::Ushort(number) => (*number).into(),
            Self::Uint(number) => (*number).into(),
            Self::Ulong(number) => i64::try_from(*number).ok()?,
            Self::Byte(number) => (*number).into(),
            Self::Short(number) => (*number).into(),
            Self::Int(number) => (*number).into(),
            Self::Long(number) | Self::Timestamp(number) => *number,
            _ => return None,
        })
    }
}

impl Map {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// By a name that is a symbol or a string: clients send either.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.iter().find(|(key, _)| key.as_text() == Some(name)).map(|(_, value)| value)
    }

    pub fn push(&mut self, name: Symbol, value: Value) {
        self.0.push((Value::Symbol(name), value));
    }
}

impl From<&'static str> for Value {
    fn from(text: &'static str) -> Self {
        Self::String(Text::from_static(text))
    }
}

//! AMQP 1.0 (ISO/IEC 19464) without a socket: types, performatives, message sections, frames, and the state of a connection with its
//! sessions and links. Bytes go in and events come out, so that a door, a client and a test use the same. Does no I/O, knows no clock
//! but the one that it is given, and knows nothing of what is sent.

pub mod connection;
mod decode;
mod encode;
pub mod frame;
pub mod message;
pub mod performative;
pub mod terminus;
mod text;
mod value;

pub use decode::{Decode, Decoder, Malformed};
pub use encode::{Composite, Encode};
pub use text::{Symbol, Text};
pub use value::{Map, Value};

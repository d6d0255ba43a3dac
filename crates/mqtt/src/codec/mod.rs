//! MQTT 3.1.1 packets, both directions: bytes in, packets out, and back. Used by the door as a server and by the demo, the
//! tests and the benchmark as a client. It must never do I/O, never panic on any input, and never copy a payload.

mod decode;
mod encode;
mod packet;
#[cfg(test)]
mod tests;

pub use decode::{Malformed, decode};
pub use encode::{PacketTooLarge, write_publish};
pub use packet::{
    ConnAck, Connect, ConnectReturnCode, Delivery, InvalidText, Login, Packet, PacketId, Publish, Qos,
    SubAck, Subscribe, Text, Unsubscribe, Will,
};

/// A server's answer to a CONNECT of MQTT 5: a CONNACK of that version with reason 0x84, unsupported protocol version.
pub const CONNACK_V5_UNSUPPORTED: [u8; 5] = [0x20, 0x03, 0x00, 0x84, 0x00];

//! Packets to bytes, into a buffer that the caller reuses. Nothing is written when a packet does not fit the wire.

use base::caps;
use bytes::{BufMut, Bytes, BytesMut};

use super::packet::{
    ConnAck, Connect, Delivery, Packet, PacketId, Publish, SubAck, Subscribe, Text, Unsubscribe,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the packet does not fit the wire")]
pub struct PacketTooLarge;

impl Packet {
    /// Appends the packet to `out`.
    pub fn encode(&self, out: &mut BytesMut) -> Result<(), PacketTooLarge> {
        match self {
            Self::Connect(connect) => connect.encode(out),
            Self::ForeignConnect { level } => {
                header(out, 0x10, 7)?;
                put_bytes(out, b"MQTT");
                out.put_u8(*level);
                Ok(())
            }
            Self::ConnAck(connack) => connack.encode(out),
            Self::Publish(publish) => publish.encode(out),
            Self::PubAck(packet_id) => acknowledgement(out, 0x40, *packet_id),
            Self::PubRec(packet_id) => acknowledgement(out, 0x50, *packet_id),
            Self::PubRel(packet_id) => acknowledgement(out, 0x62, *packet_id),
            Self::PubComp(packet_id) => acknowledgement(out, 0x70, *packet_id),
            Self::Subscribe(subscribe) => subscribe.encode(out),
            Self::SubAck(suback) => suback.encode(out),
            Self::Unsubscribe(unsubscribe) => unsubscribe.encode(out),
            Self::UnsubAck(packet_id) => acknowledgement(out, 0xb0, *packet_id),
            Self::PingReq => header(out, 0xc0, 0),
            Self::PingResp => header(out, 0xd0, 0),
            Self::Disconnect => header(out, 0xe0, 0),
        }
    }
}

/// Appends a PUBLISH without making a [`Publish`] first: the hot path of both a server and a load generator.
/// `topic` is written as it is; the caller made it, so it holds no NUL.
pub fn write_publish(
    out: &mut BytesMut,
    delivery: Delivery,
    retain: bool,
    topic: &str,
    payload: &[u8],
) -> Result<(), PacketTooLarge> {
    let (bits, packet_id) = match delivery {
        Delivery::AtMostOnce => (0, None),
        Delivery::AtLeastOnce { packet_id, is_duplicate } => {
            (0b0010 | u8::from(is_duplicate) << 3, Some(packet_id))
        }
        Delivery::ExactlyOnce { packet_id, is_duplicate } => {
            (0b0100 | u8::from(is_duplicate) << 3, Some(packet_id))
        }
    };
    if topic.len() > usize::from(u16::MAX) {
        return Err(PacketTooLarge);
    }
    let length = 2 + topic.len() + packet_id.map_or(0, |_| 2) + payload.len();
    header(out, 0x30 | bits | u8::from(retain), length)?;
    put_bytes(out, topic.as_bytes());
    if let Some(packet_id) = packet_id {
        out.put_u16(packet_id.get());
    }
    out.put_slice(payload);
    Ok(())
}

impl Publish {
    pub fn encode(&self, out: &mut BytesMut) -> Result<(), PacketTooLarge> {
        write_publish(out, self.delivery, self.retain, &self.topic, &self.payload)
    }
}

impl Connect {
    pub fn encode(&self, out: &mut BytesMut) -> Result<(), PacketTooLarge> {
        let (mut flags, mut length) = (u8::from(self.clean_session) << 1, 10 + 2 + self.client_id.len());
        if let Some(will) = &self.will {
            flags |= 0b100 | will.qos.bits() << 3 | u8::from(will.retain) << 5;
            length += 2 + will.topic.len() + fits(&will.payload)?;
        }
        if let Some(login) = &self.login {
            flags |= 1 << 7 | u8::from(login.password.is_some()) << 6;
            length += 2 + login.user_name.len();
            length += login.password.as_ref().map_or(Ok(0), fits)?;
        }
        header(out, 0x10, length)?;
        put_bytes(out, b"MQTT");
        out.put_u8(4);
        out.put_u8(flags);
        out.put_u16(self.keep_alive_seconds);
        put_text(out, &self.client_id);
        if let Some(will) = &self.will {
            put_text(out, &will.topic);
            put_bytes(out, &will.payload);
        }
        if let Some(login) = &self.login {
            put_text(out, &login.user_name);
            if let Some(password) = &login.password {
                put_bytes(out, password);
            }
        }
        Ok(())
    }
}

impl ConnAck {
    pub fn encode(self, out: &mut BytesMut) -> Result<(), PacketTooLarge> {
        header(out, 0x20, 2)?;
        out.put_u8(u8::from(self.session_present));
        out.put_u8(self.return_code as u8);
        Ok(())
    }
}

impl Subscribe {
    pub fn encode(&self, out: &mut BytesMut) -> Result<(), PacketTooLarge> {
        header(out, 0x82, 2 + self.filters.iter().map(|(filter, _)| 3 + filter.len()).sum::<usize>())?;
        out.put_u16(self.packet_id.get());
        for (filter, qos) in &self.filters {
            put_text(out, filter);
            out.put_u8(qos.bits());
        }
        Ok(())
    }
}

impl SubAck {
    pub fn encode(&self, out: &mut BytesMut) -> Result<(), PacketTooLarge> {
        header(out, 0x90, 2 + self.granted.len())?;
        out.put_u16(self.packet_id.get());
        for granted in &self.granted {
            out.put_u8(granted.map_or(0x80, super::Qos::bits));
        }
        Ok(())
    }
}

impl Unsubscribe {
    pub fn encode(&self, out: &mut BytesMut) -> Result<(), PacketTooLarge> {
        header(out, 0xa2, 2 + self.filters.iter().map(|filter| 2 + filter.len()).sum::<usize>())?;
        out.put_u16(self.packet_id.get());
        for filter in &self.filters {
            put_text(out, filter);
        }
        Ok(())
    }
}

fn acknowledgement(out: &mut BytesMut, first: u8, packet_id: PacketId) -> Result<(), PacketTooLarge> {
    header(out, first, 2)?;
    out.put_u16(packet_id.get());
    Ok(())
}

fn header(out: &mut BytesMut, first: u8, remaining_length: usize) -> Result<(), PacketTooLarge> {
    if remaining_length > caps::MQTT_REMAINING_LENGTH_MAX {
        return Err(PacketTooLarge);
    }
    out.reserve(5 + remaining_length);
    out.put_u8(first);
    let mut rest = remaining_length;
    loop {
        let low = u8::try_from(rest & 0x7f).expect("seven bits fit");
        rest >>= 7;
        if rest == 0 {
            out.put_u8(low);
            return Ok(());
        }
        out.put_u8(low | 0x80);
    }
}

/// The encoded length of a field with a two-byte length in front.
fn fits(bytes: &Bytes) -> Result<usize, PacketTooLarge> {
    if bytes.len() > usize::from(u16::MAX) { Err(PacketTooLarge) } else { Ok(2 + bytes.len()) }
}

fn put_text(out: &mut BytesMut, text: &Text) {
    put_bytes(out, text.as_bytes());
}

fn put_bytes(out: &mut BytesMut, bytes: &[u8]) {
    out.put_u16(u16::try_from(bytes.len()).expect("checked before the header was written"));
    out.put_slice(bytes);
}

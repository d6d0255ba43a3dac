//! Bytes to packets. Strict: what MQTT 3.1.1 calls a protocol violation of one packet is `Malformed`, and the length is
//! judged before the body arrives. Topic wildcards are left alone, because Azure's device ids may hold `+` and `#`.

use bytes::{Buf, Bytes, BytesMut};

use super::packet::{
    ConnAck, Connect, ConnectReturnCode, Delivery, Login, Packet, PacketId, Publish, Qos, SubAck, Subscribe,
    Text, Unsubscribe, Will,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    #[error("the packet is larger than {limit_bytes} bytes")]
    TooLarge { limit_bytes: usize },
    #[error("the remaining length takes more than four bytes")]
    RemainingLength,
    #[error("packet type {0} does not exist")]
    Type(u8),
    #[error("the flags of the fixed header are wrong for the packet's type")]
    Flags,
    #[error("the packet ends too early")]
    Short,
    #[error("the packet goes on after its end")]
    Long,
    #[error("a text is not UTF-8 or holds a NUL")]
    Text,
    #[error("a packet id is zero")]
    PacketId,
    #[error("quality of service 3 does not exist")]
    Qos,
    #[error("the protocol's name is unknown")]
    ProtocolName,
    #[error("a return code is unknown")]
    ReturnCode,
    #[error("a list of filters is empty")]
    NoFilters,
}

/// Takes the first packet off `buffer`, if it is there whole. After an error the connection cannot go on: nothing tells where
/// the next packet begins.
pub fn decode(buffer: &mut BytesMut, packet_bytes_max: usize) -> Result<Option<Packet>, Malformed> {
    let Some((header_length, remaining_length)) = lengths(buffer)? else { return Ok(None) };
    let packet_length = header_length + remaining_length;
    if packet_length > packet_bytes_max {
        return Err(Malformed::TooLarge { limit_bytes: packet_bytes_max });
    }
    let first = buffer[0];
    check_first_byte(first)?;
    if buffer.len() < packet_length {
        return Ok(None);
    }
    let mut packet = buffer.split_to(packet_length);
    packet.advance(header_length);
    body(first, Body(packet.freeze())).map(Some)
}

/// Length of the fixed header and of what follows it, once both are known.
fn lengths(buffer: &[u8]) -> Result<Option<(usize, usize)>, Malformed> {
    let mut remaining_length = 0;
    for index in 0..4 {
        let Some(byte) = buffer.get(1 + index) else { return Ok(None) };
        remaining_length |= usize::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Ok(Some((2 + index, remaining_length)));
        }
    }
    Err(Malformed::RemainingLength)
}

fn check_first_byte(first: u8) -> Result<(), Malformed> {
    let (kind, flags) = (first >> 4, first & 0x0f);
    match kind {
        0 | 15 => Err(Malformed::Type(kind)),
        3 => Ok(()),
        6 | 8 | 10 if flags == 0b0010 => Ok(()),
        6 | 8 | 10 => Err(Malformed::Flags),
        _ if flags == 0 => Ok(()),
        _ => Err(Malformed::Flags),
    }
}

fn body(first: u8, mut body: Body) -> Result<Packet, Malformed> {
    let packet = match first >> 4 {
        // What follows a foreign level is not ours to read, so its end is not looked at.
        1 => match connect(&mut body)? {
            foreign @ Packet::ForeignConnect { .. } => return Ok(foreign),
            connect => connect,
        },
        2 => Packet::ConnAck(connack(&mut body)?),
        3 => Packet::Publish(publish(first & 0x0f, &mut body)?),
        4 => Packet::PubAck(body.packet_id()?),
        5 => Packet::PubRec(body.packet_id()?),
        6 => Packet::PubRel(body.packet_id()?),
        7 => Packet::PubComp(body.packet_id()?),
        8 => Packet::Subscribe(subscribe(&mut body)?),
        9 => Packet::SubAck(suback(&mut body)?),
        10 => Packet::Unsubscribe(unsubscribe(&mut body)?),
        11 => Packet::UnsubAck(body.packet_id()?),
        12 => Packet::PingReq,
        13 => Packet::PingResp,
        14 => Packet::Disconnect,
        kind => return Err(Malformed::Type(kind)),
    };
    if body.0.has_remaining() { Err(Malformed::Long) } else { Ok(packet) }
}

/// What a packet holds after its fixed header, read from the front.
struct Body(Bytes);

impl Body {
    fn u8(&mut self) -> Result<u8, Malformed> {
        self.0.try_get_u8().map_err(|_| Malformed::Short)
    }

    fn u16(&mut self) -> Result<u16, Malformed> {
        self.0.try_get_u16().map_err(|_| Malformed::Short)
    }

    fn packet_id(&mut self) -> Result<PacketId, Malformed> {
        PacketId::new(self.u16()?).ok_or(Malformed::PacketId)
    }

    fn bytes(&mut self) -> Result<Bytes, Malformed> {
        let length = usize::from(self.u16()?);
        if self.0.len() < length {
            return Err(Malformed::Short);
        }
        Ok(self.0.split_to(length))
    }

    fn text(&mut self) -> Result<Text, Malformed> {
        Text::try_from(self.bytes()?).map_err(|_| Malformed::Text)
    }

    /// Topics and filters have at least one character [MQTT-4.7.3-1].
    fn topic(&mut self) -> Result<Text, Malformed> {
        let topic = self.text()?;
        if topic.is_empty() { Err(Malformed::Text) } else { Ok(topic) }
    }
}

fn connect(body: &mut Body) -> Result<Packet, Malformed> {
    let name = body.text()?;
    let level = body.u8()?;
    match (name.as_str(), level) {
        ("MQTT", 4) => {}
        ("MQTT" | "MQIsdp", level) => return Ok(Packet::ForeignConnect { level }),
        _ => return Err(Malformed::ProtocolName),
    }
    let flags = ConnectFlags::parse(body.u8()?)?;
    let keep_alive_seconds = body.u16()?;
    let client_id = body.text()?;
    let will = match flags.will {
        None => None,
        Some((qos, retain)) => Some(Will { qos, retain, topic: body.topic()?, payload: body.bytes()? }),
    };
    let login = match flags.login {
        None => None,
        Some(has_password) => Some(Login {
            user_name: body.text()?,
            password: if has_password { Some(body.bytes()?) } else { None },
        }),
    };
    let clean_session = flags.clean_session;
    Ok(Packet::Connect(Box::new(Connect { client_id, clean_session, keep_alive_seconds, will, login })))
}

struct ConnectFlags {
    clean_session: bool,
    will: Option<(Qos, bool)>,
    /// A user name is there; the value says whether a password is too.
    login: Option<bool>,
}

impl ConnectFlags {
    fn parse(byte: u8) -> Result<Self, Malformed> {
        let is_set = |bit: u8| byte & (1 << bit) != 0;
        let qos = Qos::from_bits(byte >> 3 & 0b11).ok_or(Malformed::Qos)?;
        let (has_will, retain, has_password, has_user_name) = (is_set(2), is_set(5), is_set(6), is_set(7));
        let will_is_consistent = has_will || (qos == Qos::AtMostOnce && !retain);
        if is_set(0) || !will_is_consistent || (has_password && !has_user_name) {
            return Err(Malformed::Flags);
        }
        Ok(Self {
            clean_session: is_set(1),
            will: has_will.then_some((qos, retain)),
            login: has_user_name.then_some(has_password),
        })
    }
}

fn connack(body: &mut Body) -> Result<ConnAck, Malformed> {
    let flags = body.u8()?;
    let return_code = ConnectReturnCode::from_byte(body.u8()?).ok_or(Malformed::ReturnCode)?;
    let session_present = flags == 1;
    if flags > 1 || (session_present && return_code != ConnectReturnCode::Accepted) {
        return Err(Malformed::Flags);
    }
    Ok(ConnAck { session_present, return_code })
}

fn publish(flags: u8, body: &mut Body) -> Result<Publish, Malformed> {
    let qos = Qos::from_bits(flags >> 1 & 0b11).ok_or(Malformed::Qos)?;
    let is_duplicate = flags & 0b1000 != 0;
    if is_duplicate && qos == Qos::AtMostOnce {
        return Err(Malformed::Flags);
    }
    let topic = body.topic()?;
    let delivery = match qos {
        Qos::AtMostOnce => Delivery::AtMostOnce,
        Qos::AtLeastOnce => Delivery::AtLeastOnce { packet_id: body.packet_id()?, is_duplicate },
        Qos::ExactlyOnce => Delivery::ExactlyOnce { packet_id: body.packet_id()?, is_duplicate },
    };
    Ok(Publish { delivery, retain: flags & 1 != 0, topic, payload: std::mem::take(&mut body.0) })
}

fn subscribe(body: &mut Body) -> Result<Subscribe, Malformed> {
    let packet_id = body.packet_id()?;
    let mut filters = Vec::with_capacity(1);
    while body.0.has_remaining() {
        let filter = body.topic()?;
        filters.push((filter, Qos::from_bits(body.u8()?).ok_or(Malformed::Qos)?));
    }
    if filters.is_empty() { Err(Malformed::NoFilters) } else { Ok(Subscribe { packet_id, filters }) }
}

fn suback(body: &mut Body) -> Result<SubAck, Malformed> {
    let packet_id = body.packet_id()?;
    let mut granted = Vec::with_capacity(body.0.len());
    while body.0.has_remaining() {
        granted.push(match body.u8()? {
            0x80 => None,
            bits => Some(Qos::from_bits(bits).ok_or(Malformed::ReturnCode)?),
        });
    }
    if granted.is_empty() { Err(Malformed::NoFilters) } else { Ok(SubAck { packet_id, granted }) }
}

fn unsubscribe(body: &mut Body) -> Result<Unsubscribe, Malformed> {
    let packet_id = body.packet_id()?;
    let mut filters = Vec::with_capacity(1);
    while body.0.has_remaining() {
        filters.push(body.topic()?);
    }
    if filters.is_empty() { Err(Malformed::NoFilters) } else { Ok(Unsubscribe { packet_id, filters }) }
}

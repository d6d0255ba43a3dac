//! A small MQTT client over any stream, for the demo, the tests and the benchmark. It waits for one answer at a time and keeps
//! what arrives meanwhile. Not a product for devices: it neither reconnects nor stores.

use std::collections::VecDeque;
use std::io;

use base::caps;
use base::ids::IdentityId;
use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::codec::{
    self, ConnAck, Connect, ConnectReturnCode, Delivery, InvalidText, Login, Malformed, Packet, PacketId,
    Publish, Qos, Subscribe, Text,
};

#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("the connection failed: {0}")]
    Io(#[from] io::Error),
    #[error("the server closed the connection")]
    Closed,
    #[error("the server sent what is not MQTT: {0}")]
    Malformed(#[from] Malformed),
    #[error("the server refused the connection: {0:?}")]
    Refused(ConnectReturnCode),
    #[error("the server sent {0:?} out of turn")]
    OutOfTurn(Box<Packet>),
    #[error("a text or a packet is too long for MQTT")]
    TooLong,
}

impl From<InvalidText> for ClientError {
    fn from(_: InvalidText) -> Self {
        Self::TooLong
    }
}

impl From<codec::PacketTooLarge> for ClientError {
    fn from(_: codec::PacketTooLarge) -> Self {
        Self::TooLong
    }
}

/// The CONNECT of a device or module at its hub. Without a password the TLS certificate speaks for it.
pub fn hub_connect(
    host: &str,
    identity: &IdentityId,
    sas_token: Option<&str>,
) -> Result<Connect, InvalidText> {
    let user_name = format!("{host}/{identity}/?api-version=2021-04-12");
    connect(&identity.to_string(), user_name, sas_token, false)
}

/// The CONNECT of a device that asks the provisioning service for its hub.
pub fn provisioning_connect(
    id_scope: &str,
    registration_id: &str,
    sas_token: Option<&str>,
) -> Result<Connect, InvalidText> {
    let user_name =
        format!("{id_scope}/registrations/{registration_id}/api-version=2019-03-31&ClientVersion=twinhub");
    connect(registration_id, user_name, sas_token, true)
}

fn connect(
    client_id: &str,
    user_name: String,
    sas_token: Option<&str>,
    clean_session: bool,
) -> Result<Connect, InvalidText> {
    let password = sas_token.map(|token| Bytes::copy_from_slice(token.as_bytes()));
    let login = Login { user_name: user_name.try_into()?, password };
    let client_id = client_id.try_into()?;
    Ok(Connect { client_id, clean_session, keep_alive_seconds: 60, will: None, login: Some(login) })
}

pub struct Client<S> {
    stream: S,
    incoming: BytesMut,
    outgoing: BytesMut,
    last_packet_id: u16,
    session_present: bool,
    /// Publishes that came while an answer was waited for.
    inbox: VecDeque<Publish>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    /// A client that has said nothing yet, for talking packet by packet.
    pub fn unconnected(stream: S) -> Self {
        let (incoming, outgoing, inbox) = (BytesMut::new(), BytesMut::new(), VecDeque::new());
        Self { stream, incoming, outgoing, last_packet_id: 0, session_present: false, inbox }
    }

    pub async fn connect(stream: S, connect: Connect) -> Result<Self, ClientError> {
        let mut client = Self::unconnected(stream);
        client.send(&Packet::Connect(Box::new(connect))).await?;
        match client.receive().await? {
            Packet::ConnAck(ConnAck { session_present, return_code: ConnectReturnCode::Accepted }) => {
                client.session_present = session_present;
                Ok(client)
            }
            Packet::ConnAck(refusal) => Err(ClientError::Refused(refusal.return_code)),
            other => Err(ClientError::OutOfTurn(Box::new(other))),
        }
    }

    pub fn session_present(&self) -> bool {
        self.session_present
    }

    /// Subscribes to one filter; `None` when it is refused.
    pub async fn subscribe(&mut self, filter: &str, qos: Qos) -> Result<Option<Qos>, ClientError> {
        let packet_id = self.next_packet_id();
        let filters = vec![(Text::try_from(filter)?, qos)];
        self.send(&Packet::Subscribe(Subscribe { packet_id, filters })).await?;
        match self.answer(|packet| matches!(packet, Packet::SubAck(_))).await? {
            Packet::SubAck(suback) if suback.packet_id == packet_id => {
                Ok(suback.granted.first().copied().flatten())
            }
            other => Err(ClientError::OutOfTurn(Box::new(other))),
        }
    }

    /// Publishes at QoS 1 and waits for the acknowledgement.
    pub async fn publish(&mut self, topic: &str, payload: &[u8]) -> Result<(), ClientError> {
        let packet_id = self.publish_unacknowledged(topic, payload).await?;
        match self.answer(|packet| matches!(packet, Packet::PubAck(_))).await? {
            Packet::PubAck(acknowledged) if acknowledged == packet_id => Ok(()),
            other => Err(ClientError::OutOfTurn(Box::new(other))),
        }
    }

    /// Publishes at QoS 1; the acknowledgement comes by [`Self::receive`].
    pub async fn publish_unacknowledged(
        &mut self,
        topic: &str,
        payload: &[u8],
    ) -> Result<PacketId, ClientError> {
        let packet_id = self.next_packet_id();
        let delivery = Delivery::AtLeastOnce { packet_id, is_duplicate: false };
        codec::write_publish(&mut self.outgoing, delivery, false, topic, payload)?;
        self.flush().await?;
        Ok(packet_id)
    }

    /// The next publish from the server, acknowledged where it asks for that.
    pub async fn next_publish(&mut self) -> Result<Publish, ClientError> {
        if let Some(publish) = self.inbox.pop_front() {
            return Ok(publish);
        }
        match self.answer(|packet| matches!(packet, Packet::Publish(_))).await? {
            Packet::Publish(publish) => Ok(publish),
            other => Err(ClientError::OutOfTurn(Box::new(other))),
        }
    }

    /// Says DISCONNECT and waits until the server has closed.
    pub async fn disconnect(mut self) -> Result<(), ClientError> {
        self.send(&Packet::Disconnect).await?;
        loop {
            match self.receive().await {
                Ok(_) => {}
                Err(ClientError::Closed) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    pub async fn send(&mut self, packet: &Packet) -> Result<(), ClientError> {
        packet.encode(&mut self.outgoing)?;
        self.flush().await
    }

    /// Sends bytes that need not be packets.
    pub async fn send_bytes(&mut self, bytes: &[u8]) -> Result<(), ClientError> {
        self.outgoing.extend_from_slice(bytes);
        self.flush().await
    }

    /// The next packet, whatever it is.
    pub async fn receive(&mut self) -> Result<Packet, ClientError> {
        loop {
            if let Some(packet) = codec::decode(&mut self.incoming, caps::MQTT_PACKET_BYTES_MAX)? {
                return Ok(packet);
            }
            if self.stream.read_buf(&mut self.incoming).await? == 0 {
                return Err(ClientError::Closed);
            }
        }
    }

    /// The first packet that `is_wanted`; publishes before it are kept, acknowledged where they ask for that.
    async fn answer(&mut self, is_wanted: impl Fn(&Packet) -> bool) -> Result<Packet, ClientError> {
        loop {
            let packet = self.receive().await?;
            if let Packet::Publish(Publish { delivery: Delivery::AtLeastOnce { packet_id, .. }, .. }) =
                &packet
            {
                self.send(&Packet::PubAck(*packet_id)).await?;
            }
            match packet {
                packet if is_wanted(&packet) => return Ok(packet),
                Packet::Publish(publish) => self.inbox.push_back(publish),
                Packet::PingResp => {}
                other => return Err(ClientError::OutOfTurn(Box::new(other))),
            }
        }
    }

    async fn flush(&mut self) -> Result<(), ClientError> {
        self.stream.write_all_buf(&mut self.outgoing).await?;
        self.stream.flush().await?;
        Ok(())
    }

    fn next_packet_id(&mut self) -> PacketId {
        self.last_packet_id = self.last_packet_id.checked_add(1).unwrap_or(1);
        PacketId::new(self.last_packet_id).unwrap_or(PacketId::MIN)
    }
}

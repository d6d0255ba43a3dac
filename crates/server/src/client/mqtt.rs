//! An MQTT 3.1.1 client for one connection: packets out, packets in, nothing hidden.

use std::num::NonZeroU16;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use mqtt::codec::{
    self, Connect, ConnectReturnCode, Delivery, Packet, PacketId, Publish, Qos, Subscribe, Text,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::{ClientError, Trust};

const PACKET_BYTES_MAX: usize = base::caps::MQTT_PACKET_BYTES_MAX;
const ANSWER_SECONDS: u64 = 30;

/// Who connects, in the terms of an MQTT CONNECT.
pub struct Login<'a> {
    pub client_id: &'a str,
    pub user_name: &'a str,
    pub password: &'a str,
    pub clean_session: bool,
}

pub struct MqttClient<S = TlsStream<TcpStream>> {
    stream: S,
    input: BytesMut,
    output: BytesMut,
    last_packet_id: u16,
    /// Publishes that arrived while something else was awaited.
    waiting: std::collections::VecDeque<Publish>,
}

impl MqttClient {
    pub async fn connect(
        trust: &Trust,
        host: &str,
        port: u16,
        login: &Login<'_>,
    ) -> Result<Self, ClientError> {
        limited(async { Self::over(trust.connect(host, port).await?, login).await }).await
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> MqttClient<S> {
    /// Says CONNECT over an open stream and waits until the server accepts.
    pub async fn over(stream: S, login: &Login<'_>) -> Result<Self, ClientError> {
        let (input, output) = (BytesMut::new(), BytesMut::new());
        let mut client =
            Self { stream, input, output, last_packet_id: 0, waiting: std::collections::VecDeque::new() };
        let password = Some(Bytes::copy_from_slice(login.password.as_bytes()));
        let connect = Connect {
            client_id: text(login.client_id)?,
            clean_session: login.clean_session,
            keep_alive_seconds: 60,
            will: None,
            login: Some(codec::Login { user_name: text(login.user_name)?, password }),
        };
        client.send(&Packet::Connect(Box::new(connect))).await?;
        match client.receive().await? {
            Packet::ConnAck(ack) if ack.return_code == ConnectReturnCode::Accepted => Ok(client),
            Packet::ConnAck(ack) => Err(ClientError::Refused(format!("{:?}", ack.return_code))),
            other => Err(ClientError::Broken(format!("expected CONNACK, got {other:?}"))),
        }
    }

    /// The bare stream of a connection that was just accepted, for a caller with a loop of its own.
    pub fn into_stream(self) -> S {
        self.stream
    }

    pub fn next_packet_id(&mut self) -> PacketId {
        self.last_packet_id = self.last_packet_id.checked_add(1).unwrap_or(1);
        NonZeroU16::new(self.last_packet_id).expect("the counter starts at one and skips zero")
    }

    pub async fn send(&mut self, packet: &Packet) -> Result<(), ClientError> {
        self.output.clear();
        packet.encode(&mut self.output).map_err(|_| ClientError::Broken("the packet is too large".into()))?;
        self.stream.write_all(&self.output).await?;
        Ok(self.stream.flush().await?)
    }

    /// The next packet, whatever it is.
    pub async fn receive(&mut self) -> Result<Packet, ClientError> {
        loop {
            match codec::decode(&mut self.input, PACKET_BYTES_MAX) {
                Ok(Some(packet)) => return Ok(packet),
                Ok(None) => {}
                Err(malformed) => return Err(ClientError::Broken(malformed.to_string())),
            }
            if self.stream.read_buf(&mut self.input).await? == 0 {
                return Err(ClientError::Closed);
            }
        }
    }

    /// Subscribes and waits until the subscription is in force.
    pub async fn subscribe(&mut self, filter: &str, qos: Qos) -> Result<(), ClientError> {
        let packet_id = self.next_packet_id();
        let filters = vec![(text(filter)?, qos)];
        self.send(&Packet::Subscribe(Subscribe { packet_id, filters })).await?;
        let ack = self.until(|packet| match packet {
            Packet::SubAck(ack) if ack.packet_id == packet_id => Some(ack.granted.clone()),
            _ => None,
        });
        let granted = ack.await?;
        if granted.iter().any(Option::is_none) {
            return Err(ClientError::Refused(format!("subscription to {filter}")));
        }
        Ok(())
    }

    /// Publishes with QoS 1; the PUBACK with the id that is given back comes by [`Self::receive`].
    pub async fn send_publish(
        &mut self,
        topic: &str,
        payload: impl Into<Bytes>,
    ) -> Result<PacketId, ClientError> {
        let packet_id = self.next_packet_id();
        let delivery = Delivery::AtLeastOnce { packet_id, is_duplicate: false };
        let publish = Publish { delivery, retain: false, topic: text(topic)?, payload: payload.into() };
        self.send(&Packet::Publish(publish)).await?;
        Ok(packet_id)
    }

    /// Publishes with QoS 0.
    pub async fn send_at_most_once(
        &mut self,
        topic: &str,
        payload: impl Into<Bytes>,
    ) -> Result<(), ClientError> {
        let (delivery, payload) = (Delivery::AtMostOnce, payload.into());
        self.send(&Packet::Publish(Publish { delivery, retain: false, topic: text(topic)?, payload })).await
    }

    /// Publishes with QoS 1 and waits for the PUBACK, which means: durable.
    pub async fn publish(&mut self, topic: &str, payload: impl Into<Bytes>) -> Result<(), ClientError> {
        let packet_id = self.send_publish(topic, payload).await?;
        self.until(|packet| matches!(packet, Packet::PubAck(id) if *id == packet_id).then_some(())).await
    }

    /// The next publish from the server, acknowledged if it asks for that.
    pub async fn next_publish(&mut self) -> Result<Publish, ClientError> {
        if let Some(publish) = self.waiting.pop_front() {
            return Ok(publish);
        }
        loop {
            if let Packet::Publish(publish) = self.receive().await? {
                self.acknowledge(&publish).await?;
                return Ok(publish);
            }
        }
    }

    /// The next publish for which `wanted` has an answer, at most half a minute away; others wait their turn.
    pub async fn expect<T>(&mut self, wanted: impl Fn(&Publish) -> Option<T>) -> Result<T, ClientError> {
        let found = self.waiting.iter().position(|publish| wanted(publish).is_some());
        if let Some(publish) = found.and_then(|index| self.waiting.remove(index)) {
            return Ok(wanted(&publish).expect("it was wanted a moment ago"));
        }
        let search = async {
            loop {
                let Packet::Publish(publish) = self.receive().await? else { continue };
                self.acknowledge(&publish).await?;
                match wanted(&publish) {
                    Some(answer) => return Ok(answer),
                    None => self.waiting.push_back(publish),
                }
            }
        };
        limited(search).await
    }

    pub async fn ping(&mut self) -> Result<(), ClientError> {
        self.send(&Packet::PingReq).await
    }

    pub async fn disconnect(mut self) -> Result<(), ClientError> {
        self.send(&Packet::Disconnect).await?;
        Ok(self.stream.shutdown().await?)
    }

    async fn until<T>(&mut self, wanted: impl Fn(&Packet) -> Option<T>) -> Result<T, ClientError> {
        let search = async {
            loop {
                let packet = self.receive().await?;
                if let Some(answer) = wanted(&packet) {
                    return Ok(answer);
                }
                if let Packet::Publish(publish) = packet {
                    self.acknowledge(&publish).await?;
                    self.waiting.push_back(publish);
                }
            }
        };
        limited(search).await
    }

    async fn acknowledge(&mut self, publish: &Publish) -> Result<(), ClientError> {
        match publish.delivery {
            Delivery::AtLeastOnce { packet_id, .. } => self.send(&Packet::PubAck(packet_id)).await,
            Delivery::AtMostOnce | Delivery::ExactlyOnce { .. } => Ok(()),
        }
    }
}

async fn limited<T>(work: impl Future<Output = Result<T, ClientError>>) -> Result<T, ClientError> {
    let limit = Duration::from_secs(ANSWER_SECONDS);
    tokio::time::timeout(limit, work).await.unwrap_or(Err(ClientError::Timeout(ANSWER_SECONDS)))
}

fn text(value: &str) -> Result<Text, ClientError> {
    Text::try_from(value).map_err(|_| ClientError::Address(value.to_owned()))
}

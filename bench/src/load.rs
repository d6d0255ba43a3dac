//! The MQTT load: many connections that publish at QoS 1, each with a fixed number in flight or by the clock. The same code
//! drives every server; only the address, the trust and the logins differ.

use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use mqtt::codec::{self, Delivery, Packet, PacketId, Publish, Text};
use server::client::{Login, MqttClient, Trust, dial};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::task::JoinSet;

use crate::Failure;
use crate::clock::now;
use crate::measure::{Clients, Gate, Phase};
use crate::statistics::Latencies;

const PACKET_BYTES_MAX: usize = 256 * 1024;
/// Messages of one connection that may be due and not acknowledged; a server that is further behind has failed.
const BEHIND_MAX: u16 = 4096;

/// Who publishes and where.
#[derive(Clone)]
pub(crate) struct DeviceLogin {
    pub(crate) device_id: String,
    pub(crate) user_name: String,
    pub(crate) password: String,
}

impl DeviceLogin {
    pub(crate) fn telemetry_topic(&self) -> String {
        format!("devices/{}/messages/events/%24.ct=application%2Fjson&%24.ce=utf-8", self.device_id)
    }

    fn mqtt(&self) -> Login<'_> {
        Login {
            client_id: &self.device_id,
            user_name: &self.user_name,
            password: &self.password,
            clean_session: true,
        }
    }
}

/// A server's MQTT listener; without trust, it is a plain one.
#[derive(Clone)]
pub(crate) struct Listener {
    pub(crate) at: SocketAddr,
    pub(crate) trust: Option<Trust>,
}

impl Listener {
    /// Connects over TLS; for clients that stay idle.
    pub(crate) async fn connect(&self, login: &DeviceLogin) -> Result<MqttClient, Failure> {
        let trust = self.trust.as_ref().ok_or("this listener has no TLS")?;
        Ok(MqttClient::connect(trust, &self.at.ip().to_string(), self.at.port(), &login.mqtt()).await?)
    }

    /// The version of TLS and the suite that the server agrees to; `None` without TLS.
    pub(crate) async fn negotiated(&self) -> Result<Option<String>, Failure> {
        let Some(trust) = &self.trust else { return Ok(None) };
        let stream = trust.connect(&self.at.ip().to_string(), self.at.port()).await?;
        let session = stream.get_ref().1;
        let version = session.protocol_version().ok_or("no version of TLS")?;
        let suite = session.negotiated_cipher_suite().ok_or("no suite of TLS")?.suite();
        Ok(Some(format!("{version:?} {suite:?}")))
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) pace: Pace,
    pub(crate) body_bytes: usize,
}

/// When a connection publishes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Pace {
    /// Closed loop: as soon as fewer than so many wait for their acknowledgement.
    InFlight(u16),
    /// Open loop: at this interval, whatever the server does. What it keeps waiting counts from when it was due, so a server
    /// that stands still is not forgiven the messages that it did not have to take meanwhile.
    Every(Duration),
}

impl Pace {
    /// Packet ids of a connection. In an open loop as many as a server may fall behind.
    fn ids(self) -> u16 {
        match self {
            Self::InFlight(count) => count,
            Self::Every(_) => BEHIND_MAX,
        }
    }
}

impl std::fmt::Display for Pace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::InFlight(count) => write!(f, "{count} in flight on each"),
            Self::Every(interval) => write!(f, "one every {} ms on each (open loop)", interval.as_millis()),
        }
    }
}

/// Connects one client for each login, and lets all of them publish until the gate says stop.
pub(crate) async fn publish(
    listener: Listener,
    logins: Vec<DeviceLogin>,
    shape: Shape,
    gate: Gate,
) -> Result<Clients, Failure> {
    let mut plain = Vec::new();
    let mut encrypted = Vec::new();
    for login in logins {
        let publish = Prepared::new(&login.telemetry_topic(), shape.body_bytes)?;
        if listener.trust.is_some() {
            encrypted.push((listener.connect(&login).await?.into_stream(), publish));
        } else {
            let stream = dial(&listener.at.ip().to_string(), listener.at.port()).await?;
            plain.push((MqttClient::over(stream, &login.mqtt()).await?.into_stream(), publish));
        }
    }
    let mut clients = JoinSet::new();
    for (stream, publish) in plain {
        clients.spawn_local(Client::new(stream, publish, shape.pace).run(gate.clone()));
    }
    for (stream, publish) in encrypted {
        clients.spawn_local(Client::new(stream, publish, shape.pace).run(gate.clone()));
    }
    Ok(clients)
}

/// A publish encoded once, so that the generator's own cost does not blur the server's.
struct Prepared {
    bytes: Vec<u8>,
    id_at: usize,
}

impl Prepared {
    fn new(topic: &str, body_bytes: usize) -> Result<Self, Failure> {
        let delivery = Delivery::AtLeastOnce { packet_id: NonZeroU16::MIN, is_duplicate: false };
        let payload = body(body_bytes).into();
        let packet = Packet::Publish(Publish {
            delivery,
            retain: false,
            topic: Text::try_from(topic).map_err(|error| error.to_string())?,
            payload,
        });
        let mut bytes = BytesMut::new();
        packet.encode(&mut bytes).map_err(|_| "the message is too large")?;
        let id_at = bytes.len() - body_bytes - 2;
        Ok(Self { bytes: bytes.to_vec(), id_at })
    }

    fn write(&self, id: PacketId, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&self.bytes);
        out[start + self.id_at..start + self.id_at + 2].copy_from_slice(&id.get().to_be_bytes());
    }
}

/// A JSON object of exactly so many bytes.
fn body(bytes: usize) -> String {
    let head = "{\"temperature\":21.5,\"humidity\":48.2,\"note\":\"";
    let filler = bytes.saturating_sub(head.len() + 2);
    format!("{head}{}\"}}", "x".repeat(filler))
}

struct Client<S> {
    stream: S,
    publish: Prepared,
    pace: Pace,
    /// When the next message is due, in an open loop.
    due: Instant,
    /// Packet ids that wait for nothing.
    free: Vec<PacketId>,
    /// When the packet with each id was due, or handed to the socket.
    sent_at: Vec<Instant>,
    input: BytesMut,
    output: Vec<u8>,
    latencies: Latencies,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    fn new(stream: S, publish: Prepared, pace: Pace) -> Self {
        Self {
            stream,
            publish,
            pace,
            due: now(),
            free: (1..=pace.ids()).rev().filter_map(NonZeroU16::new).collect(),
            sent_at: vec![now(); usize::from(pace.ids()) + 1],
            input: BytesMut::with_capacity(4096),
            output: Vec::new(),
            latencies: Latencies::default(),
        }
    }

    async fn run(mut self, gate: Gate) -> Result<Latencies, Failure> {
        loop {
            if gate.phase() != Phase::Stopping {
                self.fill().await?;
            } else if self.free.len() == usize::from(self.pace.ids()) {
                break;
            }
            let read = match self.pace {
                Pace::Every(_) if gate.phase() != Phase::Stopping => {
                    let due = tokio::time::sleep_until(self.due.into());
                    tokio::select! {
                        read = self.stream.read_buf(&mut self.input) => read,
                        () = due => continue,
                    }
                }
                _ => self.stream.read_buf(&mut self.input).await,
            };
            if read? == 0 {
                return Err("the server closed a connection under load".into());
            }
            self.take_acknowledgements(gate.phase())?;
        }
        let mut bye = BytesMut::new();
        Packet::Disconnect.encode(&mut bye).map_err(|_| "never too large")?;
        self.stream.write_all(&bye).await?;
        self.stream.flush().await?;
        Ok(self.latencies)
    }

    /// Publishes with every free id, or what is due by now, in one write.
    async fn fill(&mut self) -> Result<(), Failure> {
        let at = now();
        match self.pace {
            Pace::InFlight(_) => while self.publish_one(at) {},
            Pace::Every(interval) => {
                while self.due <= at {
                    if !self.publish_one(self.due) {
                        return Err("the server is too far behind for this pace".into());
                    }
                    self.due += interval;
                }
            }
        }
        if !self.output.is_empty() {
            self.stream.write_all(&self.output).await?;
            self.stream.flush().await?;
            self.output.clear();
        }
        Ok(())
    }

    /// Puts a message to the output, if an id is free. Its latency counts from `at`.
    fn publish_one(&mut self, at: Instant) -> bool {
        let Some(id) = self.free.pop() else { return false };
        self.sent_at[usize::from(id.get())] = at;
        self.publish.write(id, &mut self.output);
        true
    }

    fn take_acknowledgements(&mut self, phase: Phase) -> Result<(), Failure> {
        let at = now();
        while let Some(packet) = codec::decode(&mut self.input, PACKET_BYTES_MAX)? {
            let Packet::PubAck(id) = packet else { return Err(format!("unexpected: {packet:?}").into()) };
            let sent = self.sent_at.get(usize::from(id.get())).ok_or("an id that was never sent")?;
            if phase == Phase::Measuring {
                self.latencies.add(at - *sent);
            }
            self.free.push(id);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prepared_publish_differs_in_nothing_but_its_packet_id() {
        let prepared = Prepared::new("devices/d/messages/events/", 256).unwrap();
        let mut out = Vec::new();
        for id in [7, 513] {
            prepared.write(NonZeroU16::new(id).unwrap(), &mut out);
        }
        let mut input = BytesMut::from(out.as_slice());
        for id in [7, 513] {
            let Some(Packet::Publish(publish)) = codec::decode(&mut input, PACKET_BYTES_MAX).unwrap() else {
                panic!("a publish")
            };
            let packet_id = NonZeroU16::new(id).unwrap();
            assert_eq!(publish.delivery, Delivery::AtLeastOnce { packet_id, is_duplicate: false });
            assert_eq!(&*publish.topic, "devices/d/messages/events/");
            assert_eq!(publish.payload.len(), 256);
            assert!(serde_json::from_slice::<serde_json::Value>(&publish.payload).is_ok());
        }
    }
}

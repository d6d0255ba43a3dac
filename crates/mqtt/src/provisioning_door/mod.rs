//! A device at its provisioning service, on the way to its hub: it registers, asks what became of it and leaves (`dps.md` §1.3).
//! One loop per connection, entered after CONNECT. Every request is attested anew, so that what an operator changes counts at once.

use std::time::Duration;

use base::hosts::Dialled;
use base::sas::SasToken;
use base::{Dismissal, Timestamp, caps};
use bytes::Bytes;
use provisioning::view::{ErrorView, RETRY_AFTER_SECONDS, check_length, read_request};
use provisioning::{ApiVersion, Attested, Error, RegistrationId, RegistrationOperation, Service};
use serde::Serialize;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::codec::{
    self, ConnAck, Connect, ConnectReturnCode, Delivery, Packet, PacketId, Publish, Qos, SubAck, Subscribe,
};
use crate::connect::Credential;
use crate::door;
use crate::link::{End, Link};
use crate::topic::filter::PROVISIONING_RESPONSES;
use crate::topic::from_device::ToProvisioning;
use crate::topic::{ToDevice, status_of};

/// A device that named a service of ours. Whether it belongs there is told when it registers, as Azure does.
pub(crate) struct Admission {
    device: Device,
    /// Why the device is not attested.
    refusal: Option<&'static str>,
}

struct Device {
    service: Service,
    registration_id: RegistrationId,
    token: Option<SasToken>,
    api_version: ApiVersion,
    dialled: Dialled,
}

pub(crate) async fn admit(
    service: Service,
    registration_id: RegistrationId,
    api_version: ApiVersion,
    credential: Credential,
    dialled: Dialled,
) -> Admission {
    let token = match credential {
        Credential::Sas(token) => Some(token),
        Credential::Certificate => None,
    };
    let refusal =
        service.authenticate(&registration_id, token.as_ref()).await.err().map(|refused| refused.why);
    Admission { device: Device { service, registration_id, token, api_version, dialled }, refusal }
}

impl Admission {
    /// What the log is told of a device that will be told itself when it registers.
    pub(crate) fn dismissal(&self) -> Option<Dismissal> {
        self.refusal.map(|why| self.device.dismissal(why))
    }

    /// Answers the CONNECT. Who is not attested may stay for as long and send as much as anybody before a CONNECT: enough to
    /// be told so.
    pub(crate) fn enter<S>(self, mut link: Link<S>, connect: &Connect) -> Box<Connection<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send,
    {
        let Self { device, refusal } = self;
        if refusal.is_none() {
            let grace = Duration::from_secs(caps::SAS_CONNECTION_GRACE_SECONDS);
            link.cut_at(device.token.as_ref().map(|token| token.expires_at().plus(grace)));
            link.keep_alive(connect.keep_alive_seconds);
            link.allow_packets_of(caps::MQTT_PROVISIONING_PACKET_BYTES_MAX);
        } else {
            let patience = Duration::from_secs(caps::UNAUTHENTICATED_SECONDS_MAX);
            link.leave_within(patience);
        }
        // Nothing of a registration is kept for another connection, and some clients insist on that.
        let connack = ConnAck { session_present: false, return_code: ConnectReturnCode::Accepted };
        connack.encode(link.out()).expect("a CONNACK fits");
        Box::new(Connection { link, device, granted: None, last_packet_id: 0, unacknowledged: 0 })
    }
}

pub(crate) struct Connection<S> {
    link: Link<S>,
    device: Device,
    /// The quality of service of the subscription to responses.
    granted: Option<Qos>,
    last_packet_id: u16,
    unacknowledged: usize,
}

/// What goes back to the device: status, seconds to wait, body.
type Response = (u16, Option<u64>, Bytes);

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Connection<S> {
    /// Says whether it was the server that wanted no more.
    pub(crate) async fn run(mut self: Box<Self>) -> Option<Box<Dismissal>> {
        let end = loop {
            let taken = match self.link.receive().await {
                Ok(packet) => Box::pin(self.take(packet)).await,
                Err(end) => Err(end),
            };
            if let Err(end) = taken {
                break end;
            }
        };
        tracing::debug!(registration_id = %self.device.registration_id, ?end, "a registering device left");
        self.link.finish().await;
        Some(Box::new(self.device.dismissal(end.refusal()?)))
    }

    async fn take(&mut self, packet: Packet) -> Result<(), End> {
        match packet {
            Packet::Publish(publish) => return self.publish(&publish).await,
            Packet::Subscribe(subscribe) => self.subscribe(&subscribe),
            Packet::Unsubscribe(unsubscribe) => {
                if unsubscribe.filters.iter().any(|filter| **filter == *PROVISIONING_RESPONSES) {
                    self.granted = None;
                }
                self.say(&Packet::UnsubAck(unsubscribe.packet_id));
            }
            Packet::PingReq => self.say(&Packet::PingResp),
            Packet::PubAck(_) => self.unacknowledged = self.unacknowledged.saturating_sub(1),
            Packet::Disconnect => return Err(End::Disconnect),
            Packet::Connect(_) | Packet::ForeignConnect { .. } => {
                return Err(End::Violation("a second CONNECT"));
            }
            Packet::PubRec(_) | Packet::PubRel(_) | Packet::PubComp(_) => {
                return Err(End::Violation("QoS 2"));
            }
            Packet::ConnAck(_) | Packet::SubAck(_) | Packet::UnsubAck(_) | Packet::PingResp => {
                return Err(End::Violation("a packet that only servers send"));
            }
        }
        Ok(())
    }

    fn subscribe(&mut self, subscribe: &Subscribe) {
        let mut granted = Vec::with_capacity(subscribe.filters.len());
        for (filter, qos) in &subscribe.filters {
            let is_ours = **filter == *PROVISIONING_RESPONSES;
            granted.push(is_ours.then_some((*qos).min(Qos::AtLeastOnce)));
            if is_ours {
                self.granted = granted.last().copied().flatten();
            }
        }
        self.say(&Packet::SubAck(SubAck { packet_id: subscribe.packet_id, granted }));
    }

    /// The acknowledgement leaves before the response: some clients take the other order for a protocol error.
    async fn publish(&mut self, publish: &Publish) -> Result<(), End> {
        let topic = ToProvisioning::parse(&publish.topic);
        let topic = topic.map_err(|_| End::Violation("a topic that is not the provisioning service's"))?;
        match publish.delivery {
            Delivery::AtMostOnce => {}
            Delivery::AtLeastOnce { packet_id, .. } => self.say(&Packet::PubAck(packet_id)),
            Delivery::ExactlyOnce { .. } => return Err(End::Violation("QoS 2")),
        }
        let (request_id, result) = match topic {
            ToProvisioning::Register { request_id } => {
                (request_id, self.device.register(&publish.payload).await)
            }
            ToProvisioning::GetOperationStatus { request_id, operation_id } => {
                (request_id, self.device.operation_status(operation_id, &publish.payload).await)
            }
        };
        let response = match result {
            Ok(operation) => {
                let Device { service, api_version, dialled, .. } = &self.device;
                let body = json(&operation.view(&service.hub_host(dialled), api_version));
                // Whatever it came to, the end is a 200.
                if operation.is_over() { (200, None, body) } else { (202, Some(RETRY_AFTER_SECONDS), body) }
            }
            Err(error) => refusal(&error, self.link.now()),
        };
        self.respond(request_id, &response)
    }

    /// Only to a device that has asked for responses.
    fn respond(&mut self, request_id: &str, response: &Response) -> Result<(), End> {
        let Some(granted) = self.granted else { return Ok(()) };
        let (status, retry_after_seconds, body) = response;
        let topic = ToDevice::ProvisioningResponse {
            status: *status,
            request_id,
            retry_after_seconds: *retry_after_seconds,
        };
        let delivery = match granted {
            Qos::AtMostOnce => Delivery::AtMostOnce,
            Qos::AtLeastOnce | Qos::ExactlyOnce => self.next_delivery()?,
        };
        let written = codec::write_publish(self.link.out(), delivery, false, &topic.text(), body);
        written.map_err(|_| End::Violation("a request id that does not fit a response"))?;
        self.link.note_sent();
        Ok(())
    }

    fn next_delivery(&mut self) -> Result<Delivery, End> {
        if self.unacknowledged >= caps::MQTT_OUTGOING_WINDOW {
            return Err(End::Violation("too many responses are not acknowledged"));
        }
        self.unacknowledged += 1;
        self.last_packet_id = self.last_packet_id.checked_add(1).unwrap_or(1);
        let packet_id = PacketId::new(self.last_packet_id).expect("counted from one");
        Ok(Delivery::AtLeastOnce { packet_id, is_duplicate: false })
    }

    fn say(&mut self, packet: &Packet) {
        packet.encode(self.link.out()).expect("an acknowledgement fits");
    }
}

impl Device {
    fn dismissal(&self, why: &'static str) -> Dismissal {
        let (service, device) = (self.service.name().to_owned(), self.registration_id.to_string());
        Dismissal::of_device(door::NAME, service, device, why)
    }

    async fn register(&self, body: &[u8]) -> Result<RegistrationOperation, Error> {
        let device = self.attest().await?;
        let request = read_request(body, &self.registration_id)?;
        self.service.register(&device, &self.api_version, &request).await
    }

    async fn attest(&self) -> Result<Attested, Error> {
        let device = self.service.authenticate(&self.registration_id, self.token.as_ref()).await;
        device.map_err(|refused| refused.error)
    }

    /// What the body says does not matter; some clients send a space.
    async fn operation_status(
        &self,
        operation_id: &str,
        body: &[u8],
    ) -> Result<RegistrationOperation, Error> {
        let device = self.attest().await?;
        check_length(body)?;
        self.service.operation_status(&device, operation_id).await
    }
}

fn refusal(error: &Error, now: Timestamp) -> Response {
    let retry_after = match error {
        Error::Throttled { retry_after } => Some(retry_after.as_secs().max(1)),
        Error::ServerBusy | Error::ServerError | Error::Conflict => Some(RETRY_AFTER_SECONDS),
        Error::BadRequest(_)
        | Error::Unauthorized
        | Error::PrincipalUnauthorized(_)
        | Error::RegistrationNotFound
        | Error::EnrollmentNotFound
        | Error::EnrollmentGroupNotFound
        | Error::OperationNotFound
        | Error::AlreadyExists
        | Error::PreconditionFailed
        | Error::MessageTooLarge
        | Error::QuotaExceeded => None,
    };
    let code = match error {
        // Over MQTT a wrong token is said to be 401000.
        Error::Unauthorized => 401_000,
        error => error.code(),
    };
    (status_of(error.code()), retry_after, json(&ErrorView::new(code, error.to_string(), now)))
}

fn json(body: &impl Serialize) -> Bytes {
    serde_json::to_vec(body).expect("texts and numbers are JSON").into()
}

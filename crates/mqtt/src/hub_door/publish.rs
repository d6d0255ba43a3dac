//! What a device publishes, by its topic: telemetry, twin requests and answers to direct methods. Acknowledged in the order of
//! receipt, and only when it is done; an answer to a request leaves behind its acknowledgement.

use bytes::{Bytes, BytesMut};
use hub::Error;
use hub::Session;

use super::{Answered, State, telemetry, wire};
use crate::codec::{self, Delivery, Packet, PacketId, Publish};
use crate::link::End;
use crate::topic::from_device::telemetry_bag;
use crate::topic::{FromDevice, ToDevice, status_of};

impl State {
    pub(super) async fn publish(
        &mut self,
        publish: Publish,
        session: &Session,
        out: &mut BytesMut,
    ) -> Result<Answered, End> {
        let packet_id = to_acknowledge(&publish)?;
        let topic = FromDevice::parse(&publish.topic, session.identity());
        match topic.map_err(|_| End::Violation("a topic that is not the device's"))? {
            FromDevice::Telemetry { bag } => {
                session.hub().room_for_telemetry().await;
                self.send_telemetry(&publish, bag, packet_id, session)?;
                Ok(Answered::WithNone)
            }
            FromDevice::GetTwin { request_id } => {
                let caller = &session.authentication().caller;
                let twin = session.hub().read_twin_as_device(caller, session.identity()).await;
                self.acknowledge(packet_id, out);
                self.answer_twin(request_id, twin.map(|twin| (200, None, twin.to_json())), session, out)
            }
            FromDevice::PatchReported { request_id, expected_version } => {
                let patched = patch_reported(session, &publish.payload, expected_version).await;
                self.acknowledge(packet_id, out);
                let Some(request_id) = request_id else { return Ok(Answered::WithNone) };
                let answer = patched.map(|version| (204, Some(version), Bytes::new()));
                self.answer_twin(request_id, answer, session, out)
            }
            FromDevice::MethodResponse { status, request_id } => {
                complete_method(session, status, request_id, publish.payload.clone());
                self.acknowledge(packet_id, out);
                Ok(Answered::WithNone)
            }
        }
    }

    /// Sends telemetry where nothing has to be waited for, which is nearly always. `false`: it is something else, or the log
    /// is full.
    pub(super) fn try_send_telemetry(&mut self, publish: &Publish, session: &Session) -> Result<bool, End> {
        let Some(bag) = telemetry_bag(&publish.topic, session.identity()) else { return Ok(false) };
        if !session.hub().has_room_for_telemetry() {
            return Ok(false);
        }
        self.send_telemetry(publish, bag, to_acknowledge(publish)?, session)?;
        Ok(true)
    }

    /// Durable before it is acknowledged: the device forgets the message on PUBACK.
    fn send_telemetry(
        &mut self,
        publish: &Publish,
        bag: &str,
        packet_id: Option<PacketId>,
        session: &Session,
    ) -> Result<(), End> {
        let message = telemetry::message(session, publish, bag)?;
        let body = publish.payload.clone();
        let completion = self.owed.append(packet_id, publish.topic.len() + body.len());
        session.hub().send_telemetry_with(session, message, body, move |stored| completion.complete(stored));
        Ok(())
    }

    fn acknowledge(&mut self, packet_id: Option<PacketId>, out: &mut BytesMut) {
        if let Some(packet_id) = packet_id {
            let puback = Packet::PubAck(packet_id);
            self.owed.answer(out, |out| puback.encode(out).expect("a PUBACK fits"));
        }
    }

    /// Only to a device that has asked for answers: who has not subscribed must not get a publish.
    fn answer_twin(
        &mut self,
        request_id: &str,
        answer: Result<(u16, Option<u64>, Bytes), Error>,
        session: &Session,
        out: &mut BytesMut,
    ) -> Result<Answered, End> {
        let (status, version, body) = answer.unwrap_or_else(|error| {
            (status_of(error.code()), None, wire::error_body(&error, session.hub().now()))
        });
        let topic = ToDevice::TwinResponse { status, request_id, version }.text();
        if !self.subscriptions.cover(&topic) {
            return Ok(Answered::WithNone);
        }
        let mut written = Ok(());
        self.owed.answer(out, |out| {
            written = codec::write_publish(out, Delivery::AtMostOnce, false, &topic, &body);
        });
        written.map_err(|_| End::Violation("a request id that does not fit an answer"))?;
        Ok(Answered::WithPublish)
    }
}

/// The packet id to acknowledge, if any. Delivering exactly once is not offered.
fn to_acknowledge(publish: &Publish) -> Result<Option<PacketId>, End> {
    match publish.delivery {
        Delivery::AtMostOnce => Ok(None),
        Delivery::AtLeastOnce { packet_id, .. } => Ok(Some(packet_id)),
        Delivery::ExactlyOnce { .. } => Err(End::Violation("QoS 2")),
    }
}

async fn patch_reported(
    session: &Session,
    patch: &Bytes,
    expected_version: Option<&str>,
) -> Result<u64, Error> {
    let expected_version = match expected_version.map(str::parse) {
        None => None,
        Some(Ok(version)) => Some(version),
        Some(Err(_)) => return Err(Error::ArgumentInvalid("$version is not a number.".to_owned())),
    };
    let caller = &session.authentication().caller;
    session.hub().patch_reported(caller, session.identity(), patch, expected_version).await
}

/// An answer that nobody waits for, or that makes no sense, is not a fault that could be told.
fn complete_method(session: &Session, status: &str, request_id: &str, payload: Bytes) {
    if let (Ok(status), Ok(request_id)) = (status.parse(), u64::from_str_radix(request_id, 16)) {
        session.hub().complete_method(session, request_id, status, payload);
    } else {
        tracing::debug!(identity = %session.identity(), status, request_id, "an answer to no method");
    }
}

//! A cloud-to-device message as a publish: its properties at the end of the topic, in the order in which the service writes them.

use base::ids::IdentityId;
use bytes::BytesMut;
use hub::Session;
use hub::cloud_to_device::{Properties, Received};

use super::State;
use crate::codec::{self, Delivery, Qos};
use crate::property_bag;
use crate::topic::to_device::device_bound;

impl State {
    /// Writes what fits; gives how many publishes there are.
    pub(super) fn deliver(&mut self, messages: &[Received], session: &Session, out: &mut BytesMut) -> u64 {
        let mut written = 0;
        for message in messages {
            written += u64::from(self.deliver_one(message, session.identity(), out));
        }
        written
    }

    fn deliver_one(&mut self, message: &Received, identity: &IdentityId, out: &mut BytesMut) -> bool {
        let inbox = self.inbox.get_or_insert_default();
        let topic = device_bound(identity, &bag(&message.properties));
        // Unsubscribed meanwhile: it stays in the queue.
        let Some(qos) = self.subscriptions.granted(&topic) else { return false };
        if topic.len() > usize::from(u16::MAX) {
            tracing::debug!(%identity, sequence = message.sequence, "a message has more properties than a topic can hold");
            inbox.leave_out(message.sequence);
            return false;
        }
        let delivery = if qos == Qos::AtMostOnce {
            // Nobody says that it arrived.
            inbox.complete(message.sequence);
            Delivery::AtMostOnce
        } else {
            let packet_id = inbox.track(message.sequence);
            Delivery::AtLeastOnce { packet_id, is_duplicate: message.delivery_count > 0 }
        };
        codec::write_publish(out, delivery, false, &topic, &message.body)
            .expect("a message is far smaller than a packet may be");
        true
    }
}

/// The property bag of a message. An empty value keeps its `=`; what was not set is left out.
fn bag(properties: &Properties) -> String {
    let expiry = properties.absolute_expiry_time.map(base::Timestamp::iso7);
    let system = [
        ("$.mid", properties.message_id.as_deref()),
        ("$.exp", expiry.as_deref()),
        ("$.to", properties.to.as_deref()),
        ("$.cid", properties.correlation_id.as_deref()),
        ("$.uid", properties.user_id.as_deref()),
        ("$.ct", properties.content_type.as_deref()),
        ("$.ce", properties.content_encoding.as_deref()),
        ("iothub-ack", properties.ack.map(hub::cloud_to_device::Ack::name)),
    ];
    let system = system.into_iter().filter_map(|(name, value)| Some((name, value?)));
    let application = properties.application.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let mut bag = String::new();
    property_bag::write(&mut bag, system.chain(application));
    bag
}

#[cfg(test)]
mod tests {
    use hub::cloud_to_device::Ack;

    use super::*;

    #[test]
    fn a_bag_is_written_in_the_services_order_and_encoded() {
        let properties = Properties {
            message_id: Some("m 1".into()),
            to: Some("/devices/d/messages/deviceBound".into()),
            content_type: Some("text/plain; charset=UTF-8".into()),
            content_encoding: Some("utf-8".into()),
            ack: Some(Ack::Full),
            application: vec![("b=".into(), "+&".into()), ("a".into(), String::new())],
            ..Properties::default()
        };
        assert_eq!(
            bag(&properties),
            "%24.mid=m%201&%24.to=%2Fdevices%2Fd%2Fmessages%2FdeviceBound&%24.ct=text%2Fplain%3B%20charset%3DUTF-8\
             &%24.ce=utf-8&iothub-ack=full&b%3D=%2B%26&a="
        );
        assert_eq!(bag(&Properties::default()), "");
    }
}

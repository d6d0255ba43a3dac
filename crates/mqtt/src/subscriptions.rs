//! What one connection is subscribed to, and what that grants. Used by the hub's connection and written to the stored session.

use base::caps;
use base::ids::IdentityId;

use crate::codec::Qos;
use crate::topic::Filter;
use crate::topic::filter::Kind;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Subscriptions(Vec<(Filter, Qos)>);

impl Subscriptions {
    /// The granted quality of service (at most 1), or `None` for a refusal: a filter that covers nothing of the identity's, or
    /// one too many.
    pub(crate) fn subscribe(&mut self, identity: &IdentityId, filter: &str, qos: Qos) -> Option<Qos> {
        let filter = Filter::parse(filter, identity)?;
        let granted = qos.min(Qos::AtLeastOnce);
        match self.0.iter().position(|(known, _)| *known == filter) {
            Some(index) => self.0[index].1 = granted,
            None if self.0.len() >= caps::MQTT_SUBSCRIPTIONS_MAX => return None,
            None => self.0.push((filter, granted)),
        }
        Some(granted)
    }

    /// Only a filter of the same text ends, whatever else covers the same topics.
    pub(crate) fn unsubscribe(&mut self, filter: &str) {
        self.0.retain(|(known, _)| known.text() != filter);
    }

    /// Whether anything of this kind may reach the identity at all.
    pub(crate) fn reach(&self, kind: Kind, identity: &IdentityId) -> bool {
        self.0.iter().any(|(known, _)| known.reaches(kind, identity))
    }

    /// Whether a publish to this topic, which is one of the identity's own, goes to it.
    pub(crate) fn cover(&self, topic: &str) -> bool {
        self.0.iter().any(|(known, _)| known.covers(topic))
    }

    /// The best quality of service that was granted to a filter which covers this topic.
    pub(crate) fn granted(&self, topic: &str) -> Option<Qos> {
        self.0.iter().filter(|(known, _)| known.covers(topic)).map(|(_, qos)| *qos).max()
    }

    /// Filter and quality of service, as they are stored.
    pub(crate) fn stored(&self) -> Vec<(String, u8)> {
        self.0.iter().map(|(filter, qos)| (filter.text().to_owned(), qos.bits())).collect()
    }

    /// What a stored session held; what covers nothing any more is left out.
    pub(crate) fn from_stored(identity: &IdentityId, stored: &[(String, u8)]) -> Self {
        let mut subscriptions = Self::default();
        for (filter, qos) in stored {
            let qos = if *qos == 0 { Qos::AtMostOnce } else { Qos::AtLeastOnce };
            subscriptions.subscribe(identity, filter, qos);
        }
        subscriptions
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn at_most_five_filters_are_granted_and_a_repeated_one_counts_once() {
        let device: IdentityId = "d".parse().unwrap();
        let mut subscriptions = Subscriptions::default();
        for name in ["a", "b", "c", "d", "e"] {
            let filter = format!("$iothub/methods/POST/{name}/#");
            assert_eq!(subscriptions.subscribe(&device, &filter, Qos::AtMostOnce), Some(Qos::AtMostOnce));
            assert_eq!(subscriptions.subscribe(&device, &filter, Qos::ExactlyOnce), Some(Qos::AtLeastOnce));
        }
        assert_eq!(subscriptions.subscribe(&device, "$iothub/#", Qos::AtMostOnce), None);
        subscriptions.unsubscribe("$iothub/methods/POST/c/#");
        assert!(subscriptions.subscribe(&device, "$iothub/twin/res/#", Qos::AtMostOnce).is_some());
        let takes = |name: &str| subscriptions.cover(&format!("$iothub/methods/POST/{name}/?$rid=1"));
        assert!(takes("a") && !takes("c"));
        assert_eq!(Subscriptions::from_stored(&device, &subscriptions.stored()), subscriptions);
    }

    #[test]
    fn the_longest_filters_fit_a_stored_session() {
        let longest = caps::MQTT_FILTER_BYTES_MAX * caps::MQTT_SUBSCRIPTIONS_MAX;
        assert!(longest <= caps::SUBSCRIPTION_BYTES_MAX);
    }
}

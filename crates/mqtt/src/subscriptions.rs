//! What one connection is subscribed to, and what that grants. Used by the hub's connection and written to the stored session.
//! It must never match by wildcard: see `topic::filter`.

use base::caps;
use base::ids::IdentityId;

use crate::codec::Qos;
use crate::topic::Filter;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Subscriptions(Vec<(Filter, Qos)>);

impl Subscriptions {
    /// The granted quality of service (at most 1), or `None` for a refusal: an unknown filter or one too many.
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

    pub(crate) fn unsubscribe(&mut self, identity: &IdentityId, filter: &str) {
        if let Some(filter) = Filter::parse(filter, identity) {
            self.0.retain(|(known, _)| *known != filter);
        }
    }

    pub(crate) fn has(&self, filter: &Filter) -> bool {
        self.0.iter().any(|(known, _)| known == filter)
    }

    /// Whether direct methods can reach the device at all.
    pub(crate) fn takes_methods(&self) -> bool {
        self.0.iter().any(|(known, _)| matches!(known, Filter::Methods | Filter::Method(_)))
    }

    pub(crate) fn takes_method(&self, name: &str) -> bool {
        self.0.iter().any(|(known, _)| known.takes_method(name))
    }

    /// Filter and quality of service, as they are stored.
    pub(crate) fn stored(&self, identity: &IdentityId) -> Vec<(String, u8)> {
        self.0.iter().map(|(filter, qos)| (filter.text(identity), qos.bits())).collect()
    }

    /// What a stored session held; what is no longer known is left out.
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
        assert_eq!(subscriptions.subscribe(&device, "$iothub/twin/res/#", Qos::AtMostOnce), None);
        subscriptions.unsubscribe(&device, "$iothub/methods/POST/c/#");
        assert!(subscriptions.subscribe(&device, "$iothub/twin/res/#", Qos::AtMostOnce).is_some());
        assert!(subscriptions.takes_method("a") && !subscriptions.takes_method("c"));
        assert_eq!(Subscriptions::from_stored(&device, &subscriptions.stored(&device)), subscriptions);
    }
}

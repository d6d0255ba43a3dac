//! From where an instance may be reached: whether from other machines at all, and the IP filter rules of hubs and provisioning
//! services. One rule for every door, asked once the instance is known and before anybody proves who he is. Pure.

use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What somebody wants to reach of an instance; a rule may be about one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NetworkTarget {
    DeviceApi,
    ServiceApi,
    /// A hub's built-in endpoint, as far as it is read with Event Hubs clients.
    EventHub,
}

/// What holds of an instance.
#[derive(Clone, Copy, Debug)]
pub struct Network<'a> {
    pub is_public: bool,
    pub filter: &'a IpFilter,
}

/// The rules of an instance, in their order: the first that knows an address decides, and where none does, `rejects_others`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IpFilter {
    pub rules: Vec<IpRule>,
    pub rejects_others: bool,
    /// Whether the rules hold for a hub's built-in endpoint too.
    pub has_event_hub: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IpRule {
    pub accepts: bool,
    pub mask: IpMask,
    /// `None`: all of the instance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<IpRuleScope>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum IpRuleScope {
    ServiceApi,
    DeviceApi,
}

/// `10.1.0.0/16`, or one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct IpMask {
    address: IpAddr,
    bits: u8,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is neither an IP address nor a network in CIDR notation")]
pub struct InvalidIpMask(String);

impl Network<'_> {
    /// Refuses, with what the log says of it. `None` as an address is this machine.
    pub fn check(&self, address: Option<IpAddr>, target: NetworkTarget) -> Result<(), &'static str> {
        let address = address.map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |address| address.to_canonical());
        if !self.is_public && !address.is_loopback() {
            return Err("its instance takes nobody from elsewhere");
        }
        if !self.filter.accepts(address, target) {
            return Err("an IP filter rule of its instance keeps its address out");
        }
        Ok(())
    }
}

impl IpFilter {
    /// That lets everybody in.
    pub const OPEN: &'static Self = &Self { rules: Vec::new(), rejects_others: false, has_event_hub: false };

    fn accepts(&self, address: IpAddr, target: NetworkTarget) -> bool {
        if target == NetworkTarget::EventHub && !self.has_event_hub {
            return true;
        }
        let rule = self.rules.iter().find(|rule| rule.is_about(target) && rule.mask.contains(address));
        rule.map_or(!self.rejects_others, |rule| rule.accepts)
    }
}

impl IpRule {
    fn is_about(&self, target: NetworkTarget) -> bool {
        match self.scope {
            None => true,
            Some(IpRuleScope::DeviceApi) => target == NetworkTarget::DeviceApi,
            Some(IpRuleScope::ServiceApi) => target == NetworkTarget::ServiceApi,
        }
    }
}

impl IpMask {
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address) {
            (IpAddr::V4(network), IpAddr::V4(address)) => {
                let distance = u32::from(network) ^ u32::from(address);
                distance.checked_shr(32 - u32::from(self.bits)).unwrap_or(0) == 0
            }
            (IpAddr::V6(network), IpAddr::V6(address)) => {
                let distance = u128::from(network) ^ u128::from(address);
                distance.checked_shr(128 - u32::from(self.bits)).unwrap_or(0) == 0
            }
            _ => false,
        }
    }
}

impl FromStr for IpMask {
    type Err = InvalidIpMask;

    fn from_str(text: &str) -> Result<Self, InvalidIpMask> {
        let wrong = || InvalidIpMask(text.chars().take(64).collect());
        let (address, bits) =
            text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let is_number = |bits: &&str| bits.bytes().all(|byte| byte.is_ascii_digit());
        let bits = bits.map_or(Some(most), |bits| Some(bits).filter(is_number)?.parse().ok());
        let bits = bits.filter(|bits| *bits <= most).ok_or_else(wrong)?;
        Ok(Self { address, bits })
    }
}

impl TryFrom<String> for IpMask {
    type Error = InvalidIpMask;

    fn try_from(text: String) -> Result<Self, InvalidIpMask> {
        text.parse()
    }
}

impl From<IpMask> for String {
    fn from(mask: IpMask) -> Self {
        format!("{}/{}", mask.address, mask.bits)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rule(accepts: bool, mask: &str) -> IpRule {
        IpRule { accepts, mask: mask.parse().unwrap(), scope: None }
    }

    fn lets_in(filter: &IpFilter, address: &str, target: NetworkTarget) -> bool {
        let network = Network { is_public: true, filter };
        network.check(Some(address.parse().unwrap()), target).is_ok()
    }

    #[test]
    fn the_first_rule_that_knows_an_address_decides() {
        let rules = vec![rule(false, "10.0.0.0/8"), rule(true, "10.1.0.0/16"), rule(false, "192.0.2.7")];
        let filter = IpFilter { rules, ..IpFilter::default() };
        let is_in = |address| lets_in(&filter, address, NetworkTarget::DeviceApi);
        assert!(!is_in("10.1.2.3"), "an earlier rule has it");
        assert!(!is_in("::ffff:10.9.9.9"), "the same address in its other form");
        assert!(is_in("11.0.0.0") && is_in("192.0.2.8") && !is_in("192.0.2.7"));
        let closed = IpFilter { rejects_others: true, rules: vec![rule(true, "127.0.0.2")], ..filter };
        assert!(lets_in(&closed, "127.0.0.2", NetworkTarget::ServiceApi));
        assert!(!lets_in(&closed, "127.0.0.3", NetworkTarget::ServiceApi), "this machine is no exception");
    }

    #[test]
    fn a_rule_may_be_about_one_side_and_the_built_in_endpoint_is_asked_for_by_name() {
        let device = IpRule { scope: Some(IpRuleScope::DeviceApi), ..rule(false, "0.0.0.0/0") };
        let filter = IpFilter { rules: vec![device], ..IpFilter::default() };
        assert!(!lets_in(&filter, "192.0.2.1", NetworkTarget::DeviceApi));
        assert!(lets_in(&filter, "192.0.2.1", NetworkTarget::ServiceApi));
        let everybody_out = IpFilter { rules: vec![rule(false, "0.0.0.0/0")], ..IpFilter::default() };
        assert!(lets_in(&everybody_out, "192.0.2.1", NetworkTarget::EventHub));
        let of_event_hub = IpFilter { has_event_hub: true, ..everybody_out };
        assert!(!lets_in(&of_event_hub, "192.0.2.1", NetworkTarget::EventHub));
    }

    #[test]
    fn an_instance_that_is_not_public_takes_this_machine_by_any_of_its_addresses_and_no_other() {
        let network = Network { is_public: false, filter: IpFilter::OPEN };
        let is_in =
            |address: &str| network.check(Some(address.parse().unwrap()), NetworkTarget::DeviceApi).is_ok();
        for local in ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"] {
            assert!(is_in(local), "{local}");
        }
        for other in ["10.0.0.1", "::ffff:10.0.0.1", "2001:db8::1", "0.0.0.0"] {
            assert!(!is_in(other), "{other}");
        }
        assert!(network.check(None, NetworkTarget::DeviceApi).is_ok());
    }

    #[test]
    fn masks_are_read_and_written() {
        for (text, inside, outside) in [
            ("0.0.0.0/0", "203.0.113.9", "::1"),
            ("203.0.113.0/31", "203.0.113.1", "203.0.113.2"),
            ("203.0.113.9", "203.0.113.9", "203.0.113.8"),
            ("2001:db8::/32", "2001:db8:1::1", "2001:db9::1"),
            ("::/0", "2001:db9::1", "10.0.0.1"),
        ] {
            let mask: IpMask = text.parse().unwrap();
            assert!(mask.contains(inside.parse().unwrap()), "{text} {inside}");
            assert!(!mask.contains(outside.parse().unwrap()), "{text} {outside}");
            assert_eq!(String::from(mask).parse(), Ok(mask), "{text}");
        }
        for bad in ["", "10.0.0", "10.0.0.0/33", "10.0.0.0/", "10.0.0.0/-1", "10.0.0.0/+8", "::/129", "a/8"] {
            assert!(bad.parse::<IpMask>().is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn a_mask_contains_what_shares_its_first_bits(network: u32, other: u32, bits in 0_u8..=32) {
            let mask: IpMask = format!("{}/{bits}", Ipv4Addr::from(network)).parse().unwrap();
            let kept = if bits == 0 { 0 } else { u32::MAX << (32 - bits) };
            prop_assert_eq!(mask.contains(IpAddr::V4(other.into())), network & kept == other & kept);
        }
    }
}

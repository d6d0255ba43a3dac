//! What the sections `ipFilterRules` and `networkRuleSets` of hubs and provisioning services say of who may come in, as rules that
//! the doors ask. The sections are shown as they were sent.

use access::{IpFilter, IpMask, IpRule, IpRuleScope};
use base::caps;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::error::Error;
use crate::{iot_hub, provisioning_service};

/// One element of `ipFilterRules`, or of `ipRules` of `networkRuleSets`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RuleBody {
    filter_name: Option<String>,
    action: Option<String>,
    ip_mask: Option<String>,
    /// Of provisioning services.
    target: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RuleSetBody {
    default_action: Option<String>,
    apply_to_built_in_event_hub_endpoint: Option<bool>,
    ip_rules: Option<Vec<RuleBody>>,
}

impl iot_hub::Properties {
    pub fn ip_filter(&self) -> IpFilter {
        // It was refused when it was put, if it could be.
        read(&self.sections).unwrap_or_default()
    }
}

impl provisioning_service::Properties {
    pub fn ip_filter(&self) -> IpFilter {
        read(&self.sections).unwrap_or_default()
    }
}

/// Refuses sections that no hub or service would take.
pub(crate) fn check(sections: &Map<String, Value>) -> Result<(), Error> {
    read(sections).map(drop)
}

/// `networkRuleSets` came after `ipFilterRules`, and takes their place.
fn read(sections: &Map<String, Value>) -> Result<IpFilter, Error> {
    let rules: Vec<RuleBody> = section(sections, "ipFilterRules")?.unwrap_or_default();
    let set: Option<RuleSetBody> = section(sections, "networkRuleSets")?;
    let Some(set) = set else {
        return Ok(IpFilter { rules: accepted(&rules, "ipFilterRules")?, ..IpFilter::default() });
    };
    if !rules.is_empty() {
        return Err(Error::bad_request(
            "The properties 'ipFilterRules' and 'networkRuleSets' cannot hold rules at the same time.",
        ));
    }
    Ok(IpFilter {
        rules: accepted(&set.ip_rules.unwrap_or_default(), "networkRuleSets.ipRules")?,
        rejects_others: match set.default_action.as_deref() {
            None => true,
            Some(action) => !choice("networkRuleSets.defaultAction", action, ["Allow", "Deny"])?,
        },
        has_event_hub: set.apply_to_built_in_event_hub_endpoint.unwrap_or_default(),
    })
}

fn section<T: serde::de::DeserializeOwned>(
    sections: &Map<String, Value>,
    name: &str,
) -> Result<Option<T>, Error> {
    let Some(value) = sections.get(name).filter(|value| !value.is_null()) else { return Ok(None) };
    let unreadable = |error| Error::bad_request(format!("The property '{name}' cannot be read: {error}."));
    T::deserialize(value).map(Some).map_err(unreadable)
}

fn accepted(rules: &[RuleBody], path: &str) -> Result<Vec<IpRule>, Error> {
    if rules.len() > caps::IP_RULES_MAX {
        return Err(Error::bad_request(format!(
            "The property '{path}' holds {} rules, and may hold {}.",
            rules.len(),
            caps::IP_RULES_MAX
        )));
    }
    for (at, rule) in rules.iter().enumerate() {
        let name = rule.filter_name.as_deref().unwrap_or_default();
        let is_name = |other: &RuleBody| {
            other.filter_name.as_deref().is_some_and(|other| other.eq_ignore_ascii_case(name))
        };
        if name.is_empty() || rules[..at].iter().any(is_name) {
            return Err(Error::bad_request(format!(
                "Each rule of '{path}' needs a 'filterName' of its own; '{name}' is none."
            )));
        }
    }
    rules.iter().map(|rule| rule.read(path)).collect()
}

impl RuleBody {
    fn read(&self, path: &str) -> Result<IpRule, Error> {
        let is_set = path.ends_with("ipRules");
        let accepts = match self.action.as_deref() {
            // Rules of a set only let in.
            None if is_set => true,
            action if is_set => choice(&format!("{path}.action"), action.unwrap_or_default(), ["Allow", ""])?,
            action => choice(&format!("{path}.action"), action.unwrap_or_default(), ["Accept", "Reject"])?,
        };
        let mask = self.ip_mask.as_deref().unwrap_or_default();
        let mask: IpMask = mask.parse().map_err(|wrong| {
            Error::bad_request(format!("The property '{path}.ipMask' is wrong: {wrong}."))
        })?;
        let scope = match self.target.as_deref() {
            None => None,
            Some(all) if all.eq_ignore_ascii_case("all") => None,
            Some(target) => {
                let is_device = choice(&format!("{path}.target"), target, ["deviceApi", "serviceApi"])?;
                Some(if is_device { IpRuleScope::DeviceApi } else { IpRuleScope::ServiceApi })
            }
        };
        Ok(IpRule { accepts, mask, scope })
    }
}

/// Whether `text` is the first of two words and not the second, in any case.
fn choice(path: &str, text: &str, [yes, no]: [&str; 2]) -> Result<bool, Error> {
    if text.eq_ignore_ascii_case(yes) {
        return Ok(true);
    }
    if !no.is_empty() && text.eq_ignore_ascii_case(no) {
        return Ok(false);
    }
    let words = if no.is_empty() { format!("'{yes}'") } else { format!("'{yes}' or '{no}'") };
    Err(Error::bad_request(format!("The property '{path}' must be {words}, not '{text}'.")))
}

#[cfg(test)]
mod tests {
    use access::{Network, NetworkTarget};
    use serde_json::json;

    use super::*;

    fn of(sections: &Value) -> Result<IpFilter, Error> {
        read(sections.as_object().unwrap())
    }

    fn lets_in(filter: &IpFilter, address: &str, target: NetworkTarget) -> bool {
        Network { is_public: true, filter }.check(Some(address.parse().unwrap()), target).is_ok()
    }

    #[test]
    fn rules_hold_in_their_order_and_for_what_they_name() {
        let filter = of(&json!({"ipFilterRules": [
            {"filterName": "one", "action": "accept", "ipMask": "10.0.0.1"},
            {"filterName": "none", "action": "Reject", "ipMask": "10.0.0.0/8", "target": "serviceApi"}
        ]}))
        .unwrap();
        assert!(lets_in(&filter, "10.0.0.1", NetworkTarget::ServiceApi));
        assert!(!lets_in(&filter, "10.0.0.2", NetworkTarget::ServiceApi));
        assert!(lets_in(&filter, "10.0.0.2", NetworkTarget::DeviceApi));
        assert!(lets_in(&filter, "192.0.2.1", NetworkTarget::ServiceApi), "no rule knows it");
    }

    #[test]
    fn a_rule_set_lets_in_whom_it_names_and_others_by_its_default() {
        let set = |default: Value, applies: bool| {
            of(&json!({"ipFilterRules": [], "networkRuleSets": {
                "defaultAction": default, "applyToBuiltInEventHubEndpoint": applies,
                "ipRules": [{"filterName": "a", "action": "Allow", "ipMask": "10.0.0.0/8"}]
            }}))
            .unwrap()
        };
        for (default, lets_others_in) in
            [(json!("Deny"), false), (json!(null), false), (json!("allow"), true)]
        {
            let filter = set(default.clone(), false);
            assert!(lets_in(&filter, "10.1.1.1", NetworkTarget::DeviceApi), "{default}");
            assert_eq!(lets_in(&filter, "192.0.2.1", NetworkTarget::DeviceApi), lets_others_in, "{default}");
            assert!(lets_in(&filter, "192.0.2.1", NetworkTarget::EventHub), "it is not asked for");
        }
        assert!(!lets_in(&set(json!("Deny"), true), "192.0.2.1", NetworkTarget::EventHub));
    }

    #[test]
    fn what_no_hub_takes_is_refused_by_name() {
        let rule = |name: &str, action: &str, mask: &str| json!({"filterName": name, "action": action, "ipMask": mask});
        let many: Vec<Value> =
            (0..=caps::IP_RULES_MAX).map(|at| rule(&at.to_string(), "Accept", "10.0.0.1")).collect();
        for (sections, named) in [
            (json!({"ipFilterRules": [rule("a", "Maybe", "10.0.0.1")]}), "'ipFilterRules.action'"),
            (json!({"ipFilterRules": [rule("a", "Accept", "ten")]}), "'ipFilterRules.ipMask'"),
            (json!({"ipFilterRules": [rule("", "Accept", "10.0.0.1")]}), "'filterName'"),
            (
                json!({"ipFilterRules": [rule("a", "Accept", "::1"), rule("A", "Accept", "::2")]}),
                "'filterName'",
            ),
            (json!({"ipFilterRules": many}), "101 rules"),
            (json!({"ipFilterRules": "none"}), "'ipFilterRules' cannot be read"),
            (
                json!({"ipFilterRules": [{"filterName": "a", "action": "Accept", "ipMask": "::1", "target": "x"}]}),
                "'ipFilterRules.target'",
            ),
            (json!({"networkRuleSets": {"defaultAction": "x"}}), "'networkRuleSets.defaultAction'"),
            (
                json!({"networkRuleSets": {"ipRules": [rule("a", "Reject", "::1")]}}),
                "'networkRuleSets.ipRules.action'",
            ),
            (
                json!({"ipFilterRules": [rule("a", "Accept", "::1")], "networkRuleSets": {"ipRules": []}}),
                "at the same time",
            ),
        ] {
            let refused = of(&sections).unwrap_err().to_string();
            assert!(refused.contains(named), "{refused}");
        }
    }
}

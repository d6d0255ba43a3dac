//! Which hub a device gets. Pure functions; the hubs and their weights are given.

use base::secret;

use crate::enrollment::Enrollment;
use crate::registration::FailureReason;
use crate::settings::{AllocationPolicy, FindLink, LinkedHub, ServiceSettings};

/// Weight of a link that names none.
const WEIGHT_DEFAULT: u32 = 1;

/// The hub for `registration_id` under the enrollment's policy, or why there is none (`dps.md` §4.1, §4.2).
pub fn choose<'a>(
    enrollment: &Enrollment,
    settings: &'a ServiceSettings,
    registration_id: &str,
    find_link: &FindLink<'_, 'a>,
) -> Result<&'a LinkedHub, FailureReason> {
    if let Some(host) = &enrollment.iot_hub_host_name {
        return find_link(host).ok_or(FailureReason::NoHub);
    }
    let policy = enrollment.allocation_policy.unwrap_or(settings.allocation_policy);
    let named: Vec<&LinkedHub> = enrollment.iot_hubs.iter().filter_map(|hub| find_link(hub)).collect();
    let chosen = match policy {
        AllocationPolicy::Static => named.first().copied(),
        AllocationPolicy::Custom => return Err(FailureReason::CustomAllocationUnavailable),
        // Without measurements every latency is the same, and a tie falls back to the hash.
        AllocationPolicy::Hashed | AllocationPolicy::GeoLatency if enrollment.iot_hubs.is_empty() => {
            let takes_part = |hub: &&LinkedHub| hub.apply_allocation_policy.unwrap_or(true);
            hashed(registration_id, settings.linked_hubs.iter().filter(takes_part))
        }
        AllocationPolicy::Hashed | AllocationPolicy::GeoLatency => hashed(registration_id, named.into_iter()),
    };
    chosen.ok_or(FailureReason::NoHub)
}

/// Weighted rendezvous hashing: the same id gets the same hub as long as the hubs stay, shares follow the weights, and a hub that
/// comes or goes moves only its own share.
fn hashed<'a>(registration_id: &str, hubs: impl Iterator<Item = &'a LinkedHub>) -> Option<&'a LinkedHub> {
    let score = |hub: &LinkedHub| {
        let weight = f64::from(hub.allocation_weight.unwrap_or(WEIGHT_DEFAULT).max(1));
        let text =
            format!("{}\0{}", hub.host_name.to_ascii_lowercase(), registration_id.to_ascii_lowercase());
        let hash = secret::stable_hash(text.as_bytes());
        // The 53 upper bits, as a number above zero and below one.
        #[expect(clippy::cast_precision_loss, reason = "53 bits fit a double exactly")]
        let unit = ((hash >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
        -weight / unit.ln()
    };
    hubs.max_by(|a, b| score(a).total_cmp(&score(b)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::Secret;

    fn hub(name: &str, weight: Option<u32>) -> LinkedHub {
        LinkedHub {
            host_name: name.to_owned(),
            hub_name: name.to_owned(),
            connection_string: Secret::new(""),
            location: "eastus".to_owned(),
            allocation_weight: weight,
            apply_allocation_policy: None,
        }
    }

    fn count(hubs: &[LinkedHub], name: &str) -> usize {
        let ids = (0..10_000).map(|n| format!("device-{n}"));
        ids.filter(|id| hashed(id, hubs.iter()).is_some_and(|hub| hub.host_name == name)).count()
    }

    #[test]
    fn shares_follow_the_weights() {
        let hubs = [hub("a", Some(3)), hub("b", None)];
        let share = count(&hubs, "a");
        assert!((7_300..7_700).contains(&share), "{share} of 10000 for a weight of 3 in 4");
    }

    #[test]
    fn a_new_hub_takes_only_its_own_share() {
        let (two, three) =
            ([hub("a", None), hub("b", None)], [hub("a", None), hub("b", None), hub("c", None)]);
        for n in 0..1_000 {
            let id = format!("device-{n}");
            let (before, after) = (hashed(&id, two.iter()), hashed(&id, three.iter()));
            let moved = before.map(|hub| &hub.host_name) != after.map(|hub| &hub.host_name);
            assert!(!moved || after.is_some_and(|hub| hub.host_name == "c"), "{id} moved between old hubs");
        }
    }

    #[test]
    fn the_same_id_in_any_case_gets_the_same_hub() {
        let hubs = [hub("a", None), hub("b", None), hub("c", None)];
        assert_eq!(hashed("Device-7", hubs.iter()), hashed("device-7", hubs.iter()));
        assert_eq!(hashed("x", [].iter()), None);
    }

    #[test]
    fn each_policy_takes_the_hubs_that_it_may() {
        use AllocationPolicy::{GeoLatency, Hashed, Static};
        let settings = |flags: &[(&str, Option<bool>)], default| {
            let link =
                |&(name, flag): &(&str, _)| LinkedHub { apply_allocation_policy: flag, ..hub(name, None) };
            ServiceSettings {
                allocation_policy: default,
                linked_hubs: flags.iter().map(link).collect(),
                ..crate::testing::settings()
            }
        };
        let (on, off) =
            (settings(&[("a", None), ("b", Some(false))], Hashed), settings(&[("b", Some(false))], Hashed));
        let by_default_static = settings(&[("a", None)], Static);
        for (what, settings, policy, named, old_name, expected) in [
            ("a hub that takes no part is left out", &on, Some(Hashed), &[][..], None, Some("a")),
            ("unless it is named", &on, Some(GeoLatency), &["b"][..], None, Some("b")),
            ("by static, too", &on, Some(Static), &["b"], None, Some("b")),
            (
                "a name that is not linked any more does not count",
                &on,
                Some(Hashed),
                &["gone", "b"],
                None,
                Some("b"),
            ),
            ("and alone leads nowhere", &on, Some(Hashed), &["gone"], None, None),
            ("nor by static", &on, Some(Static), &["gone"], None, None),
            ("nobody takes part", &off, None, &[], None, None),
            ("the old name stands before every policy", &on, Some(Hashed), &["a"], Some("b"), Some("b")),
            ("but has to be linked", &on, None, &["a"], Some("gone"), None),
            (
                "the service's own policy counts where there is none",
                &by_default_static,
                None,
                &["a"],
                None,
                Some("a"),
            ),
            ("and may need a name", &by_default_static, None, &[], None, None),
        ] {
            let enrollment = Enrollment {
                allocation_policy: policy,
                iot_hubs: named.iter().map(|&name| name.to_owned()).collect(),
                iot_hub_host_name: old_name.map(str::to_owned),
                ..crate::testing::enrollment("dev-1")
            };
            let by_name = |name: &str| settings.linked_hub(name);
            let chosen = choose(&enrollment, settings, "dev-1", &by_name).map(|hub| hub.host_name.as_str());
            assert_eq!(chosen, expected.ok_or(FailureReason::NoHub), "{what}");
        }
    }
}

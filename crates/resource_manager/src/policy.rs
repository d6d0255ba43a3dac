//! Shared access policies of hubs and provisioning services, as Resource Manager keeps them.
//! Called by the two nouns that have them, and by the door that lists them. Keys come from the system's randomness.

use access::shared_access::KEY_BYTES;
use access::{Caller, Right, SharedAccessPolicy};
use base::{Key, Secret, caps};

use crate::ResourceManager;
use crate::error::Error;
use crate::id::ResourceId;
use crate::provider::ResourceType;
use crate::resource::{self, Properties};

/// One element of `authorizationPolicies`. A key that is left out is kept, or made.
#[derive(Clone, Debug)]
pub struct PolicyRequest {
    pub key_name: String,
    pub primary_key: Option<Secret>,
    pub secondary_key: Option<Secret>,
    pub rights: String,
}

/// The policies after a PUT: the list given replaces the old one, no list keeps it.
pub fn put(
    old: &[SharedAccessPolicy],
    requests: Option<&[PolicyRequest]>,
    allowed: &[Right],
) -> Result<Vec<SharedAccessPolicy>, Error> {
    let Some(requests) = requests else { return Ok(old.to_vec()) };
    if requests.len() > caps::POLICIES_PER_HUB_MAX {
        return Err(Error::bad_request(format!(
            "At most {} shared access policies are allowed.",
            caps::POLICIES_PER_HUB_MAX
        )));
    }
    let mut next: Vec<SharedAccessPolicy> = Vec::with_capacity(requests.len());
    for request in requests {
        let name = &request.key_name;
        let is_name = (1..=64).contains(&name.len())
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.+@!#".contains(&b));
        if !is_name || next.iter().any(|other| other.key_name.eq_ignore_ascii_case(name)) {
            return Err(Error::bad_request(format!(
                "The policy name '{name}' is not valid or is given twice."
            )));
        }
        let rights = Right::parse_list(&request.rights)
            .filter(|rights| rights.iter().all(|right| allowed.contains(right)));
        let rights = rights.ok_or_else(|| {
            Error::bad_request(format!("The rights '{}' of policy '{name}' are not valid.", request.rights))
        })?;
        let before = old.iter().find(|known| known.key_name.eq_ignore_ascii_case(name));
        next.push(SharedAccessPolicy {
            key_name: name.clone(),
            primary_key: key(request.primary_key.as_ref(), before.map(|known| &known.primary_key), name)?,
            secondary_key: key(
                request.secondary_key.as_ref(),
                before.map(|known| &known.secondary_key),
                name,
            )?,
            rights,
        });
    }
    Ok(next)
}

fn key(sent: Option<&Secret>, old: Option<&Key>, name: &str) -> Result<Key, Error> {
    match (sent.map(Secret::expose).filter(|sent| !sent.is_empty()), old) {
        (None, Some(old)) => Ok(old.clone()),
        (None, None) => Ok(Key::generate(KEY_BYTES)),
        (Some(sent), _) => sent.parse().map_err(|_| {
            Error::bad_request(format!("A key of policy '{name}' is not base64 of 16 to 64 bytes."))
        }),
    }
}

impl ResourceManager {
    /// `IotHubResource_ListKeys`, `IotDpsResource_ListKeys`.
    pub async fn shared_access_policies(
        &self,
        caller: &Caller,
        id: &ResourceId,
    ) -> Result<Vec<SharedAccessPolicy>, Error> {
        let action = match id.resource_type {
            ResourceType::ProvisioningService => "Microsoft.Devices/provisioningServices/listkeys/Action",
            _ => "Microsoft.Devices/iotHubs/listkeys/Action",
        };
        self.allow(caller, action, &id.scope(), &id.group.subscription).await?;
        match self.must_get(id).await?.properties {
            Properties::IotHub(properties) => Ok(properties.policies),
            Properties::ProvisioningService(properties) => Ok(properties.policies),
            _ => Err(resource::damaged(id)),
        }
    }

    /// `IotHubResource_GetKeysForKeyName`, `IotDpsResource_ListKeysForKeyName`.
    pub async fn shared_access_policy(
        &self,
        caller: &Caller,
        id: &ResourceId,
        key_name: &str,
    ) -> Result<SharedAccessPolicy, Error> {
        find(&self.shared_access_policies(caller, id).await?, key_name).cloned()
    }
}

fn find<'a>(policies: &'a [SharedAccessPolicy], key_name: &str) -> Result<&'a SharedAccessPolicy, Error> {
    policies.iter().find(|policy| policy.key_name.eq_ignore_ascii_case(key_name)).ok_or_else(|| {
        Error::KeyNotFound(format!("The shared access policy '{key_name}' could not be found."))
    })
}

/// How a resource's record holds its policies: as they are, each under the names it had from the first. For `serde(with)`.
pub(crate) mod record {
    use access::{Right, SharedAccessPolicy};
    use base::Key;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize, Deserialize)]
    struct Policy {
        key_name: String,
        primary_key: Key,
        secondary_key: Key,
        rights: Vec<Right>,
    }

    pub(crate) fn serialize<S>(policies: &[SharedAccessPolicy], to: S) -> Result<S::Ok, S::Error>
    where
        S: Serializer,
    {
        to.collect_seq(policies.iter().cloned().map(|policy| Policy {
            key_name: policy.key_name,
            primary_key: policy.primary_key,
            secondary_key: policy.secondary_key,
            rights: policy.rights,
        }))
    }

    pub(crate) fn deserialize<'de, D>(from: D) -> Result<Vec<SharedAccessPolicy>, D::Error>
    where
        D: Deserializer<'de>,
    {
        let policies = Vec::<Policy>::deserialize(from)?.into_iter().map(|policy| SharedAccessPolicy {
            key_name: policy.key_name,
            primary_key: policy.primary_key,
            secondary_key: policy.secondary_key,
            rights: policy.rights,
        });
        Ok(policies.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(name: &str, rights: &str, primary: Option<&str>) -> PolicyRequest {
        PolicyRequest {
            key_name: name.into(),
            primary_key: primary.map(Secret::new),
            secondary_key: None,
            rights: rights.into(),
        }
    }

    #[test]
    fn a_list_replaces_the_policies_and_keeps_the_keys_it_does_not_name() {
        let old = [
            SharedAccessPolicy::generate("a", &[Right::RegistryRead]),
            SharedAccessPolicy::generate("b", &[Right::RegistryRead]),
        ];
        let next =
            put(&old, Some(&[request("A", "ServiceConnect, RegistryRead", None)]), &Right::ALL).unwrap();
        assert_eq!(next.len(), 1);
        assert_eq!(next[0].primary_key, old[0].primary_key);
        assert_eq!(next[0].rights, [Right::ServiceConnect, Right::RegistryRead]);
        assert_eq!(put(&old, None, &Right::ALL).unwrap(), old);
    }

    #[test]
    fn bad_rights_names_and_keys_are_refused() {
        for bad in [
            request("a", "Everything", None),
            request("a", "EnrollmentRead", None),
            request("", "RegistryRead", None),
            request("a/b", "RegistryRead", None),
            request("a", "RegistryRead", Some("no key")),
        ] {
            assert!(put(&[], Some(&[bad]), &[Right::RegistryRead]).is_err());
        }
    }

    #[test]
    fn a_record_holds_policies_under_the_names_it_had_from_the_first() {
        let policy = SharedAccessPolicy::generate("a", &[Right::RegistryRead]);
        let (primary, secondary) = (policy.primary_key.text(), policy.secondary_key.text());
        let expected = serde_json::json!([{
            "key_name": "a", "primary_key": primary, "secondary_key": secondary, "rights": ["RegistryRead"]}]);
        let stored = record::serialize(std::slice::from_ref(&policy), serde_json::value::Serializer).unwrap();
        assert_eq!(stored, expected);
        assert_eq!(record::deserialize(expected).unwrap(), [policy]);
    }
}

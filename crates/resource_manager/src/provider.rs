//! Resource providers as data: namespaces, their resource types, api-versions and the actions of each type.
//! Called by ids, the provider operations and the door's check of api-versions. Rows only, no behaviour of a type.

use serde::{Deserialize, Serialize};

/// The resource types that are kept here. A closed set: each has its own noun.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ResourceType {
    DigitalTwinsInstance,
    DigitalTwinsEndpoint,
    IotHub,
    ProvisioningService,
    EventHubNamespace,
    EventHub,
    StorageAccount,
    UserAssignedIdentity,
}

/// What Azure calls the three things that may be done to every resource.
pub struct Actions {
    pub read: &'static str,
    pub write: &'static str,
    pub delete: &'static str,
}

/// What a resource type is called and may be called.
pub struct TypeRow {
    pub namespace: &'static str,
    /// `type`, or `type/childType`.
    pub type_name: &'static str,
    pub resource_type: Option<ResourceType>,
    pub api_versions: &'static [&'static str],
    pub is_regional: bool,
}

pub const DIGITAL_TWINS: &str = "Microsoft.DigitalTwins";
pub const DEVICES: &str = "Microsoft.Devices";
pub const EVENT_HUB: &str = "Microsoft.EventHub";
pub const STORAGE: &str = "Microsoft.Storage";
pub const MANAGED_IDENTITY: &str = "Microsoft.ManagedIdentity";
pub const RESOURCES: &str = "Microsoft.Resources";
pub const AUTHORIZATION: &str = "Microsoft.Authorization";

pub const NAMESPACES: &[&str] =
    &[DIGITAL_TWINS, DEVICES, EVENT_HUB, STORAGE, MANAGED_IDENTITY, RESOURCES, AUTHORIZATION];

const DIGITAL_TWINS_VERSIONS: &[&str] = &[
    "2023-01-31",
    "2022-10-31",
    "2022-05-31",
    "2021-06-30-preview",
    "2020-12-01",
    "2020-10-31",
    "2020-03-01-preview",
];
const HUB_VERSIONS: &[&str] = &[
    "2025-08-01-preview",
    "2025-02-01-preview",
    "2023-06-30-preview",
    "2023-06-30",
    "2022-11-15-preview",
    "2022-04-30-preview",
    "2021-07-02-preview",
    "2021-07-02",
    "2021-07-01-preview",
    "2021-07-01",
    "2021-03-31",
    "2021-03-03-preview",
    "2021-02-01-preview",
    "2020-08-31-preview",
    "2020-08-31",
    "2020-08-01",
    "2020-07-10-preview",
    "2020-06-15",
    "2020-04-01",
    "2020-03-01",
    "2019-11-04",
    "2019-07-01-preview",
    "2019-03-22-preview",
    "2019-03-22",
    "2018-12-01-preview",
    "2018-04-01",
    "2018-01-22",
    "2017-09-25-preview",
    "2017-07-01",
    "2017-01-19",
    "2016-02-03",
    "2015-08-15-preview",
];
const PROVISIONING_VERSIONS: &[&str] = &[
    "2026-11-01",
    "2025-02-01-preview",
    "2023-03-01-preview",
    "2022-12-12",
    "2022-02-05",
    "2021-10-15",
    "2020-09-01-preview",
    "2020-03-01",
    "2020-01-01",
    "2018-01-22",
    "2017-11-15",
    "2017-08-21-preview",
];
const EVENT_HUB_VERSIONS: &[&str] = &[
    "2025-05-01-preview",
    "2024-05-01-preview",
    "2024-01-01",
    "2023-01-01-preview",
    "2022-10-01-preview",
    "2022-01-01-preview",
    "2021-11-01",
    "2021-06-01-preview",
    "2021-01-01-preview",
    "2018-01-01-preview",
    "2017-04-01",
    "2015-08-01",
    "2014-09-01",
];
const STORAGE_VERSIONS: &[&str] = &[
    "2025-06-01",
    "2025-01-01",
    "2024-01-01",
    "2023-05-01",
    "2023-04-01",
    "2023-01-01",
    "2022-09-01",
    "2022-05-01",
    "2021-09-01",
    "2021-08-01",
    "2021-06-01",
    "2021-05-01",
    "2021-04-01",
    "2021-02-01",
    "2021-01-01",
    "2020-08-01-preview",
    "2019-06-01",
    "2019-04-01",
    "2018-11-01",
    "2018-07-01",
    "2018-03-01-preview",
    "2018-02-01",
    "2017-10-01",
    "2017-06-01",
    "2016-12-01",
    "2016-05-01",
    "2016-01-01",
    "2015-06-15",
];
const MANAGED_IDENTITY_VERSIONS: &[&str] = &[
    "2024-11-30",
    "2023-07-31-preview",
    "2023-01-31",
    "2022-01-31-preview",
    "2021-09-30-preview",
    "2018-11-30",
    "2015-08-31-preview",
];
const RESOURCES_VERSIONS: &[&str] = &[
    "2025-04-01",
    "2024-11-01",
    "2024-07-01",
    "2024-03-01",
    "2023-07-01",
    "2022-12-01",
    "2022-09-01",
    "2021-04-01",
    "2021-01-01",
    "2020-10-01",
    "2020-06-01",
    "2019-10-01",
    "2019-05-01",
    "2018-05-01",
    "2017-05-10",
    "2016-09-01",
    "2016-06-01",
    "2015-11-01",
    "2014-04-01",
];
const AUTHORIZATION_VERSIONS: &[&str] = &[
    "2022-05-01-preview",
    "2022-04-01",
    "2022-01-01-preview",
    "2021-04-01-preview",
    "2020-10-01-preview",
    "2020-08-01-preview",
    "2020-04-01-preview",
    "2020-03-01-preview",
    "2019-04-01-preview",
    "2018-12-01-preview",
    "2018-09-01-preview",
    "2018-07-01",
    "2018-01-01-preview",
    "2017-10-01-preview",
    "2017-09-01",
    "2017-05-01",
    "2016-07-01",
    "2015-07-01",
];

macro_rules! rows {
    ($($namespace:ident $versions:ident { $($name:literal $(= $kind:ident)? $($regional:ident)?),+ $(,)? })+) => {
        /// Every resource type that a provider advertises, with those that are resources here.
        pub const TYPES: &[TypeRow] = &[$($(TypeRow {
            namespace: $namespace,
            type_name: $name,
            resource_type: rows!(@kind $($kind)?),
            api_versions: $versions,
            is_regional: rows!(@regional $($regional)?),
        },)+)+];
    };
    (@kind) => { None };
    (@kind $kind:ident) => { Some(ResourceType::$kind) };
    (@regional) => { false };
    (@regional regional) => { true };
}

rows! {
    DIGITAL_TWINS DIGITAL_TWINS_VERSIONS {
        "digitalTwinsInstances" = DigitalTwinsInstance regional,
        "digitalTwinsInstances/endpoints" = DigitalTwinsEndpoint regional,
        "digitalTwinsInstances/operationResults" regional,
        "locations",
        "locations/checkNameAvailability" regional,
        "locations/operationResults" regional,
        "locations/operationsStatuses" regional,
        "operations",
    }
    DEVICES HUB_VERSIONS {
        "IotHubs" = IotHub regional,
        "checkNameAvailability",
        "operations",
        "usages",
    }
    DEVICES PROVISIONING_VERSIONS {
        "provisioningServices" = ProvisioningService regional,
        "checkProvisioningServiceNameAvailability",
    }
    EVENT_HUB EVENT_HUB_VERSIONS {
        "namespaces" = EventHubNamespace regional,
        "namespaces/eventhubs" = EventHub,
        "namespaces/authorizationrules",
        "namespaces/eventhubs/authorizationrules",
        "checkNameAvailability",
    }
    STORAGE STORAGE_VERSIONS {
        "storageAccounts" = StorageAccount regional,
        "checkNameAvailability",
    }
    MANAGED_IDENTITY MANAGED_IDENTITY_VERSIONS {
        "userAssignedIdentities" = UserAssignedIdentity regional,
    }
    RESOURCES RESOURCES_VERSIONS {
        "tenants",
        "subscriptions",
        "subscriptions/locations",
        "subscriptions/providers",
        "subscriptions/operationresults",
        "subscriptions/resources",
        "subscriptions/resourceGroups" regional,
        "resourceGroups" regional,
        "resources",
    }
    AUTHORIZATION AUTHORIZATION_VERSIONS {
        "roleAssignments",
        "roleDefinitions",
    }
}

impl ResourceType {
    pub fn row(self) -> &'static TypeRow {
        TYPES.iter().find(|row| row.resource_type == Some(self)).expect("every resource type has a row")
    }

    /// `Microsoft.X/type`, as `type` of a resource spells it.
    pub fn full_name(self) -> String {
        format!("{}/{}", self.row().namespace, self.row().type_name)
    }

    pub fn namespace(self) -> &'static str {
        self.row().namespace
    }

    /// The actions that a role has to name.
    pub fn actions(self) -> Actions {
        let (read, write, delete) = match self {
            Self::DigitalTwinsInstance => (
                "Microsoft.DigitalTwins/digitalTwinsInstances/read",
                "Microsoft.DigitalTwins/digitalTwinsInstances/write",
                "Microsoft.DigitalTwins/digitalTwinsInstances/delete",
            ),
            Self::DigitalTwinsEndpoint => (
                "Microsoft.DigitalTwins/digitalTwinsInstances/endpoints/read",
                "Microsoft.DigitalTwins/digitalTwinsInstances/endpoints/write",
                "Microsoft.DigitalTwins/digitalTwinsInstances/endpoints/delete",
            ),
            Self::IotHub => (
                "Microsoft.Devices/iotHubs/Read",
                "Microsoft.Devices/iotHubs/Write",
                "Microsoft.Devices/iotHubs/Delete",
            ),
            Self::ProvisioningService => (
                "Microsoft.Devices/provisioningServices/Read",
                "Microsoft.Devices/provisioningServices/Write",
                "Microsoft.Devices/provisioningServices/Delete",
            ),
            Self::EventHubNamespace => (
                "Microsoft.EventHub/namespaces/read",
                "Microsoft.EventHub/namespaces/write",
                "Microsoft.EventHub/namespaces/Delete",
            ),
            Self::EventHub => (
                "Microsoft.EventHub/namespaces/eventhubs/read",
                "Microsoft.EventHub/namespaces/eventhubs/write",
                "Microsoft.EventHub/namespaces/eventhubs/Delete",
            ),
            Self::StorageAccount => (
                "Microsoft.Storage/storageAccounts/read",
                "Microsoft.Storage/storageAccounts/write",
                "Microsoft.Storage/storageAccounts/delete",
            ),
            Self::UserAssignedIdentity => (
                "Microsoft.ManagedIdentity/userAssignedIdentities/read",
                "Microsoft.ManagedIdentity/userAssignedIdentities/write",
                "Microsoft.ManagedIdentity/userAssignedIdentities/delete",
            ),
        };
        Actions { read, write, delete }
    }

    /// Whether a resource is made and deleted within its request. Its operation stays behind for a crash in between.
    pub(crate) fn is_made_at_once(self) -> bool {
        matches!(self, Self::EventHub | Self::StorageAccount | Self::UserAssignedIdentity)
    }

    /// The type that resources of this type are children of.
    pub fn parent(self) -> Option<Self> {
        match self {
            Self::DigitalTwinsEndpoint => Some(Self::DigitalTwinsInstance),
            Self::EventHub => Some(Self::EventHubNamespace),
            Self::DigitalTwinsInstance
            | Self::IotHub
            | Self::ProvisioningService
            | Self::EventHubNamespace
            | Self::StorageAccount
            | Self::UserAssignedIdentity => None,
        }
    }

    /// The types whose resources belong to resources of this type.
    pub fn children(self) -> &'static [Self] {
        match self {
            Self::DigitalTwinsInstance => &[Self::DigitalTwinsEndpoint],
            Self::EventHubNamespace => &[Self::EventHub],
            Self::DigitalTwinsEndpoint
            | Self::IotHub
            | Self::ProvisioningService
            | Self::EventHub
            | Self::StorageAccount
            | Self::UserAssignedIdentity => &[],
        }
    }
}

pub fn find_row(namespace: &str, type_name: &str) -> Option<&'static TypeRow> {
    TYPES.iter().find(|row| {
        row.namespace.eq_ignore_ascii_case(namespace) && row.type_name.eq_ignore_ascii_case(type_name)
    })
}

pub fn find_type(namespace: &str, type_name: &str) -> Option<ResourceType> {
    find_row(namespace, type_name)?.resource_type
}

/// The namespace in Azure's spelling.
pub fn find_namespace(text: &str) -> Option<&'static str> {
    NAMESPACES.iter().copied().find(|namespace| namespace.eq_ignore_ascii_case(text))
}

/// Whether a type may be addressed with `version`: one of the published ones, or a date after the newest of them, which
/// is what a client sends that is younger than this list.
pub fn accepts(row: &TypeRow, version: &str) -> bool {
    let newest = row.api_versions.first().copied().unwrap_or_default();
    row.api_versions.iter().any(|known| known.eq_ignore_ascii_case(version))
        || is_well_formed(version) && version.get(..10) > newest.get(..10)
}

/// `YYYY-MM-DD`, alone or followed by `-preview` and the like.
pub fn is_well_formed(version: &str) -> bool {
    let bytes = version.as_bytes();
    let date = bytes.len() >= 10
        && bytes[..10].iter().enumerate().all(|(at, byte)| match at {
            4 | 7 => *byte == b'-',
            _ => byte.is_ascii_digit(),
        });
    let suffix_is_fine = bytes.get(10..).is_some_and(|rest| {
        rest.is_empty()
            || rest[0] == b'-' && rest.len() > 1 && rest[1..].iter().all(u8::is_ascii_alphanumeric)
    });
    date && suffix_is_fine
        && ("01"..="12").contains(&&version[5..7])
        && ("01"..="31").contains(&&version[8..10])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_namespace_has_types_and_versions_run_from_new_to_old() {
        for namespace in NAMESPACES {
            assert!(TYPES.iter().any(|row| row.namespace == *namespace), "{namespace}");
        }
        for row in TYPES {
            assert!(
                row.api_versions.windows(2).all(|pair| pair[0][..10] >= pair[1][..10]),
                "{}",
                row.type_name
            );
        }
    }

    #[test]
    fn published_versions_and_younger_ones_are_accepted() {
        let row = ResourceType::DigitalTwinsInstance.row();
        for version in ["2022-05-31", "2023-01-31", "2021-06-30-PREVIEW", "2030-01-01"] {
            assert!(accepts(row, version), "{version}");
        }
        for version in ["1999-01-01", "2022-05-30", "yesterday", "2030-13-01", "2030-01-01-", ""] {
            assert!(!accepts(row, version), "{version}");
        }
    }

    proptest! {
        #[test]
        fn no_version_makes_the_check_panic(text in "\\PC{0,16}") {
            for row in TYPES {
                let _ = accepts(row, &text);
            }
        }
    }
}

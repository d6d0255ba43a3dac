//! What Resource Manager has of everything, event hub namespaces, and principals with their roles.

use access::roles::{self, RoleDefinition};
use base::Secret;
use resource_manager::ResourceType;
use resource_manager::resource::Tags;
use serde_json::Value;
use storage::ContainerName;
use uuid::Uuid;

use super::{Entry, each};
use crate::seed::table::{Table, hint};

/// Where a resource is, and how it is tagged.
#[derive(Clone, Debug)]
pub(in crate::seed) struct Place {
    pub(in crate::seed) location: Option<String>,
    pub(in crate::seed) tags: Option<Tags>,
}

impl Place {
    pub(super) fn read(table: &Table<'_>) -> Self {
        let text = |(name, value): (String, Value)| {
            let text = value.as_str().map(|text| (name.clone(), text.to_owned()));
            text.or_else(|| {
                table.fault("tags", format_args!("the tag `{name}` is a text"));
                None
            })
        };
        let tags = table.object("tags").map(|tags| tags.into_iter().filter_map(text).collect());
        Self { location: table.text("location"), tags }
    }
}

/// The name of a resource, which its type must allow.
pub(super) fn name(table: &mut Table<'_>, resource_type: ResourceType) -> Option<String> {
    let name: Option<String> = table.required("name");
    if let Some(name) = &name {
        table.name(name);
        if let Err(wrong) = resource_type.check_name(name) {
            table.fault("name", wrong);
        }
    }
    name
}

#[derive(Clone, Debug)]
pub(in crate::seed) struct Namespace {
    pub(in crate::seed) name: String,
    pub(in crate::seed) place: Place,
    pub(in crate::seed) event_hubs: Vec<Entry<EventHub>>,
}

#[derive(Clone, Debug)]
pub(in crate::seed) struct EventHub {
    pub(in crate::seed) name: String,
    pub(in crate::seed) partitions: Option<u32>,
    pub(in crate::seed) retention_days: Option<u32>,
}

impl Namespace {
    pub(super) fn read(table: &mut Table<'_>) -> Option<Self> {
        let name = name(table, ResourceType::EventHubNamespace);
        Some(Self {
            place: Place::read(table),
            event_hubs: each(table, "event_hubs", "event hub", EventHub::read),
            name: name?,
        })
    }
}

impl EventHub {
    fn read(table: &mut Table<'_>) -> Option<Self> {
        let name = name(table, ResourceType::EventHub);
        Some(Self {
            partitions: table.number("partitions"),
            retention_days: table.number("retention_days"),
            name: name?,
        })
    }
}

#[derive(Clone, Debug)]
pub(in crate::seed) struct StorageAccount {
    pub(in crate::seed) name: String,
    pub(in crate::seed) place: Place,
    pub(in crate::seed) sku: Option<String>,
    pub(in crate::seed) containers: Vec<Entry<Container>>,
}

#[derive(Clone, Debug)]
pub(in crate::seed) struct Container {
    pub(in crate::seed) name: ContainerName,
}

impl StorageAccount {
    pub(super) fn read(table: &mut Table<'_>) -> Option<Self> {
        let name = name(table, ResourceType::StorageAccount);
        Some(Self {
            place: Place::read(table),
            sku: table.text("sku"),
            containers: each(table, "containers", "container", Container::read),
            name: name?,
        })
    }
}

impl Container {
    fn read(table: &mut Table<'_>) -> Option<Self> {
        let name: Option<ContainerName> = table.required("name");
        if let Some(name) = &name {
            table.name(name);
        }
        Some(Self { name: name? })
    }
}

#[derive(Clone, Debug)]
pub(in crate::seed) struct Principal {
    pub(in crate::seed) name: String,
    pub(in crate::seed) client_id: Option<Uuid>,
    pub(in crate::seed) client_secret: Option<Secret>,
    pub(in crate::seed) roles: Vec<Entry<Role>>,
}

#[derive(Clone, Debug)]
pub(in crate::seed) struct Role {
    pub(in crate::seed) role: &'static RoleDefinition,
    pub(in crate::seed) at: RoleAt,
}

/// Where a role is held.
#[derive(Clone, Debug)]
pub(in crate::seed) enum RoleAt {
    Subscription,
    Group,
    Resource(ResourceType, String),
}

/// Entra's own are longer; shorter ones can be guessed.
const CLIENT_SECRET_CHARACTERS_MIN: usize = 16;

impl Principal {
    pub(super) fn read(table: &mut Table<'_>) -> Option<Self> {
        let name: Option<String> = table.required("name");
        if let Some(name) = &name {
            table.name(name);
            if name == crate::first_start::PRINCIPAL {
                table.fault("name", "the server makes this one itself, and `twinhub env` prints its secret; take another name");
            }
        }
        let client_secret = table.text("client_secret");
        if client_secret.as_ref().is_some_and(|secret| secret.chars().count() < CLIENT_SECRET_CHARACTERS_MIN)
        {
            let least = CLIENT_SECRET_CHARACTERS_MIN;
            table.fault("client_secret", format_args!("`client_secret` has {least} characters at least"));
        }
        Some(Self {
            client_id: table.parsed("client_id"),
            client_secret: client_secret.map(Secret::new),
            roles: each(table, "roles", "role", Role::read),
            name: name?,
        })
    }
}

impl Role {
    fn read(table: &mut Table<'_>) -> Option<Self> {
        let named: Option<String> = table.required("role");
        let role = named.as_ref().and_then(|named| find_role(named));
        if let Some(named) = &named {
            table.name(named);
            if role.is_none() {
                let hint = hint(named, roles::ALL.iter().map(|role| role.role_name));
                table.fault("role", format_args!("there is no such role{hint}"));
            }
        }
        let at = role_at(table);
        Some(Self { role: role?, at: at? })
    }
}

fn find_role(named: &str) -> Option<&'static RoleDefinition> {
    let by_name = || roles::ALL.iter().find(|role| role.role_name.eq_ignore_ascii_case(named));
    roles::find(named).or_else(by_name)
}

/// At one resource, at all of the resource group's, or at the whole subscription, which holds where nothing is said.
fn role_at(table: &Table<'_>) -> Option<RoleAt> {
    let resources = [
        ("hub", ResourceType::IotHub),
        ("provisioning_service", ResourceType::ProvisioningService),
        ("digital_twins_instance", ResourceType::DigitalTwinsInstance),
        ("event_hub_namespace", ResourceType::EventHubNamespace),
    ];
    let named = resources.map(|(name, kind)| table.text(name).map(|text| RoleAt::Resource(kind, text)));
    let mut at: Vec<RoleAt> = named.into_iter().flatten().collect();
    let scopes = [("subscription", false), ("group", true)];
    if let Some(is_group) = table.choice("scope", &scopes) {
        at.push(if is_group { RoleAt::Group } else { RoleAt::Subscription });
    }
    if at.len() > 1 {
        table.fault("role", "a role is held at one place: `scope`, or one resource");
        return None;
    }
    Some(at.pop().unwrap_or(RoleAt::Subscription))
}

//! Hubs, their devices and those devices' modules.

use base::json::Object;
use base::{DeviceId, ModuleId};
use hub::device::rules::{self, Subject};
use hub::device::{AuthenticationKind, AuthenticationSpec, Status};
use hub::twin::TwinReplacement;
use serde_json::{Map, Value, json};

use super::{DEFAULT_HUB, Entry, each};
use crate::seed::entries::resources::{self, Place};
use crate::seed::table::Table;

#[derive(Clone, Debug)]
pub(in crate::seed) struct Hub {
    pub(in crate::seed) name: String,
    pub(in crate::seed) place: Place,
    pub(in crate::seed) sku: Option<String>,
    pub(in crate::seed) units: Option<u32>,
    pub(in crate::seed) partitions: Option<u32>,
    pub(in crate::seed) retention_days: Option<u32>,
}

impl Hub {
    pub(super) fn read(table: &mut Table<'_>) -> Option<Self> {
        let name = resources::name(table, resource_manager::ResourceType::IotHub);
        Some(Self {
            place: Place::read(table),
            sku: table.text("sku"),
            units: table.number("units"),
            partitions: table.number("partitions"),
            retention_days: table.number("retention_days"),
            name: name?,
        })
    }
}

#[derive(Clone, Debug)]
pub(in crate::seed) struct Device {
    pub(in crate::seed) hub: String,
    pub(in crate::seed) id: DeviceId,
    pub(in crate::seed) status: Option<Status>,
    pub(in crate::seed) status_reason: Option<String>,
    pub(in crate::seed) edge: Option<bool>,
    /// The IoT Edge device above it.
    pub(in crate::seed) parent: Option<DeviceId>,
    pub(in crate::seed) authentication: AuthenticationSpec,
    pub(in crate::seed) twin: Twin,
    pub(in crate::seed) modules: Vec<Entry<Module>>,
}

#[derive(Clone, Debug)]
pub(in crate::seed) struct Module {
    pub(in crate::seed) id: ModuleId,
    pub(in crate::seed) managed_by: Option<String>,
    pub(in crate::seed) authentication: AuthenticationSpec,
    pub(in crate::seed) twin: Twin,
}

/// What the seed says of a twin; a section that it does not name is left alone.
#[derive(Clone, Debug, Default, PartialEq)]
pub(in crate::seed) struct Twin {
    pub(in crate::seed) tags: Option<Object>,
    pub(in crate::seed) desired: Option<Object>,
}

impl Device {
    pub(super) fn read(table: &mut Table<'_>) -> Option<Self> {
        let id: Option<DeviceId> = table.required("id");
        if let Some(id) = &id {
            table.name(id);
        }
        let statuses = [("enabled", Status::Enabled), ("disabled", Status::Disabled)];
        let device = Self {
            hub: table.text("hub").unwrap_or_else(|| DEFAULT_HUB.to_owned()),
            status: table.choice("status", &statuses),
            status_reason: table.text("status_reason"),
            edge: table.flag("edge"),
            parent: table.parsed("parent"),
            authentication: authentication(table, Subject::Device),
            twin: Twin::read(table),
            modules: each(table, "modules", "module", Module::read),
            id: id?,
        };
        if let Err(error) = rules::check_status_reason(device.status_reason.as_deref()) {
            table.fault("status_reason", error);
        }
        Some(device)
    }
}

impl Module {
    fn read(table: &mut Table<'_>) -> Option<Self> {
        let id: Option<ModuleId> = table.required("id");
        if let Some(id) = &id {
            table.name(id);
        }
        Some(Self {
            managed_by: table.text("managed_by"),
            authentication: authentication(table, Subject::Module),
            twin: Twin::read(table),
            id: id?,
        })
    }
}

fn authentication(table: &Table<'_>, subject: Subject) -> AuthenticationSpec {
    let kinds = [
        ("sas", AuthenticationKind::Sas),
        ("selfSigned", AuthenticationKind::SelfSigned),
        ("certificateAuthority", AuthenticationKind::CertificateAuthority),
    ];
    let spec = AuthenticationSpec {
        kind: table.choice("authentication", &kinds),
        primary_key: table.key("primary_key"),
        secondary_key: table.key("secondary_key"),
        primary_thumbprint: table.text("primary_thumbprint"),
        secondary_thumbprint: table.text("secondary_thumbprint"),
    };
    let (keys, thumbprints) =
        (has_keys(&spec), spec.primary_thumbprint.is_some() || spec.secondary_thumbprint.is_some());
    if keys && (thumbprints || !matches!(spec.kind, None | Some(AuthenticationKind::Sas))) {
        table.fault("primary_key", "keys are for `authentication = \"sas\"`, without thumbprints");
    }
    if spec.secondary_key.is_some() && spec.primary_key.is_none() {
        table.fault("secondary_key", "`secondary_key` comes with `primary_key`");
    }
    // The other rules are the hub's own. A second key is found when the seed is applied.
    let checked = AuthenticationSpec { primary_key: None, secondary_key: None, ..spec.clone() };
    if let Err(error) = rules::authentication(&checked, subject) {
        table.fault("primary_thumbprint", error);
    }
    spec
}

pub(in crate::seed) fn has_keys(spec: &AuthenticationSpec) -> bool {
    spec.primary_key.is_some() || spec.secondary_key.is_some()
}

impl Twin {
    fn read(table: &Table<'_>) -> Self {
        let twin = Self { tags: table.object("tags"), desired: table.object("desired") };
        for (name, section) in [("tags", &twin.tags), ("desired", &twin.desired)] {
            let alone = match name {
                "tags" => Self { tags: section.clone(), desired: None },
                _ => Self { tags: None, desired: section.clone() },
            };
            if let Err(error) = alone.over(&Object::new(), &Object::new()).and_then(|twin| twin.check()) {
                table.fault(name, error);
            }
        }
        twin
    }

    pub(in crate::seed) fn says_nothing(&self) -> bool {
        *self == Self::default()
    }

    /// What tags and desired properties become that are now these.
    pub(in crate::seed) fn over(
        &self,
        tags: &Object,
        desired: &Object,
    ) -> Result<TwinReplacement, hub::Error> {
        let of = |said: &Option<Object>, now: &Object| said.clone().unwrap_or_else(|| now.clone());
        TwinReplacement::from_json(&json!({
            "tags": of(&self.tags, tags),
            "properties": {"desired": of(&self.desired, desired)},
        }))
    }

    /// As provisioning keeps it for devices to come.
    pub(in crate::seed) fn initial(&self) -> Option<Value> {
        if self.says_nothing() {
            return None;
        }
        let mut twin = Map::new();
        if let Some(tags) = &self.tags {
            twin.insert("tags".to_owned(), Value::Object(tags.clone()));
        }
        if let Some(desired) = &self.desired {
            twin.insert("properties".to_owned(), json!({"desired": desired}));
        }
        Some(Value::Object(twin))
    }

    pub(super) fn of(table: &Table<'_>) -> Self {
        Self::read(table)
    }
}

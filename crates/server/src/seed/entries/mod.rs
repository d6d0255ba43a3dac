//! What a seed says, as the domain's own types: read from tables, held against the rules that need no store. Pure but for the files
//! that a seed names.

pub(super) mod digital_twins;
pub(super) mod hubs;
pub(super) mod provisioning;
pub(super) mod resources;

use std::collections::HashSet;
use std::fmt::Display;
use std::path::Path;

use super::document::Node;
use super::fault::Faults;
use super::table::Table;

pub(super) const DEFAULT_HUB: &str = "hub";
pub(super) const DEFAULT_SERVICE: &str = "dps";
pub(super) const DEFAULT_TWINS: &str = "twins";

/// Something to be there, with what people call it and where the file says so.
#[derive(Clone, Debug)]
pub(super) struct Entry<T> {
    pub(super) name: String,
    pub(super) line: usize,
    pub(super) what: T,
}

#[derive(Debug, Default)]
pub(super) struct Entries {
    pub(super) hubs: Vec<Entry<hubs::Hub>>,
    pub(super) devices: Vec<Entry<hubs::Device>>,
    pub(super) services: Vec<Entry<provisioning::Service>>,
    pub(super) enrollments: Vec<Entry<provisioning::Enrollment>>,
    pub(super) instances: Vec<Entry<digital_twins::Instance>>,
    pub(super) models: Vec<Entry<digital_twins::Model>>,
    pub(super) digital_twins: Vec<Entry<digital_twins::Twin>>,
    pub(super) relationships: Vec<Entry<digital_twins::Relationship>>,
    pub(super) endpoints: Vec<Entry<digital_twins::Endpoint>>,
    pub(super) event_routes: Vec<Entry<digital_twins::EventRoute>>,
    pub(super) namespaces: Vec<Entry<resources::Namespace>>,
    pub(super) accounts: Vec<Entry<resources::StorageAccount>>,
    pub(super) principals: Vec<Entry<resources::Principal>>,
}

/// What somebody would look for in a seed, and why it is not to be had.
const NOT_YET: &[(&str, &str)] = &[
    ("routes", "message routing of hubs is not built yet; routes of Digital Twins are `event_routes`"),
    ("message_routes", "message routing of hubs is not built yet"),
    (
        "custom_endpoints",
        "custom endpoints of hubs are not built yet; those of Digital Twins are `endpoints`",
    ),
    ("configurations", "configurations and deployments are not built yet"),
    ("deployments", "configurations and deployments are not built yet"),
    ("jobs", "jobs are not built yet"),
    ("certificates", "certificates of hubs are not built yet"),
];

impl Entries {
    /// Reads all that `root` says; `folder` is where relative paths begin.
    pub(super) fn read(root: &Node, folder: &Path, faults: &Faults) -> Self {
        let table = Table::of("the seed", root, faults);
        let all = Self {
            hubs: each(&table, "hubs", "hub", hubs::Hub::read),
            devices: each(&table, "devices", "device", hubs::Device::read),
            services: each(
                &table,
                "provisioning_services",
                "provisioning service",
                provisioning::Service::read,
            ),
            enrollments: {
                let read = |table: &mut Table<'_>| provisioning::Enrollment::individual(table, folder);
                let mut all = each(&table, "enrollments", "enrollment", read);
                let read = |table: &mut Table<'_>| provisioning::Enrollment::group(table, folder);
                all.extend(each(&table, "enrollment_groups", "enrollment group", read));
                all
            },
            instances: each(
                &table,
                "digital_twins_instances",
                "Digital Twins instance",
                digital_twins::Instance::read,
            ),
            models: digital_twins::Model::read_all(&table, folder),
            digital_twins: each(&table, "digital_twins", "digital twin", digital_twins::Twin::read),
            relationships: each(&table, "relationships", "relationship", digital_twins::Relationship::read),
            endpoints: each(&table, "endpoints", "endpoint", digital_twins::Endpoint::read),
            event_routes: each(&table, "event_routes", "event route", digital_twins::EventRoute::read),
            namespaces: each(&table, "event_hub_namespaces", "namespace", resources::Namespace::read),
            accounts: each(&table, "storage_accounts", "storage account", resources::StorageAccount::read),
            principals: each(&table, "principals", "principal", resources::Principal::read),
        };
        table.end(NOT_YET);
        all.refuse_second_ones(faults);
        all
    }

    /// Two entries for one thing would undo each other at every start.
    fn refuse_second_ones(&self, faults: &Faults) {
        once(faults, &self.hubs, |hub| hub.name.clone());
        once(faults, &self.devices, |device| format!("{} {}", device.hub, device.id));
        for device in &self.devices {
            once(faults, &device.what.modules, |module| module.id.to_string());
        }
        once(faults, &self.services, |service| service.name.clone());
        once(faults, &self.enrollments, |one| {
            format!("{} {:?} {}", one.service, one.draft.kind, one.draft.id)
        });
        once(faults, &self.instances, |instance| instance.name.clone());
        once(faults, &self.models, |model| format!("{} {}", model.instance, model.id));
        once(faults, &self.digital_twins, |twin| format!("{} {}", twin.instance, twin.id));
        once(faults, &self.relationships, |one| format!("{} {} {}", one.instance, one.source, one.id));
        once(faults, &self.endpoints, |one| format!("{} {}", one.instance, one.name));
        once(faults, &self.event_routes, |one| format!("{} {}", one.instance, one.id));
        once(faults, &self.namespaces, |one| one.name.clone());
        once(faults, &self.accounts, |one| one.name.clone());
        for account in &self.accounts {
            once(faults, &account.what.containers, |one| one.name.to_string());
        }
        once(faults, &self.principals, |one| one.name.clone());
    }
}

fn once<T, K: Display>(faults: &Faults, entries: &[Entry<T>], key: impl Fn(&T) -> K) {
    let mut seen = HashSet::new();
    for entry in entries {
        if !seen.insert(key(&entry.what).to_string()) {
            faults.add(entry.line, format!("{} is in the seed twice", entry.name));
        }
    }
}

/// The entries of one list. What could not be read has left its faults behind.
fn each<T>(
    table: &Table<'_>,
    name: &'static str,
    kind: &str,
    read: impl Fn(&mut Table<'_>) -> Option<T>,
) -> Vec<Entry<T>> {
    let mut entries = Vec::new();
    for mut table in table.tables(name, kind) {
        let what = read(&mut table);
        table.end(not_yet_of(name));
        entries.extend(what.map(|what| Entry { name: table.what.clone(), line: table.line, what }));
    }
    entries
}

fn not_yet_of(list: &str) -> &'static [(&'static str, &'static str)] {
    const ROUTING: &str = "message routing of hubs is not built yet";
    match list {
        "hubs" => &[
            ("routes", ROUTING),
            ("routing", ROUTING),
            ("endpoints", "custom endpoints of hubs are not built yet"),
            ("enrichments", ROUTING),
            ("fallback_route", ROUTING),
            ("consumer_groups", "consumer groups of hubs are not built yet"),
            (
                "file_upload",
                "a hub's own account for uploads is set through Resource Manager; without one, uploads go to the account `storage`",
            ),
            ("policies", "policies are made with the hub; fixed keys are --well-known-keys"),
            ("devices", "devices have a list of their own, and name their `hub`"),
        ],
        "devices" => &[("reported", "reported properties are the device's to report")],
        "enrollments" | "enrollment_groups" => &[
            ("custom_allocation", "custom allocation is not built yet"),
            ("webhook_url", "custom allocation is not built yet"),
            ("credential_policy", "certificates from a CSR are not built yet"),
        ],
        "endpoints" => &[
            ("identity", "endpoints by identity are made through Resource Manager"),
            ("endpoint_uri", "endpoints by identity are made through Resource Manager"),
        ],
        "digital_twins_instances" => &[("time_series", "data history is not built yet")],
        _ => &[],
    }
}

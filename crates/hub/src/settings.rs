//! What an operator decides of a hub: its names, policies and partitions. Stored as one record per hub.
//! Resource Manager makes it and `Hubs::ensure` applies it; nothing else writes it.

use std::time::Duration;

use access::{CaCertificates, IpFilter, Network, Right, SharedAccessPolicy};
use base::hosts::Service;
use base::{ConnectionString, InstanceId, Scope, caps};
use serde::{Deserialize, Serialize};
use store::instances::Settings;
use store::{Key, Record, Table, table};

use crate::consumer_group::ConsumerGroups;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HubSettings {
    pub instance: InstanceId,
    pub name: String,
    /// The hub's path in Resource Manager.
    pub scope: Scope,
    pub location: String,
    pub policies: Vec<SharedAccessPolicy>,
    /// Partitions of the event stream; never changed after the creation.
    pub partition_count: u32,
    /// 1 to 7 days.
    pub retention_days: u32,
    /// CA certificates that were uploaded to the hub; devices come in below those that are verified. `Hubs::ensure` leaves them as
    /// they are.
    #[serde(default)]
    pub certificates: CaCertificates,
    /// Refuses the keys of shared access policies; devices keep theirs.
    #[serde(default)]
    pub disable_local_auth: bool,
    /// `false`: only callers from this machine may use the data plane. The doors ask; they know the peer.
    #[serde(default = "yes")]
    pub public_network_access: bool,
    /// Addresses that may come in. The doors ask; they know the peer.
    #[serde(default)]
    pub ip_filter: IpFilter,
    #[serde(default)]
    pub cloud_to_device: CloudToDevice,
    /// Of the built-in endpoint. `Hubs::ensure` leaves them as they are.
    #[serde(default)]
    pub consumer_groups: ConsumerGroups,
    #[serde(default)]
    pub file_upload: FileUpload,
    /// Counts changes of configurations that twins may feel; 0 as long as there never was one. `Hubs::ensure` leaves it as it is.
    #[serde(default)]
    pub configurations: u64,
    /// The default hub answers at `localhost` and at unknown host names.
    #[serde(default)]
    pub is_default: bool,
}

/// What becomes of messages to devices, where nobody says otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CloudToDevice {
    /// A message that was given back so often is not delivered any more.
    pub max_delivery_count: u32,
    pub default_ttl: Duration,
    pub feedback: ServiceBoundQueue,
}

/// What becomes of notices for back ends: feedback on messages, and notifications of uploaded files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceBoundQueue {
    /// How long somebody who fetched it may take to settle it.
    pub lock: Duration,
    pub ttl: Duration,
    pub max_delivery_count: u32,
}

impl Default for CloudToDevice {
    /// What a new hub has (`iothub-service.md` §15).
    fn default() -> Self {
        let feedback = ServiceBoundQueue::default();
        Self { max_delivery_count: 10, default_ttl: Duration::from_hours(1), feedback }
    }
}

impl Default for ServiceBoundQueue {
    /// Of both kinds, in a new hub.
    fn default() -> Self {
        Self { lock: Duration::from_mins(1), ttl: Duration::from_hours(1), max_delivery_count: 10 }
    }
}

/// Where devices upload files to, and who is told of them. A new hub has no storage and tells nobody.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FileUpload {
    pub storage: Option<StorageEndpoint>,
    pub is_notified: bool,
    pub notifications: ServiceBoundQueue,
}

/// A container, and the account's key by which devices are let in to it, one blob each.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StorageEndpoint {
    pub connection_string: ConnectionString,
    pub container_name: String,
    /// How long a device may take to upload.
    pub ttl: Duration,
}

fn yes() -> bool {
    true
}

impl HubSettings {
    /// A hub with the default policies and sizes.
    pub fn new(instance: InstanceId, name: &str, scope: Scope, location: &str) -> Self {
        Self {
            instance,
            name: name.to_owned(),
            scope,
            location: location.to_owned(),
            policies: Self::default_policies(),
            partition_count: caps::HUB_PARTITIONS_DEFAULT,
            retention_days: 1,
            certificates: CaCertificates::default(),
            disable_local_auth: false,
            public_network_access: true,
            ip_filter: IpFilter::default(),
            cloud_to_device: CloudToDevice::default(),
            consumer_groups: ConsumerGroups::default(),
            file_upload: FileUpload::default(),
            configurations: 0,
            is_default: false,
        }
    }

    /// The five policies that every new hub has (`iothub-service.md` §1.2).
    pub fn default_policies() -> Vec<SharedAccessPolicy> {
        use Right::{DeviceConnect, RegistryRead, RegistryWrite, ServiceConnect};
        let policy = SharedAccessPolicy::generate;
        vec![
            policy("iothubowner", &[RegistryWrite, ServiceConnect, DeviceConnect]),
            policy("service", &[ServiceConnect]),
            policy("device", &[DeviceConnect]),
            policy("registryRead", &[RegistryRead]),
            policy("registryReadWrite", &[RegistryWrite]),
        ]
    }

    /// From where one may come in.
    pub fn network(&self) -> Network<'_> {
        Network { is_public: self.public_network_access, filter: &self.ip_filter }
    }

    pub fn policy(&self, key_name: &str) -> Option<&SharedAccessPolicy> {
        self.policies.iter().find(|policy| policy.key_name == key_name)
    }
}

impl Record for HubSettings {
    const TABLE: Table = table::HUB;
    const IS_KEPT: bool = true;

    fn key(&self) -> Key {
        Key::instance(&self.instance)
    }
}

impl Settings for HubSettings {
    const SERVICE: Service = Service::Hub;

    fn instance(&self) -> &InstanceId {
        &self.instance
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn location(&self) -> &str {
        &self.location
    }

    fn is_default(&self) -> bool {
        self.is_default
    }

    fn set_default(&mut self, is_default: bool) {
        self.is_default = is_default;
    }

    fn keep(&mut self, old: &Self) {
        self.name.clone_from(&old.name);
        self.partition_count = old.partition_count;
        self.certificates.clone_from(&old.certificates);
        self.consumer_groups.clone_from(&old.consumer_groups);
        self.configurations = old.configurations;
    }
}

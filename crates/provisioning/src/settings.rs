//! What an operator decides of a provisioning service. Stored as one record; Resource Manager makes it, `Services::ensure` applies it.

use access::{CaCertificates, IpFilter, Network, Right, SharedAccessPolicy};
use base::hosts::Service;
use base::{ConnectionString, InstanceId, Scope, Secret};
use hub::Hub;
use serde::{Deserialize, Serialize};
use store::instances::Settings;
use store::{Key, Record, Table, table};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceSettings {
    pub instance: InstanceId,
    pub name: String,
    /// The service's path in Resource Manager.
    pub scope: Scope,
    pub location: String,
    /// `0ne` and eight hex digits; made once, never changed.
    pub id_scope: String,
    pub allocation_policy: AllocationPolicy,
    pub policies: Vec<SharedAccessPolicy>,
    pub linked_hubs: Vec<LinkedHub>,
    /// CA certificates that were uploaded to the service; enrollments name them. `Services::ensure` leaves them as they are.
    #[serde(default)]
    pub certificates: CaCertificates,
    #[serde(default)]
    pub disable_local_auth: bool,
    #[serde(default = "yes")]
    pub public_network_access: bool,
    /// Addresses that may come in. The doors ask; they know the peer.
    #[serde(default)]
    pub ip_filter: IpFilter,
    /// The default service answers at `localhost` and at unknown host names.
    #[serde(default)]
    pub is_default: bool,
}

fn yes() -> bool {
    true
}

/// How a device's hub is chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum AllocationPolicy {
    #[default]
    Hashed,
    GeoLatency,
    Static,
    Custom,
}

impl AllocationPolicy {
    /// In any case, as the service takes it.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Hashed, Self::GeoLatency, Self::Static, Self::Custom]
            .into_iter()
            .find(|policy| policy.name().eq_ignore_ascii_case(text))
    }

    /// The spelling of the service API; Resource Manager writes it with a capital.
    pub fn name(self) -> &'static str {
        match self {
            Self::Hashed => "hashed",
            Self::GeoLatency => "geoLatency",
            Self::Static => "static",
            Self::Custom => "custom",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LinkedHub {
    /// The host name of the connection string, which is also the link's name.
    pub host_name: String,
    /// The hub behind it when it was linked: an address leads elsewhere once the server has other settings.
    pub hub_name: String,
    pub connection_string: Secret,
    pub location: String,
    /// 1 to 1000.
    #[serde(default)]
    pub allocation_weight: Option<u32>,
    #[serde(default)]
    pub apply_allocation_policy: Option<bool>,
}

impl LinkedHub {
    /// Whether `hub` still lets the service in with what its operator once gave: policies and keys change.
    pub(crate) fn opens(&self, hub: &Hub) -> bool {
        let settings = hub.settings();
        let given = ConnectionString::new(self.connection_string.expose());
        let policy = given.shared_access_key_name().and_then(|name| settings.policy(name));
        let Some((policy, key)) = policy.zip(given.shared_access_key()) else { return false };
        !settings.disable_local_auth
            && policy.has_key(key)
            && policy.has_rights(&[Right::RegistryWrite, Right::ServiceConnect])
    }
}

/// How a name in an enrollment finds its link: by the link's own name, and by whatever else leads to the same hub.
pub(crate) type FindLink<'f, 'a> = dyn Fn(&str) -> Option<&'a LinkedHub> + Sync + 'f;

impl ServiceSettings {
    /// A service with the one default policy and no hub.
    pub fn new(instance: InstanceId, name: &str, scope: Scope, location: &str) -> Self {
        Self {
            instance,
            name: name.to_owned(),
            scope,
            location: location.to_owned(),
            id_scope: format!("0ne{}", base::secret::random_hex(4).to_ascii_uppercase()),
            allocation_policy: AllocationPolicy::Hashed,
            policies: Self::default_policies(),
            linked_hubs: Vec::new(),
            certificates: CaCertificates::default(),
            disable_local_auth: false,
            public_network_access: true,
            ip_filter: IpFilter::default(),
            is_default: false,
        }
    }

    /// The one policy that every new service has.
    pub fn default_policies() -> Vec<SharedAccessPolicy> {
        let rights = [Right::ServiceConfig, Right::DeviceConnect, Right::EnrollmentWrite];
        vec![SharedAccessPolicy::generate("provisioningserviceowner", &rights)]
    }

    /// From where one may come in.
    pub fn network(&self) -> Network<'_> {
        Network { is_public: self.public_network_access, filter: &self.ip_filter }
    }

    pub fn policy(&self, key_name: &str) -> Option<&SharedAccessPolicy> {
        self.policies.iter().find(|policy| policy.key_name == key_name)
    }

    /// A linked hub by its host name (with or without port), by its own name, or by the host name that Azure gives to that.
    pub fn linked_hub(&self, text: &str) -> Option<&LinkedHub> {
        let bare = base::hosts::strip_port;
        let name = base::hosts::hub_name_of(text).unwrap_or(text);
        let by_host = |hub: &&LinkedHub| bare(&hub.host_name).eq_ignore_ascii_case(bare(text));
        let by_name = |hub: &&LinkedHub| hub.hub_name.eq_ignore_ascii_case(name);
        self.linked_hubs.iter().find(by_host).or_else(|| self.linked_hubs.iter().find(by_name))
    }
}

impl Record for ServiceSettings {
    const TABLE: Table = table::PROVISIONING_SERVICE;
    const IS_KEPT: bool = true;

    fn key(&self) -> Key {
        Key::instance(&self.instance)
    }
}

impl Settings for ServiceSettings {
    const SERVICE: Service = Service::Provisioning;

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
        self.id_scope.clone_from(&old.id_scope);
        self.certificates.clone_from(&old.certificates);
    }
}

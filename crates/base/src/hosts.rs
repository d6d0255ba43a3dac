//! Names of instances: how a host name picks one, and which address an answer carries (*advertised host*, `design.md` §2).
//! What the machine can resolve and bind is told by `server`; the decision is made here and nowhere else.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use parking_lot::RwLock;

/// The services that have host names of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Service {
    Hub,
    Provisioning,
    DigitalTwins,
    EventHubs,
}

/// What a host name stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    /// An instance by name, in lower case.
    Instance(Service, String),
    /// `global.azure-devices-provisioning.{domain}`: any provisioning service; the id scope chooses.
    GlobalProvisioning,
    /// `localhost`, an address, or a name we do not know: the default instance of each service answers.
    Unnamed,
}

/// The region of every instance whose location gives no other short name.
const REGION_SHORT_NAMES: &[(&str, &str)] = &[
    ("eastus", "eus"),
    ("eastus2", "eus2"),
    ("westus", "wus"),
    ("westus2", "wus2"),
    ("westus3", "wus3"),
    ("westcentralus", "wcus"),
    ("southcentralus", "scus"),
    ("northeurope", "neu"),
    ("westeurope", "weu"),
    ("uksouth", "uks"),
    ("australiaeast", "aue"),
    ("southeastasia", "sea"),
    ("japaneast", "jpe"),
    ("koreacentral", "krc"),
    ("qatarcentral", "qac"),
    ("centralindia", "cin"),
];

/// Azure's short name of a region in Digital Twins host names; unknown locations keep their own name.
pub fn region_short_name(location: &str) -> String {
    let location: String = location.to_ascii_lowercase().split_whitespace().collect();
    let known = REGION_SHORT_NAMES.iter().find(|(name, _)| *name == location);
    known.map_or(location, |(_, short)| (*short).to_owned())
}

/// What only the running machine knows.
pub trait Machine: Send + Sync {
    /// Whether `name` resolves to an address that the server listens on.
    fn resolves_to_us(&self, name: &str) -> bool;
    /// Starts listening on a further loopback address on every port; false when it may not.
    fn listen_also(&self, address: Ipv4Addr) -> bool;
    /// The address that clients of this machine dial for the default instances.
    fn default_address(&self) -> IpAddr {
        Ipv4Addr::LOCALHOST.into()
    }
    /// An instance's own name is no longer in use.
    fn forgotten(&self, _name: &str) {}
}

/// A machine that resolves nothing and may bind nothing: tests, and commands that do not serve.
pub struct NoMachine;

impl Machine for NoMachine {
    fn resolves_to_us(&self, _name: &str) -> bool {
        false
    }

    fn listen_also(&self, _address: Ipv4Addr) -> bool {
        false
    }
}

/// A machine to which every name leads, so that answers carry the names that Azure would give: tests.
pub struct EveryName;

impl Machine for EveryName {
    fn resolves_to_us(&self, _name: &str) -> bool {
        true
    }

    fn listen_also(&self, _address: Ipv4Addr) -> bool {
        false
    }
}

/// All names of one server. Clones share it.
#[derive(Clone)]
pub struct Hosts(Arc<Inner>);

struct Inner {
    domain: String,
    /// The port that HTTPS addresses carry where a client lets them; 443 is left out.
    https_port: u16,
    machine: Box<dyn Machine>,
    known: RwLock<BTreeMap<(Service, String), Known>>,
}

#[derive(Clone)]
struct Known {
    canonical: String,
    advertised: String,
    address: Option<Ipv4Addr>,
    is_default: bool,
}

impl Hosts {
    pub fn new(domain: &str, https_port: u16, machine: impl Machine + 'static) -> Self {
        Self(Arc::new(Inner {
            domain: domain.to_ascii_lowercase(),
            https_port,
            machine: Box::new(machine),
            known: RwLock::default(),
        }))
    }

    pub fn domain(&self) -> &str {
        &self.0.domain
    }

    /// The name in Azure's form, such as `hub.azure-devices.localhost`. `location` matters to Digital Twins only.
    pub fn canonical(&self, service: Service, name: &str, location: &str) -> String {
        let (name, domain) = (name.to_ascii_lowercase(), &self.0.domain);
        match service {
            Service::Hub => format!("{name}.azure-devices.{domain}"),
            Service::Provisioning => format!("{name}.azure-devices-provisioning.{domain}"),
            Service::DigitalTwins => {
                format!("{name}.api.{}.digitaltwins.{domain}", region_short_name(location))
            }
            Service::EventHubs => format!("{name}.servicebus.{domain}"),
        }
    }

    /// Makes an instance known and decides once which host its answers carry: its own name where that resolves to us; else,
    /// for a default instance, the address that clients here dial (`127.0.0.1`); else a loopback address of its own, on which
    /// we then listen too. Called at the start of an instance and nowhere else; [`Hosts::forget`] is called at its end.
    pub fn register(&self, service: Service, name: &str, location: &str, is_default: bool) -> String {
        let key = (service, name.to_ascii_lowercase());
        if let Some(known) = self.0.known.read().get(&key) {
            return known.advertised.clone();
        }
        let canonical = self.canonical(service, name, location);
        // Asked before the lock is taken: a resolver may be slow, and every request reads the table.
        let resolves = self.0.machine.resolves_to_us(&canonical);
        let mut known = self.0.known.write();
        let (mut advertised, mut address) = (canonical.clone(), None);
        if !resolves {
            if is_default {
                advertised = self.0.machine.default_address().to_string();
            } else {
                let taken = |candidate: &Ipv4Addr| known.values().any(|k| k.address == Some(*candidate));
                // Another server on this machine may hold the first choice.
                let mut free = loopback_addresses(service, name).filter(|candidate| !taken(candidate));
                if let Some(own) = free.find(|own| self.0.machine.listen_also(*own)) {
                    advertised = own.to_string();
                    address = Some(own);
                }
            }
        }
        known.insert(key, Known { canonical, advertised: advertised.clone(), address, is_default });
        advertised
    }

    /// The host that answers carry for an instance, as its start decided; its own name once it has ended. Only reads: a view of
    /// what is being deleted must not bring its host back.
    pub fn advertised(&self, service: Service, name: &str, location: &str) -> String {
        let known = self.0.known.read();
        let instance = known.get(&(service, name.to_ascii_lowercase()));
        instance.map_or_else(|| self.canonical(service, name, location), |known| known.advertised.clone())
    }

    pub fn forget(&self, service: Service, name: &str) {
        let known = self.0.known.write().remove(&(service, name.to_ascii_lowercase()));
        if let Some(known) = known {
            self.0.machine.forgotten(&known.canonical);
        }
    }

    /// Every instance as (service, name, canonical host, advertised host), for `twinhub hosts`.
    pub fn all(&self) -> Vec<(Service, String, String, String)> {
        let known = self.0.known.read();
        let row = |((service, name), k): (&(Service, String), &Known)| {
            (*service, name.clone(), k.canonical.clone(), k.advertised.clone())
        };
        known.iter().map(row).collect()
    }

    /// Every host name under which an instance may be addressed, without ports: SAS resources are held against these.
    pub fn names_of(&self, service: Service, name: &str) -> Vec<String> {
        let known = self.0.known.read();
        let Some(instance) = known.get(&(service, name.to_ascii_lowercase())) else { return Vec::new() };
        let mut names = vec![instance.canonical.clone(), instance.advertised.clone()];
        if instance.is_default {
            names.extend(["localhost".to_owned(), "127.0.0.1".to_owned()]);
        }
        names.dedup();
        names
    }

    /// What a host name (with or without port), or failing that the local address of the connection, stands for.
    pub fn resolve(&self, host: &str, local: Option<IpAddr>) -> Host {
        let name = strip_port(host).to_ascii_lowercase();
        let known = self.0.known.read();
        if let Some(((service, name), _)) = known.iter().find(|(_, k)| k.canonical == name) {
            return Host::Instance(*service, name.clone());
        }
        if name == global_provisioning_host(&self.0.domain) {
            return Host::GlobalProvisioning;
        }
        let by_address = |address: IpAddr| {
            let found = known.iter().find(|(_, k)| k.address.map(IpAddr::V4) == Some(address));
            found.map(|((service, name), _)| Host::Instance(*service, name.clone()))
        };
        name.parse().ok().and_then(by_address).or_else(|| local.and_then(by_address)).unwrap_or(Host::Unnamed)
    }

    /// The name of the default instance of a service, which answers at unnamed hosts.
    pub fn default_instance(&self, service: Service) -> Option<String> {
        let known = self.0.known.read();
        known.iter().find(|((s, _), k)| *s == service && k.is_default).map(|((_, name), _)| name.clone())
    }

    /// `host` with the HTTPS port where it is not 443: for addresses that a client lets carry a port.
    pub fn with_port(&self, host: &str) -> String {
        if self.0.https_port == 443 { host.to_owned() } else { format!("{host}:{}", self.0.https_port) }
    }
}

/// The name at which every provisioning service answers; the id scope of a request chooses.
pub fn global_provisioning_host(domain: &str) -> String {
    format!("global.azure-devices-provisioning.{domain}")
}

/// `host`, `host:port` and `[v6]:port` without the port and brackets.
pub fn strip_port(host: &str) -> &str {
    if let Some(rest) = host.strip_prefix('[') {
        return rest.split(']').next().unwrap_or(rest);
    }
    match host.rsplit_once(':') {
        Some((name, port)) if !name.contains(':') && port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    }
}

/// Candidates in 127.0.0.0/16 that depend on the name alone, so that an instance keeps its address across restarts.
fn loopback_addresses(service: Service, name: &str) -> impl Iterator<Item = Ipv4Addr> {
    let seed = name.bytes().fold(service as u32 + 7, |hash, byte| {
        hash.wrapping_mul(16_777_619) ^ u32::from(byte.to_ascii_lowercase())
    });
    (0..16_u32).map(move |step| {
        let [_, _, c, d] = seed.wrapping_add(step).to_be_bytes();
        Ipv4Addr::new(127, 0, c.max(1), d.clamp(1, 254))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Generous;

    impl Machine for Generous {
        fn resolves_to_us(&self, name: &str) -> bool {
            name.ends_with(".example.test")
        }

        fn listen_also(&self, _: Ipv4Addr) -> bool {
            true
        }
    }

    #[test]
    fn a_default_instance_that_does_not_resolve_is_advertised_at_loopback() {
        let hosts = Hosts::new("localhost", 443, Generous);
        assert_eq!(hosts.register(Service::Hub, "hub", "eastus", true), "127.0.0.1");
        let own = hosts.register(Service::Hub, "second", "eastus", false);
        assert!(own.starts_with("127.0.") && own != "127.0.0.1", "{own}");
        assert_eq!(
            hosts.resolve(&format!("{own}:8443"), None),
            Host::Instance(Service::Hub, "second".into())
        );
        assert_eq!(
            hosts.resolve("SECOND.azure-devices.localhost", None),
            Host::Instance(Service::Hub, "second".into())
        );
        assert_eq!(hosts.resolve("127.0.0.1", None), Host::Unnamed);
        assert_eq!(
            hosts.resolve("anything", own.parse().ok()),
            Host::Instance(Service::Hub, "second".into())
        );
    }

    #[test]
    fn a_name_that_resolves_is_advertised_as_it_is() {
        let hosts = Hosts::new("example.test", 8443, Generous);
        let name = hosts.register(Service::DigitalTwins, "Twins", "East US", true);
        assert_eq!(name, "twins.api.eus.digitaltwins.example.test");
        assert_eq!(hosts.with_port(&name), "twins.api.eus.digitaltwins.example.test:8443");
        assert_eq!(
            hosts.resolve("global.azure-devices-provisioning.example.test", None),
            Host::GlobalProvisioning
        );
    }

    #[test]
    fn to_ask_for_a_host_makes_nothing_known() {
        let hosts = Hosts::new("localhost", 443, Generous);
        assert_eq!(hosts.advertised(Service::Hub, "Hub", "eastus"), "hub.azure-devices.localhost");
        assert_eq!(hosts.all(), []);
        let decided = hosts.register(Service::Hub, "hub", "eastus", false);
        assert_eq!(hosts.advertised(Service::Hub, "Hub", "eastus"), decided);
        hosts.forget(Service::Hub, "HUB");
        assert_eq!(hosts.advertised(Service::Hub, "hub", "eastus"), "hub.azure-devices.localhost");
        assert_eq!(hosts.resolve(&decided, None), Host::Unnamed);
    }

    #[test]
    fn ports_and_brackets_are_stripped() {
        for (host, name) in [("a.b:8443", "a.b"), ("[::1]:443", "::1"), ("::1", "::1"), ("a", "a")] {
            assert_eq!(strip_port(host), name);
        }
    }
}

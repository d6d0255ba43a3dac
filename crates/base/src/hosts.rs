//! Names of instances: how a host name picks one, and which address an answer carries (*advertised host*, `design.md` §2).
//! What the machine can resolve and bind is told by `server`; the decision is made here and nowhere else.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;
use std::sync::Arc;

use parking_lot::RwLock;

/// The services that have host names of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Service {
    Hub,
    Provisioning,
    DigitalTwins,
    EventHubs,
    Storage,
}

/// What a host name stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    /// An instance by name, in lower case.
    Instance(Service, String),
    /// A name in the pattern of a service's instances that none of them has, as that of a removed one: nobody answers there.
    UnknownInstance(Service),
    /// `global.azure-devices-provisioning.{domain}`: any provisioning service; the id scope chooses.
    GlobalProvisioning,
    /// `localhost`, an address of the server itself, or a foreign name: the default instance of each service answers.
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

/// A host that clients of every language can be told to dial: an address, or a name with a dot, which C and Java clients insist
/// on. In lower case, without port or brackets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Dialable {
    Name(String),
    Address(IpAddr),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is neither an address that can be dialled nor a host name with a dot; it carries no port")]
pub struct NotDialable;

impl FromStr for Dialable {
    type Err = NotDialable;

    fn from_str(text: &str) -> Result<Self, NotDialable> {
        if let Ok(address) = text.parse::<IpAddr>() {
            let address = address.to_canonical();
            return if address.is_unspecified() { Err(NotDialable) } else { Ok(Self::Address(address)) };
        }
        let is_label = |label: &str| {
            let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
            (1..=63).contains(&label.len()) && label.bytes().all(is_letter)
        };
        let last = text.rsplit('.').next().unwrap_or_default();
        // What ends in a number was meant as an address.
        let is_name = text.contains('.') && text.len() <= 253 && text.split('.').all(is_label);
        let is_number = last.bytes().all(|byte| byte.is_ascii_digit());
        if is_name && !is_number { Ok(Self::Name(text.to_ascii_lowercase())) } else { Err(NotDialable) }
    }
}

impl fmt::Display for Dialable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Address(address) => address.fmt(f),
        }
    }
}

/// What a client dialled to reach us. It leads back, so answers carry it where nothing better is known to.
#[derive(Clone, Debug, Default)]
pub struct Dialled {
    named: Option<Dialable>,
    /// The address of ours that took the call.
    local: Option<IpAddr>,
}

impl Dialled {
    /// `named` is what the client called us, with or without port: the `Host` of a request, or the name of the TLS handshake.
    pub fn new(named: Option<&str>, local: Option<IpAddr>) -> Self {
        Self { named: named.and_then(|named| strip_port(named).parse().ok()), local }
    }

    /// For what the server tells on its own machine: commands, and itself.
    pub fn here() -> Self {
        Self::default()
    }

    fn is_on_this_machine(&self) -> bool {
        self.local.is_none_or(|address| address.is_loopback())
    }
}

/// From where a name leads to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    Nowhere,
    ThisMachine,
    Beyond,
}

/// What only the running machine knows.
pub trait Machine: Send + Sync {
    /// From where `name` leads to us, as far as this machine's resolver tells.
    fn reach(&self, name: &str) -> Reach;
    /// Starts listening on a further loopback address on every port; false when it may not.
    fn listen_also(&self, address: Ipv4Addr) -> bool;
    /// Stops what [`Machine::listen_also`] started; who is connected there is cut off. Once it returns, the address is free.
    fn listen_no_longer(&self, _address: Ipv4Addr) {}
    /// The address that clients of this machine dial for the default instances.
    fn default_address(&self) -> IpAddr {
        Ipv4Addr::LOCALHOST.into()
    }
    /// Whether clients of other machines can reach us.
    fn is_open(&self) -> bool {
        false
    }
    /// An instance's own name is no longer in use.
    fn forgotten(&self, _name: &str) {}
}

/// A machine that resolves nothing and may bind nothing: tests, and commands that do not serve.
pub struct NoMachine;

impl Machine for NoMachine {
    fn reach(&self, _name: &str) -> Reach {
        Reach::Nowhere
    }

    fn listen_also(&self, _address: Ipv4Addr) -> bool {
        false
    }
}

/// A machine to which every name leads, so that answers carry the names that Azure would give: tests.
pub struct EveryName;

impl Machine for EveryName {
    fn reach(&self, _name: &str) -> Reach {
        Reach::Beyond
    }

    fn listen_also(&self, _address: Ipv4Addr) -> bool {
        false
    }
}

/// All names of one server. Clones share it.
#[derive(Clone)]
pub struct Hosts(Arc<Inner>);

/// What an operator decides about names.
pub struct Settings {
    pub domain: String,
    /// The port that HTTPS addresses carry where a client lets them; 443 is left out.
    pub https_port: u16,
    /// Where clients reach the default instances, for all of them; `None`: where each of them did.
    pub advertised: Option<Dialable>,
}

struct Inner {
    settings: Settings,
    machine: Box<dyn Machine>,
    table: RwLock<Table>,
}

#[derive(Default)]
struct Table {
    instances: BTreeMap<(Service, String), Known>,
    /// Addresses that were an instance's own, and of what. Who still dials one must not be taken for a caller of the default.
    former: BTreeMap<Ipv4Addr, Service>,
}

#[derive(Clone)]
struct Known {
    /// In Azure's form, below the domain; then the same below the advertised name.
    canonical: String,
    other_name: Option<String>,
    reach: Reach,
    address: Option<Ipv4Addr>,
    is_default: bool,
}

impl Hosts {
    pub fn new(domain: &str, https_port: u16, machine: impl Machine + 'static) -> Self {
        Self::with(Settings { domain: domain.to_owned(), https_port, advertised: None }, machine)
    }

    pub fn with(settings: Settings, machine: impl Machine + 'static) -> Self {
        let settings = Settings { domain: settings.domain.to_ascii_lowercase(), ..settings };
        Self(Arc::new(Inner { settings, machine: Box::new(machine), table: RwLock::default() }))
    }

    pub fn domain(&self) -> &str {
        &self.0.settings.domain
    }

    /// The domains below which instances have names: the configured one, and the advertised name.
    fn domains(&self) -> impl Iterator<Item = &str> {
        let advertised = match &self.0.settings.advertised {
            Some(Dialable::Name(name)) => Some(name.as_str()),
            Some(Dialable::Address(_)) | None => None,
        };
        [Some(self.domain()), advertised.filter(|name| *name != self.domain())].into_iter().flatten()
    }

    /// The name in Azure's form, such as `hub.azure-devices.localhost`. `location` matters to Digital Twins only.
    pub fn canonical(&self, service: Service, name: &str, location: &str) -> String {
        name_below(self.domain(), service, name, location)
    }

    /// Makes an instance known, and decides once what is decided for good: from where its own name leads to us, and whether it
    /// gets a loopback address of its own, on which we then listen too. Called at the start of an instance and nowhere else;
    /// [`Hosts::forget`] is called at its end.
    pub fn register(&self, service: Service, name: &str, location: &str, is_default: bool) {
        let key = (service, name.to_ascii_lowercase());
        if self.0.table.read().instances.contains_key(&key) {
            return;
        }
        let mut names = self.domains().map(|domain| name_below(domain, service, name, location));
        let canonical = names.next().expect("there is a domain");
        let other_name = names.next();
        drop(names);
        // Asked before the lock is taken: a resolver may be slow, and every request reads the table.
        let reach = self.0.machine.reach(&canonical);
        let mut table = self.0.table.write();
        if table.instances.contains_key(&key) {
            return;
        }
        let needs_address = reach == Reach::Nowhere && !is_default && !self.serves_other_machines();
        let address = if needs_address { self.find_address(&table, service, name) } else { None };
        if let Some(address) = address {
            table.former.remove(&address);
        }
        table.instances.insert(key, Known { canonical, other_name, reach, address, is_default });
    }

    /// Whether clients of other machines are meant to reach us: to them, a loopback address is their own machine's.
    fn serves_other_machines(&self) -> bool {
        let is_elsewhere = match &self.0.settings.advertised {
            Some(Dialable::Name(_)) => true,
            Some(Dialable::Address(address)) => !address.is_loopback(),
            None => false,
        };
        is_elsewhere || self.0.machine.is_open()
    }

    /// An address for one instance alone. Never one that a person chose for the server, nor one of another instance; another
    /// server on this machine may hold it too.
    fn find_address(&self, table: &Table, service: Service, name: &str) -> Option<Ipv4Addr> {
        let home = self.0.machine.default_address();
        let mut chosen = vec![IpAddr::V4(Ipv4Addr::LOCALHOST), home];
        if let Some(Dialable::Address(address)) = self.0.settings.advertised {
            chosen.push(address);
        }
        chosen.extend(table.instances.values().filter_map(|known| known.address.map(IpAddr::V4)));
        loopback_addresses(service, name, home)
            .filter(|candidate| !chosen.contains(&IpAddr::V4(*candidate)))
            .find(|candidate| self.0.machine.listen_also(*candidate))
    }

    /// The end of an instance: its names and its address are nobody's, and we no longer listen there.
    pub fn forget(&self, service: Service, name: &str) {
        let mut table = self.0.table.write();
        let Some(known) = table.instances.remove(&(service, name.to_ascii_lowercase())) else { return };
        if let Some(address) = known.address {
            table.former.insert(address, service);
            self.0.machine.listen_no_longer(address);
        }
        drop(table);
        self.0.machine.forgotten(&known.canonical);
    }

    /// The host that an answer to `dialled` carries for an instance; its own name once that has ended. Only reads: a view of what
    /// is being deleted must not bring its host back.
    pub fn advertised(&self, service: Service, name: &str, location: &str, dialled: &Dialled) -> String {
        let table = self.0.table.read();
        match table.instances.get(&(service, name.to_ascii_lowercase())) {
            Some(known) => self.advertise(&table, known, dialled),
            None => self.canonical(service, name, location),
        }
    }

    fn advertise(&self, table: &Table, known: &Known, dialled: &Dialled) -> String {
        let leads_here = match known.reach {
            Reach::Beyond => true,
            Reach::ThisMachine => dialled.is_on_this_machine(),
            Reach::Nowhere => false,
        };
        if !known.is_default {
            if let Some(address) = known.address {
                return address.to_string();
            }
            // Everybody's `localhost` is another machine.
            let other = known.other_name.as_ref().filter(|_| !leads_here && is_local_domain(self.domain()));
            return other.unwrap_or(&known.canonical).clone();
        }
        if let Some(advertised) = &self.0.settings.advertised {
            return advertised.to_string();
        }
        // From elsewhere, who dialled a name of ours can dial the others.
        if leads_here || (!dialled.is_on_this_machine() && self.is_named_as_instances_are(dialled)) {
            return known.canonical.clone();
        }
        let dialled_to = [dialled.named.clone(), dialled.local.map(Dialable::Address)].into_iter().flatten();
        let is_the_servers = |host: &Dialable| {
            let (name, address) = match host {
                Dialable::Name(name) => (name.as_str(), dialled.local),
                Dialable::Address(address) => ("", Some(*address)),
            };
            self.find(table, name, address) == Host::Unnamed
        };
        let host = dialled_to.into_iter().find(is_the_servers);
        host.map_or_else(|| self.0.machine.default_address().to_string(), |host| host.to_string())
    }

    fn is_named_as_instances_are(&self, dialled: &Dialled) -> bool {
        let Some(Dialable::Name(name)) = &dialled.named else { return false };
        self.service_of_pattern(name).is_some()
    }

    /// Whether the instances' own names lead to us from other machines, as far as this one's resolver tells.
    pub fn lead_here_from_elsewhere(&self) -> bool {
        self.0.table.read().instances.values().all(|known| known.reach == Reach::Beyond)
    }

    /// What the operator advertises, for addresses of the server itself.
    pub fn advertised_host(&self) -> Option<String> {
        self.0.settings.advertised.as_ref().map(Dialable::to_string)
    }

    /// Every instance as (service, name, canonical host, advertised host), for `twinhub hosts`.
    pub fn all(&self, dialled: &Dialled) -> Vec<(Service, String, String, String)> {
        let table = self.0.table.read();
        let row = |((service, name), known): (&(Service, String), &Known)| {
            (*service, name.clone(), known.canonical.clone(), self.advertise(&table, known, dialled))
        };
        table.instances.iter().map(row).collect()
    }

    /// Every host name under which an instance may be addressed, without ports: SAS resources are held against these.
    pub fn names_of(&self, service: Service, name: &str) -> Vec<String> {
        let table = self.0.table.read();
        let Some(known) = table.instances.get(&(service, name.to_ascii_lowercase())) else {
            return Vec::new();
        };
        let mut names = vec![known.canonical.clone()];
        names.extend(known.other_name.clone());
        names.extend(known.address.map(|address| address.to_string()));
        if known.is_default {
            names.extend(["localhost".to_owned(), "127.0.0.1".to_owned()]);
            names.push(self.0.machine.default_address().to_string());
            names.extend(self.0.settings.advertised.as_ref().map(Dialable::to_string));
        }
        names
    }

    /// What a token for an instance may be made out to: its own names, and the one that its caller used, if that names no instance
    /// of ours (a gateway or a cloud name that was pointed here).
    pub fn audiences(&self, service: Service, name: &str, presented_host: &str) -> Vec<String> {
        let mut names = self.names_of(service, name);
        if self.resolve(presented_host, None) == Host::Unnamed {
            names.push(strip_port(presented_host).to_owned());
        }
        names
    }

    /// Whether `host` is where clients are told to find an instance. Of foreign names only the advertised one is: any of them
    /// would lead to a default instance, and a misspelt one must not.
    pub fn is_at(&self, service: Service, name: &str, host: &str) -> bool {
        let (name, host) = (name.to_ascii_lowercase(), strip_port(host).to_ascii_lowercase());
        match self.resolve(&host, None) {
            Host::Instance(other, instance) => other == service && instance == name,
            Host::Unnamed => {
                let is_default = self.default_instance(service).is_some_and(|default| default == name);
                is_default
                    && (host.parse::<IpAddr>().is_ok() || self.names_of(service, &name).contains(&host))
            }
            Host::UnknownInstance(_) | Host::GlobalProvisioning => false,
        }
    }

    /// What a host name (with or without port), or failing that the local address of the connection, stands for.
    pub fn resolve(&self, host: &str, local: Option<IpAddr>) -> Host {
        self.find(&self.0.table.read(), &strip_port(host).to_ascii_lowercase(), local)
    }

    fn find(&self, table: &Table, name: &str, local: Option<IpAddr>) -> Host {
        if let Some(service) = self.service_of_pattern(name) {
            let is_global = self.domains().any(|domain| name == global_provisioning_host(domain));
            let label = name.split('.').next().unwrap_or_default();
            let known = table.instances.get(&(service, label.to_owned()));
            let has_name =
                |known: &&Known| known.canonical == name || known.other_name.as_deref() == Some(name);
            return match known.filter(has_name) {
                Some(_) => Host::Instance(service, label.to_owned()),
                None if is_global => Host::GlobalProvisioning,
                None => Host::UnknownInstance(service),
            };
        }
        let by_address = |address: IpAddr| {
            let IpAddr::V4(address) = address else { return None };
            let known = table.instances.iter().find(|(_, known)| known.address == Some(address));
            let instance = known.map(|((service, name), _)| Host::Instance(*service, name.clone()));
            let former = || table.former.get(&address).map(|service| Host::UnknownInstance(*service));
            instance.or_else(former)
        };
        name.parse().ok().and_then(by_address).or_else(|| local.and_then(by_address)).unwrap_or(Host::Unnamed)
    }

    /// The service whose instances have names like `name`.
    fn service_of_pattern(&self, name: &str) -> Option<Service> {
        let below = |domain: &str| name.strip_suffix(domain)?.strip_suffix('.');
        let name = self.domains().find_map(below)?;
        let ends = [
            (".azure-devices", Service::Hub),
            (".azure-devices-provisioning", Service::Provisioning),
            (".digitaltwins", Service::DigitalTwins),
            (".servicebus", Service::EventHubs),
            (".blob", Service::Storage),
        ];
        ends.into_iter().find(|(end, _)| name.ends_with(end)).map(|(_, service)| service)
    }

    /// The name of the default instance of a service, which answers at unnamed hosts.
    pub fn default_instance(&self, service: Service) -> Option<String> {
        let table = self.0.table.read();
        let mut instances = table.instances.iter();
        instances.find(|((s, _), known)| *s == service && known.is_default).map(|((_, name), _)| name.clone())
    }

    /// Where devices of a provisioning service at `host` register: the global name where that is a name of ours.
    pub fn device_provisioning_host(&self, host: &str) -> String {
        let domain = host.split_once(".azure-devices-provisioning.").map(|(_, domain)| domain);
        let own = self.domains().find(|own| domain == Some(*own));
        own.map_or_else(|| host.to_owned(), global_provisioning_host)
    }

    /// `host` with the HTTPS port where it is not 443: for addresses that a client lets carry a port.
    pub fn with_port(&self, host: &str) -> String {
        let host = if host.parse::<Ipv6Addr>().is_ok() { format!("[{host}]") } else { host.to_owned() };
        if self.0.settings.https_port == 443 {
            host
        } else {
            format!("{host}:{}", self.0.settings.https_port)
        }
    }
}

fn name_below(domain: &str, service: Service, name: &str, location: &str) -> String {
    let name = name.to_ascii_lowercase();
    match service {
        Service::Hub => format!("{name}.azure-devices.{domain}"),
        Service::Provisioning => format!("{name}.azure-devices-provisioning.{domain}"),
        Service::DigitalTwins => {
            format!("{name}.api.{}.digitaltwins.{domain}", region_short_name(location))
        }
        Service::EventHubs => format!("{name}.servicebus.{domain}"),
        Service::Storage => format!("{name}.blob.{domain}"),
    }
}

/// The resource that a host name in Azure's form is of, whatever its domain: `hub1` of `hub1.azure-devices.net`.
pub fn hub_name_of(host: &str) -> Option<&str> {
    let (name, domain) = strip_port(host).split_once('.')?;
    let (service, domain) = domain.split_once('.')?;
    let is_hub = service.eq_ignore_ascii_case("azure-devices") && !name.is_empty() && !domain.is_empty();
    is_hub.then_some(name)
}

/// Names below `localhost` are everybody's own machine (RFC 6761).
pub fn is_local_domain(domain: &str) -> bool {
    domain == "localhost" || domain.ends_with(".localhost")
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

/// Candidates in 127.0.0.0/16 that depend on the name and on where the server listens, so that an instance keeps its address across
/// restarts, whatever servers at other addresses have instances of that name.
fn loopback_addresses(service: Service, name: &str, home: IpAddr) -> impl Iterator<Item = Ipv4Addr> {
    // Where it is the usual address, the name says all.
    let home = match home {
        IpAddr::V4(home) if home != Ipv4Addr::LOCALHOST => home.octets().to_vec(),
        _ => Vec::new(),
    };
    let bytes = home.into_iter().chain(name.bytes().map(|byte| byte.to_ascii_lowercase()));
    let seed = bytes.fold(service as u32 + 7, |hash, byte| hash.wrapping_mul(16_777_619) ^ u32::from(byte));
    (0..16_u32).map(move |step| {
        let [_, _, c, d] = seed.wrapping_add(step).to_be_bytes();
        Ipv4Addr::new(127, 0, c.max(1), d.clamp(1, 254))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine with the names below `example.test` and every loopback address; it tells what it listens on.
    #[derive(Clone, Default)]
    struct Generous {
        is_open: bool,
        listening: Arc<RwLock<Vec<Ipv4Addr>>>,
    }

    impl Machine for Generous {
        fn reach(&self, name: &str) -> Reach {
            if name.ends_with(".example.test") { Reach::Beyond } else { Reach::Nowhere }
        }

        fn listen_also(&self, address: Ipv4Addr) -> bool {
            self.listening.write().push(address);
            true
        }

        fn listen_no_longer(&self, address: Ipv4Addr) {
            self.listening.write().retain(|other| *other != address);
        }

        fn is_open(&self) -> bool {
            self.is_open
        }
    }

    /// What a client that dialled `host` at `local` is told of a hub.
    fn told(hosts: &Hosts, hub: &str, host: &str, local: &str) -> String {
        hosts.advertised(Service::Hub, hub, "eastus", &Dialled::new(Some(host), local.parse().ok()))
    }

    #[test]
    fn a_default_instance_that_does_not_resolve_is_advertised_at_loopback() {
        let hosts = Hosts::new("localhost", 443, Generous::default());
        hosts.register(Service::Hub, "hub", "eastus", true);
        assert_eq!(hosts.advertised(Service::Hub, "Hub", "eastus", &Dialled::here()), "127.0.0.1");
        for host in ["localhost:8443", "127.0.0.1", "hub.azure-devices.localhost"] {
            assert_eq!(told(&hosts, "hub", host, "127.0.0.1"), "127.0.0.1", "{host}");
        }
    }

    #[test]
    fn a_further_instance_that_does_not_resolve_has_an_address_of_its_own_until_it_ends() {
        let machine = Generous::default();
        let hosts = Hosts::new("localhost", 443, machine.clone());
        hosts.register(Service::Hub, "hub", "eastus", true);
        hosts.register(Service::Hub, "second", "eastus", false);
        let own = told(&hosts, "second", "localhost", "127.0.0.1");
        assert!(own.starts_with("127.0.") && own != "127.0.0.1", "{own}");
        let second = Host::Instance(Service::Hub, "second".into());
        assert_eq!(hosts.resolve(&format!("{own}:8443"), None), second);
        assert_eq!(hosts.resolve("SECOND.azure-devices.localhost", None), second);
        assert_eq!(hosts.resolve("anything", own.parse().ok()), second);
        assert_eq!(hosts.resolve("127.0.0.1", None), Host::Unnamed);
        assert_eq!(told(&hosts, "hub", &own, &own), "127.0.0.1", "the default hub does not answer there");
        assert_eq!(told(&hosts, "hub", "some.name", &own), "127.0.0.1", "nor at a name that leads there");
        hosts.forget(Service::Hub, "second");
        assert!(machine.listening.read().is_empty());
        let nobody = Host::UnknownInstance(Service::Hub);
        assert_eq!(hosts.resolve(&own, None), nobody);
        assert_eq!(hosts.resolve("anything", own.parse().ok()), nobody);
        hosts.register(Service::Hub, "second", "eastus", false);
        assert_eq!(told(&hosts, "second", "localhost", "127.0.0.1"), own, "made again, it is where it was");
        assert_eq!(hosts.resolve(&own, None), second);
    }

    #[test]
    fn no_instance_is_given_an_address_that_a_person_chose() {
        struct At(Ipv4Addr);
        impl Machine for At {
            fn reach(&self, _: &str) -> Reach {
                Reach::Nowhere
            }
            fn listen_also(&self, _: Ipv4Addr) -> bool {
                true
            }
            fn default_address(&self) -> IpAddr {
                self.0.into()
            }
        }
        let candidates = |home: Ipv4Addr| loopback_addresses(Service::Hub, "second", home.into());
        // A server that listens on what its own instance would get.
        let homes = (0..=u16::MAX).map(|end| Ipv4Addr::from(0x7f00_0000 | u32::from(end)));
        let first =
            { homes }.find(|home| candidates(*home).take(8).any(|candidate| candidate == *home)).unwrap();
        let second = candidates(first).find(|candidate| *candidate != first).unwrap();
        let settings = Settings {
            domain: "localhost".into(),
            https_port: 443,
            advertised: Some(Dialable::Address(second.into())),
        };
        let hosts = Hosts::with(settings, At(first));
        hosts.register(Service::Hub, "second", "eastus", false);
        let own: Ipv4Addr = told(&hosts, "second", "localhost", "127.0.0.1").parse().unwrap();
        assert!(own != first && own != second, "{own}");
        assert_eq!(hosts.resolve(&first.to_string(), Some(first.into())), Host::Unnamed);
    }

    #[test]
    fn servers_at_two_addresses_want_different_ones_for_instances_of_one_name_and_each_the_same_again() {
        let wanted = |home: &str| {
            loopback_addresses(Service::Storage, "storage", home.parse().unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(wanted("127.21.93.4"), wanted("127.21.93.4"));
        for other in ["127.21.93.5", "127.22.93.4", "127.0.0.1"] {
            assert!(wanted(other).iter().all(|address| !wanted("127.21.93.4").contains(address)), "{other}");
        }
    }

    #[test]
    fn a_default_instance_is_answered_where_its_caller_reached_it() {
        let hosts = Hosts::new("localhost", 8443, Generous { is_open: true, ..Generous::default() });
        hosts.register(Service::Hub, "hub", "eastus", true);
        for (host, local, wanted) in [
            ("192.168.1.5:8443", "192.168.1.5", "192.168.1.5"),
            ("plant.example.com", "192.168.1.5", "plant.example.com"),
            // C and Java clients want a dot.
            ("plantserver", "192.168.1.5", "192.168.1.5"),
            ("", "192.168.1.5", "192.168.1.5"),
            // Ports of a container are elsewhere than its own address.
            ("10.0.0.1", "172.17.0.2", "10.0.0.1"),
            ("[fd00::5]:8443", "fd00::5", "fd00::5"),
            ("0.0.0.0:8443", "127.0.0.5", "127.0.0.5"),
            ("hub name.example\u{7f}", "192.168.1.5", "192.168.1.5"),
            ("global.azure-devices-provisioning.localhost", "192.168.1.5", "hub.azure-devices.localhost"),
        ] {
            assert_eq!(told(&hosts, "hub", host, local), wanted, "{host} at {local}");
        }
    }

    #[test]
    fn on_a_server_for_other_machines_further_instances_are_answered_by_name() {
        let machine = Generous { is_open: true, ..Generous::default() };
        let hosts = Hosts::new("localhost", 443, machine.clone());
        hosts.register(Service::Hub, "second", "eastus", false);
        for (host, local) in [("192.168.1.5", "192.168.1.5"), ("localhost", "127.0.0.1")] {
            assert_eq!(told(&hosts, "second", host, local), "second.azure-devices.localhost");
        }
        assert!(machine.listening.read().is_empty());
    }

    #[test]
    fn what_is_advertised_is_told_to_everybody_and_further_instances_have_names_below_it() {
        let advertising = |domain: &str, advertised: &str| {
            let advertised = Some(advertised.parse().unwrap());
            let settings = Settings { domain: domain.into(), https_port: 443, advertised };
            let hosts = Hosts::with(settings, Generous::default());
            hosts.register(Service::Hub, "hub", "eastus", true);
            hosts.register(Service::Hub, "second", "eastus", false);
            hosts.register(Service::Provisioning, "dps", "eastus", true);
            hosts
        };
        let hosts = advertising("localhost", "IoT.plant.test");
        for (host, local) in [("192.168.1.5", "192.168.1.5"), ("localhost", "127.0.0.1")] {
            assert_eq!(told(&hosts, "hub", host, local), "iot.plant.test");
            assert_eq!(told(&hosts, "second", host, local), "second.azure-devices.iot.plant.test");
        }
        for name in ["second.azure-devices.iot.plant.test", "second.azure-devices.localhost"] {
            assert_eq!(hosts.resolve(name, None), Host::Instance(Service::Hub, "second".into()));
        }
        assert_eq!(hosts.resolve("iot.plant.test", None), Host::Unnamed);
        for (hub, host, is_there) in [
            ("hub", "iot.plant.test", true),
            ("Hub", "192.168.1.5:8443", true),
            ("hub", "hub.azure-devices.localhost", true),
            ("hub", "elsewhere.example", false),
            ("hub", "second.azure-devices.localhost", false),
            ("second", "second.azure-devices.iot.plant.test", true),
            ("second", "192.168.1.5", false),
        ] {
            assert_eq!(hosts.is_at(Service::Hub, hub, host), is_there, "{hub} at {host}");
        }
        let typo = hosts.resolve("typo.azure-devices.iot.plant.test", None);
        assert_eq!(typo, Host::UnknownInstance(Service::Hub));
        let global = "global.azure-devices-provisioning.iot.plant.test";
        assert_eq!(hosts.resolve(global, None), Host::GlobalProvisioning);
        assert_eq!(hosts.device_provisioning_host("dps.azure-devices-provisioning.iot.plant.test"), global);
        assert_eq!(hosts.device_provisioning_host("iot.plant.test"), "iot.plant.test");
        assert!(hosts.names_of(Service::Hub, "hub").contains(&"iot.plant.test".to_owned()));
        let below_a_domain = advertising("plant.test", "10.0.0.7");
        assert_eq!(told(&below_a_domain, "hub", "localhost", "127.0.0.1"), "10.0.0.7");
        let second = told(&below_a_domain, "second", "localhost", "127.0.0.1");
        assert_eq!(second, "second.azure-devices.plant.test");
    }

    #[test]
    fn what_no_client_can_dial_is_refused() {
        for text in
            ["", "localhost", "0.0.0.0", "::", "a b.c", "a..b", "a.b.", "h.example:8443", "10.0.0.300", "-"]
        {
            assert_eq!(text.parse::<Dialable>(), Err(NotDialable), "{text}");
        }
        for (text, wanted) in
            [("Plant.Example", "plant.example"), ("::ffff:10.0.0.1", "10.0.0.1"), ("::1", "::1")]
        {
            assert_eq!(text.parse::<Dialable>().unwrap().to_string(), wanted);
        }
    }

    #[test]
    fn a_name_that_resolves_is_advertised_as_it_is() {
        let hosts = Hosts::new("example.test", 8443, Generous::default());
        hosts.register(Service::DigitalTwins, "Twins", "East US", true);
        let name = hosts.advertised(Service::DigitalTwins, "twins", "East US", &Dialled::here());
        assert_eq!(name, "twins.api.eus.digitaltwins.example.test");
        assert_eq!(hosts.with_port(&name), "twins.api.eus.digitaltwins.example.test:8443");
        assert_eq!(hosts.with_port("::1"), "[::1]:8443");
        assert_eq!(
            hosts.resolve("global.azure-devices-provisioning.example.test", None),
            Host::GlobalProvisioning
        );
    }

    #[test]
    fn to_ask_for_a_host_makes_nothing_known() {
        let hosts = Hosts::new("localhost", 443, Generous::default());
        assert_eq!(told(&hosts, "Hub", "localhost", "127.0.0.1"), "hub.azure-devices.localhost");
        assert_eq!(hosts.all(&Dialled::here()), []);
    }

    #[test]
    fn a_name_like_an_instances_that_none_has_is_nobodys_and_every_other_name_is_the_servers() {
        let hosts = Hosts::new("localhost", 8443, NoMachine);
        hosts.register(Service::Hub, "hub", "eastus", true);
        hosts.register(Service::Hub, "gone", "eastus", false);
        hosts.forget(Service::Hub, "gone");
        for (host, service) in [
            ("gone.azure-devices.localhost", Service::Hub),
            ("GONE.azure-devices.localhost:8443", Service::Hub),
            ("a.b.azure-devices.localhost", Service::Hub),
            ("typo.azure-devices-provisioning.localhost", Service::Provisioning),
            ("twins.api.eus.digitaltwins.localhost", Service::DigitalTwins),
            ("typo.servicebus.localhost", Service::EventHubs),
        ] {
            assert_eq!(hosts.resolve(host, None), Host::UnknownInstance(service), "{host}");
        }
        for host in [
            "localhost",
            "127.0.0.1",
            "plant.localhost",
            "azure-devices.localhost",
            "myhub.azure-devices.net",
            "hub.azure-devices.notlocalhost",
            "global.azure-devices-provisioning.net",
        ] {
            assert_eq!(hosts.resolve(host, None), Host::Unnamed, "{host}");
        }
        assert_eq!(
            hosts.resolve("hub.azure-devices.localhost", None),
            Host::Instance(Service::Hub, "hub".into())
        );
    }

    #[test]
    fn ports_and_brackets_are_stripped() {
        for (host, name) in [("a.b:8443", "a.b"), ("[::1]:443", "::1"), ("::1", "::1"), ("a", "a")] {
            assert_eq!(strip_port(host), name);
        }
    }
}

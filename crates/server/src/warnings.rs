//! What a start says of ports and names that some clients cannot be told, each with the remedy. Called by `serve` once.

use base::hosts::{Dialable, Hosts};

use crate::config::{Config, Ports};
use crate::machine::look_up;

/// Port of HTTPS in clients that take none.
pub(crate) const HTTPS_PORT: u16 = 443;
/// Port of MQTT over TLS in every SDK for devices.
pub(crate) const MQTT_PORT: u16 = 8883;

/// Warns of what holds as long as this server runs.
pub(crate) fn tell(config: &Config, ports: Ports, is_open: bool, hosts: &Hosts) {
    for warning in of_ports(ports) {
        tracing::warn!("{warning}");
    }
    if (is_open || config.advertise.is_some()) && !hosts.lead_here_from_elsewhere() {
        tracing::warn!("{}", of_names(hosts.domain()));
    }
    if let Some(Dialable::Name(name)) = &config.advertise {
        let name = name.clone();
        // Nobody waits for a resolver that does not answer.
        std::thread::spawn(move || {
            if look_up(&name).is_none_or(|addresses| addresses.is_empty()) {
                tracing::warn!(
                    "{name} is advertised and does not resolve on this machine. Clients must be able to resolve it: give it to their DNS or hosts files, or advertise an address."
                );
            }
        });
    }
}

/// A port of 443 that was wanted and could not be had is explained where that is found out.
fn of_ports(ports: Ports) -> Vec<String> {
    let mut warnings = Vec::new();
    if ports.mqtt != MQTT_PORT {
        warnings.push(format!(
            "MQTT is on port {}. SDKs for devices cannot be told a port and dial {MQTT_PORT}: they do not reach this server. Other MQTT clients find the port in TWINHUB_MQTT_PORT. Where {MQTT_PORT} is taken, give this server an address of its own with --listen (127.0.0.2) instead of another port.",
            ports.mqtt
        ));
    }
    if ports.https != HTTPS_PORT && ports.https_standard != HTTPS_PORT {
        warnings.push(format!("HTTPS is not on port {HTTPS_PORT}. {}", without_443(ports.https)));
    }
    warnings
}

/// Who does not reach a server that has HTTPS on another port only.
pub(crate) fn without_443(https: u16) -> String {
    format!(
        "HTTPS is on port {https} instead, which addresses and connection strings carry where clients take it. Clients that cannot be given a port do not work meanwhile: devices over HTTPS and WebSockets, and service SDKs that take a bare host name (Node and .NET)."
    )
}

fn of_names(domain: &str) -> String {
    let own_domain = if base::hosts::is_local_domain(domain) {
        " Every machine takes names below localhost for its own: give a domain of yours with --domain, or a name with --advertise."
    } else {
        ""
    };
    format!(
        "Other machines reach the default instances at the host that each of them dialled; behind a port mapping or address translation say which that is with --advertise. Further instances have names below {domain} alone, and those do not lead here from elsewhere as far as this machine can tell: give the lines of `twinhub hosts`, with this machine's address, to your DNS or to the clients' hosts files.{own_domain}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_ports_that_clients_expect_go_without_a_word() {
        let usual = Ports { https: 8443, https_standard: 443, mqtt: 8883, mqtt_plain: 0 };
        assert_eq!(of_ports(usual), Vec::<String>::new());
        assert_eq!(of_ports(Ports { https: 443, https_standard: 0, ..usual }), Vec::<String>::new());
        let said = of_ports(Ports { mqtt: 9883, ..usual }).concat();
        assert!(said.contains("port 9883") && said.contains("--listen"), "{said}");
        let said = of_ports(Ports { https_standard: 0, ..usual }).concat();
        assert!(said.contains("port 8443 instead"), "{said}");
    }

    #[test]
    fn the_remedy_for_names_fits_the_domain() {
        assert!(of_names("localhost").contains("--domain"));
        assert!(!of_names("plant.example").contains("--domain"));
    }
}

//! Whether the names of instances lead to the server. What answers carry is decided at its start; a name that leads elsewhere stops
//! whoever dials it.

use std::net::IpAddr;

use base::caps;

use super::{Finding, Patient};
use crate::machine::look_up;

const CHECK: &str = "names";

pub(super) fn check(patient: &Patient) -> Vec<Finding> {
    match &patient.run {
        Some(run) => of_server(&run.hosts),
        None => before(patient),
    }
}

/// The lines of `twinhub hosts` say where each name has to lead.
fn of_server(hosts: &[(IpAddr, String)]) -> Vec<Finding> {
    let (mut right, mut nowhere, mut findings) = (0, Vec::new(), Vec::new());
    for (address, name) in hosts.iter().take(caps::DOCTOR_NAMES_MAX) {
        match look_up(name) {
            None => return vec![Finding::unknown(CHECK, "the resolver of this machine does not answer in time")],
            Some(found) if found.is_empty() => nowhere.push(name.as_str()),
            Some(found) if found.contains(address) || address.is_loopback() && found.iter().all(IpAddr::is_loopback) => right += 1,
            Some(found) => findings.push(Finding::problem(
                CHECK,
                format!("{name} leads to {} and not to {address}", found[0]),
                "Put the lines of twinhub hosts into the hosts file or into DNS, or start with serve --manage-hosts.",
            )),
        }
    }
    if !nowhere.is_empty() {
        findings.push(Finding::note(
            CHECK,
            format!("{} do not resolve here; answers carry addresses instead", nowhere.join(", ")),
            "Where a client needs the names: twinhub hosts | sudo tee -a /etc/hosts, or serve --manage-hosts.",
        ));
    }
    if right > 0 {
        findings.push(Finding::ok(CHECK, format!("{right} names of instances lead to this server")));
    }
    findings
}

fn before(patient: &Patient) -> Vec<Finding> {
    let localhost = match look_up("localhost") {
        Some(found) if found.iter().any(IpAddr::is_loopback) => {
            Finding::ok(CHECK, "localhost is this machine")
        }
        Some(_) => Finding::problem(
            CHECK,
            "localhost does not lead to this machine",
            "Put the line 127.0.0.1 localhost into the hosts file.",
        ),
        None => Finding::unknown(CHECK, "the resolver of this machine does not answer in time"),
    };
    let name = format!("hub.azure-devices.{}", patient.config.domain);
    let instance = match look_up(&name) {
        Some(found) if !found.is_empty() => Finding::ok(CHECK, format!("{name} leads to {}", found[0])),
        Some(_) => Finding::note(
            CHECK,
            format!("{name} does not resolve here; a server will tell clients addresses instead"),
            "Where a client needs the names: serve --manage-hosts, or twinhub hosts while it runs.",
        ),
        None => return vec![localhost],
    };
    vec![localhost, instance]
}

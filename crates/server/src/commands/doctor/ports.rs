//! The ports that clients dial: free for a server that is to come, or held by the one that runs.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, TcpListener};

use super::{Finding, Patient};
use crate::warnings::without_443;

const CHECK: &str = "ports";

pub(super) fn check(patient: &Patient) -> Vec<Finding> {
    let ports = patient.config.ports;
    let optional = Some(ports.https_standard).filter(|port| *port != 0 && *port != ports.https);
    let required = [("HTTPS", ports.https), ("MQTT", ports.mqtt)];
    let address = patient.run.as_ref().map_or(patient.config.listen, |run| run.address);
    let mut findings = Vec::new();
    for (protocol, port) in required {
        findings.extend(one(patient, address, protocol, port, true));
    }
    if let Some(port) = optional {
        findings.extend(one(patient, address, "HTTPS", port, false));
    }
    findings
}

fn one(patient: &Patient, address: IpAddr, protocol: &str, port: u16, is_required: bool) -> Option<Finding> {
    // Chosen by the system at each start.
    if port == 0 {
        return None;
    }
    let at = SocketAddr::new(address, port);
    let holder = holder(port, address);
    if let (Some(run), Some((id, _))) = (&patient.run, &holder)
        && *id == run.process_id
    {
        return Some(Finding::ok(CHECK, format!("{at} is served ({protocol})")));
    }
    let error = match TcpListener::bind(at) {
        Ok(_) if patient.run.is_none() => {
            return Some(Finding::ok(CHECK, format!("{at} is free ({protocol})")));
        }
        Ok(_) if is_required => {
            let message = format!("the server that runs does not listen on {at} ({protocol})");
            return Some(Finding::note(
                CHECK,
                message,
                "Its ports are others than these settings say; twinhub status tells which.",
            ));
        }
        Ok(_) => {
            let message = format!(
                "{at} is free, but was not when the server started. {}",
                without_443(patient.config.ports.https)
            );
            return Some(Finding::note(CHECK, message, "Start the server again."));
        }
        Err(error) => error,
    };
    Some(taken(patient, at, protocol, is_required, &error, holder))
}

fn taken(
    patient: &Patient,
    at: SocketAddr,
    protocol: &str,
    is_required: bool,
    error: &std::io::Error,
    holder: Option<(u32, String)>,
) -> Finding {
    let setting = match (is_required, protocol) {
        (false, _) => "ports.https_standard",
        (true, "MQTT") => "ports.mqtt",
        (true, _) => "ports.https",
    };
    match error.kind() {
        ErrorKind::AddrInUse if holder.is_none() && patient.run.is_some() => {
            // Whose it is only its owner may see; that somebody answers there is what counts.
            Finding::ok(CHECK, format!("{at} is served ({protocol})"))
        }
        ErrorKind::AddrInUse => {
            let who = holder
                .map_or_else(|| "another program".to_owned(), |(id, name)| format!("{name} (process {id})"));
            let message = format!("{at} ({protocol}) is held by {who}");
            let remedy = format!(
                "Stop it, give this server another address with --listen (127.0.0.2), or another port with {setting}."
            );
            if is_required {
                Finding::problem(CHECK, message, remedy)
            } else {
                Finding::note(CHECK, message, remedy)
            }
        }
        ErrorKind::PermissionDenied => Finding::note(
            CHECK,
            format!("{at} may not be used by this user. {}", without_443(patient.config.ports.https)),
            "Allow it once: sudo sysctl -w net.ipv4.ip_unprivileged_port_start=443, or sudo setcap cap_net_bind_service=+ep $(command -v twinhub)",
        ),
        _ => Finding::problem(
            CHECK,
            format!("{at} cannot be listened on: {error}"),
            "Give an address of this machine with --listen.",
        ),
    }
}

/// The process that listens there and its name, where the system tells.
#[cfg(target_os = "linux")]
fn holder(port: u16, address: IpAddr) -> Option<(u32, String)> {
    let inodes = inodes(port, address);
    let processes = std::fs::read_dir("/proc").ok()?;
    for process in processes.flatten() {
        let Some(id) = process.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let Ok(files) = std::fs::read_dir(process.path().join("fd")) else { continue };
        let holds = files.flatten().any(|file| {
            std::fs::read_link(file.path()).is_ok_and(|to| {
                inodes.iter().any(|inode| to.as_os_str() == format!("socket:[{inode}]").as_str())
            })
        });
        if holds {
            let name = std::fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            return Some((id, name.trim().to_owned()));
        }
    }
    None
}

#[cfg(not(target_os = "linux"))]
fn holder(_: u16, _: IpAddr) -> Option<(u32, String)> {
    None
}

/// Sockets that listen on the port, at the address or at all of them.
#[cfg(target_os = "linux")]
fn inodes(port: u16, address: IpAddr) -> Vec<String> {
    let tables =
        ["/proc/net/tcp", "/proc/net/tcp6"].map(|path| std::fs::read_to_string(path).unwrap_or_default());
    tables.iter().flat_map(|table| table.lines()).filter_map(|line| listening(line, port, address)).collect()
}

/// A line of `/proc/net/tcp`: the inode, if it is a socket that listens there.
#[cfg(target_os = "linux")]
fn listening(line: &str, port: u16, address: IpAddr) -> Option<String> {
    const LISTEN: &str = "0A";
    let fields: Vec<&str> = line.split_whitespace().collect();
    let (host, number) = fields.get(1)?.split_once(':')?;
    let is_there = u16::from_str_radix(number, 16).ok()? == port && *fields.get(3)? == LISTEN;
    // The address stands there as the machine holds it.
    let ours = match address {
        IpAddr::V4(address) => format!("{:08X}", u32::from_ne_bytes(address.octets())),
        IpAddr::V6(_) => String::new(),
    };
    let is_all = host.bytes().all(|byte| byte == b'0');
    (is_there && (is_all || address.is_unspecified() || host == ours || host.ends_with(&ours)))
        .then(|| fields.get(9).map(|inode| (*inode).to_owned()))?
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn whoever_listens_is_found_by_address_and_port() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (id, _) = holder(port, [127, 0, 0, 1].into()).unwrap();
        assert_eq!(id, std::process::id());
        assert_eq!(holder(port, [127, 0, 0, 2].into()), None);
        drop(listener);
        assert_eq!(holder(port, [127, 0, 0, 1].into()), None);
    }
}

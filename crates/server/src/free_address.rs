//! Where a server for one command listens: on a loopback address that nobody else uses, with every port that clients expect, so that
//! two of them never meet. Where the system has no such address, on the usual one, with other ports in place of those that are taken.
//! Called once, by `serve`.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use base::tasks::Tasks;
use base::{caps, secret};

use crate::config::Ports;
use crate::listeners::{CannotListen, Listeners};
use crate::serve;

/// The second number of the addresses: apart from those that instances get (`base::hosts`), and from the first ones, which people
/// choose.
const SECOND: std::ops::RangeInclusive<u8> = 16..=95;

type Listening = (Arc<Listeners>, Vec<CannotListen>);

/// Listens on `address`, or where that is left open on one that is free, and else on 127.0.0.1.
pub(crate) fn bind(address: Option<IpAddr>, ports: Ports, tasks: &Tasks) -> Result<Listening, CannotListen> {
    if let Some(address) = address {
        return with_free_ports(address, ports, tasks);
    }
    for _ in 0..caps::FREE_ADDRESSES_TRIED_MAX {
        match serve::bind(random().into(), ports, tasks) {
            Ok((listeners, failures)) if !failures.iter().any(is_in_use) => return Ok((listeners, failures)),
            Ok(_) => {}
            Err(failure) if is_in_use(&failure) => {}
            // Not every system has these addresses.
            Err(_) => break,
        }
    }
    with_free_ports(Ipv4Addr::LOCALHOST.into(), ports, tasks)
}

fn is_in_use(failure: &CannotListen) -> bool {
    failure.source.kind() == ErrorKind::AddrInUse
}

fn random() -> Ipv4Addr {
    let bytes = secret::random_bytes(3);
    let second = SECOND.start() + bytes[0] % (SECOND.end() - SECOND.start() + 1);
    Ipv4Addr::new(127, second, bytes[1], bytes[2].clamp(1, 254))
}

/// A port that is taken, or that we may not have, gives way to any other.
fn with_free_ports(address: IpAddr, ports: Ports, tasks: &Tasks) -> Result<Listening, CannotListen> {
    let mut ports = ports;
    loop {
        let failure = match serve::bind(address, ports, tasks) {
            Err(failure) => failure,
            bound => return bound,
        };
        let taken = failure.at.port();
        match [&mut ports.https, &mut ports.mqtt].into_iter().find(|port| **port == taken && taken != 0) {
            Some(port) => *port = 0,
            None => return Err(failure),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::net::TcpListener;

    use super::*;

    const PORTS: Ports = Ports { https: 8443, https_standard: 0, mqtt: 8883, mqtt_plain: 0 };

    #[tokio::test]
    async fn a_port_that_is_taken_gives_way_to_another_and_the_rest_stay() {
        let [_, _, high, low] = std::process::id().to_be_bytes();
        let address = Ipv4Addr::new(127, 200 + high % 50, low, 200);
        let _taken = TcpListener::bind((address, 8883)).unwrap();
        let (listeners, _) = bind(Some(address.into()), PORTS, &Tasks::new()).unwrap();
        assert_eq!(listeners.port_of(0), Some(8443));
        let other = listeners.port_of(1).unwrap();
        assert!(other != 8883 && other != 0, "{other}");
        assert!(TcpListener::bind((address, other)).is_err(), "it is ours");
    }

    #[tokio::test]
    async fn an_address_that_is_not_this_machines_is_an_error_and_no_endless_search() {
        let refused = bind(Some("192.0.2.1".parse().unwrap()), PORTS, &Tasks::new());
        assert_eq!(refused.err().unwrap().source.kind(), ErrorKind::AddrNotAvailable);
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn each_gets_an_address_of_its_own_with_the_usual_ports() {
        let tasks = Tasks::new();
        let several: Vec<_> = (0..8).map(|_| bind(None, PORTS, &tasks).unwrap().0).collect();
        let addresses: HashSet<_> = several.iter().map(|listeners| listeners.dialled()).collect();
        assert_eq!(addresses.len(), several.len());
        for listeners in &several {
            assert_eq!((listeners.port_of(0), listeners.port_of(1)), (Some(8443), Some(8883)));
        }
    }
}

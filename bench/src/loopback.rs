//! Where servers listen: a loopback address of this run's own, and ports that are free there.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use crate::Failure;

/// An address that only this run uses, so that a service of the machine is never in the way.
pub(crate) fn address() -> Ipv4Addr {
    let [_, _, high, low] = std::process::id().to_be_bytes();
    Ipv4Addr::new(127, 50 + high % 50, low, 1)
}

/// Ports that nobody listens on. All are held until the last one is found, so no two are the same.
pub(crate) fn free_ports<const N: usize>() -> Result<[SocketAddr; N], Failure> {
    let held: Vec<_> =
        (0..N).map(|_| TcpListener::bind((address(), 0))).collect::<Result<_, std::io::Error>>()?;
    let mut addresses = [SocketAddr::from((address(), 0)); N];
    for (at, listener) in addresses.iter_mut().zip(&held) {
        *at = listener.local_addr()?;
    }
    Ok(addresses)
}

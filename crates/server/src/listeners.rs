//! Listening sockets: one per address and port, more when an instance needs an address of its own.
//! Binding comes first, since it decides which ports are advertised; serving starts when every door is there.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::{Arc, OnceLock};

use base::tasks::Tasks;
use parking_lot::Mutex;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;

/// Connections that the system holds for us until they are accepted.
const BACKLOG: i32 = 1024;

/// What is spoken on a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    Https,
    Mqtt,
    MqttPlain,
}

/// Takes a connection that a listener accepted.
pub(crate) trait Accept: Send + Sync {
    fn accept(&self, kind: Kind, stream: TcpStream, remote: SocketAddr);
}

pub(crate) struct Listeners {
    address: IpAddr,
    ports: Vec<(u16, Kind)>,
    runtime: Handle,
    tasks: Tasks,
    accept: OnceLock<Arc<dyn Accept>>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Bound before serving started.
    waiting: Vec<(TcpListener, Kind)>,
    /// Addresses beside the first.
    further: Vec<Ipv4Addr>,
}

/// Why a port cannot be had.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {at}: {source}")]
pub(crate) struct CannotListen {
    pub(crate) at: SocketAddr,
    pub(crate) source: io::Error,
}

impl Listeners {
    /// Binds `required` on `address`, and of `optional` what the system lets us; the failures of those are given back.
    pub(crate) fn bind(
        address: IpAddr,
        required: &[(u16, Kind)],
        optional: &[(u16, Kind)],
        tasks: &Tasks,
    ) -> Result<(Arc<Self>, Vec<CannotListen>), CannotListen> {
        let mut ports = Vec::new();
        let mut waiting = Vec::new();
        let mut failures = Vec::new();
        for &(port, kind) in required {
            waiting.push((bind(SocketAddr::new(address, port))?, kind));
            ports.push((port, kind));
        }
        for &(port, kind) in optional {
            match bind(SocketAddr::new(address, port)) {
                Ok(socket) => {
                    waiting.push((socket, kind));
                    ports.push((port, kind));
                }
                Err(failure) => failures.push(failure),
            }
        }
        let listeners = Self {
            address,
            ports,
            runtime: Handle::current(),
            tasks: tasks.clone(),
            accept: OnceLock::new(),
            state: Mutex::new(State { waiting, further: Vec::new() }),
        };
        Ok((Arc::new(listeners), failures))
    }

    pub(crate) fn has_port(&self, port: u16) -> bool {
        self.ports.iter().any(|(bound, _)| *bound == port)
    }

    /// Starts to accept on every socket bound so far and on those that follow.
    pub(crate) fn start(&self, accept: Arc<dyn Accept>) {
        let _ = self.accept.set(accept);
        for (socket, kind) in std::mem::take(&mut self.state.lock().waiting) {
            self.serve(socket, kind);
        }
    }

    /// The address that clients on this machine dial: ours, or the usual loopback address when we listen on all.
    pub(crate) fn dialled(&self) -> IpAddr {
        if self.address.is_unspecified() { Ipv4Addr::LOCALHOST.into() } else { self.address }
    }

    /// Whether a connection to `address` would reach us.
    pub(crate) fn covers(&self, address: IpAddr) -> bool {
        if self.address.is_unspecified() {
            return is_of_this_machine(address);
        }
        let is_further = |further: &Ipv4Addr| IpAddr::V4(*further) == address;
        address == self.address || self.state.lock().further.iter().any(is_further)
    }

    /// Listens on every port of a further loopback address too; false when that cannot be.
    pub(crate) fn listen_also(&self, address: Ipv4Addr) -> bool {
        if self.covers(address.into()) {
            return true;
        }
        let _runtime = self.runtime.enter();
        let sockets: Result<Vec<_>, _> = self
            .ports
            .iter()
            .map(|(port, kind)| Ok((bind(SocketAddr::new(address.into(), *port))?, *kind)))
            .collect();
        let sockets = match sockets {
            Ok(sockets) => sockets,
            Err(error) => {
                let error: CannotListen = error;
                tracing::debug!(%error, "an instance does not get this address for its own");
                return false;
            }
        };
        self.state.lock().further.push(address);
        for (socket, kind) in sockets {
            if self.accept.get().is_some() {
                self.serve(socket, kind);
            } else {
                self.state.lock().waiting.push((socket, kind));
            }
        }
        true
    }

    fn serve(&self, socket: TcpListener, kind: Kind) {
        let _runtime = self.runtime.enter();
        let accept = self.accept.get().expect("serving starts with someone to accept").clone();
        let mut stopping = self.tasks.stopping();
        self.tasks.spawn(async move {
            loop {
                let accepted = tokio::select! {
                    () = stopping.wait() => return,
                    accepted = socket.accept() => accepted,
                };
                match accepted {
                    Ok((stream, remote)) => accept.accept(kind, stream, remote),
                    Err(error) => pause_after(&error).await,
                }
            }
        });
    }
}

/// A connection that was reset before we took it is its client's affair; without file descriptors we wait for some.
async fn pause_after(error: &io::Error) {
    let harmless = [io::ErrorKind::ConnectionAborted, io::ErrorKind::ConnectionReset];
    if !harmless.contains(&error.kind()) {
        tracing::warn!(%error, "connections cannot be accepted for the moment");
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
}

fn bind(at: SocketAddr) -> Result<TcpListener, CannotListen> {
    let open = || {
        let socket = Socket::new(Domain::for_address(at), Type::STREAM, Some(Protocol::TCP))?;
        // On Windows the option would let another program take the port.
        #[cfg(unix)]
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&at.into())?;
        socket.listen(BACKLOG)?;
        TcpListener::from_std(socket.into())
    };
    open().map_err(|source| CannotListen { at, source })
}

/// An address belongs to this machine when a socket can be bound to it.
fn is_of_this_machine(address: IpAddr) -> bool {
    address.is_loopback() || UdpSocket::bind((address, 0)).is_ok()
}

//! Listening sockets: one per address and port, more when an instance needs an address of its own.
//! Binding comes first, since it decides which ports are advertised; serving starts when every door is there.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::{Arc, OnceLock};
use std::task::Poll;
use std::time::Duration;

use base::tasks::{Part, Stopping, Tasks};
use base::{Clock, caps};
use parking_lot::Mutex;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;

/// Connections that the system holds for us until they are accepted.
const BACKLOG: i32 = 1024;

/// Without open files we wait for some so long,
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// and tell of it about once a minute.
const FAILURES_TOLD_ONCE_IN: u64 = caps::REFUSALS_TOLD_SECONDS * 10;

/// What is spoken on a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    Https,
    Mqtt,
    MqttPlain,
}

/// Takes a connection that a listener accepted.
pub(crate) trait Accept: Send + Sync {
    /// `part` is what the address that was dialled ends with, where that may be before the server.
    fn accept(&self, kind: Kind, stream: TcpStream, remote: SocketAddr, part: Option<Arc<Part>>);
}

pub(crate) struct Listeners {
    address: IpAddr,
    ports: Vec<(u16, Kind)>,
    runtime: Handle,
    tasks: Tasks,
    /// Who takes the connections, and the time by which a loop that panicked is begun again.
    accept: OnceLock<(Arc<dyn Accept>, Clock)>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Bound before serving started.
    waiting: Vec<Arc<Listening>>,
    /// Addresses beside the first, each with what listens there.
    further: BTreeMap<Ipv4Addr, Further>,
}

struct Further {
    part: Arc<Part>,
    sockets: Vec<Arc<Listening>>,
}

struct Listening {
    kind: Kind,
    /// Empty once it is closed: the address must be free for the next one as soon as it is given back.
    socket: Mutex<Option<TcpListener>>,
    /// `None` for the server's own address.
    part: Option<Arc<Part>>,
}

impl Listening {
    fn new(socket: TcpListener, kind: Kind, part: Option<Arc<Part>>) -> Arc<Self> {
        Arc::new(Self { kind, socket: Mutex::new(Some(socket)), part })
    }

    /// The next connection; `None` once the socket is closed.
    async fn accept(&self) -> Option<io::Result<(TcpStream, SocketAddr)>> {
        poll_fn(|context| match &*self.socket.lock() {
            Some(socket) => socket.poll_accept(context).map(Some),
            None => Poll::Ready(None),
        })
        .await
    }

    fn close(&self) {
        drop(self.socket.lock().take());
    }
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
            let socket = bind(SocketAddr::new(address, port))?;
            // Port 0 asks for any.
            let port = socket.local_addr().map_or(port, |at| at.port());
            waiting.push(Listening::new(socket, kind, None));
            ports.push((port, kind));
        }
        for &(port, kind) in optional {
            match bind(SocketAddr::new(address, port)) {
                Ok(socket) => {
                    waiting.push(Listening::new(socket, kind, None));
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
            state: Mutex::new(State { waiting, further: BTreeMap::new() }),
        };
        Ok((Arc::new(listeners), failures))
    }

    /// The port of what was bound in this place.
    pub(crate) fn port_of(&self, place: usize) -> Option<u16> {
        self.ports.get(place).map(|(port, _)| *port)
    }

    /// Where connections come in, but for the addresses of single instances.
    pub(crate) fn addresses(&self) -> Vec<String> {
        let one = |(port, kind): &(u16, Kind)| {
            let scheme = match kind {
                Kind::Https => "https",
                Kind::Mqtt => "mqtts",
                Kind::MqttPlain => "mqtt",
            };
            format!("{scheme}://{}", SocketAddr::new(self.address, *port))
        };
        self.ports.iter().map(one).collect()
    }

    pub(crate) fn has_port(&self, port: u16) -> bool {
        self.ports.iter().any(|(bound, _)| *bound == port)
    }

    /// Starts to accept on every socket bound so far and on those that follow.
    pub(crate) fn start(&self, accept: Arc<dyn Accept>, clock: &Clock) {
        let _ = self.accept.set((accept, clock.clone()));
        self.serve_waiting();
    }

    fn serve_waiting(&self) {
        let waiting = std::mem::take(&mut self.state.lock().waiting);
        for listening in waiting {
            self.serve(listening);
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
        let is_further = |address: Ipv4Addr| self.state.lock().further.contains_key(&address);
        address == self.address || matches!(address, IpAddr::V4(address) if is_further(address))
    }

    /// Whether clients of other machines can reach us.
    pub(crate) fn is_open(&self) -> bool {
        !self.address.is_loopback()
    }

    /// Listens on every port of a further loopback address too; false when that cannot be, as where we listen already.
    pub(crate) fn listen_also(&self, address: Ipv4Addr) -> bool {
        if self.covers(address.into()) {
            return false;
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
        let part = Arc::new(self.tasks.part());
        let listen = |(socket, kind)| Listening::new(socket, kind, Some(part.clone()));
        let sockets: Vec<_> = sockets.into_iter().map(listen).collect();
        let mut state = self.state.lock();
        state.waiting.extend(sockets.iter().cloned());
        state.further.insert(address, Further { part, sockets });
        drop(state);
        if self.accept.get().is_some() {
            self.serve_waiting();
        }
        true
    }

    /// Closes a further address at once, and ends the connections there.
    pub(crate) fn listen_no_longer(&self, address: Ipv4Addr) {
        let Some(further) = self.state.lock().further.remove(&address) else { return };
        for listening in &further.sockets {
            listening.close();
        }
        further.part.end();
    }

    fn serve(&self, listening: Arc<Listening>) {
        let _runtime = self.runtime.enter();
        let (accept, clock) = self.accept.get().expect("serving starts with someone to accept").clone();
        let part = &listening.part;
        let stopping = part.as_ref().map_or_else(|| self.tasks.stopping(), |part| part.stopping());
        self.tasks
            .keep("listener", &clock, move || take(listening.clone(), accept.clone(), stopping.clone()));
    }
}

/// Takes connections until the socket is closed.
async fn take(listening: Arc<Listening>, accept: Arc<dyn Accept>, mut stopping: Stopping) {
    // What nobody could do anything about is not told ten times a second.
    let mut failures: u64 = 0;
    loop {
        let accepted = tokio::select! {
            () = stopping.wait() => return,
            accepted = listening.accept() => accepted,
        };
        match accepted {
            Some(Ok((stream, remote))) => {
                accept.accept(listening.kind, stream, remote, listening.part.clone());
            }
            Some(Err(error)) if is_harmless(&error) => {}
            Some(Err(error)) => {
                if failures.is_multiple_of(FAILURES_TOLD_ONCE_IN) {
                    tracing::warn!(%error, failures, "connections cannot be accepted for the moment");
                }
                failures += 1;
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
            None => return,
        }
    }
}

/// A connection that was reset before we took it is its client's affair.
fn is_harmless(error: &io::Error) -> bool {
    [io::ErrorKind::ConnectionAborted, io::ErrorKind::ConnectionReset].contains(&error.kind())
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use base::Timestamp;
    use tokio::io::AsyncReadExt;
    use tokio::sync::mpsc;

    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(10);

    /// Keeps every connection until its address closes.
    struct Hold(mpsc::Sender<TcpStream>);

    impl Accept for Hold {
        fn accept(&self, _: Kind, stream: TcpStream, _: SocketAddr, part: Option<Arc<Part>>) {
            let accepted = self.0.clone();
            #[expect(clippy::disallowed_methods, reason = "it ends with its test")]
            tokio::spawn(async move {
                if let Some(part) = part {
                    part.ending().wait().await;
                    drop(stream);
                } else {
                    let _ = accepted.send(stream).await;
                }
            });
        }
    }

    async fn is_cut(mut stream: TcpStream) -> bool {
        let read = tokio::time::timeout(TIMEOUT, stream.read(&mut [0; 1])).await.expect("it is cut");
        matches!(read, Ok(0) | Err(_))
    }

    /// Panics at the first connection.
    struct Trips(AtomicBool, Hold);

    impl Accept for Trips {
        fn accept(&self, kind: Kind, stream: TcpStream, remote: SocketAddr, part: Option<Arc<Part>>) {
            assert!(self.0.swap(true, Ordering::Relaxed), "trips over the first connection");
            self.1.accept(kind, stream, remote, part);
        }
    }

    #[tokio::test]
    async fn a_listener_that_panics_is_begun_again() {
        let (tasks, clock) = (Tasks::new(), Clock::manual(Timestamp::UNIX_EPOCH));
        let address = Ipv4Addr::LOCALHOST;
        let socket = bind(SocketAddr::new(address.into(), 0)).unwrap();
        let port = socket.local_addr().unwrap().port();
        drop(socket);
        let (listeners, _) = Listeners::bind(address.into(), &[(port, Kind::Https)], &[], &tasks).unwrap();
        let (accepted, mut kept) = mpsc::channel(8);
        listeners.start(Arc::new(Trips(AtomicBool::new(false), Hold(accepted))), &clock);
        let first = TcpStream::connect((address, port)).await.unwrap();
        assert!(is_cut(first).await);
        let second = TcpStream::connect((address, port)).await.unwrap();
        while tasks.failing().is_empty() {
            tokio::task::yield_now().await;
        }
        assert_eq!(tasks.failing(), ["listener"]);
        let taken = async {
            loop {
                clock.advance(Duration::from_secs(caps::TASK_PAUSE_SECONDS_MAX));
                tokio::select! {
                    held = kept.recv() => return held.unwrap(),
                    () = tokio::task::yield_now() => {}
                }
            }
        };
        let held = tokio::time::timeout(TIMEOUT, taken).await.expect("it is taken");
        assert_eq!(held.peer_addr().unwrap(), second.local_addr().unwrap());
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn a_further_address_is_closed_at_once_with_its_connections_and_can_be_had_again() {
        let [_, _, high, low] = std::process::id().to_be_bytes();
        let own = |last| Ipv4Addr::new(127, 200 + high % 50, low, last);
        let (first, further) = (own(1), own(2));
        let tasks = Tasks::new();
        let ports = [(8443, Kind::Https), (8883, Kind::Mqtt)];
        let (listeners, _) = Listeners::bind(first.into(), &ports, &[], &tasks).unwrap();
        let (accepted, mut kept) = mpsc::channel(8);
        listeners.start(Arc::new(Hold(accepted)), &Clock::system());
        let stays = TcpStream::connect((first, 8443)).await.unwrap();
        assert!(!listeners.listen_also(first), "the server's own address is not to be had");
        for _ in 0..3 {
            assert!(listeners.listen_also(further));
            assert!(!listeners.listen_also(further), "nor is one that is taken");
            let mut live = Vec::new();
            for (port, _) in ports {
                live.push(TcpStream::connect((further, port)).await.unwrap());
            }
            listeners.listen_no_longer(further);
            assert!(!listeners.covers(further.into()));
            for (port, _) in ports {
                let refused = TcpStream::connect((further, port)).await.unwrap_err();
                assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused, "port {port}");
            }
            for stream in live {
                assert!(is_cut(stream).await);
            }
        }
        let held = tokio::time::timeout(TIMEOUT, kept.recv()).await.unwrap().unwrap();
        assert_eq!(held.peer_addr().unwrap(), stays.local_addr().unwrap(), "the server's own goes on");
        assert_eq!(tasks.drain(TIMEOUT).await, 0, "nothing is left of the addresses that were closed");
    }
}
